"""RAF-DB's basic emotions (Li, Deng & Du 2017, http://www.whdeng.cn/RAF/model1.html).

EmoLabel/list_patition_label.txt holds a line a picture, as `train_00001.jpg 5`: 1 surprise, 2 fear,
3 disgust, 4 happiness, 5 sadness, 6 anger, 7 neutral. The pictures are Image/original/
train_00001.jpg and, aligned and cropped to the face, Image/aligned/train_00001_aligned.jpg; the
face's left, top, right and bottom in the original stand in Annotation/boundingbox/
train_00001_boundingbox.txt.
"""

from collections.abc import Iterator
from pathlib import Path

from mien_edge.errors import DataError
from mien_edge.values import Box

from mien_train.data.layouts.picture import TEST, TRAIN, Picture, first_existing

_LIST = "list_patition_label.txt"  # spelled so by RAF-DB
_LABELS = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")


def read(folder: Path) -> list[Picture] | None:
    """The pictures of RAF-DB in `folder`, or None where it is another data set.

    The original photograph is taken where it is there, else the aligned one. Raises DataError that
    names the line for a malformed list.
    """
    places = (folder / "EmoLabel" / _LIST, folder / _LIST, folder / "basic" / "EmoLabel" / _LIST)
    table = first_existing(places)
    if table is None:
        return None
    root = table.parent.parent if table.parent.name == "EmoLabel" else table.parent
    return list(_pictures(root, table))


def _pictures(root: Path, table: Path) -> Iterator[Picture]:
    for number, line in enumerate(table.read_text().splitlines(), 1):
        name, _, label = line.strip().partition(" ")
        if not name:
            continue
        if label.strip() not in "1234567" or not label.strip():
            raise DataError(f"{table}: line {number}: {label!r} is not 1 to 7; correct the line")
        yield Picture(
            path=_path(root, Path(name).stem),
            label=_LABELS[int(label) - 1],
            split=TEST if name.startswith("test") else TRAIN,
            box=_box(root, Path(name).stem),
        )


def _path(root: Path, stem: str) -> Path:
    aligned = f"{stem}_aligned.jpg"
    places = (
        root / "Image" / "original" / f"{stem}.jpg",
        root / "original" / f"{stem}.jpg",
        root / "Image" / "aligned" / aligned,
        root / "aligned" / aligned,
    )
    path = first_existing(places)
    if path is None:
        raise DataError(
            f"{places[0]}: named in {_LIST}, but not here, nor as {aligned}; unpack RAF-DB's "
            "pictures beside its labels"
        )
    return path


def _box(root: Path, stem: str) -> Box | None:
    """The box of the face in the original picture; the aligned one holds the face alone."""
    name = f"{stem}_boundingbox.txt"
    places = (root / "Annotation" / "boundingbox" / name, root / "boundingbox" / name)
    path = first_existing(places)
    if path is None or _path(root, stem).stem.endswith("_aligned"):
        return None
    try:
        left, top, right, bottom = (float(value) for value in path.read_text().split())
    except ValueError:
        raise DataError(f"{path}: not four numbers; copy RAF-DB's file again") from None
    return Box(left, top, right - left, bottom - top)
