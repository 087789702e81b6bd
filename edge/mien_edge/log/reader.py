"""The on-device log, its reading side: any number of processes may read while one writes, also as
another user.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mien_edge.addresses import mask_text
from mien_edge.errors import SinkError
from mien_edge.events import Event
from mien_edge.labels import LABELS
from mien_edge.log.database import SCORE_SCALE, VERSION, sidecar
from mien_edge.log.minutes import ALL, MinuteSummary
from mien_edge.values import Box, Emotion, Reading

_BUSY_TIMEOUT = 5.0  # seconds to wait for a writer's lock


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries to read.

    since, until: seconds since 1970, the latter excluded.
    label, track: of readings only; None for any.
    after: only ids above this one.
    """

    since: float = 0.0
    until: float = 1e12
    label: str | None = None
    track: int | None = None
    after: int = 0

    def where(self) -> tuple[str, list[float | int | str]]:
        """Return an SQL condition with placeholders, and the values to bind to them."""
        conditions = ["time >= ?", "time < ?", "id > ?"]
        values: list[float | int | str] = [self.since, self.until, self.after]
        if self.label is not None:
            conditions.append("label = ?")
            values.append(self.label)
        if self.track is not None:
            conditions.append("track = ?")
            values.append(self.track)
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
        address = f"{path.resolve().as_uri()}?{_open_mode(path)}"
        connection = sqlite3.connect(address, uri=True, timeout=_BUSY_TIMEOUT)
        connection.row_factory = sqlite3.Row
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        connection.execute("SELECT 1 FROM readings LIMIT 1")
    except sqlite3.Error as problem:
        hint = "run it as root or as the service's user, or name another file with --log"
        raise SinkError(f"{path}: not a readable log ({problem}); {hint}") from None
    if version != VERSION:
        connection.close()
        hint = "read it with the mien version that wrote it"
        raise SinkError(f"{path}: a log of version {version}, this mien reads {VERSION}; {hint}")
    return connection


def _open_mode(path: Path) -> str:
    """How SQLite opens the file: without a writer there is no write-ahead log, and a reader
    without write permission in the folder could not create one."""
    if sidecar(path, "-wal").exists():
        return "mode=ro"
    return "mode=ro&immutable=1"


def name(connection: sqlite3.Connection) -> str:
    """Return the log's name, 16 hexadecimal digits: with an id it identifies an entry among all
    logs.
    """
    return str(connection.execute("SELECT value FROM meta WHERE key = 'log'").fetchone()[0])


def newest(connection: sqlite3.Connection, table: str) -> int:
    """Return the greatest id of 'readings' or 'events'; 0 where there is none."""
    query = f"SELECT COALESCE(MAX(id), 0) FROM {table}"  # noqa: S608 - one of two names
    return int(connection.execute(query).fetchone()[0])


def readings(
    connection: sqlite3.Connection, selection: Filter, limit: int = -1
) -> Iterator[tuple[int, Reading]]:
    """Yield (id, reading) in the order written, at most `limit` of them (-1: all)."""
    condition, values = selection.where()
    query = f"SELECT * FROM readings WHERE {condition} ORDER BY id LIMIT ?"  # noqa: S608 - values are bound
    for row in connection.execute(query, (*values, limit)):
        yield row["id"], _reading(row)


def _reading(row: sqlite3.Row) -> Reading:
    return Reading(
        time=row["time"],
        frame=row["frame"],
        track=row["track"],
        box=Box(row["x"], row["y"], row["width"], row["height"]),
        emotion=_emotion(row),
        label=row["label"],
        quality=row["quality"],
        model=row["model"],
        source=row["source"],
    )


def _emotion(row: sqlite3.Row) -> Emotion | None:
    if row[LABELS[0]] is None:
        return None
    return Emotion(LABELS, tuple(row[label] / SCORE_SCALE for label in LABELS))


def events(
    connection: sqlite3.Connection, selection: Filter, kind: str | None = None
) -> list[Event]:
    """Return the events of the selection's time and ids in the order written.

    selection: its label and track are ignored; kind: only events of this kind, None for all.
    """
    condition, values = Filter(selection.since, selection.until, after=selection.after).where()
    query = "SELECT id, time, kind, text FROM events WHERE " + condition  # noqa: S608 - values are bound
    if kind is not None:
        query += " AND kind = ?"
        values.append(kind)
    rows = connection.execute(query + " ORDER BY id", values)
    return [Event(row["id"], row["time"], row["kind"], mask_text(row["text"])) for row in rows]


def read_minutes(
    connection: sqlite3.Connection, since: float, until: float = 1e12, step: int = 60
) -> list[MinuteSummary]:
    """Return face-seconds in spans of `step` seconds (a multiple of 60), oldest first.

    since, until: the minutes that begin between them (seconds since 1970), the latter excluded.
    Spans without a face are left out.
    """
    rows = connection.execute(
        "SELECT minute / ? * ? AS start, label, SUM(seconds) AS seconds, MAX(faces) AS faces FROM "
        "minutes "
        "WHERE minute >= ? AND minute < ? GROUP BY start, label ORDER BY start",
        (step, step, since, until),
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
