"""The few file operations that installed bundles are changed by: one seam, so that a test can stop after each of them.

Each is atomic or repeatable. What has to outlive a power cut is synced by its caller, files before the folder that
names them.
"""

import shutil
from pathlib import Path

from mien_edge import files


class Disk:
    """The real one. Every method may raise OSError."""

    def make_folder(self, path: Path) -> None:
        """A new, empty folder."""
        path.mkdir()

    def copy(self, source: Path, target: Path) -> None:
        """A file's content; `target` is new."""
        shutil.copyfile(source, target)

    def write(self, path: Path, content: bytes) -> None:
        """A file with this content."""
        path.write_bytes(content)

    def link(self, name: str, path: Path) -> None:
        """A symbolic link at `path`, which is new, to its sibling `name`."""
        path.symlink_to(name)

    def rename(self, source: Path, target: Path) -> None:
        """Atomic; a file or a link at `target` is replaced."""
        source.replace(target)

    def remove(self, path: Path) -> None:
        """A file or a link."""
        path.unlink()

    def remove_folder(self, path: Path) -> None:
        """An empty folder."""
        path.rmdir()

    def sync(self, path: Path) -> None:
        """Flush a file or a folder."""
        files.sync(path)
