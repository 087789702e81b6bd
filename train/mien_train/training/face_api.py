"""The expression network of face-api.js (Vincent Mühler 2018, MIT licence), from its weights.

What it computes: src/faceFeatureExtractor and src/faceExpressionNet of
github.com/vladmandic/face-api. Each of four blocks halves the picture; in a block every
convolution sees the sum of those before it.
"""

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers

from mien_train.arrays import Array, Floats

SIZE = 112
"""Pixels of the side of its input."""

_BLOCKS = ("dense0", "dense1", "dense2", "dense3")
_POOLED = 7  # positions along each axis that are averaged, at the end


def build(weights: Mapping[str, Floats]) -> keras.Model:
    """Build the network: (b, SIZE, SIZE, 3) float32 to (b, labels) logits.

    weights: by the names in model/face_expression_model-weights_manifest.json. Raises KeyError or
    ValueError where they are not that network's.
    """
    inputs = keras.Input((SIZE, SIZE, 3))
    x = inputs
    for block in _BLOCKS:
        x = _block(x, block, weights)
    x = layers.AveragePooling2D(_POOLED, strides=2)(x)
    x = layers.Flatten()(x)
    kernel = weights["fc/weights"]
    logits = _apply(layers.Dense(kernel.shape[-1]), x, [kernel, weights["fc/bias"]])
    return keras.Model(inputs, logits)


def _block(x: Any, name: str, weights: Mapping[str, Floats]) -> Any:
    total = layers.ReLU()(_convolution(x, f"{name}/conv0", weights, stride=2))
    output = total
    for number in (1, 2, 3):
        added = _convolution(output, f"{name}/conv{number}", weights, stride=1)
        total = layers.Add()([total, added])
        output = layers.ReLU()(total)
    return output


def _convolution(x: Any, name: str, weights: Mapping[str, Floats], stride: int) -> Any:
    bias = weights[f"{name}/bias"]
    if f"{name}/filters" in weights:
        layer = layers.Conv2D(len(bias), 3, stride, padding="same")
        return _apply(layer, x, [weights[f"{name}/filters"], bias])
    separable = layers.SeparableConv2D(len(bias), 3, stride, padding="same")
    depthwise = weights[f"{name}/depthwise_filter"]
    pointwise = weights[f"{name}/pointwise_filter"]
    return _apply(separable, x, [depthwise, pointwise, bias])


def _apply(layer: Any, x: Any, arrays: list[Array]) -> Any:
    """Apply a layer to a tensor and give it its weights."""
    output = layer(x)
    layer.set_weights(arrays)
    return output
