"""Tables as they are downloaded: plain, compressed, or in an archive among others.

What a file is, its content says, not its name.
"""

import bz2
import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from mien_edge.errors import DataError
from mien_edge.textfiles import Table, is_hidden, open_lines

DAMAGE = (
    EOFError,
    OSError,
    RuntimeError,  # zipfile's for a password
    NotImplementedError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    tarfile.TarError,
)
"""What reading from `open_table` may raise for a file that is cut off, damaged or encrypted."""

_ZIP = b"PK\x03\x04"
_COMPRESSED: tuple[tuple[bytes, Any], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"\xfd7zXZ\0", lzma.open),
    (b"BZh", bz2.open),
)
"""How files begin, and what opens them."""

_TAR_MAGIC = slice(257, 262)  # of a header block, POSIX.1-1988


@contextmanager
def open_table(path: Path, columns: Sequence[str]) -> Iterator[IO[bytes]]:
    """Open a CSV file, unpacked; of an archive (.zip, .tar, compressed or not) the CSV whose header
    has the columns.

    Raises DataError for an archive without one, and DAMAGE, as reading does.
    """
    with path.open("rb") as file:
        start = file.read(len(_ZIP) + 2)
    if start.startswith(_ZIP):
        with zipfile.ZipFile(path) as archive:
            name = _choose(path, archive.namelist(), archive.open, columns)
            with archive.open(name) as member:
                yield member
        return
    opener = next((opener for magic, opener in _COMPRESSED if start.startswith(magic)), open)
    with opener(path, "rb") as content:
        is_tar = content.read(512)[_TAR_MAGIC] == b"ustar"
    if is_tar:
        with tarfile.open(path) as tar:
            names = [member.name for member in tar if member.isfile()]
            yield _open_member(
                tar, _choose(path, names, lambda name: _open_member(tar, name), columns)
            )
        return
    with opener(path, "rb") as content:
        yield content


def _open_member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    member = tar.extractfile(name)
    assert member is not None  # noqa: S101 - only plain files are asked for
    return member


def _choose(
    path: Path,
    names: Iterable[str],
    open_member: Callable[[str], IO[bytes]],
    columns: Sequence[str],
) -> str:
    """Return the name of the first CSV in an archive that has the columns; fer2013.csv before
    others.
    """
    tables = [name for name in names if _is_table(PurePosixPath(name))]
    for name in sorted(tables, key=lambda name: PurePosixPath(name).name.lower() != "fer2013.csv"):
        with open_member(name) as content:
            if _has_columns(content, columns):
                return name
    listed = ", ".join(tables) or "no .csv file at all"
    needed = ", ".join(columns)
    raise DataError(
        f"{path}: no table with the columns {needed} in this archive, but {listed}; "
        "give Kaggle's fer2013 archive"
    )


def _is_table(name: PurePosixPath) -> bool:
    return name.suffix.lower() == ".csv" and not is_hidden(name)


def _has_columns(content: IO[bytes], columns: Sequence[str]) -> bool:
    try:
        Table(open_lines(content), columns)
    except ValueError:
        return False
    return True
