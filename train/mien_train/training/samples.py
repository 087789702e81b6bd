"""What a stage trains on: pictures, targets for one or two heads, a teacher's opinions; and the batches of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from mien_edge.contract import LABELS, Preprocess, as_floats
from mien_edge.errors import DataError
from numpy.typing import NDArray

from mien_train.data import augment, faces, read, splits
from mien_train.data.augment import Augment

_VIEWS, _JUDGED = 0x51E3, 0x51E4  # keep the draws of views apart from each other and from an epoch's order

HEADS = ("fer2013", "ferplus")
"""What a network's outputs can be: FER2013's one label a picture, or the votes of FER+'s ten people."""


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """What is trained on and chosen by.

    images: (n, s, s) uint8. targets: (n, heads, 7) float32 distributions; a row of less than 1 in all counts less.
    squares: (n, 3), see augment.apply, or None. opinions: a teacher's (n, heads, 7) for each of some views, or none.
    share: how much of a target is the teacher's, 0..1. validation_labels: (m, heads) int8, -1 where there is none.
    """

    images: NDArray[np.uint8]
    targets: NDArray[np.float32]
    validation_images: NDArray[np.uint8]
    validation_labels: NDArray[np.int8]
    preprocess: Preprocess
    squares: NDArray[np.float64] | None = None
    opinions: tuple[NDArray[np.float16], ...] = ()
    share: float = 0.0

    @property
    def heads(self) -> int:
        """How many distributions a row has."""
        return self.targets.shape[1]


def of(
    dataset: read.Dataset, parts: splits.Split, heads: Sequence[str], preprocess: Preprocess, smoothing: float
) -> TrainingSet:
    """The training and validation rows of a split; with the detector's crops, for augmentation to draw from."""
    train, validation = dataset.take(parts.train), dataset.take(parts.validation)
    return TrainingSet(
        train.images,
        targets(train, heads, smoothing),
        validation.images,
        labels(validation, heads),
        preprocess,
        faces.squares(dataset, preprocess)[parts.train],
    )


def targets(dataset: read.Dataset, heads: Sequence[str], smoothing: float) -> NDArray[np.float32]:
    """(n, heads, 7): FER2013's labels, smoothed; FER+'s votes for the seven as shares of all ten, so that a row on
    which the crowd saw something else counts less. Raises DataError where votes are asked for and there are none.
    """
    made = {"fer2013": lambda: soft_targets(dataset.labels, smoothing), "ferplus": lambda: _vote_shares(dataset)}
    return np.stack([made[head]() for head in heads], axis=1)


def labels(dataset: read.Dataset, heads: Sequence[str]) -> NDArray[np.int8]:
    """(n, heads): FER2013's label, FER+'s majority (-1 for none)."""
    made = {"fer2013": lambda: dataset.labels, "ferplus": lambda: dataset.majority()}
    return np.stack([made[head]() for head in heads], axis=1)


def soft_targets(labels: NDArray[np.int8], smoothing: float) -> NDArray[np.float32]:
    """(n, 7) probabilities: 1 - smoothing on the label, the rest spread evenly over all (Szegedy et al. 2015)."""
    return np.eye(len(LABELS), dtype=np.float32)[labels] * (1 - smoothing) + smoothing / len(LABELS)


def _vote_shares(dataset: read.Dataset) -> NDArray[np.float32]:
    if dataset.votes is None:
        raise DataError(
            "this recipe learns from FER+ votes; put fer2013new.csv next to the data, or name it with --ferplus"
        )
    votes = dataset.votes.astype(np.float32)
    return votes[:, list(read.VOTE_OF_LABEL)] / np.maximum(votes.sum(axis=1, keepdims=True), 1)


class View:
    """One augmented view of a material's pictures: a function of `seed`, made when rows are asked for."""

    def __init__(self, material: TrainingSet, strengths: Augment, seed: tuple[int, ...]) -> None:
        self.material = material
        self.draws = augment.draw(len(material.images), strengths, np.random.default_rng(seed))

    def __call__(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(len(rows), s, s) toned crops."""
        squares = None if self.material.squares is None else self.material.squares[rows]
        pictures = augment.apply(self.material.images[rows], self.draws.take(rows), squares)
        return self.material.preprocess.normalize(pictures)


def judged(material: TrainingSet, strengths: Augment, seed: int, number: int) -> View:
    """The view that a teacher has its opinions[number] on; none that a teacher of the same seed was trained on."""
    return View(material, strengths, (_JUDGED, seed, number))


def batches(
    material: TrainingSet, strengths: Augment, batch_size: int, seed: int, first_epoch: int = 0
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Endless training batches ((b, s, s, 1) float32 0..1, (b, heads, 7) float32), epoch after epoch; the last part
    batch of an epoch is left out. Everything random follows from `seed`, the epoch and the step alone. Where there are
    opinions, the epochs go round their views; erasing and mixing come on top, on what the teacher has not seen.
    """
    epoch = first_epoch
    while True:
        order = np.random.default_rng((seed, epoch)).permutation(len(material.images))
        view, aims = View(material, strengths, (_VIEWS, seed, epoch)), material.targets
        if material.opinions:
            number = epoch % len(material.opinions)
            view = judged(material, strengths, seed, number)
            aims = (1 - material.share) * aims + material.share * material.opinions[number].astype(np.float32)
        for step in range(len(order) // batch_size):
            rng = np.random.default_rng((seed, epoch, step + 1))
            rows = order[step * batch_size : (step + 1) * batch_size]
            crops = augment.erase(view(rows), strengths.erase, rng)
            yield augment.mix(as_floats(crops), aims[rows], strengths.mixup, rng)
        epoch += 1
