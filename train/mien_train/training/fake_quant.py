"""Fake quantization (Jacob et al. 2018, https://arxiv.org/abs/1712.05877): a float network that
rounds kernels and activations to the steps that the int8 network will have.

Kernels: 8 bits, symmetric, one scale a channel, depthwise ones too; batch normalizations are folded
into them before they are rounded, by the statistics of the float network, which stay as they are.
Biases: 32 bits, in steps of an input's times a kernel's, as section 2.4 there has it; without that
one activation in some hundreds is another, and every further layer adds to it.
Activations: 8 bits, from a moving average of their least and greatest values that freezes after
some steps, so that the network learns the last of its training with the steps that it will ship
with (section 3.1 there). Gradients pass rounding unchanged, and clipping not at all.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops
from keras.quantizers import fake_quant_with_min_max_vars

from mien_train.arrays import Array, Floats, Pixels
from mien_train.training import loop, networks
from mien_train.training.networks import EPSILON, Activation, Blocks
from mien_train.training.recipes import Recipe

_RANGE_MOMENTUM = 0.99
_MAX_STEPS = 127  # of a kernel, in either direction
_PIXEL_STEP = 1 / 255
_MIN_RANGE = 1e-6  # of a channel or an activation that is always zero
_SUFFIX = "_range"  # of the name of a layer whose activation's range it is


class Kernel(NamedTuple):
    """Kernel, as Keras has it, and (channels,) bias of a layer, as real numbers."""

    kernel: Array
    bias: Array


class Range(NamedTuple):
    """The least and the greatest value of an activation; 0 lies between."""

    low: float
    high: float


def build(recipe: Recipe, outputs: int, steps: int = 0) -> keras.Model:
    """Build the recipe's fake-quantized network with fresh weights.

    steps: training steps after which the ranges of activations freeze. Raises RunError for a
    network that cannot be quantized.
    """
    return networks.assemble(recipe, outputs, FakeQuantBlocks(steps))


def load_float_weights(model: keras.Model, float_model: keras.Model) -> None:
    """Give a fake-quantized network the weights of the float network of the same recipe."""
    for layer in _layers_with_kernel(model):
        weights = float_model.get_layer(layer.name).get_weights()
        if layer.has_batch_norm:
            weights += float_model.get_layer(f"{layer.name}_norm").get_weights()
        layer.set_weights(weights)


def kernels(model: keras.Model, is_rounded: bool) -> dict[str, Kernel]:
    """Return what the layers of a fake-quantized network compute with, by their names, batch
    normalizations folded.

    is_rounded: whether the kernels are rounded to their steps.
    """
    values = {}
    for layer in _layers_with_kernel(model):
        kernel, bias = layer.rounded()[:2] if is_rounded else layer.folded()
        values[layer.name] = Kernel(_as_keras_has_it(layer, kernel), ops.convert_to_numpy(bias))
    return values


def ranges(model: keras.Model) -> dict[str, Range]:
    """Return the ranges of a fake-quantized network's activations, by the names of their layers."""
    return {
        layer.name.removesuffix(_SUFFIX): Range(*map(float, layer.get_weights()[:2]))
        for layer in model.layers
        if isinstance(layer, FakeQuantRange)
    }


def set_folded(layer: Any, kernel: Array, bias: Array) -> None:
    """Give a layer with a kernel these weights, its batch normalization folded into them already.

    kernel: as Keras has it. Raises ValueError where a shape does not fit.
    """
    if not layer.has_batch_norm:
        layer.set_weights([kernel, bias])
        return
    ones = np.ones_like(bias)
    # A variance to which EPSILON is added, in single precision, to make one.
    layer.set_weights([kernel, ones, bias, 0 * ones, ones - EPSILON])


def set_range(model: keras.Model, name: str, low: float, high: float) -> None:
    """Give the activation of the layer of that name its range. Raises ValueError without one."""
    model.get_layer(f"{name}{_SUFFIX}").set_weights(
        [np.float32(low), np.float32(high), np.float32(0)]
    )


def settle(model: keras.Model) -> None:
    """Put the kernels, biases and ranges of a trained fake-quantized network on steps of sixteen
    bits, and fold its batch normalizations.

    It computes what it did, to one part in 30,000. But a product of a step and a number of steps is
    exact then, so that what a .tflite stores, and what its kernels multiply with, are the very
    numbers that this network has.
    """
    for layer in model.layers:
        if isinstance(layer, FakeQuantRange):
            _settle_range(layer)
    for layer in _layers_with_kernel(model):
        _settle_weights(layer)


