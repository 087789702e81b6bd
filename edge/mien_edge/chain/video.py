"""Video files, frame by frame, with the times that the file itself gives them.

OpenCV (4.11 and 4.14, FFmpeg back end) gives each decoded picture's presentation time, counted from
the video stream's start. Its number of frames is a guess, and its frame rate a mean: neither tells
the time of a frame, nor whether the file is whole.
"""

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import cv2

from mien_edge import files
from mien_edge.chain.containers import missing_bytes
from mien_edge.errors import SourceError
from mien_edge.formats import position_text
from mien_edge.text import file_name
from mien_edge.values import Frame

_ASSUMED_RATE = 25.0  # frames per second of a file that names none, as FFmpeg assumes
_MAX_FAILED_READS = 100  # in a row, before what is left of a file is given up

_log = logging.getLogger("mien.source")


class Video:
    """A video file, every frame in order, named by the file's name.

    Positions are seconds from the first picture, by the file's own time stamps; `captured_at` is
    when a frame was read. `fps` is the file's mean rate. `failed_reads` counts the places where it
    is damaged; a warning names each by its position.

    Raises SourceError if OpenCV cannot open the file; the iteration does if it holds no picture.
    """

    still = False
    live = False
    skipped = 0

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failed_reads = 0
        capture = self._open()
        self.fps = _frame_rate(capture)
        capture.release()

    def _open(self) -> cv2.VideoCapture:
        with files.utf8_path(self.path) as name:
            capture = cv2.VideoCapture(name)
        if capture.isOpened():
            return capture
        missing = missing_bytes(self.path)
        if missing:
            text = f"{self.path}: cut off, {missing} bytes are missing at its end; copy it again"
            raise SourceError(text)
        hint = "convert it, e.g. with ffmpeg, to H.264 MP4"
        raise SourceError(f"{self.path}: not a video that OpenCV can read; {hint}")

    def __iter__(self) -> Iterator[Frame]:
        capture = self._open()
        clock = _PositionClock(self.fps)
        name = file_name(self.path.name)
        index = 0
        try:
            while self._advance(capture, clock):
                _, image = capture.retrieve()
                position = clock.next(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
                yield Frame(image, index, time.time(), name, position)  # type: ignore[arg-type]
                index += 1
        finally:
            capture.release()
        if not index:
            raise SourceError(f"{self.path}: no picture in it can be decoded; convert it to MP4")
        missing = missing_bytes(self.path)
        if missing:
            self.failed_reads += 1
            text = "%s: cut off at %s, %d bytes are missing at its end; copy it again"
            _log.warning(text, self.path, position_text(clock.position), missing)

    def _advance(self, capture: cv2.VideoCapture, clock: "_PositionClock") -> bool:
        """Go to the next frame that can be decoded; False where there is none."""
        if capture.grab():
            return True
        for _ in range(_MAX_FAILED_READS):
            if capture.grab():
                self.failed_reads += 1
                text = "%s: damaged after %s; read on behind it"
                _log.warning(text, self.path, position_text(clock.position))
                return True
        return False


def _frame_rate(capture: cv2.VideoCapture) -> float:
    """The file's mean frame rate; an assumed one where it names none."""
    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if rate > 0 else _ASSUMED_RATE


class _PositionClock:
    """The positions of a file's frames, from their time stamps.

    fps: what a frame without a time stamp is placed by; OpenCV gives 0 for it, as of the last
        frames that a decoder held back (AVI), and of raw streams.
    position: of the frame before, in seconds; it never goes back.
    """

    def __init__(self, fps: float) -> None:
        self.position = 0.0
        self._interval = 1 / fps
        self._stamp: float | None = None  # the last one that was in order

    def next(self, stamp: float) -> float:
        """The position of the next frame, whose time stamp is `stamp` seconds."""
        if self._stamp is None:
            self._stamp = stamp
            self.position = max(stamp, 0.0)
        elif stamp <= 0 or stamp < self._stamp:
            self.position += self._interval
        else:
            self._stamp = stamp
            self.position = max(stamp, self.position)
        return self.position
