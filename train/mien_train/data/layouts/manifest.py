"""A table that names the pictures: manifest.csv, with the columns file and label (or emotion), and
if wanted split, group, and box ('x y width height') or x, y, width, height.

Such as labels.csv beside the photographs that `mien-edge run` scores.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

from mien_edge.errors import DataError
from mien_edge.textfiles import Row, Table, open_lines, shorten
from mien_edge.values import Box

from mien_train.data.layouts.picture import Picture, split_named

NAMES = ("manifest.csv", "labels.csv")
"""What the table is called in a folder; another one is named itself."""

_LABEL_COLUMNS = ("label", "emotion")
_COLUMNS: tuple[str, ...] = ("file", "split", "group", "box")
_CORNERS = ("x", "y", "width", "height")


def find(folder: Path) -> Path | None:
    """The manifest of a folder: NAMES, else its only table with the right columns; or None.

    Raises DataError where several other tables could be it.
    """
    for name in NAMES:
        if is_manifest(folder / name):
            return folder / name
    tables = [path for path in sorted(folder.glob("*.csv")) if is_manifest(path)]
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        raise DataError(f"{folder}: {names} could each name its pictures; give one with --data")
    return tables[0] if tables else None


def is_manifest(path: Path) -> bool:
    """Whether the file is a table with the columns file and label or emotion."""
    names = header(path)
    return "file" in names and any(column in names for column in _LABEL_COLUMNS)


def read(path: Path) -> list[Picture]:
    """The pictures that a manifest names, in its order; paths go from its folder. One without a
    label is doubtful.

    Raises DataError that names the line for what is malformed, and for a file named twice.
    """
    columns = header(path)
    needed = [column for column in _COLUMNS if column in columns]
    needed.append(next(column for column in _LABEL_COLUMNS if column in columns))
    if "box" not in columns and set(_CORNERS) <= set(columns):
        needed += _CORNERS
    pictures: list[Picture] = []
    lines: dict[tuple[str, str], int] = {}
    try:
        with path.open("rb") as content:
            for row in Table(open_lines(content), needed):
                pictures.append(_read_row(path, row, needed, lines))
    except ValueError as problem:
        if isinstance(problem, DataError):
            raise
        raise DataError(f"{path}: {problem}; correct it") from None
    return pictures


def header(path: Path) -> list[str]:
    """The names of a table's columns in lower case; none for what is no readable text."""
    try:
        with path.open("rb") as content:
            cells = next(csv.reader(open_lines(content)), [])
    except (OSError, UnicodeError, csv.Error):
        return []
    return [cell.strip().lower() for cell in cells]


def _read_row(
    table: Path,
    row: Row,
    columns: Sequence[str],
    lines: dict[tuple[str, str], int],
) -> Picture:
    """lines: where each face was named before; this one is added."""
    try:
        picture = _picture(table, row, columns)
        face = (row["file"], str(picture.box))
        if face in lines:
            raise ValueError(f"{shorten(row['file'])!r} stands on line {lines[face]} already")
    except ValueError as problem:
        raise DataError(f"{table}: line {row.line}: {problem}; correct the line") from None
    lines[face] = row.line
    return picture


def _picture(table: Path, row: Row, columns: Sequence[str]) -> Picture:
    """Raises ValueError that says what is wrong with the row."""
    if not row["file"]:
        raise ValueError("it names no file")
    label = row["label" if "label" in columns else "emotion"]
    return Picture(
        path=table.parent / row["file"],
        label=label,
        split=_split(row) if "split" in columns else "",
        group=row["group"] if "group" in columns else "",
        box=_box(row, columns),
        doubt="" if label else f"no label in {table.name}",
    )


def _split(row: Row) -> str:
    name = row["split"]
    split = split_named(name)
    if name and not split:
        raise ValueError(f"the split {shorten(name)!r} is none of train, validation, test")
    return split


def _box(row: Row, columns: Sequence[str]) -> Box | None:
    if "box" in columns:
        cells = row["box"].replace(",", " ").split()
    elif "x" in columns:
        cells = [row[column] for column in _CORNERS if row[column]]
    else:
        cells = []
    if not cells:
        return None
    try:
        box = Box(*map(float, cells))
    except (TypeError, ValueError):
        text = shorten(" ".join(cells))
        raise ValueError(f"the box {text!r} is not x, y, width and height in pixels") from None
    if not box.width > 0 < box.height:
        raise ValueError(f"the box is {box.width} wide and {box.height} high")
    return box
