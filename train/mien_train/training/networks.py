"""Networks as tf_keras functional models: float32 (48, 48, 1) in 0..1 to 7 logits a head, one head after the other.

Softmax is left to the contract, which divides the logits by the card's temperature first. Every layer has an integer
TensorFlow Lite kernel, and every convolution is followed by the BatchNormalization and ReLU that quantisation folds.
`batch` is fixed for export, where the device's interpreter takes one crop at a time. A bundle carries one head.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tf_keras
from mien_edge.contract import LABELS, as_floats
from numpy.typing import NDArray
from tf_keras import layers

from mien_train.training.recipes import Recipe

_SAMPLE = 256  # crops that batch normalisations are fitted to
_FLOOR = 1e-2  # of a channel's variance: one that never varies there must not be blown up


def build(recipe: Recipe, batch: int | None = None, heads: int = 0, precision: str = "float32") -> tf_keras.Model:
    """The recipe's float network with fresh weights, with so many heads (0: all of the recipe's)."""
    tf_keras.mixed_precision.set_global_policy(precision)
    try:
        make = globals()[recipe.network]
        return make(size=recipe.preprocess.size, batch=batch, heads=heads or len(recipe.heads), **recipe.arguments)
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")


def seed(size: int = 48, batch: int | None = None, heads: int = 1) -> tf_keras.Model:
    """The slide deck's network: 3x3 convolutions with ReLU, each followed by 2x2 pooling, lead from 48x48x1 to
    1x1x1024; then dense 1024-128-64-32-16 with ReLU, and 7 outputs. Unpadded, as is Keras' default, four such steps
    end at 1x1. The deck names no channel counts on the way; here they grow fourfold.
    """
    inputs = layers.Input((size, size, 1), batch)
    x = inputs
    for filters in (16, 64, 256, 1024):
        x = layers.Conv2D(filters, 3, activation="relu", kernel_initializer="he_normal")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    for units in (1024, 128, 64, 32, 16):
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
    """A residual network (He et al. 2015): a 3x3 stem of `stem` channels and 2x2 pooling, then stages of `depths[i]`
    blocks of `widths[i]` channels, each stage but the first halving the picture, then the mean over the picture.

    block: 'basic' (two 3x3), 'bottleneck' (1x1 to half the channels, 3x3, 1x1) or 'inverted' (1x1 to four times the
    channels, 3x3 depthwise, 1x1; Sandler et al. 2018).
    """
    make = {"basic": _basic, "bottleneck": _bottleneck, "inverted": _inverted}[block]
    inputs = layers.Input((size, size, 1), batch)
    x = layers.MaxPooling2D(2)(_convolution(inputs, stem))
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        for number in range(depth):
            x = make(x, width, 2 if stage and not number else 1)
    return tf_keras.Model(inputs, _logits(layers.GlobalAveragePooling2D()(x), heads), name="residual")


def plain(
    widths: Sequence[int], depths: Sequence[int], size: int = 48, batch: int | None = None, heads: int = 1
) -> tf_keras.Model:
    """Stages of `depths[i]` 3x3 convolutions of `widths[i]` channels, each followed by 2x2 pooling, without shortcuts
    (VGG, Simonyan & Zisserman 2014, with batch normalisation), then the mean over the picture.
    """
    inputs = layers.Input((size, size, 1), batch)
    x = inputs
    for width, depth in zip(widths, depths, strict=True):
        for _ in range(depth):
            x = _convolution(x, width)
        x = layers.MaxPooling2D(2)(x)
    return tf_keras.Model(inputs, _logits(layers.GlobalAveragePooling2D()(x), heads), name="plain")


def mobile(
    widths: Sequence[int],
    halving: Sequence[int],
    size: int = 48,
    batch: int | None = None,
    heads: int = 1,
) -> tf_keras.Model:
    """MobileNet v1 (Howard et al. 2017) whose first convolution keeps the picture's size, for crops are small: a 3x3
    convolution to widths[0] channels, then for each further width a block of 3x3 depthwise and 1x1; the blocks whose
    numbers (from 1) are in `halving` halve the picture; then the mean over it. `prune.prune` makes one of `face`.
    """
    inputs = layers.Input((size, size, 1), batch)
    x = _capped(inputs, layers.Conv2D(widths[0], 3, padding="same", use_bias=False))
    x = _separable(x, widths[1:], halving)
    return tf_keras.Model(inputs, _logits(layers.GlobalAveragePooling2D()(x), heads), name="mobile")


def face(enlarge: int = 2, size: int = 48, batch: int | None = None, heads: int = 1) -> tf_keras.Model:
    """MobileNet v1 (Howard et al. 2017) on crops enlarged so many times, as `pretrained.load_weights` needs it. It
    halves the picture four times, not five, for the crops are small. Its capped ReLU and its input in 0..255 are what a
    face recognition network was trained with; it is a teacher, and not for export.
    """
    inputs = layers.Input((size, size, 1), batch)
    x = layers.UpSampling2D(enlarge, interpolation="bilinear")(layers.Rescaling(255, -127.5)(inputs))
    x = _capped(layers.Concatenate()([x, x, x]), layers.Conv2D(32, 3, 2, padding="same", use_bias=False))
    x = _separable(x, (64, 128, 128, 256, 256, *[512] * 6, 1024, 1024), halving=(2, 4, 6))
    return tf_keras.Model(inputs, _logits(layers.GlobalAveragePooling2D()(x), heads), name="face")


def conv_bn_pairs(model: tf_keras.Model) -> list[tuple[Any, Any]]:
    """Each convolution, in order, with the batch normalisation after it; of a network without shortcuts, in which each
    convolution has one.
    """
    kernels = [each for each in model.layers if isinstance(each, layers.Conv2D | layers.DepthwiseConv2D)]
    scales = [each for each in model.layers if isinstance(each, layers.BatchNormalization)]
    return list(zip(kernels, scales, strict=True))


def unfuse_batchnorm(
    model: tf_keras.Model,
    kernels: Sequence[NDArray[Any]],
    offsets: Sequence[NDArray[Any]],
    crops: NDArray[np.uint8],
) -> None:
    """Give `face` or `mobile` convolutions whose batch normalisations were folded into them: each gets its own back,
    fitted to a sample of the toned (n, s, s) crops, so that the network computes what it did. Raises ValueError where
    a shape does not fit.
    """
    pairs = conv_bn_pairs(model)
    x = tf_keras.Model(model.input, pairs[0][0].input)(as_floats(crops[:: max(len(crops) // _SAMPLE, 1)][:_SAMPLE]))
    for (convolution, scale), kernel, offset in zip(pairs, kernels, offsets, strict=True):
        convolution.set_weights([kernel])
        x = convolution(x)
        mean, variance = np.mean(x, (0, 1, 2)), np.var(x, (0, 1, 2)) + _FLOOR
        scale.set_weights([np.sqrt(variance + scale.epsilon), offset + mean, mean, variance])
        x = layers.ReLU(6)(scale(x))


def one_head(weights: Sequence[NDArray[Any]], model: tf_keras.Model, head: int) -> list[NDArray[Any]]:
    """The weights of a network of several heads, cut to fit `model`, the same network with head number `head` only."""
    part = slice(head * len(LABELS), (head + 1) * len(LABELS))
    return [
        given if given.shape == own.shape else given[..., part]
        for given, own in zip(weights, model.get_weights(), strict=True)
    ]


def _logits(x: Any, heads: int) -> Any:
    return layers.Dense(heads * len(LABELS), dtype="float32")(x)


def _separable(x: Any, widths: Sequence[int], halving: Sequence[int]) -> Any:
    for block, width in enumerate(widths, start=1):
        stride = 2 if block in halving else 1
        x = _capped(x, layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False))
        x = _capped(x, layers.Conv2D(width, 1, use_bias=False))
    return x


def _capped(x: Any, convolution: Any) -> Any:
    return layers.ReLU(6)(layers.BatchNormalization(momentum=0.98)(convolution(x)))


def _basic(x: Any, width: int, stride: int) -> Any:
    return _shortcut(x, _convolution(_convolution(x, width, stride), width, active=False), stride)


def _bottleneck(x: Any, width: int, stride: int) -> Any:
    y = _convolution(_convolution(x, width // 2, kernel=1), width // 2, stride)
    return _shortcut(x, _convolution(y, width, kernel=1, active=False), stride)


def _shortcut(x: Any, y: Any, stride: int) -> Any:
    if stride != 1 or x.shape[-1] != y.shape[-1]:
        x = _convolution(x, y.shape[-1], stride, kernel=1, active=False)
    return layers.ReLU()(layers.Add()([x, y]))


def _inverted(x: Any, width: int, stride: int) -> Any:
    y = _convolution(x, 4 * x.shape[-1], kernel=1)
    y = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False, depthwise_initializer="he_normal")(y)
    y = layers.ReLU()(layers.BatchNormalization(momentum=0.98)(y))
    y = _convolution(y, width, kernel=1, active=False)
    return layers.Add()([x, y]) if stride == 1 and x.shape[-1] == width else y


def _convolution(x: Any, filters: int, stride: int = 1, kernel: int = 3, active: bool = True) -> Any:
    x = layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    x = layers.BatchNormalization(momentum=0.98)(x)
    return layers.ReLU()(x) if active else x
