"""Where an installation takes a bundle's files from."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from mien_edge.errors import BundleError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""What files and folders of bundles are called."""

NO_FILE = "make the archive with mien-deploy push"
_CHUNK = 64 * 1024


class BundleFiles(Protocol):
    """The files of a bundle that nobody has verified yet.

    They are asked for in one order: the card, its signature if there is one, and the files that the
    card pins, by name. Every method raises BundleError for what cannot be read, and OSError.
    """

    def has(self, name: str) -> bool:
        """Whether the file `name` comes next."""
        ...

    def chunks(self, name: str, max_bytes: int) -> Iterator[bytes]:
        """Yield the content of the file `name`.

        Raises BundleError, before anything is yielded, if there is no such plain file, or if it is
        larger than `max_bytes`.
        """
        ...

    def finish(self) -> None:
        """Check that nothing else comes, where that can be said."""
        ...


class FolderFiles:
    """The files in a folder.

    folder: where they are.
    shown_as: what messages call the folder.
    """

    def __init__(self, folder: Path, shown_as: Path) -> None:
        self.folder = folder
        self.shown_as = shown_as

    def has(self, name: str) -> bool:
        """Whether something is called `name`."""
        return os.path.lexists(self.folder / name)

    def chunks(self, name: str, max_bytes: int) -> Iterator[bytes]:
        """Yield the content of the plain file `name`."""
        path = self.folder / name
        shown = self.shown_as / name
        if not NAME.fullmatch(name) or path.is_symlink() or not path.is_file():
            raise BundleError(
                f"{shown}: cannot be read as a plain file; name a folder with a model bundle",
            )
        if path.stat().st_size > max_bytes:
            raise BundleError(f"{shown}: larger than {max_bytes} bytes; copy the bundle again")
        with path.open("rb") as file:
            while content := file.read(_CHUNK):
                yield content

    def finish(self) -> None:
        """Do nothing: a folder may hold more."""
