"""What a stage trains on: pictures, targets for each head, a teacher's probabilities; and the
batches of it.
"""

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from mien_edge.contract import Preprocess
from numpy.typing import NDArray

from mien_train.arrays import Doubles, Floats, Indices, Labels, Mask, Pixels
from mien_train.data import augment, balance, faces, heads, mixtures
from mien_train.data.augment import Draws
from mien_train.data.heads import Head
from mien_train.data.mixtures import Mixtures
from mien_train.data.read import Dataset
from mien_train.data.splits import Split
from mien_train.data.strengths import Augment
from mien_train.training.ahead import compute_ahead, default_processes

# First numbers of seeds: they keep the draws of views apart from each other and from an epoch's
# order.
_STUDENT_VIEW = 0x51E3
_TEACHER_VIEW = 0x51E4
_MIXTURES = 0x51E5

_STEPS_PER_TASK = 8
_MIN_ROWS_FOR_PROCESSES = 4096  # fewer are made in a thread before a process has begun


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """The rows that a stage trains on, and those that it is validated on.

    images: (n, s, s) uint8. targets: (n, outputs) float32, a distribution for each head, one after
    the other; a head's part that sums to less than 1 counts less. head_sizes: outputs of each head.
    validation_images: (m, s, s) uint8. validation_labels: (m, heads) int8, -1 for none. squares,
    surroundings: see augment.apply, or None. sampled_labels: (n,) labels that an epoch shows
    equally often, or None for every row once. teacher_probabilities: the teacher's (n, outputs) for
    each of some views, or none. mixed_rows: for each of these views (n,), which rows show mixtures
    of two pictures, whose labels do not count; or none at all. distillation_weight: 0..1, how much
    of a target is the teacher's.
    """

    images: Pixels
    targets: Floats
    head_sizes: tuple[int, ...]
    validation_images: Pixels
    validation_labels: Labels
    preprocess: Preprocess
    squares: Doubles | None = None
    surroundings: Pixels | None = None
    sampled_labels: Labels | None = None
    teacher_probabilities: tuple[NDArray[np.float16], ...] = ()
    mixed_rows: tuple[Mask, ...] = ()
    distillation_weight: float = 0.0

    def __len__(self) -> int:
        return len(self.images)

    def crops(self) -> Pixels:
        """Return the training rows as normalized (n, s, s) crops, without augmentation."""
        return self.preprocess.normalize(self.images)

    def epoch_targets(self, epoch: int) -> Floats:
        """Return the (n, outputs) targets of an epoch, mixed with the teacher's probabilities on
        its view where there is a teacher.
        """
        if not self.teacher_probabilities:
            return self.targets
        number = epoch % len(self.teacher_probabilities)
        probabilities = self.teacher_probabilities[number].astype(np.float32)
        weight = np.full((len(self), 1), self.distillation_weight, np.float32)
        if self.mixed_rows:
            weight[self.mixed_rows[number]] = 1
        return (1 - weight) * self.targets + weight * probabilities


def training_set(
    dataset: Dataset,
    split: Split,
    own_heads: Sequence[Head],
    preprocess: Preprocess,
    label_smoothing: float,
) -> TrainingSet:
    """Return the training and validation rows of a split, with the detector's crops for
    augmentation to draw from.

    Raises DataError where a head needs votes and the dataset has none.
    """
    train = dataset.take(split.train)
    validation = dataset.take(split.validation)
    return TrainingSet(
        images=train.images,
        targets=heads.join_targets(train, own_heads, label_smoothing),
        head_sizes=tuple(len(head.labels) for head in own_heads),
        validation_images=validation.images,
        validation_labels=heads.stack_learned_labels(validation, own_heads),
        preprocess=preprocess,
        squares=faces.device_squares(dataset, preprocess)[split.train],
        surroundings=train.surroundings,
        sampled_labels=train.labels if train.is_sampled else None,
    )


