"""Readings as lines: CSV, and JSON (jsonlines.org)."""

import csv
import json
from typing import Protocol

from mien_edge.export.textfile import LineFormat
from mien_edge.formats import CSV_COLUMNS, READING_KEYS, csv_line, csv_row, reading_line
from mien_edge.values import Reading


def _is_csv(line: str) -> bool:
    return len(next(csv.reader([line]), [])) == len(CSV_COLUMNS)


def _is_json(line: str) -> bool:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and set(content) == READING_KEYS


CSV = LineFormat(csv_line(CSV_COLUMNS), _is_csv)
JSON_LINES = LineFormat("", _is_json)


class Output(Protocol):
    """Where lines go: a textfile.LineFile, or standard output."""

    def write(self, text: str) -> object: ...

    def close(self) -> None: ...


class JsonLines:
    """Writes each reading as one line of JSON (formats.reading_line). Closes `output`."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def __call__(self, readings: tuple[Reading, ...]) -> None:
        """Write the readings of a frame. Raises SinkError."""
        if readings:
            self._output.write("".join(reading_line(reading) + "\n" for reading in readings))

    def close(self) -> None:
        """Close the output."""
        self._output.close()


class Csv:
    """Writes each reading as one row; the header is `output`'s (CSV). Closes `output`."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def __call__(self, readings: tuple[Reading, ...]) -> None:
        """Write the readings of a frame. Raises SinkError."""
        if readings:
            self._output.write("".join(csv_line(csv_row(reading)) for reading in readings))

    def close(self) -> None:
        """Close the output."""
        self._output.close()
