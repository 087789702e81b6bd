"""Augmentation of pictures in NumPy and OpenCV. What is random is drawn first, for all rows of a
view at once.

So a view of a data set is a pure function of (seed, number of the view): a run that is killed and
resumed sees the very pictures that it would have seen, and a teacher can label the pictures that a
student sees later.
"""

from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np

from mien_train.arrays import Array, Doubles, Floats, Indices, Mask, Pixels
from mien_train.data.strengths import Augment

_NOISE = np.random.default_rng(0).standard_normal(1 << 20, np.float32)
"""A picture's noise is cut from this field at a drawn offset: it belongs to the draws and costs
nothing to make.
"""


@dataclass(frozen=True, eq=False)
class Draws:
    """What was drawn for n pictures: an array of n rows each.

    flip, device: whether the picture is mirrored, or cropped as the device crops it. angle:
    degrees. scale: factor.
    shift: (n, 2) pixels, x and y. gain: factor of the contrast. offset: gray levels. gamma:
    exponent.
    blur: standard deviation in pixels, 0 for none. shrink: factor, 0 for none. noise: standard
    deviation in gray levels. noise_offset: where the noise is cut from the noise field. jpeg:
    quality, 0 for no compression.
    """

    flip: Mask
    device: Mask
    angle: Doubles
    scale: Doubles
    shift: Doubles
    gain: Doubles
    offset: Doubles
    gamma: Doubles
    blur: Doubles
    shrink: Doubles
    noise: Doubles
    noise_offset: Indices
    jpeg: Indices

    def take(self, rows: Array) -> "Draws":
        """The draws of `rows` (indices or a boolean mask)."""
        return Draws(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def draw(count: int, augment: Augment, rng: np.random.Generator) -> Draws:
    """Draw everything that is random about one view of `count` pictures."""
    # The order of the calls is part of the result: a seed gives the same view in every version.
    return Draws(
        flip=rng.random(count) < augment.flip,
        device=rng.random(count) < augment.device,
        angle=_draw_within(augment.rotate, count, rng),
        scale=_draw_factor(augment.scale, count, rng),
        shift=rng.uniform(-augment.shift, augment.shift, (count, 2)),
        gain=1 + _draw_within(augment.contrast, count, rng),
        offset=_draw_within(augment.brightness, count, rng),
        gamma=_draw_factor(augment.gamma, count, rng),
        blur=np.where(rng.random(count) < augment.blur, rng.uniform(0.5, 1.5, count), 0),
        shrink=np.where(rng.random(count) < augment.shrink, rng.uniform(1.2, 2.5, count), 0),
        noise=rng.uniform(0, augment.noise, count),
        noise_offset=rng.integers(0, len(_NOISE), count),
        jpeg=np.where(rng.random(count) < augment.jpeg, rng.integers(15, 61, count), 0),
    )


def apply(
    images: Pixels,
    draws: Draws,
    squares: Doubles | None = None,
    surroundings: Pixels | None = None,
) -> Pixels:
    """Augment (n, s, s) uint8 pictures as `draws` says. Returns new ones of the same shape.

    squares: (n, 3) middle x, middle y and side, in pixels, of the detector's crop in each picture;
    it is taken where `draws.device` says so. None: the whole picture always. surroundings: (n, t,
    t), t at least s, larger pictures whose middles are the pictures: they show what moves into a
    turned, shifted or smaller picture. None: its edges repeat.
    """
    size = images.shape[-1]
    larger = images if surroundings is None else surroundings
    border = (larger.shape[-1] - size) / 2
    full = np.array([size / 2, size / 2, size])
    crops = np.broadcast_to(full, (len(images), 3))
    if squares is not None:
        crops = np.where(draws.device[:, None], squares, full)
    augmented = np.empty_like(images)
    for row, image in enumerate(larger):
        x, y, side = crops[row]
        if draws.flip[row]:
            image = image[:, ::-1]
            x = size - x
        scale = float(draws.scale[row]) * size / side
        centre = (x + border, y + border)
        warped = warp(image, float(draws.angle[row]), scale, draws.shift[row], centre, size)
        augmented[row] = _lower_resolution(warped, float(draws.blur[row]), float(draws.shrink[row]))
    return _compress_all(_change_light(augmented, draws), draws.jpeg)


def warp(
    image: Pixels,
    angle: float,
    scale: float,
    shift: Any = (0, 0),
    centre: tuple[float, float] | None = None,
    size: int | None = None,
) -> Pixels:
    """Apply a similarity transform to a square (s, s) picture; beyond its edge the pixels repeat.

    The picture is turned by `angle` degrees and enlarged by `scale` about `centre` (x, y; by
    default its middle), which comes to lie in the result's middle, then shifted by `shift` (x, y)
    pixels. size: of the (size, size) result; by default the picture's.
    """
    own_size = image.shape[-1]
    size = size or own_size
    x, y = centre or (own_size / 2, own_size / 2)
    matrix = cv2.getRotationMatrix2D((x - 0.5, y - 0.5), angle, scale)
    matrix[:, 2] += (size / 2 - x + shift[0], size / 2 - y + shift[1])
    return cv2.warpAffine(  # type: ignore[return-value]
        np.ascontiguousarray(image),
        matrix,
        (size, size),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


def compress(image: Pixels, quality: int) -> Pixels:
    """A gray (s, s) picture after JPEG compression at `quality`, 1 to 100."""
    content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)  # type: ignore[return-value]


def erase(images: Pixels, probability: float, rng: np.random.Generator) -> Pixels:
    """Fill a random rectangle of some of the (n, s, s) pictures with noise (Zhong et al. 2017).
    Returns a copy.
    """
    erased = images.copy()
    size = images.shape[-1]
    for row in np.flatnonzero(rng.random(len(images)) < probability):
        height, width = rng.integers(4, 19, 2)
        top = rng.integers(0, size - height + 1)
        left = rng.integers(0, size - width + 1)
        noise = rng.integers(0, 256, (height, width))
        erased[row, top : top + height, left : left + width] = noise
    return erased


def draw_blend(count: int, alpha: float, rng: np.random.Generator) -> tuple[Indices, Floats]:
    """Draw how rows are blended (mixup, Zhang et al. 2017).

    Returns (count,) the row that each is blended with, and (count,) how much of a row is its own:
    drawn from Beta(alpha, alpha), at least 0.5; 1 where `alpha` is 0.
    """
    if alpha <= 0:
        return np.arange(count), np.ones(count, np.float32)
    shares = rng.beta(alpha, alpha, count).astype(np.float32)
    shares = np.maximum(shares, 1 - shares)
    return rng.permutation(count), shares


def _draw_within(limit: float, count: int, rng: np.random.Generator) -> Doubles:
    """(count,) values of -limit to limit."""
    return rng.uniform(-limit, limit, count)


def _draw_factor(share: float, count: int, rng: np.random.Generator) -> Doubles:
    """(count,) factors of 1 / (1 + share) to 1 + share, as likely above 1 as below."""
    return np.exp(rng.uniform(-1, 1, count) * np.log1p(share))


def _lower_resolution(image: Pixels, blur: float, shrink: float) -> Pixels:
    """Reduce and enlarge again by `shrink`, then blur by a Gaussian of `blur` pixels; 0 leaves
    either out.
    """
    size = image.shape[-1]
    if shrink:
        small = round(size / shrink)
        reduced = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
        enlarged = cv2.resize(reduced, (size, size), interpolation=cv2.INTER_LINEAR)
        image = np.asarray(enlarged, np.uint8)
    if blur:
        image = cv2.GaussianBlur(image, (0, 0), blur)  # type: ignore[assignment]
    return image


def _change_light(images: Pixels, draws: Draws) -> Pixels:
    """Gamma, contrast, brightness and noise."""
    values = images.astype(np.float32)
    is_bent = draws.gamma != 1
    values[is_bent] = 255 * (values[is_bent] / 255) ** _per_picture(draws.gamma[is_bent])
    contrasted = (values - 128) * _per_picture(draws.gain) + 128
    noise = _noise_at(draws.noise_offset, images.shape) * _per_picture(draws.noise)
    values = contrasted + _per_picture(draws.offset) + noise
    return np.rint(values.clip(0, 255)).astype(np.uint8)


def _per_picture(values: Doubles) -> Floats:
    """(n,) values as (n, 1, 1), to multiply pictures by."""
    return values.astype(np.float32)[:, None, None]


def _noise_at(offsets: Indices, shape: tuple[int, ...]) -> Floats:
    """Pictures of noise with standard deviation 1, cut from the noise field at (n,) offsets."""
    pixels = np.arange(shape[1] * shape[2])
    return _NOISE.take(offsets[:, None] + pixels, mode="wrap").reshape(shape)


def _compress_all(images: Pixels, qualities: Indices) -> Pixels:
    """The pictures, in place, each after JPEG compression at its quality; 0 leaves it as it is."""
    for row in np.flatnonzero(qualities):
        images[row] = compress(images[row], int(qualities[row]))
    return images
