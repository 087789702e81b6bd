"""The on-device log, its writing side: readings, events and minutes in one SQLite file. It holds no
pixels.

What can happen to it, and what it then does:

- Killed: readings are committed every `commit_interval` seconds, events at once; only what was not
  committed is lost.
- Power cut: the disk is synced every `sync_interval` seconds and with every event; the file opens
  in the state of the last sync or later.
- Disk full, read-only or failing: reported once; readings are dropped and counted, and an event
  says so when it can be written again.
- Corrupt file, at the start or later: moved aside as NAME.corrupt-TIME, a new one started, and
  reported.
- Clock set by a minute or more: the entries of this run move along, for the clock was wrong until
  then; an event says so. Nothing is removed for its age until the clock has run for an hour without
  such a step.
- Growth: bounded by age, rows and bytes (log/retention.py); the oldest go first. Minutes outlive
readings."""

import logging
import math
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path

from mien_edge import files
from mien_edge.errors import SinkError
from mien_edge.events import RUN_ENDS, EventKind
from mien_edge.log import retention
from mien_edge.log.database import (
    INSERT_EVENT,
    INSERT_MINUTE,
    INSERT_READING,
    EventRow,
    is_corrupt,
    move_aside,
    open_database,
    reading_row,
    sidecar,
    since_boot,
    size_on_disk,
)
from mien_edge.log.minutes import MinuteRow, Minutes, whole_minutes
from mien_edge.settings import LogSettings
from mien_edge.values import Reading

_TRIM_INTERVAL = 60.0  # seconds between two checks of the bounds
# seconds that a minute waits for a commit that is due anyway: each costs a card three pages
_MINUTE_DELAY = 60.0
# seconds; a clock that is off by more was set, one that is off by less was adjusted
_CLOCK_STEP = 60.0
# seconds that the clock must run without a step before anything is removed for its age
_CLOCK_TRUSTED = 3600.0
_TRACK_MEMORY = 60.0  # seconds, at least, that the last reading of a face is remembered

_LAST_START_OR_END = (
    "SELECT kind FROM events WHERE kind IN ('start', 'stop', 'failed') ORDER BY id DESC LIMIT 1"
)

_log = logging.getLogger("mien.log")


@dataclass(frozen=True, slots=True)
class _Pending:
    """A reading that is not committed yet, and the monotonic time at which it came."""

    reading: Reading
    monotonic: float


class _Outcome(Enum):
    """What became of a commit."""

    WRITTEN = auto()
    NOTHING_TO_WRITE = auto()
    FAILED = auto()


