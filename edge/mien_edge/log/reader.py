"""The on-device log, its reading side: any number of processes may read while one writes, also as
another user.
"""

import os
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from mien_edge.addresses import mask_text
from mien_edge.errors import SinkError
from mien_edge.events import Event
from mien_edge.log import distributions, ids
from mien_edge.log.database import DATABASE_ERRORS, VERSION, decode, sidecar
from mien_edge.log.minutes import ALL, MinuteSummary
from mien_edge.values import Box, Reading

_BUSY_TIMEOUT = 5.0  # seconds to wait for a writer's lock
_CHUNK = 500  # rows that are read at once
_MAX_COUNT = 10_000  # rows that are counted one by one
_DAY = 86400  # seconds
_BEGINNING = 0.0  # seconds since 1970
_END = 1e12


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries to read.

    since, until: seconds since 1970, the latter excluded.
    label, track, source: of readings only; None for any. `source` is a file's name.
    after: only ids above this one.
    """

    since: float = _BEGINNING
    until: float = _END
    label: str | None = None
    track: int | None = None
    after: int = 0
    source: str | None = None

    @property
    def is_timed(self) -> bool:
        """Whether entries of some times only are to be read."""
        return self.since > _BEGINNING or self.until < _END

    def conditions(self) -> tuple[str, list[float | int | str]]:
        """Return an SQL condition on time, label, track and source, and its values."""
        # A + keeps SQLite from sorting what it reads by the index: the order is that of ids.
        conditions = ["+time >= ?", "+time < ?"]
        values: list[float | int | str] = [self.since, self.until]
        if self.label is not None:
            conditions.append("label = ?")
            values.append(self.label)
        if self.track is not None:
            conditions.append("track = ?")
            values.append(self.track)
        if self.source is not None:
            conditions.append("source = ?")
            values.append(self.source)
        return " AND ".join(conditions), values


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open the log read-only. Close it after use: the writer may replace the file.

    Raises SinkError if there is no log at `path`, or none that this version reads.
    """
    try:
        is_file = path.is_file()
    except OSError as problem:
        raise SinkError(f"{path}: cannot be read ({problem.strerror}); run it as root") from None
    if not is_file:
        hint = f"the service writes one, or: mien-edge run SOURCE --log {path}"
        raise SinkError(f"{path}: no log here; {hint}")
    try:
        file = path.resolve()  # SQLite keeps its other files where a link leads
        address = f"{file.as_uri()}?{_open_mode(file)}"
        connection = sqlite3.connect(address, uri=True, timeout=_BUSY_TIMEOUT)
        connection.row_factory = sqlite3.Row
        connection.text_factory = decode
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        connection.execute("SELECT 1 FROM readings LIMIT 1")
    except DATABASE_ERRORS as problem:
        hint = "run it as root or as the service's user, or name another file with --log"
        raise SinkError(f"{path}: not a readable log ({problem}); {hint}") from None
    if version != VERSION:
        connection.close()
        hint = "read it with the mien version that wrote it"
        raise SinkError(f"{path}: a log of version {version}, this mien reads {VERSION}; {hint}")
    return connection


def _open_mode(path: Path) -> str:
    """How SQLite opens the file: without a writer there is no write-ahead log, and a reader
    without write permission in the folder could not create one. Immutable, the file must be closed
    before a writer may have started."""
    if sidecar(path, "-wal").exists():
        return "mode=ro"
    return "mode=ro&immutable=1"


def refuse_single_readings(path: Path) -> None:
    """Raise SinkError for an existing log with readings of single faces: whoever names a file for
    minutes only may not mean to lose what it holds."""
    if not path.exists():
        return
    with closing(open_to_read(path)) as connection:
        count = count_after(connection, "readings", 0)
    if count:
        reason = f"it holds {count} readings of single faces, and use.purpose is public"
        raise SinkError(f"{path}: {reason}; name another file with --log")


def name(connection: sqlite3.Connection) -> str:
    """Return the log's name, 16 hexadecimal digits: with an id it identifies an entry among all
    logs.
    """
    return str(connection.execute("SELECT value FROM meta WHERE key = 'log'").fetchone()[0])


def count_after(connection: sqlite3.Connection, table: str, last_id: int) -> int:
    """Return how many rows of 'readings' or 'events' have an id above `last_id`.

    Above 10,000 it is the distance of the ids, which counts gaps as well: ids are left out after an
    end that was not clean.
    """
    rows = f"SELECT 1 FROM {table} WHERE id > ? LIMIT {_MAX_COUNT}"  # noqa: S608 - one of two names
    query = f"SELECT COUNT(*) FROM ({rows})"  # noqa: S608
    count = int(connection.execute(query, (last_id,)).fetchone()[0])
    if count < _MAX_COUNT:
        return count
    return ids.newest(connection, table) - last_id


