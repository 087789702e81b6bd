"""What a stage trains on: pictures, targets for each head, a teacher's probabilities; and the
batches of it.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from mien_edge.contract import Preprocess, as_floats
from numpy.typing import NDArray

from mien_train.arrays import Doubles, Floats, Indices, Labels, Pixels
from mien_train.data import augment, balance, faces, heads
from mien_train.data.read import Dataset
from mien_train.data.splits import Split
from mien_train.data.strengths import Augment

# First numbers of seeds: they keep the draws of views apart from each other and from an epoch's
# order.
_STUDENT_VIEW = 0x51E3
_TEACHER_VIEW = 0x51E4


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """The rows that a stage trains on, and those that it is validated on.

    images: (n, s, s) uint8. targets: (n, heads, 7) float32 distributions; a row that sums to less
    than 1 counts less. validation_images: (m, s, s) uint8. validation_labels: (m, heads) int8, -1
    for none. squares, surroundings: see augment.apply, or None. sampled_labels: (n,) labels that an
    epoch shows equally often, or None for every row once. teacher_probabilities: the teacher's (n,
    heads, 7) for each of some views, or none. distillation_weight: 0..1, how much of a target is
    the teacher's.
    """

    images: Pixels
    targets: Floats
    validation_images: Pixels
    validation_labels: Labels
    preprocess: Preprocess
    squares: Doubles | None = None
    surroundings: Pixels | None = None
    sampled_labels: Labels | None = None
    teacher_probabilities: tuple[NDArray[np.float16], ...] = ()
    distillation_weight: float = 0.0

    def __len__(self) -> int:
        return len(self.images)

    @property
    def heads(self) -> int:
        """How many distributions a row has."""
        return self.targets.shape[1]

    def crops(self) -> Pixels:
        """Return the training rows as normalized (n, s, s) crops, without augmentation."""
        return self.preprocess.normalize(self.images)

    def distilled_targets(self, view: int) -> Floats:
        """Return (n, heads, 7) targets mixed with the teacher's probabilities on the view of that
        number.
        """
        weight = self.distillation_weight
        probabilities = self.teacher_probabilities[view].astype(np.float32)
        return (1 - weight) * self.targets + weight * probabilities


def training_set(
    dataset: Dataset,
    split: Split,
    head_names: Sequence[str],
    preprocess: Preprocess,
    label_smoothing: float,
) -> TrainingSet:
    """Return the training and validation rows of a split, with the detector's crops for
    augmentation to draw from.

    Raises DataError where a head needs votes and the dataset has none.
    """
    train = dataset.take(split.train)
    validation = dataset.take(split.validation)
    own_heads = heads.resolve(head_names, dataset)
    targets = heads.join_targets(train, own_heads, label_smoothing)
    return TrainingSet(
        images=train.images,
        targets=targets.reshape(len(train), len(own_heads), -1),
        validation_images=validation.images,
        validation_labels=heads.stack_labels(validation, own_heads),
        preprocess=preprocess,
        squares=faces.device_squares(dataset, preprocess)[split.train],
        surroundings=train.surroundings,
        sampled_labels=train.labels if train.is_sampled else None,
    )


class View:
    """One augmented view of a training set's pictures, a function of its seed; computed when rows
    are asked for.
    """

    def __init__(self, training: TrainingSet, strengths: Augment, seed: tuple[int, ...]) -> None:
        self.training = training
        self.draws = augment.draw(len(training), strengths, np.random.default_rng(seed))

    def __call__(self, rows: Indices) -> Pixels:
        """Return (len(rows), s, s) normalized crops of those rows."""
        training = self.training
        squares = None if training.squares is None else training.squares[rows]
        around = None if training.surroundings is None else training.surroundings[rows]
        pictures = augment.apply(training.images[rows], self.draws.take(rows), squares, around)
        return training.preprocess.normalize(pictures)


def teacher_view(training: TrainingSet, strengths: Augment, seed: int, number: int) -> View:
    """Return the view that teacher_probabilities[number] belong to. A teacher of the same seed was
    trained on none.
    """
    return View(training, strengths, (_TEACHER_VIEW, seed, number))


def batches(
    training: TrainingSet, strengths: Augment, batch_size: int, seed: int, first_epoch: int = 0
) -> Iterator[tuple[Floats, Floats]]:
    """Yield training batches without end, epoch after epoch: ((b, s, s, 1) float32 crops in 0..1,
    (b, heads, 7) float32 targets); rows that fill no batch are left out of their epoch.

    Everything random follows from `seed`, the epoch and the step alone. Where there is a teacher,
    the epochs cycle its views; erasing and mixing come on top, which the teacher has not seen.
    """
    for epoch in itertools.count(first_epoch):
        yield from _epoch_batches(training, strengths, batch_size, seed, epoch)


def _epoch_batches(
    training: TrainingSet,
    strengths: Augment,
    batch_size: int,
    seed: int,
    epoch: int,
) -> Iterator[tuple[Floats, Floats]]:
    order = _epoch_order(training, np.random.default_rng((seed, epoch)))
    view, targets = _epoch_view(training, strengths, seed, epoch)
    for step in range(len(order) // batch_size):
        rng = np.random.default_rng((seed, epoch, step + 1))
        rows = order[step * batch_size : (step + 1) * batch_size]
        crops = augment.erase(view(rows), strengths.erase, rng)
        yield augment.mix(as_floats(crops), targets[rows], strengths.mixup, rng)


def _epoch_order(training: TrainingSet, rng: np.random.Generator) -> Indices:
    """Return the (n,) rows of an epoch: each once, or those of rare labels more often."""
    if training.sampled_labels is None:
        return rng.permutation(len(training))
    return balance.balanced_order(training.sampled_labels, rng, len(training))


def _epoch_view(
    training: TrainingSet,
    strengths: Augment,
    seed: int,
    epoch: int,
) -> tuple[View, Floats]:
    """Return an epoch's view and its (n, heads, 7) targets."""
    if not training.teacher_probabilities:
        return View(training, strengths, (_STUDENT_VIEW, seed, epoch)), training.targets
    number = epoch % len(training.teacher_probabilities)
    return teacher_view(training, strengths, seed, number), training.distilled_targets(number)
