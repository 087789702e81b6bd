"""The on-device log, its writing side: readings, events and minutes in one SQLite file. It holds no
pixels.

What can happen to it, and what it then does:

- Killed: readings are committed every `commit_interval` seconds, events at once; only what was not
  committed is lost.
- Power cut: the disk is synced every `sync_interval` seconds and with every event; the file opens
  in the state of the last sync or later. An id is never used twice (log/ids.py).
- Disk full, read-only or failing: reported once; readings are dropped and counted, and an event
  says so with the next entries that could be written.
- Another process writes: what is pending waits for the next commit.
- Corrupt file, at the start or later: moved aside as NAME.corrupt-TIME, a new one started, and
  reported (log/checkup.py).
- Clock set by a minute or more: the entries since the machine started move along, for the clock was
  wrong until then; an event says so. Nothing is removed because of a wrong clock (log/boots.py).
- Growth: bounded by age, rows and bytes (log/retention.py); the oldest go first. Minutes outlive
  readings.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path

from mien_edge import files
from mien_edge.errors import SinkError
from mien_edge.events import RUN_ENDS, EventKind
from mien_edge.log import distributions
from mien_edge.log.boots import Ages, Boot, read_boots, write_boot
from mien_edge.log.checkup import Checkup
from mien_edge.log.clock import boot_id, is_synchronized, since_boot
from mien_edge.log.database import (
    DATABASE_ERRORS,
    FIND_RUN,
    INSERT_EVENT,
    INSERT_MINUTE,
    INSERT_POSITION,
    INSERT_READING,
    INSERT_RUN,
    EventRow,
    delete_asides,
    delete_single_readings,
    is_corrupt,
    is_locked,
    move_aside,
    open_database,
    reading_row,
    sidecar,
    size_on_disk,
)
from mien_edge.log.ids import IdReservation, newest
from mien_edge.log.minutes import MinuteRow, Minutes, whole_minutes
from mien_edge.log.retention import Retention
from mien_edge.settings import LogSettings
from mien_edge.values import Reading

_CHECK_INTERVAL = 60.0  # seconds between two looks at the file
_BOOT_INTERVAL = 3600.0  # seconds between two notes of how long the machine has run
_MAX_PENDING = 10_000  # readings that wait while another process writes
_MAX_PENDING_EVENTS = 100  # events that wait for a disk that fails
# seconds that a minute waits for a commit that is due anyway: each costs a card three pages
_MINUTE_DELAY = 60.0
# seconds; a clock that is off by more was set, one that is off by less was adjusted
_CLOCK_STEP = 60.0
# seconds that the clock must run without a step before it is trusted
_CLOCK_TRUSTED = 3600.0
_MAX_TRIM_TIME = 30.0  # seconds that a start may take for trimming
# seconds for which the writer may hold up the frames when another process writes
_BUSY_TIMEOUT = 0.1
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
    POSTPONED = auto()
    FAILED = auto()


class LogWriter:
    """A sink that writes the log. One process at a time writes; any number may read.

    path: the file, created where there is none.
    wall_clock: returns seconds since 1970; monotonic_clock: returns seconds since the machine
        started, which nobody can set.
    is_clock_synchronized: returns whether a time server keeps the wall clock right.
    boot: names the time from one start of the machine to the next.
    is_own: whether `path` is the service's own place: what is no log there is moved aside.
    min_group: 0 keeps single readings; from 1 on only minutes are kept, those with that many faces
        in a frame. Readings and minutes of fewer that the log holds are deleted, and an event says
        so.
    dropped: readings that were lost because they could not be written.

    Raises SinkError if the file cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        settings: LogSettings,
        wall_clock: Callable[[], float] = time.time,
        monotonic_clock: Callable[[], float] = since_boot,
        is_clock_synchronized: Callable[[], bool] = is_synchronized,
        boot: str | None = None,
        is_own: bool = False,
        min_group: int = 0,
    ) -> None:
        # SQLite keeps its other files where a link leads.
        self.path = path.resolve() if path.is_file() else path
        self.settings = settings
        self.dropped = 0
        self._wall_clock = wall_clock
        self._monotonic_clock = monotonic_clock
        self._is_clock_synchronized = is_clock_synchronized
        self._boot_id = boot_id() if boot is None else boot
        self._is_own = is_own
        self._min_group = min_group
        now = monotonic_clock()
        self._committed_at = now
        self._synced_at = now
        self._checked_at = now
        self._clock_set_at = now
        self._clock_offset = wall_clock() - now  # what the wall clock shows at the monotonic time 0
        # seconds by which the committed entries of this boot are still to be shifted
        self._step_to_apply = 0.0
        self._pending: list[_Pending] = []
        self._pending_events: list[EventRow] = []
        self._last_readings: dict[int, Reading] = {}  # the newest one to be written of each track
        self._minutes = Minutes()
        # those of the readings since the last commit, in their order
        self._label_sets: dict[tuple[str, ...], None] = {}
        self._is_failing = False
        self._unreported = 0  # readings dropped since the log could last be written
        self._must_reopen = False
        self._open()
        if min_group:
            self._delete_single_readings()
        self._trim_all()

    def _open(self) -> None:
        """Open the log; one whose damage shows only when it is prepared is replaced by a new one.

        Raises SinkError.
        """
        self._connection = open_database(self.path, self._is_own)
        try:
            self._prepare()
        except DATABASE_ERRORS as problem:
            self._connection.close()
            if not is_corrupt(problem):
                raise self._cannot_be_written(problem) from None
            why = f"was corrupt ({problem})"
        else:
            return
        try:
            move_aside(self.path, why, "corrupt")
            self._connection = open_database(self.path, self._is_own)
            self._prepare()
        except SinkError:
            raise
        except (*DATABASE_ERRORS, OSError) as problem:
            self._connection.close()
            raise self._cannot_be_written(problem) from None

    def _cannot_be_written(self, problem: Exception) -> SinkError:
        hint = "free some space, and check the folder and its owner"
        return SinkError(f"{self.path}: the log cannot be written ({problem}); {hint}")

    def _prepare(self) -> None:
        """Read what the log says of the runs before, and reserve ids. Raises sqlite3.Error."""
        self._ids = IdReservation(self._connection, self._sync_reservation)
        with self._connection:
            self._connection.execute("DELETE FROM runs WHERE run NOT IN (SELECT run FROM minutes)")
        query = "SELECT COALESCE(MAX(run), 0) + 1 FROM minutes"
        self._run = int(self._connection.execute(query).fetchone()[0])
        self._boots = read_boots(self._connection)
        self._enter_boot()
        self._retention = Retention(self._connection, self.path, self.settings)
        self._checkup = Checkup(self.path)
        self._connection.execute(f"PRAGMA busy_timeout={round(1000 * _BUSY_TIMEOUT)}")
        self._inode = self.path.stat().st_ino
        self._must_reopen = False

    def _enter_boot(self) -> None:
        """Go on with the boot of the run before, or begin a new one."""
        now = self._monotonic_clock()
        last = self._boots[-1] if self._boots else None
        if last is not None and self._is_same_boot(last, now):
            step = self._clock_offset - last.clock_offset
            if abs(step) >= _CLOCK_STEP:  # it was set while nothing was logged
                self._step_to_apply += step
            self._save_boot()
            return
        self._boots.append(
            Boot(
                number=last.number + 1 if last else 1,
                kernel_id=self._boot_id,
                last_reading=newest(self._connection, "readings"),
                last_event=newest(self._connection, "events"),
                last_run=self._run - 1,
                clock_offset=self._clock_offset,
                synchronized=False,
                first_seen=now,
                last_seen=now,
            )
        )
        self._save_boot()

    def _is_same_boot(self, boot: Boot, now: float) -> bool:
        return bool(self._boot_id) and boot.kernel_id == self._boot_id and now >= boot.first_seen

    def _save_boot(self) -> None:
        """Note how long the machine has run, and what its clock shows. Raises sqlite3.Error."""
        boot = replace(self._boots[-1], last_seen=self._monotonic_clock())
        if not self._step_to_apply:
            boot = replace(boot, clock_offset=self._clock_offset)
        self._boots[-1] = boot
        with self._connection:
            write_boot(self._connection, boot)

    def __call__(self, readings: tuple[Reading, ...]) -> None:
        """Take the readings of one frame: write changes, and otherwise one reading per face and
        heartbeat interval; count all of them in their minutes."""
        now = self._monotonic_clock()
        self._minutes(readings)
        for reading in readings:
            if reading.emotion is not None:
                self._label_sets[reading.emotion.labels] = None
        if not self._min_group:
            self._take_changes(readings, now)
        if now - self._committed_at >= self.settings.commit_interval:
            self.commit()

    def _take_changes(self, readings: tuple[Reading, ...], now: float) -> None:
        for reading in readings:
            if self._is_change(reading):
                self._last_readings[reading.track] = reading
                self._pending.append(_Pending(reading, now))

    def _is_change(self, reading: Reading) -> bool:
        """Whether a reading has another label or quality than the face's last one, or that one is
        old enough.
        """
        last = self._last_readings.get(reading.track)
        if last is None:
            return True
        if (last.label, last.quality) != (reading.label, reading.quality):
            return True
        return abs(reading.source_time - last.source_time) >= self.settings.heartbeat_interval

    def _delete_single_readings(self) -> None:
        """Delete the readings of single faces, the minutes of too few faces, and the damaged or old
        logs that were moved aside; what was deleted is overwritten. Raises SinkError.
        """
        try:
            readings, minutes = delete_single_readings(self._connection, self._min_group)
            asides = delete_asides(self.path)
        except (*DATABASE_ERRORS, OSError) as problem:
            raise self._cannot_be_written(problem) from None
        self._retention = Retention(self._connection, self.path, self.settings)
        if readings or minutes or asides:
            text = (
                f"the purpose is public: {readings} readings of single faces, {minutes} minutes "
                f"with fewer than {self._min_group} faces, {asides} logs that were moved aside"
            )
            self.event(EventKind.READINGS_DELETED, text)

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
        """Write what is pending, and now and then sync it to the disk, check the file and hold the
        log within its bounds.

        events: written after the readings, and synced at once.
        ending: write the minute that has not ended yet as well.
        """
        now = self._monotonic_clock()
        self._committed_at = now
        self._pending_events += events
        has_events = bool(self._pending_events)
        outcome = self._try_to_write(ending)
        is_due = now - self._synced_at >= self.settings.sync_interval
        if outcome is not _Outcome.FAILED and (has_events or is_due):
            self._sync(now)
        self._forget_old_tracks()
        if now - self._checked_at >= _CHECK_INTERVAL:
            self._check_file()
        if outcome is not _Outcome.FAILED:
            self._trim()

    def _try_to_write(self, ending: bool) -> _Outcome:
        try:
            if self._must_reopen:
                self._open()
            # In this order: who sees the clock synchronized also sees that it was set.
            is_synchronized_now = self._is_clock_synchronized()
            self._check_clock()
            outcome = self._write(ending)
            self._note_synchronization(is_synchronized_now)
        except (*DATABASE_ERRORS, SinkError) as problem:
            if is_locked(problem) and len(self._pending) < _MAX_PENDING:
                return _Outcome.POSTPONED
            self._drop_pending(problem)
            return _Outcome.FAILED
        return outcome

    def _write(self, ending: bool) -> _Outcome:
        """Write readings, minutes and events in one transaction, after shifting what is
        committed if the clock was set. Raises sqlite3.Error."""
        now = self._wall_clock()
        step = self._remaining_step()
        overdue = self._minutes.completed(math.inf if ending else now - _MINUTE_DELAY)
        if not (self._pending or self._pending_events or overdue or step):
            return _Outcome.NOTHING_TO_WRITE
        minutes = overdue if ending else self._minutes.completed(now)
        events = self._events_to_write(step)
        self._ids.ensure(max(len(self._pending), len(events)))
        with self._connection:
            if step:
                self._shift_committed(step)
                self._boots[-1] = replace(self._boots[-1], clock_offset=self._clock_offset)
                write_boot(self._connection, self._boots[-1])
            self._insert(minutes, events)
            self._ids.remember()
        self._retention.add(len(self._pending), len(events))
        self._minutes.drop(minutes)
        self._label_sets.clear()
        self._pending = []
        self._pending_events = []
        self._is_failing = False
        self._unreported = 0
        if step:
            self._step_to_apply = 0.0
            _log.warning("the clock was %s", _step_text(step))
        return _Outcome.WRITTEN

    def _events_to_write(self, step: float) -> list[EventRow]:
        """The pending events, after those that say what has happened to the log itself."""
        events = []
        if step:
            events.append(self._event_row(EventKind.CLOCK, _step_text(step)))
        if self._is_failing:
            text = f"it could not be written for a while; {self._unreported} readings were lost"
            events.append(self._event_row(EventKind.LOG_BACK, text))
        return events + self._pending_events

    def _insert(self, minutes: list[MinuteRow], events: list[EventRow]) -> None:
        """Insert the pending readings, and these minutes and events."""
        distributions.insert_sets(self._connection, self._label_sets)
        for pending in self._pending:
            row = reading_row(pending.reading, pending.monotonic)
            self._connection.execute(INSERT_READING, row)
            distributions.insert_scores(self._connection, pending.reading.emotion)
            if pending.reading.position is not None:
                self._connection.execute(INSERT_POSITION, (pending.reading.position,))
        kept = [row for row in minutes if self._minutes.faces(row) >= self._min_group]
        for row in kept:
            run = self._run_of(row.source)
            self._connection.execute(
                INSERT_MINUTE, (run, row.minute, row.label, row.seconds, row.faces)
            )
        self._connection.executemany(INSERT_EVENT, events)

    def _run_of(self, source: str) -> int:
        """The number that the minutes of a video file have, or those of all else ('')."""
        if not source:
            return self._run
        row = self._connection.execute(FIND_RUN, (source, self._run)).fetchone()
        if row is not None:
            return int(row[0])
        self._connection.execute(INSERT_RUN, (self._run, source))
        return int(self._connection.execute(FIND_RUN, (source, self._run)).fetchone()[0])

    def _note_synchronization(self, is_synchronized_now: bool) -> None:
        """Note in the log that this boot has learnt the time, and now and then how long it runs."""
        boot = self._boots[-1]
        is_news = is_synchronized_now and not boot.synchronized and not self._step_to_apply
        is_due = self._monotonic_clock() - boot.last_seen >= _BOOT_INTERVAL
        if is_news:
            self._boots[-1] = replace(boot, synchronized=True)
        if is_news or is_due:
            self._save_boot()

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
            self._pending = [self._shift_reading(pending, step) for pending in self._pending]
            self._pending_events = [self._shift_event(row, step) for row in self._pending_events]
            self._minutes.shift(step, now)

    def _shift_reading(self, pending: _Pending, step: float) -> _Pending:
        """Shift a reading if it was captured before the clock was set."""
        reading = pending.reading
        if self._is_right(reading.time, pending.monotonic, step):
            return pending
        return replace(pending, reading=replace(reading, time=reading.time + step))

    def _shift_event(self, row: EventRow, step: float) -> EventRow:
        """Shift an event if it happened before the clock was set."""
        if self._is_right(row.time, row.monotonic, step):
            return row
        return row._replace(time=row.time + step)

    def _is_right(self, time: float, monotonic: float, step: float) -> bool:
        """Whether a time is one of the clock after this step, and not before it."""
        return abs(time - monotonic - self._clock_offset) < abs(step) / 2

    def _remaining_step(self) -> float:
        """The seconds by which the committed entries are still to be shifted: none if the clock is
        back where it was, or if another process that writes has shifted them.
        """
        if not self._step_to_apply:
            return 0.0
        query = "SELECT clock_offset FROM boots WHERE boot = ?"
        row = self._connection.execute(query, (self._boots[-1].number,)).fetchone()
        if row is not None and abs(self._clock_offset - row[0]) < _CLOCK_STEP:
            self._step_to_apply = 0.0
        return self._step_to_apply

    def _shift_committed(self, step: float) -> None:
        """Shift all that was committed since the machine started by the clock that was wrong; not
        what other processes have written since it is right.
        """
        boot = self._boots[-1]
        execute = self._connection.execute
        wrong = "id > ? AND ABS(time - monotonic - ?) >= ?"
        for table, last in (("readings", boot.last_reading), ("events", boot.last_event)):
            query = f"UPDATE {table} SET time = time + ? WHERE {wrong}"  # noqa: S608 - two names
            execute(query, (step, last, self._clock_offset, abs(step) / 2))
        query = "SELECT run, minute, label, seconds, faces FROM minutes WHERE run > ?"
        rows = execute(query, (boot.last_run,)).fetchall()
        execute("DELETE FROM minutes WHERE run > ?", (boot.last_run,))
        minutes = whole_minutes(step)
        for run, minute, label, seconds, faces in rows:
            execute(INSERT_MINUTE, (run, minute + minutes, label, seconds, faces))

    def _drop_pending(self, problem: Exception) -> None:
        """Count the readings that could not be written as lost; start a new file if this one is
        damaged. Events wait.
        """
        if not self._is_failing:
            message = "%s: cannot be written (%s); readings are lost until it can"
            _log.error(message, self.path, problem)
        self._is_failing = True
        self.dropped += len(self._pending)
        self._unreported += len(self._pending)
        self._pending = []
        del self._pending_events[:-_MAX_PENDING_EVENTS]
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

    def _sync(self, now: float) -> None:
        self._synced_at = now
        wal = sidecar(self.path, "-wal")
        try:
            if wal.exists():
                files.sync(wal)
        except OSError as problem:
            interval = self.settings.sync_interval
            _log.warning("%s: cannot be synced (%s); tried again in %g s", wal, problem, interval)

    def _sync_reservation(self) -> None:
        """Make the reserved ids durable, with the name of the write-ahead log, which may be new."""
        self._sync(self._monotonic_clock())
        try:
            files.sync(self.path.parent)
        except OSError as problem:
            _log.warning("%s: cannot be synced (%s)", self.path.parent, problem)

    def _forget_old_tracks(self) -> None:
        horizon = self._wall_clock() - max(self.settings.heartbeat_interval, _TRACK_MEMORY)
        for track, reading in list(self._last_readings.items()):
            if reading.time < horizon:
                del self._last_readings[track]

    def _check_file(self) -> None:
        """Notice if the file was removed or is damaged, and start a new one."""
        self._checked_at = self._monotonic_clock()
        if self._must_reopen:
            return
        if not self.path.exists() or self.path.stat().st_ino != self._inode:
            self._recreate("was removed")
            _log.warning("%s was removed while it was written: a new log is started", self.path)
            return
        try:
            self._checkup.step()
        except DATABASE_ERRORS as problem:
            if is_corrupt(problem):
                self._recreate(f"was corrupt ({problem})")

    def _trim(self) -> bool:
        """Delete some of what is above the log's bounds; return whether there may be more."""
        if self._must_reopen or self._step_to_apply:
            return False
        try:
            return self._retention.step(self._ages())
        except DATABASE_ERRORS as problem:
            if not is_locked(problem):
                message = "%s: cannot be trimmed now (%s); tried again with the next commit"
                _log.warning(message, self.path, problem)
            if is_corrupt(problem):
                self._recreate(f"was corrupt ({problem})")
            return False

    def _trim_all(self) -> None:
        """Hold the log within its bounds before the first frame; what takes longer, as where a
        bound was lowered by far, is left to the commits.
        """
        start = self._monotonic_clock()
        while self._trim() and self._monotonic_clock() - start < _MAX_TRIM_TIME:
            pass
        self._retention.finish()

    def _ages(self) -> Ages:
        now = self._monotonic_clock()
        runs_evenly = now - self._clock_set_at >= _CLOCK_TRUSTED
        is_trusted = runs_evenly and self._is_clock_synchronized()
        return Ages(self._boots, self._wall_clock(), now, is_trusted)

    def size(self) -> int:
        """Return the log's bytes on disk, its write-ahead log included."""
        return size_on_disk(self.path)

    def close(self) -> None:
        """Commit, sync and close."""
        self.commit(ending=True)
        self._sync(self._monotonic_clock())
        try:
            if not self._must_reopen:
                self._save_boot()
                self._ids.release()
        except DATABASE_ERRORS as problem:
            _log.warning("%s: cannot be written (%s)", self.path, problem)
        self._connection.close()


def _step_text(step: float) -> str:
    direction = "forward" if step > 0 else "back"
    return f"set {direction} by {abs(step):.0f} s; the entries since the start moved along"
