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


def issued(connection: sqlite3.Connection, table: str, boot: str) -> tuple[int, int]:
    """Return two ids of 'readings' or 'events': the greatest before the log's last run, and the
    greatest that may ever have been used.

    boot: the kernel's id of the present boot. If the log has been written to in it, no power cut
        has taken entries back since.
    """
    last = newest(connection, table)
    first = _mark(connection, f"first {table}")
    if first is None:
        return last, last
    before = first - 1
    used = max(last, before)
    row = connection.execute("SELECT kernel_id FROM boots ORDER BY boot DESC LIMIT 1").fetchone()
    if not boot or row is None or row[0] != boot:
        used = max(used, _mark(connection, f"reserved {table}") or 0)
    return before, used


def _mark(connection: sqlite3.Connection, key: str) -> int | None:
    row = connection.execute(_READ, (key,)).fetchone()
    return int(row[0]) if row else None


class IdReservation:
    """Keeps the marks above the ids in use.

    connection: of the log's only writer.
    sync: makes durable what was committed.
    """

    def __init__(self, connection: sqlite3.Connection, sync: Callable[[], None]) -> None:
        self._connection = connection
        self._sync = sync
        self._used = dict.fromkeys(TABLES, 0)
        first = [(f"first {table}", str(self._mark(table) + 1)) for table in TABLES]
        with connection:
            connection.executemany(_WRITE, first)
        self._reserve()

    def _mark(self, table: str) -> int:
        return _mark(self._connection, f"reserved {table}") or 0

    def ensure(self, count: int) -> None:
        """Have so many ids of each table reserved before entries are inserted. The marks are read
        anew, for other processes write as well. Raises sqlite3.Error."""
        needed = count + _SPARE
        if any(self._last_used(table) + needed > self._mark(table) for table in TABLES):
            self._reserve(count)

    def remember(self) -> None:
        """Note which ids are used: rows may be gone before `release`. Raises sqlite3.Error."""
        for table in TABLES:
            self._used[table] = max(self._used[table], self._last_used(table))

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
        self.remember()
        self._write_marks(self._used)

    def _write_marks(self, marks: dict[str, int]) -> None:
        rows = [(f"reserved {table}", str(mark)) for table, mark in marks.items()]
        with self._connection:
            self._connection.executemany(_WRITE, rows)
