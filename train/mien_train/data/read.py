"""FER2013 as arrays: Kaggle's CSV or image folders, and the votes of FER+.

Sources: FER2013, Goodfellow et al. 2013 (https://arxiv.org/abs/1307.0414); FER+, Barsoum et al.
2016 (https://arxiv.org/abs/1608.01041).
"""

import bz2
import csv
import gzip
import hashlib
import io
import lzma
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from mien_edge import files
from mien_edge.contract import LABELS
from mien_edge.errors import DataError
from numpy.typing import NDArray
from tqdm import tqdm

from mien_train.arrays import Array, Labels, Pixels
from mien_train.data.cache import cache_folder

SIZE = 48
"""Pixels of a picture's side."""

USAGES = ("Training", "PublicTest", "PrivateTest")
TRAINING = USAGES.index("Training")
PUBLIC_TEST = USAGES.index("PublicTest")

VOTES = (
    "neutral", "happiness", "surprise", "sadness", "anger",
    "disgust", "fear", "contempt", "unknown", "NF",
)  # fmt: skip
"""FER+'s columns, as its file names them; NF is "no face"."""
VOTE_OF_LABEL = tuple(VOTES.index(name) for name in (
    "anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral",
))  # fmt: skip
"""VOTE_OF_LABEL[i] is the FER+ column of LABELS[i]."""

_COLUMNS = ("emotion", "pixels", "Usage")
_OPENERS: dict[str, Any] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
_DAMAGE = (
    EOFError,
    lzma.LZMAError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    UnicodeDecodeError,
    csv.Error,
)
_PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")
_NEEDED = f"{SIZE}x{SIZE} gray is needed; replace or remove it"
_MAX_PROBLEMS = 5  # bad rows that a message names


@dataclass(frozen=True, eq=False)
class Dataset:
    """N face crops.

    images: (N, 48, 48) uint8 gray levels.
    labels: (N,) int8 indices of LABELS.
    usages: (N,) int8 indices of USAGES.
    line_numbers: (N,) int32, the CSV line that each row ends on (the header is line 1); for image
    folders the order of the files, from 0.
    sha256: of the file; for folders of the names and contents.
    votes: (N, 10) uint8 FER+ votes in the order of VOTES, or None.
    skipped: bad rows left out.
    """

    images: Pixels
    labels: Labels
    usages: NDArray[np.int8]
    line_numbers: NDArray[np.int32]
    sha256: str
    votes: Pixels | None = None
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Array) -> "Dataset":
        """The dataset of `rows` (indices or a boolean mask), in that order; `sha256` stays that of
        the file.
        """
        votes = None if self.votes is None else self.votes[rows]
        return replace(
            self,
            images=self.images[rows],
            labels=self.labels[rows],
            usages=self.usages[rows],
            line_numbers=self.line_numbers[rows],
            votes=votes,
        )

    def majority(self) -> Labels:
        """FER+'s majority label of each row: (N,) int8 indices of LABELS, -1 where votes tie or
        most are for another class.

        Raises DataError where the dataset has no votes.
        """
        if self.votes is None:
            raise DataError("these rows have no FER+ votes; name their file with --ferplus")
        most_votes = self.votes.max(axis=1)
        winners = (self.votes == most_votes[:, None]).sum(axis=1)
        is_clear = (winners == 1) & (most_votes > 0)
        label_of_vote = np.full(len(VOTES), -1, np.int8)
        label_of_vote[list(VOTE_OF_LABEL)] = np.arange(len(LABELS))
        labels = label_of_vote[self.votes.argmax(axis=1)]
        return np.where(is_clear, labels, -1).astype(np.int8)


