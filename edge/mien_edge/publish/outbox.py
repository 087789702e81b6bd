"""What is to be published from the log, and how much of it has been.

The log is opened anew for each look, because it may be replaced at any time.
"""

import json
import logging
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from sqlite3 import Connection
from typing import Literal, NamedTuple, Protocol

from mien_edge import files, formats
from mien_edge.errors import SinkError
from mien_edge.events import Event
from mien_edge.log import clock, distributions, ids, reader
from mien_edge.log.minutes import MinuteSummary, whole_minutes
from mien_edge.log.reader import Filter
from mien_edge.values import Reading

BATCH_SIZE = 100
"""Entries of each kind that are read from the log at once."""

UNREADABLE = (SinkError, sqlite3.Error, OSError, ValueError, TypeError, OverflowError)
"""What reading a log raises that can't be read; where a row is damaged, a value may be anything."""

_MINUTE = 60  # seconds
_MAX_NUMBER = 2**62  # of an id
_RESTORED = "."  # between a log's name and the time when it was seen to be from a backup
_COMMIT_DELAY = 10  # seconds after its end when a minute is surely in the log

_DAMAGED = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""What reading a cursor's file raises that is damaged."""

_log = logging.getLogger("mien.publish")


def unreadable_text(log: Path, problem: Exception) -> str:
    """Say of an error of UNREADABLE what is wrong with the log."""
    return str(problem) if isinstance(problem, SinkError) else f"{log}: damaged ({problem})"


Kind = Literal["reading", "event", "minute"]
"""The kinds of entries; each has its own topic and its own numbers."""


class Message(NamedTuple):
    """One entry of the log, ready to be sent.

    kind: which table it is from.
    number: its id there; a minute's is its start in seconds since 1970.
    text: the payload, as JSON.
    log: name of the log.
    """

    kind: Kind
    number: int
    text: str
    log: str


@dataclass(frozen=True, slots=True)
class Cursor:
    """A position in a log: its name, and the last reading, event and minute before the position.

    minute: its start, by the wall clock as it was set in the boot `boot` (the kernel's id; empty
        for not known), when it was `offset` seconds ahead of the time since that boot.
    """

    log: str = ""
    reading: int = 0
    event: int = 0
    minute: int = 0
    boot: str = ""
    offset: float = field(default=0.0, compare=False)

    @classmethod
    def read(cls, path: Path) -> "Cursor":
        """Read a cursor from a file; an empty one if there is none, or if it is damaged."""
        try:
            content = json.loads(path.read_text())
            return cls(
                log=str(content["log"]),
                reading=_number(content["reading"]),
                event=_number(content["event"]),
                minute=_number(content["minute"]),
                boot=str(content.get("boot", "")),
                offset=float(_number(content.get("offset", 0))),
            )
        except FileNotFoundError:
            return cls()
        except _DAMAGED as problem:
            _log.warning("%s: damaged (%s); only new entries are published", path, problem)
            return cls()

    def past(self, message: Message) -> "Cursor":
        """The position behind a message."""
        if message.kind == "reading":
            return replace(self, reading=message.number)
        if message.kind == "event":
            return replace(self, event=message.number)
        return replace(self, minute=message.number)

    def save(self, path: Path) -> None:
        """Write the cursor to a file, atomically and durably."""
        files.write_text(path, json.dumps(asdict(self)) + "\n")


def _number(value: object) -> int:
    """A number of a cursor's file; ValueError for one that no database and no clock has."""
    number = int(value)  # type: ignore[call-overload]  # what is no number is a TypeError
    if not -_MAX_NUMBER <= number <= _MAX_NUMBER:
        raise ValueError(f"{number} is out of range")
    return int(number)


class Batch(NamedTuple):
    """What one look at the log gave.

    messages: what is to be sent, in order.
    end: the position behind all entries that were read, those that are not to be sent included.
    """

    messages: list[Message]
    end: Cursor


class Mode(Protocol):
    """Which entries of a log are published. `last_minute` is the latest start of a full minute."""

    def skip_unpublished(self, connection: Connection, cursor: Cursor, last_minute: int) -> Cursor:
        """Move a cursor past the kinds of entries that are never published in this mode.

        So what was held back in one mode is not published later in another.
        """

    def read(self, connection: Connection, cursor: Cursor, last_minute: int) -> Batch:
        """Read the entries behind a cursor, at most BATCH_SIZE of a kind."""

    def waiting(self, connection: Connection, sent: Cursor, done: Cursor) -> int:
        """Count the entries that are not acknowledged."""


