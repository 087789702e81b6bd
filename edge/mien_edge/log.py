"""The on-device log: readings and events in one SQLite file.

WAL mode; commits in batches, so a power cut costs at most `commit` seconds of readings (events are committed at
once). Bounded by age, rows and bytes. It holds no pixels. A corrupt file is moved aside and a new one begun; a disk
that is full or read-only is reported once and readings are dropped, counted, until it can be written again.
"""

import json
import logging
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mien_edge.contract import LABELS
from mien_edge.errors import SinkError
from mien_edge.settings import Log as Settings
from mien_edge.values import Box, Emotion, Reading

_SCHEMA = """
CREATE TABLE IF NOT EXISTS readings (
  id INTEGER PRIMARY KEY, time REAL NOT NULL, monotonic REAL NOT NULL, source TEXT NOT NULL, frame INTEGER NOT NULL,
  track INTEGER NOT NULL, label TEXT, confidence REAL, quality TEXT NOT NULL, x REAL NOT NULL, y REAL NOT NULL,
  width REAL NOT NULL, height REAL NOT NULL, scores TEXT, model TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS readings_time ON readings (time);
CREATE TABLE IF NOT EXISTS events (
  id INTEGER PRIMARY KEY, time REAL NOT NULL, monotonic REAL NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL);
"""

_INSERT = "INSERT INTO readings VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_TABLES = ("readings", "events")
_LEAST = 100  # rows that are kept of each table whatever the bytes
_TRIM_EVERY = 60.0  # seconds between looks at the bounds

_log = logging.getLogger("mien.log")


class Log:
    """The writing side: a sink. One process at a time writes; any number may read."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path, self.settings = path, settings
        self.dropped = 0
        self._pending: list[tuple[Any, ...]] = []
        self._last: dict[int, tuple[float, str | None, str]] = {}
        self._committed = self._trimmed = time.monotonic()
        self._failing = False
        self._connection = _open(path)
        self._trim()

    def __call__(self, readings: tuple[Reading, ...]) -> None:
        """Keep label changes, and otherwise one reading per face and interval."""
        now = time.monotonic()
        for reading in readings:
            if self._is_news(reading):
                self._last[reading.track] = reading.time, reading.label, reading.quality
                self._pending.append(_row(reading, now))
        if now - self._committed >= self.settings.commit:
            self.commit()

    def _is_news(self, reading: Reading) -> bool:
        then, label, quality = self._last.get(reading.track, (0.0, None, ""))
        elapsed = abs(reading.time - then)
        return (label, quality) != (reading.label, reading.quality) or elapsed >= self.settings.interval

    def event(self, kind: str, text: str) -> None:
        """Write one event at once, with all readings before it."""
        self.commit([(time.time(), time.monotonic(), kind, text)])

    def commit(self, events: list[tuple[Any, ...]] | None = None) -> None:
        """Write what is pending to disk, and now and then hold the log within its bounds."""
        self._committed = time.monotonic()
        try:
            with self._connection:
                self._connection.executemany(_INSERT, self._pending)
                self._connection.executemany("INSERT INTO events VALUES (NULL, ?, ?, ?, ?)", events or [])
            self._failing = False
        except sqlite3.Error as problem:
            self.dropped += len(self._pending)
            if not self._failing:
                _log.error("%s: cannot be written (%s); readings are lost until it can", self.path, problem)
            self._failing = True
        self._pending = []
        horizon = time.time() - max(self.settings.interval, 60)
        self._last = {track: last for track, last in self._last.items() if last[0] >= horizon}
        if self._committed - self._trimmed >= _TRIM_EVERY:
            self._trim()

    def _trim(self) -> None:
        """Hold readings and events within their age, rows and bytes; the oldest go first."""
        self._trimmed = time.monotonic()
        oldest = time.time() - self.settings.days * 86400
        try:
            for table in _TABLES:
                with self._connection:
                    self._connection.execute(f"DELETE FROM {table} WHERE time < ?", (oldest,))  # noqa: S608 - two fixed names
                    self._keep_newest(table, self.settings.rows)
            self._shrink()
        except sqlite3.Error as problem:
            _log.warning("%s: cannot be trimmed now (%s); tried again in a minute", self.path, problem)

    def _shrink(self) -> None:
        """Remove the oldest until the pages in use are few enough, then give the free ones back, if the disk allows."""
        most = self.settings.megabytes * 1e6
        while self._used() > most and (counts := [self._count(table) for table in _TABLES]) and max(counts) > _LEAST:
            with self._connection:
                for table, count in zip(_TABLES, counts, strict=True):
                    self._keep_newest(table, max(count * 3 // 4, _LEAST))
        if self.size() > most:
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _keep_newest(self, table: str, rows: int) -> None:
        self._connection.execute(
            f"DELETE FROM {table} WHERE id <= (SELECT id FROM {table} ORDER BY id DESC LIMIT 1 OFFSET ?)",  # noqa: S608
            (rows,),
        )

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
        wal = self.path.with_name(self.path.name + "-wal")
        return sum(file.stat().st_size for file in (self.path, wal) if file.exists())

    def close(self) -> None:
        """Commit and close."""
        self.commit()
        self._connection.close()


def _open(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _connect(path)
    except (sqlite3.DatabaseError, OSError) as problem:
        if isinstance(problem, OSError | sqlite3.OperationalError) or not path.exists():
            raise SinkError(f"{path}: the log cannot be opened ({problem}); check the folder and its owner") from None
        if not _is_ours(path):
            raise SinkError(f"{path}: not a log of mien's; name another file with --log") from None
        aside = path.with_name(f"{path.name}.corrupt-{int(time.time())}")
        path.replace(aside)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        _log.error("%s was corrupt (%s): moved to %s, a new log begun", path, problem, aside.name)
        return _connect(path)


def _is_ours(path: Path) -> bool:
    """Whether a file that SQLite refuses was a database, or is what a power cut leaves: zeros, or nothing."""
    with path.open("rb") as file:
        head = file.read(16)
    return head == b"SQLite format 3\0" or not any(head)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=5)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        if connection.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("quick_check failed")
        connection.executescript(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection


def _row(reading: Reading, now: float) -> tuple[Any, ...]:
    emotion = reading.emotion
    scores = None if emotion is None else json.dumps([round(score, 4) for score in emotion.scores])
    confidence = None if emotion is None else emotion.confidence
    return (
        reading.time, now, reading.source, reading.frame, reading.track, reading.label, confidence, reading.quality,
        *reading.box, scores, reading.model,
    )  # fmt: skip


# --- the reading side --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries: from `since` to `until` (seconds since 1970), of a label, of a track, with an id above `after`."""

    since: float = 0.0
    until: float = 1e12
    label: str | None = None
    track: int | None = None
    after: int = 0

    def where(self) -> tuple[str, list[Any]]:
        """An SQL condition and its values."""
        terms: list[tuple[str, Any]] = [("time >= ?", self.since), ("time < ?", self.until), ("id > ?", self.after)]
        if self.label is not None:
            terms.append(("label = ?", self.label))
        if self.track is not None:
            terms.append(("track = ?", self.track))
        return " AND ".join(term for term, _ in terms), [value for _, value in terms]


