"""Whether the log is damaged, found out while it is written: a little of it is read each minute.

SQLite notices damage where it reads. What nobody reads would stay unnoticed until the next start,
when the whole file is checked.
"""

import sqlite3
from pathlib import Path
from typing import Any

from mien_edge.log.damage import damage

MAX_ROWS = 2000
"""Rows of each table, and of each index, that are read at once."""

_QUERIES = {
    "readings": "SELECT id, * FROM readings WHERE id > ? ORDER BY id LIMIT ?",
    "positions": "SELECT id, * FROM positions WHERE id > ? ORDER BY id LIMIT ?",
    "scores": "SELECT id, * FROM scores WHERE id > ? ORDER BY id LIMIT ?",
    "events": "SELECT id, * FROM events WHERE id > ? ORDER BY id LIMIT ?",
    "minutes": "SELECT minute, * FROM minutes WHERE minute > ? ORDER BY minute LIMIT ?",
    "times of readings": "SELECT time FROM readings WHERE time > ? ORDER BY time LIMIT ?",
    "times of events": "SELECT time FROM events WHERE time > ? ORDER BY time LIMIT ?",
}
_BEGINNING = float("-inf")


class Checkup:
    """Reads the log from beginning to end, again and again, a slice at each `step`.

    It opens the file anew each time: what the writer keeps in memory says nothing of the disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._positions: dict[str, Any] = dict.fromkeys(_QUERIES, _BEGINNING)

    def step(self) -> None:
        """Read the next slice. Raises sqlite3.Error if it is damaged or cannot be read."""
        address = f"{self._path.resolve().as_uri()}?mode=ro"
        connection = sqlite3.connect(address, uri=True, timeout=0.0)
        try:
            connection.text_factory = bytes
            for name, query in _QUERIES.items():
                position = self._positions[name]
                self._positions[name] = _read(connection, name, query, position)
        finally:
            connection.close()


def _read(connection: sqlite3.Connection, name: str, query: str, position: Any) -> Any:
    """Read a slice; return the position behind it, the beginning where the end was reached."""
    rows = 0
    last = position
    for row in connection.execute(query, (position, MAX_ROWS)):
        if not isinstance(row[0], int | float) or row[0] < last:
            raise damage(f"the {name} are out of order")
        last = row[0]
        rows += 1
    return last if rows == MAX_ROWS else _BEGINNING
