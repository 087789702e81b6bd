"""Video files: every frame in order."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import cv2

from mien_edge.errors import SourceError
from mien_edge.values import Frame

_log = logging.getLogger("mien.source")


class Video:
    """A video file, every frame in order.

    Times run as in the video, from the moment at which the iteration begins. `fps` is the file's.
    `skipped` counts the frames that the file announces and does not yield, for it is damaged.
    Raises SourceError if OpenCV cannot open the file.
    """

    live = False

    def __init__(self, path: Path) -> None:
        capture = cv2.VideoCapture(str(path))
        if not capture.isOpened():
            hint = "convert it, e.g. with ffmpeg, to H.264 MP4"
            raise SourceError(f"{path}: not a video that OpenCV can read; {hint}")
        self.path = path
        self.paths = (path,)
        self.fps = capture.get(cv2.CAP_PROP_FPS)
        self.skipped = 0
        self._announced = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))

    def __iter__(self) -> Iterator[Frame]:
        capture = cv2.VideoCapture(str(self.path))
        start = time.time()
        index = 0
        try:
            while True:
                ok, image = capture.read()
                if not ok:
                    break
                captured_at = start + self._seconds(capture, index)
                yield Frame(image, index, captured_at)  # type: ignore[arg-type]
                index += 1
        finally:
            capture.release()
        if index < self._announced:
            self.skipped = self._announced - index
            text = "%s ends after %d of %d frames: it is damaged from there"
            _log.warning(text, self.path, index, self._announced)

    def _seconds(self, capture: cv2.VideoCapture, index: int) -> float:
        """The time of the frame that was read last, from the video's begin."""
        if self.fps > 0:
            return index / self.fps
        return capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
