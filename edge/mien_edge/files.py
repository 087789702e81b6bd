"""Files that appear whole or not at all."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mien_edge.errors import SinkError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced to disk and renamed to `path`.

    The temporary name keeps the suffix, because image and archive writers choose the format by it.
    The folder is made if need be.

    Raises OSError. On any exception the temporary file is removed and `path` is left as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically and durably.

    Raises OSError; `path` is then as it was.
    """
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` as UTF-8, atomically and durably.

    Raises OSError; `path` is then as it was.
    """
    write_bytes(path, content.encode())


def write_private(path: Path, content: str, group: str) -> None:
    """Write `content` as `write_text` does, readable for its owner and one group alone (0640).

    group: by name; where there is none of that name, or the caller may not give it, the file keeps
        the caller's.

    Raises OSError; `path` is then as it was.
    """
    with atomic_write(path) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_text(content, encoding="utf-8")
        with suppress(LookupError, PermissionError):
            shutil.chown(temporary, group=group)
        temporary.chmod(0o640)


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
