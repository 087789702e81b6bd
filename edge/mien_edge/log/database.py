"""The log's SQLite file: its schema, how it is opened, and what becomes of a damaged one."""

import logging
import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from mien_edge import files
from mien_edge.errors import SinkError
from mien_edge.events import EventKind
from mien_edge.labels import LABELS
from mien_edge.log import boots, distributions, ids
from mien_edge.log.clock import since_boot
from mien_edge.log.damage import damage
from mien_edge.log.views import create_views
from mien_edge.values import Reading

VERSION = 2

_SCHEMA = f"""
BEGIN IMMEDIATE;
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
CREATE TABLE IF NOT EXISTS positions (id INTEGER PRIMARY KEY, position REAL NOT NULL);
CREATE TRIGGER IF NOT EXISTS delete_position AFTER DELETE ON readings BEGIN
  DELETE FROM positions WHERE id = old.id;
END;
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
CREATE TABLE IF NOT EXISTS runs (run INTEGER PRIMARY KEY, source TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS readings_by_time ON readings (time);
CREATE INDEX IF NOT EXISTS events_by_time ON events (time);
{boots.SCHEMA}
{distributions.SCHEMA}
COMMIT;
"""  # noqa: S608 - no values come from outside
# A reading's position in a video file, probabilities of other labels than LABELS, and the video file
# whose minutes those of a run are, have tables of their own: the version before goes on writing
# such a log, and it fills every column of `readings`.

_PLACES = ", ".join("?" * (12 + len(LABELS)))
INSERT_READING = f"INSERT INTO readings VALUES ({ids.next_id('readings')}, {_PLACES})"  # noqa: S608
INSERT_POSITION = "INSERT OR REPLACE INTO positions VALUES (last_insert_rowid(), ?)"
INSERT_EVENT = f"INSERT INTO events VALUES ({ids.next_id('events')}, ?, ?, ?, ?)"  # noqa: S608
FIND_RUN = "SELECT run FROM runs WHERE source = ? AND run > ?"
INSERT_RUN = (
    "INSERT INTO runs SELECT MAX(?, (SELECT COALESCE(MAX(run), 0) FROM minutes), "
    "(SELECT COALESCE(MAX(run), 0) FROM runs)) + 1, ?"
)
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
    # bytes that the write-ahead log is cut to when it starts anew
    "PRAGMA journal_size_limit=65536",
)
_BUSY_TIMEOUT = 5.0  # seconds to wait for another process's lock
DATABASE_ERRORS = (sqlite3.Error, UnicodeDecodeError, MemoryError)
"""What reading and writing a log may raise: a damaged name in an error's text is no UTF-8, and a
damaged length asks for too much memory."""

_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
# errors that say nothing against the file: permissions, locks, a full or failing disk
_NOT_THE_FILES_FAULT = (
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_AUTH,
)
# the first bytes of every SQLite database (sqlite.org/fileformat.html)
_MAGIC = b"SQLite format 3\0"
_SECTOR = 512  # bytes that a disk writes at once
_TRACE = b"CREATE TABLE"  # what the first page of a log holds behind its first sector
_TRACE_BYTES = 65536  # the largest page of a database

_log = logging.getLogger("mien.log")


class EventRow(NamedTuple):
    """An event in the order of INSERT_EVENT.

    time: seconds since 1970; monotonic: seconds of `since_boot`.
    """

    time: float
    monotonic: float
    kind: str
    text: str


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
            connection.execute("PRAGMA synchronous=FULL")  # its id must not be used again
            with connection:
                connection.execute(INSERT_EVENT, event)
        finally:
            connection.close()
    except DATABASE_ERRORS as problem:
        _log.warning("%s: the event '%s' cannot be written (%s)", path, kind, problem)


