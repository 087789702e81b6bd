"""What each of several people says of photographs: a table beside them, such as votes.csv.

It has the column `file`, and a column for each rater: `emotion` (or `label`) for whoever collected
the photographs, and all whose names begin with `rater`. Other columns are not read.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from mien_edge.errors import DataError
from mien_edge.labels import SYNONYMS
from mien_edge.textfiles import Row, Table, open_lines

from mien_train.data.layouts.manifest import header

NAME = "votes.csv"
"""What the table is called in the photographs' folder."""

RaterVotes = dict[str, tuple[str, ...]]
"""The words of all raters, in the order of their columns, by the name of the photograph; of words
that mean a label, the label.
"""


def find(folder: Path) -> Path | None:
    """The table in a folder of photographs, or None."""
    path = folder / NAME
    return path if len(_rater_columns(path)) > 1 else None


def read(path: Path) -> RaterVotes:
    """Read such a table; an empty cell is no vote.

    Raises DataError that names the line for what is malformed.
    """
    columns = _rater_columns(path)
    if not columns:
        raise DataError(
            f"{path}: no table with the columns file, and emotion or rater_1, rater_2 …; give one"
        )
    votes: RaterVotes = {}
    try:
        with path.open("rb") as content:
            for row in Table(open_lines(content), ["file", *columns]):
                name, words = _read_row(row, columns)
                votes[name] = words
    except ValueError as problem:
        raise DataError(f"{path}: {problem}; correct it") from None
    return votes


def is_unanimous(votes: Iterable[str]) -> bool:
    """Whether at least two raters vote, and all for the same."""
    words = list(votes)
    return len(words) > 1 and len(set(words)) == 1


def _read_row(row: Row, columns: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The photograph's name, and its words. Raises ValueError that names the line."""
    try:
        words = [row[name].lower() for name in columns if row[name]]
        return row["file"], tuple(SYNONYMS.get(word, word) for word in words)
    except ValueError as problem:
        raise ValueError(f"line {row.line}: {problem}") from None


def _rater_columns(path: Path) -> list[str]:
    """The raters' columns; none for what is no such table."""
    names = header(path)
    if "file" not in names:
        return []
    return [name for name in names if name in ("emotion", "label") or name.startswith("rater")]
