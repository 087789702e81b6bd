"""The on-device log, its reading side: any number of processes may read while one writes, also as another user."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mien_edge.errors import SinkError
from mien_edge.labels import LABELS
from mien_edge.log.database import SCORE_SCALE, VERSION
from mien_edge.log.minutes import ALL
from mien_edge.values import Box, Emotion, Reading


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
    """The log, read-only; close it after one look, for it may be replaced. Raises SinkError if there is none."""
    try:
        found = path.is_file()
    except OSError as problem:
        raise SinkError(f"{path}: cannot be read ({problem.strerror}); run it as root") from None
    if not found:
        raise SinkError(f"{path}: no log here; the service writes one, or: mien-edge run SOURCE --log {path}")
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?{_mode(path)}", uri=True, timeout=5)
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


def _mode(path: Path) -> str:
    """Without a writer there is no write-ahead log, and whoever may not write in the folder could not make one."""
    return "mode=ro" if path.with_name(path.name + "-wal").exists() else "mode=ro&immutable=1"


def name(connection: sqlite3.Connection) -> str:
    """16 hexadecimal digits that tell this log from any other; with an id they name an entry for ever."""
    return str(connection.execute("SELECT value FROM meta WHERE key = 'log'").fetchone()[0])


def newest(connection: sqlite3.Connection, table: str) -> int:
    """The greatest id of 'readings' or 'events'; 0 where there is none."""
    return int(connection.execute(f"SELECT COALESCE(MAX(id), 0) FROM {table}").fetchone()[0])  # noqa: S608 - two names


def readings(connection: sqlite3.Connection, wanted: Filter, most: int = -1) -> Iterator[tuple[int, Reading]]:
    """(id, reading) in the order written, at most so many."""
    condition, values = wanted.where()
    query = f"SELECT * FROM readings WHERE {condition} ORDER BY id LIMIT ?"  # noqa: S608 - values are bound
    for row in connection.execute(query, (*values, most)):
        yield row["id"], _reading(row)


def _reading(row: sqlite3.Row) -> Reading:
    scores = None if row[LABELS[0]] is None else tuple(row[label] / SCORE_SCALE for label in LABELS)
    return Reading(
        row["time"], row["frame"], row["track"], Box(row["x"], row["y"], row["width"], row["height"]),
        None if scores is None else Emotion(LABELS, scores),
        row["label"], row["quality"], row["model"], row["source"],
    )  # fmt: skip


def events(connection: sqlite3.Connection, wanted: Filter, kind: str | None = None) -> list[dict[str, Any]]:
    """Events in the order written: id, time, kind, text; of `kind` only where it is given."""
    condition, values = Filter(wanted.since, wanted.until, after=wanted.after).where()
    rows = connection.execute(
        f"SELECT id, time, kind, text FROM events WHERE {condition} AND kind = COALESCE(?, kind) ORDER BY id",  # noqa: S608
        (*values, kind),
    )
    return [dict(row) for row in rows]


def read_minutes(
    connection: sqlite3.Connection, since: float, until: float = 1e12, step: int = 60
) -> list[dict[str, Any]]:
    """Face-seconds in spans of `step` seconds: 'time' of the start, 'seconds' per label (and 'none'), and 'faces', the
    most faces in one frame of it.
    """
    rows = connection.execute(
        "SELECT minute / ? * ? AS start, label, SUM(seconds) AS seconds, MAX(faces) AS faces FROM minutes "
        "WHERE minute >= ? AND minute < ? GROUP BY start, label ORDER BY start",
        (step, step, since, until),
    )
    spans: dict[int, dict[str, Any]] = {}
    for row in rows:
        span = spans.setdefault(row["start"], {"time": row["start"], "seconds": {}, "faces": 0})
        if row["label"] == ALL:
            span["faces"] = row["faces"]
        else:
            span["seconds"][row["label"]] = row["seconds"]
    return list(spans.values())
