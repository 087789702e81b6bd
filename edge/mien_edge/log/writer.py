"""The on-device log, its writing side: readings, events and minutes in one SQLite file. It holds no pixels.

What can happen to it, and what it then does:

- Killed: readings are committed every `commit_interval` seconds, events at once; what was not committed is lost,
  nothing else.
- Power cut: the disk is synced every `sync_interval` seconds and with every event; the file opens in the state of the
  last sync or later.
- Disk full, read-only or failing: said once, readings are dropped and counted, an event tells of it when it can be
  written again.
- Corrupt file, at the start or later: moved aside as NAME.corrupt-TIME, a new one begun, said.
- Clock set by a minute or more: the entries of this run move along, for the clock was wrong until then; an event tells.
  Nothing is removed for its age until the clock has run for an hour without such a step.
- Growth: bounded by age, rows and bytes; the oldest go first. Minutes outlive readings.
"""

import logging
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mien_edge import files
from mien_edge.errors import SinkError
from mien_edge.events import RUN_ENDS, EventKind
from mien_edge.log.database import (
    INSERT_EVENT,
    INSERT_MINUTE,
    INSERT_READING,
    is_corrupt,
    move_aside,
    open_database,
    reading_row,
    sidecar,
    since_boot,
)
from mien_edge.log.minutes import Minutes
from mien_edge.settings import LogSettings
from mien_edge.values import Reading

_TABLES = ("readings", "events")
_LEAST = 100  # rows that are kept of each table whatever the bytes
_TRIM_EVERY = 60.0  # seconds between looks at the bounds
_GIVE_BACK = 4096  # pages of a kilobyte, each time
_MINUTE_WAITS = 60.0  # seconds that a minute waits for a commit that is due anyway: each costs a card three pages
_STEP = 60.0  # seconds; a clock that is off by more was set, one that is off by less was adjusted
_STEADY = 3600.0  # seconds that a clock must have run before anything is removed for its age

_log = logging.getLogger("mien.log")