@dataclass(frozen=True, eq=False)
class Pictures:
    """What views are made of; without the rest of a TrainingSet, it is sent to other processes.

    See TrainingSet for its fields.
    """

    images: Pixels
    squares: Doubles | None
    surroundings: Pixels | None
    sampled_labels: Labels | None
    preprocess: Preprocess

    @staticmethod
    def of(training: TrainingSet) -> "Pictures":
        """Return those of a training set."""
        return Pictures(
            training.images,
            training.squares,
            training.surroundings,
            training.sampled_labels,
            training.preprocess,
        )

    def order(self, rng: np.random.Generator) -> Indices:
        """Return the (n,) rows of an epoch: each once, or those of rare labels more often."""
        count = len(self.images)
        if self.sampled_labels is None:
            return rng.permutation(count)
        return balance.balanced_order(self.sampled_labels, rng, count)


class View:
    """One augmented view of a training set's pictures, a function of its seed; computed when rows
    are asked for.
    """

    def __init__(self, pictures: Pictures, strengths: Augment, seed: tuple[int, ...]) -> None:
        self.pictures = pictures
        self.draws = _draw(len(pictures.images), strengths, seed)
        self.mixtures = _draw_mixtures(len(pictures.images), strengths, seed)

    def __len__(self) -> int:
        return len(self.pictures.images)

    def __call__(self, rows: Indices) -> Pixels:
        """Return (len(rows), s, s) normalized crops of those rows."""
        crops = self._unmixed(rows)
        is_mixture = self.mixtures.is_mixture[rows]
        if is_mixture.any():
            own = self.mixtures.take(rows[is_mixture])
            crops[is_mixture] = mixtures.mix(crops[is_mixture], self._unmixed(own.partner), own)
        return crops

    def _unmixed(self, rows: Indices) -> Pixels:
        pictures = self.pictures
        squares = None if pictures.squares is None else pictures.squares[rows]
        around = None if pictures.surroundings is None else pictures.surroundings[rows]
        augmented = augment.apply(pictures.images[rows], self.draws.take(rows), squares, around)
        return pictures.preprocess.normalize(augmented)


@lru_cache(1)
def _draw(count: int, strengths: Augment, seed: tuple[int, ...]) -> Draws:
    return augment.draw(count, strengths, np.random.default_rng(seed))


@lru_cache(1)
def _draw_mixtures(count: int, strengths: Augment, seed: tuple[int, ...]) -> Mixtures:
    rng = np.random.default_rng((*seed, _MIXTURES))
    return mixtures.draw_mixtures(count, strengths, rng)


def teacher_view(training: TrainingSet, strengths: Augment, seed: int, number: int) -> View:
    """Return the view that teacher_probabilities[number] belong to. A teacher of the same seed was
    trained on none.
    """
    return View(Pictures.of(training), strengths, (_TEACHER_VIEW, seed, number))


class Batch(NamedTuple):
    """The rows of one step.

    crops: (b, s, s) uint8. targets: (b, outputs) float32. partners: (b,) int32, the row that each
    is blended with. shares: (b,) float32, how much of a row is its own; 1 where nothing is blended.
    """

    crops: Pixels
    targets: Floats
    partners: Indices
    shares: Floats


class Portion(NamedTuple):
    """Some steps of an epoch, made by another process.

    crops: (steps, b, s, s) uint8. rows, partners: (steps, b). shares: (steps, b) float32; see
    Batch. seconds: that it took to make them.
    """

    crops: Pixels
    rows: Indices
    partners: Indices
    shares: Floats
    seconds: float


class _Task(NamedTuple):
    epoch: int
    steps: range


