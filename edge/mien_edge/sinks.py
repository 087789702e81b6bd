"""Where readings go. A sink is called with the readings of each frame and closed at the end; it never sees pixels."""

import csv
import io
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from mien_edge.errors import SinkError
from mien_edge.labels import LABELS
from mien_edge.values import Reading


def as_dict(reading: Reading) -> dict[str, Any]:
    """A reading as plain values for JSON; times are ISO 8601 in UTC, boxes whole pixels, scores four digits."""
    emotion = reading.emotion
    return {
        "time": iso(reading.time),
        "source": reading.source,
        "frame": reading.frame,
        "track": reading.track,
        "label": reading.label,
        "confidence": None if emotion is None else round(emotion.confidence, 4),
        "quality": reading.quality,
        "box": [round(value) for value in reading.box],
        "scores": None
        if emotion is None
        else dict(zip(emotion.labels, (round(s, 4) for s in emotion.scores), strict=True)),
        "model": reading.model,
    }


def event_as_dict(event: dict[str, Any]) -> dict[str, Any]:
    """An event of the log as plain values for JSON: time (ISO 8601 in UTC), kind, text."""
    return {"time": iso(event["time"]), "kind": event["kind"], "text": event["text"]}


def iso(seconds: float) -> str:
    """2026-01-31T12:00:00.000Z for seconds since 1970."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"


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


def line(reading: Reading) -> str:
    """A reading for people."""
    clock = time.strftime("%H:%M:%S", time.localtime(reading.time))
    confidence = f"{reading.emotion.confidence:4.0%}" if reading.emotion else "    "
    verdict = reading.label or f"({reading.quality})"
    name = f"{reading.source}  " if reading.source else ""
    return f"{clock}  {name}face {reading.track}  {verdict:<13} {confidence}  {reading.model}"


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


CSV_COLUMNS = (
    "time", "source", "frame", "track", "label", "confidence", "quality", "x", "y", "width", "height", *LABELS, "model",
)  # fmt: skip


class Csv:
    """One row per reading, into a rotated file with a header."""

    def __init__(self, path: Path, most: int = 10_000_000, keep: int = 5) -> None:
        self._file = Rotated(path, most, keep, csv_line(CSV_COLUMNS))

    def __call__(self, readings: tuple[Reading, ...]) -> None:
        """Write the readings of a frame."""
        if readings:
            self._file.write("".join(csv_line(csv_row(as_dict(reading))) for reading in readings))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def csv_row(values: dict[str, Any]) -> list[Any]:
    """The cells of `as_dict`'s result in the order of CSV_COLUMNS; empty where there is no emotion."""
    flat = {
        **values,
        **dict(zip(("x", "y", "width", "height"), values["box"], strict=True)),
        **(values["scores"] or {}),
    }
    return ["" if flat.get(column) is None else flat[column] for column in CSV_COLUMNS]


def csv_line(cells: Any) -> str:
    """Cells as one line of CSV (RFC 4180, but with a plain line break)."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
