"""Stable numbers for faces."""

from dataclasses import dataclass, replace

from mien_edge.settings import TrackSettings
from mien_edge.values import Box, Face, Frame


@dataclass(frozen=True, slots=True)
class _Seen:
    box: Box
    time: float


class Tracker:
    """Gives each face the number of the face that was last seen where it is (greatest overlap first).

    Boxes are compared half as large again, so that a face may move by most of its width between two frames. A face
    that is gone keeps its number for `max_age` seconds; a number is never given twice.
    """

    def __init__(self, settings: TrackSettings) -> None:
        self.settings = settings
        self._seen: dict[int, _Seen] = {}
        self._last = 0
        self._previous = 0.0

    def __call__(self, frame: Frame, faces: tuple[Face, ...]) -> tuple[Face, ...]:
        """The faces with `track` set, in the order given."""
        now = frame.captured_at
        self._seen = {n: seen for n, seen in self._seen.items() if self._remembers(seen, now)}
        numbers = self._matches(faces)
        tracked = tuple(replace(face, track=numbers.get(i) or self._new()) for i, face in enumerate(faces))
        self._seen.update({face.track: _Seen(face.box, now) for face in tracked})
        self._previous = now
        return tracked

    def _remembers(self, seen: _Seen, now: float) -> bool:
        return seen.time == self._previous or abs(now - seen.time) <= self.settings.max_age

    def _matches(self, faces: tuple[Face, ...]) -> dict[int, int]:
        pairs = [
            (_reach(face.box).iou(_reach(seen.box)), i, n)
            for i, face in enumerate(faces)
            for n, seen in self._seen.items()
        ]
        found: dict[int, int] = {}
        for overlap, i, number in sorted(pairs, key=lambda pair: -pair[0]):
            if overlap >= self.settings.min_iou and i not in found and number not in found.values():
                found[i] = number
        return found

    def _new(self) -> int:
        self._last += 1
        return self._last


def _reach(box: Box) -> Box:
    return box.square(1.5)


class NoTracking:
    """For photographs that have nothing to do with each other: every face is a new one."""

    def __init__(self) -> None:
        self._last = 0

    def __call__(self, frame: Frame, faces: tuple[Face, ...]) -> tuple[Face, ...]:
        """The faces with numbers never given before."""
        first = self._last + 1
        self._last += len(faces)
        return tuple(replace(face, track=first + i) for i, face in enumerate(faces))