def load_dataset(path: Path, ferplus: Path | None = None, skip_bad: bool = False) -> Dataset:
    """Read Kaggle's fer2013.csv (plain, .gz, .xz, .bz2 or .zip) or its image folders; what is
    parsed is cached.

    ferplus: FER+'s fer2013new.csv, whose votes are joined to the rows. skip_bad: leave bad rows out
    and count them in `skipped`.

    Raises DataError for a missing or malformed file; it names the lines.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; get the data with: mien-train data fetch")
    if ferplus and path.is_dir():
        raise DataError(
            f"{ferplus}: the votes follow the rows of Kaggle's fer2013.csv, whose order the image "
            f"folders in {path} do not have; give fer2013.csv"
        )
    digest = _digest(path)
    suffix = "-skip" if skip_bad else ""
    cache = cache_folder() / f"{digest}{suffix}.npz"
    dataset = _read_cache(cache, digest)
    if dataset is None:
        dataset = _parse(path, digest, skip_bad)
        _write_cache(cache, dataset)
    if ferplus is None:
        return dataset
    return with_votes(dataset, ferplus)


def with_votes(dataset: Dataset, path: Path) -> Dataset:
    """The dataset with the FER+ votes of the file `path`.

    Joined in order where the file has as many rows, else by the row number in its image names.
    Raises DataError where the two files do not fit together.
    """
    table = _read_votes(path)
    if len(table.votes) != len(dataset):
        rows = _rows_of_votes(dataset, table.row_numbers, path)
        table = _VoteTable([table.usages[row] for row in rows], [], table.votes[rows])
    for row, usage in enumerate(dataset.usages):
        if table.usages[row] != USAGES[usage]:
            raise DataError(
                f"{path}: row {row} is {table.usages[row]} here but {USAGES[usage]} in the data; "
                "FER+'s votes follow the rows of Kaggle's fer2013.csv: give that file"
            )
    return replace(dataset, votes=table.votes)


def describe(dataset: Dataset) -> str:
    """The number of rows of each label: '3995 angry, 436 disgust, …'."""
    counts = np.bincount(dataset.labels, minlength=len(LABELS))
    return ", ".join(f"{count} {label}" for count, label in zip(counts, LABELS, strict=True))


def _digest(path: Path) -> str:
    if path.is_file():
        return files.sha256(path)
    digest = hashlib.sha256()
    for picture in _picture_files(path):
        digest.update(f"{picture.relative_to(path)}\0{files.sha256(picture)}\n".encode())
    return digest.hexdigest()


def _parse(path: Path, digest: str, skip_bad: bool) -> Dataset:
    if path.is_dir():
        return _read_folder(path, digest)
    return _read_csv(path, digest, skip_bad)


def _read_cache(cache: Path, digest: str) -> Dataset | None:
    try:
        with np.load(cache) as stored:
            return Dataset(
                images=stored["images"],
                labels=stored["labels"],
                usages=stored["usages"],
                line_numbers=stored["places"],
                sha256=digest,
                skipped=int(stored["skipped"]),
            )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
        return None


def _write_cache(cache: Path, dataset: Dataset) -> None:
    with files.atomic_write(cache) as temporary:
        np.savez(
            temporary,
            images=dataset.images,
            labels=dataset.labels,
            usages=dataset.usages,
            places=dataset.line_numbers,  # the name that every version has written
            skipped=np.array(dataset.skipped),
        )


@contextmanager
def _open_text(path: Path) -> Iterator[TextIO]:
    """The CSV's text, decompressed by the suffix of its name."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive, archive.open(_csv_member(archive, path)) as raw:
            yield io.TextIOWrapper(raw, "utf-8", newline="")
    else:
        opener = _OPENERS.get(path.suffix, open)
        with opener(path, "rt", encoding="utf-8", newline="") as text:
            yield text


def _csv_member(archive: zipfile.ZipFile, path: Path) -> str:
    """The name of fer2013.csv in an archive, else of its first CSV."""
    names = [name for name in archive.namelist() if name.endswith(".csv")]
    if not names:
        raise DataError(f"{path}: no .csv file in this archive; give Kaggle's fer2013 archive")
    for name in names:
        if Path(name).name == "fer2013.csv":
            return name
    return names[0]


