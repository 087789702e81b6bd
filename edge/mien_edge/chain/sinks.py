"""Where readings go: a sink takes the readings of each frame, never pixels, and is closed once."""

import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from mien_edge import files
from mien_edge.errors import SinkError
from mien_edge.formats import CSV_COLUMNS, as_dict, csv_line, csv_row, line
from mien_edge.values import Reading

MAX_BYTES = 10_000_000
"""Largest size of a file that readings are written to."""

MAX_FILES = 5
"""Number of such files that are kept, the current one included."""

_REPEAT_SECONDS = 1.0  # after which the console prints a face again
_MAX_LINE_BYTES = 65536  # a reading takes some 400


class Console:
    """Prints a line when a face's label or quality changes, once a second for a face that stays,
    and when no face is left.

    out: a text stream; None for standard output.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._printed: dict[int, tuple[float, str]] = {}
        self._was_empty = False

    def __call__(self, readings: tuple[Reading, ...]) -> None:
        """Print what has changed."""
        if not readings and not self._was_empty:
            self._print("no face")
        self._was_empty = not readings
        for reading in readings:
            self._print_reading(reading)

    def _print_reading(self, reading: Reading) -> None:
        verdict = reading.label or f"({reading.quality})"
        printed_at, printed_verdict = self._printed.get(reading.track, (float("-inf"), ""))
        is_due = abs(reading.source_time - printed_at) >= _REPEAT_SECONDS
        if verdict != printed_verdict or is_due:
            self._printed[reading.track] = (reading.source_time, verdict)
            self._print(line(reading))

    def _print(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()

    def close(self) -> None:
        """Do nothing: the stream is not the console's own."""


class RotatingFile:
    """A text file of bounded size: a full FILE becomes FILE.1, FILE.1 becomes FILE.2, and so on.

    max_bytes: largest size of one file.
    max_files: number of files, FILE included; the oldest is deleted.
    header: first line of each file.

    Lines are whole: one that could not be written in full is cut off again. Raises SinkError if the
    file cannot be opened or holds something else.
    """

    def __init__(
        self,
        path: Path,
        max_bytes: int = MAX_BYTES,
        max_files: int = MAX_FILES,
        header: str = "",
    ) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.max_files = max(max_files, 1)
        self.header = header
        try:
            files.make_folder(path.parent)
            self._remove_partial_line()
            self._open()
        except SinkError:
            raise
        except OSError as problem:
            reason = problem.strerror
            raise SinkError(f"{path}: cannot be written ({reason}); choose another file") from None

    def _remove_partial_line(self) -> None:
        """Cut off the part of a line that a power cut left at the end."""
        if not self.path.is_file():
            return
        with self.path.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(size - _MAX_LINE_BYTES, 0)
            file.seek(start)
            tail = file.read()
            end_of_lines = tail.rfind(b"\n") + 1
            if tail and not end_of_lines:
                raise SinkError(f"{self.path}: not a file of mien's readings; choose another file")
            if end_of_lines != len(tail):
                file.truncate(start + end_of_lines)

    def _open(self) -> None:
        self._file = self.path.open("ab", buffering=0)
        if self._file.tell() == 0 and self.header:
            self._file.write(self.header.encode())

    def write(self, text: str) -> None:
        """Append `text`, which ends with a line break. Raises SinkError, as on a full disk."""
        data = text.encode()
        try:
            self._rotate_if_full(len(data))
            self._append(data)
        except OSError as problem:
            reason = problem.strerror
            raise SinkError(f"{self.path}: cannot be written ({reason}); free some space") from None

    def _append(self, data: bytes) -> None:
        start = self._file.tell()
        if self._file.write(data) != len(data):
            self._file.truncate(start)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _rotate_if_full(self, added_bytes: int) -> None:
        size = self._file.tell()
        has_lines = size > len(self.header.encode())
        if has_lines and size + added_bytes > self.max_bytes:
            self._rotate()

    def _rotate(self) -> None:
        self._file.close()
        for number in range(self.max_files - 1, 0, -1):
            newer = self._numbered(number - 1)
            if newer.exists():
                newer.replace(self._numbered(number))
        if self.max_files == 1:
            self.path.unlink()
        self._open()

    def _numbered(self, number: int) -> Path:
        """Return FILE for 0, and FILE.number for the older ones."""
        if number == 0:
            return self.path
        return self.path.with_name(f"{self.path.name}.{number}")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _do_nothing() -> None:
    """Close nothing."""


def _print_at_once(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


class JsonLines:
    """Writes each reading as one line of JSON (formats.as_dict).

    write: called with whole lines.
    close: called at the end.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        close: Callable[[], None] = _do_nothing,
    ) -> None:
        self._write = write
        self._close = close

    @classmethod
    def to_file(
        cls,
        path: Path,
        max_bytes: int = MAX_BYTES,
        max_files: int = MAX_FILES,
    ) -> "JsonLines":
        """Return a sink that writes to a RotatingFile. Raises SinkError."""
        file = RotatingFile(path, max_bytes, max_files)
        return cls(file.write, file.close)

    @classmethod
    def to_stdout(cls) -> "JsonLines":
        """Return a sink that prints, and flushes after each frame."""
        return cls(_print_at_once)

    def __call__(self, readings: tuple[Reading, ...]) -> None:
        """Write the readings of a frame. Raises SinkError."""
        if readings:
            self._write("".join(json.dumps(as_dict(reading)) + "\n" for reading in readings))

    def close(self) -> None:
        """Close the file."""
        self._close()


class Csv:
    """Writes each reading as one row to a RotatingFile whose header is formats.CSV_COLUMNS.

    Raises SinkError.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> None:
        self._file = RotatingFile(path, max_bytes, max_files, csv_line(CSV_COLUMNS))

    def __call__(self, readings: tuple[Reading, ...]) -> None:
        """Write the readings of a frame. Raises SinkError."""
        if readings:
            self._file.write("".join(csv_line(csv_row(reading)) for reading in readings))

    def close(self) -> None:
        """Close the file."""
        self._file.close()
