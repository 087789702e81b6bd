"""Where readings go. A sink is called with the readings of each frame and closed at the end; it never sees pixels."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from mien_edge.errors import SinkError
from mien_edge.formats import CSV_COLUMNS, as_dict, csv_line, csv_row, line
from mien_edge.values import Reading


class Console:
    """One line for a face whose label or quality changed, once a second for one that stays, and when all are gone."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._told: dict[int, tuple[float, str]] = {}
        self._was_empty = False

    def __call__(self, readings: tuple[Reading, ...]) -> None:
        """Print what is new."""
        if not readings and not self._was_empty:
            self._print("no face")
        self._was_empty = not readings
        for reading in readings:
            verdict = reading.label or f"({reading.quality})"
            then, old = self._told.get(reading.track, (-1e9, ""))
            if verdict != old or abs(reading.time - then) >= 1:
                self._told[reading.track] = reading.time, verdict
                self._print(line(reading))

    def _print(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()

    def close(self) -> None:
        """Nothing to close."""


_LONGEST_LINE = 65536  # bytes; a reading takes some 400


class Rotated:
    """A text file of at most `most` bytes; full, it becomes FILE.1, FILE.1 becomes FILE.2 …, `keep` files in all.

    Lines are whole: one that could not be written in full is cut off again. Raises SinkError if the file cannot be
    opened or written.
    """

    def __init__(self, path: Path, most: int = 10_000_000, keep: int = 5, header: str = "") -> None:
        self.path, self.most, self.keep, self.header = path, most, max(keep, 1), header
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._mend()
            self._open()
        except SinkError:
            raise
        except OSError as problem:
            raise SinkError(f"{path}: cannot be written ({problem.strerror}); choose another file") from None

    def _mend(self) -> None:
        """Cut off a half line that a power cut left behind."""
        if not self.path.is_file():
            return
        with self.path.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(size - _LONGEST_LINE, 0)
            file.seek(start)
            tail = file.read()
            whole = tail.rfind(b"\n") + 1
            if tail and not whole:
                raise SinkError(f"{self.path}: not a file of mien's readings; choose another file")
            if whole != len(tail):
                file.truncate(start + whole)

    def _open(self) -> None:
        self._file = self.path.open("ab", buffering=0)
        if self._file.tell() == 0 and self.header:
            self._file.write(self.header.encode())

    def write(self, text: str) -> None:
        """Append `text`, which ends with a line break."""
        data = text.encode()
        try:
            start = self._file.tell()
            if start + len(data) > self.most and start > len(self.header.encode()):
                self._rotate()
                start = self._file.tell()
            if self._file.write(data) != len(data):
                self._file.truncate(start)
                raise OSError(28, "no space left")
        except OSError as problem:
            raise SinkError(f"{self.path}: cannot be written ({problem.strerror}); free some space") from None

    def _rotate(self) -> None:
        self._file.close()
        for number in range(self.keep - 1, 0, -1):
            source = self.path if number == 1 else self._numbered(number - 1)
            if source.exists():
                source.replace(self._numbered(number))
        if self.keep == 1:
            self.path.unlink()
        self._open()

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class JsonLines:
    """One JSON object per reading and line, into a rotated file or a stream."""

    def __init__(self, write: Callable[[str], Any], close: Callable[[], None] = lambda: None) -> None:
        self._write, self.close = write, close

    @classmethod
    def to_file(cls, path: Path, most: int = 10_000_000, keep: int = 5) -> "JsonLines":
        """Into `path`, rotated and bounded."""
        file = Rotated(path, most, keep)
        return cls(file.write, file.close)

    def __call__(self, readings: tuple[Reading, ...]) -> None:
        """Write the readings of a frame."""
        if readings:
            self._write("".join(json.dumps(as_dict(reading)) + "\n" for reading in readings))


class Csv:
    """One row per reading, into a rotated file with a header."""

    def __init__(self, path: Path, most: int = 10_000_000, keep: int = 5) -> None:
        self._file = Rotated(path, most, keep, csv_line(CSV_COLUMNS))

    def __call__(self, readings: tuple[Reading, ...]) -> None:
        """Write the readings of a frame."""
        if readings:
            self._file.write("".join(csv_line(csv_row(reading)) for reading in readings))

    def close(self) -> None:
        """Close the file."""
        self._file.close()
