"""FER2013 as arrays: Kaggle's CSV or image folders, FER+ votes, duplicate groups and splits.

Sources: FER2013, Goodfellow et al. 2013 (https://arxiv.org/abs/1307.0414); FER+, Barsoum et al. 2016
(https://arxiv.org/abs/1608.01041).
"""

import bz2
import csv
import gzip
import hashlib
import io
import lzma
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from mien_edge import files
from mien_edge.contract import LABELS
from mien_edge.errors import DataError
from numpy.typing import NDArray
from tqdm import tqdm

from mien_train.data.cache import cache_folder

SIZE = 48

USAGES = ("Training", "PublicTest", "PrivateTest")
VOTES = (
    "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF",
)  # fmt: skip
VOTE_OF_LABEL = tuple(VOTES.index(name) for name in (
    "anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral",
))  # fmt: skip
"""VOTE_OF_LABEL[i] is the FER+ column of LABELS[i]."""

_COLUMNS = ("emotion", "pixels", "Usage")


@dataclass(frozen=True, eq=False)
class Dataset:
    """N face crops.

    images: (N, 48, 48) uint8. labels: (N,) int8 indices of LABELS. usages: (N,) int8 indices of USAGES.
    places: (N,) where each stands in its file (CSV line number; 0-based order for folders).
    votes: (N, 10) uint8 in the order of VOTES, or None. sha256: of the file (of names and contents for folders).
    skipped: bad rows left out.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int8]
    usages: NDArray[np.int8]
    places: NDArray[np.int32]
    sha256: str
    votes: NDArray[np.uint8] | None = None
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[Any]) -> "Dataset":
        """The given rows (indices or a boolean mask), in that order."""
        votes = None if self.votes is None else self.votes[rows]
        return replace(
            self,
            images=self.images[rows],
            labels=self.labels[rows],
            usages=self.usages[rows],
            places=self.places[rows],
            votes=votes,
        )

    def majority(self) -> NDArray[np.int8]:
        """FER+ majority label per row as an index of LABELS; -1 where the crowd ties or chose none of the seven."""
        if self.votes is None:
            raise DataError("these rows have no FER+ votes; name the file with --ferplus fer2013new.csv")
        top = self.votes.max(axis=1)
        unique = (self.votes == top[:, None]).sum(axis=1) == 1
        column = self.votes.argmax(axis=1)
        label_of = np.full(len(VOTES), -1, np.int8)
        label_of[list(VOTE_OF_LABEL)] = np.arange(len(LABELS))
        return np.where(unique & (top > 0), label_of[column], -1).astype(np.int8)


def load(path: Path, plus: Path | None = None, skip_bad: bool = False) -> Dataset:
    """Read Kaggle's fer2013.csv (plain, .gz, .xz, .bz2 or .zip) or its image folders; keep a cache for the next time.

    Raises DataError for a missing or malformed file; it names the lines. With `skip_bad` bad rows are left out and
    counted in `skipped`.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; get the data with: mien-train data fetch")
    if plus and path.is_dir():
        raise DataError(
            f"{plus}: votes go by the rows of Kaggle's fer2013.csv, which {path} has lost; give fer2013.csv"
        )
    digest = _digest(path)
    cache = cache_folder() / f"{digest}{'-skip' if skip_bad else ''}.npz"
    dataset = _read_cache(cache, digest)
    if dataset is None:
        dataset = _read_folder(path, digest) if path.is_dir() else _read_csv(path, digest, skip_bad)
        _write_cache(cache, dataset)
    return dataset if plus is None else with_votes(dataset, plus)


def _digest(path: Path) -> str:
    if path.is_file():
        return files.sha256(path)
    digest = hashlib.sha256()
    for file in _image_files(path):
        digest.update(f"{file.relative_to(path)}\0{files.sha256(file)}\n".encode())
    return digest.hexdigest()


