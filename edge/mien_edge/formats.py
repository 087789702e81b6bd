"""Readings and events as records for JSON, as CSV and as lines of text; needs no NumPy."""

import csv
import io
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from mien_edge.events import Event
from mien_edge.labels import LABELS, is_label, ordered
from mien_edge.schema import to_dict
from mien_edge.text import printable
from mien_edge.values import Reading


@dataclass(frozen=True, slots=True)
class ReadingRecord:
    """A reading as it leaves the program, in JSON and CSV. The field names are the JSON keys.

    time: ISO 8601 in UTC.
    position: seconds from the first picture of a video file, to three decimals; else None.
    source, frame, track, label, quality, model: as in Reading.
    confidence: probability of the most probable label, to four digits; None without an emotion.
    box: x, y, width and height in whole pixels.
    scores: probability per label, to four digits; None without an emotion.
    """

    time: str = ""
    source: str = ""
    position: float | None = None
    frame: int = 0
    track: int = 0
    label: str | None = None
    confidence: float | None = None
    quality: str = ""
    box: tuple[int, ...] = (0, 0, 0, 0)
    scores: dict[str, float] | None = None
    model: str = ""


READING_KEYS = frozenset({"type", *(field.name for field in fields(ReadingRecord))})
"""The keys of a reading's line of JSON."""


def reading_record(reading: Reading) -> ReadingRecord:
    """Round a reading to what is written of it."""
    confidence = None
    scores = None
    if reading.emotion is not None:
        confidence = round(reading.emotion.confidence, 4)
        rounded = [round(score, 4) for score in reading.emotion.scores]
        scores = dict(zip(reading.emotion.labels, rounded, strict=True))
    return ReadingRecord(
        time=iso(reading.time),
        source=reading.source,
        position=None if reading.position is None else round(reading.position, 3),
        frame=reading.frame,
        track=reading.track,
        label=reading.label,
        confidence=confidence,
        quality=reading.quality,
        box=tuple(round(value) for value in reading.box),
        scores=scores,
        model=reading.model,
    )


def as_dict(reading: Reading) -> dict[str, Any]:
    """Return a reading as plain values for JSON, with the keys of ReadingRecord."""
    return to_dict(reading_record(reading))


def reading_line(reading: Reading) -> str:
    """Return a reading as one line of JSON without a break: its type, then `as_dict`."""
    return typed_line("reading", as_dict(reading))


def event_line(event: Event) -> str:
    """Return an event as one line of JSON without a break: its type, then `event_as_dict`."""
    return typed_line("event", event_as_dict(event))


def typed_line(kind: str, values: dict[str, Any]) -> str:
    """Return values as one line of JSON whose first key, `type`, says what they are."""
    return json.dumps({"type": kind, **values})


def event_as_dict(event: Event) -> dict[str, Any]:
    """Return an event of the log as plain values for JSON: time (ISO 8601 in UTC), kind, text."""
    return {"time": iso(event.time), "kind": event.kind, "text": event.text}


def iso(seconds: float) -> str:
    """Return 2026-01-31T12:00:00.000Z for seconds since 1970."""
    milliseconds = int(seconds % 1 * 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{milliseconds:03d}Z"


def position_text(seconds: float) -> str:
    """Return 0:04.96 for 4.96 seconds of a video, and 1:00:04.96 from an hour on."""
    hundredths = round(seconds * 100)
    minutes, rest = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{clock}:{rest // 100:02d}.{rest % 100:02d}"


def local_time(seconds: float, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return 2026-01-31 13:00:00, the local time of `seconds` since 1970.

    form: of datetime.strftime. The offset from UTC follows, as in 02:30:00+01:00, where the clock
    shows this time twice, for it was set back.
    """
    local = datetime.fromtimestamp(seconds)
    text = local.strftime(form)
    other = local.replace(fold=1 - local.fold)
    if local.timestamp() == other.timestamp():
        return text
    return text + local.astimezone().isoformat(timespec="seconds")[-len("+01:00") :]


def line(reading: Reading) -> str:
    """Return a reading as one line for people, with the local time of day."""
    clock = time.strftime("%H:%M:%S", time.localtime(reading.time))
    return f"{clock}  {describe(reading)}"


def describe(reading: Reading) -> str:
    """Return a reading as `line` does, without its time."""
    confidence = f"{reading.emotion.confidence:4.0%}" if reading.emotion else "    "
    verdict = reading.label or f"({reading.quality})"
    name = f"{reading.source}  " if reading.source else ""
    place = "" if reading.position is None else f"{position_text(reading.position)}  "
    face = f"face {reading.track}  " if reading.track else ""  # none in a photograph without one
    rest = f"{verdict:<13} {confidence}  {reading.model}"
    return printable(f"{name}{place}{face}{rest}")


_FIRST_COLUMNS = (
    "time", "source", "position", "frame", "track", "label", "confidence", "quality",
    "x", "y", "width", "height",
)  # fmt: skip
_LAST_COLUMN = "model"
_SCORES = "scores."


def columns(labels: Iterable[str] = LABELS) -> tuple[str, ...]:
    """Return the columns of a table of readings, with one for the probability of each of `labels`,
    in the order of labels.ordered.
    """
    return (*_FIRST_COLUMNS, *map(score_column, ordered(labels)), _LAST_COLUMN)


def score_column(label: str) -> str:
    """Return the column of a label's probability: its name, after 'scores.' where another column
    has that name.
    """
    is_taken = label in _FIRST_COLUMNS or label == _LAST_COLUMN
    return f"{_SCORES}{label}" if is_taken else label


def labels_of_columns(names: Sequence[str]) -> tuple[str, ...] | None:
    """Return the labels with which `columns` gives these names; None if no labels do."""
    scores = names[len(_FIRST_COLUMNS) : -1]
    labels = tuple(name.removeprefix(_SCORES) for name in scores)
    is_table = all(map(is_label, labels)) and columns(labels) == tuple(names)
    return labels if is_table else None


def reading_values(reading: Reading) -> dict[str, Any]:
    """Return a reading's values by the names of columns; None where there is none."""
    record = reading_record(reading)
    values: dict[str, Any] = to_dict(record)
    values.update(zip(("x", "y", "width", "height"), record.box, strict=True))
    scores = record.scores or {}
    return {
        **{column: values[column] for column in _FIRST_COLUMNS},
        **{score_column(label): score for label, score in scores.items()},
        _LAST_COLUMN: record.model,
    }


def csv_row(reading: Reading, names: Sequence[str]) -> list[Any]:
    """Return the cells of a reading in the order of the columns `names`; empty where there is no
    emotion, no such label in its model or no label, and a position with three decimals.
    """
    values = {**dict.fromkeys(names), **reading_values(reading)}
    if values["position"] is not None:
        values["position"] = f"{values['position']:.3f}"
    return ["" if values[name] is None else values[name] for name in names]


def csv_line(cells: Iterable[Any]) -> str:
    """Return cells as one line of CSV (RFC 4180, but with a plain line break)."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
