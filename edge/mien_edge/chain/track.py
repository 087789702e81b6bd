"""Stable numbers for faces, from frame to frame."""

from dataclasses import dataclass, replace

from mien_edge.settings import TrackSettings
from mien_edge.values import Box, Face, Frame


@dataclass(frozen=True, slots=True)
class _Track:
    """Where and when a face was detected last."""

    box: Box
    time: float


class Tracker:
    """Gives each face the number of the last face at its place, the greatest overlap first.

    settings: boxes match from an intersection over union of `min_iou` on; they are compared half as
        large again, so that a face may move by most of its width between two frames. A face that
        is not detected keeps its number for `max_age` seconds.

    Numbers count from 1; none is used for two faces.
    """

    def __init__(self, settings: TrackSettings) -> None:
        self.settings = settings
        self._tracks: dict[int, _Track] = {}
        self._last_number = 0
        self._previous = 0.0
        self._source = ""

    def __call__(self, frame: Frame, faces: tuple[Face, ...]) -> tuple[Face, ...]:
        """The faces of one frame with `track` set, in the same order."""
        now = frame.source_time
        if frame.name != self._source:  # nobody goes from one file to the next
            self._source = frame.name
            self._tracks = {}
        self._tracks = {n: track for n, track in self._tracks.items() if self._is_alive(track, now)}
        numbers = self._matches(faces)
        indexed = enumerate(faces)
        tracked = tuple(replace(face, track=numbers.get(i) or self._new()) for i, face in indexed)
        self._tracks.update({face.track: _Track(face.box, now) for face in tracked})
        self._previous = now
        return tracked

    def _is_alive(self, track: _Track, now: float) -> bool:
        return track.time == self._previous or abs(now - track.time) <= self.settings.max_age

    def _matches(self, faces: tuple[Face, ...]) -> dict[int, int]:
        """Index of a face to number of a track."""
        pairs = [
            (_reach(face.box).iou(_reach(track.box)), i, n)
            for i, face in enumerate(faces)
            for n, track in self._tracks.items()
        ]
        numbers: dict[int, int] = {}
        for overlap, i, n in sorted(pairs, key=lambda pair: -pair[0]):
            if overlap >= self.settings.min_iou and i not in numbers and n not in numbers.values():
                numbers[i] = n
        return numbers

    def _new(self) -> int:
        self._last_number += 1
        return self._last_number


def _reach(box: Box) -> Box:
    return box.square(1.5)


class NoTracking:
    """For photographs that have nothing to do with each other: every face is a new one."""

    def __init__(self) -> None:
        self._last_number = 0

    def __call__(self, frame: Frame, faces: tuple[Face, ...]) -> tuple[Face, ...]:
        """The faces with new numbers as `track`, in the same order."""
        first = self._last_number + 1
        self._last_number += len(faces)
        return tuple(replace(face, track=first + i) for i, face in enumerate(faces))
