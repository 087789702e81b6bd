"""Results that take long to compute, cached in the user's cache folder."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from mien_edge import files

from mien_train.arrays import Array

_KEY = "kept"  # the array's name in the files that every version has written


def cache_folder() -> Path:
    """Where parsed data is cached: $XDG_CACHE_HOME/mien, else ~/.cache/mien."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mien"


def cached(path: Path, compute: Callable[[], Array]) -> Array:
    """Return the array stored in the .npz file `path`.

    Where the file is missing or damaged, `compute()` is called, and its result is stored and
    returned.
    """
    try:
        with np.load(path) as stored:
            return stored[_KEY]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
        array = compute()
    with files.atomic_write(path) as temporary:
        np.savez(temporary, **{_KEY: array})  # type: ignore[arg-type]
    return array