class _Columns(NamedTuple):
    """Where the CSV's columns are, from 0."""

    emotion: int
    pixels: int
    usage: int


class _Row(NamedTuple):
    """One row of the CSV; pixels: (2304,) uint8."""

    pixels: Pixels
    label: int
    usage: int
    line_number: int


def _read_csv(path: Path, digest: str, skip_bad: bool) -> Dataset:
    rows, problems = _parse_csv(path)
    if problems and not skip_bad:
        advice = "fix the file, or skip bad rows with --skip-bad"
        raise DataError(f"{path}: {_join(problems)}; {advice}")
    if not rows:
        raise DataError(f"{path}: no usable row; give Kaggle's fer2013.csv")
    return Dataset(
        images=np.stack([row.pixels for row in rows]).reshape(-1, SIZE, SIZE),
        labels=np.array([row.label for row in rows], np.int8),
        usages=np.array([row.usage for row in rows], np.int8),
        line_numbers=np.array([row.line_number for row in rows], np.int32),
        sha256=digest,
        skipped=len(problems),
    )


def _parse_csv(path: Path) -> tuple[list[_Row], list[str]]:
    """The rows of a CSV, and what is wrong with it, a sentence for each bad row."""
    rows: list[_Row] = []
    problems: list[str] = []
    csv.field_size_limit(1 << 20)
    try:
        with _open_text(path) as text:
            reader = csv.reader(text)
            columns = _find_columns(path, next(reader, []))
            for fields in _progress(reader, path, " rows"):
                try:
                    rows.append(_parse_row(fields, columns, reader.line_num))
                except ValueError as problem:
                    problems.append(f"line {reader.line_num}: {problem}")
    except _DAMAGE as problem:
        reason = problem or type(problem).__name__
        problems.append(f"after {len(rows)} rows the file ends early or is damaged ({reason})")
    return rows, problems


def _progress(items: Any, path: Path, unit: str) -> Any:
    """The items, with a progress bar on a terminal."""
    return tqdm(items, desc=f"reading {path.name}", unit=unit, leave=False, disable=None)


def _join(problems: Sequence[str]) -> str:
    """The first problems, and how many more there are."""
    parts = list(problems[:_MAX_PROBLEMS])
    more = len(problems) - len(parts)
    if more:
        parts.append(f"and {more} more")
    return "; ".join(parts)


def _find_columns(path: Path, header: list[str]) -> _Columns:
    names = [name.strip().lower() for name in header]
    for column in _COLUMNS:
        if column.lower() not in names:
            raise DataError(f"{path}: line 1 names no column {column!r} but {header}; give fer2013.csv")
    return _Columns(*(names.index(column.lower()) for column in _COLUMNS))


def _parse_row(fields: list[str], columns: _Columns, line_number: int) -> _Row:
    """Raises ValueError that says what is wrong with the row."""
    if len(fields) <= max(columns):
        raise ValueError(f"{len(fields)} columns where {max(columns) + 1} are needed")
    emotion = fields[columns.emotion]
    if emotion.strip() not in {str(index) for index in range(len(LABELS))}:
        raise ValueError(f"emotion {emotion!r} is not 0 to {len(LABELS) - 1}")
    usage = fields[columns.usage]
    if usage not in USAGES:
        raise ValueError(f"Usage {usage!r} is none of {', '.join(USAGES)}")
    pixels = _parse_pixels(fields[columns.pixels])
    return _Row(pixels, int(emotion), USAGES.index(usage), line_number)


def _parse_pixels(text: str) -> Pixels:
    try:
        pixels = np.array(text.split(), np.int32)
    except (ValueError, OverflowError):
        raise ValueError("a pixel is not a whole number") from None
    if pixels.size != SIZE * SIZE:
        raise ValueError(f"{pixels.size} pixels where {SIZE * SIZE} are needed")
    if pixels.min() < 0 or pixels.max() > 255:
        raise ValueError(f"pixel values {pixels.min()} to {pixels.max()} where 0 to 255 are allowed")
    return pixels.astype(np.uint8)


