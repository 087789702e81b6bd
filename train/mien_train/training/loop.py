"""The one training loop, for float and for fake-quantized networks; it resumes after a kill at any
moment.

All randomness is a function of (seed, epoch, step): see samples.batches. There is no dropout for
that reason. After every epoch one file, state.npz, is replaced atomically; whoever is killed
repeats at most one epoch.
"""

import json
import logging
import math
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from mien_edge import files
from mien_edge.contract import LABELS, as_floats
from mien_edge.errors import RunError

from mien_train import metrics, progress
from mien_train.arrays import Array, Floats, Labels, Pixels
from mien_train.training import samples
from mien_train.training.recipes import Stage
from mien_train.training.samples import TrainingSet

History = list[dict[str, float]]
"""One entry an epoch: epoch, loss, accuracy, val_loss, val_accuracy, learning_rate, seconds."""

Initializer = Callable[[tf_keras.Model, TrainingSet], None]
"""Gives a network the weights that it starts from."""

_CLIP_NORM = 5.0
_NO_DECAY = ["gamma", "beta", "bias", "min", "max"]
_PREFETCHED = 4
_ADVICE = "is slow compared to the batch time"


def _is_no_advice(record: logging.LogRecord) -> bool:
    """Leave out Keras' advice to hurry in a callback: averaging the weights takes its time."""
    return _ADVICE not in record.getMessage()


logging.getLogger("tensorflow").addFilter(_is_no_advice)


