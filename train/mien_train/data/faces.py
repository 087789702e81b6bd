"""Where the device's detector sees the faces of a data set, so that training can crop as the device does."""

import hashlib
from typing import Any

import cv2
import numpy as np
from mien_edge.chain import detect
from mien_edge.contract import Preprocess
from mien_edge.settings import DetectSettings
from mien_edge.values import Box, Frame
from numpy.typing import NDArray
from tqdm import tqdm

from mien_train.data import cache, read

_SIDE, _BORDER = 192, 64


def boxes(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(n, 4) x, y, width and height of the largest face in each face crop, as shares of the picture's side; NaN where
    the detector, set as a device's is by default, finds none. It is shown each picture as `framed`.
    """
    finder = detect.YuNet(DetectSettings())
    found = np.full((len(images), 4), np.nan)
    for i, image in enumerate(tqdm(images, desc="finding faces", unit=" pictures", leave=False, disable=None)):
        faces = finder(Frame(framed(image), 0, 0.0))
        if faces:
            x, y, width, height = faces[0].box
            found[i] = (x - _BORDER) / _SIDE, (y - _BORDER) / _SIDE, width / _SIDE, height / _SIDE
    return found


def in_frame(box: NDArray[np.float64]) -> Box:
    """A box of `boxes` in the pixels of `framed`."""
    x, y, width, height = (float(value) * _SIDE for value in box)
    return Box(x + _BORDER, y + _BORDER, width, height)


def framed(image: NDArray[np.uint8]) -> Any:
    """A face crop as a camera might show it: enlarged to 192 pixels, within a border of repeated edge pixels."""
    large = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
    return cv2.copyMakeBorder(large, _BORDER, _BORDER, _BORDER, _BORDER, cv2.BORDER_REPLICATE)


def known_boxes(dataset: read.Dataset) -> NDArray[np.float64]:
    """`boxes` of the dataset's images, kept beside the cached data."""
    shown = hashlib.sha256(repr((DetectSettings(), _SIDE, _BORDER)).encode()).hexdigest()[:8]
    path = cache.cache_folder() / f"{dataset.sha256}-{len(dataset)}-boxes-{shown}.npz"
    return cache.kept(path, lambda: boxes(dataset.images))


def squares(dataset: read.Dataset, preprocess: Preprocess) -> NDArray[np.float64]:
    """(n, 3) middle x, middle y and side, in pixels, of the crop that `preprocess` makes of the detector's box in each
    picture; the whole picture where there is no face.
    """
    found, size = known_boxes(dataset), dataset.images.shape[-1]
    made = np.tile([size / 2, size / 2, float(size)], (len(found), 1))
    for i in np.flatnonzero(np.isfinite(found[:, 0])):
        square = Box(*(found[i] * size)).square(1 + preprocess.margin)
        made[i] = *square.centre, square.width
    return made
