"""A bundle as a tar stream: how one travels, also from a folder of this device to its store."""

import io
import tarfile
import tempfile
from pathlib import Path
from typing import BinaryIO

from mien_edge.errors import BundleError
from mien_edge.model.bundle import LARGEST, Bundle, check_sizes, read_card
from mien_edge.update.signing import SIGNATURE
from mien_edge.update.store import NAME, Store

_MAX_FILES = 16
_MAX_BYTES = 2 * LARGEST


UNNAMED = Path("the bundle")
"""What messages call a bundle from an archive: the name in its card is not verified yet."""


def receive(
    stream: BinaryIO,
    store: Store,
    allow_downgrade: bool = False,
    shown_as: Path = UNNAMED,
) -> Bundle:
    """Install a bundle that comes as a tar stream with its files at the top; return it, verified.

    Raises BundleError or ContractError for what is refused; the store is then unchanged.
    """
    with tempfile.TemporaryDirectory(prefix="mien-receive-") as temporary:
        folder = Path(temporary) / UNNAMED
        folder.mkdir()
        extract(stream, folder)
        return store.install(folder, allow_downgrade, shown_as)


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


class _BoundedStream(io.RawIOBase):
    """A stream that is refused once it is longer than any bundle: tarfile has no limit itself."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream
        self._bytes_left = _MAX_BYTES

    def read(self, size: int = -1, /) -> bytes:
        content = self._stream.read(size)
        self._bytes_left -= len(content)
        if self._bytes_left < 0:
            raise BundleError(
                f"the archive is longer than {_MAX_BYTES / 1e6:.0f} MB, as no bundle is; "
                "send another",
            )
        return content


def extract(stream: BinaryIO, folder: Path) -> None:
    """Unpack a tar stream of plain files with plain names into `folder`.

    Raises BundleError for any other entry, for more than 16 files or 64 MiB, and for a damaged
    archive.
    """
    bytes_left = _MAX_BYTES
    files_left = _MAX_FILES
    try:
        with tarfile.open(fileobj=_BoundedStream(stream), mode="r|") as tar:
            for entry in tar:
                bytes_left -= entry.size
                files_left -= 1
                is_plain = entry.isfile() and NAME.fullmatch(entry.name) is not None
                if not is_plain or bytes_left < 0 or files_left < 0:
                    raise BundleError(
                        f"{entry.name!r} is not a file of a bundle; "
                        "make the archive with mien-deploy push",
                    )
                content = tar.extractfile(entry)
                assert content is not None  # noqa: S101 - a plain file has content
                (folder / entry.name).write_bytes(content.read())
    except BundleError:
        raise
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise BundleError(f"the bundle's archive is damaged ({error}); send it again") from None
    except OSError as error:
        raise BundleError(
            f"{folder}: cannot be written ({error.strerror}); free some space",
        ) from None
