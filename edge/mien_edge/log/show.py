"""`mien-edge logs`: the on-device log for people and programs."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mien_edge import formats
from mien_edge.errors import SettingsError
from mien_edge.events import Event
from mien_edge.labels import LABELS
from mien_edge.log import reader
from mien_edge.log.minutes import NONE
from mien_edge.log.reader import Filter
from mien_edge.values import Reading

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BAR = 40
_HOUR = 3600
READING = "reading"  # the kind of all readings; any other kind is an event's


def moment(text: str, now: float) -> float:
    """Seconds since 1970 for '90s', '15m', '1h', '7d', '2w' before `now`, or an ISO 8601 date or time (local if it
    names no zone). Raises SettingsError for anything else.
    """
    ago = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if ago:
        return now - float(ago[1]) * _UNITS[ago[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise SettingsError(f"{text!r} is no time; write 1h, 7d, 2026-01-31 or 2026-01-31T12:00") from None


def lines(path: Path, wanted: Filter, form: str, kind: str | None = None) -> Iterator[str]:
    """Entries oldest first; `form` is 'text', 'json' or 'csv'. Events are among them in text, where no label and no
    face is asked for, and in JSON where `kind` names theirs, or is 'event' for all.
    """
    yield from _header(form)
    connection = reader.open_to_read(path)
    entries = sorted(_entries(connection, wanted, form, kind), key=lambda entry: entry[0])
    connection.close()
    yield from (text for _, text, _ in entries)


def follow(path: Path, wanted: Filter, form: str, kind: str | None = None, pause: float = 0.5) -> Iterator[str]:
    """Entries since `wanted.since` (0: from now on), and then as they are committed, without end. It follows a log
    that is begun anew.
    """
    yield from _header(form)
    log, after, fresh = "", {READING: 0, "event": 0}, not wanted.since
    while True:
        connection = reader.open_to_read(path)
        if reader.name(connection) != log:
            found = {READING: reader.newest(connection, "readings"), "event": reader.newest(connection, "events")}
            log, after, fresh = reader.name(connection), found if fresh else dict.fromkeys(found, 0), False
        for _, text, (sort, number) in sorted(
            _entries(connection, wanted, form, kind, after), key=lambda each: each[0]
        ):
            after[sort] = max(after[sort], number)
            yield text
        connection.close()
        time.sleep(pause)


def _entries(
    connection: Any, wanted: Filter, form: str, kind: str | None, after: dict[str, int] | None = None
) -> Iterator[tuple[float, str, tuple[str, int]]]:
    """(time, text, (sort, id)); readings before events of the same log."""
    after = after or {READING: 0, "event": 0}
    if kind in (None, READING):
        for number, reading in reader.readings(connection, _after(wanted, after[READING])):
            yield reading.time, _formatted(reading, form), (READING, number)
    if _has_events(wanted, form, kind):
        of_kind = None if kind in (None, "event") else kind
        for event in reader.events(connection, _after(wanted, after["event"]), of_kind):
            yield event.time, _event(event, form), ("event", event.id)


def _after(wanted: Filter, number: int) -> Filter:
    return Filter(wanted.since, wanted.until, wanted.label, wanted.track, number)


def _has_events(wanted: Filter, form: str, kind: str | None) -> bool:
    if form == "csv" or kind == READING:
        return False
    return kind is not None or (form == "text" and wanted.label is None and wanted.track is None)


def _header(form: str) -> list[str]:
    return [formats.csv_line(formats.CSV_COLUMNS).rstrip("\n")] if form == "csv" else []


def _event(event: Event, form: str) -> str:
    if form == "json":
        return json.dumps(formats.event_as_dict(event))
    clock = time.strftime("%H:%M:%S", time.localtime(event.time))
    return f"{clock}  * {event.kind}: {event.text}"


def _formatted(reading: Reading, form: str) -> str:
    if form == "json":
        return json.dumps(formats.as_dict(reading))
    if form == "csv":
        return formats.csv_line(formats.csv_row(reading)).rstrip("\n")
    return formats.line(reading)


@dataclass(frozen=True, slots=True)
class HourSummary:
    """The faces of an hour. The field names are the JSON keys.

    hour: its start, ISO 8601 in UTC.
    face_minutes: minutes that faces were seen, those of several faces added up.
    faces: the most faces in one frame.
    shares: the share of each label and of 'none' in the face-minutes, 0..1.
    """

    hour: str
    face_minutes: float
    faces: int
    shares: dict[str, float]

    @property
    def start(self) -> datetime:
        """The start as a time in UTC."""
        return datetime.fromisoformat(self.hour.replace("Z", "+00:00"))


def summary(path: Path, wanted: Filter) -> list[HourSummary]:
    """Return the hours with faces between the filter's times, oldest first. Raises SinkError if there is no log."""
    connection = reader.open_to_read(path)
    found = reader.read_minutes(connection, wanted.since, wanted.until, _HOUR)
    connection.close()
    return [
        HourSummary(formats.iso(span.time), round(span.face_seconds / 60, 2), span.faces, span.shares())
        for span in found
    ]


def summary_text(rows: list[HourSummary]) -> str:
    """The summary as bars: one letter per 2.5 %."""
    letters = dict(zip((*LABELS, NONE), "ADFHSUN.", strict=True))
    lines = ["A angry  D disgust  F fear  H happy  S sad  U surprise  N neutral  . no label"]
    for row in rows:
        bar = "".join(letters[label] * count for label, count in _cells(row.shares))
        local = row.start.astimezone()
        most = f"{row.faces} at most" if row.faces != 1 else "one face"
        lines.append(f"{local:%Y-%m-%d %H}:00  {bar:<{_BAR}}  {row.face_minutes:>7.1f} face-minutes, {most}")
    return "\n".join(lines)


def _cells(parts: dict[str, float]) -> list[tuple[str, int]]:
    """Whole cells of a bar, _BAR in all, by largest remainders."""
    exact = {label: share * _BAR for label, share in parts.items()}
    cells = {label: int(value) for label, value in exact.items()}
    rest = round(sum(exact.values())) - sum(cells.values())
    for label in sorted(exact, key=lambda each: cells[each] - exact[each])[:rest]:
        cells[label] += 1
    return list(cells.items())
