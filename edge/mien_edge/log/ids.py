"""The ids of readings and events: none is ever used for two entries.

A power cut takes back what was not synced, and whoever has read those entries meanwhile, as the
publisher has, would take the next ones for them. So ids are reserved: a mark on the disk is above
every id in use, and after an end that was not clean the next id is the one behind the mark.
"""

import sqlite3
from collections.abc import Callable

TABLES = ("readings", "events")

_BLOCK = 100_000  # ids that are reserved at once
_SPARE = 1000  # reserved ids that are left for events from other processes

_READ = "SELECT CAST(value AS INTEGER) FROM meta WHERE key = ?"
_WRITE = "INSERT OR REPLACE INTO meta VALUES (?, ?)"


def next_id(table: str) -> str:
    """Return the SQL expression for the id of the next entry of 'readings' or 'events'."""
    newest = f"(SELECT MAX(id) FROM {table})"  # noqa: S608 - one of two names
    first = f"(SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'first {table}')"  # noqa: S608
    return f"MAX(COALESCE({newest}, 0) + 1, COALESCE({first}, 1))"


def newest(connection: sqlite3.Connection, table: str) -> int:
    """Return the greatest id of 'readings' or 'events'; 0 where there is none."""
    query = f"SELECT COALESCE(MAX(id), 0) FROM {table}"  # noqa: S608 - one of two names
    return int(connection.execute(query).fetchone()[0])


class IdReservation:
    """Keeps the marks above the ids in use.

    connection: of the log's only writer.
    sync: makes durable what was committed.
    """

    def __init__(self, connection: sqlite3.Connection, sync: Callable[[], None]) -> None:
        self._connection = connection
        self._sync = sync
        first = [(f"first {table}", str(self._mark(table) + 1)) for table in TABLES]
        with connection:
            connection.executemany(_WRITE, first)
        self._reserve()

    def _mark(self, table: str) -> int:
        row = self._connection.execute(_READ, (f"reserved {table}",)).fetchone()
        return int(row[0]) if row else 0

    def ensure(self, count: int) -> None:
        """Have so many ids of each table reserved before entries are inserted. The marks are read
        anew, for other processes write as well. Raises sqlite3.Error."""
        needed = count + _SPARE
        if any(self._last_used(table) + needed > self._mark(table) for table in TABLES):
            self._reserve(count)

    def _last_used(self, table: str) -> int:
        query = f"SELECT {next_id(table)} - 1"
        return int(self._connection.execute(query).fetchone()[0])

    def _reserve(self, count: int = 0) -> None:
        self._write_marks({table: self._last_used(table) + count + _BLOCK for table in TABLES})
        self._sync()

    def release(self) -> None:
        """Give back what is reserved and not used: everything is on the disk.

        What was used may have been deleted since, or lost before this run. Raises sqlite3.Error.
        """
        self._write_marks({table: self._last_used(table) for table in TABLES})

    def _write_marks(self, marks: dict[str, int]) -> None:
        rows = [(f"reserved {table}", str(mark)) for table, mark in marks.items()]
        with self._connection:
            self._connection.executemany(_WRITE, rows)