class Log:
    """A sink. One process at a time writes; any number may read.

    `wall` and `steady` are the clocks: seconds since 1970, and seconds that no one sets. Raises SinkError if the file
    cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        settings: LogSettings,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = since_boot,
    ) -> None:
        self.path, self.settings = path, settings
        self.dropped = 0
        self._wall, self._steady = wall, steady
        self._offset = wall() - steady()
        self._committed = self._synced = self._trimmed = self._stepped = steady()
        self._to_move = 0.0
        self._pending: list[tuple[Any, ...]] = []
        self._last: dict[int, tuple[float, str | None, str]] = {}
        self._minutes = Minutes()
        self._failing, self._unsaid, self._is_lost = False, 0, False
        self._begin()

    def _begin(self) -> None:
        self._connection = open_database(self.path)
        self._before = {table: self._newest(table) for table in _TABLES}
        self._run = int(self._connection.execute("SELECT COALESCE(MAX(run), 0) + 1 FROM minutes").fetchone()[0])
        self._inode, self._is_lost = self.path.stat().st_ino, False
        self._trim()

    def __call__(self, readings: tuple[Reading, ...]) -> None:
        """Keep label changes, and otherwise one reading per face and interval; count all of them in their minutes."""
        now = self._steady()
        self._minutes(readings)
        for reading in readings:
            if self._is_news(reading):
                self._last[reading.track] = reading.time, reading.label, reading.quality
                self._pending.append(reading_row(reading, now))
        if now - self._committed >= self.settings.commit_interval:
            self.commit()

    def _is_news(self, reading: Reading) -> bool:
        then, label, quality = self._last.get(reading.track, (0.0, None, ""))
        elapsed = abs(reading.time - then)
        return (label, quality) != (reading.label, reading.quality) or elapsed >= self.settings.heartbeat_interval

    def started(self, model: str) -> None:
        """A run begins with this model: tell what the log knows of the one before, if it ended without a word, or had
        another model.
        """
        query = "SELECT kind FROM events WHERE kind IN ('start', 'stop', 'failed') ORDER BY id DESC LIMIT 1"
        last = self._connection.execute(query).fetchone()
        if last and last[0] not in RUN_ENDS:
            self.event(
                EventKind.UNCLEAN_END, "the run before was killed: by the watchdog, for its memory, or with the power"
            )
        before = self._connection.execute("SELECT model FROM readings ORDER BY id DESC LIMIT 1").fetchone()
        if before and before[0] != model:
            self.event(EventKind.MODEL_CHANGED, f"{before[0]} before, {model} now")

    def event(self, kind: EventKind, text: str) -> None:
        """Write one event at once and durably, with all readings before it."""
        self.commit([(self._wall(), self._steady(), kind, text)])

    def commit(self, events: list[tuple[Any, ...]] | None = None, ending: bool = False) -> None:
        """Write what is pending, and now and then sync it to the disk and hold the log within its bounds.

        `ending` writes the minute that is not over yet as well.
        """
        now = self._committed = self._steady()
        try:
            if self._is_lost:
                self._begin()
            self._notice_clock()
            self._write(events or [], ending)
        except (sqlite3.Error, SinkError) as problem:
            self._failed(problem)
        else:
            self._pending = []
            if events or now - self._synced >= self.settings.sync_interval:
                self._sync(now)
            self._tell_what_was_lost()
        horizon = self._wall() - max(self.settings.heartbeat_interval, 60)
        self._last = {track: last for track, last in self._last.items() if last[0] >= horizon}
        if now - self._trimmed >= _TRIM_EVERY:
            self._trim()

    def _write(self, events: list[tuple[Any, ...]], ending: bool) -> None:
        step = self._to_move
        late = self._minutes.over(float("inf") if ending else self._wall() - _MINUTE_WAITS)
        if not (self._pending or events or late or step):
            return
        minutes = late if ending else self._minutes.over(self._wall())
        text = f"set {'forward' if step > 0 else 'back'} by {abs(step):.0f} s; the entries of this run moved along"
        told = [(self._wall(), self._steady(), EventKind.CLOCK, text)] if step else []
        with self._connection:
            if step:
                self._move(step)
            self._connection.executemany(INSERT_READING, self._pending)
            self._connection.executemany(INSERT_MINUTE, [(self._run, *row) for row in minutes])
            self._connection.executemany(INSERT_EVENT, [*told, *events])
        self._minutes.forget(minutes)
        if step:
            self._to_move = 0.0
            _log.warning("the clock was %s", text)

    def _notice_clock(self) -> None:
        """A clock that was set by a minute or more was wrong before; one that was adjusted a little was right."""
        step = self._wall() - self._steady() - self._offset
        self._offset += step
        if abs(step) >= _STEP:
            self._stepped = self._steady()
            self._to_move += step
            self._pending = [self._moved(row, step) for row in self._pending]
            self._minutes.move(step, self._wall())

    def _move(self, step: float) -> None:
        """Shift all that this run has committed: it is in the time of the clock that was wrong."""
        for table, before in self._before.items():
            self._connection.execute(f"UPDATE {table} SET time = time + ? WHERE id > ?", (step, before))  # noqa: S608
        query = "SELECT run, minute, label, seconds, faces FROM minutes WHERE run = ?"
        rows = self._connection.execute(query, (self._run,)).fetchall()
        self._connection.execute("DELETE FROM minutes WHERE run = ?", (self._run,))
        whole = round(step / 60) * 60
        self._connection.executemany(INSERT_MINUTE, [(run, minute + whole, *rest) for run, minute, *rest in rows])

    def _moved(self, row: tuple[Any, ...], step: float) -> tuple[Any, ...]:
        """A pending row, shifted if it was taken before the clock was set."""
        time, steady, *rest = row
        is_right = abs(time - steady - self._offset) < abs(step) / 2
        return (time if is_right else time + step, steady, *rest)

    def _failed(self, problem: Exception) -> None:
        self.dropped += len(self._pending)
        if not self._failing:
            _log.error("%s: cannot be written (%s); readings are lost until it can", self.path, problem)
        self._failing = True
        self._unsaid += len(self._pending)
        self._pending = []
        if is_corrupt(problem):
            self._anew(f"was corrupt ({problem})")

    def _anew(self, why: str) -> None:
        """Begin a new file; if that fails, it is tried again with the next commit."""
        self._connection.close()
        self._is_lost = True
        try:
            if self.path.exists():
                move_aside(self.path, why, "corrupt")
            self._begin()
        except (OSError, SinkError) as problem:
            _log.error("%s", problem)

    def _tell_what_was_lost(self) -> None:
        if self._failing:
            lost, self._failing, self._unsaid = self._unsaid, False, 0
            self.event(EventKind.LOG_BACK, f"it could not be written for a while; {lost} readings were lost")

    def _sync(self, now: float) -> None:
        self._synced = now
        wal = sidecar(self.path, "-wal")
        try:
            if wal.exists():
                files.sync(wal)
        except OSError as problem:
            _log.warning("%s: cannot be synced (%s); tried again in %g s", wal, problem, self.settings.sync_interval)

    def _trim(self) -> None:
        """Hold readings and events within their age, rows and bytes; the oldest go first."""
        self._trimmed = self._steady()
        if self._is_lost:
            return
        if not self.path.exists() or self.path.stat().st_ino != self._inode:
            self._anew("was removed")
            _log.warning("%s was removed while it was written: a new log begun", self.path)
            return
        try:
            if self._steady() - self._stepped >= _STEADY:
                self._forget()
            for table in _TABLES:
                with self._connection:
                    self._keep_newest(table, self.settings.max_rows)
            self._shrink()
        except sqlite3.Error as problem:
            _log.warning("%s: cannot be trimmed now (%s); tried again in a minute", self.path, problem)
            if is_corrupt(problem):
                self._anew(f"was corrupt ({problem})")

    def _forget(self) -> None:
        """Remove what is too old; the newest of each table stays, so that no id is ever given twice."""
        now = self._wall()
        with self._connection:
            for table in _TABLES:
                condition = f"time < ? AND id < (SELECT MAX(id) FROM {table})"  # noqa: S608 - two fixed names
                self._connection.execute(
                    f"DELETE FROM {table} WHERE {condition}",  # noqa: S608
                    (now - self.settings.max_days * 86400,),
                )
            oldest = now - self.settings.max_summary_days * 86400
            self._connection.execute("DELETE FROM minutes WHERE minute < ?", (oldest,))

    def _shrink(self) -> None:
        """Remove the oldest until the pages in use are few enough, minutes last, then give some free ones back: the
        rest in the next minutes, for a slow card must not hold up the frames.
        """
        most = self.settings.max_megabytes * 1e6
        while self._used() > most and (counts := [self._count(table) for table in _TABLES]) and max(counts) > _LEAST:
            with self._connection:
                for table, count in zip(_TABLES, counts, strict=True):
                    self._keep_newest(table, max(count * 3 // 4, _LEAST))
        while self._used() > most and (count := self._count("minutes")) > _LEAST:
            with self._connection:
                oldest = "SELECT minute FROM minutes ORDER BY minute LIMIT 1 OFFSET ?"
                self._connection.execute(f"DELETE FROM minutes WHERE minute <= ({oldest})", (count // 4,))  # noqa: S608
        if self.size() > most:
            self._connection.executescript(f"PRAGMA incremental_vacuum({_GIVE_BACK})")  # execute would free one page
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _keep_newest(self, table: str, rows: int) -> None:
        self._connection.execute(
            f"DELETE FROM {table} WHERE id <= (SELECT id FROM {table} ORDER BY id DESC LIMIT 1 OFFSET ?)",  # noqa: S608
            (rows,),
        )

    def _newest(self, table: str) -> int:
        return int(self._connection.execute(f"SELECT COALESCE(MAX(id), 0) FROM {table}").fetchone()[0])  # noqa: S608

    def _count(self, table: str) -> int:
        return int(self._connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])  # noqa: S608

    def _used(self) -> int:
        """Bytes of the pages that hold something."""
        pages, free, size = (
            int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def size(self) -> int:
        """Bytes on disk, the write-ahead log included."""
        return sum(file.stat().st_size for file in (self.path, sidecar(self.path, "-wal")) if file.exists())

    def close(self) -> None:
        """Commit, sync and close."""
        self.commit(ending=True)
        self._sync(self._steady())
        self._connection.close()
