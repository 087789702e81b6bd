"""Damage of the log that SQLite itself does not notice."""

import sqlite3


def damage(what: str) -> sqlite3.DatabaseError:
    """Return the error that SQLite raises for a damaged file.

    what: what is wrong with it.
    """
    problem = sqlite3.DatabaseError(what)
    problem.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return problem
