"""Starting weights for a small MobileNet: structured channel pruning of a large one. Channels that
the next layer can do without are removed, and the kernels of the others are fitted again, layer by
layer, to compute what they did.

Channels are selected greedily, each time the one that explains most of what the next layer computes
from all (ThiNet, Luo et al. 2017, with the greedy choice solved in closed form); kernels by least
squares on the pruned network's own activations (He, Zhang & Sun 2017).

Both networks alternate, after a first convolution: a depthwise convolution, then a 1x1
("pointwise") one.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from mien_edge.contract import as_floats

from mien_train.arrays import Array, Floats, Indices, Pixels
from mien_train.training import networks
from mien_train.training.networks import ConvBatchNorm

_SAMPLE = 512  # crops to fit on
_POSITIONS = 40_000  # of their maps' positions, about
_RIDGE = 1e-4  # of the mean variance of what is fitted on
_UPSAMPLING = np.array([[0.25, 0.75, 0.0], [0.0, 0.75, 0.25], [0.0, 0.25, 0.75]])
"""(3, 3): three neighbours in the picture of twice the size, of three in the picture (bilinear,
pixel centres at halves).
"""


def prune(student: keras.Model, teacher: keras.Model, crops: Pixels, head_size: int) -> None:
    """Give the student, a networks.mobile, the weights of the teacher, a networks.face that doubles
    the picture, pruned to the student's widths.

    crops: normalized (n, s, s) uint8 of the training rows. head_size: labels of a head; heads that
    the teacher has not begin as the mean of those that it has.
    """
    sample = as_floats(networks.evenly_spaced(crops, _SAMPLE))
    student_layers = networks.conv_bn_pairs(student)
    teacher_layers = networks.conv_bn_pairs(teacher)
    channels = _select_channels(teacher, teacher_layers, 0, student_layers[0].width, sample)
    _merge_upsampling(student_layers[0], teacher_layers[0], channels)
    for depthwise in range(1, len(student_layers), 2):
        pointwise = depthwise + 1
        _copy_depthwise(student_layers[depthwise], teacher_layers[depthwise], channels)
        width = student_layers[pointwise].width
        channels = _select_channels(teacher, teacher_layers, pointwise, width, sample)
        inputs = _activations(student, student_layers[pointwise].convolution.input, sample)
        targets = _activations(teacher, teacher_layers[pointwise].convolution.output, sample)
        _fit_pointwise(
            student_layers[pointwise],
            teacher_layers[pointwise],
            channels,
            inputs,
            targets[..., channels],
        )
    features = _activations(student, student.layers[-1].input, sample)
    logits = _activations(teacher, teacher.output, sample)
    heads = _least_squares(features, logits)
    outputs = student.output_shape[-1]
    student.layers[-1].set_weights(networks.more_heads(heads, outputs, head_size))


def select_greedily(covariance: Array, next_kernel: Array, count: int) -> Indices:
    """Return `count` of n channels, in ascending order: those from which a least-squares fit comes
    closest to what the next layer computes from all.

    covariance: (n, n), of the channels. next_kernel: (n, m), of the next layer.
    """
    residual = _ridged(covariance)  # of the channels, given those selected
    products = residual @ next_kernel  # their covariances with the next layer's outputs
    selected: list[int] = []
    for _ in range(count):
        candidates = np.setdiff1d(np.arange(len(residual)), selected)
        gains = np.square(products[candidates]).sum(axis=1) / residual.diagonal()[candidates]
        best = int(candidates[np.argmax(gains)])
        column = residual[:, best] / residual[best, best]
        products = products - np.outer(column, products[best])
        residual = residual - np.outer(column, residual[best])
        selected.append(best)
    return np.sort(np.array(selected))


def _select_channels(
    teacher: keras.Model,
    layers: Sequence[ConvBatchNorm],
    index: int,
    count: int,
    sample: Floats,
) -> Indices:
    """Select output channels of the teacher's convolution `index`: those that the next pointwise
    convolution needs, or the last layer.
    """
    next_pointwise = index + 2
    if next_pointwise < len(layers):
        convolution, batch_norm = layers[next_pointwise]
        gamma, _, _, variance = batch_norm.get_weights()
        kernel = convolution.get_weights()[0][0, 0]  # (inputs, outputs)
        next_kernel = kernel * gamma / np.sqrt(variance + batch_norm.epsilon)
        inputs = _sample_positions(_activations(teacher, convolution.input, sample))
    else:
        next_kernel = teacher.layers[-1].get_weights()[0]
        inputs = _activations(teacher, teacher.layers[-1].input, sample)
    return select_greedily(np.cov(inputs, rowvar=False), next_kernel, count)


def _merge_upsampling(student: ConvBatchNorm, teacher: ConvBatchNorm, channels: Indices) -> None:
    """Set the student's first convolution. The teacher's works on a picture of twice the size, at
    every second place, on three times the same channel in -127.5..127.5; that is one convolution of
    the picture itself in 0..1, but for the border, which is padded with black instead of grey.
    """
    kernel = teacher.convolution.get_weights()[0][..., channels].sum(axis=2)  # (3, 3, channels)
    gamma, beta, mean, variance = _batch_norm_weights(teacher, channels)
    deviation = np.sqrt(variance + teacher.batch_norm.epsilon)
    mean = mean + 127.5 * kernel.sum(axis=(0, 1))
    # rows a and columns b of the large picture, from rows i and columns j of the small one;
    # channels c
    merged = 255 * np.einsum("ai,bj,abc->ijc", _UPSAMPLING, _UPSAMPLING, kernel)
    unit_variance = np.full_like(mean, 1 - student.batch_norm.epsilon)
    student.convolution.set_weights([(merged / deviation)[:, :, None].astype(np.float32)])
    student.batch_norm.set_weights([gamma, beta, mean / deviation, unit_variance])


def _copy_depthwise(student: ConvBatchNorm, teacher: ConvBatchNorm, channels: Indices) -> None:
    """Give a depthwise convolution the kernels of those channels."""
    kernel = teacher.convolution.get_weights()[0]  # (3, 3, channels, 1)
    student.convolution.set_weights([kernel[:, :, channels]])
    student.batch_norm.set_weights(_batch_norm_weights(teacher, channels))


def _fit_pointwise(
    student: ConvBatchNorm,
    teacher: ConvBatchNorm,
    channels: Indices,
    inputs: Floats,
    targets: Floats,
) -> None:
    """Fit a 1x1 convolution to compute the teacher's (n, h, w, channels) targets from the student's
    (n, h, w, c) inputs. Where only the student has halved the picture, its places are every second
    one of the teacher's.
    """
    if targets.shape[1] == 2 * inputs.shape[1]:
        targets = targets[:, 1::2, 1::2]
    kernel, bias = _least_squares(_sample_positions(inputs), _sample_positions(targets))
    gamma, beta, mean, variance = _batch_norm_weights(teacher, channels)
    student.convolution.set_weights([kernel[None, None]])
    student.batch_norm.set_weights([gamma, beta, mean - bias, variance])


def _batch_norm_weights(layer: ConvBatchNorm, channels: Indices) -> list[Array]:
    """Return gamma, beta, mean and variance of those channels."""
    return [values[channels] for values in layer.batch_norm.get_weights()]


def _least_squares(inputs: Array, targets: Array) -> list[Floats]:
    """Return the (n, m) kernel and the (m,) bias of the ridge regression of (rows, m) targets on
    (rows, n) inputs.
    """
    inputs = inputs.astype(np.float64)
    targets = targets.astype(np.float64)
    input_mean = inputs.mean(axis=0)
    target_mean = targets.mean(axis=0)
    centred = inputs - input_mean
    covariance = centred.T @ centred / len(inputs)
    cross_covariance = centred.T @ (targets - target_mean) / len(inputs)
    kernel = np.linalg.solve(_ridged(covariance), cross_covariance)
    bias = target_mean - input_mean @ kernel
    return [kernel.astype(np.float32), bias.astype(np.float32)]


def _ridged(covariance: Array) -> Array:
    """Return the (n, n) covariance with a small share of the mean variance added to its diagonal,
    so that it can be inverted.
    """
    ridge = _RIDGE * np.trace(covariance) / len(covariance)
    return covariance + ridge * np.eye(len(covariance))


def _activations(model: keras.Model, tensor: Any, sample: Floats) -> Floats:
    """Return what a tensor of the network is for each crop of the (n, s, s, 1) sample."""
    return keras.Model(model.input, tensor).predict(sample, batch_size=128, verbose=0)


def _sample_positions(maps: Floats) -> Floats:
    """Return about _POSITIONS of the positions of (n, h, w, channels) maps, as (rows, channels);
    the same ones for maps of the same size.
    """
    rows = maps.reshape(-1, maps.shape[-1])
    if len(rows) <= _POSITIONS:
        return rows
    return rows[np.random.default_rng(0).choice(len(rows), _POSITIONS, replace=False)]
