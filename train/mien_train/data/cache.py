"""Results that take long to compute, kept in the user's cache folder."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mien_edge import files
from numpy.typing import NDArray


def cache_folder() -> Path:
    """Where parsed data is kept: $XDG_CACHE_HOME/mien, else ~/.cache/mien."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mien"


def kept(path: Path, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    """The array that is kept in that .npz file; where there is none, or a damaged one, it is made and kept."""
    try:
        with np.load(path) as stored:
            return stored["kept"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
        made = make()
        with files.atomic_write(path) as temporary:
            np.savez(temporary, kept=made)
        return made