class LogWriter:
    """A sink that writes the log. One process at a time writes; any number may read.

    path: the file, created where there is none.
    wall_clock: returns seconds since 1970; monotonic_clock: returns seconds that nobody can set.
    dropped: readings that were lost because they could not be written.

    Raises SinkError if the file cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        settings: LogSettings,
        wall_clock: Callable[[], float] = time.time,
        monotonic_clock: Callable[[], float] = since_boot,
    ) -> None:
        self.path = path
        self.settings = settings
        self.dropped = 0
        self._wall_clock = wall_clock
        self._monotonic_clock = monotonic_clock
        now = monotonic_clock()
        self._committed_at = now
        self._synced_at = now
        self._trimmed_at = now
        self._clock_set_at = now
        self._clock_offset = wall_clock() - now  # what the wall clock shows at the monotonic time 0
        # seconds by which this run's committed entries are still to be shifted
        self._step_to_apply = 0.0
        self._pending: list[_Pending] = []
        self._last_readings: dict[int, Reading] = {}  # the newest one to be written of each track
        self._minutes = Minutes()
        self._is_failing = False
        self._unreported = 0  # readings dropped since the log could last be written
        self._must_reopen = False
        self._open()

    def _open(self) -> None:
        self._connection = open_database(self.path)
        self._last_reading_before = self._newest_id("readings")
        self._last_event_before = self._newest_id("events")
        query = "SELECT COALESCE(MAX(run), 0) + 1 FROM minutes"
        self._run = int(self._connection.execute(query).fetchone()[0])
        self._inode = self.path.stat().st_ino
        self._must_reopen = False
        self._trim()

    def _newest_id(self, table: str) -> int:
        query = f"SELECT COALESCE(MAX(id), 0) FROM {table}"  # noqa: S608 - two fixed names
        return int(self._connection.execute(query).fetchone()[0])

    def __call__(self, readings: tuple[Reading, ...]) -> None:
        """Take the readings of one frame: write changes, and otherwise one reading per face and
        heartbeat interval; count all of them in their minutes."""
        now = self._monotonic_clock()
        self._minutes(readings)
        for reading in readings:
            if self._is_change(reading):
                self._last_readings[reading.track] = reading
                self._pending.append(_Pending(reading, now))
        if now - self._committed_at >= self.settings.commit_interval:
            self.commit()

    def _is_change(self, reading: Reading) -> bool:
        """Whether a reading has another label or quality than the face's last one, or that one is
        old enough.
        """
        last = self._last_readings.get(reading.track)
        if last is None:
            return True
        if (last.label, last.quality) != (reading.label, reading.quality):
            return True
        return abs(reading.time - last.time) >= self.settings.heartbeat_interval

    def log_start(self, model: str) -> None:
        """Write what a run that begins with `model` (NAME-VERSION) can say of the one before:
        that it was killed, or had another model."""
        last_kind = self._connection.execute(_LAST_START_OR_END).fetchone()
        if last_kind and last_kind[0] not in RUN_ENDS:
            text = "the run before was killed: by the watchdog, for its memory, or with the power"
            self.event(EventKind.UNCLEAN_END, text)
        query = "SELECT model FROM readings ORDER BY id DESC LIMIT 1"
        last_model = self._connection.execute(query).fetchone()
        if last_model and last_model[0] != model:
            self.event(EventKind.MODEL_CHANGED, f"{last_model[0]} before, {model} now")

    def event(self, kind: EventKind, text: str) -> None:
        """Write one event at once and durably, with all readings before it."""
        self.commit([self._event_row(kind, text)])

    def _event_row(self, kind: EventKind, text: str) -> EventRow:
        return EventRow(self._wall_clock(), self._monotonic_clock(), kind, text)

    def commit(self, events: Sequence[EventRow] = (), ending: bool = False) -> None:
        """Write what is pending, and now and then sync it to the disk and check the log's bounds.

        events: written after the readings, and synced at once.
        ending: write the minute that has not ended yet as well.
        """
        now = self._monotonic_clock()
        self._committed_at = now
        outcome = self._try_to_write(events, ending)
        if outcome is not _Outcome.FAILED:
            self._pending = []
            if events or now - self._synced_at >= self.settings.sync_interval:
                self._sync(now)
            # Also after NOTHING_TO_WRITE, which says nothing of the disk.
            self._report_recovery()
        self._forget_old_tracks()
        if now - self._trimmed_at >= _TRIM_INTERVAL:
            self._trim()

    def _try_to_write(self, events: Sequence[EventRow], ending: bool) -> _Outcome:
        try:
            if self._must_reopen:
                self._open()
            self._check_clock()
            return self._write(events, ending)
        except (sqlite3.Error, SinkError) as problem:
            self._drop_pending(problem)
            return _Outcome.FAILED

    def _write(self, events: Sequence[EventRow], ending: bool) -> _Outcome:
        """Write readings, minutes and events in one transaction, after shifting what is
        committed if the clock was set. Raises sqlite3.Error."""
        now = self._wall_clock()
        step = self._step_to_apply
        overdue = self._minutes.completed(math.inf if ending else now - _MINUTE_DELAY)
        if not (self._pending or events or overdue or step):
            return _Outcome.NOTHING_TO_WRITE
        minutes = overdue if ending else self._minutes.completed(now)
        event_rows = list(events)
        if step:
            event_rows.insert(0, self._event_row(EventKind.CLOCK, _step_text(step)))
        with self._connection:
            if step:
                self._shift_committed(step)
            self._insert(minutes, event_rows)
        self._minutes.drop(minutes)
        if step:
            self._step_to_apply = 0.0
            _log.warning("the clock was %s", _step_text(step))
        return _Outcome.WRITTEN

    def _insert(self, minutes: list[MinuteRow], events: list[EventRow]) -> None:
        """Insert the pending readings, and these minutes and events."""
        readings = [reading_row(pending.reading, pending.monotonic) for pending in self._pending]
        self._connection.executemany(INSERT_READING, readings)
        self._connection.executemany(INSERT_MINUTE, [(self._run, *row) for row in minutes])
        self._connection.executemany(INSERT_EVENT, events)

    def _check_clock(self) -> None:
        """Notice a clock that was set by a minute or more, and shift what came before: it was wrong
        until then. One that was adjusted a little was right.
        """
        now = self._wall_clock()
        monotonic = self._monotonic_clock()
        step = now - monotonic - self._clock_offset
        self._clock_offset += step
        if abs(step) >= _CLOCK_STEP:
            self._clock_set_at = monotonic
            self._step_to_apply += step
            self._pending = [self._shift_pending(pending, step) for pending in self._pending]
            self._minutes.shift(step, now)

    def _shift_pending(self, pending: _Pending, step: float) -> _Pending:
        """Shift a reading if it was captured before the clock was set."""
        reading = pending.reading
        offset = reading.time - pending.monotonic
        is_right = abs(offset - self._clock_offset) < abs(step) / 2
        if is_right:
            return pending
        return replace(pending, reading=replace(reading, time=reading.time + step))

    def _shift_committed(self, step: float) -> None:
        """Shift all that this run has committed: its times are of the clock that was wrong."""
        execute = self._connection.execute
        execute(
            "UPDATE readings SET time = time + ? WHERE id > ?", (step, self._last_reading_before)
        )
        execute("UPDATE events SET time = time + ? WHERE id > ?", (step, self._last_event_before))
        query = "SELECT run, minute, label, seconds, faces FROM minutes WHERE run = ?"
        rows = execute(query, (self._run,)).fetchall()
        execute("DELETE FROM minutes WHERE run = ?", (self._run,))
        minutes = whole_minutes(step)
        for run, minute, label, seconds, faces in rows:
            execute(INSERT_MINUTE, (run, minute + minutes, label, seconds, faces))

    def _drop_pending(self, problem: Exception) -> None:
        """Count the readings that could not be written as lost; start a new file if this one is
        damaged.
        """
        if not self._is_failing:
            message = "%s: cannot be written (%s); readings are lost until it can"
            _log.error(message, self.path, problem)
        self._is_failing = True
        self.dropped += len(self._pending)
        self._unreported += len(self._pending)
        self._pending = []
        if is_corrupt(problem):
            self._recreate(f"was corrupt ({problem})")

    def _recreate(self, why: str) -> None:
        """Start a new file; if that fails, the next commit tries it again."""
        self._connection.close()
        self._must_reopen = True
        try:
            if self.path.exists():
                move_aside(self.path, why, "corrupt")
            self._open()
        except (OSError, SinkError) as problem:
            _log.error("%s", problem)

    def _report_recovery(self) -> None:
        """Write an event if the log could not be written before."""
        if not self._is_failing:
            return
        lost = self._unreported
        self._is_failing = False
        self._unreported = 0
        text = f"it could not be written for a while; {lost} readings were lost"
        self.event(EventKind.LOG_BACK, text)

    def _sync(self, now: float) -> None:
        self._synced_at = now
        wal = sidecar(self.path, "-wal")
        try:
            if wal.exists():
                files.sync(wal)
        except OSError as problem:
            interval = self.settings.sync_interval
            _log.warning("%s: cannot be synced (%s); tried again in %g s", wal, problem, interval)

    def _forget_old_tracks(self) -> None:
        horizon = self._wall_clock() - max(self.settings.heartbeat_interval, _TRACK_MEMORY)
        for track, reading in list(self._last_readings.items()):
            if reading.time < horizon:
                del self._last_readings[track]

    def _trim(self) -> None:
        """Hold the log within its bounds, and notice if its file was removed."""
        self._trimmed_at = self._monotonic_clock()
        if self._must_reopen:
            return
        if not self.path.exists() or self.path.stat().st_ino != self._inode:
            self._recreate("was removed")
            _log.warning("%s was removed while it was written: a new log is started", self.path)
            return
        try:
            if self._monotonic_clock() - self._clock_set_at >= _CLOCK_TRUSTED:
                retention.delete_expired(self._connection, self.settings, self._wall_clock())
            retention.delete_excess_rows(self._connection, self.settings)
            retention.shrink(self._connection, self.path, self.settings)
        except sqlite3.Error as problem:
            message = "%s: cannot be trimmed now (%s); tried again in a minute"
            _log.warning(message, self.path, problem)
            if is_corrupt(problem):
                self._recreate(f"was corrupt ({problem})")

    def size(self) -> int:
        """Return the log's bytes on disk, its write-ahead log included."""
        return size_on_disk(self.path)

    def close(self) -> None:
        """Commit, sync and close."""
        self.commit(ending=True)
        self._sync(self._monotonic_clock())
        self._connection.close()


def _step_text(step: float) -> str:
    direction = "forward" if step > 0 else "back"
    return f"set {direction} by {abs(step):.0f} s; the entries of this run moved along"
