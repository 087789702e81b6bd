"""How the log is kept within its bounds of age, rows and bytes: the oldest entries go first,
minutes last.

It happens in small steps between the commits, so that no frame has to wait for it: a step reads and
deletes at most some hundred rows, and waits for nobody who reads.
"""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mien_edge.log.boots import Ages
from mien_edge.log.database import size_on_disk
from mien_edge.settings import LogSettings

MAX_STEP_ROWS = 200
"""Rows of each table that a step deletes at most."""

_MIN_ROWS = 100  # rows that are kept of each table whatever the bytes
_STEP_PAGES = 64  # free pages of a kilobyte that a step gives back
_DAY = 86400


class Retention:
    """Deletes what is above the bounds, step by step.

    It counts the rows once, when it is made, and is told of every row that is added.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, settings: LogSettings) -> None:
        self._connection = connection
        self._path = path
        self._settings = settings
        self._rows = {
            "readings": self._count("readings"),
            "events": self._count("events"),
        }

    def _count(self, table: str) -> int:
        query = f"SELECT COUNT(*) FROM {table}"  # noqa: S608 - one of two names
        return int(self._connection.execute(query).fetchone()[0])

    def add(self, readings: int, events: int) -> None:
        """Take note of rows that were inserted."""
        self._rows["readings"] += readings
        self._rows["events"] += events

    def step(self, ages: Ages) -> bool:
        """Delete some of what is too much; return whether there may be more of it.

        Raises sqlite3.Error; what was deleted before stays deleted.
        """
        deleted = self._delete_expired(ages)
        deleted += self._delete_excess_rows()
        deleted += self._delete_excess_bytes()
        return deleted > 0

    def finish(self) -> None:
        """Cut the file and its write-ahead log to what they need. It may wait for a reader."""
        with suppress(sqlite3.OperationalError):  # who reads or a full disk is in the way
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _delete_expired(self, ages: Ages) -> int:
        limit = self._settings.max_days * _DAY
        deleted = self._delete_oldest_expired("readings", ages.of_reading, limit)
        deleted += self._delete_oldest_expired("events", ages.of_event, limit)
        deleted += self._delete_expired_minutes(ages)
        return deleted

    def _delete_oldest_expired(
        self, table: str, age: Callable[[int, float, float], float], limit: float
    ) -> int:
        """Delete the entries up to the last that is certainly too old, among the oldest ones.

        The newest of all stays.
        """
        query = f"SELECT id, time, monotonic FROM {table} ORDER BY id LIMIT ?"  # noqa: S608 - two fixed names
        oldest = self._connection.execute(query, (MAX_STEP_ROWS,)).fetchall()
        expired = [number for number, *times in oldest if age(number, *times) > limit]
        if not expired:
            return 0
        return self._delete_up_to(table, expired[-1])

    def _delete_up_to(self, table: str, number: int) -> int:
        condition = f"id <= ? AND id < (SELECT MAX(id) FROM {table})"  # noqa: S608 - two fixed names
        with self._connection:
            cursor = self._connection.execute(f"DELETE FROM {table} WHERE {condition}", (number,))  # noqa: S608
        self._rows[table] -= cursor.rowcount
        return cursor.rowcount

    def _delete_expired_minutes(self, ages: Ages) -> int:
        limit = self._settings.max_summary_days * _DAY
        query = "SELECT minute, label, run FROM minutes ORDER BY minute LIMIT ?"
        oldest = self._connection.execute(query, (MAX_STEP_ROWS,)).fetchall()
        expired = [row for row in oldest if ages.of_minute(row[2], row[0]) > limit]
        if not expired:
            return 0
        condition = "minute = ? AND label = ? AND run = ?"
        with self._connection:
            self._connection.executemany(f"DELETE FROM minutes WHERE {condition}", expired)  # noqa: S608
        return len(expired)

    def _delete_excess_rows(self) -> int:
        deleted = 0
        for table, rows in self._rows.items():
            excess = rows - self._settings.max_rows
            if excess > 0:
                deleted += self._delete_oldest(table, min(excess, MAX_STEP_ROWS))
        return deleted

    def _delete_oldest(self, table: str, rows: int) -> int:
        last = f"SELECT id FROM {table} ORDER BY id LIMIT 1 OFFSET ?"  # noqa: S608 - two fixed names
        row = self._connection.execute(last, (rows - 1,)).fetchone()
        if row is None:
            return 0
        return self._delete_up_to(table, row[0])

    def _delete_excess_bytes(self) -> int:
        """Delete the oldest entries while the pages in use are more than `max_megabytes`, and give
        free pages back."""
        max_bytes = self._settings.max_megabytes * 1e6
        deleted = 0
        if used_bytes(self._connection) > max_bytes:
            deleted = self._delete_oldest_entries() or self._delete_oldest_minutes()
        if size_on_disk(self._path) > max_bytes:
            deleted += self._give_back_pages()
        return deleted

    def _delete_oldest_entries(self) -> int:
        deleted = 0
        for table, rows in self._rows.items():
            if rows > _MIN_ROWS:
                deleted += self._delete_oldest(table, min(rows - _MIN_ROWS, MAX_STEP_ROWS))
        return deleted

    def _delete_oldest_minutes(self) -> int:
        oldest = "SELECT minute, label, run FROM minutes ORDER BY minute LIMIT ?"
        condition = f"(minute, label, run) IN ({oldest})"
        with self._connection:
            query = f"DELETE FROM minutes WHERE {condition}"  # noqa: S608 - no values
            cursor = self._connection.execute(query, (MAX_STEP_ROWS,))
        return cursor.rowcount

    def _give_back_pages(self) -> int:
        """Shrink the file by some free pages; return how many those were."""
        pages = min(_pragma(self._connection, "freelist_count"), _STEP_PAGES)
        if pages:
            # fetchall, because each step of the statement frees one page
            self._connection.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()
        # PASSIVE waits for no reader; the rest follows when nobody reads.
        self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        return pages


def used_bytes(connection: sqlite3.Connection) -> int:
    """Return the bytes of the pages that hold something."""
    pages = _pragma(connection, "page_count")
    free_pages = _pragma(connection, "freelist_count")
    return (pages - free_pages) * _pragma(connection, "page_size")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
