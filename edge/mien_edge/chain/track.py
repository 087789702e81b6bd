"""Stable numbers for faces, from frame to frame."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mien_edge.settings import TrackSettings
from mien_edge.values import Box, Face, Floats, Frame

_MANY_PAIRS = 12  # of boxes; from here on NumPy is the faster one


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

    Numbers count from 1; none is used for two faces. The frames of two files have no face in
    common, so in photographs every face is a new one.
    """

    def __init__(self, settings: TrackSettings) -> None:
        self.settings = settings
        self._tracks: dict[int, _Track] = {}
        self._last_number = 0
        self._previous = 0.0
        self._name = ""

    def __call__(self, frame: Frame, faces: tuple[Face, ...]) -> tuple[Face, ...]:
        """The faces of one frame with `track` set, in the same order."""
        now = frame.source_time
        if frame.name != self._name:
            self._name = frame.name
            self._tracks = {}
        self._tracks = {n: track for n, track in self._tracks.items() if self._is_alive(track, now)}
        numbers = self._matches(faces)
        indexed = enumerate(faces)
        tracked = tuple(face.with_track(numbers.get(i) or self._new()) for i, face in indexed)
        self._tracks.update({face.track: _Track(face.box, now) for face in tracked})
        self._previous = now
        return tracked

    def _is_alive(self, track: _Track, now: float) -> bool:
        return track.time == self._previous or abs(now - track.time) <= self.settings.max_age

    def _matches(self, faces: tuple[Face, ...]) -> dict[int, int]:
        """Index of a face to number of a track."""
        if not self._tracks:
            return {}
        boxes = [_reach(face.box) for face in faces]
        track_boxes = [_reach(track.box) for track in self._tracks.values()]
        track_numbers = list(self._tracks)
        numbers: dict[int, int] = {}
        used: set[int] = set()
        for i, j in _overlaps(boxes, track_boxes, self.settings.min_iou):
            if i not in numbers and j not in used:
                numbers[i] = track_numbers[j]
                used.add(j)
        return numbers

    def _new(self) -> int:
        self._last_number += 1
        return self._last_number


def _reach(box: Box) -> Box:
    return box.square(1.5)


def _overlaps(
    boxes: Sequence[Box], others: Sequence[Box], min_iou: float
) -> Sequence[tuple[int, int]]:
    """The indices of each box and other box whose intersection over union is at least `min_iou`:
    the greatest first, equal ones by their indices.
    """
    if len(boxes) * len(others) >= _MANY_PAIRS:
        table = _iou_table(np.array(boxes), np.array(others))
        rows, columns = np.nonzero(table >= min_iou)
        order = np.argsort(-table[rows, columns], kind="stable")
        return list(zip(rows[order].tolist(), columns[order].tolist(), strict=True))
    pairs = [
        (-iou, i, j)
        for i, box in enumerate(boxes)
        for j, other in enumerate(others)
        if (iou := box.iou(other)) >= min_iou
    ]
    return [(i, j) for _, i, j in sorted(pairs)]


def _iou_table(boxes: Floats, others: Floats) -> Floats:
    """Box.iou of each of (n, 4) boxes with each of (m, 4) others: (n, m) float64."""
    x, y, width, height = boxes.T[:, :, None]
    other_x, other_y, other_width, other_height = others.T
    right = np.minimum(x + width, other_x + other_width)
    bottom = np.minimum(y + height, other_y + other_height)
    shared_width = np.maximum(right - np.maximum(x, other_x), 0)
    shared_height = np.maximum(bottom - np.maximum(y, other_y), 0)
    shared = shared_width * shared_height
    area = np.maximum(width, 0) * np.maximum(height, 0)
    other_area = np.maximum(other_width, 0) * np.maximum(other_height, 0)
    union = area + other_area - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
