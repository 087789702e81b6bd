"""Starting weights for a small MobileNet, cut out of a large one: channels that the next layer can do without go, and
the kernels of those that stay are fitted anew, layer by layer, so that each still computes what it did.

Channels are chosen greedily, each time the one that explains most of what the next layer makes of all (ThiNet, Luo et
al. 2017, with the greedy choice solved in closed form); kernels by least squares on the cut network's own activations
(He, Zhang & Sun 2017).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tf_keras
from mien_edge.contract import as_floats
from numpy.typing import NDArray

from mien_train.training import networks

_SAMPLE = 512  # crops to fit on
_POSITIONS = 40_000  # of their maps' positions, about
_RIDGE = 1e-4  # of the mean variance of what is fitted on
_ENLARGING = np.array([[0.25, 0.75, 0.0], [0.0, 0.75, 0.25], [0.0, 0.25, 0.75]])
"""Three neighbours in the picture of twice the size, of three in the picture (bilinear, pixel centres at halves)."""


def prune(model: tf_keras.Model, large: tf_keras.Model, crops: NDArray[np.uint8]) -> None:
    """Give `model`, a networks.mobile, the weights of `large`, a networks.face that doubles the picture, cut to the
    model's widths. crops: toned (n, s, s) of the training rows.
    """
    told = as_floats(crops[:: max(len(crops) // _SAMPLE, 1)][:_SAMPLE])
    ours, theirs = networks.conv_bn_pairs(model), networks.conv_bn_pairs(large)
    kept = _choose(large, theirs, 0, ours[0][0].filters, told)
    _first(ours[0], theirs[0], kept)
    for number in range(1, len(ours), 2):  # a depthwise convolution, and a 1x1
        _copy(ours[number], theirs[number], kept)
        kept = _choose(large, theirs, number + 1, ours[number + 1][0].filters, told)
        given = _told(model, ours[number + 1][0].input, told)
        aim = _told(large, theirs[number + 1][0].output, told)[..., kept]
        _fit(ours[number + 1], theirs[number + 1], kept, given, aim)
    features = _told(model, model.layers[-1].input, told)
    model.layers[-1].set_weights(_least_squares(features, _told(large, large.output, told)))


def _choose(
    large: tf_keras.Model, theirs: Sequence[tuple[Any, Any]], number: int, count: int, told: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Which channels of convolution `number` to keep: those that the next but one, a 1x1, or the last layer needs."""
    if number + 2 < len(theirs):
        kernel, scale = theirs[number + 2]
        gamma, _, _, variance = scale.get_weights()
        onward = kernel.get_weights()[0][0, 0] * gamma / np.sqrt(variance + scale.epsilon)
        seen = _rows(_told(large, kernel.input, told))
    else:
        onward = large.layers[-1].get_weights()[0]
        seen = _told(large, large.layers[-1].input, told)
    return greedy(np.cov(seen, rowvar=False), onward, count)


def greedy(covariance: NDArray[Any], onward: NDArray[Any], count: int) -> NDArray[np.int64]:
    """`count` of the n channels with that (n, n) covariance, of which a least-squares fit comes closest to what all
    make through `onward` (n, m); in ascending order.
    """
    left = _ridged(covariance)
    made = left @ onward
    chosen: list[int] = []
    for _ in range(count):
        free = np.setdiff1d(np.arange(len(left)), chosen)
        best = int(free[np.argmax(np.square(made[free]).sum(axis=1) / left.diagonal()[free])])
        column = left[:, best] / left[best, best]
        made = made - np.outer(column, made[best])
        left = left - np.outer(column, left[best])
        chosen.append(best)
    return np.sort(np.array(chosen))


def _first(ours: tuple[Any, Any], theirs: tuple[Any, Any], kept: NDArray[np.int64]) -> None:
    """The first convolution. Over the picture of twice the size, at every second place, three times the same channel in
    -127.5..127.5, it is one over the picture itself in 0..1; but for the border, padded with black instead of grey.
    """
    kernel = theirs[0].get_weights()[0][..., kept].sum(axis=2)
    gamma, beta, mean, variance = (each[kept] for each in theirs[1].get_weights())
    spread = np.sqrt(variance + theirs[1].epsilon)
    mean = mean + 127.5 * kernel.sum(axis=(0, 1))
    own = 255 * np.einsum("ai,bj,abc->ijc", _ENLARGING, _ENLARGING, kernel)
    ours[0].set_weights([(own / spread)[:, :, None].astype(np.float32)])
    ours[1].set_weights([gamma, beta, mean / spread, np.full_like(mean, 1 - ours[1].epsilon)])


def _copy(ours: tuple[Any, Any], theirs: tuple[Any, Any], kept: NDArray[np.int64]) -> None:
    """A depthwise convolution: each channel's own kernel."""
    ours[0].set_weights([theirs[0].get_weights()[0][:, :, kept]])
    ours[1].set_weights([each[kept] for each in theirs[1].get_weights()])


def _fit(
    ours: tuple[Any, Any],
    theirs: tuple[Any, Any],
    kept: NDArray[np.int64],
    given: NDArray[np.float32],
    aim: NDArray[np.float32],
) -> None:
    """A 1x1 convolution, to make of the cut network's activations what the whole one makes of its own. Where only the
    cut network has halved the picture, its places are every second one of the other's.
    """
    if aim.shape[1] == 2 * given.shape[1]:
        aim = aim[:, 1::2, 1::2]
    kernel, bias = _least_squares(_rows(given), _rows(aim))
    gamma, beta, mean, variance = (each[kept] for each in theirs[1].get_weights())
    ours[0].set_weights([kernel[None, None]])
    ours[1].set_weights([gamma, beta, mean - bias, variance])


def _least_squares(given: NDArray[Any], aim: NDArray[Any]) -> list[NDArray[np.float32]]:
    """(n, m) kernel and (m,) bias of the ridge regression of (rows, m) on (rows, n)."""
    given, aim = given.astype(np.float64), aim.astype(np.float64)
    middle, target = given.mean(axis=0), aim.mean(axis=0)
    covariance = (given - middle).T @ (given - middle) / len(given)
    kernel = np.linalg.solve(_ridged(covariance), (given - middle).T @ (aim - target) / len(given))
    return [kernel.astype(np.float32), (target - middle @ kernel).astype(np.float32)]


def _ridged(covariance: NDArray[Any]) -> NDArray[Any]:
    """Made safe to divide by."""
    return covariance + _RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))


def _told(model: tf_keras.Model, tensor: Any, told: NDArray[np.float32]) -> NDArray[np.float32]:
    return tf_keras.Model(model.input, tensor).predict(told, batch_size=128, verbose=0)


def _rows(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """About _POSITIONS of the positions of (n, h, w, channels): the same for maps of the same size."""
    rows = maps.reshape(-1, maps.shape[-1])
    if len(rows) <= _POSITIONS:
        return rows
    return rows[np.random.default_rng(0).choice(len(rows), _POSITIONS, replace=False)]
