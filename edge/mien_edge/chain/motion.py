"""Whether something moved between two pictures: cheap, local, and deaf to a sensor's noise."""

import cv2
import numpy as np
from numpy.typing import NDArray

from mien_edge.values import Pixels

_SIZE = (80, 60)  # what a picture is reduced to
_BLOCK = 10  # a side of the blocks whose mean change is looked at, in reduced pixels
THRESHOLD = 4.0
"""Gray levels by which one block in the mean must change; a sensor's noise of 15 levels a pixel stays below it."""

Thumbnail = NDArray[np.uint8]


def thumbnail(image: Pixels) -> Thumbnail:
    """(60, 80) gray uint8 of a gray or BGR picture of any size."""
    small = cv2.resize(image, _SIZE, interpolation=cv2.INTER_AREA)
    return small if small.ndim == 2 else cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)  # type: ignore[return-value]


def moved(before: Thumbnail | None, now: Thumbnail) -> bool:
    """Whether any block changed by more than THRESHOLD; True where there is nothing before."""
    if before is None:
        return True
    blocks = cv2.resize(
        cv2.absdiff(before, now), (_SIZE[0] // _BLOCK, _SIZE[1] // _BLOCK), interpolation=cv2.INTER_AREA
    )
    return bool(blocks.max() > THRESHOLD)
