"""The one training loop, for float and for fake-quantized networks, on each of Keras' backends; it
resumes after a kill at any moment.

All randomness is a function of (seed, epoch, step): see samples.PortionMaker. There is no dropout
for that reason. After every epoch one file, state.npz, is replaced atomically; whoever is killed
repeats at most one epoch.
"""

import json
import math
import random
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
from keras import ops
from mien_edge import files
from mien_edge.contract import as_floats
from mien_edge.errors import RunError

from mien_train import metrics, progress
from mien_train.arrays import Array, Floats, Labels, Pixels
from mien_train.data.heads import split_heads
from mien_train.training import steps, workers
from mien_train.training.recipes import Stage
from mien_train.training.samples import Batches, TrainingSet
from mien_train.training.steps import Step

History = list[dict[str, float]]
"""One entry an epoch: epoch, loss, accuracy, val_loss, val_accuracy, learning_rate, seconds,
pictures_per_second, input_per_second (what its pictures' makers do, alone).
"""

Initializer = Callable[[keras.Model, TrainingSet], None]
"""Gives a network the weights that it starts from."""

Predictor = Callable[[keras.Model, Pixels], Floats]
"""Computes a network's (n, outputs) logits of normalized (n, s, s) uint8 crops."""

_FORMAT = 2
"""Of state.npz: 1, which names no format, had the optimizer of another Keras."""

_CLIP_NORM = 5.0
_NO_DECAY = ["gamma", "beta", "bias"]
_STEPS_PER_NOTE = 10  # a note on the progress bar waits for the device