def _read_cache(cache: Path, digest: str) -> Dataset | None:
    try:
        with np.load(cache) as stored:
            return Dataset(
                stored["images"], stored["labels"], stored["usages"], stored["places"], digest,
                skipped=int(stored["skipped"]),
            )  # fmt: skip
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
        return None


def _write_cache(cache: Path, dataset: Dataset) -> None:
    with files.atomic_write(cache) as temporary:
        np.savez(
            temporary, images=dataset.images, labels=dataset.labels, usages=dataset.usages, places=dataset.places,
            skipped=np.array(dataset.skipped),
        )  # fmt: skip


@contextmanager
def _open_text(path: Path) -> Iterator[TextIO]:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".csv")]
            if not names:
                raise DataError(
                    f"{path}: the archive holds no .csv file; give Kaggle's fer2013 archive or the CSV itself"
                )
            name = next((each for each in names if Path(each).name == "fer2013.csv"), names[0])
            with archive.open(name) as raw:
                yield io.TextIOWrapper(raw, "utf-8", newline="")
        return
    opener: Any = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}.get(path.suffix, open)
    with opener(path, "rt", encoding="utf-8", newline="") as text:
        yield text


def _read_csv(path: Path, digest: str, skip_bad: bool) -> Dataset:
    rows: list[tuple[Any, int, int, int]] = []
    bad: list[str] = []
    csv.field_size_limit(1 << 20)
    try:
        with _open_text(path) as text:
            reader = csv.reader(text)
            columns = _columns(path, next(reader, []))
            for fields in tqdm(reader, desc=f"reading {path.name}", unit=" rows", leave=False, disable=None):
                try:
                    rows.append((*_row(fields, columns), reader.line_num))
                except ValueError as problem:
                    bad.append(f"line {reader.line_num}: {problem}")
    except (EOFError, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile, UnicodeDecodeError, csv.Error) as problem:
        bad.append(f"after {len(rows)} rows the file ends early or is damaged ({problem or type(problem).__name__})")
    if bad and not skip_bad:
        raise DataError(f"{path}: {_some(bad)}; fix the file, or skip bad rows with --skip-bad")
    if not rows:
        raise DataError(f"{path}: no usable row; give Kaggle's fer2013.csv")
    pixels, labels, usages, lines = zip(*rows, strict=True)
    return Dataset(
        np.stack(pixels).reshape(-1, SIZE, SIZE),
        np.array(labels, np.int8), np.array(usages, np.int8), np.array(lines, np.int32),
        digest, skipped=len(bad),
    )  # fmt: skip


def _some(problems: list[str], most: int = 5) -> str:
    rest = len(problems) - most
    return "; ".join(problems[:most]) + (f"; and {rest} more" if rest > 0 else "")


def _columns(path: Path, header: list[str]) -> tuple[int, int, int]:
    names = [name.strip().lower() for name in header]
    for column in _COLUMNS:
        if column.lower() not in names:
            raise DataError(f"{path}: line 1 names no column {column!r} but {header}; give Kaggle's fer2013.csv")
    emotion, pixels, usage = (names.index(column.lower()) for column in _COLUMNS)
    return emotion, pixels, usage


def _row(fields: list[str], columns: tuple[int, int, int]) -> tuple[NDArray[np.uint8], int, int]:
    if len(fields) <= max(columns):
        raise ValueError(f"{len(fields)} columns where {max(columns) + 1} are needed")
    emotion, text, usage = (fields[column] for column in columns)
    if emotion.strip() not in {str(i) for i in range(len(LABELS))}:
        raise ValueError(f"emotion {emotion!r} is not 0 to {len(LABELS) - 1}")
    if usage not in USAGES:
        raise ValueError(f"Usage {usage!r} is none of {', '.join(USAGES)}")
    try:
        pixels = np.array(text.split(), np.int32)
    except (ValueError, OverflowError):
        raise ValueError("a pixel is not a whole number") from None
    if pixels.size != SIZE * SIZE:
        raise ValueError(f"{pixels.size} pixels where {SIZE * SIZE} are needed")
    if pixels.min() < 0 or pixels.max() > 255:
        raise ValueError(f"pixel values {pixels.min()} to {pixels.max()} where 0 to 255 are allowed")
    return pixels.astype(np.uint8), int(emotion), USAGES.index(usage)


