"""Readings and events as dictionaries, CSV and lines of text; needs no NumPy."""

import csv
import io
import time
from typing import Any

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


def line(reading: Reading) -> str:
    """A reading for people."""
    clock = time.strftime("%H:%M:%S", time.localtime(reading.time))
    confidence = f"{reading.emotion.confidence:4.0%}" if reading.emotion else "    "
    verdict = reading.label or f"({reading.quality})"
    name = f"{reading.source}  " if reading.source else ""
    return f"{clock}  {name}face {reading.track}  {verdict:<13} {confidence}  {reading.model}"


CSV_COLUMNS = (
    "time", "source", "frame", "track", "label", "confidence", "quality", "x", "y", "width", "height", *LABELS, "model",
)  # fmt: skip


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
