"""The file operations that change installed bundles: one seam, so that a test can stop each.

Each is atomic or repeatable. What has to outlive a power cut is synced by its caller, files before
the folder that names them.
"""

from collections.abc import Iterable
from pathlib import Path

from mien_edge import files


class Disk:
    """The real file system."""

    def make_folder(self, path: Path) -> None:
        """Create the empty folder `path`.

        Raises FileExistsError if something is there, and OSError if it cannot be created.
        """
        path.mkdir()

    def copy(self, chunks: Iterable[bytes], target: Path) -> None:
        """Write the content `chunks` to the new file `target`, as it comes.

        Raises OSError if it cannot be written, and whatever `chunks` raises; part of `target` may
        then exist.
        """
        with target.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)

    def write(self, path: Path, content: bytes) -> None:
        """Write `content` to the file `path`, replacing what it held.

        Raises OSError if it cannot be written; part of the content may then be there.
        """
        path.write_bytes(content)

    def link(self, name: str, path: Path) -> None:
        """Create a symbolic link at `path` to its sibling `name`.

        Raises FileExistsError if something is at `path`, and OSError if the link cannot be created.
        """
        path.symlink_to(name)

    def rename(self, source: Path, target: Path) -> None:
        """Rename `source` to `target` atomically; a file or a link at `target` is replaced.

        Raises OSError if it cannot be renamed; nothing has changed then.
        """
        source.replace(target)

    def remove(self, path: Path) -> None:
        """Remove the file or the link at `path`.

        Raises FileNotFoundError if nothing is there, and OSError if it cannot be removed.
        """
        path.unlink()

    def remove_folder(self, path: Path) -> None:
        """Remove the empty folder `path`.

        Raises OSError if it is not empty or cannot be removed.
        """
        path.rmdir()

    def sync(self, path: Path) -> None:
        """Flush the file or the folder `path` to the disk.

        Raises OSError if the disk reports an error; what was written before may be lost then.
        """
        files.sync(path)
