"""Results that take long to compute, cached in the user's cache folder."""

import logging
import os
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from mien_edge import files

from mien_train.arrays import Array

_KEY = "kept"  # the array's name in the files that every version has written


_log = logging.getLogger("mien.cache")


def cache_folder() -> Path:
    """Where parsed data is cached: $XDG_CACHE_HOME/mien, else ~/.cache/mien; for a user without a
    home mien in the folder for temporary files.
    """
    folder = os.environ.get("XDG_CACHE_HOME")
    if folder:
        return Path(folder) / "mien"
    try:
        return Path.home() / ".cache" / "mien"
    except RuntimeError:  # a user without an entry in passwd(5)
        return Path(tempfile.gettempdir()) / "mien"


def cached(path: Path, compute: Callable[[], Array]) -> Array:
    """Return the array stored in the .npz file `path`.

    Where the file is missing or damaged, `compute()` is called, and its result is stored, as far as
    that is possible, and returned.
    """
    try:
        with np.load(path) as stored:
            return stored[_KEY]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
        array = compute()
    save_cache(path, **{_KEY: array})
    return array


def save_cache(path: Path, **arrays: Array) -> None:
    """Store arrays in the .npz file `path`.

    Where it cannot be written, that is told once a process: what is cached can be computed again.
    """
    try:
        with files.atomic_write(path) as temporary:
            np.savez(temporary, **arrays)  # type: ignore[arg-type]
    except OSError as problem:
        warn_unwritable(path.parent, problem.strerror or str(problem))


@cache
def warn_unwritable(folder: Path, reason: str) -> None:
    """Tell once a process that nothing can be cached in a folder."""
    fix = "make the folder writable"
    if folder == cache_folder():
        fix = "name another folder with XDG_CACHE_HOME"
    text = "%s: nothing can be cached there (%s), so it is computed again next time; %s"
    _log.warning(text, folder, reason, fix)
