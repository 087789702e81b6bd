"""How two pictures differ: whether something moved, whether it is another scene. Cheap, and deaf to
a sensor's noise.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from mien_edge.chain.shrink import shrink
from mien_edge.values import Pixels

_WIDTH = 80  # what a picture is reduced to, in pixels
_HEIGHT = 60
_HALVINGS = 3  # a reduced pixel is the mean of 64 of a large picture, so that noise stays small
_BLOCK = 10  # a side of the blocks whose mean change is compared, in reduced pixels
THRESHOLD = 4.0
"""Gray levels by which one block in the mean must change.

A sensor's noise of 15 levels a pixel stays below it.
"""

_CUT = 12.0  # gray levels; two scenes differ by some 40

Thumbnail = NDArray[np.uint8]
"""(60, 80) gray uint8."""


def thumbnail(image: Pixels) -> Thumbnail:
    """(60, 80) gray uint8 of a gray or BGR uint8 picture of any size."""
    small = shrink(image, _WIDTH, _HEIGHT, _HALVINGS)
    if small.ndim == 2:
        return small
    return cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)  # type: ignore[return-value]


def moved(before: Thumbnail | None, now: Thumbnail) -> bool:
    """Whether the mean of any block of 10 x 10 pixels changed by more than THRESHOLD.

    True if there is nothing to compare with (`before` is None).
    """
    if before is None:
        return True
    changes = block_means(cv2.absdiff(before, now))  # type: ignore[arg-type]
    return bool(changes.max() > THRESHOLD)


def block_means(image: Pixels) -> Pixels:
    """(6, 8) uint8: the means of as many equal parts of a gray uint8 picture of any size."""
    grid = (_WIDTH // _BLOCK, _HEIGHT // _BLOCK)
    return cv2.resize(image, grid, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def is_cut(before: Pixels, now: Pixels) -> bool:
    """Whether most of two pictures' `block_means` differ by more than _CUT: another scene.

    It may also be a light that was switched. A camera that moves changes the means less.
    """
    changed = np.count_nonzero(cv2.absdiff(before, now) > _CUT)  # type: ignore[operator]
    return bool(changed > before.size / 2)
