"""Look rarely, follow cheaply: when the detector searches the whole picture."""

import math
from collections.abc import Sequence

from mien_edge.chain import flow, motion
from mien_edge.chain.detect import Detector, detector, gray, largest_first, reduced
from mien_edge.settings import DetectSettings
from mien_edge.values import Face, Frame

_SIZE = 320  # pixels; the longer side of the pictures in which faces are followed


def following_detector(settings: DetectSettings) -> Detector:
    """As `detect.detector`, but for frames that follow each other: see Follower."""
    every_frame = detector(settings)
    if not settings.interval:
        return every_frame
    return Follower(settings.interval, every_frame)


class Follower:
    """Searches whole pictures for faces now and then, and follows them in between (chain/flow).

    It searches

    - every `interval`: in the last frame before that time is over, by the frames' own time, so
      that a new face is seen within it;
    - at once when a face that it follows is lost, and where fewer faces are there than before, in
      each frame until there are more again or `interval` is over;
    - at once in the first frame of another source, size or scene (motion.is_cut), or after a clock
      was set back; and in every photograph.

    interval: in seconds, above 0.
    detect: finds the faces of a whole picture.
    """

    def __init__(self, interval: float, detect: Detector) -> None:
        self.interval = interval
        self.detect = detect
        self._previous: _View | None = None
        self._trails: Sequence[flow.Trail] = ()
        self._searched_at = -math.inf
        self._search_until = -math.inf

    def __call__(self, frame: Frame) -> tuple[Face, ...]:
        """The faces of one frame, largest first: detected, or followed from the frame before."""
        previous = self._previous
        view = _View(frame)
        self._previous = view
        if previous is None or not view.continues(previous):
            self._trails = ()
            return self._search(frame)
        if self._is_due(view.time, view.time - previous.time):
            return self._search(frame)
        trails = flow.advance(self._trails, previous.picture, view.picture, view.scale)
        followed = [trail for trail in trails if trail is not None]
        if len(followed) < len(trails):
            return self._search(frame)
        self._trails = followed
        return largest_first([trail.current() for trail in followed])

    def _is_due(self, now: float, step: float) -> bool:
        """Whether faces are missing, or the next frame, in `step` seconds, would be too late."""
        return now <= self._search_until or now + step > self._searched_at + self.interval

    def _search(self, frame: Frame) -> tuple[Face, ...]:
        faces = self.detect(frame)
        now = frame.source_time
        if len(faces) < len(self._trails):
            self._search_until = now + self.interval
        elif len(faces) > len(self._trails):
            self._search_until = -math.inf
        self._searched_at = now
        self._trails = [flow.Trail.start(face) for face in faces]
        return faces


class _View:
    """What is kept of a frame until the next: small and gray."""

    def __init__(self, frame: Frame) -> None:
        self.picture = gray(reduced(frame.image, _SIZE))
        self.blocks = motion.block_means(self.picture)
        height, width = frame.image.shape[:2]
        self.scale = (self.picture.shape[1] / width, self.picture.shape[0] / height)
        self.source = (frame.name, width, height)
        self.is_photograph = frame.name != "" and frame.position is None
        self.time = frame.source_time

    def continues(self, previous: "_View") -> bool:
        """Whether it shows the same scene a moment later."""
        if self.is_photograph or self.source != previous.source or self.time < previous.time:
            return False
        return not motion.is_cut(previous.blocks, self.blocks)
