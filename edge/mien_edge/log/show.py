"""`mien-edge logs`: the on-device log for people and programs."""

import heapq
import json
import re
import select
import sqlite3
import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from operator import attrgetter
from pathlib import Path

from mien_edge import formats
from mien_edge.errors import SettingsError
from mien_edge.events import Event
from mien_edge.labels import LABELS, NONE
from mien_edge.log import distributions, ids, reader
from mien_edge.log.hours import QUARTER, by_local_hour
from mien_edge.log.reader import Filter
from mien_edge.schema import to_dict
from mien_edge.text import printable
from mien_edge.values import Reading

READING = "reading"  # the kind of all readings
EVENT = "event"  # the kind of all events; any other kind is that of some events

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}  # seconds
_NAMED_SOURCES = 5  # in an error
_BAR_WIDTH = 40  # characters
_BAR_LETTERS = dict(zip((*LABELS, NONE), "ADFHSUN.", strict=True))
_MORE_LETTERS = string.ascii_uppercase + string.digits + string.ascii_lowercase
_LAST_LETTER = "#"  # of all labels for which no other is left


def moment(text: str, now: float) -> float:
    """Return the time that a user wrote, in seconds since 1970.

    text: '90s', '15m', '1h', '7d' or '2w' for so long before `now` (seconds since 1970), or an
    ISO 8601 date or time, local if it names no zone. Raises SettingsError for anything else."""
    ago = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if ago:
        return now - float(ago[1]) * _UNITS[ago[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        examples = "1h, 7d, 2026-01-31 or 2026-01-31T12:00"
        raise SettingsError(f"{text!r} is no time; write {examples}") from None


@dataclass(frozen=True, slots=True)
class _Entry:
    """A reading or an event of the log with its id, as it is printed."""

    kind: str  # READING or EVENT
    id: int
    time: float
    text: str


def lines(path: Path, selection: Filter, form: str, kind: str | None = None) -> Iterator[str]:
    """Yield entries oldest first, as lines without a line break.

    form: 'text', 'json' or 'csv' (with a header).
    kind: 'reading', 'event' for all events, or a kind of event; None for all readings, and in text
    for the events too where the selection names neither label, track nor source. CSV has no events.

    Raises SinkError if there is no log.
    """
    connection = reader.open_to_read(path)
    try:
        printer = _Printer(connection, form)
        yield from printer.header()
        for entry in _merged_entries(connection, selection, selection, printer, kind):
            yield entry.text
    finally:
        connection.close()


def follow(
    path: Path,
    selection: Filter,
    form: str,
    kind: str | None = None,
    pause: float = 0.5,
    output: int | None = None,
) -> Iterator[str]:
    """Yield entries as `lines` does, and then those that are committed later; another header of CSV
    before a reading with a label that the one before lacks.

    selection: with `since` 0 it begins with what comes from now on.
    pause: seconds between two looks at the log.
    output: the file descriptor that the lines are for: it ends once nobody can read there, also
    where nothing is written, as over an SSH connection that was lost; None for without end.

    Raises SinkError if there is no log.
    """
    poll = select.poll()
    if output is not None:
        poll.register(output, 0)  # the kernel tells errors and hang-ups unasked, poll(2)
    follower = _LogFollower(path, selection, form, kind)
    is_read = True
    while is_read:
        yield from follower.read_new()
        is_read = not poll.poll(pause * 1000)


class _LogFollower:
    """Reads what was committed since the last look. Where the log is replaced by another, it
    goes on with that from its first entry."""

    def __init__(self, path: Path, selection: Filter, form: str, kind: str | None) -> None:
        self.path = path
        self.selection = selection
        self.form = form
        self.kind = kind
        self._printer: _Printer | None = None
        self._log_name = ""
        self._last_reading = 0
        self._last_event = 0

    def read_new(self) -> Iterator[str]:
        """Yield the new entries, oldest first. Raises SinkError if there is no log."""
        connection = reader.open_to_read(self.path)
        try:
            self._attach(connection)
            if self._printer is None:
                self._printer = _Printer(connection, self.form)
                yield from self._printer.header()
            readings = replace(self.selection, after=self._last_reading)
            events = replace(self.selection, after=self._last_event)
            for entry in _merged_entries(connection, readings, events, self._printer, self.kind):
                self._move_past(entry)
                yield entry.text
        finally:
            connection.close()

    def _move_past(self, entry: _Entry) -> None:
        if entry.kind == READING:
            self._last_reading = max(self._last_reading, entry.id)
        else:
            self._last_event = max(self._last_event, entry.id)

    def _attach(self, connection: sqlite3.Connection) -> None:
        """Choose where to begin in a log that is not the one of the last look."""
        log_name = reader.name(connection)
        if log_name == self._log_name:
            return
        is_first = not self._log_name
        self._log_name = log_name
        self._last_reading = 0
        self._last_event = 0
        if is_first and not self.selection.since:
            self._last_reading = ids.newest(connection, "readings")
            self._last_event = ids.newest(connection, "events")


class _Printer:
    """Entries as lines of one form: 'text', 'json' or 'csv'.

    connection: of the log, whose labels get columns in CSV. Raises sqlite3.Error.
    """

    def __init__(self, connection: sqlite3.Connection, form: str) -> None:
        self.form = form
        self._labels: tuple[str, ...] = ()
        if form == "csv":
            self._labels = distributions.all_labels(connection)

    def header(self) -> list[str]:
        """Return what stands before the entries."""
        if self.form != "csv":
            return []
        return [_csv_line(formats.columns(self._labels))]

    def reading(self, reading: Reading) -> list[str]:
        """Return a reading's line, after a new header if there is no column for a label of it."""
        if self.form == "json":
            return [formats.reading_line(reading)]
        if self.form == "text":
            return [f"{formats.local_time(reading.time)}  {formats.describe(reading)}"]
        labels = reading.emotion.labels if reading.emotion else ()
        header: list[str] = []
        if not set(labels) <= set(self._labels):
            self._labels += labels
            header = self.header()
        return [*header, _csv_line(formats.csv_row(reading, formats.columns(self._labels)))]

    def event(self, event: Event) -> str:
        """Return an event's line; CSV has none."""
        if self.form == "json":
            return formats.event_line(event)
        clock = formats.local_time(event.time)
        return printable(f"{clock}  * {event.kind}: {event.text}")


def _csv_line(cells: Iterable[object]) -> str:
    return formats.csv_line(cells).rstrip("\n")


def _merged_entries(
    connection: sqlite3.Connection,
    readings: Filter,
    events: Filter,
    printer: _Printer,
    kind: str | None,
) -> Iterator[_Entry]:
    """Readings and events, each in the order written, merged by their times; of the same time
    readings before events.

    readings, events: which of each; they differ in `after` only.
    """
    streams: list[Iterator[_Entry]] = []
    if kind in (None, READING):
        streams.append(_reading_entries(connection, readings, printer))
    if _has_events(events, printer.form, kind):
        event_kind = None if kind in (None, EVENT) else kind
        streams.append(_event_entries(connection, events, printer, event_kind))
    return heapq.merge(*streams, key=attrgetter("time"))


def _reading_entries(
    connection: sqlite3.Connection, selection: Filter, printer: _Printer
) -> Iterator[_Entry]:
    for number, reading in reader.readings(connection, selection):
        for line in printer.reading(reading):
            yield _Entry(READING, number, reading.time, line)


def _event_entries(
    connection: sqlite3.Connection, selection: Filter, printer: _Printer, kind: str | None
) -> Iterator[_Entry]:
    for event in reader.events(connection, selection, kind):
        yield _Entry(EVENT, event.id, event.time, printer.event(event))


def _has_events(selection: Filter, form: str, kind: str | None) -> bool:
    if form == "csv" or kind == READING:
        return False
    if kind is not None:
        return True
    filters = (selection.label, selection.track, selection.source)
    return form == "text" and filters == (None, None, None)


def require_source(path: Path, source: str) -> None:
    """Raise SettingsError, which names some that are there, if the log has no reading of a file.

    source: the file's name, as readings have it. Raises SinkError if there is no log.
    """
    connection = reader.open_to_read(path)
    try:
        sources = reader.sources(connection)
    finally:
        connection.close()
    if source in sources:
        return
    some = ", ".join(sources[:_NAMED_SOURCES])
    more = ", …" if len(sources) > _NAMED_SOURCES else ""
    hint = f"it has those of {some}{more}" if sources else "it has those of cameras only"
    raise SettingsError(printable(f"{source}: {path} has no reading of such a file; {hint}"))


@dataclass(frozen=True, slots=True)
class HourSummary:
    """The faces of an hour of the local clock. The field names are the JSON keys.

    hour: its start, ISO 8601 in UTC; where a change of the clock cuts an hour, that of its part.
    face_minutes: minutes that faces were seen, those of several faces added up.
    faces: the most faces in one frame.
    shares: the share of each label and of 'none' in the face-minutes, 0..1. Those of one summary
        are of the same labels: all of the models that ran in its time.
    """

    hour: str
    face_minutes: float
    faces: int
    shares: dict[str, float]

    @property
    def start(self) -> datetime:
        """The start as a time in UTC."""
        return datetime.fromisoformat(self.hour.replace("Z", "+00:00"))


def summary(path: Path, selection: Filter) -> Iterator[HourSummary]:
    """Yield the hours with faces between the selection's times, oldest first.

    selection: its `source` is a video file, or None for cameras and all files; no other filter
        applies. The hours of a file are those in which it was read, its face-minutes its own.

    Raises SinkError if there is no log.
    """
    connection = reader.open_to_read(path)
    try:
        since = selection.since
        until = selection.until
        seen = distributions.labels_of_minutes(connection, since, until)
        labels = seen or distributions.noted_labels(connection)
        quarters = reader.iterate_minutes(connection, since, until, QUARTER, selection.source)
        for span in by_local_hour(quarters):
            yield HourSummary(
                hour=formats.iso(span.time),
                face_minutes=round(span.face_seconds / 60, 2),
                faces=span.faces,
                shares=span.shares(labels),
            )
    finally:
        connection.close()


def summary_lines(hours: Iterable[HourSummary]) -> Iterator[str]:
    """Yield the summary as a legend and one bar per hour, a letter per 2.5 % of the face-minutes;
    in local time. One that says so for no hours.
    """
    letters: dict[str, str] = {}
    for hour in hours:
        if not letters:
            letters = _bar_letters(hour.shares)
            names = {**{label: label for label in letters}, NONE: "no label"}
            yield "  ".join(f"{letter} {names[label]}" for label, letter in letters.items())
        yield _bar_line(hour, letters)
    if not letters:
        yield "no face in that time"


def _bar_letters(labels: Iterable[str]) -> dict[str, str]:
    """A letter per label: one of its name, as long as that is free."""
    names = list(labels)
    letters = {label: letter for label, letter in _BAR_LETTERS.items() if label in names}
    for label in names:
        if label not in letters:
            own = [letter for letter in label.upper() if letter in _MORE_LETTERS]
            free = (letter for letter in (*own, *_MORE_LETTERS) if letter not in letters.values())
            letters[label] = next(free, _LAST_LETTER)
    return {label: letters[label] for label in names}


def summary_json(hours: Iterable[HourSummary]) -> Iterator[str]:
    """Yield the parts of one JSON array."""
    separator = "["
    for hour in hours:
        yield separator + json.dumps(to_dict(hour))
        separator = ", "
    yield "[]" if separator == "[" else "]"


def _bar_line(hour: HourSummary, letters: dict[str, str]) -> str:
    cells = _bar_cells(hour.shares)
    bar = "".join(letters[label] * count for label, count in cells.items())
    faces = "one face" if hour.faces == 1 else f"{hour.faces} at most"
    start = formats.local_time(hour.start.timestamp(), "%Y-%m-%d %H:%M")
    return f"{start}  {bar:<{_BAR_WIDTH}}  {hour.face_minutes:>7.1f} face-minutes, {faces}"


def _bar_cells(shares: dict[str, float]) -> dict[str, int]:
    """Whole characters per label, _BAR_WIDTH in all, by the largest remainders."""
    exact = {label: share * _BAR_WIDTH for label, share in shares.items()}
    cells = {label: int(width) for label, width in exact.items()}
    missing = round(sum(exact.values())) - sum(cells.values())
    by_remainder = sorted(exact, key=lambda label: cells[label] - exact[label])
    for label in by_remainder[:missing]:
        cells[label] += 1
    return cells
