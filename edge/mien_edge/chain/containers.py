"""Whether a video file is whole, by the sizes that its container states.

MP4 and MOV (ISO/IEC 14496-12, 4.2), Matroska and WebM (RFC 8794 and 9559), AVI (RIFF). Others, such
as MPEG-TS, state no size and may end anywhere.
"""

import os
from pathlib import Path
from typing import BinaryIO

_EBML = b"\x1aE\xdf\xa3"
_SEGMENT = b"\x18S\x80g"
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp")


def missing_bytes(path: Path) -> int:
    """How many bytes a video file lacks at its end; 0 if it is whole or does not say.

    Raises no error: a file that cannot be read is not known to lack anything.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            return max(_stated_size(file, size) - size, 0)
    except OSError:
        return 0


def _stated_size(file: BinaryIO, size: int) -> int:
    """Where the container ends, in bytes from its begin; 0 if it does not say."""
    head = file.read(12)
    file.seek(0)
    if head[4:8] in _BOXES:
        return _end_of_boxes(file, size)
    if head[:4] == _EBML:
        return _end_of_segment(file)
    if head[:4] == b"RIFF" and head[8:] == b"AVI ":
        return _end_of_chunks(file, size)
    return 0


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    """MP4: boxes, one behind the other, each with its size in front."""
    end = 0
    while end < size:
        file.seek(end)
        head = file.read(16)
        length = int.from_bytes(head[:4])
        if length == 1:
            length = int.from_bytes(head[8:16])
        if length < 8 or not head[4:8].isascii():  # up to the end of the file, or no box
            return size
        end += length
    return end


def _end_of_segment(file: BinaryIO) -> int:
    """Matroska: an EBML header, and a segment that holds everything else."""
    file.seek(4)
    header = _variable_integer(file)
    if header is None:
        return 0
    file.seek(header, os.SEEK_CUR)
    if file.read(4) != _SEGMENT:
        return 0
    length = _variable_integer(file)
    return 0 if length is None else file.tell() + length


def _variable_integer(file: BinaryIO) -> int | None:
    """A size of RFC 8794, section 4; None where it is left open, as in recordings."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(first + file.read(more))
    bits = 7 * (more + 1)
    value -= 1 << bits
    return None if value == (1 << bits) - 1 else value


def _end_of_chunks(file: BinaryIO, size: int) -> int:
    """AVI: RIFF chunks, each of at most a gigabyte or two."""
    end = 0
    while end < size:
        file.seek(end)
        head = file.read(8)
        if head[:4] != b"RIFF":
            return size
        length = int.from_bytes(head[4:8], "little")
        if not length:  # never completed
            return size
        end += 8 + length + length % 2
    return end
