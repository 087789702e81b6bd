"""Networks as Keras functional models: float32 (b, 48, 48, 1) in 0..1 to (b, outputs) logits, one
head after the other.

Softmax is left to the contract, which divides the logits by the card's temperature first. An
architecture is a function of the `Blocks` that it is built from: `FloatBlocks` here make the float
network, `fake_quant.FakeQuantBlocks` the fake-quantized one, and `convert.TensorFlowBlocks` what
TensorFlow Lite's converter reads. So every architecture can be quantized, and its layers have the
same names in all three. A bundle carries one head.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
from keras import layers, ops
from mien_edge.contract import as_floats
from mien_edge.errors import RunError

from mien_train.arrays import Array, Pixels
from mien_train.training.recipes import Recipe

Activation = Literal["", "relu", "relu6"]

_SAMPLE = 256  # crops that batch normalizations are fitted to
_MIN_VARIANCE = 1e-2  # of a channel: one that does not vary on the sample must not be scaled up
_MOMENTUM = 0.98  # of batch normalizations

EPSILON = 1e-3
"""Added to a variance before its root is taken; Keras' default, which all weights were trained
with.
"""

_SEED_FILTERS = (16, 64, 256, 1024)
_SEED_UNITS = (1024, 128, 64, 32, 16)
_FACE_WIDTHS = (64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)


class Blocks(ABC):
    """What architectures are built from; layers of a kind are numbered as they are made: conv_1, ….

    x: a tensor (b, h, w, channels), or (b, channels) for `dense`. activation: '', 'relu', or
    'relu6' (ReLU of at most 6).
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def next_name(self, kind: str) -> str:
        """Return the name of the next layer of a kind."""
        self._counts[kind] += 1
        return f"{kind}_{self._counts[kind]}"

    @abstractmethod
    def convolution(
        self,
        x: Any,
        filters: int,
        kernel: int = 3,
        stride: int = 1,
        activation: Activation = "relu",
        initializer: str = "he_normal",
    ) -> Any:
        """Return a padded convolution with batch normalization."""

    @abstractmethod
    def depthwise(
        self,
        x: Any,
        stride: int = 1,
        activation: Activation = "relu",
        initializer: str = "he_normal",
    ) -> Any:
        """Return a padded 3x3 depthwise convolution with batch normalization."""

    @abstractmethod
    def plain_convolution(self, x: Any, filters: int) -> Any:
        """Return an unpadded 3x3 convolution with bias and ReLU."""

    @abstractmethod
    def dense(self, x: Any, units: int, activation: Activation = "") -> Any:
        """Return a dense layer with bias."""

    @abstractmethod
    def add(self, x: Any, y: Any, activation: Activation = "") -> Any:
        """Return the sum of two tensors of one shape."""

    @abstractmethod
    def max_pool(self, x: Any) -> Any:
        """Return the maxima of 2x2 positions."""

    @abstractmethod
    def mean(self, x: Any) -> Any:
        """Return the (b, channels) means over all positions."""

    @abstractmethod
    def flatten(self, x: Any) -> Any:
        """Return (b, h * w * channels)."""

    def enlarge(self, x: Any, factor: int) -> Any:
        """Return a gray picture in 0..1 enlarged, as three equal channels in -127.5..127.5. Raises
        RunError unless these are blocks of a float network.
        """
        raise RunError("the network `face` is a teacher and is not quantized; prune it (edge-cut)")


