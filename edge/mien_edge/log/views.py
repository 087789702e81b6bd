"""SQL views of the log in natural units, for other programs: README.md in this folder."""

import sqlite3

from mien_edge.labels import LABELS
from mien_edge.log.minutes import ALL

_TIME = "strftime('%Y-%m-%dT%H:%M:%fZ', {}, 'unixepoch')"
_SCALE = 10_000.0  # database.SCORE_SCALE; with a decimal point, for SQL divides whole numbers whole

_SELECTS = {
    "view_readings": f"""
        SELECT readings.id, {_TIME.format("readings.time")} AS time,
        NULLIF(readings.source, '') AS source, positions.position, frame, track, label,
        MAX({", ".join(LABELS)}) / {_SCALE} AS confidence, quality, x, y, width, height,
        {", ".join(f"{label} / {_SCALE} AS {label}" for label in LABELS)}, model
        FROM readings LEFT JOIN positions ON positions.id = readings.id
    """,  # noqa: S608 - names of our own
    "view_events": f"SELECT id, {_TIME.format('time')} AS time, kind, text FROM events",  # noqa: S608
    "view_minutes": f"""
        SELECT {_TIME.format("minute")} AS time, NULLIF(runs.source, '') AS source,
        CASE label WHEN '{ALL}' THEN 'all faces' ELSE label END AS label,
        SUM(seconds) AS seconds, MAX(faces) AS faces
        FROM minutes LEFT JOIN runs ON runs.run = minutes.run
        GROUP BY minute, runs.source, label ORDER BY minute, runs.source, label
    """,  # noqa: S608
}  # fmt: skip


def create_views(connection: sqlite3.Connection) -> None:
    """Create the views, and replace those that another version made. Raises sqlite3.Error."""
    for name, select in _SELECTS.items():
        statement = f"CREATE VIEW {name} AS {' '.join(select.split())}"
        query = "SELECT sql FROM sqlite_master WHERE type = 'view' AND name = ?"
        row = connection.execute(query, (name,)).fetchone()
        if row is not None and row[0] != statement:
            connection.execute(f"DROP VIEW {name}")
            row = None
        if row is None:
            connection.execute(statement.replace("VIEW", "VIEW IF NOT EXISTS", 1))
    connection.commit()
