"""Why a face gets no label: too small, turned away, blurred."""

import math
from typing import Any

import cv2

from mien_edge.events import Quality
from mien_edge.settings import QualitySettings
from mien_edge.values import Box, Face, Pixels

_MAX_YAW_RATIO = 9.0


def before_crop(face: Face, settings: QualitySettings) -> Quality:
    """TOO_SMALL, TURNED_AWAY or GOOD, by the detector's box and landmarks alone."""
    if max(face.box.width, face.box.height) < settings.min_face_pixels:
        return Quality.TOO_SMALL
    if yaw_ratio(face) > settings.max_yaw:
        return Quality.TURNED_AWAY
    return Quality.GOOD


def after_crop(crop: Pixels, settings: QualitySettings) -> Quality:
    """BLURRED or GOOD, by the sharpness of a gray uint8 crop as the classifier gets it."""
    if sharpness(crop) < settings.min_sharpness:
        return Quality.BLURRED
    return Quality.GOOD


def yaw_ratio(face: Face) -> float:
    """How far a face is turned to the side, 0 to 9; 0 without landmarks.

    The distance of the nose tip from the middle of the eyes, along the line of the eyes, in eye
    distances. About 0 to 0.2 for a face that looks at the camera, above 0.5 for a half profile.
    """
    if len(face.landmarks) < 3:
        return 0.0
    (right_x, right_y), (left_x, left_y), (nose_x, nose_y) = face.landmarks[:3]
    eyes_x = left_x - right_x
    eyes_y = left_y - right_y
    distance = math.hypot(eyes_x, eyes_y)
    if distance < 1e-6:
        return _MAX_YAW_RATIO
    offset_x = nose_x - (right_x + left_x) / 2
    offset_y = nose_y - (right_y + left_y) / 2
    projection = abs(offset_x * eyes_x + offset_y * eyes_y)
    return min(_MAX_YAW_RATIO, projection / distance**2)


def sharpness(crop: Pixels) -> float:
    """Variance of a gray uint8 crop's Laplacian over the variance of the crop; 0 for a single tone.

    After Pech-Pacheco et al. 2000. The ratio does not depend on light or contrast.
    """
    variance = _variance(crop)
    if variance <= 0:
        return 0.0
    return _variance(cv2.Laplacian(crop, cv2.CV_16S)) / variance


def _variance(values: Any) -> float:
    _, deviation = cv2.meanStdDev(values)
    return float(deviation[0, 0] ** 2)


def align_eyes(image: Pixels, face: Face) -> tuple[Pixels, Box]:
    """Rotate the part of a picture around a face until the eyes are level (face alignment).

    image: (height, width) gray uint8.
    Returns the rotated part, of at most twice the face's size, and the face's box in it. Without
    landmarks, or where nothing of the face is in the picture: the picture and the box as they are.
    """
    left, top, right, bottom = _surroundings(image, face)
    if len(face.landmarks) < 2 or right <= left or bottom <= top:
        return image, face.box

    centre_x, centre_y = face.box.centre
    degrees = _eye_line_degrees(face)
    rotation = cv2.getRotationMatrix2D((centre_x - left, centre_y - top), degrees, 1.0)
    patch = cv2.warpAffine(
        image[top:bottom, left:right],
        rotation,
        (right - left, bottom - top),
        borderMode=cv2.BORDER_REPLICATE,
    )
    box = face.box._replace(x=face.box.x - left, y=face.box.y - top)
    return patch, box  # type: ignore[return-value]


def _surroundings(image: Pixels, face: Face) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of twice the face's size, as far as it is in the picture."""
    height, width = image.shape
    picture = Box(0, 0, width, height)
    area = face.box.square(2.0).intersection(picture)
    right = int(area.x + area.width)
    bottom = int(area.y + area.height)
    return int(area.x), int(area.y), right, bottom


def _eye_line_degrees(face: Face) -> float:
    (right_x, right_y), (left_x, left_y) = face.landmarks[:2]
    return math.degrees(math.atan2(left_y - right_y, left_x - right_x))
