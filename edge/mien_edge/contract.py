"""The contract between training and device: labels, preprocessing, quantisation and the model card.
NumPy only.

Whatever both sides must agree on stands here once. What can be read from the .tflite file
(shapes, dtypes, scales, zero points) is never stored a second time."""

import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from mien_edge import schema
from mien_edge.errors import ContractError
from mien_edge.labels import LABELS as LABELS
from mien_edge.labels import check_labels
from mien_edge.values import Box, Floats, Pixels

VERSION = 2
"""The version that new cards have. Since 2 a bundle has labels of its own."""

READABLE_VERSIONS = (1, 2)
"""The versions of cards that this mien reads."""

_MAX_VERSION = 999_999_999
_MAX_NAME_LENGTH = 60
_MAX_MESSAGE_LENGTH = 500

_STANDARD_MEAN = 128.0
_STANDARD_DEVIATION = 51.0  # +-2.5 standard deviations fill 0..255

_NEIGHBOURS = 2  # output pixels that are computed together
_BLOCK = 256  # columns that are resampled at a time


def _stored(key: str, values: dict[str, str] | None = None) -> dict[str, Any]:
    """Metadata of a field that files of contract version 1 know by another key, and perhaps other
    values.
    """
    return {"key": key, "values": values or {}}


@dataclass(frozen=True, slots=True)
class Preprocess:
    """From a gray picture and a face's box to the network's pixels; training and device use this
    same object.

    size: side of the network's input in pixels.
    margin: the crop is a square about the box's centre with a side of (1 + margin) times the box's
        longer side.
    normalization: 'standardize' shifts and scales each crop to mean 128 and standard deviation
        51 (light and contrast drop out), 'none' leaves the pixels as they are."""

    size: int
    margin: float
    normalization: Literal["none", "standardize"] = field(
        metadata=_stored("tone", {"standard": "standardize"})
    )

    def __post_init__(self) -> None:
        if not 8 <= self.size <= 512:
            raise ValueError(
                f"size must be 8 to 512 pixels, not {self.size}; see contract.Preprocess"
            )
        if not -0.5 <= self.margin <= 2.0:
            raise ValueError(
                f"margin must be -0.5 to 2, not {self.margin}; see contract.Preprocess"
            )

    def __call__(self, gray: Pixels, box: Box) -> Pixels:
        """The crop of `box` (pixels of `gray`, (height, width) uint8) as (size, size) uint8.

        Pixels are averaged by area when the face is larger than `size`, interpolated linearly
        when it is smaller; outside of the picture its edge pixels repeat. A FER2013 picture
        enters as `whole(gray)`."""
        return self.normalize(self.cropped(gray, self.square(box)))

    def square(self, box: Box) -> Box:
        """The part of the picture that becomes the crop of a face's box, in pixels; it may reach
        outside of the picture.
        """
        return box.square(1 + self.margin)

    def whole(self, gray: Pixels) -> Pixels:
        """The whole of a picture that is a face crop already, (height, width) uint8, as (size,
        size) uint8.
        """
        height, width = gray.shape
        return self.normalize(self.cropped(gray, Box(0, 0, width, height)))

    def cropped(self, gray: Pixels, square: Box) -> Pixels:
        """`square` resampled to (size, size) uint8, not normalized."""
        rows, columns = needed_pixels(square, gray.shape)
        top = square.y - rows.start
        left = square.x - columns.start
        lines = _resampled(gray[rows, columns], top, square.height, self.size)
        crop = _resampled(lines.T, left, square.width, self.size).T
        return np.rint(crop).astype(np.uint8)

    def normalize(self, crops: Pixels) -> Pixels:
        """(…, size, size) uint8 in and out; each crop is normalized by itself. A uniform crop turns
        mid-gray.
        """
        if self.normalization == "none":
            return crops
        axes = (-2, -1)
        count = np.float32(crops.shape[-2] * crops.shape[-1])
        values = crops.astype(np.float32)
        values -= np.add.reduce(values, axis=axes, keepdims=True) / count
        variance = np.add.reduce(values * values, axis=axes, keepdims=True) / count
        values *= _STANDARD_DEVIATION / np.maximum(np.sqrt(variance), 1.0)
        values += _STANDARD_MEAN
        np.maximum(values, 0, out=values)
        np.minimum(values, 255, out=values)
        return np.rint(values, out=values).astype(np.uint8)


