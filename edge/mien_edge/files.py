"""Files that appear whole or not at all."""

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mien_edge.errors import SinkError
from mien_edge.text import encodable


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced to disk and renamed to `path`.

    The temporary name keeps the suffix, because image and archive writers choose the format by it.
    The folder is made if need be.

    Raises OSError, which names `path`. On any exception the temporary file is removed and `path` is
    left as it was.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as problem:
        if str(temporary) == str(problem.filename):
            problem.filename = str(path)
            problem.filename2 = None
        raise
    finally:
        with suppress(OSError):
            temporary.unlink()


def make_folder(folder: Path) -> None:
    """Make a folder, and those that it lies in, unless it is there.

    Raises OSError; where a file is in its place, that says so.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as problem:
        reason = os.strerror(errno.ENOTDIR)
        raise NotADirectoryError(errno.ENOTDIR, reason, problem.filename) from None


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically and durably.

    Raises OSError; `path` is then as it was.
    """
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` as UTF-8 (text.encodable), atomically and durably.

    Raises OSError; `path` is then as it was.
    """
    write_bytes(path, encodable(content).encode())


def write_private(path: Path, content: str, group: str) -> None:
    """Write `content` as `write_text` does, readable for its owner and one group alone (0640).

    group: by name; where there is none of that name, or the caller may not give it, the file keeps
        the caller's.

    Raises OSError; `path` is then as it was.
    """
    with atomic_write(path) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_text(encodable(content), encoding="utf-8")
        with suppress(LookupError, PermissionError):
            shutil.chown(temporary, group=group)
        temporary.chmod(0o640)


@contextmanager
def utf8_path(path: Path) -> Iterator[str]:
    """Yield `path` for a library in C or C++ that takes UTF-8 alone: OpenCV ends the process at a
    name that is none.

    Where `path` is not UTF-8, or stands otherwise in Python for the locale's sake, that is a
    temporary link to it, with its suffix; so the file has to be opened, or made, inside.

    Raises OSError.
    """
    name = str(path)
    if name.encode(errors="replace") == os.fsencode(path):
        yield name
        return
    with tempfile.TemporaryDirectory(prefix="mien-") as folder:
        link = Path(folder) / f"link{encodable(path.suffix)}"
        link.symlink_to(path.absolute())
        yield str(link)


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk (fsync). Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_error(path: Path, problem: OSError) -> SinkError:
    """Return the error for a file that cannot be written: its reason, and what helps."""
    hint = "choose another file"
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "free some space"
    return SinkError(f"{path}: cannot be written ({problem.strerror}); {hint}")


def sha256(path: Path) -> str:
    """Return the file's SHA-256 as 64 hexadecimal digits. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