@dataclass(frozen=True, eq=False)
class PortionMaker:
    """Makes the pictures of some steps. Everything random follows from `seed`, the epoch and the
    step alone.

    teacher_views: how many views the epochs cycle where there is a teacher, else 0; erasing comes
    on top, which the teacher has not seen. Without a teacher nobody could say what a mixture shows,
    and there is none.
    """

    pictures: Pictures
    strengths: Augment
    batch_size: int
    seed: int
    teacher_views: int

    def __call__(self, task: _Task) -> Portion:
        """Return the portion of these steps."""
        started_at = time.perf_counter()
        order = self.pictures.order(np.random.default_rng((self.seed, task.epoch)))
        view = self._view(task.epoch)
        parts = [self._step(view, order, task.epoch, step) for step in task.steps]
        crops, rows, partners, shares = (np.stack(part) for part in zip(*parts, strict=True))
        return Portion(crops, rows, partners, shares, time.perf_counter() - started_at)

    def _view(self, epoch: int) -> View:
        if self.teacher_views:
            seed = (_TEACHER_VIEW, self.seed, epoch % self.teacher_views)
            return View(self.pictures, self.strengths, seed)
        unmixed = replace(self.strengths, blend=0.0, splice=0.0)
        return View(self.pictures, unmixed, (_STUDENT_VIEW, self.seed, epoch))

    def _step(
        self, view: View, order: Indices, epoch: int, step: int
    ) -> tuple[Pixels, Indices, Indices, Floats]:
        rng = np.random.default_rng((self.seed, epoch, step + 1))
        rows = order[step * self.batch_size : (step + 1) * self.batch_size]
        crops = augment.erase(view(rows), self.strengths.erase, rng)
        partners, shares = augment.draw_blend(len(rows), self.strengths.mixup, rng)
        return crops, rows, partners, shares


class InputRate:
    """How fast pictures are made.

    processes: how many make them.
    """

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self.pictures = 0
        self.seconds = 0.0

    def add(self, portion: Portion) -> None:
        """Count a portion."""
        self.pictures += portion.rows.size
        self.seconds += portion.seconds

    def take(self) -> float:
        """Return pictures a second, of all processes together, since the last call."""
        rate = self.pictures / max(self.seconds, 1e-9) * max(self.processes, 1)
        self.pictures = 0
        self.seconds = 0.0
        return rate


class Batches:
    """Training batches without end, epoch after epoch; rows that fill no batch are left out of
    their epoch. Pictures are made ahead, in processes where there are many.

    strengths, batch_size, seed: of the stage. first_epoch: from 0. own_rows: of each batch, those
    of this process.
    """

    def __init__(
        self,
        training: TrainingSet,
        strengths: Augment,
        batch_size: int,
        seed: int,
        first_epoch: int = 0,
        own_rows: slice = slice(None),
    ) -> None:
        self.training = training
        self.steps = len(training) // batch_size
        self.first_epoch = first_epoch
        self.own_rows = own_rows
        is_large = len(training) >= _MIN_ROWS_FOR_PROCESSES
        processes = default_processes() if is_large else 0
        self.rate = InputRate(processes)
        views = len(training.teacher_probabilities)
        maker = PortionMaker(Pictures.of(training), strengths, batch_size, seed, views)
        self._portions = compute_ahead(maker, self._tasks(), processes)

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of an epoch; epochs are asked for one after the other."""
        targets = self.training.epoch_targets(number)
        for _ in _portions_of_epoch(self.steps):
            portion = next(self._portions)
            self.rate.add(portion)
            for crops, rows, partners, shares in zip(*portion[:4], strict=True):
                yield self._batch(crops, targets[rows], partners, shares)

    def close(self) -> None:
        """End what makes pictures."""
        self._portions.close()  # type: ignore[attr-defined]

    def _batch(
        self,
        crops: Pixels,
        targets: Floats,
        partners: Indices,
        shares: Floats,
    ) -> Batch:
        own = self.own_rows
        return Batch(crops[own], targets[own], partners[own].astype(np.int32), shares[own])

    def _tasks(self) -> Iterator[_Task]:
        for epoch in itertools.count(self.first_epoch):
            for steps in _portions_of_epoch(self.steps):
                yield _Task(epoch, steps)


def _portions_of_epoch(steps: int) -> Iterator[range]:
    for start in range(0, steps, _STEPS_PER_TASK):
        yield range(start, min(start + _STEPS_PER_TASK, steps))
