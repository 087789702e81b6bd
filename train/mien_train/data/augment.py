"""Augmentation of pictures in NumPy and OpenCV. What is random is drawn first, for all rows of a view at once.

So a view of a data set is a pure function of (seed, number of the view): a run that is killed and resumed sees the very
pictures that it would have seen, and a teacher can be asked about pictures that a student sees later.
"""

from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Augment:
    """Strengths; 0 (or 0.0) turns each off.

    flip: probability of a mirror image. rotate: at most so many degrees. scale: at most this share larger or smaller.
    shift: at most so many pixels. device: probability that the picture is cropped as the real detector crops it.
    brightness: at most so many gray levels. contrast: at most this share more or less. gamma: at most this share more
    or less. blur: probability of a Gaussian blur of 0.5 to 1.5 pixels. shrink: probability that the picture is reduced
    by up to 2.5 and enlarged again, as a far face is. noise: greatest standard deviation in gray levels.
    jpeg: probability of JPEG compression at quality 15 to 60.
    erase: probability that a rectangle of 4 to 18 pixels a side is filled with noise (Zhong et al. 2017).
    mixup: alpha of the beta distribution that blends two rows (Zhang et al. 2017).
    """

    flip: float = 0.5
    rotate: float = 12.0
    scale: float = 0.15
    shift: float = 3.0
    brightness: float = 20.0
    contrast: float = 0.2
    blur: float = 0.1
    noise: float = 6.0
    erase: float = 0.3
    mixup: float = 0.2
    device: float = 0.0
    gamma: float = 0.0
    shrink: float = 0.0
    jpeg: float = 0.0


OFF = Augment(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)

_FIELD = np.random.default_rng(0).standard_normal(1 << 20, np.float32)
"""Noise is cut from this field at a drawn place, so that it belongs to a row's draws and costs nothing to make."""


@dataclass(frozen=True, eq=False)
class Draws:
    """What was drawn for n pictures: an array of n each. 0 in `blur`, `shrink` and `jpeg` means that it is left out."""

    flip: NDArray[np.bool_]
    device: NDArray[np.bool_]
    angle: NDArray[np.float64]
    scale: NDArray[np.float64]
    shift: NDArray[np.float64]
    gain: NDArray[np.float64]
    offset: NDArray[np.float64]
    gamma: NDArray[np.float64]
    blur: NDArray[np.float64]
    shrink: NDArray[np.float64]
    noise: NDArray[np.float64]
    place: NDArray[np.int64]
    jpeg: NDArray[np.int64]

    def take(self, rows: NDArray[Any]) -> "Draws":
        """The draws of the given rows."""
        return Draws(**{each.name: getattr(self, each.name)[rows] for each in fields(self)})


def draw(n: int, augment: Augment, rng: np.random.Generator) -> Draws:
    """Everything random about one view of n pictures."""
    return Draws(
        flip=rng.random(n) < augment.flip,
        device=rng.random(n) < augment.device,
        angle=rng.uniform(-augment.rotate, augment.rotate, n),
        scale=np.exp(rng.uniform(-1, 1, n) * np.log1p(augment.scale)),
        shift=rng.uniform(-augment.shift, augment.shift, (n, 2)),
        gain=1 + rng.uniform(-augment.contrast, augment.contrast, n),
        offset=rng.uniform(-augment.brightness, augment.brightness, n),
        gamma=np.exp(rng.uniform(-1, 1, n) * np.log1p(augment.gamma)),
        blur=np.where(rng.random(n) < augment.blur, rng.uniform(0.5, 1.5, n), 0),
        shrink=np.where(rng.random(n) < augment.shrink, rng.uniform(1.2, 2.5, n), 0),
        noise=rng.uniform(0, augment.noise, n),
        place=rng.integers(0, len(_FIELD), n),
        jpeg=np.where(rng.random(n) < augment.jpeg, rng.integers(15, 61, n), 0),
    )


