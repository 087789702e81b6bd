"""Folders that are named after labels: LABEL/ or SPLIT/LABEL/, folders of persons above or below.

So Kaggle's FER2013 comes (train/angry/Training_10118481.jpg), and so people sort their own
photographs: photos/happy/anna/1.jpg, photos/anna/happy/1.jpg, photos/train/happy/1.jpg.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mien_edge.errors import DataError

from mien_train.data.layouts.picture import (
    PRIVATE_TEST,
    TEST,
    TRAIN,
    Picture,
    picture_files,
    split_named,
)

_KAGGLE_SPLITS = {"Training_": TRAIN, "PublicTest_": TEST, "PrivateTest_": PRIVATE_TEST}
"""How the file names of FER2013's image folders begin; its folder test/ holds both tests."""


@dataclass(frozen=True)
class _Place:
    """A picture and the folders that it lies in, those that name a split aside."""

    path: Path
    split: str
    folders: tuple[str, ...]


def read(folder: Path, known: Iterable[str]) -> list[Picture]:
    """The pictures in the folders of `folder`, in the order of their paths.

    known: words that are labels, in lower case. They tell which level of folders holds the labels:
    the one with most of them, else the uppermost. The folders of other levels are groups.

    Raises DataError that names a picture that lies in no folder of a label.
    """
    places = [_place(path, folder) for path in picture_files(folder)]
    level = _label_level(places, frozenset(known))
    return [_picture(place, level, folder) for place in places]


def _place(path: Path, root: Path) -> _Place:
    folders = path.relative_to(root).parts[:-1]
    splits = [split_named(name) for name in folders]
    own = tuple(name for name, split in zip(folders, splits, strict=True) if not split)
    return _Place(path, next(filter(None, splits), ""), own)


def _label_level(places: Sequence[_Place], known: frozenset[str]) -> int:
    depth = max((len(place.folders) for place in places), default=0)
    counts = []
    for level in range(depth):
        at_level = [place.folders[level].lower() for place in places if len(place.folders) > level]
        counts.append(sum(name in known for name in at_level))
    return counts.index(max(counts)) if counts else 0


def _picture(place: _Place, level: int, root: Path) -> Picture:
    if len(place.folders) <= level:
        raise DataError(
            f"{place.path.relative_to(root)}: not in a folder of a label; give LABEL/ or "
            "SPLIT/LABEL/ with SPLIT train, validation or test, or a manifest.csv with the columns "
            "file and label"
        )
    label = place.folders[level]
    others = place.folders[:level] + place.folders[level + 1 :]
    return Picture(place.path, label, _split(place), "/".join(others))


def _split(place: _Place) -> str:
    for start, split in _KAGGLE_SPLITS.items():
        if place.split and place.path.name.startswith(start):
            return split
    return place.split
