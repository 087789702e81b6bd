"""Networks as tf_keras functional models: float32 (48, 48, 1) in 0..1 to 7 logits a head, one head
after the other.

Softmax is left to the contract, which divides the logits by the card's temperature first. Every
layer has an integer TensorFlow Lite kernel, and every convolution is followed by the
BatchNormalization and ReLU that quantization folds. `batch` is fixed for export, where the device's
interpreter takes one crop at a time. A bundle carries one head.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tf_keras
from mien_edge.contract import LABELS, as_floats
from tf_keras import layers

from mien_train.arrays import Array, Pixels
from mien_train.training.recipes import Recipe

_SAMPLE = 256  # crops that batch normalizations are fitted to
_MIN_VARIANCE = 1e-2  # of a channel: one that does not vary on the sample must not be scaled up
_MOMENTUM = 0.98  # of batch normalizations
_SAME: dict[str, Any] = {"padding": "same", "use_bias": False}  # of convolutions before them

_SEED_FILTERS = (16, 64, 256, 1024)
_SEED_UNITS = (1024, 128, 64, 32, 16)
_FACE_WIDTHS = (64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)


class ConvBatchNorm(NamedTuple):
    """A convolution and the batch normalization after it."""

    convolution: Any
    batch_norm: Any

    @property
    def width(self) -> int:
        """The number of its output channels; for a Conv2D only."""
        return self.convolution.filters


def build(
    recipe: Recipe,
    batch: int | None = None,
    heads: int = 0,
    precision: str = "float32",
) -> tf_keras.Model:
    """Build the recipe's float network with fresh weights.

    batch: a fixed batch size, or None for any. heads: how many, 0 for all of the recipe's.
    precision: Keras' policy.
    """
    tf_keras.mixed_precision.set_global_policy(precision)
    try:
        make = globals()[recipe.network]
        heads = heads or len(recipe.heads)
        return make(size=recipe.preprocess.size, batch=batch, heads=heads, **recipe.arguments)
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")


def seed(size: int = 48, batch: int | None = None, heads: int = 1) -> tf_keras.Model:
    """Build the slide deck's network: 3x3 convolutions with ReLU, each followed by 2x2 pooling,
    lead from 48x48x1 to 1x1x1024; then dense 1024-128-64-32-16 with ReLU, and 7 outputs. Unpadded,
    as is Keras' default, four such steps end at 1x1. The deck names no channel counts on the way;
    here they grow fourfold.
    """
    inputs = layers.Input((size, size, 1), batch)
    x = inputs
    for filters in _SEED_FILTERS:
        x = layers.Conv2D(filters, 3, activation="relu", kernel_initializer="he_normal")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    for units in _SEED_UNITS:
        x = layers.Dense(units, activation="relu", kernel_initializer="he_normal")(x)
    return tf_keras.Model(inputs, _logits(x, heads), name="seed")


def residual(
    stem: int,
    widths: Sequence[int],
    depths: Sequence[int],
    block: str = "basic",
    size: int = 48,
    batch: int | None = None,
    heads: int = 1,
) -> tf_keras.Model:
    """Build a residual network (He et al. 2015): a 3x3 stem of `stem` channels and 2x2 pooling,
    then stages of `depths[i]` blocks of `widths[i]` channels, each stage but the first halving the
    picture, then the mean over the picture.

    block: 'basic' (two 3x3), 'bottleneck' (1x1 to half the channels, 3x3, 1x1) or 'inverted' (1x1
    to four times the channels, 3x3 depthwise, 1x1; Sandler et al. 2018).
    """
    make_block = {"basic": _basic, "bottleneck": _bottleneck, "inverted": _inverted}[block]
    inputs = layers.Input((size, size, 1), batch)
    x = layers.MaxPooling2D(2)(_convolution(inputs, stem))
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        for number in range(depth):
            is_halving = stage > 0 and number == 0
            x = make_block(x, width, 2 if is_halving else 1)
    return tf_keras.Model(inputs, _logits(_mean(x), heads), name="residual")


def plain(
    widths: Sequence[int],
    depths: Sequence[int],
    size: int = 48,
    batch: int | None = None,
    heads: int = 1,
) -> tf_keras.Model:
    """Build stages of `depths[i]` 3x3 convolutions of `widths[i]` channels, each stage followed by
    2x2 pooling, without shortcuts (VGG, Simonyan & Zisserman 2014, with batch normalization), then
    the mean over the picture.
    """
    inputs = layers.Input((size, size, 1), batch)
    x = inputs
    for width, depth in zip(widths, depths, strict=True):
        for _ in range(depth):
            x = _convolution(x, width)
        x = layers.MaxPooling2D(2)(x)
    return tf_keras.Model(inputs, _logits(_mean(x), heads), name="plain")


def mobile(
    widths: Sequence[int],
    halving: Sequence[int],
    size: int = 48,
    batch: int | None = None,
    heads: int = 1,
) -> tf_keras.Model:
    """Build MobileNet v1 (Howard et al. 2017) whose first convolution keeps the picture's size,
    because crops are small: a 3x3 convolution to widths[0] channels, then for each further width a
    block of 3x3 depthwise and 1x1; the blocks whose numbers (from 1) are in `halving` halve the
    picture; then the mean over it. `prune.prune` makes one of `face`.
    """
    inputs = layers.Input((size, size, 1), batch)
    x = _conv_bn_relu6(inputs, layers.Conv2D(widths[0], 3, **_SAME))
    x = _separable_blocks(x, widths[1:], halving)
    return tf_keras.Model(inputs, _logits(_mean(x), heads), name="mobile")


def face(
    enlarge: int = 2,
    size: int = 48,
    batch: int | None = None,
    heads: int = 1,
) -> tf_keras.Model:
    """Build MobileNet v1 (Howard et al. 2017) on crops enlarged so many times, for
    `pretrained.load_weights`. It halves the picture four times, not five, because the crops are
    small. Its ReLU6 and its input in -127.5..127.5 are what a face recognition network was trained
    with; it is a teacher, and not for export.
    """
    inputs = layers.Input((size, size, 1), batch)
    x = layers.Rescaling(255, -127.5)(inputs)
    x = layers.UpSampling2D(enlarge, interpolation="bilinear")(x)
    x = layers.Concatenate()([x, x, x])
    x = _conv_bn_relu6(x, layers.Conv2D(32, 3, 2, **_SAME))
    x = _separable_blocks(x, _FACE_WIDTHS, halving=(2, 4, 6))
    return tf_keras.Model(inputs, _logits(_mean(x), heads), name="face")


def conv_bn_pairs(model: tf_keras.Model) -> list[ConvBatchNorm]:
    """Return each convolution, in order, with the batch normalization after it.

    model: a network without shortcuts, in which each convolution has a batch normalization.
    """
    kinds = layers.Conv2D | layers.DepthwiseConv2D
    convolutions = [layer for layer in model.layers if isinstance(layer, kinds)]
    batch_norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    return [ConvBatchNorm(*pair) for pair in zip(convolutions, batch_norms, strict=True)]


def unfuse_batchnorm(
    model: tf_keras.Model,
    kernels: Sequence[Array],
    biases: Sequence[Array],
    crops: Pixels,
) -> None:
    """Give `face` or `mobile` convolutions whose batch normalizations were folded into them: each
    gets its own back, fitted to a sample of the crops, so that the network computes what it did.

    kernels, biases: of each convolution, in order. crops: normalized (n, s, s). Raises ValueError
    where a shape does not fit.
    """
    pairs = conv_bn_pairs(model)
    sample = as_floats(evenly_spaced(crops, _SAMPLE))
    x = tf_keras.Model(model.input, pairs[0].convolution.input)(sample)
    for (convolution, batch_norm), kernel, bias in zip(pairs, kernels, biases, strict=True):
        convolution.set_weights([kernel])
        x = convolution(x)
        _fit_batch_norm(batch_norm, x, bias)
        x = layers.ReLU(6)(batch_norm(x))


def _fit_batch_norm(batch_norm: Any, inputs: Any, bias: Array) -> None:
    """Set a batch normalization to the statistics of its (n, h, w, channels) inputs, so that all it
    does is add the (channels,) bias.
    """
    mean = np.mean(inputs, (0, 1, 2))
    variance = np.var(inputs, (0, 1, 2)) + _MIN_VARIANCE
    gamma = np.sqrt(variance + batch_norm.epsilon)
    batch_norm.set_weights([gamma, bias + mean, mean, variance])


def evenly_spaced(crops: Pixels, count: int) -> Pixels:
    """Return up to `count` of the crops, at even distances from the first."""
    step = max(len(crops) // count, 1)
    return crops[::step][:count]


def one_head(weights: Sequence[Array], model: tf_keras.Model, head: int) -> list[Array]:
    """Return the weights of a network of several heads for `model`, the same network with only its
    head number `head` (from 0).
    """
    outputs = slice(head * len(LABELS), (head + 1) * len(LABELS))
    pairs = zip(weights, model.get_weights(), strict=True)
    return [values if values.shape == own.shape else values[..., outputs] for values, own in pairs]


def _mean(x: Any) -> Any:
    return layers.GlobalAveragePooling2D()(x)


def _logits(x: Any, heads: int) -> Any:
    return layers.Dense(heads * len(LABELS), dtype="float32")(x)


def _separable_blocks(x: Any, widths: Sequence[int], halving: Sequence[int]) -> Any:
    for block, width in enumerate(widths, start=1):
        stride = 2 if block in halving else 1
        x = _conv_bn_relu6(x, layers.DepthwiseConv2D(3, stride, **_SAME))
        x = _conv_bn_relu6(x, layers.Conv2D(width, 1, use_bias=False))
    return x


def _conv_bn_relu6(x: Any, convolution: Any) -> Any:
    x = convolution(x)
    x = layers.BatchNormalization(momentum=_MOMENTUM)(x)
    return layers.ReLU(6)(x)


def _basic(x: Any, width: int, stride: int) -> Any:
    y = _convolution(x, width, stride)
    y = _convolution(y, width, has_relu=False)
    return _add_shortcut(x, y, stride)


def _bottleneck(x: Any, width: int, stride: int) -> Any:
    y = _convolution(x, width // 2, kernel=1)
    y = _convolution(y, width // 2, stride)
    y = _convolution(y, width, kernel=1, has_relu=False)
    return _add_shortcut(x, y, stride)


def _add_shortcut(x: Any, y: Any, stride: int) -> Any:
    if stride != 1 or x.shape[-1] != y.shape[-1]:
        x = _convolution(x, y.shape[-1], stride, kernel=1, has_relu=False)
    return layers.ReLU()(layers.Add()([x, y]))


def _inverted(x: Any, width: int, stride: int) -> Any:
    y = _convolution(x, 4 * x.shape[-1], kernel=1)
    y = layers.DepthwiseConv2D(3, stride, depthwise_initializer="he_normal", **_SAME)(y)
    y = layers.BatchNormalization(momentum=_MOMENTUM)(y)
    y = layers.ReLU()(y)
    y = _convolution(y, width, kernel=1, has_relu=False)
    if stride == 1 and x.shape[-1] == width:
        return layers.Add()([x, y])
    return y


def _convolution(
    x: Any,
    filters: int,
    stride: int = 1,
    kernel: int = 3,
    has_relu: bool = True,
) -> Any:
    x = layers.Conv2D(filters, kernel, stride, kernel_initializer="he_normal", **_SAME)(x)
    x = layers.BatchNormalization(momentum=_MOMENTUM)(x)
    return layers.ReLU()(x) if has_relu else x
