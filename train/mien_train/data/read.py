"""Data sets as arrays; read here: FER2013 from Kaggle's CSV, and the votes of FER+.

Sources: FER2013, Goodfellow et al. 2013 (https://arxiv.org/abs/1307.0414); FER+, Barsoum et al.
2016 (https://arxiv.org/abs/1608.01041).
"""

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mien_edge import files
from mien_edge.contract import LABELS
from mien_edge.errors import DataError
from mien_edge.textfiles import Row, Table, open_lines, shorten
from numpy.typing import NDArray

from mien_train.arrays import Array, Doubles, Floats, Labels, Pixels
from mien_train.data.cache import cache_folder, save_cache
from mien_train.data.findings import Finding
from mien_train.data.packed import DAMAGE, open_table
from mien_train.progress import progress

SIZE = 48
"""Pixels of a picture's side."""

_KAGGLE_USAGES = ("Training", "PublicTest", "PrivateTest")
USAGES = (*_KAGGLE_USAGES, "Validation", "unassigned")
"""What a row is for, as its data set says: FER2013's three; validation rows of other sets; and
rows that no split was named for, which splits.split_dataset shares out.
"""
TRAINING = USAGES.index("Training")
PUBLIC_TEST = USAGES.index("PublicTest")
PRIVATE_TEST = USAGES.index("PrivateTest")
VALIDATION = USAGES.index("Validation")
UNASSIGNED = USAGES.index("unassigned")

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
_VOTE_COLUMNS = ("Usage", "Image name", *VOTES)
_VOTERS = 10  # people who saw each picture (FER+, section 3)
_VOTE_OF_TEXT = {str(count): count for count in range(_VOTERS + 1)}
_LABEL_OF_TEXT = {str(index): index for index in range(len(LABELS))}
_MAX_PROBLEMS = 5  # bad rows that a message names


