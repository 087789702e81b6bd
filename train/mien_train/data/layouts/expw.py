"""ExpW, Expression in the Wild (Zhang et al. 2018,
http://mmlab.ie.cuhk.edu.hk/projects/socialrelation/index.html).

label/label.lst has a line a face: image_name face_id_in_image face_box_top face_box_left
face_box_right face_box_bottom face_box_cofidence expression_label; expressions are 0 angry, 1
disgust, 2 fear, 3 happy, 4 sad, 5 surprise, 6 neutral. The photographs lie in image/origin/. So has
it https://github.com/HazyResearch/meerkat (meerkat/datasets/expw).
"""

from collections.abc import Iterator
from pathlib import Path

from mien_edge.errors import DataError
from mien_edge.values import Box

from mien_train.data.layouts.picture import Picture, first_existing

_LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
_FIELDS = 8


def read(folder: Path) -> list[Picture] | None:
    """The faces of ExpW in `folder`, or None where it is another data set. Those of one photograph
    are a group.

    Raises DataError that names the line for a malformed list.
    """
    table = first_existing([folder / "label" / "label.lst", folder / "label.lst"])
    if table is None:
        return None
    places = [folder / "image" / "origin", folder / "origin", folder / "image", folder]
    return list(_pictures(table, first_existing(places) or folder))


def _pictures(table: Path, images: Path) -> Iterator[Picture]:
    for number, line in enumerate(table.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield _picture(images, line.split())
        except ValueError as problem:
            text = f"{table}: line {number}: {problem}; correct the line"
            raise DataError(text) from None


def _picture(images: Path, fields: list[str]) -> Picture:
    """Raises ValueError that says what is wrong with the line's fields."""
    if len(fields) != _FIELDS:
        raise ValueError(f"{len(fields)} fields where {_FIELDS} are needed")
    top, left, right, bottom = (float(value) for value in fields[2:6])
    if fields[7] not in "0123456":
        raise ValueError(f"the expression {fields[7]!r} is not 0 to 6")
    return Picture(
        path=images / fields[0],
        label=_LABELS[int(fields[7])],
        group=fields[0],
        box=Box(left, top, right - left, bottom - top),
    )