def open_database(path: Path, is_own: bool = False) -> sqlite3.Connection:
    """Open the log to write, and create it where there is none; a damaged file is moved aside
    first.

    is_own: whether `path` is the service's own place for its log. What stands there is moved aside,
    whatever it is; elsewhere only what was a log is.

    Raises SinkError if it cannot be opened, is no log, or was written by a newer version.
    """
    try:
        files.make_folder(path.parent)
        _refuse_special_file(path, is_own)
        return _connect(path, is_own)
    except DATABASE_ERRORS as problem:
        if not _is_damage(path, problem):
            raise _cannot_be_opened(path, problem) from None
        if not (is_own or _was_a_log(path)):
            raise SinkError(f"{path}: not a log of mien's; name another file with --log") from None
        reason = str(problem)
    except OSError as problem:
        raise _cannot_be_opened(path, problem) from None
    try:
        move_aside(path, f"was corrupt ({reason})", "corrupt")
        return _connect(path, is_own)
    except (*DATABASE_ERRORS, OSError) as problem:
        raise _cannot_be_opened(path, problem) from None


def _cannot_be_opened(path: Path, problem: Exception) -> SinkError:
    hint = "check the folder and its owner"
    return SinkError(f"{path}: the log cannot be opened ({problem}); {hint}")


def _refuse_special_file(path: Path, is_own: bool) -> None:
    """Move a pipe, a folder, a device or a link that leads nowhere aside, or raise SinkError."""
    if path.is_file() or not (path.exists() or path.is_symlink()):
        return
    if not is_own:
        raise SinkError(f"{path}: not a plain file; name another one with --log")
    move_aside(path, "is not a plain file", "corrupt")


def error_code(problem: Exception) -> int:
    """Return the primary code of an SQLite error, such as sqlite3.SQLITE_BUSY; 0 for others."""
    return int(getattr(problem, "sqlite_errorcode", 0)) & 0xFF


def is_corrupt(problem: Exception) -> bool:
    """Whether an error of DATABASE_ERRORS says that the file is damaged."""
    return isinstance(problem, UnicodeDecodeError | MemoryError) or error_code(problem) in _CORRUPT


def is_locked(problem: Exception) -> bool:
    """Whether an SQLite error says that another process writes now."""
    return error_code(problem) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _is_damage(path: Path, problem: Exception) -> bool:
    """Whether it is the file's fault that it cannot be opened as a log."""
    if not path.exists():
        return False
    code = error_code(problem)
    if code == sqlite3.SQLITE_READONLY:  # also what a damaged header looks like to SQLite
        return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    return code not in _NOT_THE_FILES_FAULT


def delete_single_readings(connection: sqlite3.Connection, min_faces: int) -> tuple[int, int]:
    """Delete all readings, and the minutes in which no frame had `min_faces` faces.

    What was deleted is overwritten with zeros, in the write-ahead log as well. Returns the numbers
    of readings and of minutes. Raises sqlite3.Error, also where another process reads just now.
    """
    small = "SELECT minute, run FROM minutes WHERE label = '' AND faces < ?"
    count = f"SELECT COUNT(DISTINCT minute) FROM ({small})"  # noqa: S608 - one value, bound
    minutes = connection.execute(count, (min_faces,)).fetchone()[0]
    connection.execute("PRAGMA secure_delete=ON")
    with connection:
        readings = connection.execute("DELETE FROM readings").rowcount
        connection.execute(
            f"DELETE FROM minutes WHERE (minute, run) IN ({small})",  # noqa: S608
            (min_faces,),
        )
    if readings or minutes:
        is_busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if is_busy:
            raise sqlite3.OperationalError("another process reads it, so nothing can be erased")
    return readings, int(minutes)