class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
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
        step = ops.cast(step, "float32")
        warmup = (step + 1) / max(self.warmup, 1)
        progress = (step - self.warmup) / max(self.total - self.warmup, 1)
        progress = ops.clip(progress, 0.0, 1.0)
        decay = 0.5 * (1 + ops.cos(math.pi * progress)) if self.shape == "cosine" else 1 - progress
        return self.peak * ops.minimum(1.0, ops.where(step < self.warmup, warmup, decay))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, as Keras asks for."""
        return {"peak": self.peak, "warmup": self.warmup, "total": self.total, "shape": self.shape}


def train(
    build: Callable[[], keras.Model],
    stage: Stage,
    training: TrainingSet,
    folder: Path,
    seed: int,
    max_epochs: int = 0,
    initialize: Initializer | None = None,
    predictor: Predictor | None = None,
) -> History:
    """Train to the end of `stage`, to its plateau, or to epoch `max_epochs` where that is not 0;
    return the history.

    build: makes the network. initialize: gives it other weights before the first epoch. predictor:
    computes its logits on validation rows; `predict` by default. The averaged weights of the epoch
    with the best validation accuracy are in `folder`/best.npz afterwards. Calling again resumes, or
    does nothing when the stage is finished. One of several processes (see workers.join) shares
    `folder` with the others. Raises RunError where there are fewer rows than a batch, or a state
    that this version cannot resume.
    """
    if len(training) < stage.batch_size:
        raise RunError(f"{len(training)} rows make no batch of {stage.batch_size}; give more data")
    checkpoint = _Checkpoint(folder)
    history = checkpoint.history()
    epochs = min(max_epochs or stage.epochs, stage.epochs)
    if len(history) >= epochs or is_finished(history, stage):
        return history
    trainer = _Trainer(build, stage, training, folder, seed, len(history), predictor or predict)
    if history:
        checkpoint.restore(trainer)
    elif initialize:
        initialize(trainer.model, training)
    if not history:
        trainer.averaged.set_weights(trainer.model.get_weights())
    with closing(trainer), _events(folder) as events:
        while len(history) < epochs and not is_finished(history, stage):
            history.append(trainer.epoch(len(history)))
            _finish_epoch(checkpoint, trainer, history, events)
            workers.wait_for_all()  # so that nobody reads what the chief still writes
    return history


def keep_first_weights(
    build: Callable[[], keras.Model],
    training: TrainingSet,
    folder: Path,
    seed: int,
    initialize: Initializer | None,
) -> None:
    """Write the weights that a network has before its first epoch as those that `train` selected;
    see there for the parameters.
    """
    random.seed(seed)
    model = build()
    if initialize:
        initialize(model, training)
    folder.mkdir(parents=True, exist_ok=True)
    _save_arrays(folder / "best.npz", {"w": model.get_weights()})


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


def predict(
    model: keras.Model,
    crops: Pixels,
    batch_size: int = 256,
    compute: Callable[[Floats], Any] | None = None,
) -> Floats:
    """Return (n, outputs) logits of normalized (n, s, s) uint8 crops.

    compute: the logits of a batch of floats; by default the compiled network.
    """
    compute = compute or model.predict_on_batch
    logits = np.zeros((len(crops), model.output_shape[-1]), np.float32)
    for start in range(0, len(crops), batch_size):
        rows = slice(start, start + batch_size)
        logits[rows] = ops.convert_to_numpy(compute(as_floats(crops[rows])))
    return logits


class _Trainer:
    """A network that learns, the moving average of its weights, its optimizer and its batches."""

    def __init__(
        self,
        build: Callable[[], keras.Model],
        stage: Stage,
        training: TrainingSet,
        folder: Path,
        seed: int,
        first_epoch: int,
        predictor: Predictor,
    ) -> None:
        self.stage = stage
        self.predictor = predictor
        self.training = training
        self.name = folder.name
        # Keras draws the seeds of its initializers with `random`; its own set_random_seed loads
        # TensorFlow, where that is installed, on every backend.
        random.seed(seed)
        self.model = build()
        self.averaged = build()
        own_rows = _own_rows(stage.batch_size)
        self.batches = Batches(
            training, stage.augment, stage.batch_size, seed, first_epoch, own_rows
        )
        self.optimizer = _optimizer(stage, self.batches.steps)
        self.optimizer.exclude_from_weight_decay(var_names=_NO_DECAY)
        self.optimizer.build(self.model.trainable_variables)
        self.crops = training.preprocess.normalize(training.validation_images)
        self._step: Step | None = None

    def epoch(self, number: int) -> dict[str, float]:
        """Learn from all rows once; return the epoch's entry in the history."""
        step = self._make_step()
        started_at = time.monotonic()
        title = self.title(number + 1)
        shown = progress.Progress(title, "steps", self.batches.steps, shown=workers.is_chief())
        totals = _Mean()
        with closing(shown):
            for index, batch in enumerate(self.batches.epoch(number), start=1):
                step(batch)
                is_last = index == self.batches.steps
                if index % _STEPS_PER_NOTE == 0 or is_last:
                    totals.add(step.figures(), index)
                shown.update(note=totals.as_text())
        trained_for = time.monotonic() - started_at
        step.finish()
        pictures = self.batches.steps * self.stage.batch_size
        entry = {
            "epoch": number + 1,
            "loss": totals.loss,
            "accuracy": totals.accuracy,
            **self._validate(),
            "learning_rate": float(ops.convert_to_numpy(self.optimizer.learning_rate)),
            "seconds": time.monotonic() - started_at,
            "pictures_per_second": pictures / trained_for,
            "input_per_second": self.batches.rate.take(),
        }
        values = workers.from_chief(list(entry.values()))
        return dict(zip(entry, values, strict=True)) | {"epoch": number + 1}

    def title(self, epoch: int, width: int = 0) -> str:
        """Return the name of an epoch, from 1."""
        return f"{self.name} {epoch:{width}d}/{self.stage.epochs}"

    def close(self) -> None:
        """End what makes pictures."""
        self.batches.close()

    def _make_step(self) -> Step:
        """Return the compiled step; it takes the variables as they are at its first call."""
        if self._step is None:
            self._step = steps.make_step(
                self.model,
                self.averaged,
                self.optimizer,
                self.training.head_sizes,
                self.stage.ema_decay,
            )
        return self._step

    def _validate(self) -> dict[str, float]:
        """Return the loss of all heads, their mean accuracy, and with several heads that of each,
        on the rows that have a label for it.
        """
        sizes = self.training.head_sizes
        logits = np.zeros((len(self.crops), sum(sizes)), np.float32)
        if workers.is_chief():
            logits = self.predictor(self.averaged, self.crops)
        losses = []
        accuracies = []
        for head, head_logits in enumerate(split_heads(logits, sizes)):
            labels = self.training.validation_labels[:, head]
            labelled = labels >= 0
            if labelled.any():
                losses.append(metrics.nll(head_logits[labelled], labels[labelled], 1.0))
                accuracies.append(_accuracy(head_logits[labelled], labels[labelled]))
        if not accuracies:
            raise RunError("no validation row has a label that a head predicts; give more data")
        entry = {"val_loss": sum(losses), "val_accuracy": float(np.mean(accuracies))}
        if len(accuracies) > 1:
            entry |= {f"val_accuracy_{index}": value for index, value in enumerate(accuracies)}
        return entry


class _Mean:
    """The mean of steps' figures, each for the steps since the last."""

    def __init__(self) -> None:
        self.steps = 0
        self.loss = math.nan
        self.accuracy = math.nan

    def add(self, figures: steps.Figures, steps_so_far: int) -> None:
        """Count the figures of the steps since the last call."""
        share = (steps_so_far - self.steps) / steps_so_far
        is_first = self.steps == 0
        self.loss = figures.loss if is_first else self.loss + share * (figures.loss - self.loss)
        gain = figures.accuracy - self.accuracy
        self.accuracy = figures.accuracy if is_first else self.accuracy + share * gain
        self.steps = steps_so_far

    def as_text(self) -> str:
        """Return them for a progress bar."""
        return f"loss {self.loss:.3f}, accuracy {self.accuracy:.3f}" if self.steps else ""