def apply(images: NDArray[np.uint8], draws: Draws, squares: NDArray[Any] | None = None) -> NDArray[np.uint8]:
    """The pictures, (n, s, s) uint8, as `draws` says, to the same shape.

    squares: (n, 3) middle x, middle y and side, in pixels, of the detector's crop in each picture; it is taken where
    `draws.device` says so. None: the whole picture always.
    """
    size = images.shape[-1]
    whole = np.array([size / 2, size / 2, size])
    boxes = np.broadcast_to(whole, (len(images), 3))
    if squares is not None:
        boxes = np.where(draws.device[:, None], squares, whole)
    warped = np.empty_like(images)
    for i, image in enumerate(images):
        source, (x, y, side) = (
            (image[:, ::-1], boxes[i] * (-1, 1, 1) + (size, 0, 0)) if draws.flip[i] else (image, boxes[i])
        )
        placed = turn(source, float(draws.angle[i]), float(draws.scale[i]) * size / side, draws.shift[i], (x, y))
        warped[i] = _coarsen(placed, float(draws.blur[i]), float(draws.shrink[i]))
    return _jpeg(_light(warped, draws), draws.jpeg)


def turn(
    image: NDArray[np.uint8], angle: float, scale: float, shift: Any = (0, 0), middle: Any = None
) -> NDArray[np.uint8]:
    """A square picture turned by `angle` degrees and enlarged by `scale` about `middle` (x, y), which comes to lie in
    the picture's middle, then shifted by (x, y) pixels; beyond the edge its pixels repeat.
    """
    size = image.shape[-1]
    x, y = (size / 2, size / 2) if middle is None else middle
    matrix = cv2.getRotationMatrix2D((x - 0.5, y - 0.5), angle, scale)
    matrix[:, 2] += (size / 2 - x + shift[0], size / 2 - y + shift[1])
    return cv2.warpAffine(  # type: ignore[return-value]
        np.ascontiguousarray(image), matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def _coarsen(image: NDArray[np.uint8], blur: float, shrink: float) -> NDArray[np.uint8]:
    size = image.shape[-1]
    if shrink:
        small = round(size / shrink)
        reduced = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
        image = cv2.resize(reduced, (size, size), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    return cv2.GaussianBlur(image, (0, 0), blur) if blur else image  # type: ignore[return-value]


def _light(images: NDArray[np.uint8], draws: Draws) -> NDArray[np.uint8]:
    def each(values: NDArray[Any]) -> NDArray[np.float32]:
        return values.astype(np.float32)[:, None, None]

    values = images.astype(np.float32)
    bent = draws.gamma != 1
    values[bent] = 255 * (values[bent] / 255) ** each(draws.gamma[bent])
    noise = _FIELD.take(draws.place[:, None] + np.arange(images[0].size), mode="wrap").reshape(images.shape)
    values = (values - 128) * each(draws.gain) + 128 + each(draws.offset) + noise * each(draws.noise)
    return np.rint(values.clip(0, 255)).astype(np.uint8)


def _jpeg(images: NDArray[np.uint8], quality: NDArray[np.int64]) -> NDArray[np.uint8]:
    for i in np.flatnonzero(quality):
        images[i] = compress(images[i], int(quality[i]))
    return images


def compress(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """A gray picture through JPEG at that quality, 1 to 100."""
    content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)  # type: ignore[return-value]


def erase(images: NDArray[np.uint8], probability: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Fill a random rectangle of some pictures with noise; works on a copy."""
    out, size = images.copy(), images.shape[-1]
    for i in np.flatnonzero(rng.random(len(images)) < probability):
        height, width = rng.integers(4, 19, 2)
        top, left = rng.integers(0, size - height + 1), rng.integers(0, size - width + 1)
        out[i, top : top + height, left : left + width] = rng.integers(0, 256, (height, width))
    return out


def mix(images: NDArray[Any], targets: NDArray[Any], alpha: float, rng: np.random.Generator) -> tuple[Any, Any]:
    """Blend each row with another by a share from Beta(alpha, alpha); floats of any shape with the rows first."""
    if alpha <= 0:
        return images, targets
    share = rng.beta(alpha, alpha, len(images)).astype(np.float32)
    share = np.maximum(share, 1 - share)
    order = rng.permutation(len(images))

    def blend(values: NDArray[Any]) -> NDArray[Any]:
        part = share.reshape(-1, *[1] * (values.ndim - 1))
        return part * values + (1 - part) * values[order]

    return blend(images), blend(targets)