class FloatBlocks(Blocks):
    """Keras' own layers: a convolution, its batch normalization, its activation.

    The batch normalization of conv_3 is called conv_3_norm.
    """

    def convolution(
        self,
        x: Any,
        filters: int,
        kernel: int = 3,
        stride: int = 1,
        activation: Activation = "relu",
        initializer: str = "he_normal",
    ) -> Any:
        layer = layers.Conv2D(
            filters,
            kernel,
            stride,
            padding="same",
            use_bias=False,
            kernel_initializer=initializer,
            name=self.next_name("conv"),
        )
        return _normalized(x, layer, activation)

    def depthwise(
        self,
        x: Any,
        stride: int = 1,
        activation: Activation = "relu",
        initializer: str = "he_normal",
    ) -> Any:
        layer = layers.DepthwiseConv2D(
            3,
            stride,
            padding="same",
            use_bias=False,
            depthwise_initializer=initializer,
            name=self.next_name("depthwise"),
        )
        return _normalized(x, layer, activation)

    def plain_convolution(self, x: Any, filters: int) -> Any:
        name = self.next_name("plain")
        layer = layers.Conv2D(filters, 3, kernel_initializer="he_normal", name=name)
        return layers.ReLU()(layer(x))

    def dense(self, x: Any, units: int, activation: Activation = "") -> Any:
        initializer = "he_normal" if activation else "glorot_uniform"
        name = self.next_name("dense")
        layer = layers.Dense(units, kernel_initializer=initializer, dtype="float32", name=name)
        return _activated(layer(x), activation)

    def add(self, x: Any, y: Any, activation: Activation = "") -> Any:
        return _activated(layers.Add()([x, y]), activation)

    def max_pool(self, x: Any) -> Any:
        return layers.MaxPooling2D(2)(x)

    def mean(self, x: Any) -> Any:
        return layers.GlobalAveragePooling2D()(x)

    def flatten(self, x: Any) -> Any:
        return layers.Flatten()(x)

    def enlarge(self, x: Any, factor: int) -> Any:
        x = layers.Rescaling(255, -127.5)(x)
        x = layers.UpSampling2D(factor, interpolation="bilinear")(x)
        return layers.Concatenate()([x, x, x])


def _normalized(x: Any, layer: Any, activation: Activation) -> Any:
    norm = layers.BatchNormalization(
        momentum=_MOMENTUM,
        epsilon=EPSILON,
        name=f"{layer.name}_norm",
    )
    return _activated(norm(layer(x)), activation)


def _activated(x: Any, activation: Activation) -> Any:
    if not activation:
        return x
    return layers.ReLU(6 if activation == "relu6" else None)(x)


class ConvBatchNorm(NamedTuple):
    """A convolution and the batch normalization after it."""

    convolution: Any
    batch_norm: Any

    @property
    def width(self) -> int:
        """The number of its output channels; for a Conv2D only."""
        return self.convolution.filters


def build(recipe: Recipe, outputs: int, precision: str = "float32") -> keras.Model:
    """Build the recipe's float network with fresh weights.

    outputs: how many logits. precision: Keras' dtype policy.
    """
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        return assemble(recipe, outputs, FloatBlocks())
    finally:
        keras.config.set_dtype_policy(previous)


def assemble(recipe: Recipe, outputs: int, blocks: Blocks) -> keras.Model:
    """Build the recipe's network from Keras' layers of these blocks."""
    size = recipe.preprocess.size
    inputs = keras.Input((size, size, 1))
    return keras.Model(inputs, logits(recipe, outputs, blocks, inputs), name=recipe.network)


def logits(recipe: Recipe, outputs: int, blocks: Blocks, crops: Any) -> Any:
    """Return the (b, outputs) logits of the recipe's network on (b, s, s, 1) crops in 0..1, as a
    tensor of the blocks' kind.
    """
    return ARCHITECTURES[recipe.network](blocks, crops, outputs, **recipe.arguments)


def seed(blocks: Blocks, x: Any, outputs: int) -> Any:
    """Build the slide deck's network: 3x3 convolutions with ReLU, each followed by 2x2 pooling,
    lead from 48x48x1 to 1x1x1024; then dense 1024-128-64-32-16 with ReLU, and the outputs.
    Unpadded, as is Keras' default, four such steps end at 1x1. The deck names no channel counts on
    the way; here they grow fourfold.
    """
    for filters in _SEED_FILTERS:
        x = blocks.max_pool(blocks.plain_convolution(x, filters))
    x = blocks.flatten(x)
    for units in _SEED_UNITS:
        x = blocks.dense(x, units, "relu")
    return blocks.dense(x, outputs)


