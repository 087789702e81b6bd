"""training_speed.py [ROWS]: what our training loop costs beside Keras' own.

Alternately, on random pictures and with the `edge` recipe's network, batch size, loss and optimizer:
an epoch of training/loop.train, with augmented pictures made on the way, averaged weights and all;
an epoch of a plain `model.fit` on float arrays in memory; and the batches alone. Prints the medians
and their ratios. It asserts nothing: what else the machine does is in each figure.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
from mien_edge.contract import as_floats
from mien_train.training import loop, networks, steps
from mien_train.training.recipes import EDGE, Stage
from mien_train.training.samples import Batches, TrainingSet

ROWS = 4608  # fewer than 4,096 would be made by a thread, not by processes
REPETITIONS = 3
HEAD_SIZES = (7, 7)
CLIP_NORM = 5.0
GOAL = 1.1


@dataclass(frozen=True)
class Epoch:
    """One measured epoch."""

    seconds: float
    pictures: int

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return self.pictures / self.seconds


def main(rows: int) -> None:
    """Measure and print."""
    stage = replace(EDGE.fit, epochs=2, distillation_weight=0.0)
    training = random_pictures(rows)
    measurements: dict[str, Callable[[], Epoch]] = {
        "model.fit": plain_fit(stage, training),
        "our loop": partial(our_loop, stage, training),
        "input alone": partial(input_alone, stage, training),
    }
    epochs: dict[str, list[Epoch]] = {name: [] for name in measurements}
    for _ in range(REPETITIONS):
        for name, measure in measurements.items():
            epochs[name].append(measure())
    print(as_text(epochs, rows, stage.batch_size))  # noqa: T201


def random_pictures(rows: int) -> TrainingSet:
    """Make a training set of noise, with two heads; it is validated on one batch."""
    rng = np.random.default_rng(0)
    outputs = sum(HEAD_SIZES)
    images = rng.integers(0, 256, (rows, 48, 48), np.uint8)
    targets = rng.dirichlet(np.ones(HEAD_SIZES[0]), (rows, len(HEAD_SIZES)))
    return TrainingSet(
        images=images,
        targets=targets.reshape(rows, outputs).astype(np.float32),
        head_sizes=HEAD_SIZES,
        validation_images=images[:128],
        validation_labels=rng.integers(0, 7, (128, len(HEAD_SIZES))).astype(np.int8),
        preprocess=EDGE.preprocess,
    )


def plain_fit(stage: Stage, training: TrainingSet) -> Callable[[], Epoch]:
    """Compile and warm up the network; return what measures one epoch of `model.fit`."""
    model = networks.build(EDGE, sum(HEAD_SIZES))
    optimizer = keras.optimizers.AdamW(
        stage.learning_rate,
        weight_decay=stage.weight_decay,
        global_clipnorm=CLIP_NORM,
    )
    model.compile(optimizer, partial(steps.loss, head_sizes=HEAD_SIZES))
    pictures = len(training) // stage.batch_size * stage.batch_size
    crops = as_floats(training.crops()[:pictures])
    targets = training.targets[:pictures]
    fit = partial(model.fit, batch_size=stage.batch_size, verbose=0)
    fit(crops[: stage.batch_size], targets[: stage.batch_size])

    def measure() -> Epoch:
        started_at = time.perf_counter()
        fit(crops, targets)
        return Epoch(time.perf_counter() - started_at, pictures)

    return measure


def our_loop(stage: Stage, training: TrainingSet) -> Epoch:
    """Train two epochs; return the second, in which nothing is compiled, without its validation."""
    build = partial(networks.build, EDGE, sum(HEAD_SIZES))
    with tempfile.TemporaryDirectory() as folder:
        history = loop.train(build, stage, training, Path(folder) / "fit", seed=0)
    pictures = len(training) // stage.batch_size * stage.batch_size
    return Epoch(pictures / history[-1]["pictures_per_second"], pictures)


def input_alone(stage: Stage, training: TrainingSet) -> Epoch:
    """Take the batches of two epochs and train on none; return the second, with all processes at
    work.
    """
    batches = Batches(training, stage.augment, stage.batch_size, seed=0)
    with closing(batches):
        for _ in batches.epoch(0):
            pass
        started_at = time.perf_counter()
        pictures = sum(len(batch.crops) for batch in batches.epoch(1))
        return Epoch(time.perf_counter() - started_at, pictures)


def as_text(epochs: dict[str, list[Epoch]], rows: int, batch_size: int) -> str:
    """Return the table, and the ratios of medians."""
    lines = [f"{rows} random pictures, batches of {batch_size}, {keras.backend.backend()}:"]
    medians = {}
    for name, measured in epochs.items():
        seconds = [epoch.seconds for epoch in measured]
        medians[name] = statistics.median(seconds)
        rate = statistics.median(epoch.rate for epoch in measured)
        each = " ".join(f"{value:.1f}" for value in seconds)
        lines.append(f"{name:12} {medians[name]:6.1f} s an epoch ({each}), {rate:6.0f} pictures/s")
    plain = medians["model.fit"]
    lines.append(f"our loop / model.fit: {medians['our loop'] / plain:.2f} (goal: at most {GOAL})")
    lines.append(f"input alone / model.fit: {medians['input alone'] / plain:.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)