def _picture_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _PICTURE_SUFFIXES)


def _read_folder(folder: Path, digest: str) -> Dataset:
    """Read train/LABEL/*.jpg and test/LABEL/*.jpg."""
    images = []
    labels = []
    usages = []
    for path in _progress(_picture_files(folder), folder, " pictures"):
        part = path.parent.parent.name.lower()
        label = path.parent.name.lower()
        if label not in LABELS or part not in ("train", "test"):
            names = ", ".join(LABELS)
            raise DataError(f"{path}: not in train/LABEL or test/LABEL with LABEL of {names}; move it")
        images.append(_read_picture(path))
        labels.append(LABELS.index(label))
        usages.append(_usage_of_file(path.name, part))
    if not images:
        raise DataError(f"{folder}: no pictures in train/LABEL or test/LABEL; give Kaggle's folders")
    return Dataset(
        images=np.stack(images).astype(np.uint8),
        labels=np.array(labels, np.int8),
        usages=np.array(usages, np.int8),
        line_numbers=np.arange(len(images), dtype=np.int32),
        sha256=digest,
    )


def _read_picture(path: Path) -> Any:
    """(48, 48) uint8 of a picture file."""
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise DataError(f"{path}: unreadable where {_NEEDED}")
    height, width = image.shape
    if (height, width) != (SIZE, SIZE):
        raise DataError(f"{path}: {width}x{height} pixels where {_NEEDED}")
    return image


def _usage_of_file(name: str, part: str) -> int:
    """Index of USAGES: Kaggle's file names say it ('PrivateTest_123.jpg'), else `test` is
    PublicTest.
    """
    for index, usage in enumerate(USAGES):
        if name.startswith(usage):
            return index
    return TRAINING if part == "train" else PUBLIC_TEST


class _VoteTable(NamedTuple):
    """FER+'s file: the usage of each row, the row of fer2013.csv in its image name if it has one,
    (n, 10) votes.
    """

    usages: list[str]
    row_numbers: list[int | None]
    votes: Pixels


def _read_votes(path: Path) -> _VoteTable:
    if not path.is_file():
        raise DataError(f"{path}: no such file; get it from github.com/microsoft/FERPlus")
    usages: list[str] = []
    row_numbers: list[int | None] = []
    votes: list[list[int]] = []
    with path.open(newline="") as text:
        for line, fields in enumerate(csv.DictReader(text), start=2):
            try:
                votes.append([int(fields[name]) for name in VOTES])
                usages.append(fields["Usage"])
                row_numbers.append(_number_in(fields["Image name"]))
            except (KeyError, TypeError, ValueError) as problem:
                reason = f"line {line} is malformed ({problem})"
                raise DataError(f"{path}: {reason}; copy the file again") from None
    return _VoteTable(usages, row_numbers, np.array(votes, np.uint8))


def _number_in(name: str) -> int | None:
    match = re.search(r"(\d+)", name)
    return int(match.group(1)) if match else None


def _rows_of_votes(dataset: Dataset, row_numbers: Sequence[int | None], path: Path) -> list[int]:
    """For each row of the dataset the row of FER+'s file that names it. Raises DataError where one
    is missing.
    """
    position = {number: i for i, number in enumerate(row_numbers) if number is not None}
    csv_rows = (dataset.line_numbers - 2).tolist()  # line 2 of the CSV is row 0
    missing = [row for row in csv_rows if row not in position]
    if missing:
        count = f"{len(missing)} rows"
        raise DataError(f"{path}: no votes for row {missing[0]} ({count}); give FER+'s fer2013new.csv")
    return [position[row] for row in csv_rows]