def residual(
    blocks: Blocks,
    x: Any,
    outputs: int,
    stem: int,
    widths: Sequence[int],
    depths: Sequence[int],
    block: str = "basic",
) -> Any:
    """Build a residual network (He et al. 2015): a 3x3 stem of `stem` channels and 2x2 pooling,
    then stages of `depths[i]` blocks of `widths[i]` channels, each stage but the first halving the
    picture, then the mean over the picture.

    block: 'basic' (two 3x3), 'bottleneck' (1x1 to half the channels, 3x3, 1x1) or 'inverted' (1x1
    to four times the channels, 3x3 depthwise, 1x1; Sandler et al. 2018).
    """
    make_block = {"basic": _basic, "bottleneck": _bottleneck, "inverted": _inverted}[block]
    x = blocks.max_pool(blocks.convolution(x, stem))
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        for number in range(depth):
            is_halving = stage > 0 and number == 0
            x = make_block(blocks, x, width, 2 if is_halving else 1)
    return blocks.dense(blocks.mean(x), outputs)


def plain(
    blocks: Blocks,
    x: Any,
    outputs: int,
    widths: Sequence[int],
    depths: Sequence[int],
) -> Any:
    """Build stages of `depths[i]` 3x3 convolutions of `widths[i]` channels, each stage followed by
    2x2 pooling, without shortcuts (VGG, Simonyan & Zisserman 2014, with batch normalization), then
    the mean over the picture.
    """
    for width, depth in zip(widths, depths, strict=True):
        for _ in range(depth):
            x = blocks.convolution(x, width)
        x = blocks.max_pool(x)
    return blocks.dense(blocks.mean(x), outputs)


def mobile(
    blocks: Blocks,
    x: Any,
    outputs: int,
    widths: Sequence[int],
    halving: Sequence[int],
) -> Any:
    """Build MobileNet v1 (Howard et al. 2017) whose first convolution keeps the picture's size,
    because crops are small: a 3x3 convolution to widths[0] channels, then for each further width a
    block of 3x3 depthwise and 1x1; the blocks whose numbers (from 1) are in `halving` halve the
    picture; then the mean over it. `prune.prune` makes one of `face`.
    """
    x = blocks.convolution(x, widths[0], activation="relu6", initializer="glorot_uniform")
    x = _separable_blocks(blocks, x, widths[1:], halving)
    return blocks.dense(blocks.mean(x), outputs)


def face(blocks: Blocks, x: Any, outputs: int, enlarge: int = 2) -> Any:
    """Build MobileNet v1 (Howard et al. 2017) on crops enlarged so many times, for
    `pretrained.load_weights`. It halves the picture four times, not five, because the crops are
    small. Its ReLU6 and its input in -127.5..127.5 are what a face recognition network was trained
    with; it is a teacher, and not for export.
    """
    x = blocks.enlarge(x, enlarge)
    x = blocks.convolution(x, 32, 3, 2, "relu6", "glorot_uniform")
    x = _separable_blocks(blocks, x, _FACE_WIDTHS, halving=(2, 4, 6))
    return blocks.dense(blocks.mean(x), outputs)


ARCHITECTURES: dict[str, Callable[..., Any]] = {
    "seed": seed,
    "residual": residual,
    "plain": plain,
    "mobile": mobile,
    "face": face,
}
"""By the names that recipes use."""


def conv_bn_pairs(model: keras.Model) -> list[ConvBatchNorm]:
    """Return each convolution, in order, with the batch normalization after it.

    model: a network without shortcuts, in which each convolution has a batch normalization.
    """
    kinds = (layers.Conv2D, layers.DepthwiseConv2D)
    convolutions = [layer for layer in model.layers if isinstance(layer, kinds)]
    batch_norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    return [ConvBatchNorm(*pair) for pair in zip(convolutions, batch_norms, strict=True)]


