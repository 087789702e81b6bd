"""One compiled training step, on TensorFlow's, JAX's or PyTorch's backend of Keras.

Keras' own `fit` hides what a moving average of all weights needs, and each backend hides it
elsewhere; so each has its step here, written out: gradient, optimizer, average. What is computed
is the same (`_Learner`), in `keras.ops`.

PyTorch's step runs operation by operation: nothing here needs its compiler, which needs one of C++.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import keras
import numpy as np
from keras import ops

from mien_train.training.samples import Batch

_WARM_UP = 10  # steps, about, in which the average follows the weights more closely


class Figures(NamedTuple):
    """Of all rows since the last call: the mean loss, and the share whose first head is right."""

    loss: float
    accuracy: float


class Step(Protocol):
    """Learns from one batch after the other."""

    def __call__(self, batch: Batch) -> None:
        """Learn from a batch."""

    def figures(self) -> Figures:
        """Return the figures since the last call, and begin new ones; this waits for the device."""

    def finish(self) -> None:
        """Let the Keras variables of networks and optimizer have their values."""


def make_step(
    model: keras.Model,
    averaged: keras.Model,
    optimizer: Any,
    head_sizes: Sequence[int],
    decay: float,
) -> Step:
    """Return the step of the backend in use.

    model: learns. averaged: has its weights' exponential moving average with that decay, in which
    the first steps count more. optimizer: built for the model. head_sizes: outputs of each head.
    """
    learner = _Learner(model, averaged, optimizer, tuple(head_sizes), decay)
    return _STEPS[keras.backend.backend()](learner)


def loss(targets: Any, logits: Any, head_sizes: Sequence[int]) -> Any:
    """Return (b,) sums of the heads' cross-entropies in nats, of (b, outputs) targets and logits.

    A row's targets for a head may sum to less than one, and then count less.
    """
    total = 0.0
    start = 0
    for size in head_sizes:
        head = slice(start, start + size)
        log_probabilities = ops.log_softmax(logits[:, head], axis=-1)
        total = total - ops.sum(targets[:, head] * log_probabilities, axis=-1)
        start += size
    return total


def blend(values: Any, partners: Any, shares: Any) -> Any:
    """Blend each row of a tensor with its partner (mixup, Zhang et al. 2017)."""
    own = ops.reshape(shares, (-1, *[1] * (len(values.shape) - 1)))
    return own * values + (1 - own) * ops.take(values, partners, axis=0)


@dataclass(frozen=True, eq=False)
class _Learner:
    """What a step computes, whatever the backend."""

    model: keras.Model
    averaged: keras.Model
    optimizer: Any
    head_sizes: tuple[int, ...]
    decay: float

    def inputs(self, batch: Batch) -> tuple[Any, Any]:
        """Return the (b, s, s, 1) crops in 0..1 and the (b, outputs) targets, blended."""
        crops, targets, partners, shares = batch
        floats = ops.expand_dims(ops.cast(crops, "float32") / 255, -1)
        return blend(floats, partners, shares), blend(targets, partners, shares)

    def sums(self, targets: Any, logits: Any, losses: Any) -> Any:
        """Return (4,): rows, their losses, rows with a target of the first head, those right."""
        head = slice(0, self.head_sizes[0])
        own = targets[:, head]
        has_target = ops.cast(ops.sum(own, axis=-1) > 0, "float32")
        is_right = ops.cast(ops.argmax(own, -1) == ops.argmax(logits[:, head], -1), "float32")
        rows = ops.sum(ops.ones_like(losses))
        right = ops.sum(is_right * has_target)
        return ops.stack([rows, ops.sum(losses), ops.sum(has_target), right])

    def share_of_new(self, step: Any) -> Any:
        """Return how much the weights after that step count in the average."""
        step = ops.cast(step, "float32")
        return 1 - ops.minimum(self.decay, (1 + step) / (_WARM_UP + step))


class _Sums:
    """The sums of `_Learner.sums` over steps, fetched when they are asked for."""

    def __init__(self) -> None:
        self.value: Any = 0.0

    def add(self, sums: Any) -> None:
        self.value = self.value + sums

    def figures(self) -> Figures:
        value = self.value
        self.value = 0.0
        if isinstance(value, float):  # no step since
            return Figures(float("nan"), float("nan"))
        rows, losses, targeted, right = ops.convert_to_numpy(value)
        return Figures(float(losses / rows), float(right / max(targeted, 1)))


class _TensorFlowStep:
    def __init__(self, learner: _Learner) -> None:
        import tensorflow as tf

        self._tf = tf
        self._learner = learner
        self._sums = _Sums()
        self._learn = tf.function(self._learn_eagerly, reduce_retracing=True)

    def __call__(self, batch: Batch) -> None:
        self._sums.add(self._learn(*map(self._tf.convert_to_tensor, batch)))

    def figures(self) -> Figures:
        return self._sums.figures()

    def finish(self) -> None:
        """Its variables are Keras' own."""

    def _learn_eagerly(self, *batch: Any) -> Any:
        learner = self._learner
        model = learner.model
        crops, targets = learner.inputs(Batch(*batch))
        with self._tf.GradientTape() as tape:
            logits = ops.cast(model(crops, training=True), "float32")
            losses = loss(targets, logits, learner.head_sizes)
            mean = ops.mean(losses)
        gradients = tape.gradient(mean, [v.value for v in model.trainable_variables])
        learner.optimizer.apply(gradients, model.trainable_variables)
        _average_in_place(learner)
        return learner.sums(targets, logits, losses)


