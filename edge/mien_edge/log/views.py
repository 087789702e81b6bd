"""SQL views of the log in natural units, for other programs: README.md in this folder."""

import sqlite3

from mien_edge.labels import LABELS
from mien_edge.log.minutes import ALL

_TIME = "strftime('%Y-%m-%dT%H:%M:%fZ', {}, 'unixepoch')"
# distributions.SCORE_SCALE; with a decimal point, for SQL divides whole numbers whole
_SCALE = 10_000.0

_NAMES_AND_SCORES = """
    scores JOIN label_sets USING (label_set), json_each(label_sets.labels) AS name,
    json_each(scores.scores) AS score
"""  # of those that are not of LABELS; the two lists are in the same order
_OWN_SCORE = f"""
    (SELECT score.value FROM {_NAMES_AND_SCORES}
    WHERE scores.id = readings.id AND score.key = name.key AND name.value = '{{}}')
"""  # noqa: S608 - names of our own
_OWN_MAXIMUM = """
    (SELECT MAX(score.value) FROM scores, json_each(scores.scores) AS score
    WHERE scores.id = readings.id)
"""

_SELECTS = {
    "view_readings": f"""
        SELECT readings.id, {_TIME.format("readings.time")} AS time,
        NULLIF(readings.source, '') AS source, positions.position, frame, track, label,
        COALESCE(MAX({", ".join(LABELS)}), {_OWN_MAXIMUM}) / {_SCALE} AS confidence,
        quality, x, y, width, height,
        {", ".join(f"COALESCE({label}, {_OWN_SCORE.format(label)}) / {_SCALE} AS {label}"
                   for label in LABELS)},
        model
        FROM readings LEFT JOIN positions ON positions.id = readings.id
    """,  # noqa: S608 - names of our own
    "view_scores": f"""
        SELECT scores.id, name.value AS label, score.value / {_SCALE} AS probability
        FROM {_NAMES_AND_SCORES} WHERE score.key = name.key
        {"".join(f" UNION ALL SELECT id, '{label}', {label} / {_SCALE} FROM readings "
                 f"WHERE {label} IS NOT NULL" for label in LABELS)}
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
