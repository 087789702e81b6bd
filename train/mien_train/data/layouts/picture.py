"""What a layout says of a picture, before it is opened."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mien_edge.textfiles import is_hidden
from mien_edge.values import Box

PICTURE_SUFFIXES = frozenset([
    ".avif", ".bmp", ".heic", ".heif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm",
    ".tif", ".tiff", ".webp",
])  # fmt: skip
"""Names of pictures, in lower case."""

TRAIN = "train"
VALIDATION = "validation"
TEST = "test"
PRIVATE_TEST = "private test"

_SPLITS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "dev": VALIDATION,
    "test": TEST,
    "testing": TEST,
    "publictest": TEST,
    "privatetest": PRIVATE_TEST,
}
"""What people call the parts of a data set, letters and digits in lower case alone."""


@dataclass(frozen=True)
class Picture:
    """A face in a picture file, as a data set describes it.

    label: the name that the data set gives its expression, as it stands there; empty for none.
    split: TRAIN, VALIDATION, TEST, PRIVATE_TEST, or empty where the data set has no split.
    group: what it belongs to, such as a person; empty where that is unknown.
    box: where the face is, in pixels of the picture; None where that is not told.
    votes: FER+'s ten votes in the order of read.VOTES, or none.
    doubt: why the label is doubtful, so that the picture is left out; empty where it is not.
    """

    path: Path
    label: str
    split: str = ""
    group: str = ""
    box: Box | None = None
    votes: tuple[int, ...] = ()
    doubt: str = ""


def split_named(name: str) -> str:
    """Return TRAIN, VALIDATION, TEST or PRIVATE_TEST for what people call it ('val', 'Training'),
    or an empty string for another name.
    """
    return _SPLITS.get(re.sub(r"[^a-z0-9]", "", name.lower()), "")


def picture_files(folder: Path) -> list[Path]:
    """The pictures in a folder and below, in the order of their paths, without what systems put
    beside them.
    """
    paths = (path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    return sorted(path for path in paths if not is_hidden(path.relative_to(folder)))


def matching_files(folder: Path, pattern: re.Pattern[str]) -> Iterator[tuple[Path, re.Match[str]]]:
    """Yield the pictures in a folder and below whose whole name matches, in the order of their
    paths.
    """
    for path in picture_files(folder):
        match = pattern.fullmatch(path.name)
        if match:
            yield path, match


def first_existing(paths: Sequence[Path]) -> Path | None:
    """The first of the paths that is there, or None."""
    return next((path for path in paths if path.exists()), None)
