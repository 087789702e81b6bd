"""The log's SQLite file: its schema, how it is opened, and what becomes of a damaged one."""

import logging
import os
import sqlite3
import time
from pathlib import Path
from typing import NamedTuple

from mien_edge.errors import SinkError
from mien_edge.events import EventKind
from mien_edge.labels import LABELS
from mien_edge.values import Reading

VERSION = 2
SCORE_SCALE = 10_000  # a probability of 1 as the log stores it

_SCHEMA = f"""
PRAGMA user_version = {VERSION};
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO meta VALUES ('log', '{{name}}');
CREATE TABLE IF NOT EXISTS readings (
  id INTEGER PRIMARY KEY,
  time REAL NOT NULL,
  monotonic REAL NOT NULL,
  source TEXT NOT NULL,
  frame INTEGER NOT NULL,
  track INTEGER NOT NULL,
  label TEXT,
  quality TEXT NOT NULL,
  x INTEGER NOT NULL,
  y INTEGER NOT NULL,
  width INTEGER NOT NULL,
  height INTEGER NOT NULL,
  {", ".join(f"{label} INTEGER" for label in LABELS)},
  model TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS events (
  id INTEGER PRIMARY KEY,
  time REAL NOT NULL,
  monotonic REAL NOT NULL,
  kind TEXT NOT NULL,
  text TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS minutes (
  minute INTEGER NOT NULL,
  label TEXT NOT NULL,
  run INTEGER NOT NULL,
  seconds REAL NOT NULL,
  faces INTEGER NOT NULL,
  PRIMARY KEY (minute, label, run)
) WITHOUT ROWID;
"""  # noqa: S608 - no values come from outside

INSERT_READING = f"INSERT INTO readings VALUES (NULL, {', '.join('?' * (12 + len(LABELS)))})"  # noqa: S608
INSERT_EVENT = "INSERT INTO events VALUES (NULL, ?, ?, ?, ?)"
INSERT_MINUTE = (
    "INSERT INTO minutes (run, minute, label, seconds, faces) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT DO UPDATE SET seconds = seconds + excluded.seconds, "
    "faces = MAX(faces, excluded.faces)"
)

_PRAGMAS = (
    # Small pages, for each commit rewrites a whole one: a card's life is counted in what is written
    # to it.
    "PRAGMA page_size=1024",
    "PRAGMA auto_vacuum=INCREMENTAL",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
)
_BUSY_TIMEOUT = 5.0  # seconds to wait for another process's lock
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
# the first bytes of every SQLite database (sqlite.org/fileformat.html)
_MAGIC = b"SQLite format 3\0"

_log = logging.getLogger("mien.log")


class EventRow(NamedTuple):
    """An event in the order of INSERT_EVENT.

    time: seconds since 1970; monotonic: seconds of `since_boot`.
    """

    time: float
    monotonic: float
    kind: str
    text: str


def since_boot() -> float:
    """Return the seconds since the machine started, sleep included; nobody can set this clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def append_event(path: Path, kind: EventKind, text: str) -> None:
    """Write one event into an existing log from another process than its writer.

    Does nothing where there is no log. A log that cannot be written is no error, only a warning.
    """
    if not path.is_file():
        return
    event = EventRow(time.time(), since_boot(), kind, text)
    try:
        address = f"{path.resolve().as_uri()}?mode=rw"
        connection = sqlite3.connect(address, uri=True, timeout=_BUSY_TIMEOUT)
        try:
            with connection:
                connection.execute(INSERT_EVENT, event)
        finally:
            connection.close()
    except sqlite3.Error as problem:
        _log.warning("%s: the event '%s' cannot be written (%s)", path, kind, problem)


def open_database(path: Path) -> sqlite3.Connection:
    """Open the log to write, and create it where there is none; a corrupt file is moved aside
    first.

    Raises SinkError if it cannot be opened, is no log, or was written by a newer version.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _connect(path)
    except SinkError:
        raise
    except (sqlite3.DatabaseError, OSError) as problem:
        if isinstance(problem, OSError | sqlite3.OperationalError) or not path.exists():
            hint = "check the folder and its owner"
            raise SinkError(f"{path}: the log cannot be opened ({problem}); {hint}") from None
        if not _may_be_a_log(path):
            raise SinkError(f"{path}: not a log of mien's; name another file with --log") from None
        move_aside(path, f"was corrupt ({problem})", "corrupt")
        return _connect(path)


def is_corrupt(problem: Exception) -> bool:
    """Whether an SQLite error says that the file is damaged."""
    primary_code = getattr(problem, "sqlite_errorcode", 0) & 0xFF
    return primary_code in _CORRUPT


def move_aside(path: Path, why: str, suffix: str) -> None:
    """Rename the log to NAME.SUFFIX-TIME, so that a new one can take its place; an earlier one of
    that suffix is removed. Raises OSError.

    why: what was wrong with it, for the message.
    """
    for earlier in path.parent.glob(f"{path.name}.{suffix}-*"):
        earlier.unlink()  # one is enough to look at, and a card that fails would fill up with them
    aside = path.with_name(f"{path.name}.{suffix}-{int(time.time())}")
    path.replace(aside)
    for ending in ("-wal", "-shm"):
        sidecar(path, ending).unlink(missing_ok=True)
    _log.error("%s %s: moved to %s, a new log is started", path, why, aside.name)


def _may_be_a_log(path: Path) -> bool:
    """Whether a file that SQLite refuses was a database, or is what a power cut leaves: zeros, or
    nothing.
    """
    with path.open("rb") as file:
        head = file.read(len(_MAGIC))
    return head == _MAGIC or not any(head)


def sidecar(path: Path, suffix: str) -> Path:
    """Return the path of a file that SQLite keeps beside the log: '-wal' or '-shm'."""
    return path.with_name(path.name + suffix)


def size_on_disk(path: Path) -> int:
    """Return the log's bytes on disk, its write-ahead log included; 0 where there is none."""
    files = (path, sidecar(path, "-wal"))
    return sum(file.stat().st_size for file in files if file.exists())


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT)
    try:
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        if connection.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("quick_check failed")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            hint = "name another file with --log"
            raise SinkError(f"{path}: written by a newer mien (log version {version}); {hint}")
        if version == 0 and _has_readings(connection):
            connection.close()
            move_aside(path, "has the layout of mien 0.1", "old")
            return _connect(path)
        connection.executescript(_SCHEMA.format(name=os.urandom(8).hex()))
    except BaseException:
        connection.close()
        raise
    return connection


def _has_readings(connection: sqlite3.Connection) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE name = 'readings'"
    return connection.execute(query).fetchone() is not None


def reading_row(reading: Reading, monotonic: float) -> tuple[float | int | str | None, ...]:
    """Return a reading in the order of INSERT_READING; `monotonic` is the time of `since_boot` at
    which it came.
    """
    x, y, width, height = (round(value) for value in reading.box)
    scores: list[int | None] = [None] * len(LABELS)
    if reading.emotion is not None:
        scores = [round(score * SCORE_SCALE) for score in reading.emotion.scores]
    return (
        reading.time,
        monotonic,
        reading.source,
        reading.frame,
        reading.track,
        reading.label,
        reading.quality,
        x,
        y,
        width,
        height,
        *scores,
        reading.model,
    )
