"""Photograph files: which files are pictures, and their pixels.

Gray, RGBA and 16-bit pictures become 8-bit colour; of several pictures in a file (an animated GIF,
a TIFF of many pages, the second picture of a phone's JPEG) the first is read.
"""

import re
from pathlib import Path
from typing import IO

import cv2
import numpy as np

from mien_edge.errors import SourceError
from mien_edge.values import Pixels

PICTURE_SUFFIXES = frozenset([
    ".avif", ".bmp", ".dib", ".exr", ".gif", ".hdr", ".heic", ".heif", ".hif", ".j2k", ".jfif",
    ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff",
    ".webp",
])  # fmt: skip
"""Names that promise a picture: such a file is an error where it holds none."""

_JPEG_START = b"\xff\xd8"
_JPEG_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
"""A marker. In the coded picture \xff\x00 is a byte, and RST0 to RST7 separate its parts."""
_JPEG_NEXT_START = 0xD8  # SOI
_JPEG_END = 0xD9  # EOI
_JPEG_WITHOUT_LENGTH = 0x01  # TEM

_MAX_PIXELS = 100_000_000
_HEADER_BYTES = 64
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}


def is_picture(path: Path) -> bool:
    """Whether a regular file is a picture by its first bytes, whatever its name.

    True for every format that this OpenCV has a reader for, for HEIC and for AVIF. False for a file
    that cannot be opened.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
            return bool(_brands(header)) or bool(header and cv2.haveImageReader(_address(file)))
    except OSError:
        return False


def picture_count(path: Path) -> int:
    """How many pictures a file holds that OpenCV reads, as an animation or as pages; else 1."""
    try:
        with path.open("rb") as file:
            return max(cv2.imcount(_address(file)), 1)
    except (OSError, cv2.error):
        return 1


def _address(file: IO[bytes]) -> str:
    """A path of an open file, for OpenCV, which does not take file names of any bytes."""
    return f"/dev/fd/{file.fileno()}"


def read_photo(path: Path) -> Pixels:
    """A picture file as (height, width, 3) BGR uint8, turned upright as its EXIF data say.

    Raises SourceError if the file cannot be read, is truncated, is no picture that OpenCV knows,
    or has over 100 megapixels; for a HEIC picture also if pillow-heif is not installed.
    """
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise SourceError(f"{path}: cannot be read ({problem.strerror}); check the file") from None
    if not content:
        raise SourceError(f"{path}: an empty file; copy it again")
    if _is_truncated_jpeg(content):
        raise SourceError(f"{path}: a JPEG without its end; copy the file again")
    brands = _brands(content[:_HEADER_BYTES])
    if brands and not brands & _AVIF_BRANDS:
        return _read_heic(path, content)
    image = _decode(content)
    if image is None:
        raise SourceError(f"{path}: {_unreadable(content)}")
    return image


def _unreadable(content: bytes) -> str:
    if _brands(content[:_HEADER_BYTES]):
        return "an AVIF picture that this OpenCV cannot read; convert it to JPEG"
    reason = "damaged, not a picture that OpenCV can read, or of over 100 megapixels"
    return f"{reason}; convert it to JPEG"


def _brands(header: bytes) -> set[bytes]:
    """The brands of pictures of an ISO base media file (ISO/IEC 14496-12, 4.3); none for others."""
    if header[4:8] != b"ftyp":
        return set()
    length = int.from_bytes(header[:4])
    box = header[8:length]
    brands = {box[:4], *(box[start : start + 4] for start in range(8, len(box), 4))}
    return brands & (_HEIF_BRANDS | _AVIF_BRANDS)


def _read_heic(path: Path, content: bytes) -> Pixels:
    try:
        import pillow_heif  # an extra, of several megabytes
    except ImportError:
        fix = "pip install pillow-heif, or convert it to JPEG"
        raise SourceError(f"{path}: a HEIC picture, which needs pillow-heif; {fix}") from None
    try:
        picture = pillow_heif.open_heif(content, convert_hdr_to_8bit=True, bgr_mode=True)
        width, height = picture.size
        if width * height > _MAX_PIXELS:
            raise SourceError(f"{path}: a picture of over 100 megapixels; make it smaller")
        pixels = np.asarray(picture)
    except (ValueError, EOFError, RuntimeError, OSError, SyntaxError) as problem:
        reason = f"a HEIC picture that cannot be read ({problem})"
        raise SourceError(f"{path}: {reason}; copy the file again") from None
    if pixels.ndim == 2:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)  # type: ignore[return-value]
    return np.ascontiguousarray(pixels[:, :, :3])


def _is_truncated_jpeg(content: bytes) -> bool:
    """Whether a JPEG's segments lead to no end marker (ITU-T T.81, B.1.1).

    What follows the end marker does not matter: phones append clips and further pictures there, and
    cards pad. A thumbnail's end marker lies inside of a segment; a further picture that begins
    before the end of the first is another file's, as on a damaged card.
    """
    if not content.startswith(_JPEG_START):
        return False
    position = len(_JPEG_START)
    while True:
        marker = _JPEG_MARKER.search(content, position)
        if marker is None:
            return True
        code = marker.group()[-1]
        if code in (_JPEG_END, _JPEG_NEXT_START):
            return code == _JPEG_NEXT_START
        position = marker.end()
        if code != _JPEG_WITHOUT_LENGTH:
            position += int.from_bytes(content[position : position + 2])


def _decode(content: bytes) -> Pixels | None:
    encoded = np.frombuffer(content, np.uint8)
    try:
        return cv2.imdecode(encoded, cv2.IMREAD_COLOR)  # type: ignore[return-value]
    except cv2.error:
        return None
