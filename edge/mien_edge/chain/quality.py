"""Why a face gets no label: too small, turned away, blurred."""

import math

import cv2
import numpy as np

from mien_edge.events import Quality
from mien_edge.settings import QualitySettings
from mien_edge.values import Box, Face, Pixels


def before_crop(face: Face, settings: QualitySettings) -> Quality:
    """'too small', 'turned away' or 'good', by the detector's box and landmarks alone."""
    if max(face.box.width, face.box.height) < settings.min_face_pixels:
        return Quality.TOO_SMALL
    if turn(face) > settings.max_yaw:
        return Quality.TURNED_AWAY
    return Quality.GOOD


def after_crop(crop: Pixels, settings: QualitySettings) -> Quality:
    """'blurred' or 'good'."""
    return Quality.BLURRED if sharpness(crop) < settings.min_sharpness else Quality.GOOD


def turn(face: Face) -> float:
    """How far the nose tip is beside the middle of the eyes, along the line of the eyes, in eye distances; 0 without
    landmarks. At most 9. About 0 to 0.2 for a face that looks at the camera, above 0.5 for a half profile.
    """
    if len(face.landmarks) < 3:
        return 0.0
    (ax, ay), (bx, by), (nx, ny) = face.landmarks[:3]
    distance = math.hypot(bx - ax, by - ay)
    if distance < 1e-6:
        return 9.0
    return min(9.0, abs((nx - (ax + bx) / 2) * (bx - ax) + (ny - (ay + by) / 2) * (by - ay)) / distance**2)


def sharpness(crop: Pixels) -> float:
    """Variance of the crop's Laplacian over the variance of the crop (after Pech-Pacheco et al. 2000); 0 for a
    single tone. The ratio does not depend on light or contrast.
    """
    variance = float(np.var(crop))
    return float(cv2.Laplacian(crop, cv2.CV_32F).var()) / variance if variance > 0 else 0.0


def align_eyes(image: Pixels, face: Face) -> tuple[Pixels, Box]:
    """The part of a gray picture around a face, turned until the eyes are level, and the face's box in it.

    Without landmarks, or where nothing of the face is in the picture, the picture and the box as they are.
    """
    height, width = image.shape
    area = face.box.square(2.0).intersection(Box(0, 0, width, height))
    x, y, right, bottom = int(area.x), int(area.y), int(area.x + area.width), int(area.y + area.height)
    if len(face.landmarks) < 2 or right <= x or bottom <= y:
        return image, face.box
    (ax, ay), (bx, by) = face.landmarks[:2]
    cx, cy = face.box.centre
    matrix = cv2.getRotationMatrix2D((cx - x, cy - y), math.degrees(math.atan2(by - ay, bx - ax)), 1.0)
    patch = cv2.warpAffine(image[y:bottom, x:right], matrix, (right - x, bottom - y), borderMode=cv2.BORDER_REPLICATE)
    return patch, face.box._replace(x=face.box.x - x, y=face.box.y - y)  # type: ignore[return-value]