def predict(model: keras.Model, crops: Pixels) -> Floats:
    """Return (n, outputs) logits of normalized (n, s, s) uint8 crops, those of a settled network to
    the bit as XNNPACK's kernels compute them: operation by operation, for compilers rearrange
    multiplications, and a half is rounded to another side then.
    """
    return loop.predict(model, crops, compute=partial(model, training=False))


def _settle_range(layer: "FakeQuantRange") -> None:
    low, high, count = layer.get_weights()
    step = _sixteen_bits((max(high, low + _MIN_RANGE) - low) / 255)
    zero = np.rint(-low / step)
    layer.set_weights([np.float32(-zero * step), np.float32((255 - zero) * step), count])


def _settle_weights(layer: Any) -> None:
    kernel, bias = (ops.convert_to_numpy(values).astype(np.float64) for values in layer.folded())
    is_depthwise = kernel.ndim == 4 and kernel.shape[-1] == 1 and not layer.filters
    by_channel = kernel[..., 0] if is_depthwise else kernel
    limit = np.abs(by_channel).max(axis=tuple(range(by_channel.ndim - 1)))
    step = _sixteen_bits(np.maximum(limit, _MIN_RANGE) / _MAX_STEPS)
    settled = (np.rint(by_channel / step) * step).reshape(kernel.shape)
    bias_step = step * float(layer.input_step())
    set_folded(layer, settled, np.rint(bias / bias_step) * bias_step)


def _sixteen_bits(values: Any) -> Any:
    """Return positive values rounded to sixteen significant bits."""
    mantissa, exponent = np.frexp(np.asarray(values, np.float64))
    return np.ldexp(np.rint(mantissa * 2**16) / 2**16, exponent)


def _as_keras_has_it(layer: Any, kernel: Any) -> Array:
    return ops.convert_to_numpy(kernel).reshape(layer.kernel.shape)


def _layers_with_kernel(model: keras.Model) -> list[Any]:
    kinds = (FakeQuantConvolution, FakeQuantDense)
    return [layer for layer in model.layers if isinstance(layer, kinds)]


class Rounded(NamedTuple):
    """A kernel and a bias on their steps.

    kernel: 8 bits, symmetric, one step for each place of its last axis. bias: (places,). step: of a
    bias, (places,); a kernel's is that over `input_step`, the step of what it is multiplied with.
    """

    kernel: Any
    bias: Any
    step: Any
    input_step: Any

    def integers(self) -> tuple[Any, Any]:
        """Return how many steps kernel and bias are, as floats."""
        kernel_step = self.step / self.input_step
        return ops.round(self.kernel / kernel_step), ops.round(self.bias / self.step)


def round_weights(kernel: Any, bias: Any, input_step: Any) -> Rounded:
    """Return a kernel rounded to 8 bits, with one scale for each place of its last axis, and the
    (places,) bias rounded to 32.

    input_step: the size of a step of what the kernel is multiplied with.
    """
    last = len(kernel.shape) - 1
    limit = ops.stop_gradient(ops.max(ops.abs(kernel), axis=tuple(range(last))))
    limit = ops.maximum(limit, _MIN_RANGE)
    rounded = fake_quant_with_min_max_vars(kernel, -limit, limit, narrow_range=True, axis=last)
    step = input_step * (limit / _MAX_STEPS)
    error = ops.stop_gradient(ops.round(bias / step) * step - bias)
    return Rounded(rounded, bias + error, step, input_step)