def readings(
    connection: sqlite3.Connection, selection: Filter, limit: int = -1
) -> Iterator[tuple[int, Reading]]:
    """Yield (id, reading) in the order written, at most `limit` of them (-1: all).

    No more than some hundred are in memory, and the log is not held up between them.
    """
    columns = f"*, {_position(connection)} AS position, {_own_scores(connection)}"
    for row in _rows(connection, "readings", selection, limit, columns=columns):
        yield row["id"], _reading(row)


def _position(connection: sqlite3.Connection) -> str:
    """The SQL expression for a reading's position; a log of the version before has none."""
    if has_table(connection, "positions"):
        return "(SELECT position FROM positions WHERE positions.id = readings.id)"
    return "NULL"


def _own_scores(connection: sqlite3.Connection) -> str:
    """The SQL columns of probabilities that are not of LABELS; an earlier log has none."""
    if distributions.has_tables(connection):
        return distributions.COLUMNS
    return "NULL AS own_labels, NULL AS own_scores"


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Whether the log has a table of this name."""
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(query, (name,)).fetchone() is not None


def _rows(
    connection: sqlite3.Connection,
    table: str,
    selection: Filter,
    limit: int = -1,
    kind: str | None = None,
    columns: str = "*",
) -> Iterator[sqlite3.Row]:
    """Yield the rows of 'readings' or 'events' in the order of their ids, chunk by chunk."""
    condition, values = selection.conditions()
    if kind is not None:
        condition += " AND kind = ?"
        values.append(kind)
    first, last = _id_range(connection, table, selection)
    condition = f"id >= ? AND id <= ? AND {condition}"
    query = f"SELECT {columns} FROM {table} WHERE {condition} ORDER BY id LIMIT ?"  # noqa: S608
    stream = _Stream(connection)
    while limit:
        chunk_size = _CHUNK if limit < 0 else min(_CHUNK, limit)
        chunk = stream.fetch(query, (first, last, *values, chunk_size))
        yield from chunk
        if len(chunk) < chunk_size:
            return
        first = chunk[-1]["id"] + 1
        if limit > 0:
            limit -= chunk_size


_Fetch = Callable[[str, Sequence[float | int | str]], list[sqlite3.Row]]
"""Returns the rows of a query with these values."""


class _Stream:
    """Reads a log at the pace of whoever takes its entries: the file is opened anew for each query
    after the first, for a writer may have started, which an immutable file does not notice.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._is_first = True
        self._log = name(connection)
        self._path = _path(connection)

    def fetch(self, query: str, values: Sequence[float | int | str]) -> list[sqlite3.Row]:
        """Return the rows of a query. Raises SinkError if another log has taken the place of this
        one."""
        if self._is_first:
            self._is_first = False
            return self._connection.execute(query, values).fetchall()
        with closing(open_to_read(self._path)) as connection:
            if name(connection) != self._log:
                raise SinkError(f"{self._path}: replaced while it was read; read it again")
            return connection.execute(query, values).fetchall()


def _path(connection: sqlite3.Connection) -> Path:
    connection.text_factory = os.fsdecode
    path = connection.execute("PRAGMA database_list").fetchone()[2]
    connection.text_factory = decode
    return Path(path)


def _id_range(connection: sqlite3.Connection, table: str, selection: Filter) -> tuple[int, int]:
    """The first and the last id that can be in the selection, by the index of times."""
    first = selection.after + 1
    last = ids.newest(connection, table)
    if not selection.is_timed:
        return first, last
    query = f"SELECT MIN(id), MAX(id) FROM {table} WHERE time >= ? AND time < ?"  # noqa: S608 - two names
    lowest, highest = connection.execute(query, (selection.since, selection.until)).fetchone()
    if lowest is None:
        return 1, 0
    return max(first, lowest), highest


def _reading(row: sqlite3.Row) -> Reading:
    return Reading(
        time=row["time"],
        frame=row["frame"],
        track=row["track"],
        box=Box(row["x"], row["y"], row["width"], row["height"]),
        emotion=distributions.read_emotion(row),
        label=row["label"],
        quality=row["quality"],
        model=row["model"],
        source=row["source"],
        position=row["position"],
    )