def delete_asides(path: Path) -> int:
    """Delete the logs that `move_aside` has put beside a log; return how many. Raises OSError."""
    asides = [*path.parent.glob(f"{path.name}.corrupt-*"), *path.parent.glob(f"{path.name}.old-*")]
    for aside in asides:
        _delete(aside)
    return len(asides)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def move_aside(path: Path, why: str, suffix: str) -> None:
    """Rename the log to NAME.SUFFIX-TIME, so that a new one can take its place; an earlier one of
    that suffix is removed. Raises OSError.

    why: what was wrong with it, for the message.
    """
    for earlier in path.parent.glob(f"{path.name}.{suffix}-*"):
        # One is enough to look at, and a card that fails would fill up with them.
        _delete(earlier)
    aside = path.with_name(f"{path.name}.{suffix}-{int(time.time())}")
    path.replace(aside)
    for ending in ("-wal", "-shm"):
        sidecar(path, ending).unlink(missing_ok=True)
    _log.error("%s %s: moved to %s, a new log is started", path, why, aside.name)


def _was_a_log(path: Path) -> bool:
    """Whether a file that SQLite refuses was a log before it was damaged.

    Its first sector may hold what a power cut (zeros, or nothing) or an erased flash block (0xFF)
    leaves, or another file's content; then what stands behind it tells.
    """
    with path.open("rb") as file:
        head = file.read(_TRACE_BYTES)
    first_sector = head[:_SECTOR]
    if first_sector.startswith(_MAGIC) or not first_sector.strip(b"\0"):
        return True
    if not first_sector.strip(b"\xff"):
        return True
    has_sidecar = sidecar(path, "-wal").exists() or sidecar(path, "-shm").exists()
    return has_sidecar or _TRACE in head[_SECTOR:]


def sidecar(path: Path, suffix: str) -> Path:
    """Return the path of a file that SQLite keeps beside the log: '-wal' or '-shm'."""
    return path.with_name(path.name + suffix)


def size_on_disk(path: Path) -> int:
    """Return the log's bytes on disk, its write-ahead log included; 0 where there is none."""
    files = (path, sidecar(path, "-wal"))
    return sum(file.stat().st_size for file in files if file.exists())


def _connect(path: Path, is_own: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT)
    connection.text_factory = decode
    try:
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        if connection.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("quick_check failed")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        obstacle = _layout_obstacle(connection, version)
        if version > VERSION and not is_own:
            hint = "name another file with --log"
            raise SinkError(f"{path}: {obstacle}; {hint}")
        if obstacle:
            connection.close()
            move_aside(path, obstacle, "old")
            return _connect(path, is_own)
        connection.executescript(_SCHEMA.format(name=os.urandom(8).hex()))
        if _new_columns() - _columns(connection):
            raise damage("its columns are not those of a log")
        create_views(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _columns(connection: sqlite3.Connection) -> set[tuple[str | int, ...]]:
    """Return each column's table, name, type and place in the primary key."""
    query = (
        "SELECT entry.name, field.name, field.type, field.pk FROM sqlite_master AS entry, "
        "pragma_table_info(entry.name) AS field WHERE entry.type = 'table'"
    )
    return set(connection.execute(query))


def _new_columns() -> set[tuple[str | int, ...]]:
    """Return the columns of a new log."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_SCHEMA)
        return _columns(connection)


def _layout_obstacle(connection: sqlite3.Connection, version: int) -> str:
    """Why a database of this version cannot be continued; '' if it can."""
    if version > VERSION:
        return f"was written by a newer mien (log version {version})"
    if version == 0 and _has_readings(connection):
        return "has the layout of mien 0.1"
    return ""


def decode(text: bytes) -> str:
    """Decode a text of the log; damaged bytes become U+FFFD instead of an error."""
    return text.decode(errors="replace")


def _has_readings(connection: sqlite3.Connection) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE name = 'readings'"
    return connection.execute(query).fetchone() is not None


def reading_row(reading: Reading, monotonic: float) -> tuple[float | int | str | None, ...]:
    """Return a reading in the order of INSERT_READING; `monotonic` is the time of `since_boot` at
    which it came.
    """
    x, y, width, height = (round(value) for value in reading.box)
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
        *distributions.columns(reading.emotion),
        reading.model,
    )