class SingleReadings:
    """The mode that publishes every reading and every event."""

    def skip_unpublished(self, connection: Connection, cursor: Cursor, last_minute: int) -> Cursor:
        """Move a cursor past all minutes."""
        return replace(cursor, minute=max(cursor.minute, last_minute))

    def read(self, connection: Connection, cursor: Cursor, last_minute: int) -> Batch:
        """Read the events and then the readings behind a cursor."""
        events = reader.events(connection, Filter(after=cursor.event), limit=BATCH_SIZE)
        readings = reader.readings(connection, Filter(after=cursor.reading), BATCH_SIZE)
        messages = [_event_message(cursor.log, event) for event in events]
        messages += [_reading_message(cursor.log, number, reading) for number, reading in readings]
        end = cursor
        for message in messages:
            end = end.past(message)
        return Batch(messages, end)

    def waiting(self, connection: Connection, sent: Cursor, done: Cursor) -> int:
        """Count the readings and events that are not acknowledged."""
        readings = reader.count_after(connection, "readings", done.reading)
        events = reader.count_after(connection, "events", done.event)
        return readings + events


class MinuteSums:
    """The mode that publishes only sums, of each minute with enough faces.

    min_faces: how many faces one frame of the minute must have had, from 1 on.
    """

    def __init__(self, min_faces: int) -> None:
        self.min_faces = min_faces

    def skip_unpublished(self, connection: Connection, cursor: Cursor, last_minute: int) -> Cursor:
        """Move a cursor past all readings and events."""
        return replace(
            cursor,
            reading=max(cursor.reading, ids.newest(connection, "readings")),
            event=max(cursor.event, ids.newest(connection, "events")),
        )

    def read(self, connection: Connection, cursor: Cursor, last_minute: int) -> Batch:
        """Read the full minutes behind a cursor."""
        new_minutes = reader.iterate_minutes(connection, cursor.minute + 1, last_minute + 1)
        minutes = list(islice(new_minutes, BATCH_SIZE))
        published = [minute for minute in minutes if minute.faces >= self.min_faces]
        messages = [_minute_message(cursor.log, minute) for minute in published]
        end = replace(cursor, minute=minutes[-1].time) if minutes else cursor
        return Batch(messages, end)

    def waiting(self, connection: Connection, sent: Cursor, done: Cursor) -> int:
        """1 while a minute that was sent is not acknowledged, else 0."""
        return int(sent.minute > done.minute)


