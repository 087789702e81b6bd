"""What cameras, detectors and people do to a face of 48 pixels: eight corruptions at five strengths
each.

After ImageNet-C (Hendrycks & Dietterich 2019). All randomness comes from a fixed seed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from mien_train.arrays import Pixels
from mien_train.data import augment


@dataclass(frozen=True)
class Corruption:
    """A way in which pictures get worse.

    unit: of the five strengths. apply(image, strength, rng): a corrupted copy of one (s, s) uint8
    picture.
    """

    name: str
    unit: str
    strengths: tuple[float, ...]
    apply: Callable[[Pixels, float, np.random.Generator], Pixels]


def _blur(image: Pixels, deviation: float, rng: np.random.Generator) -> Pixels:
    return cv2.GaussianBlur(image, (0, 0), deviation)  # type: ignore[return-value]


def _noise(image: Pixels, deviation: float, rng: np.random.Generator) -> Pixels:
    noisy = image + rng.standard_normal(image.shape, np.float32) * deviation
    return np.rint(noisy.clip(0, 255)).astype(np.uint8)


def _low_light(image: Pixels, share: float, rng: np.random.Generator) -> Pixels:
    """What a sensor makes of that share of the light: Poisson noise of 255 electrons at white, then
    stretched back.
    """
    electrons = rng.poisson(image * share)
    return np.rint((electrons / share).clip(0, 255)).astype(np.uint8)


def _jpeg(image: Pixels, quality: float, rng: np.random.Generator) -> Pixels:
    return augment.compress(image, int(quality))


def _shift(image: Pixels, pixels: float, rng: np.random.Generator) -> Pixels:
    direction = rng.uniform(0, 2 * np.pi)
    shift = (pixels * np.cos(direction), pixels * np.sin(direction))
    return augment.warp(image, 0, 1, shift)


def _scale(image: Pixels, share: float, rng: np.random.Generator) -> Pixels:
    return augment.warp(image, 0, rng.choice([1 / (1 + share), 1 + share]))


def _rotate(image: Pixels, degrees: float, rng: np.random.Generator) -> Pixels:
    return augment.warp(image, rng.choice([-degrees, degrees]), 1)


def _occlude(image: Pixels, side: float, rng: np.random.Generator) -> Pixels:
    """A gray square of that side somewhere on the face."""
    pixels = int(side)
    top, left = rng.integers(0, image.shape[0] - pixels + 1, 2)
    occluded = image.copy()
    occluded[top : top + pixels, left : left + pixels] = 128
    return occluded


CORRUPTIONS = (
    Corruption("blur", "pixels, Gaussian", (0.5, 0.8, 1.1, 1.5, 2.0), _blur),
    Corruption("noise", "gray levels", (5, 10, 15, 20, 30), _noise),
    Corruption("low light", "share of the light", (0.5, 0.25, 0.12, 0.06, 0.03), _low_light),
    Corruption("JPEG", "quality", (60, 40, 25, 15, 8), _jpeg),
    Corruption("shift", "pixels", (2, 4, 6, 8, 10), _shift),
    Corruption("scale", "share larger or smaller", (0.1, 0.2, 0.3, 0.4, 0.5), _scale),
    Corruption("rotation", "degrees", (5, 10, 15, 20, 30), _rotate),
    Corruption("occlusion", "pixels of a square", (8, 12, 16, 20, 24), _occlude),
)


def corrupt(images: Pixels, corruption: Corruption, strength: float) -> Pixels:
    """Corrupt (n, s, s) uint8 pictures; the same for the same arguments."""
    rng = np.random.default_rng(0)
    return np.stack([corruption.apply(image, strength, rng) for image in images])


def corrupted_views(images: Pixels) -> Iterator[tuple[str, Pixels]]:
    """Yield each corruption's name with corrupted copies of all (n, s, s) uint8 pictures, each
    picture at one of the strengths; the same for the same pictures.
    """
    rng = np.random.default_rng(0)
    for corruption in CORRUPTIONS:
        strengths = rng.choice(corruption.strengths, len(images))
        corrupted = [
            corruption.apply(image, strength, rng)
            for image, strength in zip(images, strengths, strict=True)
        ]
        yield corruption.name, np.array(corrupted, np.uint8).reshape(images.shape)