class WarmupDecay(tf_keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to `peak`, then half a cosine (Loshchilov & Hutter 2016) or a line to zero at
    step `total`.

    peak: the greatest learning rate. warmup, total: steps. shape: 'cosine' or 'linear'.
    """

    def __init__(self, peak: float, warmup: int, total: int, shape: str) -> None:
        self.peak = peak
        self.warmup = warmup
        self.total = total
        self.shape = shape

    def __call__(self, step: Any) -> Any:
        """Return the learning rate at `step`."""
        step = tf.cast(step, tf.float32)
        warmup = (step + 1) / max(self.warmup, 1)
        progress = (step - self.warmup) / max(self.total - self.warmup, 1)
        progress = tf.clip_by_value(progress, 0.0, 1.0)
        decay = 0.5 * (1 + tf.cos(math.pi * progress)) if self.shape == "cosine" else 1 - progress
        return self.peak * tf.minimum(1.0, tf.where(step < self.warmup, warmup, decay))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, as Keras asks for."""
        return {"peak": self.peak, "warmup": self.warmup, "total": self.total, "shape": self.shape}


def train(
    build: Callable[[], tf_keras.Model],
    stage: Stage,
    training: TrainingSet,
    folder: Path,
    seed: int,
    max_epochs: int = 0,
    initialize: Initializer | None = None,
) -> History:
    """Train to the end of `stage`, to its plateau, or to epoch `max_epochs` where that is not 0;
    return the history.

    build: makes the network. initialize: gives it other weights before the first epoch. The
    averaged weights of the epoch with the best validation accuracy are in `folder`/best.npz
    afterwards. Calling again resumes, or does nothing when the stage is finished. Under TF_CONFIG
    this is one of several workers of MultiWorkerMirroredStrategy; they share `folder`. Raises
    RunError where there are fewer rows than a batch, or several workers would initialize.
    """
    strategy = _strategy()
    steps = len(training) // stage.batch_size
    if steps < 1:
        raise RunError(f"{len(training)} rows make no batch of {stage.batch_size}; give more data")
    checkpoint = _compile(strategy, build, stage, steps, folder, seed)
    history = checkpoint.restore()
    if not history:
        _initialize(strategy, checkpoint, training, initialize)
    epochs = min(max_epochs or stage.epochs, stage.epochs)
    if len(history) >= epochs or is_finished(history, stage):
        return history
    callbacks = [
        _MovingAverage(checkpoint.averaged, stage.ema_decay),
        _EpochEnd(checkpoint, stage, training, history, steps),
    ]
    with _tensorboard(checkpoint) as tensorboard:
        checkpoint.model.fit(
            _distribute(strategy, _WorkerBatches(training, stage, seed, len(history))),
            epochs=epochs,
            initial_epoch=len(history),
            steps_per_epoch=steps,
            verbose=0,
            callbacks=[*callbacks, *tensorboard],
        )
    return history


def loss(targets: Any, logits: Any) -> Any:
    """Return (b,) sums of the heads' cross-entropies in nats, of (b, heads, 7) targets and (b,
    heads * 7) logits.

    Written out, because TensorFlow's fused kernel takes the targets of a row to sum to one, and
    FER+'s need not.
    """
    logits = tf.reshape(logits, tf.shape(targets))
    return -tf.reduce_sum(targets * tf.nn.log_softmax(logits), axis=(1, 2))


def accuracy(targets: Any, logits: Any) -> Any:
    """Return (b,) float32: 1 where the first head's largest logit is its target's largest share,
    else 0.
    """
    label = tf.argmax(targets[:, 0], -1)
    predicted = tf.argmax(logits[:, : len(LABELS)], -1)
    return tf.cast(label == predicted, tf.float32)


def best_weights(folder: Path) -> list[Array]:
    """Return the weights that `train` selected, for `model.set_weights`. Raises RunError if the
    stage has not run.
    """
    try:
        with np.load(folder / "best.npz") as stored:
            return [stored[f"w{index}"] for index in range(len(stored.files))]
    except (OSError, ValueError, zipfile.BadZipFile):
        raise RunError(
            f"{folder / 'best.npz'}: no trained weights; run the step {folder.name!r} first"
        ) from None


def plateau(history: History, gain: float = 0.002) -> int:
    """Return the epoch (1-based) after which validation accuracy rose by less than `gain` in all; 0
    for no history.
    """
    accuracies = [entry["val_accuracy"] for entry in history]
    for epoch, value in enumerate(accuracies, start=1):
        if max(accuracies) - value < gain:
            return epoch
    return 0


def is_finished(history: History, stage: Stage) -> bool:
    """Whether `train` has nothing left to do after that history: its epochs are done, or it is at
    its plateau.
    """
    if len(history) >= stage.epochs:
        return True
    accuracies = [entry["val_accuracy"] for entry in history]
    if not accuracies:
        return False
    epochs_since_best = len(accuracies) - 1 - int(np.argmax(accuracies))
    return epochs_since_best >= stage.patience


def predict(model: tf_keras.Model, crops: Pixels, batch_size: int = 256) -> Floats:
    """Return (n, heads * 7) logits of normalized (n, s, s) uint8 crops."""
    return model.predict(as_floats(crops), batch_size=batch_size, verbose=0)


def _strategy() -> Any:
    if os.environ.get("TF_CONFIG"):
        return tf.distribute.MultiWorkerMirroredStrategy()
    return tf.distribute.get_strategy()


def _is_chief(strategy: Any) -> bool:
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    return (resolver.task_id or 0) == 0


def _compile(
    strategy: Any,
    build: Callable[[], tf_keras.Model],
    stage: Stage,
    steps: int,
    folder: Path,
    seed: int,
) -> "_Checkpoint":
    """Build the network, its optimizer and the network of its averaged weights, which start from
    the same seed.
    """
    with strategy.scope():
        tf_keras.utils.set_random_seed(seed)
        model = build()
        optimizer = _optimizer(stage, steps)
        optimizer.exclude_from_weight_decay(var_names=_NO_DECAY)
        model.compile(optimizer, loss, metrics=[accuracy])
        optimizer.build(model.trainable_variables)
    tf_keras.utils.set_random_seed(seed)
    return _Checkpoint(folder, model, optimizer, averaged=build(), is_chief=_is_chief(strategy))


def _optimizer(stage: Stage, steps: int) -> tf_keras.optimizers.Optimizer:
    warmup = stage.warmup_epochs * steps
    total = stage.epochs * steps
    schedule = WarmupDecay(stage.learning_rate, warmup, total, stage.schedule)
    shared = {"weight_decay": stage.weight_decay, "global_clipnorm": _CLIP_NORM}
    if stage.optimizer == "sgd":
        return tf_keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True, **shared)
    return tf_keras.optimizers.AdamW(schedule, **shared)


