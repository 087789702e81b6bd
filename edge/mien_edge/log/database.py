"""The log's SQLite file: its schema, how it is opened, and what becomes of a damaged one."""

import logging
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

from mien_edge.errors import SinkError
from mien_edge.labels import LABELS
from mien_edge.values import Reading

VERSION = 2
SCORE_SCALE = 10_000  # a probability of 1 as the log keeps it

_SCHEMA = f"""
PRAGMA user_version = {VERSION};
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO meta VALUES ('log', '{{name}}');
CREATE TABLE IF NOT EXISTS readings (
  id INTEGER PRIMARY KEY, time REAL NOT NULL, monotonic REAL NOT NULL, source TEXT NOT NULL, frame INTEGER NOT NULL,
  track INTEGER NOT NULL, label TEXT, quality TEXT NOT NULL, x INTEGER NOT NULL, y INTEGER NOT NULL,
  width INTEGER NOT NULL, height INTEGER NOT NULL, {", ".join(f"{label} INTEGER" for label in LABELS)},
  model TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS events (
  id INTEGER PRIMARY KEY, time REAL NOT NULL, monotonic REAL NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS minutes (
  minute INTEGER NOT NULL, label TEXT NOT NULL, run INTEGER NOT NULL, seconds REAL NOT NULL, faces INTEGER NOT NULL,
  PRIMARY KEY (minute, label, run)) WITHOUT ROWID;
"""  # noqa: S608 - no values come from outside

INSERT_READING = f"INSERT INTO readings VALUES (NULL, {', '.join('?' * (12 + len(LABELS)))})"  # noqa: S608
INSERT_EVENT = "INSERT INTO events VALUES (NULL, ?, ?, ?, ?)"
INSERT_MINUTE = (
    "INSERT INTO minutes (run, minute, label, seconds, faces) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE "
    "SET seconds = seconds + excluded.seconds, faces = MAX(faces, excluded.faces)"
)
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_log = logging.getLogger("mien.log")


def since_boot() -> float:
    """Seconds since the machine started, sleep included; no one sets this clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def append_event(path: Path, kind: str, text: str) -> None:
    """Write one event into a log that is there, from another process than the one that keeps it; a log that cannot be
    written is only warned of.
    """
    if not path.is_file():
        return
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=5)
        try:
            with connection:
                connection.execute(INSERT_EVENT, (time.time(), since_boot(), kind, text))
        finally:
            connection.close()
    except sqlite3.Error as problem:
        _log.warning("%s: the event '%s' cannot be written (%s)", path, kind, problem)


def open_database(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _connect(path)
    except (sqlite3.DatabaseError, OSError) as problem:
        if isinstance(problem, OSError | sqlite3.OperationalError) or not path.exists():
            raise SinkError(f"{path}: the log cannot be opened ({problem}); check the folder and its owner") from None
        if not _is_ours(path):
            raise SinkError(f"{path}: not a log of mien's; name another file with --log") from None
        move_aside(path, f"was corrupt ({problem})", "corrupt")
        return _connect(path)


def is_corrupt(problem: Exception) -> bool:
    return getattr(problem, "sqlite_errorcode", 0) & 0xFF in _CORRUPT


def move_aside(path: Path, why: str, what: str) -> None:
    for older in path.parent.glob(f"{path.name}.{what}-*"):
        older.unlink()  # one is enough to look at, and a card that fails would fill up with them
    aside = path.with_name(f"{path.name}.{what}-{int(time.time())}")
    path.replace(aside)
    for suffix in ("-wal", "-shm"):
        sidecar(path, suffix).unlink(missing_ok=True)
    _log.error("%s %s: moved to %s, a new log begun", path, why, aside.name)


def _is_ours(path: Path) -> bool:
    """Whether a file that SQLite refuses was a database, or is what a power cut leaves: zeros, or nothing."""
    with path.open("rb") as file:
        head = file.read(16)
    return head == b"SQLite format 3\0" or not any(head)


def sidecar(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=5)
    try:
        # Small pages, for each commit rewrites a whole one: a card's life is counted in what is written to it.
        connection.execute("PRAGMA page_size=1024")
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        if connection.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("quick_check failed")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise SinkError(f"{path}: written by a newer mien (log version {version}); name another file with --log")
        if not version and connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'readings'").fetchone():
            connection.close()
            move_aside(path, "has the layout of mien 0.1", "old")
            return _connect(path)
        connection.executescript(_SCHEMA.format(name=os.urandom(8).hex()))
    except BaseException:
        connection.close()
        raise
    return connection


def reading_row(reading: Reading, now: float) -> tuple[Any, ...]:
    scores = reading.emotion.scores if reading.emotion else [None] * len(LABELS)
    return (
        reading.time, now, reading.source, reading.frame, reading.track, reading.label, reading.quality,
        *map(round, reading.box), *(None if score is None else round(score * SCORE_SCALE) for score in scores), reading.model,
    )  # fmt: skip
