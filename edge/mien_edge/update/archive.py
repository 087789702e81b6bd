"""A bundle as a tar stream: how one travels, also from a folder of this device to its store.

What is read is the part of POSIX.1's ustar format (IEEE Std 1003.1, pax) that `pack` writes: plain
files, in one order, each with one header. Extended headers, links, sparse files and whatever else
tar knows are refused before they are followed. The card comes first, so that its signature is
checked before anything else is held.
"""

import io
import os
import re
import select
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mien_edge.errors import BundleError
from mien_edge.model.bundle import Bundle, check_sizes, read_card
from mien_edge.update.bundle_files import NAME, NO_FILE
from mien_edge.update.signing import SIGNATURE
from mien_edge.update.store import Store

UNNAMED = Path("the bundle")
"""What messages call a bundle from an archive: the name in its card is not verified yet."""

_BLOCK = 512
_CHUNK = 128 * _BLOCK
_RECORD = 20 * _BLOCK  # tar fills its archives up to a multiple of this with zeros
_MAGICS = (b"ustar\x0000", b"ustar  \0")  # POSIX, and GNU tar, whose plain headers are the same
_PLAIN = (b"0", b"\0")
_OCTAL = re.compile(rb"[0-7]{1,11}")

# fields of a header (tar.h of POSIX.1)
_NAME = slice(0, 100)
_SIZE = slice(124, 136)
_CHECKSUM = slice(148, 156)
_TYPE = slice(156, 157)
_LINK = slice(157, 257)
_MAGIC = slice(257, 265)
_PREFIX = slice(345, 512)

_MAX_IDLE = 30.0  # seconds without a byte
_MIN_RATE = 16 * 1024  # bytes per second, after the first _MAX_IDLE seconds
_MAX_SECONDS = 900.0  # for a whole bundle


class Stream(Protocol):
    """What an archive is read from."""

    def read(self, size: int, /) -> bytes:
        """Return 1 to `size` bytes; none at the end."""
        ...


def receive(
    stream: Stream,
    store: Store,
    allow_downgrade: bool = False,
    shown_as: Path = UNNAMED,
) -> Bundle:
    """Install a bundle that comes as a tar stream with its files at the top; return it, verified.

    Nothing but the card and the signature is taken from the stream before the card is trusted, and
    of each file no more than the card pins.

    Raises BundleError or ContractError for what is refused; the store is then unchanged.
    """
    return store.install_from(ArchiveFiles(stream), allow_downgrade, shown_as)


def pack(folder: Path) -> bytes:
    """Return the bundle in `folder` as a tar archive, the same bytes for the same bundle.

    Who receives it verifies it: here its card is read and its files have to be there in the pinned
    sizes, but their digests are not computed. Raises BundleError or ContractError where that is not
    so.
    """
    card = read_card(folder)
    check_sizes(folder, card)
    names = ["card.json", *sorted(card.files)]
    if (folder / SIGNATURE).is_file():
        names.insert(1, SIGNATURE)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in names:
            _add_file(tar, folder / name)
    return archive.getvalue()


def _add_file(tar: tarfile.TarFile, path: Path) -> None:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{path}: cannot be read ({error.strerror}); copy the bundle again",
        ) from None
    entry = tarfile.TarInfo(path.name)
    entry.size = len(content)
    entry.mode = 0o644
    tar.addfile(entry, io.BytesIO(content))


