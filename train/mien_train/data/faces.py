"""Where the device's detector sees the faces of a data set, so that training can crop as the device
does.
"""

import hashlib
import os
from typing import Any

import cv2
import numpy as np
from mien_edge.chain.detect import YuNet
from mien_edge.contract import Preprocess
from mien_edge.settings import DetectSettings
from mien_edge.values import Box, Frame

from mien_train.arrays import Doubles, Indices, Pixels
from mien_train.data.cache import cache_folder, cached
from mien_train.data.read import Dataset
from mien_train.progress import progress

_SIDE = 192  # pixels of a face crop's side in the frame that the detector is shown
_BORDER = 64  # pixels of the frame around it


def detect_boxes(images: Pixels) -> Doubles:
    """Find the largest face of each face crop with the detector, set as a device's is by default.

    images: (n, 48, 48) uint8; the detector is shown each as `frame_of` makes it. Returns (n, 4) x,
    y, width and height as shares of the picture's side; NaN where no face is detected.
    """
    detector = YuNet(DetectSettings())
    boxes = np.full((len(images), 4), np.nan)
    for row, image in enumerate(progress(images, "finding faces", "pictures")):
        faces = detector(Frame(frame_of(image), 0, 0.0))
        if faces:
            boxes[row] = _shares(faces[0].box)
    return boxes


def frame_of(image: Pixels) -> Any:
    """A (48, 48) face crop as a camera might show it: enlarged to 192 pixels, edge pixels repeated
    for 64 around it.

    Returns (320, 320) uint8.
    """
    large = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
    return cv2.copyMakeBorder(large, _BORDER, _BORDER, _BORDER, _BORDER, cv2.BORDER_REPLICATE)


def box_in_frame(shares: Doubles) -> Box:
    """A row of `detect_boxes`, (4,), in the pixels of `frame_of`."""
    x, y, width, height = (float(share) * _SIDE for share in shares)
    return Box(x + _BORDER, y + _BORDER, width, height)


def _detector_setup() -> str:
    """What `detect_boxes` depends on, spelled as the first version did, whose caches are valid."""
    settings = DetectSettings()
    detector = (
        f"Detect(method={settings.method!r}, size={settings.size}, "
        f"threshold={settings.min_score}, every=5, blur={settings.blur})"
    )
    return f"({detector}, {_SIDE}, {_BORDER})"


def cached_boxes(dataset: Dataset, rows: Indices | None = None) -> Doubles:
    """`detect_boxes` of the dataset's images, cached beside the parsed data; those that the data
    set brings (Dataset.boxes) are taken from it.

    rows: (n,) row numbers, for boxes of those only. Unless all boxes are cached already, no other
    picture is searched.
    """
    if dataset.boxes is None:
        return _detected_boxes(dataset, rows)
    boxes = dataset.boxes.copy() if rows is None else dataset.boxes[rows]
    unknown = np.flatnonzero(np.isnan(boxes[:, 0]))
    if len(unknown):
        boxes[unknown] = _detected_boxes(dataset, unknown if rows is None else rows[unknown])
    return boxes


def _detected_boxes(dataset: Dataset, rows: Indices | None) -> Doubles:
    digest = _digest(_detector_setup().encode())
    prefix = f"{dataset.sha256}-{len(dataset)}-boxes-{digest}"
    whole = cache_folder() / f"{prefix}.npz"
    if rows is None:
        return cached(whole, lambda: detect_boxes(dataset.images))
    if os.path.exists(whole):  # Path.exists raises OSError where it may not look
        return _detected_boxes(dataset, None)[rows]
    part = cache_folder() / f"{prefix}-{_digest(rows.astype(np.int64).tobytes())}.npz"
    return cached(part, lambda: detect_boxes(dataset.images[rows]))


def _digest(content: bytes) -> str:
    """Eight characters that tell such contents apart in the name of a file."""
    return hashlib.sha256(content).hexdigest()[:8]


def device_squares(dataset: Dataset, preprocess: Preprocess) -> Doubles:
    """The squares that the device crops: what `preprocess` makes of the detector's box in each
    picture.

    Returns (n, 3) middle x, middle y and side in pixels of the dataset's images; the whole picture
    where there is no face.
    """
    boxes = cached_boxes(dataset)
    size = dataset.images.shape[-1]
    squares = np.tile([size / 2, size / 2, float(size)], (len(boxes), 1))
    for row in np.flatnonzero(np.isfinite(boxes[:, 0])):
        box = Box(*(boxes[row] * size))
        square = box.square(1 + preprocess.margin)
        squares[row] = (*square.centre, square.width)
    return squares


def _shares(box: Box) -> tuple[float, float, float, float]:
    """A box in the pixels of `frame_of` as shares of the face crop's side."""
    x, y, width, height = box
    return (x - _BORDER) / _SIDE, (y - _BORDER) / _SIDE, width / _SIDE, height / _SIDE