@dataclass(frozen=True, eq=False)
class Dataset:
    """N face crops.

    images: (N, 48, 48) uint8 gray levels.
    labels: (N,) int8 indices of `label_names`, -1 for a row without one.
    usages: (N,) int8 indices of USAGES.
    row_numbers: (N,) int32, the number of each row in the file, from 0: bad rows count, blank lines
    do not; for image folders the order of the files.
    sha256: of the file; for folders of the names and contents.
    votes: (N, 10) uint8 FER+ votes in the order of VOTES, or None; zeros for a row without.
    skipped: bad rows left out.
    label_names: what the labels are called.
    groups: (N,) int32, rows that belong together, such as pictures of one person, and never come to
    lie on two sides of a split; or None.
    weights: (N,) float32, how much each row counts in training; None for 1.
    is_sampled: whether training draws rows of rare labels more often, see balance.balanced_order.
    surroundings: (N, 96, 96) uint8, each picture, which is the middle of it, with as much around it
    again; None where nothing is known beyond the pictures.
    boxes: (N, 4) where the device's detector saw the face, as faces.detect_boxes gives them; NaN
    where that is not known yet; or None.
    names: (N,) the pictures' files, or None.
    findings: what was noticed about single pictures.
    """

    images: Pixels
    labels: Labels
    usages: NDArray[np.int8]
    row_numbers: NDArray[np.int32]
    sha256: str
    votes: Pixels | None = None
    skipped: int = 0
    label_names: tuple[str, ...] = LABELS
    groups: NDArray[np.int32] | None = None
    weights: Floats | None = None
    is_sampled: bool = False
    surroundings: Pixels | None = None
    boxes: Doubles | None = None
    names: NDArray[np.str_] | None = None
    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Array) -> "Dataset":
        """The dataset of `rows` (indices or a boolean mask), in that order; `sha256` stays that of
        the file.
        """
        return replace(
            self,
            images=self.images[rows],
            labels=self.labels[rows],
            usages=self.usages[rows],
            row_numbers=self.row_numbers[rows],
            votes=_take(self.votes, rows),
            groups=_take(self.groups, rows),
            weights=_take(self.weights, rows),
            surroundings=_take(self.surroundings, rows),
            boxes=_take(self.boxes, rows),
            names=_take(self.names, rows),
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


def _take(values: Any, rows: Array) -> Any:
    return None if values is None else values[rows]


def load_dataset(path: Path, ferplus: Path | None = None, skip_bad: bool = False) -> Dataset:
    """Read Kaggle's fer2013.csv (plain, compressed, or in an archive); what is parsed is cached.

    ferplus: FER+'s fer2013new.csv, whose votes are joined to the rows. skip_bad: leave bad rows out
    and count them in `skipped`.

    Raises DataError for a missing or malformed file; it names the lines.
    """
    refuse_special(path)
    try:
        digest = files.sha256(path)
    except OSError as problem:
        raise DataError(f"{path}: cannot be read ({problem.strerror}); check the file") from None
    suffix = "-skip" if skip_bad else ""
    cache = cache_folder() / f"{digest}{suffix}.npz"
    dataset = _read_cache(cache, digest)
    if dataset is None:
        dataset = _parse(path, digest, skip_bad)
        save_cache(
            cache,
            images=dataset.images,
            labels=dataset.labels,
            usages=dataset.usages,
            row_numbers=dataset.row_numbers,
            skipped=np.array(dataset.skipped),
        )
    if ferplus is None:
        return dataset
    return with_votes(dataset, ferplus)


def refuse_special(path: Path) -> None:
    """Raise DataError unless there is a file: to open a pipe would wait for its other end."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; get FER2013 with: mien-train data fetch")
    if not path.is_file():
        raise DataError(f"{path}: a pipe or a device, not a file; write what it gives into a file")


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
    names = dataset.label_names
    labels = dataset.labels[dataset.labels >= 0]
    counts = np.bincount(labels, minlength=len(names))
    return ", ".join(f"{count} {label}" for count, label in zip(counts, names, strict=True))


class _Row(NamedTuple):
    """One row; pixels: (2304,) uint8. number: as in Dataset.row_numbers."""

    pixels: Pixels
    label: int
    usage: int
    number: int


def _parse(path: Path, digest: str, skip_bad: bool) -> Dataset:
    rows, problems = _parse_csv(path)
    if problems and not skip_bad:
        advice = "fix the data, or skip what is bad with --skip-bad"
        raise DataError(f"{path}: {_join(problems)}; {advice}")
    if not rows:
        raise DataError(f"{path}: no usable row; give Kaggle's fer2013.csv")
    return Dataset(
        images=np.stack([row.pixels for row in rows]).reshape(-1, SIZE, SIZE),
        labels=np.array([row.label for row in rows], np.int8),
        usages=np.array([row.usage for row in rows], np.int8),
        row_numbers=np.array([row.number for row in rows], np.int32),
        sha256=digest,
        skipped=len(problems),
    )


def _read_cache(cache: Path, digest: str) -> Dataset | None:
    try:
        with np.load(cache) as stored:
            return Dataset(
                images=stored["images"],
                labels=stored["labels"],
                usages=stored["usages"],
                row_numbers=stored["row_numbers"],
                sha256=digest,
                skipped=int(stored["skipped"]),
            )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
        return None


def _parse_csv(path: Path) -> tuple[list[_Row], list[str]]:
    """The rows of a CSV, and what is wrong with it, a sentence for each bad row."""
    rows: list[_Row] = []
    problems: list[str] = []
    try:
        with open_table(path, _COLUMNS) as content:
            table = _open_table(path, content, _COLUMNS)
            for number, row in enumerate(progress(table, f"reading {path.name}", "rows")):
                try:
                    rows.append(_parse_row(row, number))
                except ValueError as problem:
                    problems.append(f"line {row.line}: {problem}")
    except DataError:
        raise
    except ValueError as problem:
        problems.append(str(problem))
    except DAMAGE as problem:
        reason = problem if str(problem) else type(problem).__name__
        problems.append(f"after {len(rows)} rows the file ends early or is damaged ({reason})")
    return rows, problems


def _open_table(path: Path, content: Any, columns: Sequence[str]) -> Table:
    try:
        return Table(open_lines(content), columns)
    except ValueError as problem:
        raise DataError(f"{path}: {problem}; it needs {', '.join(columns)}") from None


def _join(problems: Sequence[str]) -> str:
    """The first problems, and how many more there are."""
    parts = list(problems[:_MAX_PROBLEMS])
    more = len(problems) - len(parts)
    if more:
        parts.append(f"and {more} more")
    return "; ".join(parts)


def _parse_row(row: Row, number: int) -> _Row:
    """Raises ValueError that says what is wrong with the row."""
    emotion = row["emotion"]
    if emotion not in _LABEL_OF_TEXT:
        raise ValueError(f"emotion {shorten(emotion)!r} is not 0 to {len(LABELS) - 1}")
    usage = row["Usage"]
    if usage not in _KAGGLE_USAGES:
        names = ", ".join(_KAGGLE_USAGES)
        raise ValueError(f"Usage {shorten(usage)!r} is none of {names}")
    pixels = _parse_pixels(row["pixels"])
    return _Row(pixels, _LABEL_OF_TEXT[emotion], USAGES.index(usage), number)


def _parse_pixels(text: str) -> Pixels:
    try:
        pixels = np.array(text.split(), np.int32)
    except (ValueError, OverflowError):
        raise ValueError("a pixel is not a whole number") from None
    if pixels.size != SIZE * SIZE:
        raise ValueError(f"{pixels.size} pixels where {SIZE * SIZE} are needed")
    if pixels.min() < 0 or pixels.max() > 255:
        raise ValueError(
            f"pixel values {pixels.min()} to {pixels.max()} where 0 to 255 are allowed"
        )
    return pixels.astype(np.uint8)


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
    try:
        with open_table(path, _VOTE_COLUMNS) as content:
            for row in _open_table(path, content, _VOTE_COLUMNS):
                try:
                    votes.append([_parse_vote(row, name) for name in VOTES])
                    usages.append(row["Usage"])
                    row_numbers.append(_number_in(row["Image name"]))
                except ValueError as problem:
                    raise ValueError(f"line {row.line}: {problem}") from None
    except DataError:
        raise
    except ValueError as problem:
        raise DataError(f"{path}: {problem}; copy FER+'s fer2013new.csv again") from None
    except DAMAGE as problem:
        reason = problem if str(problem) else type(problem).__name__
        raise DataError(f"{path}: damaged ({reason}); copy FER+'s fer2013new.csv again") from None
    return _VoteTable(usages, row_numbers, np.array(votes, np.uint8).reshape(-1, len(VOTES)))


def _parse_vote(row: Row, column: str) -> int:
    """Raises ValueError that names the column."""
    text = row[column]
    if text not in _VOTE_OF_TEXT:
        raise ValueError(f"column {column!r}: {shorten(text)!r} is not 0 to {_VOTERS}")
    return _VOTE_OF_TEXT[text]


def _number_in(name: str) -> int | None:
    match = re.search(r"(\d+)", name)
    return int(match.group(1)) if match else None


def _rows_of_votes(dataset: Dataset, row_numbers: Sequence[int | None], path: Path) -> list[int]:
    """For each row of the dataset the row of FER+'s file that names it. Raises DataError where one
    is missing.
    """
    position = {number: i for i, number in enumerate(row_numbers) if number is not None}
    csv_rows = dataset.row_numbers.tolist()
    missing = [row for row in csv_rows if row not in position]
    if missing:
        count = f"{len(missing)} rows"
        raise DataError(
            f"{path}: no votes for row {missing[0]} ({count}); give FER+'s fer2013new.csv"
        )
    return [position[row] for row in csv_rows]
