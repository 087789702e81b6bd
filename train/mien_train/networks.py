"""Networks as tf_keras functional models: float32 (48, 48, 1) in 0..1 to 7 logits.

Softmax is left to the contract, which divides the logits by the card's temperature first. Every layer has an integer
TensorFlow Lite kernel, and every convolution is followed by the BatchNormalization and ReLU that quantisation folds.
`batch` is fixed for export, where the device's interpreter takes one crop at a time.
"""

from collections.abc import Sequence
from typing import Any

import tf_keras
from mien_edge.contract import LABELS
from tf_keras import layers


def seed(size: int = 48, batch: int | None = None) -> tf_keras.Model:
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
    return tf_keras.Model(inputs, layers.Dense(len(LABELS))(x), name="seed")


def residual(
    stem: int, widths: Sequence[int], depths: Sequence[int], size: int = 48, batch: int | None = None
) -> tf_keras.Model:
    """A residual network (He et al. 2015): a 3x3 stem of `stem` channels and 2x2 pooling, then stages of `depths[i]`
    blocks of `widths[i]` channels, each stage but the first halving the picture, then the mean over the picture.
    """
    inputs = layers.Input((size, size, 1), batch)
    x = layers.MaxPooling2D(2)(_convolution(inputs, stem))
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        for block in range(depth):
            x = _block(x, width, stride=2 if stage and not block else 1)
    x = layers.GlobalAveragePooling2D()(x)
    return tf_keras.Model(inputs, layers.Dense(len(LABELS))(x), name="residual")


def _block(x: Any, width: int, stride: int) -> Any:
    y = _convolution(_convolution(x, width, stride), width, active=False)
    if stride != 1 or x.shape[-1] != width:
        x = _convolution(x, width, stride, kernel=1, active=False)
    return layers.ReLU()(layers.Add()([x, y]))


def _convolution(x: Any, filters: int, stride: int = 1, kernel: int = 3, active: bool = True) -> Any:
    x = layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    x = layers.BatchNormalization(momentum=0.98)(x)
    return layers.ReLU()(x) if active else x