def open_to_read(path: Path) -> sqlite3.Connection:
    """The log, read-only. Raises SinkError if there is none."""
    try:
        found = path.is_file()
    except OSError as problem:
        raise SinkError(f"{path}: cannot be read ({problem.strerror}); run it as root") from None
    if not found:
        raise SinkError(f"{path}: no log here; the service writes one, or: mien-edge run SOURCE --log {path}")
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)
        connection.row_factory = sqlite3.Row
        connection.execute("SELECT 1 FROM readings LIMIT 1")
    except sqlite3.Error as problem:
        hint = "run it as root or as the service's user, or name another file with --log"
        raise SinkError(f"{path}: not a readable log ({problem}); {hint}") from None
    return connection


def readings(connection: sqlite3.Connection, wanted: Filter) -> Iterator[tuple[int, Reading]]:
    """(id, reading) in the order written."""
    condition, values = wanted.where()
    for row in connection.execute(f"SELECT * FROM readings WHERE {condition} ORDER BY id", values):  # noqa: S608 - values are bound
        scores = None if row["scores"] is None else tuple(json.loads(row["scores"]))
        yield row["id"], Reading(
            row["time"], row["frame"], row["track"], Box(row["x"], row["y"], row["width"], row["height"]),
            None if scores is None else Emotion(LABELS, scores),
            row["label"], row["quality"], row["model"], row["source"],
        )  # fmt: skip


def events(connection: sqlite3.Connection, since: float = 0.0) -> list[dict[str, Any]]:
    """Events in the order written: time, kind, text."""
    rows = connection.execute("SELECT time, kind, text FROM events WHERE time >= ? ORDER BY id", (since,))
    return [dict(row) for row in rows]


def shares(connection: sqlite3.Connection, wanted: Filter) -> list[tuple[float, dict[str, int]]]:
    """(start of the hour, readings per label) for each hour with readings; 'none' counts those without a label."""
    condition, values = wanted.where()
    query = (
        "SELECT CAST(time / 3600 AS INTEGER) * 3600 AS hour, COALESCE(label, 'none') AS name, COUNT(*) AS n "  # noqa: S608
        f"FROM readings WHERE {condition} GROUP BY hour, name ORDER BY hour"
    )
    hours: dict[float, dict[str, int]] = {}
    for row in connection.execute(query, values):
        hours.setdefault(float(row["hour"]), {})[row["name"]] = row["n"]
    return list(hours.items())
