"""From a network's weights to an int8 .tflite, by TensorFlow Lite's converter: the only module that
needs TensorFlow, whichever backend trained the network.
"""

import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import tensorflow as tf
from mien_edge.contract import as_floats
from mien_edge.errors import RunError
from mien_edge.model import tflite

from mien_train.arrays import Pixels
from mien_train.training import networks
from mien_train.training.fake_quant import Kernel, Range
from mien_train.training.networks import Activation, Blocks
from mien_train.training.recipes import Recipe

CALIBRATION_ROWS = 500
_ACTIVATIONS = {"": tf.identity, "relu": tf.nn.relu, "relu6": tf.nn.relu6}


def convert_fake_quantized(
    recipe: Recipe,
    outputs: int,
    kernels: Mapping[str, Kernel],
    ranges: Mapping[str, Range],
) -> bytes:
    """Return a full-integer .tflite (uint8 in, int8 out) of a network that was trained with fake
    quantization.

    kernels: rounded. ranges: of its activations; both by the names of their layers.
    """
    return _convert(recipe, outputs, TensorFlowBlocks(kernels, ranges))


def convert_float(
    recipe: Recipe,
    outputs: int,
    kernels: Mapping[str, Kernel],
    calibration: Pixels,
) -> bytes:
    """Return a full-integer .tflite (uint8 in, int8 out) of a float network: post-training
    quantization.

    kernels: with their batch normalizations folded, by the names of their layers. calibration:
    normalized (n, s, s) uint8 crops on which the ranges of activations are measured.
    """
    return _convert(recipe, outputs, TensorFlowBlocks(kernels, None), calibration)


def check_integer(content: bytes) -> None:
    """Raise RunError if any operator of a .tflite touches anything but integers."""
    floating = set()
    for operator in tflite.operators(content):
        if any("FLOAT" in dtype for dtype in operator.dtypes):
            floating.add(operator.name)
    if floating:
        names = ", ".join(sorted(floating))
        raise RunError(
            f"the converted network has float operators ({names}); change the recipe's layers"
        )


def _convert(
    recipe: Recipe,
    outputs: int,
    blocks: "TensorFlowBlocks",
    calibration: Pixels | None = None,
) -> bytes:
    size = recipe.preprocess.size

    # One crop at a time, as the device's interpreter takes them.
    @tf.function(input_signature=[tf.TensorSpec((1, size, size, 1), tf.float32, name="crop")])
    def network(crop: Any) -> Any:
        return networks.logits(recipe, outputs, blocks, blocks.input(crop))

    function = network.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if calibration is not None:
        converter.representative_dataset = partial(_representative_dataset, calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.int8
    with warnings.catch_warnings():
        # The input's range is known: the steps are the pixels.
        warnings.filterwarnings("ignore", message="Statistics for quantized inputs")
        return bytes(converter.convert())


def _representative_dataset(crops: Pixels) -> Iterator[list[Any]]:
    for crop in crops[:CALIBRATION_ROWS]:
        yield [as_floats(crop[None])]


class TensorFlowBlocks(Blocks):
    """TensorFlow operations on constants, under the names of the float layers.

    kernels: by the names of their layers. ranges: of their activations, likewise; None where the
    converter measures them.
    """

    def __init__(
        self,
        kernels: Mapping[str, Kernel],
        ranges: Mapping[str, Range] | None,
    ) -> None:
        super().__init__()
        self.kernels = kernels
        self.ranges = ranges

    def input(self, crop: Any) -> Any:
        """Return the (1, s, s, 1) crop in 0..1; its steps are the pixels."""
        if self.ranges is None:
            return crop
        return _fake_quantize(crop, Range(0.0, 1.0))

    def convolution(
        self,
        x: Any,
        filters: int,
        kernel: int = 3,
        stride: int = 1,
        activation: Activation = "relu",
        initializer: str = "he_normal",
    ) -> Any:
        name = self.next_name("conv")
        x = tf.nn.conv2d(x, self.kernels[name].kernel, stride, "SAME")
        return self._finished(x + self.kernels[name].bias, name, activation)

    def depthwise(
        self,
        x: Any,
        stride: int = 1,
        activation: Activation = "relu",
        initializer: str = "he_normal",
    ) -> Any:
        name = self.next_name("depthwise")
        strides = (1, stride, stride, 1)
        x = tf.nn.depthwise_conv2d(x, self.kernels[name].kernel, strides, "SAME")
        return self._finished(x + self.kernels[name].bias, name, activation)

    def plain_convolution(self, x: Any, filters: int) -> Any:
        name = self.next_name("plain")
        x = tf.nn.conv2d(x, self.kernels[name].kernel, 1, "VALID")
        return self._finished(x + self.kernels[name].bias, name, "relu")

    def dense(self, x: Any, units: int, activation: Activation = "") -> Any:
        name = self.next_name("dense")
        x = tf.matmul(x, self.kernels[name].kernel) + self.kernels[name].bias
        return self._finished(x, name, activation)

    def add(self, x: Any, y: Any, activation: Activation = "") -> Any:
        return self._finished(x + y, self.next_name("add"), activation)

    def max_pool(self, x: Any) -> Any:
        return tf.nn.max_pool2d(x, 2, 2, "VALID")

    def mean(self, x: Any) -> Any:
        return self._finished(tf.reduce_mean(x, (1, 2)), self.next_name("mean"), "")

    def flatten(self, x: Any) -> Any:
        return tf.reshape(x, (1, -1))

    def _finished(self, x: Any, name: str, activation: Activation) -> Any:
        x = _ACTIVATIONS[activation](x)
        return x if self.ranges is None else _fake_quantize(x, self.ranges[name])


def _fake_quantize(x: Any, limits: Range) -> Any:
    return tf.quantization.fake_quant_with_min_max_vars(x, limits.low, limits.high)