class _TorchStep:
    def __init__(self, learner: _Learner) -> None:
        import torch

        self._torch = torch
        self._learner = learner
        self._sums = _Sums()

    def __call__(self, batch: Batch) -> None:
        learner = self._learner
        model = learner.model
        crops, targets = learner.inputs(Batch(*map(ops.convert_to_tensor, batch)))
        model.zero_grad()
        logits = ops.cast(model(crops, training=True), "float32")
        losses = loss(targets, logits, learner.head_sizes)
        ops.mean(losses).backward()
        gradients = [variable.value.grad for variable in model.trainable_variables]
        with self._torch.no_grad():
            learner.optimizer.apply(gradients, model.trainable_variables)
            _average_in_place(learner)
            self._sums.add(learner.sums(targets, logits, losses))

    def figures(self) -> Figures:
        return self._sums.figures()

    def finish(self) -> None:
        """Its variables are Keras' own."""


def _average_in_place(learner: _Learner) -> None:
    share = learner.share_of_new(learner.optimizer.iterations)
    pairs = zip(learner.averaged.variables, learner.model.variables, strict=True)
    for average, variable in pairs:
        new = ops.cast(variable, "float32")
        average.assign(average + (new - ops.cast(average, "float32")) * share)


class _State(NamedTuple):
    """All that a step on JAX changes, as lists of arrays in the order of Keras' variables."""

    trainable: list[Any]
    others: list[Any]
    optimizer: list[Any]
    averaged_trainable: list[Any]
    averaged_others: list[Any]


class _JaxStep:
    """On JAX a step is a function of the state, compiled once; several processes under
    jax.distributed have a part of each batch each, and compute what one would with all of it.
    """

    def __init__(self, learner: _Learner) -> None:
        import jax

        self._jax = jax
        self._learner = learner
        self._sums = _Sums()
        mesh = jax.sharding.Mesh(np.array(jax.devices()), ("rows",))
        spec = jax.sharding.PartitionSpec
        self._everywhere = jax.sharding.NamedSharding(mesh, spec())
        self._by_rows = jax.sharding.NamedSharding(mesh, spec("rows"))
        self._state = jax.tree.map(self._replicate, self._variables())
        self._learn = jax.jit(
            self._learn_functionally,
            donate_argnums=0,
            out_shardings=(self._everywhere, self._everywhere),
        )

    def __call__(self, batch: Batch) -> None:
        distribute = partial(self._jax.make_array_from_process_local_data, self._by_rows)
        self._state, sums = self._learn(self._state, Batch(*map(distribute, batch)))
        self._sums.add(sums)

    def figures(self) -> Figures:
        return self._sums.figures()

    def finish(self) -> None:
        for variables, values in zip(self._keras_variables(), self._state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(np.asarray(value))

    def _replicate(self, value: Any) -> Any:
        values = np.asarray(value)
        return self._jax.make_array_from_process_local_data(self._everywhere, values, values.shape)

    def _keras_variables(self) -> _State:
        model = self._learner.model
        averaged = self._learner.averaged
        return _State(
            model.trainable_variables,
            model.non_trainable_variables,
            self._learner.optimizer.variables,
            averaged.trainable_variables,
            averaged.non_trainable_variables,
        )

    def _variables(self) -> _State:
        values = [[v.value for v in variables] for variables in self._keras_variables()]
        return _State(*values)

    def _learn_functionally(self, state: _State, batch: Batch) -> tuple[_State, Any]:
        learner = self._learner
        crops, targets = learner.inputs(batch)

        def mean_loss(trainable: list[Any]) -> tuple[Any, Any]:
            logits, others = learner.model.stateless_call(
                trainable, state.others, crops, training=True
            )
            logits = ops.cast(logits, "float32")
            losses = loss(targets, logits, learner.head_sizes)
            return ops.mean(losses), (learner.sums(targets, logits, losses), others)

        gradient = self._jax.grad(mean_loss, has_aux=True)
        gradients, (sums, others) = gradient(state.trainable)
        trainable, optimizer = learner.optimizer.stateless_apply(
            state.optimizer, gradients, state.trainable
        )
        share = learner.share_of_new(optimizer[0])  # the first is the count of steps

        def average(old: Any, new: Any) -> Any:
            return old + (new - old) * share

        means = self._jax.tree.map(average, state.averaged_trainable, trainable)
        other_means = self._jax.tree.map(average, state.averaged_others, others)
        return _State(trainable, others, optimizer, means, other_means), sums


_STEPS: dict[str, Callable[[_Learner], Step]] = {
    "tensorflow": _TensorFlowStep,
    "jax": _JaxStep,
    "torch": _TorchStep,
}