def _initialize(
    strategy: Any, checkpoint: "_Checkpoint", training: TrainingSet, initialize: Initializer | None
) -> None:
    """Give the network its first weights, and the averaged ones the same."""
    if initialize:
        if strategy.cluster_resolver:  # each worker would round otherwise and start elsewhere
            raise RunError(
                f"{checkpoint.folder}: start it without TF_CONFIG; "
                "workers can take over after its first epoch"
            )
        initialize(checkpoint.model, training)
    checkpoint.averaged.set_weights(checkpoint.model.get_weights())


@contextmanager
def _tensorboard(checkpoint: "_Checkpoint") -> Iterator[list[tf_keras.callbacks.Callback]]:
    """Yield what the chief writes for TensorBoard, which takes no path but in UTF-8."""
    if not checkpoint.is_chief:
        yield []
        return
    folder = checkpoint.folder / "tensorboard"
    folder.mkdir(parents=True, exist_ok=True)
    with files.utf8_path(folder) as path:
        yield [tf_keras.callbacks.TensorBoard(path, write_graph=False)]


def _distribute(strategy: Any, batches: "_WorkerBatches") -> Any:
    """Return this worker's batches as Keras' fit takes them."""
    if strategy.cluster_resolver is None:
        return batches.dataset(tf.distribute.InputContext())
    return strategy.distribute_datasets_from_function(batches.dataset)


@dataclass(frozen=True, eq=False)
class _WorkerBatches:
    """Each worker makes every batch and takes its own rows, so that any number of workers sees the
    same batches.
    """

    training: TrainingSet
    stage: Stage
    seed: int
    first_epoch: int

    def dataset(self, context: Any) -> tf.data.Dataset:
        """Return the endless batches of the worker that the tf.distribute.InputContext names."""
        size = self.training.preprocess.size
        crops = tf.TensorSpec((None, size, size, 1))
        targets = tf.TensorSpec((None, self.training.heads, len(LABELS)))
        rows = partial(self._rows, context.input_pipeline_id, context.num_input_pipelines)
        dataset = tf.data.Dataset.from_generator(rows, output_signature=(crops, targets))
        return dataset.prefetch(_PREFETCHED)

    def _rows(self, worker: int, workers: int) -> Iterator[tuple[Any, Any]]:
        stage = self.stage
        for images, targets in samples.batches(
            self.training, stage.augment, stage.batch_size, self.seed, self.first_epoch
        ):
            yield images[worker::workers], targets[worker::workers]


class _Checkpoint:
    """Saves and restores weights, optimizer, averaged weights and history in one file, which is
    replaced atomically.

    Only the chief of several workers writes.
    """

    def __init__(
        self,
        folder: Path,
        model: Any,
        optimizer: Any,
        averaged: Any,
        is_chief: bool,
    ) -> None:
        self.folder = folder
        self.model = model
        self.optimizer = optimizer
        self.averaged = averaged
        self.is_chief = is_chief

    def restore(self) -> History:
        """Load state.npz into networks and optimizer; return its history, which is empty where
        there is no file.
        """
        path = self.folder / "state.npz"
        if not path.exists():
            return []
        with np.load(path) as stored:
            history = json.loads(str(stored["history"]))
            weights, optimizer, averaged = (_load_arrays(stored, prefix) for prefix in "woa")
        self.model.set_weights(weights)
        self.averaged.set_weights(averaged)
        for variable, value in zip(self.optimizer.variables, optimizer, strict=True):
            variable.assign(value)
        return history

    def save(self, history: History) -> None:
        """Write state.npz and history.json, and best.npz if the last epoch is the best so far."""
        groups = self._read()  # by every worker, because reading may be a collective operation
        if not self.is_chief:
            return
        best = max(entry["val_accuracy"] for entry in history)
        if history[-1]["val_accuracy"] >= best:
            _save_arrays(self.folder / "best.npz", {"w": groups["a"]})
        files.write_text(self.folder / "history.json", json.dumps(history, indent=1) + "\n")
        scalars = {f"n_{prefix}": np.array(len(values)) for prefix, values in groups.items()}
        scalars["history"] = np.array(json.dumps(history))
        _save_arrays(self.folder / "state.npz", groups, **scalars)

    def _read(self) -> dict[str, list[Array]]:
        """Return the weights, the optimizer's variables and the averaged weights, by their prefix
        in state.npz.
        """
        return {
            "w": self.model.get_weights(),
            "o": [variable.numpy() for variable in self.optimizer.variables],
            "a": self.averaged.get_weights(),
        }


