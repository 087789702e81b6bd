"""Photographs, and folders of them.

A photograph that is truncated, unreadable or no picture is skipped and counted; gray, RGBA and
16-bit pictures become 8-bit.
"""

import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from mien_edge.errors import SourceError
from mien_edge.text import file_name
from mien_edge.values import Frame, Pixels

_PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
_JPEG_START = b"\xff\xd8"
_JPEG_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
"""A marker. In the coded picture \\xff\\x00 is a byte, and RST0 to RST7 separate its parts."""
_JPEG_END = 0xD9  # EOI
_JPEG_WITHOUT_LENGTH = (0x01, 0xD8)  # TEM, SOI

_log = logging.getLogger("mien.source")


def is_photo(path: Path) -> bool:
    return path.suffix.lower() in _PHOTO_SUFFIXES


class Photos:
    """Photographs, one frame each, named by their file names.

    paths: the files, in the order of the frames.
    folder: what an error names if there are no files.

    A file that cannot be read is logged, and counted in `skipped`. Raises SourceError if `paths`
    is empty.
    """

    still = True
    live = False

    def __init__(self, paths: list[Path], folder: Path) -> None:
        if not paths:
            suffixes = ", ".join(_PHOTO_SUFFIXES)
            hint = f"it needs files ending in {suffixes}"
            raise SourceError(f"{folder}: no photograph in this folder; {hint}")
        self.paths = paths
        self.skipped = 0

    def __iter__(self) -> Iterator[Frame]:
        for index, path in enumerate(self.paths):
            try:
                image = read_photo(path)
            except SourceError as problem:
                self.skipped += 1
                _log.warning("skipped: %s", problem)
            else:
                yield Frame(image, index, time.time(), file_name(path.name))


def read_photo(path: Path) -> Pixels:
    """A picture file as (height, width, 3) BGR uint8, turned upright as its EXIF data say.

    Raises SourceError if the file cannot be read, is truncated, is no picture that OpenCV knows,
    or has over 100 megapixels.
    """
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise SourceError(f"{path}: cannot be read ({problem.strerror}); check the file") from None
    if _is_truncated_jpeg(content):
        raise SourceError(f"{path}: a JPEG without its end; copy the file again")
    image = _decode(content)
    if image is None:
        reason = "not a picture that OpenCV can read, or of over 100 megapixels"
        raise SourceError(f"{path}: {reason}; convert it to JPEG")
    return image


def _is_truncated_jpeg(content: bytes) -> bool:
    """Whether a JPEG's segments lead to no end marker (ITU-T T.81, B.1.1).

    What follows the end marker does not matter: phones append clips there. A thumbnail's end marker
    lies inside of a segment.
    """
    if not content.startswith(_JPEG_START):
        return False
    position = len(_JPEG_START)
    while True:
        marker = _JPEG_MARKER.search(content, position)
        if marker is None:
            return True
        code = marker.group()[-1]
        if code == _JPEG_END:
            return False
        position = marker.end()
        if code not in _JPEG_WITHOUT_LENGTH:
            position += int.from_bytes(content[position : position + 2])


def _decode(content: bytes) -> Pixels | None:
    if not content:
        return None
    encoded = np.frombuffer(content, np.uint8)
    try:
        return cv2.imdecode(encoded, cv2.IMREAD_COLOR)  # type: ignore[return-value]
    except cv2.error:
        return None
