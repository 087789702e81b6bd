"""Faces moved along with what is seen in them: sparse optical flow, and the similarity it shows.

The motion of a point is estimated after Lucas and Kanade 1981, in a pyramid (Bouguet 2000), with
OpenCV's calcOpticalFlowPyrLK. A point counts if the way back leads to where it came from (the
forward-backward error of Kalal, Mikolajczyk and Matas 2010), and if it moves as most others of its
face do (a similarity transform, by RANSAC: cv2.estimateAffinePartial2D).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from mien_edge.values import Box, Face, Pixels

_Points = NDArray[np.float32]

_GRID = (0.1, 0.5, 0.9)  # where points lie along a side of the box, as shares of it
_WINDOW = 9  # pixels; side of the square about a point that is taken to move as it does
_LEVELS = 3  # of the pyramid above the picture
_REACH = (_WINDOW // 2) * 2**_LEVELS  # pixels that a point may move
_MARGIN = _REACH + _WINDOW  # pixels about all points that are looked at
_CRITERIA = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 5, 0.03)
_MAX_RETURN_ERROR = 1.0  # pixels
_MAX_RESIDUAL = 0.06  # of the box's longer side
_MIN_SHARE = 0.5  # of a face's first points
_MAX_GROWTH = 2.0
_IDENTITY = np.eye(2, 3)


@dataclass(frozen=True, slots=True, eq=False)
class Trail:
    """A face that is followed since the detector saw it. Everything is in pixels of the frame.

    face: as the detector saw it.
    origins: (n, 2) float32, the points in it then: of a grid and its landmarks those that could be
        followed without a break.
    points: (n, 2) float32, where they are now.
    min_points: with fewer points the face is lost.
    transform: (2, 3), what took the face from there to here.
    """

    face: Face
    origins: _Points
    points: _Points
    min_points: float
    transform: NDArray[np.float64]

    @classmethod
    def start(cls, face: Face) -> "Trail":
        """The trail of a face that was detected in this frame."""
        box = face.box
        grid = [(box.x + box.width * x, box.y + box.height * y) for x in _GRID for y in _GRID]
        points = np.array([*grid, *face.landmarks], np.float32)
        return cls(face, points, points, _MIN_SHARE * len(points), _IDENTITY)

    def current(self) -> Face:
        """The face as it is now: box and landmarks moved, the box scaled but never turned."""
        scale = _scale(self.transform)
        x, y = self._moved(self.face.box.centre)
        width = self.face.box.width * scale
        height = self.face.box.height * scale
        box = Box(x - width / 2, y - height / 2, width, height)
        landmarks = tuple(self._moved(landmark) for landmark in self.face.landmarks)
        return replace(self.face, box=box, landmarks=landmarks)

    def _moved(self, point: tuple[float, float]) -> tuple[float, float]:
        x, y = (self.transform @ (*point, 1.0)).tolist()
        return x, y


def advance(
    trails: Sequence[Trail], before: Pixels, now: Pixels, scale: tuple[float, float]
) -> list[Trail | None]:
    """Follow faces from one picture to the next; None for each that is lost.

    A face is lost once fewer than half of its first points can be followed, so also when something
    covers it or it leaves the picture.

    before, now: (height, width) uint8, the frames scaled down.
    scale: their width and height, as a share of the frame's.
    """
    if not trails:
        return []
    points = np.concatenate([trail.points for trail in trails])
    factors = np.array(scale, np.float32)
    arrivals, is_followed = _arrivals(points * factors, before, now)
    arrivals /= factors
    ends = np.cumsum([len(trail.points) for trail in trails])[:-1]
    parts = zip(trails, np.split(arrivals, ends), np.split(is_followed, ends), strict=True)
    return [_advanced(trail, each, followed) for trail, each, followed in parts]


def _arrivals(points: _Points, before: Pixels, now: Pixels) -> tuple[_Points, NDArray[np.bool_]]:
    """Where points have moved, (n, 2) float32, and which of them lead back to where they were."""
    left, top = (points.min(axis=0) - _MARGIN).clip(0).astype(int)
    right, bottom = (points.max(axis=0) + _MARGIN).clip(_WINDOW).astype(int)
    region = (slice(top, bottom), slice(left, right))
    if before[region].size == 0:
        return points, np.zeros(len(points), np.bool_)
    offset = np.array((left, top), np.float32)
    starts = points - offset
    arrivals, forth = _flow(before[region], now[region], starts)
    returns, back = _flow(now[region], before[region], arrivals)
    errors = np.abs(returns - starts).max(axis=1)
    return arrivals + offset, forth & back & (errors < _MAX_RETURN_ERROR)


def _flow(before: Pixels, now: Pixels, points: _Points) -> tuple[_Points, NDArray[np.bool_]]:
    arrivals, status, _ = cv2.calcOpticalFlowPyrLK(  # type: ignore[call-overload]
        before,
        now,
        points,
        None,
        winSize=(_WINDOW, _WINDOW),
        maxLevel=_LEVELS,
        criteria=_CRITERIA,
    )
    return arrivals, status[:, 0].astype(np.bool_)


def _advanced(trail: Trail, points: _Points, is_followed: NDArray[np.bool_]) -> Trail | None:
    """The trail with those of its points that moved together; None if they are too few."""
    origins = trail.origins[is_followed]
    points = points[is_followed]
    if len(points) < trail.min_points:
        return None
    residual = _MAX_RESIDUAL * max(trail.face.box.width, trail.face.box.height)
    estimate, inliers = cv2.estimateAffinePartial2D(origins, points, ransacReprojThreshold=residual)
    if estimate is None:
        return None
    transform = np.asarray(estimate, np.float64)
    is_inlier = inliers[:, 0] > 0
    is_plausible = 1 / _MAX_GROWTH < _scale(transform) < _MAX_GROWTH
    if not is_plausible or np.count_nonzero(is_inlier) < trail.min_points:
        return None
    return replace(trail, origins=origins[is_inlier], points=points[is_inlier], transform=transform)


def _scale(transform: NDArray[np.float64]) -> float:
    return math.hypot(transform[0, 0], transform[1, 0])
