"""How far from the camera faces are found and read: arithmetic on the camera's field of view."""

import math

from mien_edge.settings import Settings

FACE_HEIGHT = 0.176
"""Metres from the top to the bottom of YuNet's box around an adult's face.

The box is 2.80 times as high as the eyes are apart (median of 137 photographs of faces that look
at the camera), and adults' pupils are 63 mm apart (Dodgson 2004, "Variation and extrema of human
interpupillary distance", Proc. SPIE 5291).
"""

FOUND_PIXELS = 24
"""Pixels of a face's height in the detector's picture from which 90 % of faces are found.

At 16 it is six in ten, at 32 all: tests/system/detector_reach.py, with 22 faces in the sample
photographs of the npm package @vladmandic/face-api.
"""

SIZE_STEP = 32
"""YuNet pads both sides of its picture to multiples of this: 240 pixels cost as much as 256."""

_MAX_SIZE = 2048  # of detect.size, pixels


def detector_size(settings: Settings) -> int:
    """Pixels of the longer side of the detector's picture.

    It is the smallest multiple of SIZE_STEP that finds faces at `detect.max_distance`, or
    `detect.size` where that is 0. Frames are never enlarged, so it may be more than they have.
    """
    distance = settings.detect.max_distance
    if not distance:
        return settings.detect.size
    metres = _seen_metres(settings) * distance
    needed = FOUND_PIXELS * metres / FACE_HEIGHT
    steps = math.ceil(needed / SIZE_STEP)
    return min(steps * SIZE_STEP, _MAX_SIZE)


def found_distance(settings: Settings) -> float:
    """Metres up to which the detector finds 90 % of adults' faces."""
    pixels = min(detector_size(settings), frame_size(settings))
    return _distance(settings, pixels, FOUND_PIXELS)


def read_distance(settings: Settings) -> float:
    """Metres up to which a face has the `quality.min_face_pixels` that it takes for a label."""
    return _distance(settings, frame_size(settings), settings.quality.min_face_pixels)


def needed_frame_size(settings: Settings) -> int:
    """Pixels that the longer side of a frame must have for labels at `detect.max_distance`."""
    metres = _seen_metres(settings) * settings.detect.max_distance
    pixels = max(settings.quality.min_face_pixels, FOUND_PIXELS)
    return math.ceil(pixels * metres / FACE_HEIGHT)


def frame_size(settings: Settings) -> int:
    """Pixels of the longer side of the frames that are requested from a camera."""
    return max(settings.source.width, settings.source.height)


def _distance(settings: Settings, size: int, face_pixels: float) -> float:
    """Metres at which a face has `face_pixels` in a picture whose longer side has `size`."""
    return size * FACE_HEIGHT / (face_pixels * _seen_metres(settings))


def _seen_metres(settings: Settings) -> float:
    """Metres that the longer side of the picture shows at a distance of one metre."""
    half_angle = math.radians(settings.source.field_of_view) / 2
    return 2 * math.tan(half_angle)
