"""Text files and tables as people's programs write them, on Linux, Windows and Mac.

Read are UTF-8 with or without a byte order mark, and UTF-16 (The Unicode Standard, 3.10); lines may
end in LF, CR LF or CR. Line numbers begin with 1, as an editor shows them.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO, cast

from mien_edge.errors import MienError
from mien_edge.text import encodable

_ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks, and how what follows is encoded."""

_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # what surrogateescape (PEP 383) makes of a byte
_MAX_CELL = 1 << 20  # characters; a picture of FER2013 has at most 9,216
_SHOWN = 60  # characters of a value or a header that a message repeats
_SEPARATORS = {";": "semicolons", "\t": "tabs"}


def open_lines(raw: IO[bytes]) -> io.TextIOWrapper:
    """Return the text of a binary stream, whose lines all end in a line feed.

    A byte that is not UTF-8 stands in it as a surrogate (surrogateescape), so that whoever reads
    its line can name it. Reading raises UnicodeDecodeError for UTF-16 that is cut off.
    """
    buffered = io.BufferedReader(cast(io.RawIOBase, raw))
    return io.TextIOWrapper(buffered, _encoding(buffered.peek(3)), errors="surrogateescape")


def _encoding(start: bytes) -> str:
    for mark, encoding in _ENCODINGS:
        if start.startswith(mark):
            return encoding
    return "utf-8"


def has_byte_order_mark(content: bytes) -> bool:
    """Whether a file's content begins with a byte order mark."""
    return any(content.startswith(mark) for mark, _ in _ENCODINGS)


def read_text(path: Path, error: type[MienError], advice: str) -> str:
    """Return the text of a file.

    advice: what to do where there is no such file.

    Raises `error`, which names the file, and the line that is not UTF-8; nothing of the content.
    """
    try:
        content = path.read_bytes()
    except OSError as problem:
        reason = problem.strerror or problem
        if isinstance(problem, PermissionError):
            advice = "run this as a user who may read it, or with sudo"
        if isinstance(problem, IsADirectoryError):
            advice = "name a file"
        raise error(f"{path}: cannot be read ({reason}); {advice}") from None
    return decode(content, str(path), error)


def decode(content: bytes, name: str, error: type[MienError]) -> str:
    """Return the text of a file's content; raises `error`, which begins with `name`, as `read_text`
    does.
    """
    try:
        text = open_lines(io.BytesIO(content)).read()
    except UnicodeDecodeError:
        raise error(f"{name}: UTF-16 that is cut off; save it as UTF-8") from None
    byte = _NOT_UTF8.search(text)
    if byte:
        line = text.count("\n", 0, byte.start()) + 1
        raise error(f"{name}: line {line} is not UTF-8; save it as UTF-8")
    return text


def is_hidden(path: PurePath) -> bool:
    """Whether a relative path is, or lies in, what a system puts beside people's files: a name that
    begins with a dot, as ._a.jpg (AppleDouble, RFC 1740) and .DS_Store, or macOS' __MACOSX.
    """
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table; `row["column"]` is a value of it.

    line: the line that it begins on.
    """

    line: int
    _cells: Sequence[str]
    _indices: Mapping[str, int]

    def __getitem__(self, column: str) -> str:
        """Return a value without the blanks around it.

        column: one of those that the table was read with. Raises ValueError, which says what is
        wrong, where the row is too short, or the value is not UTF-8.
        """
        index = self._indices[column]
        if index >= len(self._cells):
            needed = max(self._indices.values()) + 1
            raise ValueError(f"{len(self._cells)} columns where {needed} are needed")
        value = self._cells[index].strip()
        if _NOT_UTF8.search(value):
            raise ValueError(f"column {column!r} is not UTF-8; save the file as UTF-8")
        return value


class Table:
    """The rows of a CSV file (RFC 4180) below its header; blank rows are left out.

    lines: as of `open_lines`.
    columns: the names that the header must have, in any case and order, blanks around them aside;
        it may have others.

    Iterate once. Raises ValueError, which says what is wrong and in which line, for a header that
    lacks a column or has it twice, and for a quotation mark that is not closed.
    """

    def __init__(self, lines: Iterable[str], columns: Sequence[str]) -> None:
        csv.field_size_limit(_MAX_CELL)
        self._reader = csv.reader(lines)
        self._rows = self._read()
        line, header = next(self._rows, (1, []))
        names = [name.strip().lower() for name in header]
        self._indices = {}
        for column in columns:
            count = names.count(column.lower())
            if count != 1:
                raise ValueError(_header_problem(line, header, column, count))
            self._indices[column] = names.index(column.lower())

    def __iter__(self) -> Iterator[Row]:
        for line, cells in self._rows:
            yield Row(line, cells, self._indices)

    def _read(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the rows that are not blank, with the line that each begins on."""
        line = 1
        try:
            for cells in self._reader:
                if any(map(str.strip, cells)):
                    yield line, cells
                line = self._reader.line_num + 1
        except csv.Error as problem:
            text = f"line {line}: a cell without an end ({problem}); close its quotation mark"
            raise ValueError(text) from None
        except UnicodeDecodeError:
            raise ValueError(f"line {line}: UTF-16 that is cut off; save it as UTF-8") from None


def _header_problem(line: int, header: list[str], column: str, count: int) -> str:
    if count:
        return f"line {line} names the column {column!r} {count} times"
    for separator, name in _SEPARATORS.items():
        if any(separator in cell for cell in header):
            return f"line {line}: its cells are separated by {name}; save it with commas"
    if not header:
        return "it is empty"
    shown = shorten(", ".join(header))
    return f"line {line} names no column {column!r}, but {shown!r}"


def shorten(value: str) -> str:
    """Return what a message repeats of a value: at most 60 characters."""
    text = encodable(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
