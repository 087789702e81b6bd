"""The one training loop, for float and for fake-quantised networks; it resumes after a kill at any moment.

All randomness is a function of (seed, epoch, step): see material.batches. There is no dropout for that reason. After
every epoch one file, state.npz, appears whole; whoever is killed repeats at most one epoch.
"""

import json
import math
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from mien_edge import files
from mien_edge.contract import LABELS, as_floats
from mien_edge.errors import RunError
from numpy.typing import NDArray
from tqdm import tqdm

from mien_train import metrics
from mien_train.training import samples as materials
from mien_train.training.recipes import Stage
from mien_train.training.samples import TrainingSet


class Falling(tf_keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to `peak`, then half a cosine (Loshchilov & Hutter 2016) or a line to zero at step `total`."""

    def __init__(self, peak: float, warmup: int, total: int, shape: str) -> None:
        self.peak, self.warmup, self.total, self.shape = peak, warmup, total, shape

    def __call__(self, step: Any) -> Any:
        """The learning rate at `step`."""
        step = tf.cast(step, tf.float32)
        rising = (step + 1) / max(self.warmup, 1)
        share = tf.clip_by_value((step - self.warmup) / max(self.total - self.warmup, 1), 0.0, 1.0)
        falling = 0.5 * (1 + tf.cos(math.pi * share)) if self.shape == "cosine" else 1 - share
        return self.peak * tf.minimum(1.0, tf.where(step < self.warmup, rising, falling))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as Keras asks for."""
        return {"peak": self.peak, "warmup": self.warmup, "total": self.total, "shape": self.shape}


def train(
    build: Callable[[], tf_keras.Model],
    stage: Stage,
    material: TrainingSet,
    folder: Path,
    seed: int,
    until: int = 0,
    start: Callable[[tf_keras.Model], None] | None = None,
) -> list[dict[str, float]]:
    """Train to the end of `stage`, to its plateau, or to epoch `until` where that is not 0, and return the history, one
    entry per epoch.

    `build` makes the network; `start` gives it others before the first epoch. The averaged weights of the epoch with
    the best validation accuracy are in `folder`/best.npz afterwards. Calling again resumes, or does nothing when all is
    done. Under TF_CONFIG this is one of several workers of MultiWorkerMirroredStrategy; they share `folder`.
    """
    strategy = _strategy()
    steps = len(material.images) // stage.batch_size
    if steps < 1:
        raise RunError(f"{len(material.images)} rows make no batch of {stage.batch_size}; give more data")
    with strategy.scope():
        tf_keras.utils.set_random_seed(seed)
        model = build()
        optimizer = _optimizer(stage, steps)
        optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias", "min", "max"])
        model.compile(optimizer, loss, metrics=[accuracy])
        optimizer.build(model.trainable_variables)
    tf_keras.utils.set_random_seed(seed)
    averaged = build()
    keeper = _Keeper(folder, model, optimizer, averaged, _is_chief(strategy))
    history = keeper.restore()
    if not history:
        if start and strategy.cluster_resolver:  # each would round otherwise and start elsewhere
            raise RunError(f"{folder}: start it without TF_CONFIG; workers can take over after its first epoch")
        if start:
            start(model)
        averaged.set_weights(model.get_weights())
    epochs = min(until or stage.epochs, stage.epochs)
    if len(history) >= epochs or is_over(history, stage):
        return history
    callbacks = [
        _Average(averaged, stage.average),
        _Epoch(keeper, stage, material, history, steps, _is_chief(strategy)),
    ]
    if _is_chief(strategy):
        callbacks.append(tf_keras.callbacks.TensorBoard(str(folder / "tensorboard"), write_graph=False))
    dataset = _dataset(strategy, material, stage, seed, len(history))
    model.fit(dataset, epochs=epochs, initial_epoch=len(history), steps_per_epoch=steps, verbose=0, callbacks=callbacks)
    return history


def loss(targets: Any, logits: Any) -> Any:
    """(b,) sums of the heads' cross-entropies in nats: (b, heads, 7) targets, (b, heads * 7) logits.

    Written out, for TensorFlow's fused kernel takes the targets of a row to sum to one, and FER+'s need not.
    """
    logits = tf.reshape(logits, tf.shape(targets))
    return -tf.reduce_sum(targets * tf.nn.log_softmax(logits), axis=(1, 2))


def accuracy(targets: Any, logits: Any) -> Any:
    """(b,) 1 where the first head's largest logit is its target's largest share, else 0."""
    return tf.cast(tf.argmax(targets[:, 0], -1) == tf.argmax(logits[:, : len(LABELS)], -1), tf.float32)


def best_weights(folder: Path) -> list[NDArray[Any]]:
    """The weights that `train` chose, for `model.set_weights`. Raises RunError if the stage has not run."""
    try:
        with np.load(folder / "best.npz") as stored:
            return [stored[f"w{i}"] for i in range(len(stored.files))]
    except (OSError, ValueError, zipfile.BadZipFile):
        raise RunError(f"{folder / 'best.npz'}: no trained weights; run the step {folder.name!r} first") from None


def plateau(history: list[dict[str, float]], gain: float = 0.002) -> int:
    """The epoch (1-based) after which validation accuracy rose by less than `gain` in all; 0 for no history."""
    accuracies = [entry["val_accuracy"] for entry in history]
    return next((i + 1 for i, value in enumerate(accuracies) if max(accuracies) - value < gain), 0)


def predict(model: tf_keras.Model, crops: NDArray[np.uint8], batch_size: int = 256) -> NDArray[np.float32]:
    """(n, heads * 7) logits of toned (n, s, s) uint8 crops."""
    return model.predict(as_floats(crops), batch_size=batch_size, verbose=0)


def _strategy() -> Any:
    return tf.distribute.MultiWorkerMirroredStrategy() if os.environ.get("TF_CONFIG") else tf.distribute.get_strategy()


def _is_chief(strategy: Any) -> bool:
    resolver = strategy.cluster_resolver
    return resolver is None or not resolver.task_type or (resolver.task_id or 0) == 0


def _optimizer(stage: Stage, steps: int) -> tf_keras.optimizers.Optimizer:
    schedule = Falling(stage.learning_rate, stage.warmup * steps, stage.epochs * steps, stage.schedule)
    more = {"weight_decay": stage.weight_decay, "global_clipnorm": 5.0}
    if stage.optimizer == "sgd":
        return tf_keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True, **more)
    return tf_keras.optimizers.AdamW(schedule, **more)