def _own_rows(batch_size: int) -> slice:
    """Return this process's rows of a batch. Raises RunError where they cannot be shared evenly."""
    count = workers.count()
    if batch_size % count:
        raise RunError(
            f"a batch of {batch_size} rows cannot be shared by {count} processes; "
            "start another number of them"
        )
    size = batch_size // count
    return slice(workers.number() * size, (workers.number() + 1) * size)


def _optimizer(stage: Stage, steps: int) -> Any:
    warmup = stage.warmup_epochs * steps
    total = stage.epochs * steps
    schedule = WarmupDecay(stage.learning_rate, warmup, total, stage.schedule)
    shared = {"weight_decay": stage.weight_decay, "global_clipnorm": _CLIP_NORM}
    if stage.optimizer == "sgd":
        return keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True, **shared)
    return keras.optimizers.AdamW(schedule, **shared)


def _finish_epoch(
    checkpoint: "_Checkpoint",
    trainer: _Trainer,
    history: History,
    events: Any,
) -> None:
    """Write and show what the last epoch of the history brought; the chief does."""
    if not workers.is_chief():
        return
    checkpoint.save(trainer, history)
    entry = history[-1]
    for name, value in entry.items():
        if name != "epoch":
            events.add_scalar(name, value, step=int(entry["epoch"]))
    events.flush()
    progress.write(
        f"{trainer.title(int(entry['epoch']), width=3)}  loss {entry['loss']:.3f}  "
        f"accuracy {entry['accuracy']:.3f}  validation {entry['val_accuracy']:.4f}  "
        f"{entry['seconds']:.0f} s  {entry['pictures_per_second']:.0f} pictures/s "
        f"(input alone {entry['input_per_second']:.0f})"
    )


@contextmanager
def _events(folder: Path) -> Iterator[Any]:
    """Yield what writes the chief's history for TensorBoard, which takes no path but in UTF-8."""
    if not workers.is_chief():
        yield None
        return
    # TensorBoard loads TensorFlow to write a file unless this module, its own switch, is there.
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))
    from tensorboard.summary import Writer

    path = folder / "tensorboard"
    path.mkdir(parents=True, exist_ok=True)
    with files.utf8_path(path) as utf8_path:
        writer = Writer(utf8_path)
        yield writer
        writer.close()


class _Checkpoint:
    """Saves and restores weights, optimizer, averaged weights and history in one file of a folder,
    which is replaced atomically.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "state.npz"

    def history(self) -> History:
        """Return the history of state.npz, which is empty where there is no file."""
        if not self.path.exists():
            return []
        with np.load(self.path) as stored:
            return json.loads(str(stored["history"]))

    def restore(self, trainer: _Trainer) -> None:
        """Load state.npz into networks and optimizer. Raises RunError for one of an earlier
        version.
        """
        with np.load(self.path) as stored:
            if "format" not in stored:
                raise RunError(
                    f"{self.path} was begun by an earlier mien, whose optimizer this one cannot "
                    "continue; begin the run again in another folder"
                )
            weights, optimizer, averaged = (_load_arrays(stored, prefix) for prefix in "woa")
        trainer.model.set_weights(weights)
        trainer.averaged.set_weights(averaged)
        for variable, value in zip(trainer.optimizer.variables, optimizer, strict=True):
            variable.assign(value)

    def save(self, trainer: _Trainer, history: History) -> None:
        """Write state.npz and history.json, and best.npz of the epoch that the stage selects."""
        groups = {
            "w": trainer.model.get_weights(),
            "o": [ops.convert_to_numpy(variable) for variable in trainer.optimizer.variables],
            "a": trainer.averaged.get_weights(),
        }
        best = max(entry["val_accuracy"] for entry in history)
        if trainer.stage.selection == "last" or history[-1]["val_accuracy"] >= best:
            _save_arrays(self.folder / "best.npz", {"w": groups["a"]})
        files.write_text(self.folder / "history.json", json.dumps(history, indent=1) + "\n")
        scalars = {f"n_{prefix}": np.array(len(values)) for prefix, values in groups.items()}
        scalars["history"] = np.array(json.dumps(history))
        scalars["format"] = np.array(_FORMAT)
        _save_arrays(self.path, groups, **scalars)


def _load_arrays(stored: Any, prefix: str) -> list[Array]:
    count = int(stored[f"n_{prefix}"])
    return [stored[f"{prefix}{index}"] for index in range(count)]


def _save_arrays(path: Path, groups: dict[str, list[Array]], **scalars: Array) -> None:
    arrays: dict[str, Array] = {}
    for prefix, values in groups.items():
        arrays |= {f"{prefix}{index}": value for index, value in enumerate(values)}
    with files.atomic_write(path) as temporary:
        np.savez(temporary, **arrays, **scalars)  # type: ignore[arg-type]


def _accuracy(logits: Floats, labels: Labels) -> float:
    """Return the share of (n, labels) logits whose largest is that of the (n,) label."""
    return float((logits.argmax(axis=1) == labels).mean())