class FakeQuantConvolution(layers.Layer):
    """A convolution whose kernel is rounded after its batch normalization was folded into it.

    input_range: of its input; None for the crop. filters: output channels; 0 for a depthwise
    convolution. has_batch_norm: else it has a bias. padding: 'same' or 'valid'.
    """

    def __init__(
        self,
        input_range: "FakeQuantRange | None",
        filters: int,
        kernel_size: int,
        stride: int = 1,
        padding: str = "same",
        has_batch_norm: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self._input_range = _Untracked(input_range)
        self.filters = filters
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.has_batch_norm = has_batch_norm

    def build(self, input_shape: Sequence[int]) -> None:
        """Make the weights: a kernel, then those of a batch normalization or a bias."""
        size = (self.kernel_size, self.kernel_size)
        channels = self.filters or input_shape[-1]
        kernel_shape = (*size, input_shape[-1], self.filters or 1)
        self.kernel = self.add_weight(kernel_shape, "he_normal", name="kernel")
        if not self.has_batch_norm:
            self.bias = self.add_weight((channels,), "zeros", name="bias")
            return
        self.gamma = self.add_weight((channels,), "ones", name="gamma")
        self.beta = self.add_weight((channels,), "zeros", name="beta")
        self.mean = self.add_weight((channels,), "zeros", name="moving_mean", trainable=False)
        self.variance = self.add_weight(
            (channels,), "ones", name="moving_variance", trainable=False
        )

    def folded(self) -> tuple[Any, Any]:
        """Return kernel and bias that compute what convolution and batch normalization do."""
        if not self.has_batch_norm:
            return ops.convert_to_tensor(self.kernel), ops.convert_to_tensor(self.bias)
        scale = self.gamma / ops.sqrt(self.variance + EPSILON)
        bias = self.beta - self.mean * scale
        if not self.filters:
            scale = scale[:, None]
        return self.kernel * scale, bias

    def input_step(self) -> Any:
        """Return the size of a step of its input."""
        return self._input_range.step()

    def rounded(self) -> Rounded:
        """Return `folded`, rounded; a depthwise kernel is (height, width, channels)."""
        kernel, bias = self.folded()
        if not self.filters:
            kernel = kernel[..., 0]
        return round_weights(kernel, bias, self.input_step())

    def call(self, x: Any, training: bool = False) -> Any:
        """Return (b, h, w, channels) of (b, h, w, c); but in training, as a number of steps."""
        rounded = self.rounded()
        if training:
            return self._convolve(x, rounded.kernel) + rounded.bias
        kernel, bias = rounded.integers()
        # Rounded, for some ways to compute a convolution (Winograd's) add up fractions.
        return ops.round(self._convolve(ops.round(x / rounded.input_step), kernel)) + bias

    def _convolve(self, x: Any, kernel: Any) -> Any:
        if self.filters:
            return ops.conv(x, kernel, self.stride, self.padding, "channels_last")
        kernel = kernel[..., None]
        return ops.depthwise_conv(x, kernel, self.stride, self.padding, "channels_last")


class FakeQuantDense(layers.Layer):
    """A dense layer whose kernel is rounded.

    input_range: of its input.
    """

    has_batch_norm = False

    def __init__(
        self,
        input_range: "FakeQuantRange | None",
        units: int,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self._input_range = _Untracked(input_range)
        self.units = units

    def build(self, input_shape: Sequence[int]) -> None:
        """Make the weights: kernel and bias."""
        shape = (input_shape[-1], self.units)
        self.kernel = self.add_weight(shape, "glorot_uniform", name="kernel")
        self.bias = self.add_weight((self.units,), "zeros", name="bias")

    def folded(self) -> tuple[Any, Any]:
        """Return kernel and bias."""
        return ops.convert_to_tensor(self.kernel), ops.convert_to_tensor(self.bias)

    def input_step(self) -> Any:
        """Return the size of a step of its input."""
        return self._input_range.step()

    def rounded(self) -> Rounded:
        """Return `folded`, rounded."""
        return round_weights(*self.folded(), self.input_step())

    def call(self, x: Any, training: bool = False) -> Any:
        """Return (b, units) of (b, n); but in training, as a number of steps."""
        rounded = self.rounded()
        if training:
            return ops.matmul(x, rounded.kernel) + rounded.bias
        kernel, bias = rounded.integers()
        return ops.round(ops.matmul(ops.round(x / rounded.input_step), kernel)) + bias


class FakeQuantRange(layers.Layer):
    """Rounds an activation to 8 bits between a moving least and greatest value.

    steps: training steps after which the range stays as it is. activation: is applied first.
    source: the layer with a kernel whose output it takes, or None. Outside of training that output
    is a whole number of steps, and is scaled and rounded as XNNPACK's kernels do, for a value that
    falls to the other side of a half here is another on all further layers (requantization by a
    float32 scale, https://github.com/google/XNNPACK).
    """

    def __init__(
        self,
        steps: int,
        activation: Activation = "",
        source: Any = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.steps = steps
        self.activation = activation
        self._source = _Untracked(source)

    def build(self, input_shape: Sequence[int]) -> None:
        """Make the weights: the range, and how many steps it has seen."""
        self.low = self.add_weight((), "zeros", name="low", trainable=False)
        self.high = self.add_weight((), "zeros", name="high", trainable=False)
        self.count = self.add_weight((), "zeros", name="count", trainable=False)

    def call(self, x: Any, training: bool = False) -> Any:
        """Return the rounded activation; in training the range follows it first."""
        if self._source.layer is not None and not training:
            return self._rescaled(x, self._source.layer.rounded().step)
        if self.activation:
            x = ops.relu6(x) if self.activation == "relu6" else ops.relu(x)
        if training:
            self._follow(x)
        return fake_quant_with_min_max_vars(x, self.low, self._greatest())

    def _rescaled(self, x: Any, step: Any) -> Any:
        """Return x, a number of steps, in steps of the range."""
        own_step = self.step()
        zero = ops.round(-self.low / own_step)
        least = zero if self.activation else 0.0 * zero
        greatest = 255.0 + 0.0 * zero
        if self.activation == "relu6":
            greatest = ops.minimum(greatest, zero + ops.round(6 / own_step))
        integers = ops.round(x * (step / own_step)) + zero
        return (ops.minimum(ops.maximum(integers, least), greatest) - zero) * own_step

    def step(self) -> Any:
        """Return the size of a step."""
        return (self._greatest() - self.low) / 255

    def _greatest(self) -> Any:
        return ops.maximum(self.high, self.low + _MIN_RANGE)

    def _follow(self, x: Any) -> None:
        values = ops.stop_gradient(x)
        low = ops.minimum(ops.min(values), 0.0)
        high = ops.maximum(ops.max(values), 0.0)
        count = self.count
        share = ops.where(count == 0, 1.0, 1.0 - _RANGE_MOMENTUM)
        share = ops.where(count < self.steps, share, 0.0)
        self.low.assign(self.low + (low - self.low) * share)
        self.high.assign(self.high + (high - self.high) * share)
        self.count.assign(count + 1)


class _Untracked:
    """Another layer, which Keras shall not take for a part of the one that knows it."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    def step(self) -> Any:
        """Return the step of a range, or of a crop where there is none."""
        return _PIXEL_STEP if self.layer is None else self.layer.step()


class FakeQuantBlocks(Blocks):
    """Fake-quantized layers, under the names of the float ones.

    steps: training steps after which the ranges of activations freeze.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self._ranges: dict[str, FakeQuantRange] = {}  # by the names of tensors

    def convolution(
        self,
        x: Any,
        filters: int,
        kernel: int = 3,
        stride: int = 1,
        activation: Activation = "relu",
        initializer: str = "he_normal",
    ) -> Any:
        layer = FakeQuantConvolution(
            self._ranges.get(x.name), filters, kernel, stride, name=self.next_name("conv")
        )
        return self._rounded(layer(x), layer.name, activation, layer)

    def depthwise(
        self,
        x: Any,
        stride: int = 1,
        activation: Activation = "relu",
        initializer: str = "he_normal",
    ) -> Any:
        layer = FakeQuantConvolution(
            self._ranges.get(x.name), 0, 3, stride, name=self.next_name("depthwise")
        )
        return self._rounded(layer(x), layer.name, activation, layer)

    def plain_convolution(self, x: Any, filters: int) -> Any:
        name = self.next_name("plain")
        layer = FakeQuantConvolution(
            self._ranges.get(x.name), filters, 3, 1, "valid", has_batch_norm=False, name=name
        )
        return self._rounded(layer(x), name, "relu", layer)

    def dense(self, x: Any, units: int, activation: Activation = "") -> Any:
        layer = FakeQuantDense(self._ranges.get(x.name), units, name=self.next_name("dense"))
        return self._rounded(layer(x), layer.name, activation, layer)

    def add(self, x: Any, y: Any, activation: Activation = "") -> Any:
        return self._rounded(layers.Add()([x, y]), self.next_name("add"), activation)

    def max_pool(self, x: Any) -> Any:
        return self._in_range_of(x, layers.MaxPooling2D(2)(x))

    def mean(self, x: Any) -> Any:
        return self._rounded(layers.GlobalAveragePooling2D()(x), self.next_name("mean"), "")

    def flatten(self, x: Any) -> Any:
        return self._in_range_of(x, layers.Flatten()(x))

    def _rounded(self, x: Any, name: str, activation: Activation, source: Any = None) -> Any:
        layer = FakeQuantRange(self.steps, activation, source, name=f"{name}{_SUFFIX}")
        x = layer(x)
        self._ranges[x.name] = layer
        return x

    def _in_range_of(self, x: Any, y: Any) -> Any:
        """Return y, whose values are some of x's."""
        if x.name in self._ranges:
            self._ranges[y.name] = self._ranges[x.name]
        return y