class Outbox:
    """The entries of a log behind a cursor, in order.

    Readings and events are known by their ids, which no clock changes. Minutes are known by their
    start: when the clock is set, the log moves the minutes of its run, and the cursor moves with
    them. A cursor in the future is believed until the clock is known to be right.

    A log that has used fewer ids than the cursor says came from a backup. It gets another name in
    what is sent, and what its last run wrote is sent.

    log: path of the log.
    mode: which entries are published.
    cursor: how far the log has been published.
    wall_clock: seconds since 1970.
    boot_clock: seconds since the machine started, which nobody sets.
    boot: the kernel's id of that start.
    is_synchronized: whether a time server keeps the wall clock right.

    `sent` is the position up to which entries were taken, `done` the one up to which they were
    acknowledged. `waiting` counts entries that are not acknowledged, `last_minute` are the sums of
    the last full minute, however many faces it had, and `labels` those of the models that ran
    then; all are as of the last look at the log that counted.
    """

    def __init__(
        self,
        log: Path,
        mode: Mode,
        cursor: Cursor,
        wall_clock: Callable[[], float] = time.time,
        boot_clock: Callable[[], float] = clock.since_boot,
        boot: str | None = None,
        is_synchronized: Callable[[], bool] = clock.is_synchronized,
    ) -> None:
        self.log = log
        self.mode = mode
        self.sent = cursor
        self.done = cursor
        self.waiting = 0
        self.last_minute = MinuteSummary()
        self.labels: tuple[str, ...] = ()
        self._wall_clock = wall_clock
        self._boot_clock = boot_clock
        self._boot = clock.boot_id() if boot is None else boot
        self._is_synchronized = is_synchronized

    def rewind(self) -> None:
        """Take again what was taken but not acknowledged."""
        self.sent = self.done

    def acknowledge(self, message: Message) -> None:
        """The receiver has this message and all before it."""
        if message.log == self.done.log:  # else the log has been replaced since
            self.done = self._stamp(self.done, self.done.past(message))

    def take(self, counts: bool = True) -> list[Message]:
        """Return the next messages.

        counts: whether to update `waiting` and `last_minute`, which takes longer than to read.

        Raises SinkError or sqlite3.Error if the log can't be read.
        """
        with closing(reader.open_to_read(self.log)) as connection:
            last_minute = self._last_full_minute()
            self._attach(connection)
            self.sent = self._catch_up(connection, self.sent, last_minute)
            self.done = self._catch_up(connection, self.done, last_minute)
            batch = self.mode.read(connection, self.sent, last_minute)
            self._move(batch)
            if counts:
                self._update(connection)
        return batch.messages

    def look(self) -> None:
        """Update `waiting` and `last_minute` without taking messages. Raises as `take`."""
        with closing(reader.open_to_read(self.log)) as connection:
            self._attach(connection)
            self._update(connection)

    def _attach(self, connection: Connection) -> None:
        """Begin the first log at its end, and a log that replaces another at its beginning."""
        name = reader.name(connection)
        before, _, _ = self.sent.log.partition(_RESTORED)
        if before == name:
            self._follow_restore(connection, name)
            return
        if before:
            start = Cursor(name)
        else:
            reading = ids.newest(connection, "readings")
            event = ids.newest(connection, "events")
            start = Cursor(name, reading, event, self._last_full_minute())
        self.sent = self._stamp(Cursor(name), start)
        self.done = self.sent

    def _follow_restore(self, connection: Connection, name: str) -> None:
        """Give the log `name`, if it came from a backup, another name: it will use ids for a second
        time.
        """
        reading_before, last_reading = ids.issued(connection, "readings", self._boot)
        event_before, last_event = ids.issued(connection, "events", self._boot)
        if self.sent.reading <= last_reading and self.sent.event <= last_event:
            return
        self.done = replace(
            self.done,
            log=f"{name}{_RESTORED}{int(self._wall_clock())}",
            reading=min(self.done.reading, reading_before),
            event=min(self.done.event, event_before),
        )
        self.sent = self.done

    def _catch_up(self, connection: Connection, cursor: Cursor, last_minute: int) -> Cursor:
        """Move a cursor with the clock, and past what this mode never publishes."""
        cursor = self._follow_clock(cursor, last_minute)
        return self._stamp(cursor, self.mode.skip_unpublished(connection, cursor, last_minute))

    def _follow_clock(self, cursor: Cursor, last_minute: int) -> Cursor:
        """Move a cursor's minute as the log moves its minutes when the clock is set."""
        offset = self._clock_offset()
        if self._boot and cursor.boot == self._boot:
            step = offset - cursor.offset
            minute = cursor.minute
            if abs(step) >= _MINUTE:
                minute += whole_minutes(step)
            cursor = replace(cursor, minute=minute, offset=offset)
        if cursor.minute > last_minute and self._is_synchronized():
            return self._stamp(cursor, replace(cursor, minute=last_minute))
        return cursor

    def _stamp(self, before: Cursor, after: Cursor) -> Cursor:
        """Note by which clock a minute was reached, if it is another than before."""
        if after.minute == before.minute:
            return after
        return replace(after, boot=self._boot, offset=self._clock_offset())

    def _clock_offset(self) -> float:
        return self._wall_clock() - self._boot_clock()

    def _move(self, batch: Batch) -> None:
        """Move on by a batch.

        Entries that are not sent are never acknowledged, so the cursors are moved past them here,
        but only while nothing before them is unacknowledged.
        """
        for message in batch.messages:
            self.sent = self._stamp(self.sent, self.sent.past(message))
        if not batch.messages and self.sent == self.done:
            self.sent = self._stamp(self.sent, batch.end)
            self.done = self.sent

    def _update(self, connection: Connection) -> None:
        last_minute = self._last_full_minute()
        since = last_minute - 2 * _MINUTE
        recent = reader.read_minutes(connection, since, last_minute + 1)
        seen = distributions.labels_of_minutes(connection, since, last_minute + 1)
        self.labels = seen or distributions.noted_labels(connection)
        self.last_minute = recent[-1] if recent else MinuteSummary()
        self.waiting = self.mode.waiting(connection, self.sent, self.done)

    def _last_full_minute(self) -> int:
        """The latest start, in seconds since 1970, of a minute that has ended and is in the log."""
        return int(self._wall_clock()) - _MINUTE - _COMMIT_DELAY


def _reading_message(log: str, number: int, reading: Reading) -> Message:
    return _message(log, "reading", number, formats.as_dict(reading))


def _event_message(log: str, event: Event) -> Message:
    return _message(log, "event", event.id, formats.event_as_dict(event))


def _minute_message(log: str, minute: MinuteSummary) -> Message:
    shares = minute.shares()
    values = {
        "time": formats.iso(minute.time),
        "faces": minute.faces,
        "face_seconds": round(minute.face_seconds, 1),
        "shares": {label: share for label, share in shares.items() if label in minute.seconds},
    }
    return _message(log, "minute", minute.time, values)


def _message(log: str, kind: Kind, number: int, values: dict[str, object]) -> Message:
    """A message whose id is the same each time that it is sent."""
    identity = {"id": f"{log}-{kind[0]}{number}"}
    return Message(kind, number, json.dumps(identity | values), log)
