"""How the log is kept within its bounds of age, rows and bytes: the oldest entries go first,
minutes last.
"""

import sqlite3
from pathlib import Path

from mien_edge.log.database import size_on_disk
from mien_edge.settings import LogSettings

_TABLES = ("readings", "events")
_MIN_ROWS = 100  # rows that are kept of each table whatever the bytes
_VACUUM_PAGES = 4096  # free pages of a kilobyte that are given back at once
_DAY = 86400


def delete_expired(connection: sqlite3.Connection, settings: LogSettings, now: float) -> None:
    """Delete what is too old at `now` (seconds since 1970). The newest of each table stays, so
    that no id is used twice."""
    oldest_entry = now - settings.max_days * _DAY
    oldest_minute = now - settings.max_summary_days * _DAY
    with connection:
        for table in _TABLES:
            condition = f"time < ? AND id < (SELECT MAX(id) FROM {table})"  # noqa: S608 - two fixed names
            connection.execute(f"DELETE FROM {table} WHERE {condition}", (oldest_entry,))  # noqa: S608
        connection.execute("DELETE FROM minutes WHERE minute < ?", (oldest_minute,))


def delete_excess_rows(connection: sqlite3.Connection, settings: LogSettings) -> None:
    """Delete the oldest readings and events above `max_rows` of each."""
    for table in _TABLES:
        with connection:
            _keep_newest(connection, table, settings.max_rows)


def shrink(connection: sqlite3.Connection, path: Path, settings: LogSettings) -> None:
    """Delete the oldest entries until the pages in use are within `max_megabytes`, then give some
    free pages back.

    The rest of them follows with the next calls, for a slow card must not hold up the frames.
    """
    max_bytes = settings.max_megabytes * 1e6
    while used_bytes(connection) > max_bytes and _delete_oldest_entries(connection):
        pass
    while used_bytes(connection) > max_bytes and _delete_oldest_minutes(connection):
        pass
    if size_on_disk(path) > max_bytes:
        connection.executescript(
            f"PRAGMA incremental_vacuum({_VACUUM_PAGES})"
        )  # execute would free one page
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _delete_oldest_entries(connection: sqlite3.Connection) -> bool:
    """Delete a quarter of the readings and events; False if so few are left that they stay."""
    counts = {table: _count(connection, table) for table in _TABLES}
    if max(counts.values()) <= _MIN_ROWS:
        return False
    with connection:
        for table, count in counts.items():
            _keep_newest(connection, table, max(count * 3 // 4, _MIN_ROWS))
    return True


def _delete_oldest_minutes(connection: sqlite3.Connection) -> bool:
    """Delete a quarter of the minutes; False if so few are left that they stay."""
    count = _count(connection, "minutes")
    if count <= _MIN_ROWS:
        return False
    newest_to_delete = "SELECT minute FROM minutes ORDER BY minute LIMIT 1 OFFSET ?"
    with connection:
        query = f"DELETE FROM minutes WHERE minute <= ({newest_to_delete})"  # noqa: S608 - no values
        connection.execute(query, (count // 4,))
    return True


def _keep_newest(connection: sqlite3.Connection, table: str, rows: int) -> None:
    newest_to_delete = f"SELECT id FROM {table} ORDER BY id DESC LIMIT 1 OFFSET ?"  # noqa: S608 - two fixed names
    connection.execute(f"DELETE FROM {table} WHERE id <= ({newest_to_delete})", (rows,))  # noqa: S608


def _count(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])  # noqa: S608 - fixed names


def used_bytes(connection: sqlite3.Connection) -> int:
    """Return the bytes of the pages that hold something."""
    pages = _pragma(connection, "page_count")
    free_pages = _pragma(connection, "freelist_count")
    return (pages - free_pages) * _pragma(connection, "page_size")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