def sources(connection: sqlite3.Connection) -> list[str]:
    """Return the names of the files that have readings, in their order."""
    query = "SELECT DISTINCT source FROM readings WHERE source != '' ORDER BY source"
    return [row[0] for row in connection.execute(query)]


def events(
    connection: sqlite3.Connection,
    selection: Filter,
    kind: str | None = None,
    limit: int = -1,
) -> Iterator[Event]:
    """Yield the events of the selection's time and ids in the order written.

    selection: its label and track are ignored.
    kind: only events of this kind, None for all.
    limit: how many at most (-1: all).
    """
    timed = Filter(selection.since, selection.until, after=selection.after)
    for row in _rows(connection, "events", timed, limit, kind):
        yield _event(row)


def event_kinds(connection: sqlite3.Connection) -> list[str]:
    """Return the kinds of the log's events, also those of other versions of mien."""
    return [row[0] for row in connection.execute("SELECT DISTINCT kind FROM events")]


def newest_events(
    connection: sqlite3.Connection,
    since: float,
    limit: int,
    kinds: Collection[str] = (),
) -> list[Event]:
    """Return the newest events, the oldest of them first.

    since: seconds since 1970; limit: how many at most.
    kinds: only events of these kinds; empty for all.
    """
    condition = "time >= ?"
    if kinds:
        condition += f" AND kind IN ({', '.join('?' * len(kinds))})"
    query = f"SELECT * FROM events WHERE {condition} ORDER BY id DESC LIMIT ?"  # noqa: S608 - bound
    rows = connection.execute(query, (since, *kinds, limit)).fetchall()
    return [_event(row) for row in reversed(rows)]


def _event(row: sqlite3.Row) -> Event:
    return Event(row["id"], row["time"], row["kind"], mask_text(row["text"]))


def iterate_minutes(
    connection: sqlite3.Connection,
    since: float,
    until: float = _END,
    step: int = 60,
    source: str | None = None,
) -> Iterator[MinuteSummary]:
    """Yield face-seconds in spans of `step` seconds, oldest first; a day is in memory at once.

    since, until: the minutes that begin between them (seconds since 1970), the latter excluded.
    step: a multiple of 60 that divides a day.
    source: only what was seen in the video file of this name; None for cameras and all files.
    Spans without a face are left out.
    """
    if source is not None and not has_table(connection, "runs"):
        return
    condition, values = _minutes_condition(source)
    query = f"SELECT MIN(minute) FROM minutes WHERE {condition}"  # noqa: S608 - no values
    start = since
    fetch = _Stream(connection).fetch
    while True:
        first = fetch(query, (start, until, *values))[0][0]
        if first is None:
            return
        next_day = first // _DAY * _DAY + _DAY
        yield from _sum_minutes(fetch, start, min(next_day, until), step, source)
        start = next_day


def read_minutes(
    connection: sqlite3.Connection, since: float, until: float = _END, step: int = 60
) -> list[MinuteSummary]:
    """Return what `iterate_minutes` yields, in memory at once and from the file as it is open."""

    def fetch(query: str, values: Sequence[float | int | str]) -> list[sqlite3.Row]:
        return connection.execute(query, values).fetchall()

    return _sum_minutes(fetch, since, until, step)


def _minutes_condition(source: str | None) -> tuple[str, tuple[str, ...]]:
    """The SQL condition on since, until and a source, and the values of the last."""
    condition = "minute >= ? AND minute < ?"
    if source is None:
        return condition, ()
    runs = "SELECT run FROM runs WHERE source = ?"
    return f"{condition} AND run IN ({runs})", (source,)


def _sum_minutes(
    fetch: _Fetch, since: float, until: float, step: int, source: str | None = None
) -> list[MinuteSummary]:
    condition, values = _minutes_condition(source)
    columns = "minute / ? * ? AS start, label, SUM(seconds) AS seconds, MAX(faces) AS faces"
    rows = fetch(
        f"SELECT {columns} FROM minutes WHERE {condition} GROUP BY start, label ORDER BY start",  # noqa: S608
        (step, step, since, until, *values),
    )
    seconds: dict[int, dict[str, float]] = {}
    faces: dict[int, int] = {}
    for row in rows:
        start = row["start"]
        per_label = seconds.setdefault(start, {})
        if row["label"] == ALL:
            faces[start] = row["faces"]
        else:
            per_label[row["label"]] = row["seconds"]
    return [
        MinuteSummary(time=start, seconds=per_label, faces=faces.get(start, 0))
        for start, per_label in seconds.items()
    ]