def _dataset(strategy: Any, material: TrainingSet, stage: Stage, seed: int, first_epoch: int) -> Any:
    """Each worker makes every batch and keeps its own rows, so that any number of workers sees the same batches."""

    def rows(worker: int, workers: int) -> Iterator[tuple[Any, Any]]:
        for images, targets in materials.batches(material, stage.augment, stage.batch_size, seed, first_epoch):
            yield images[worker::workers], targets[worker::workers]

    def make(context: Any) -> tf.data.Dataset:
        size = material.preprocess.size
        signature = (tf.TensorSpec((None, size, size, 1)), tf.TensorSpec((None, material.heads, len(LABELS))))
        arguments = (context.input_pipeline_id, context.num_input_pipelines)
        return tf.data.Dataset.from_generator(lambda: rows(*arguments), output_signature=signature).prefetch(4)

    if strategy.cluster_resolver is None:
        return make(tf.distribute.InputContext())
    return strategy.distribute_datasets_from_function(make)


def is_over(history: list[dict[str, float]], stage: Stage) -> bool:
    """Whether `train` has nothing left to do after that history: its epochs are done, or it is at its plateau."""
    if len(history) >= stage.epochs:
        return True
    accuracies = [entry["val_accuracy"] for entry in history]
    return bool(accuracies) and len(accuracies) - 1 - int(np.argmax(accuracies)) >= stage.patience


class _Keeper:
    """Saves and restores weights, optimiser, averaged weights and history in one file that appears whole."""

    def __init__(self, folder: Path, model: Any, optimizer: Any, averaged: Any, writes: bool) -> None:
        self.folder, self.writes = folder, writes
        self.model, self.averaged, self.optimizer = model, averaged, optimizer

    def restore(self) -> list[dict[str, float]]:
        path = self.folder / "state.npz"
        if not path.exists():
            return []
        with np.load(path) as stored:
            history = json.loads(str(stored["history"]))
            groups = {p: [stored[f"{p}{i}"] for i in range(int(stored[f"n_{p}"]))] for p in "woa"}
        self.model.set_weights(groups["w"])
        self.averaged.set_weights(groups["a"])
        for variable, value in zip(self.optimizer.variables, groups["o"], strict=True):
            variable.assign(value)
        return history

    def save(self, history: list[dict[str, float]]) -> None:
        groups = {
            "w": self.model.get_weights(),
            "o": [variable.numpy() for variable in self.optimizer.variables],
            "a": self.averaged.get_weights(),
        }
        if not self.writes:
            return
        is_best = history[-1]["val_accuracy"] >= max(entry["val_accuracy"] for entry in history)
        if is_best:
            _save_arrays(self.folder / "best.npz", {"w": groups["a"]})
        files.write_text(self.folder / "history.json", json.dumps(history, indent=1) + "\n")
        counts = {f"n_{prefix}": np.array(len(values)) for prefix, values in groups.items()}
        _save_arrays(self.folder / "state.npz", groups, history=np.array(json.dumps(history)), **counts)