def _wait_for_input(handle: int, seconds: float) -> bool:
    """Whether `handle` can be read within `seconds`."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(1000 * seconds))


class DeadlineStream:
    """A file descriptor that is read with limits of time, because its sender may be hostile.

    A sender has to send something every 30 s, and on the average 16 KiB/s after the first 30 s.
    A whole bundle may take 15 minutes.

    handle: the open descriptor; it is not closed.
    clock: seconds of a monotonic clock.
    wait: returns whether the descriptor can be read within so many seconds.
    """

    def __init__(
        self,
        handle: int,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[int, float], bool] = _wait_for_input,
    ) -> None:
        self._handle = handle
        self._clock = clock
        self._wait = wait
        self._started_at = clock()
        self._bytes = 0

    def read(self, size: int, /) -> bytes:
        """Return 1 to `size` bytes; none at the end.

        Raises BundleError for a sender that is too slow, or if nothing can be read.
        """
        elapsed = self._clock() - self._started_at
        allowed = min(_MAX_IDLE + self._bytes / _MIN_RATE, _MAX_SECONDS)
        patience = min(allowed - elapsed, _MAX_IDLE)
        if patience <= 0 or not self._wait(self._handle, patience):
            raise BundleError(
                f"the bundle comes too slowly, {self._bytes} bytes until now; send it again",
            )
        try:
            content = os.read(self._handle, size)
        except OSError as error:
            raise BundleError(
                f"the bundle's archive cannot be read ({error.strerror}); send it again",
            ) from None
        self._bytes += len(content)
        return content


@dataclass(frozen=True, slots=True)
class _Header:
    name: str
    size: int


class ArchiveFiles:
    """A bundle's files from a tar stream, in the order in which they are asked for.

    Each method raises BundleError for an archive that is damaged, or holds anything else.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._next: _Header | None = None

    def has(self, name: str) -> bool:
        """Whether `name` is the next file."""
        header = self._peek()
        return header is not None and header.name == name

    def chunks(self, name: str, max_bytes: int) -> Iterator[bytes]:
        """Yield the content of `name`, the next file, which has at most `max_bytes` bytes."""
        header = self._peek()
        if header is None:
            raise BundleError(f"the archive holds no {name}; make it with mien-deploy push")
        if header.name != name:
            raise BundleError(
                f"{header.name!r} is in the archive where {name} has to be; "
                "make it with mien-deploy push",
            )
        if header.size > max_bytes:
            raise BundleError(f"{name}: larger than {max_bytes} bytes; copy the bundle again")
        self._next = None
        yield from self._content(header.size)
        self._skip_padding(header.size)

    def finish(self) -> None:
        """Read the end of the archive: zeros, as tar fills it up, and nothing else."""
        header = self._peek()
        if header is not None:
            raise BundleError(f"{header.name!r} is not a file of a bundle; {NO_FILE}")
        bytes_left = _RECORD
        while content := self._stream.read(_RECORD):
            bytes_left -= len(content)
            if any(content) or bytes_left < 0:
                raise BundleError(f"the archive goes on after its end; {NO_FILE}")

    def _peek(self) -> _Header | None:
        """The header of the next file; None at the archive's end."""
        if self._next is None:
            block = b"".join(self._content(_BLOCK))
            self._next = _parse_header(block) if any(block) else None
        return self._next

    def _content(self, size: int) -> Iterator[bytes]:
        while size > 0:
            content = self._stream.read(min(size, _CHUNK))
            if not content:
                raise BundleError("the bundle's archive is cut off; send it again")
            size -= len(content)
            yield content

    def _skip_padding(self, size: int) -> None:
        for _ in self._content(-size % _BLOCK):
            pass


def _parse_header(block: bytes) -> _Header:
    """Read the header of a plain file. Raises BundleError for any other one."""
    is_tar = block[_MAGIC] in _MAGICS and _octal(block[_CHECKSUM]) == _checksum(block)
    if not is_tar:
        raise BundleError(f"the bundle's archive is damaged or no tar archive; {NO_FILE}")
    name = block[_NAME].rstrip(b"\0").decode("ascii", "backslashreplace")
    size = _octal(block[_SIZE])
    is_plain = block[_TYPE] in _PLAIN
    has_more = any(block[_LINK]) or any(block[_PREFIX])
    if size is None or not is_plain or has_more or NAME.fullmatch(name) is None:
        raise BundleError(f"{name!r} is not a file of a bundle; {NO_FILE}")
    return _Header(name, size)


def _checksum(block: bytes) -> int:
    """The sum of a header's bytes, blanks in the place of the checksum itself."""
    return sum(block) - sum(block[_CHECKSUM]) + 8 * ord(" ")


def _octal(field: bytes) -> int | None:
    """A header's number; None for what is none, such as a negative or a base-256 one."""
    digits = field.strip(b" \0")
    return int(digits, 8) if _OCTAL.fullmatch(digits) else None
