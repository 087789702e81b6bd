"""CK+, the extended Cohn-Kanade data set (Lucey et al. 2010, https://doi.org/10.1109/CVPRW.2010.5543262).

A sequence's pictures are cohn-kanade-images/S005/001/S005_001_00000011.png; the expression of its
last one stands in Emotion/S005/001/S005_001_00000011_emotion.txt, as a number: 0 neutral, 1 anger,
2 contempt, 3 disgust, 4 fear, 5 happy, 6 sadness, 7 surprise. Sequences without such a file have no
label, and all go from the neutral face to the peak (the data set's ReadMe_All.txt, quoted at
http://kerwin.cn/dl/11?query=CK).
"""

from collections.abc import Iterator
from pathlib import Path

from mien_edge.errors import DataError

from mien_train.data.layouts.picture import Picture, picture_files

_LABELS = (
    "neutral", "anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise",
)  # fmt: skip
_IMAGES = "cohn-kanade-images"
_SUFFIX = "_emotion.txt"


def read(folder: Path) -> list[Picture] | None:
    """The labelled peaks of CK+ in `folder`, and the first picture of each such sequence as
    neutral; None where it is another data set. A person's pictures are a group.

    Raises DataError that names the file for a malformed label.
    """
    images = folder / _IMAGES
    if not images.is_dir():
        return None
    return list(_pictures(images, sorted(folder.rglob(f"S*{_SUFFIX}"))))


def _pictures(images: Path, label_files: list[Path]) -> Iterator[Picture]:
    for path in label_files:
        stem = path.name.removesuffix(_SUFFIX)
        person, sequence, _ = stem.split("_", 2)
        folder = images / person / sequence
        first = next(iter(picture_files(folder)), folder / f"{stem}.png")
        yield Picture(folder / f"{stem}.png", _label(path), group=person)
        if first.stem != stem:
            yield Picture(first, "neutral", group=person)


def _label(path: Path) -> str:
    try:
        number = int(float(path.read_text()))  # such as '   3.0000000e+00'
        return _LABELS[number] if number >= 0 else ""
    except (ValueError, IndexError, OverflowError):
        raise DataError(f"{path}: not a number of 0 to 7; copy CK+'s file again") from None