def needed_pixels(square: Box, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The rows and columns of a picture that `Preprocess.cropped` reads for a square.

    shape: of the picture, height and width first.

    At least one row and one column, also for a square outside of the picture. What is cropped of
    this part alone, with the square moved along, is the same to the bit.
    """
    rows = _needed_range(square.y, square.height, shape[0])
    return rows, _needed_range(square.x, square.width, shape[1])


def _needed_range(start: float, length: float, n_in: int) -> slice:
    first = min(max(math.floor(start) - 1, 0), n_in - 1)
    last = max(min(math.ceil(start + length) + 1, n_in), first + 1)
    return slice(first, last)


def _resampled(pixels: Pixels | Floats, start: float, length: float, n_out: int) -> Floats:
    """(n_in, width) pixels as (n_out, width) float32: the span from `start` to `start + length` of
    the first axis in `n_out` steps.

    An output pixel is a weighted sum of few inputs, which follow each other: the inputs of two
    neighbours are gathered, and multiplied with their weights. In such small products there is
    little to do, and OpenBLAS wakes no threads for them, which would spin for milliseconds; it does
    for those of more than 262,144 multiplications (GEMM_MULTITHREAD_THRESHOLD in its common.h).
    """
    inputs, weights = _weights(start, length / n_out, len(pixels), (n_out + 1) // _NEIGHBOURS)
    width = pixels.shape[1]
    blocks = [pixels[:, left : left + _BLOCK] for left in range(0, width, _BLOCK)]
    sums = [weights @ block.take(inputs, axis=0).astype(np.float32) for block in blocks]
    return np.concatenate(sums, axis=2).reshape(-1, width)[:n_out]


def _weights(start: float, step: float, n_in: int, groups: int) -> tuple[Any, Floats]:
    """Which of `n_in` input pixels make the output pixels, of `step` input pixels each, and with
    which weights: the share of each in the output pixel, or in one as large as an input pixel about
    the same centre, which is linear interpolation. Edge pixels repeat.

    groups: of neighbours among the output pixels. Returns the inputs of each group, (groups, n) of
    type intp, and their weights, (groups, _NEIGHBOURS, n) float32.
    """
    size = max(step, 1.0)
    lower = start + (step - size) / 2 + step * np.arange(groups * _NEIGHBOURS)
    count = min(int((_NEIGHBOURS - 1) * step + size) + 3, n_in)
    first = np.minimum(np.maximum(np.floor(lower[::_NEIGHBOURS]), 0), n_in - count)
    inputs = first.astype(np.intp)[:, None] + np.arange(count)
    bounds = first[:, None, None] + np.arange(count + 1)
    bounds[:, :, 0] = -np.inf
    bounds[:, :, -1] = np.inf
    lower = lower.reshape(groups, _NEIGHBOURS, 1)
    overlap = np.minimum(lower + size, bounds[:, :, 1:])
    overlap -= np.maximum(lower, bounds[:, :, :-1])
    return inputs, (np.maximum(overlap, 0) / size).astype(np.float32)


def as_floats(crops: Pixels) -> Floats:
    """What the float network sees: uint8 0..255 as float32 0..1, with a last axis for the one
    channel.
    """
    return (crops.astype(np.float32) / 255)[..., None]


@dataclass(frozen=True, slots=True)
class Quantization:
    """Affine quantisation of a tensor: real = scale * (q - zero_point) (TensorFlow Lite 8-bit
    specification).
    """

    scale: float
    zero_point: int
    dtype: Literal["uint8", "int8"]

    def quantize(self, values: Floats) -> Any:
        """Real values to the nearest step, saturated to the dtype's range."""
        dtype_range = np.iinfo(self.dtype)
        steps = np.rint(np.asarray(values, np.float64) / self.scale) + self.zero_point
        return steps.clip(dtype_range.min, dtype_range.max).astype(self.dtype)

    def dequantize(self, steps: Any) -> Floats:
        """Steps to real values, float32."""
        return ((np.asarray(steps, np.int32) - self.zero_point) * self.scale).astype(np.float32)


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """Probabilities along the last axis of logits divided by `temperature` (Guo et al. 2017)."""
    scaled = np.asarray(logits, np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


@dataclass(frozen=True, slots=True)
class File:
    """One file of a bundle."""

    sha256: str
    bytes: int

    def __post_init__(self) -> None:
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise ValueError(
                f"sha256 must be 64 hexadecimal digits, not {self.sha256!r}; "
                "export the bundle again"
            )
        if self.bytes <= 0:
            raise ValueError(f"bytes must be positive, not {self.bytes}; export the bundle again")


@dataclass(frozen=True, slots=True)
class Calibration:
    """Measured on validation data by `mien-train export`, never typed by hand.

    temperature: divides the logits before softmax; positive.
    confidence_threshold: below this confidence (0..1) a face gets no label.
    """

    temperature: float
    confidence_threshold: float = field(metadata=_stored("uncertain"))

    def __post_init__(self) -> None:
        if not 0.01 <= self.temperature <= 100:
            raise ValueError(
                f"temperature must be 0.01 to 100, not {self.temperature}; export the bundle again"
            )
        if not 0 <= self.confidence_threshold < 1:
            raise ValueError(
                f"uncertain must be from 0 to below 1, not {self.confidence_threshold}; "
                "export the bundle again"
            )


@dataclass(frozen=True, slots=True)
class Golden:
    """How far, in steps of the output, a device may be from golden.npz: measured between kernel
    families at export.
    """

    tolerance: int

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance <= 16:
            raise ValueError(
                f"tolerance must be 0 to 16 steps, not {self.tolerance}; export the bundle again"
            )


@dataclass(frozen=True, slots=True)
class Card:
    """The model card, card.json (Mitchell et al. 2019). No defaults: a missing or unknown key is a
    ContractError.

    contract: version of this contract, one of READABLE_VERSIONS.
    name, version: the bundle's folder is NAME-VERSION; versions grow.
    created: date and time of the export, ISO 8601.
    labels: what the outputs stand for: output i is the logit of labels[i]. 2 to 16 distinct names
        (labels.is_label); with contract version 1 they must equal LABELS.
    preprocess, calibration, golden: see their classes.
    files: sha256 and size of each file of the bundle but the card itself.
    provenance: recipe, data, command and what the weights were before. The key `origin` in
        card.json.
    metrics: all that `mien-train evaluate` measured. The key `figures`.
    intended_use, out_of_scope_use, limitations: sentences for people. The keys `intended`,
    `forbidden`, `limits`."""

    contract: int
    name: str
    version: int
    created: str
    labels: tuple[str, ...]
    preprocess: Preprocess
    calibration: Calibration
    golden: Golden
    files: dict[str, File]
    provenance: dict[str, Any] = field(metadata=_stored("origin"))
    metrics: dict[str, Any] = field(metadata=_stored("figures"))
    intended_use: tuple[str, ...] = field(metadata=_stored("intended"))
    out_of_scope_use: tuple[str, ...] = field(metadata=_stored("forbidden"))
    limitations: tuple[str, ...] = field(metadata=_stored("limits"))

    def __post_init__(self) -> None:
        if self.contract == 1 and self.labels != LABELS:
            raise ValueError(
                f"labels must be {', '.join(LABELS)} in this order with contract version 1; "
                "export the bundle with this mien"
            )
        try:
            check_labels(self.labels)
        except ValueError as problem:
            raise ValueError(f"{problem}; export the bundle again") from None
        letters = self.name.replace("-", "").replace("_", "")
        if not self.name.isascii() or not letters.isalnum():
            raise ValueError(
                f"name must be letters, digits, - and _, not {self.name!r}; export the bundle again"
            )
        if not 1 <= self.version <= _MAX_VERSION or len(self.name) > _MAX_NAME_LENGTH:
            raise ValueError(
                f"version must be 1 or more, up to {_MAX_VERSION}, and name of {_MAX_NAME_LENGTH} "
                "letters at most; "
                "export it again"
            )

    @property
    def id(self) -> str:
        """NAME-VERSION: the bundle's folder and the `model` of a reading."""
        return f"{self.name}-{self.version}"

    @property
    def calibration_scope(self) -> str:
        """For which faces the confidence threshold holds, and what that costs, a sentence without
        its full stop; empty where the metrics do not say, as in cards of earlier versions.
        """
        scope = self._calibration_metrics().get("scope", "")
        return scope if isinstance(scope, str) else ""

    @property
    def unreliable_labels(self) -> tuple[str, ...]:
        """Those of the labels that cannot be told reliably, as the metrics say; empty where they do
        not say.
        """
        names = self._calibration_metrics().get("unreliable", ())
        is_list = isinstance(names, list | tuple)
        return tuple(label for label in self.labels if is_list and label in names)

    def _calibration_metrics(self) -> dict[str, Any]:
        """What `mien-train` measured of the calibration. It stands in the metrics and not beside
        temperature and threshold, so that a mien that does not know it reads the card, too.
        """
        values = self.metrics.get("calibration")
        return values if isinstance(values, dict) else {}

    def to_json(self) -> str:
        """The text of card.json; `parse_card` reads it back to an equal card."""
        return (
            json.dumps(schema.to_dict(self), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        )


def parse_card(text: str, where: str = "card.json") -> Card:
    """Read a card.

    Raises ContractError naming the first key that is missing, unknown or out of range.
    """
    try:
        content = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as problem:
        raise ContractError(
            f"{where} is not valid JSON ({problem}); export or copy the bundle again"
        ) from None
    version = content.get("contract") if isinstance(content, dict) else None
    if isinstance(version, int) and version not in READABLE_VERSIONS:
        readable = " and ".join(map(str, READABLE_VERSIONS))
        raise ContractError(
            f"{where}: the key 'contract' is {version}, this mien reads {readable}; "
            "update mien or export the bundle again"
        )
    try:
        return schema.from_dict(Card, content, where, ContractError)
    except ContractError as problem:
        raise ContractError(_shortened(str(problem))) from None


def _shortened(message: str) -> str:
    """A message without the middle of a value that is as long as a file may be."""
    if len(message) <= _MAX_MESSAGE_LENGTH:
        return message
    half = _MAX_MESSAGE_LENGTH // 2
    return f"{message[:half]}…{message[-half:]}"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
