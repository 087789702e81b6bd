"""Augmentation in NumPy and OpenCV: random, yet a pure function of (seed, epoch, step).

So a run that is killed and resumed sees the very pictures that it would have seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from mien_edge.contract import LABELS, Preprocess, as_floats
from numpy.typing import NDArray


@dataclass(frozen=True)
class Augment:
    """Strengths; 0 (or 0.0) turns each off.

    flip: probability of a mirror image. rotate: at most so many degrees. scale: at most this share larger or smaller.
    shift: at most so many pixels. brightness: at most so many gray levels. contrast: at most this share more or less.
    blur: probability of a 3x3 blur. noise: greatest standard deviation in gray levels.
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


OFF = Augment(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def warp(images: NDArray[np.uint8], augment: Augment, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Mirror, rotate, scale, shift, light, blur and noise: (n, s, s) uint8 to the same shape."""
    n, size = len(images), images.shape[-1]
    flips = rng.random(n) < augment.flip
    angles = rng.uniform(-augment.rotate, augment.rotate, n)
    scales = np.exp(rng.uniform(-1, 1, n) * np.log1p(augment.scale))
    shifts = rng.uniform(-augment.shift, augment.shift, (n, 2))
    blurs = rng.random(n) < augment.blur
    middle = (size - 1) / 2
    out = np.empty_like(images)
    for i, image in enumerate(images):
        matrix = cv2.getRotationMatrix2D((middle, middle), float(angles[i]), float(scales[i]))
        matrix[:, 2] += shifts[i]
        source = image[:, ::-1] if flips[i] else image
        warped = cv2.warpAffine(
            np.ascontiguousarray(source), matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        out[i] = cv2.blur(warped, (3, 3)) if blurs[i] else warped
    return _light(out, augment, rng)


def _light(images: NDArray[np.uint8], augment: Augment, rng: np.random.Generator) -> NDArray[np.uint8]:
    n = len(images)
    gain = 1 + rng.uniform(-augment.contrast, augment.contrast, (n, 1, 1))
    offset = rng.uniform(-augment.brightness, augment.brightness, (n, 1, 1))
    sigma = rng.uniform(0, augment.noise, (n, 1, 1))
    noise = rng.standard_normal(images.shape, np.float32) * sigma
    values = (images.astype(np.float32) - 128) * gain + 128 + offset + noise
    return np.rint(values.clip(0, 255)).astype(np.uint8)


def erase(images: NDArray[np.uint8], probability: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Fill a random rectangle of some pictures with noise; works on a copy."""
    out, size = images.copy(), images.shape[-1]
    for i in np.flatnonzero(rng.random(len(images)) < probability):
        height, width = rng.integers(4, 19, 2)
        top, left = rng.integers(0, size - height + 1), rng.integers(0, size - width + 1)
        out[i, top : top + height, left : left + width] = rng.integers(0, 256, (height, width))
    return out


def mix(images: NDArray[Any], targets: NDArray[Any], alpha: float, rng: np.random.Generator) -> tuple[Any, Any]:
    """Blend each row with another by a share from Beta(alpha, alpha); (n, …) floats and (n, classes) floats."""
    if alpha <= 0:
        return images, targets
    share = rng.beta(alpha, alpha, len(images)).astype(np.float32)
    share = np.maximum(share, 1 - share)
    order = rng.permutation(len(images))
    a, b = share[:, None, None, None], share[:, None]
    return a * images + (1 - a) * images[order], b * targets + (1 - b) * targets[order]


def soft_targets(labels: NDArray[np.int8], smoothing: float) -> NDArray[np.float32]:
    """(n, 7) probabilities: 1 - smoothing on the label, the rest spread evenly over all (Szegedy et al. 2015)."""
    return np.eye(len(LABELS), dtype=np.float32)[labels] * (1 - smoothing) + smoothing / len(LABELS)


def batches(
    images: NDArray[np.uint8],
    targets: NDArray[np.float32],
    preprocess: Preprocess,
    augment: Augment,
    batch_size: int,
    seed: int,
    first_epoch: int = 0,
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Endless training batches ((b, s, s, 1) float32 0..1, (b, 7) float32), epoch after epoch; the last part batch of
    an epoch is left out. Everything random follows from `seed`, the epoch and the step alone.
    """
    epoch = first_epoch
    while True:
        order = np.random.default_rng((seed, epoch)).permutation(len(images))
        for step in range(len(images) // batch_size):
            rng = np.random.default_rng((seed, epoch, step + 1))
            rows = order[step * batch_size : (step + 1) * batch_size]
            crops = preprocess.toned(warp(images[rows], augment, rng))
            crops = erase(crops, augment.erase, rng)
            yield mix(as_floats(crops), targets[rows], augment.mixup, rng)
        epoch += 1