def _load_arrays(stored: Any, prefix: str) -> list[Array]:
    count = int(stored[f"n_{prefix}"])
    return [stored[f"{prefix}{index}"] for index in range(count)]


def _save_arrays(path: Path, groups: dict[str, list[Array]], **scalars: Array) -> None:
    arrays: dict[str, Array] = {}
    for prefix, values in groups.items():
        arrays |= {f"{prefix}{index}": value for index, value in enumerate(values)}
    with files.atomic_write(path) as temporary:
        np.savez(temporary, **arrays, **scalars)  # type: ignore[arg-type]


class _MovingAverage(tf_keras.callbacks.Callback):
    """Exponential moving average of all weights after every step; the first steps count more, as in
    TensorFlow.
    """

    def __init__(self, averaged: tf_keras.Model, decay: float) -> None:
        super().__init__()
        self.averaged = averaged
        self.decay = decay

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


class _EpochEnd(tf_keras.callbacks.Callback):
    """Shows a progress bar, validates the averaged weights, saves, and stops at a plateau.

    history: is appended to. Only the chief of several workers shows anything.
    """

    def __init__(
        self,
        checkpoint: _Checkpoint,
        stage: Stage,
        training: TrainingSet,
        history: History,
        steps: int,
    ) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self.stage = stage
        self.training = training
        self.history = history
        self.steps = steps
        self.crops = training.preprocess.normalize(training.validation_images)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.started_at = time.monotonic()
        title = self._title(epoch + 1)
        self.shown = progress.Progress(title, "steps", self.steps, shown=self.checkpoint.is_chief)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        figures = [f"{name} {logs[name]:.3f}" for name in ("loss", "accuracy")]
        self.shown.update(note=", ".join(figures))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.shown.close()
        entry = self._entry(epoch + 1, logs)
        self.history.append(entry)
        logs.update(entry)
        self.checkpoint.save(self.history)
        if self.checkpoint.is_chief:
            progress.write(
                f"{self._title(epoch + 1, width=3)}  loss {entry['loss']:.3f}  "
                f"accuracy {entry['accuracy']:.3f}  validation {entry['val_accuracy']:.4f}  "
                f"{entry['seconds']:.0f} s"
            )
        self.model.stop_training = is_finished(self.history, self.stage)

    def _title(self, epoch: int, width: int = 0) -> str:
        return f"{self.checkpoint.folder.name} {epoch:{width}d}/{self.stage.epochs}"

    def _entry(self, epoch: int, logs: Any) -> dict[str, float]:
        """Return the epoch's entry in the history; with several heads it holds the accuracy of
        each, too.
        """
        losses, accuracies = self._validate()
        entry = {
            "epoch": epoch,
            "loss": float(logs["loss"]),
            "accuracy": float(logs["accuracy"]),
            "val_loss": sum(losses),
            "val_accuracy": float(np.mean(accuracies)),
        }
        if len(accuracies) > 1:
            entry |= {f"val_accuracy_{index}": value for index, value in enumerate(accuracies)}
        entry["learning_rate"] = float(tf.convert_to_tensor(self.model.optimizer.learning_rate))
        entry["seconds"] = time.monotonic() - self.started_at
        return entry

    def _validate(self) -> tuple[list[float], list[float]]:
        """Return the negative log-likelihood and the accuracy of each head, on the rows that have a
        label for it.
        """
        logits = predict(self.checkpoint.averaged, self.crops)
        logits = logits.reshape(len(self.crops), -1, len(LABELS))
        losses = []
        accuracies = []
        for head in range(logits.shape[1]):
            labels = self.training.validation_labels[:, head]
            labelled = labels >= 0
            head_logits = logits[labelled, head]
            losses.append(metrics.nll(head_logits, labels[labelled], 1.0))
            accuracies.append(_accuracy(head_logits, labels[labelled]))
        return losses, accuracies


def _accuracy(logits: Floats, labels: Labels) -> float:
    """Return the share of (n, 7) logits whose largest is that of the (n,) label."""
    return float((logits.argmax(axis=1) == labels).mean())
