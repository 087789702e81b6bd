"""A bundle as a tar stream: how one travels, also from a folder of this device to its store."""

import io
import tarfile
import tempfile
from pathlib import Path
from typing import BinaryIO

from mien_edge.errors import BundleError
from mien_edge.model import bundle as bundles
from mien_edge.model.bundle import Bundle
from mien_edge.update.signing import SIGNATURE
from mien_edge.update.store import NAME, Store

_MOST_FILES = 16
_MOST = 2 * bundles.LARGEST


def receive(stream: BinaryIO, store: Store, allow_downgrade: bool = False) -> Bundle:
    """Install a bundle that comes as a tar stream with its files at the top. Raises BundleError."""
    with tempfile.TemporaryDirectory(prefix="mien-receive-") as folder:
        # A refusal calls it by this name: what it says of itself is not believed yet.
        sent = Path(folder) / "the bundle"
        sent.mkdir()
        extract(stream, sent)
        return store.install(sent, allow_downgrade)


def pack(folder: Path) -> bytes:
    """The bundle in `folder` as a tar archive, the same bytes for the same bundle. Raises BundleError."""
    bundle = bundles.load(folder)
    signature = [SIGNATURE] if (folder / SIGNATURE).is_file() else []
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("card.json", *signature, *sorted(bundle.card.files)):
            content = (folder / name).read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


class _Bounded(io.RawIOBase):
    """A stream that is refused once it is longer than any bundle: tarfile reads an extended header of any length."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream, self._left = stream, _MOST

    def read(self, size: int = -1, /) -> bytes:
        content = self._stream.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise BundleError(f"the archive is longer than {_MOST / 1e6:.0f} MB; no bundle is, send another")
        return content


def extract(stream: BinaryIO, folder: Path) -> None:
    """Unpack plain files of plain names and bounded size; anything else in the archive is a BundleError."""
    left, seen = _MOST, 0
    try:
        with tarfile.open(fileobj=_Bounded(stream), mode="r|") as archive:
            for member in archive:
                left, seen = left - member.size, seen + 1
                if not member.isfile() or not NAME.fullmatch(member.name) or left < 0 or seen > _MOST_FILES:
                    raise BundleError(f"{member.name!r} is no file of a bundle; make the archive with mien-deploy push")
                content = archive.extractfile(member)
                assert content is not None  # noqa: S101 - a plain file has content
                (folder / member.name).write_bytes(content.read())
    except (tarfile.TarError, EOFError, ValueError) as problem:
        raise BundleError(f"the bundle's archive is damaged ({problem}); send it again") from None
    except OSError as problem:
        raise BundleError(f"{folder}: cannot be written ({problem.strerror}); free some space") from None
