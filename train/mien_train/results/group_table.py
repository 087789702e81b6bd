"""The user's table that says which group of people each picture belongs to."""

import csv
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path, PurePath

import numpy as np
from mien_edge import files
from mien_edge.errors import DataError
from mien_edge.textfiles import Row, Table, open_lines, shorten

from mien_train.arrays import Array
from mien_train.data.read import Dataset

_FILE = "file"
_ROW = "row"
_MAX_GROUPS = 30  # of a column; more are no classes but numbers or names
_MAX_NAMED = 5  # names that a message lists
_NEEDED = (
    f"give a CSV with a column '{_FILE}' (names of pictures) or '{_ROW}' (row numbers of the data, "
    "from 0), and a column for each kind of groups"
)

CROSS = " × "
"""What stands between the names of two columns, and of two groups, that are crossed."""


@dataclass(frozen=True, eq=False)
class GroupTable:
    """The groups of a dataset's n rows.

    name, sha256: of the file. columns: (n,) names of groups by column, '' for a row without.
    unknown: the keys of the table's lines that name no row of the dataset.
    """

    name: str
    sha256: str
    columns: dict[str, Array]
    unknown: tuple[str, ...]

    def with_intersections(self) -> "GroupTable":
        """The table with each pair of its columns as another one."""
        crossed = {
            f"{first}{CROSS}{second}": _cross(self.columns[first], self.columns[second])
            for first, second in combinations(self.columns, 2)
        }
        return GroupTable(self.name, self.sha256, {**self.columns, **crossed}, self.unknown)

    def unknown_as_text(self) -> str:
        """A sentence about the lines that name no picture of the data; '' if there are none."""
        if not self.unknown:
            return ""
        names = ", ".join(map(shorten, self.unknown[:_MAX_NAMED]))
        more = len(self.unknown) - _MAX_NAMED
        rest = f" and {more} more" if more > 0 else ""
        return f"{self.name}: not in the data, and not counted: {names}{rest}"


def read_group_table(path: Path, dataset: Dataset, names: Sequence[str] = ()) -> GroupTable:
    """Read the groups of a dataset's rows from a CSV.

    names: its columns to read; empty for all but that of the pictures. Spellings of a group that
    differ in capitals only are one.

    Raises DataError, which names the line, for a table that cannot be read or is malformed, that
    names no picture of the dataset, a picture twice, or a column with over 30 groups.
    """
    try:
        key, columns = _choose_columns(_header(path), names)
        rows = _rows_by_key(dataset, key)
        values, unknown = _read(path, key, columns, rows, len(dataset))
    except OSError as problem:
        raise DataError(f"{path}: cannot be read ({problem.strerror}); {_NEEDED}") from None
    except ValueError as problem:
        raise DataError(f"{path}: {problem}") from None
    for column, groups in values.items():
        count = len(set(groups.tolist()) - {""})
        if count > _MAX_GROUPS:
            raise DataError(
                f"{path}: the column {column!r} has {count} different values; write classes, such "
                "as 18-39, or name the columns that hold groups with --by"
            )
    return GroupTable(path.name, files.sha256(path), values, unknown)


def _header(path: Path) -> list[str]:
    with path.open("rb") as content:
        cells = next(csv.reader(open_lines(content)), [])
    return [cell.strip() for cell in cells if cell.strip()]


def _choose_columns(header: Sequence[str], names: Sequence[str]) -> tuple[str, list[str]]:
    """The column that names the pictures, and those that hold groups. Raises ValueError."""
    keys = [name for name in header if name.lower() in (_FILE, _ROW)]
    if not keys:
        raise ValueError(f"it has the columns {shorten(', '.join(header))!r}; {_NEEDED}")
    others = [name for name in header if name not in keys]
    for name in names:
        if name not in others:
            raise ValueError(f"it has no column {name!r}; its columns: {', '.join(others)}")
    if not others:
        raise ValueError(f"it has no column with groups; {_NEEDED}")
    return keys[0], list(names or others)


def _rows_by_key(dataset: Dataset, key: str) -> dict[str, int]:
    """The position of each row by what the table may call it. Raises ValueError."""
    if key.lower() == _ROW:
        return {str(number): row for row, number in enumerate(dataset.row_numbers.tolist())}
    if dataset.names is None:
        raise ValueError(f"the data's rows have no file names; name them in a column '{_ROW}'")
    paths = [_normal(str(name)) for name in dataset.names]
    plain = [PurePath(path).name for path in paths]
    rows = {name: row for row, name in enumerate(plain) if plain.count(name) == 1}
    return rows | {path: row for row, path in enumerate(paths)}


def _read(
    path: Path, key: str, columns: Sequence[str], rows: dict[str, int], count: int
) -> tuple[dict[str, Array], tuple[str, ...]]:
    """The groups of each column, and the keys that name no row. Raises ValueError."""
    values = {column: np.full(count, "", object) for column in columns}
    spellings: dict[tuple[str, str], str] = {}
    lines: dict[int, int] = {}
    unknown = []
    for row in _table_rows(path, [key, *columns]):
        name = _normal(row[key])
        position = rows.get(name)
        if position is None:
            unknown.append(name)
            continue
        if position in lines:
            raise ValueError(
                f"line {row.line}: {shorten(name)!r} stands on line {lines[position]} already; "
                "leave one of them"
            )
        lines[position] = row.line
        for column in columns:
            group = _cell(row, column)
            values[column][position] = spellings.setdefault((column, group.casefold()), group)
    if not lines:
        example = next(iter(rows), "")
        raise ValueError(
            f"it names no picture of the data, which calls one {shorten(example)!r}; name them so"
        )
    return values, tuple(unknown)


def _table_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    with path.open("rb") as content:
        yield from Table(open_lines(content), columns)


def _cell(row: Row, column: str) -> str:
    try:
        return " ".join(row[column].split())
    except ValueError as problem:
        raise ValueError(f"line {row.line}: {problem}") from None


def _normal(name: str) -> str:
    """A path as the data's names are written: composed letters (Unicode's NFC), slashes."""
    path = unicodedata.normalize("NFC", name).replace("\\", "/")
    return path.removeprefix("./")


def _cross(first: Array, second: Array) -> Array:
    pairs = zip(first.tolist(), second.tolist(), strict=True)
    return np.array([f"{a}{CROSS}{b}" if a and b else "" for a, b in pairs], object)
