"""Readings as lines: CSV, and JSON (jsonlines.org)."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from mien_edge.export.textfile import LineFile, LineFormat, first_line
from mien_edge.formats import (
    READING_KEYS,
    columns,
    csv_line,
    csv_row,
    labels_of_columns,
    reading_line,
)
from mien_edge.labels import LABELS
from mien_edge.values import Reading


def csv_format(labels: Iterable[str] = LABELS) -> LineFormat:
    """Return the format of a CSV file with the columns of readings of these labels."""
    names = columns(labels)
    return LineFormat(
        header=csv_line(names),
        is_line=lambda line: len(_cells(line)) == len(names),
        is_sibling=lambda line: labels_of_columns(_cells(line)) is not None,
    )


def csv_format_of(path: Path) -> LineFormat:
    """Return the format of a CSV file of readings, whatever labels those have; `csv_format` for any
    other file. Raises OSError.
    """
    labels = labels_of_columns(_cells(first_line(path).rstrip("\n")))
    return csv_format() if labels is None else csv_format(labels)


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line]), [])
    except csv.Error:  # longer than a cell may be
        return []


def _is_json(line: str) -> bool:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and set(content) == READING_KEYS


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
    """Writes each reading as one row with the columns of formats.columns.

    file: with the format csv_format(labels), closed at the end.
    labels: of the readings. Where a reading has others, as after a change of the model, the file is
        to begin anew with columns for these.
    """

    def __init__(self, file: LineFile, labels: Iterable[str] = LABELS) -> None:
        self._output = file
        self._labels = frozenset(labels)
        self._columns = columns(labels)

    def __call__(self, readings: tuple[Reading, ...]) -> None:
        """Write the readings of a frame. Raises SinkError."""
        for reading in readings:
            labels = reading.emotion.labels if reading.emotion else ()
            if not self._labels.issuperset(labels):
                self._begin_anew(labels)
            self._output.write(csv_line(csv_row(reading, self._columns)))

    def _begin_anew(self, labels: tuple[str, ...]) -> None:
        self._output.begin_anew(csv_format(labels))
        self._labels = frozenset(labels)
        self._columns = columns(labels)

    def close(self) -> None:
        """Close the output."""
        self._output.close()
