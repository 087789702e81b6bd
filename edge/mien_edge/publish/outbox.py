"""What is to be published from the log, and how far it has been."""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from mien_edge import files, formats
from mien_edge.log import reader
from mien_edge.log.minutes import MinuteSummary
from mien_edge.log.reader import Filter

BATCH_SIZE = 100  # entries that are read from the log at once
_OVER = 10.0  # seconds after which a minute that is over is surely in the log

_EMPTY = MinuteSummary()  # a minute with nobody

_log = logging.getLogger("mien.publish")


@dataclass(frozen=True, slots=True)
class Cursor:
    """Up to where a log has been told: the log's name, the last reading, event and minute."""

    log: str = ""
    reading: int = 0
    event: int = 0
    minute: int = 0

    @classmethod
    def read(cls, path: Path) -> "Cursor":
        """From a file; an empty one if there is none, or if it is damaged."""
        try:
            found = json.loads(path.read_text())
            return cls(str(found["log"]), int(found["reading"]), int(found["event"]), int(found["minute"]))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, KeyError, TypeError) as problem:
            _log.warning("%s: damaged (%s); what comes from now on is published", path, problem)
            return cls()

    def past(self, message: "Message") -> "Cursor":
        """Moved past a message."""
        moved = {message.kind: message.number}
        return replace(self, **moved)  # type: ignore[arg-type]  # the kinds are this class's own fields

    def save(self, path: Path) -> None:
        """To a file, atomically and durably."""
        files.write_text(path, json.dumps(asdict(self)) + "\n")


class Message(NamedTuple):
    """One entry on its way: 'reading', 'event' or 'minute', its number in the log, and what is told."""

    kind: str
    number: int
    text: str
    log: str


class Outbox:
    """The entries of a log after a cursor, in order. `sent` is up to where they were taken, `done` up to where they
    were acknowledged. min_faces: from 1 on, the entries are minutes that had at least so many faces in one frame; with
    0 they are single readings and events.
    """

    def __init__(self, log: Path, min_faces: int, cursor: Cursor, wall: Callable[[], float] = time.time) -> None:
        self.log = log
        self.min_faces = min_faces
        self.sent = self.done = cursor
        self.waiting = 0
        self.minute = _EMPTY
        self._wall = wall

    def rewind(self) -> None:
        """What was taken but not acknowledged is to be sent again."""
        self.sent = self.done

    def acknowledged(self, message: Message) -> None:
        """The receiver has this one and all before it."""
        if message.log == self.done.log:  # else it was of a log that has been replaced since
            self.done = self.done.past(message)

    def take(self) -> list[Message]:
        """The next entries, at most a batch of each kind. Raises SinkError if there is no log."""
        connection = reader.open_to_read(self.log)
        try:
            self._meet(connection)
            self._pass_what_is_not_told(connection)
            self._remember_minute(connection)
            told = self._minutes if self.min_faces else self._single
            found = told(connection)
            self._count(connection)
        finally:
            connection.close()
        for message in found:
            self.sent = self.sent.past(message)
        return found

    def look(self) -> None:
        """Count what waits, without taking it. Raises SinkError if there is no log."""
        connection = reader.open_to_read(self.log)
        try:
            self._meet(connection)
            self._remember_minute(connection)
            self._count(connection)
        finally:
            connection.close()

    def _meet(self, connection: Any) -> None:
        """The first log is told from its end, one that replaces another from its beginning."""
        name = reader.name(connection)
        if self.sent.log == name:
            return
        ends = reader.newest(connection, "readings"), reader.newest(connection, "events"), int(self._wall())
        self.sent = Cursor(name) if self.sent.log else Cursor(name, *ends)
        self.done = self.sent

    def _pass_what_is_not_told(self, connection: Any) -> None:
        """Sums or single readings: the cursor of the other moves along, so that a change of mode tells no history. A
        minute in the future was told under a clock that was wrong.
        """
        over = int(self._over())
        if self.min_faces:
            ends = reader.newest(connection, "readings"), reader.newest(connection, "events")
            self.sent, self.done = (
                replace(each, reading=ends[0], event=ends[1], minute=min(each.minute, over))
                for each in (self.sent, self.done)
            )
        else:
            self.sent, self.done = (replace(each, minute=over) for each in (self.sent, self.done))

    def _over(self) -> float:
        """The latest start of a minute that is surely over, and in the log."""
        return self._wall() - 60 - _OVER

    def _single(self, connection: Any) -> list[Message]:
        events = reader.events(connection, Filter(after=self.sent.event))[:BATCH_SIZE]
        readings = reader.readings(connection, Filter(after=self.sent.reading), BATCH_SIZE)
        return [
            *(self._message("event", event.id, formats.event_as_dict(event)) for event in events),
            *(self._message("reading", number, formats.as_dict(reading)) for number, reading in readings),
        ]

    def _remember_minute(self, connection: Any) -> None:
        """The last minute, whatever its faces, for the state."""
        recent = reader.read_minutes(connection, self._over() - 120, self._over() + 1)
        self.minute = recent[-1] if recent else _EMPTY

    def _minutes(self, connection: Any) -> list[Message]:
        """Minutes in which enough faces were seen at once."""
        found = reader.read_minutes(connection, self.sent.minute + 1, self._over() + 1)[:BATCH_SIZE]
        told = [span for span in found if span.faces >= self.min_faces]
        if found and not told and self.sent == self.done:
            self.sent = self.done = replace(self.done, minute=found[-1].time)
        return [self._message("minute", span.time, _summed(span)) for span in told]

    def _message(self, kind: str, number: int, values: dict[str, Any]) -> Message:
        text = json.dumps({"id": f"{self.sent.log}-{kind[0]}{number}", **values})
        return Message(kind, number, text, self.sent.log)

    def _count(self, connection: Any) -> None:
        if self.min_faces:
            self.waiting = int(self.sent.minute > self.done.minute)
        else:
            readings = reader.newest(connection, "readings") - self.done.reading
            self.waiting = readings + reader.newest(connection, "events") - self.done.event


def _summed(span: MinuteSummary) -> dict[str, Any]:
    told = {label: share for label, share in span.shares().items() if label in span.seconds}
    seconds = round(span.face_seconds, 1)
    return {"time": formats.iso(span.time), "faces": span.faces, "face_seconds": seconds, "shares": told}
