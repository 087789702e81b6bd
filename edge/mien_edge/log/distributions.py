"""Probabilities of labels in the log: how those of any label set are stored, and which sets a log
has.

Those of LABELS stand in the columns of `readings`, as in every log since mien 0.2, which reads and
writes them as before. Those of any other label set stand in the table `scores`, in the order of a
row of `label_sets`; a mien that knows no such table sees the reading without probabilities.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from mien_edge.labels import LABELS, NONE, ordered
from mien_edge.log.damage import damage
from mien_edge.values import Emotion

SCORE_SCALE = 10_000
"""A probability of 1 as the log stores it."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS label_sets (label_set INTEGER PRIMARY KEY, labels TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS scores (
  id INTEGER PRIMARY KEY,
  label_set INTEGER NOT NULL,
  scores TEXT NOT NULL
);
CREATE TRIGGER IF NOT EXISTS delete_scores AFTER DELETE ON readings BEGIN
  DELETE FROM scores WHERE id = old.id;
END;
"""

COLUMNS = """
(SELECT labels FROM label_sets JOIN scores USING (label_set) WHERE scores.id = readings.id)
  AS own_labels,
(SELECT scores FROM scores WHERE scores.id = readings.id) AS own_scores
"""
"""SQL of what `read_emotion` needs beside the columns of `readings`; see `has_tables`."""

_INSERT_SET = "INSERT OR IGNORE INTO label_sets (labels) VALUES (?)"
_INSERT_SCORES = (
    "INSERT OR REPLACE INTO scores VALUES "
    "(last_insert_rowid(), (SELECT label_set FROM label_sets WHERE labels = ?), ?)"
)
_HAS_COLUMNS = f"SELECT 1 FROM readings WHERE {LABELS[0]} IS NOT NULL LIMIT 1"  # noqa: S608


def columns(emotion: Emotion | None) -> Sequence[int | None]:
    """Return what stands in the columns of `readings` that are named as LABELS."""
    if emotion is None or emotion.labels != LABELS:
        return [None] * len(LABELS)
    return _whole(emotion)


def _whole(emotion: Emotion) -> list[int]:
    return [round(score * SCORE_SCALE) for score in emotion.scores]


def insert_sets(connection: sqlite3.Connection, label_sets: Iterable[tuple[str, ...]]) -> None:
    """Note that the log has readings or minutes of these label sets. Raises sqlite3.Error."""
    connection.executemany(_INSERT_SET, [(json.dumps(labels),) for labels in label_sets])


def insert_scores(connection: sqlite3.Connection, emotion: Emotion | None) -> None:
    """Store the probabilities of the reading that was inserted last, where its columns hold none.

    Its label set is noted already. Raises sqlite3.Error.
    """
    if emotion is not None and emotion.labels != LABELS:
        values = (json.dumps(emotion.labels), json.dumps(_whole(emotion)))
        connection.execute(_INSERT_SCORES, values)


def read_emotion(row: sqlite3.Row) -> Emotion | None:
    """Return the probabilities of a row of `readings` with COLUMNS; None if it has none.

    Raises sqlite3.Error for what is no list of labels or of whole numbers.
    """
    if row[LABELS[0]] is not None:
        return Emotion(LABELS, tuple(row[label] / SCORE_SCALE for label in LABELS))
    if row["own_scores"] is None:
        return None
    labels = _names(row["own_labels"])
    scores = _list(row["own_scores"])
    are_numbers = all(isinstance(score, int) for score in scores)
    if not are_numbers or len(labels) != len(scores):
        raise damage("the scores of a reading are none")
    return Emotion(labels, tuple(score / SCORE_SCALE for score in scores))


def _names(text: Any) -> tuple[str, ...]:
    names = _list(text)
    if not names or not all(isinstance(name, str) for name in names):
        raise damage("a label set is none")
    return tuple(names)


def _list(text: Any) -> list[Any]:
    try:
        values = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        raise damage("the scores of a reading are none") from None
    if not isinstance(values, list):
        raise damage("the scores of a reading are none")
    return values


def label_sets(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    """Return the label sets that are noted in a log, the first noted first. Raises sqlite3.Error.

    A log of an earlier mien has no such notes; its readings are of LABELS.
    """
    if not has_tables(connection):
        return [LABELS]
    rows = connection.execute("SELECT labels FROM label_sets ORDER BY label_set").fetchall()
    return [_names(row[0]) for row in rows]


def has_tables(connection: sqlite3.Connection) -> bool:
    """Whether the log can have readings of other label sets than LABELS."""
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'label_sets'"
    return connection.execute(query).fetchone() is not None


def all_labels(connection: sqlite3.Connection) -> tuple[str, ...]:
    """Return every label that a reading of the log may have, in the order of columns; those of
    LABELS for a log without any. Raises sqlite3.Error.

    It may read all readings: an earlier mien that went on with the log has noted nothing.
    """
    sets = label_sets(connection)
    if LABELS not in sets and connection.execute(_HAS_COLUMNS).fetchone():
        sets.append(LABELS)
    return _union(sets) or LABELS


def labels_of_minutes(
    connection: sqlite3.Connection, since: float, until: float
) -> tuple[str, ...]:
    """Return the labels of the models that ran in some minutes, in the order of columns, those that
    nobody showed included.

    since, until: the minutes that begin between them (seconds since 1970), the latter excluded.

    The minutes do not say which model they are of: it is the fewest label sets that have all labels
    that were seen. Where none was seen, it is all of the log. Raises sqlite3.Error.
    """
    query = "SELECT DISTINCT label FROM minutes WHERE minute >= ? AND minute < ?"
    seen = {row[0] for row in connection.execute(query, (since, until))} - {NONE, ""}
    sets = label_sets(connection)
    if not seen <= set(_union(sets)):  # an earlier mien has noted nothing
        sets.append(LABELS)
    return ordered((*_union(_covering(sets, seen) or sets), *sorted(seen)))


def _covering(sets: list[tuple[str, ...]], seen: set[str]) -> list[tuple[str, ...]]:
    """The sets, few of them, that have what was seen; of equal ones the one that was noted last."""
    used: list[tuple[str, ...]] = []
    missing = set(seen)
    while missing:
        best = max(reversed(sets), key=lambda labels: len(missing.intersection(labels)))
        if missing.isdisjoint(best):
            break
        used.append(best)
        missing.difference_update(best)
    return used


def _union(sets: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return ordered(label for labels in sets for label in labels)