def _image_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))


def _read_folder(folder: Path, digest: str) -> Dataset:
    """train/angry/*.jpg, test/…; Kaggle's names tell the split ('PrivateTest_123.jpg'), else `test` is PublicTest."""
    import cv2

    images, labels, usages = [], [], []
    for path in tqdm(_image_files(folder), desc=f"reading {folder.name}", unit=" pictures", leave=False, disable=None):
        split, label = path.parent.parent.name.lower(), path.parent.name.lower()
        if label not in LABELS or split not in ("train", "test"):
            raise DataError(f"{path}: not in train/LABEL or test/LABEL with LABEL of {', '.join(LABELS)}; move it")
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if image is None or image.shape != (SIZE, SIZE):
            found = "unreadable" if image is None else f"{image.shape[1]}x{image.shape[0]} pixels"
            raise DataError(f"{path}: {found} where {SIZE}x{SIZE} gray is needed; replace or remove it")
        named = next((usage for usage in USAGES if path.name.startswith(usage)), None)
        images.append(image)
        labels.append(LABELS.index(label))
        usages.append(USAGES.index(named or ("Training" if split == "train" else "PublicTest")))
    if not images:
        raise DataError(f"{folder}: no pictures in train/LABEL or test/LABEL; give Kaggle's image folders")
    return Dataset(
        np.stack(images).astype(np.uint8), np.array(labels, np.int8), np.array(usages, np.int8),
        np.arange(len(images), dtype=np.int32), digest,
    )  # fmt: skip


def with_votes(dataset: Dataset, path: Path) -> Dataset:
    """Join FER+ votes: in order where the rows are as many, else by the row number in the image names.

    Raises DataError where the two files do not fit together.
    """
    usages, numbers, votes = _read_votes(path)
    if len(votes) != len(dataset):
        order = dataset.places - 2  # line 2 of the CSV is row 0
        position = {number: i for i, number in enumerate(numbers) if number is not None}
        missing = [int(row) for row in order if int(row) not in position]
        if missing:
            raise DataError(f"{path}: no votes for row {missing[0]} ({len(missing)} rows); give FER+'s fer2013new.csv")
        chosen = [position[int(row)] for row in order]
        usages, votes = [usages[i] for i in chosen], votes[chosen]
    ours = [USAGES[i] for i in dataset.usages]
    differing = next((i for i, (a, b) in enumerate(zip(ours, usages, strict=True)) if a != b), None)
    if differing is not None:
        raise DataError(
            f"{path}: row {differing} is {usages[differing]} here but {ours[differing]} in the data; "
            "FER+'s votes belong to the rows of Kaggle's fer2013.csv, in its order: give that file"
        )
    return replace(dataset, votes=votes)


def _read_votes(path: Path) -> tuple[list[str], list[int | None], NDArray[np.uint8]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; FER+'s fer2013new.csv comes from github.com/microsoft/FERPlus")
    usages, numbers, votes = [], [], []
    with path.open(newline="") as text:
        for fields in csv.DictReader(text):
            try:
                votes.append([int(fields[name]) for name in VOTES])
                usages.append(fields["Usage"])
                found = re.search(r"(\d+)", fields["Image name"])
            except (KeyError, TypeError, ValueError) as problem:
                raise DataError(
                    f"{path}: line {len(votes) + 2} is malformed ({problem}); copy the file again"
                ) from None
            numbers.append(int(found.group(1)) if found else None)
    return usages, numbers, np.array(votes, np.uint8)


def describe(dataset: Dataset) -> str:
    """'3995 angry, 436 disgust, …' of a dataset."""
    counts = [int((dataset.labels == i).sum()) for i in range(len(LABELS))]
    return ", ".join(f"{count} {label}" for count, label in zip(counts, LABELS, strict=True))