def _save_arrays(path: Path, groups: dict[str, list[NDArray[Any]]], **more: NDArray[Any]) -> None:
    arrays = {f"{prefix}{i}": value for prefix, values in groups.items() for i, value in enumerate(values)}
    with files.atomic_write(path) as temporary:
        np.savez(temporary, **arrays, **more)  # type: ignore[arg-type]


class _Average(tf_keras.callbacks.Callback):
    """Exponential moving average of all weights after every step; the first steps count more, as in TensorFlow."""

    def __init__(self, averaged: tf_keras.Model, decay: float) -> None:
        super().__init__()
        self.averaged, self.decay = averaged, decay

    def on_train_begin(self, logs: Any = None) -> None:
        pairs = list(zip(self.averaged.weights, self.model.weights, strict=True))

        @tf.function
        def update(share: Any) -> None:
            for mean, weight in pairs:
                if mean.dtype.is_floating:
                    mean.assign_add((tf.convert_to_tensor(weight) - mean) * share)
                else:
                    mean.assign(tf.convert_to_tensor(weight))

        self.update = update

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        step = float(self.model.optimizer.iterations.numpy())
        decay = min(self.decay, (1 + step) / (10 + step))
        self.update(tf.constant(1 - decay, tf.float32))


class _Epoch(tf_keras.callbacks.Callback):
    """Progress bar, validation of the averaged weights, saving, and the stop at a plateau."""

    def __init__(
        self,
        keeper: _Keeper,
        stage: Stage,
        material: TrainingSet,
        history: list[dict[str, float]],
        steps: int,
        shows: bool,
    ) -> None:
        super().__init__()
        self.keeper, self.stage, self.material, self.history = keeper, stage, material, history
        self.steps, self.shows = steps, shows
        self.crops = material.preprocess.normalize(material.validation_images)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.started = time.monotonic()
        title = f"{self.keeper.folder.name} {epoch + 1}/{self.stage.epochs}"
        self.bar = tqdm(total=self.steps, desc=title, unit=" steps", leave=False, disable=None if self.shows else True)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.bar.update()
        self.bar.set_postfix(loss=f"{logs['loss']:.3f}", accuracy=f"{logs['accuracy']:.3f}", refresh=False)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.bar.close()
        heads = self._validate()
        entry = {
            "epoch": epoch + 1,
            "loss": float(logs["loss"]),
            "accuracy": float(logs["accuracy"]),
            "val_loss": sum(lost for lost, _ in heads),
            "val_accuracy": float(np.mean([right for _, right in heads])),
            **({f"val_accuracy_{i}": right for i, (_, right) in enumerate(heads)} if len(heads) > 1 else {}),
            "learning_rate": float(tf.convert_to_tensor(self.model.optimizer.learning_rate)),
            "seconds": time.monotonic() - self.started,
        }
        self.history.append(entry)
        logs.update(entry)
        self.keeper.save(self.history)
        if self.shows:
            tqdm.write(
                f"{self.keeper.folder.name} {epoch + 1:3d}/{self.stage.epochs}  loss {entry['loss']:.3f}  "
                f"accuracy {entry['accuracy']:.3f}  validation {entry['val_accuracy']:.4f}  {entry['seconds']:.0f} s"
            )
        self.model.stop_training = is_over(self.history, self.stage)

    def _validate(self) -> list[tuple[float, float]]:
        """(negative log-likelihood, accuracy) of each head, on the rows that have a label for it."""
        logits = predict(self.keeper.averaged, self.crops).reshape(len(self.crops), -1, len(LABELS))
        found = []
        for head in range(logits.shape[1]):
            labels = self.material.validation_labels[:, head]
            known = labels >= 0
            right = logits[known, head].argmax(axis=1) == labels[known]
            found.append((metrics.nll(logits[known, head], labels[known], 1.0), float(right.mean())))
        return found