def unfuse_batchnorm(
    model: keras.Model,
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
    x = keras.Model(model.input, pairs[0].convolution.input)(sample)
    for (convolution, batch_norm), kernel, bias in zip(pairs, kernels, biases, strict=True):
        convolution.set_weights([kernel])
        x = convolution(x)
        _fit_batch_norm(batch_norm, x, bias)
        x = layers.ReLU(6)(batch_norm(x))


def _fit_batch_norm(batch_norm: Any, inputs: Any, bias: Array) -> None:
    """Set a batch normalization to the statistics of its (n, h, w, channels) inputs, so that all it
    does is add the (channels,) bias.
    """
    values = ops.convert_to_numpy(inputs)
    mean = values.mean(axis=(0, 1, 2))
    variance = values.var(axis=(0, 1, 2)) + _MIN_VARIANCE
    gamma = np.sqrt(variance + batch_norm.epsilon)
    batch_norm.set_weights([gamma, bias + mean, mean, variance])


def evenly_spaced(crops: Pixels, count: int) -> Pixels:
    """Return up to `count` of the crops, at even distances from the first."""
    step = max(len(crops) // count, 1)
    return crops[::step][:count]


def one_head(weights: Sequence[Array], model: keras.Model, outputs: slice) -> list[Array]:
    """Return the weights of a network of several heads for `model`, the same network with only one
    of them.

    outputs: which of the logits are the head's.
    """
    pairs = zip(weights, model.get_weights(), strict=True)
    return [values if values.shape == own.shape else values[..., outputs] for values, own in pairs]


def more_heads(weights: Sequence[Array], outputs: int, size: int) -> list[Array]:
    """Return the weights of a network for the same one with more outputs: each further head of that
    size begins as the mean of all there are. The same weights where none is missing.
    """
    *body, kernel, bias = weights
    missing = (outputs - len(bias)) // size
    if not missing:
        return list(weights)
    mean_kernel = kernel.reshape(len(kernel), -1, size).mean(axis=1)
    mean_bias = bias.reshape(-1, size).mean(axis=0)
    return [
        *body,
        np.concatenate([kernel, *[mean_kernel] * missing], axis=1),
        np.concatenate([bias, *[mean_bias] * missing]),
    ]


def _separable_blocks(blocks: Blocks, x: Any, widths: Sequence[int], halving: Sequence[int]) -> Any:
    for block, width in enumerate(widths, start=1):
        stride = 2 if block in halving else 1
        x = blocks.depthwise(x, stride, "relu6", "glorot_uniform")
        x = blocks.convolution(x, width, 1, 1, "relu6", "glorot_uniform")
    return x


def _basic(blocks: Blocks, x: Any, width: int, stride: int) -> Any:
    y = blocks.convolution(x, width, 3, stride)
    y = blocks.convolution(y, width, activation="")
    return _add_shortcut(blocks, x, y, stride)


def _bottleneck(blocks: Blocks, x: Any, width: int, stride: int) -> Any:
    y = blocks.convolution(x, width // 2, 1)
    y = blocks.convolution(y, width // 2, 3, stride)
    y = blocks.convolution(y, width, 1, activation="")
    return _add_shortcut(blocks, x, y, stride)


def _add_shortcut(blocks: Blocks, x: Any, y: Any, stride: int) -> Any:
    if stride != 1 or x.shape[-1] != y.shape[-1]:
        x = blocks.convolution(x, y.shape[-1], 1, stride, activation="")
    return blocks.add(x, y, "relu")


def _inverted(blocks: Blocks, x: Any, width: int, stride: int) -> Any:
    y = blocks.convolution(x, 4 * x.shape[-1], 1)
    y = blocks.depthwise(y, stride)
    y = blocks.convolution(y, width, 1, activation="")
    if stride == 1 and x.shape[-1] == width:
        return blocks.add(x, y)
    return y
