"""What was seen in which picture, kept by the pictures' content in one SQLite file of the cache
folder, so that a picture is searched once, wherever it lies and whoever names it.
"""

import hashlib
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from mien_edge import files
from mien_edge.values import Box

from mien_train.data.cache import cache_folder, warn_unwritable
from mien_train.data.read import SIZE
from mien_train.data.sights import SIDE, Sight
from mien_train.progress import progress

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files
  (path TEXT PRIMARY KEY, bytes INTEGER, modified INTEGER, sha256 TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sights
  (key TEXT PRIMARY KEY, faces INTEGER, box TEXT, score REAL, picture BLOB, problem TEXT);
"""
_SECONDS = 60.0  # that a process waits for another one to write

_log = logging.getLogger("mien.cache")


class SightCache:
    """The open cache; a cache that cannot be written is one in memory, which is told once.

    Closed by leaving `with`.
    """

    def __init__(self) -> None:
        path = cache_folder() / "photographs.sqlite"
        try:
            files.make_folder(path.parent)
            self._database = _open(path)
        except (OSError, sqlite3.Error) as problem:
            reason = getattr(problem, "strerror", None) or str(problem)
            warn_unwritable(path.parent, reason)
            self._database = _open(":memory:")

    def __enter__(self) -> "SightCache":
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def sha256(self, paths: Sequence[Path]) -> list[str]:
        """The hexadecimal SHA-256 of each file; one whose size and time of change are as before is
        not read again. Raises OSError, which names the file.
        """
        digests: list[str] = []
        fresh: list[tuple[str, int, int, str]] = []
        for path in progress(paths, "reading", "pictures"):
            state = path.stat()
            row = (_key(path), state.st_size, state.st_mtime_ns)
            query = "SELECT sha256 FROM files WHERE path = ? AND bytes = ? AND modified = ?"
            known = self._database.execute(query, row).fetchone()
            if known is None:
                known = (files.sha256(path),)
                fresh.append((*row, known[0]))
            digests.append(known[0])
        with self._writing():
            self._database.executemany("INSERT OR REPLACE INTO files VALUES (?,?,?,?)", fresh)
        return digests

    def find(self, key: str) -> Sight | None:
        """What was seen under that key, or None."""
        query = "SELECT faces, box, score, picture, problem FROM sights WHERE key = ?"
        row = self._database.execute(query, (key,)).fetchone()
        return _sight(*row) if row else None

    def keys(self) -> set[str]:
        """The keys of all sights."""
        return {key for (key,) in self._database.execute("SELECT key FROM sights")}

    def add(self, sights: Iterable[tuple[str, Sight]]) -> None:
        """Keep what was seen, each under its key."""
        rows = [(key, *_cells(sight)) for key, sight in sights]
        with self._writing():
            self._database.executemany("INSERT OR REPLACE INTO sights VALUES (?,?,?,?,?,?)", rows)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction; a full disk is told, and work goes on."""
        try:
            with self._database:
                yield
        except sqlite3.OperationalError as problem:
            warn_unwritable(cache_folder(), str(problem))


def sight_key(sha256: str, known_box: Box | None, setup: str) -> str:
    """What a sight is kept under: the picture's content, the known box, and sights.setup()."""
    box = "" if known_box is None else " ".join(f"{value:.2f}" for value in known_box)
    return hashlib.sha256(f"{sha256} {box} {setup}".encode()).hexdigest()


def _key(path: Path) -> str:
    """An absolute path as ASCII, whatever bytes its name has."""
    return ascii(str(path.resolve()))


def _open(path: Path | str) -> sqlite3.Connection:
    try:
        return _connect(path)
    except sqlite3.DatabaseError as problem:
        if isinstance(problem, sqlite3.OperationalError):
            raise
        _log.warning("%s: damaged (%s), so it is begun anew", path, problem)
        Path(path).unlink()
        return _connect(path)


def _connect(path: Path | str) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=_SECONDS)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")  # a lost cache entry is computed again
        database.executescript(_SCHEMA)
    except sqlite3.Error:
        database.close()
        raise
    return database


def _cells(sight: Sight) -> tuple[Any, ...]:
    box = None if sight.box is None else " ".join(map(repr, sight.box))
    picture = None if sight.picture is None else sight.picture.tobytes()
    return sight.faces, box, sight.score, picture, sight.problem


def _sight(faces: int, box: str | None, score: float, content: bytes | None, problem: str) -> Sight:
    picture = None
    if content is not None:
        side = SIDE if len(content) == SIDE * SIDE else SIZE
        picture = np.frombuffer(content, np.uint8).reshape(side, side)
    known = None if box is None else Box(*map(float, box.split()))
    return Sight(faces, known, score, picture, problem)
