"""Video files, frame by frame, with the times that the file itself gives them.

OpenCV (4.11 and 4.14, FFmpeg back end) gives each decoded picture's presentation time, counted from
the video stream's start. Its number of frames is a guess, and its frame rate a mean: neither tells
the time of a frame, nor whether the file is whole.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

import cv2

from mien_edge import files
from mien_edge.chain.containers import missing_bytes
from mien_edge.errors import SourceError
from mien_edge.formats import position_text
from mien_edge.text import file_name
from mien_edge.values import Frame

_ASSUMED_RATE = 25.0  # frames per second of a file that names none, as FFmpeg assumes
_MAX_FAILED_READS = 100  # in a row, before what is left of a file is given up
_MAX_PROBED_FRAMES = 18_000  # ten minutes; at 720p they take a desktop's core 42 seconds
_MAX_COPY_RATE = 60.0  # frames per second
_JITTER = 0.1  # of a frame, by which time stamps in milliseconds miss a constant rate

_log = logging.getLogger("mien.source")


class Video:
    """A video file, every frame in order, named by the file's name.

    Positions are seconds from the first picture, by the file's own time stamps; `captured_at` is
    when a frame was read. `failed_reads` counts the places where the file is damaged; a warning
    names each by its position.

    Raises SourceError if OpenCV cannot open the file; the iteration does if it holds no picture.
    """

    live = False
    skipped = 0

    def __init__(self, path: Path) -> None:
        self.path = path
        self.paths = (path,)
        self.failed_reads = 0
        self._open().release()

    def _open(self) -> cv2.VideoCapture:
        with files.utf8_path(self.path) as name:
            capture = cv2.VideoCapture(name)
        if capture.isOpened():
            return capture
        missing = missing_bytes(self.path)
        if missing:
            text = f"cut off, at least {missing} bytes are missing at its end; copy it again"
            raise SourceError(f"{self.path}: {text}")
        hint = "convert it, e.g. with ffmpeg, to H.264 MP4"
        raise SourceError(f"{self.path}: not a video that OpenCV can read; {hint}")

    @cached_property
    def fps(self) -> float:
        """Frames per second of a copy with a constant rate, in which each picture can be shown for
        as long as in this file: the file's own rate, or where that varies, what the shortest
        picture needs, at most 60.

        Found by going through the file, a long one's first 18,000 frames, when it is asked for the
        first time.
        """
        capture = self._open()
        try:
            marks = islice(_marks(capture), _MAX_PROBED_FRAMES)
            positions = [mark.position for mark in marks]
            return _copy_rate(positions, _mean_rate(capture))
        finally:
            capture.release()

    def __iter__(self) -> Iterator[Frame]:
        capture = self._open()
        name = file_name(self.path.name)
        index = 0
        position = 0.0
        try:
            for mark in _marks(capture):
                if mark.is_behind_damage:
                    self._warn_of_damage(position)
                position = mark.position
                has_image, image = capture.retrieve()
                if not has_image:
                    self._warn_of_damage(position)
                    continue
                yield Frame(image, index, time.time(), name, position)  # type: ignore[arg-type]
                index += 1
        finally:
            capture.release()
        if not index:
            raise SourceError(f"{self.path}: no picture in it can be decoded; convert it to MP4")
        missing = missing_bytes(self.path)
        if missing:
            self.failed_reads += 1
            text = "%s: cut off at %s, at least %d bytes are missing at its end; copy it again"
            _log.warning(text, self.path, position_text(position), missing)

    def _warn_of_damage(self, position: float) -> None:
        self.failed_reads += 1
        text = "%s: damaged after %s; what lies behind is read"
        _log.warning(text, self.path, position_text(position))


class _Mark(NamedTuple):
    """A frame that can be decoded.

    position: seconds from the file's first picture.
    is_behind_damage: whether the file could not be read between the frame before and this one.
    """

    position: float
    is_behind_damage: bool


def _marks(capture: cv2.VideoCapture) -> Iterator[_Mark]:
    """The frames of a file, each while `capture` stands at it."""
    clock = _PositionClock(_mean_rate(capture))
    failed_reads = 0
    while failed_reads <= _MAX_FAILED_READS:
        if not capture.grab():
            failed_reads += 1
            continue
        position = clock.next(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
        yield _Mark(position, failed_reads > 0)
        failed_reads = 0


def _mean_rate(capture: cv2.VideoCapture) -> float:
    """The file's mean frame rate; an assumed one where it names none."""
    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if rate > 0 else _ASSUMED_RATE


def _copy_rate(positions: Sequence[float], mean_rate: float) -> float:
    """The rate of Video.fps, for a file whose pictures have these positions, in seconds."""
    intervals = [second - first for first, second in pairwise(positions) if second > first]
    frames = [interval * mean_rate for interval in intervals]
    if not intervals:
        return mean_rate
    is_constant = all(abs(count - round(count)) < _JITTER for count in frames)
    if is_constant and round(min(frames)) == 1:
        return mean_rate
    return min(1 / min(intervals), _MAX_COPY_RATE)


class _PositionClock:
    """The positions of a file's frames, from their time stamps.

    fps: what a frame without a time stamp is placed by; OpenCV gives 0 for it, as of the last
        frames that a decoder held back (AVI), and of raw streams.
    """

    def __init__(self, fps: float) -> None:
        self._interval = 1 / fps
        self._position = 0.0  # of the frame before; it never goes back
        self._stamp: float | None = None  # the last one that was in order

    def next(self, stamp: float) -> float:
        """The position of the next frame, whose time stamp is `stamp` seconds."""
        if self._stamp is None:
            self._stamp = stamp
            self._position = max(stamp, 0.0)
        elif stamp <= 0 or stamp < self._stamp:
            self._position += self._interval
        else:
            self._stamp = stamp
            self._position = max(stamp, self._position)
        return self._position
