"""What a network's outputs predict: one head a kind of labels, each a value in `HEADS`.

A new head is one entry here and a recipe that names it in `heads`: training, evaluation, export and
report go by the entry.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from mien_edge.contract import LABELS
from mien_edge.errors import DataError, RunError

from mien_train.arrays import Floats, Labels
from mien_train.data.read import VOTE_OF_LABEL, Dataset


@dataclass(frozen=True)
class Head:
    """A kind of labels that a network learns and is measured by.

    name: in recipes, file names and JSON. title: in reports. card_sentence: what a model card says
    of its predictions. target_accuracy: 0..1, what the confidence threshold is set for on rows with
    these labels. calibration_priority: of the heads that rows have labels for, the threshold goes
    by the one with the highest. needs_votes: whether it needs FER+'s votes. labels(dataset): (n,)
    int8 indices of LABELS, -1 where a row has none. targets(dataset, label_smoothing): (n, 7)
    float32 to train on; a row that sums to less than 1 counts less.
    """

    name: str
    title: str
    card_sentence: str
    target_accuracy: float
    labels: Callable[[Dataset], Labels]
    targets: Callable[[Dataset, float], Floats]
    needs_votes: bool = False
    calibration_priority: int = 0

    def has_labels(self, dataset: Dataset) -> bool:
        """Whether the dataset holds what this head's labels are made of."""
        return not self.needs_votes or dataset.votes is not None


def smoothed_targets(labels: Labels, label_smoothing: float) -> Floats:
    """Return (n, 7) float32 probabilities of (n,) labels: 1 - label_smoothing on the label, the
    rest spread evenly over all seven (Szegedy et al. 2015).
    """
    one_hot = np.eye(len(LABELS), dtype=np.float32)[labels]
    return one_hot * (1 - label_smoothing) + label_smoothing / len(LABELS)


def _fer2013_labels(dataset: Dataset) -> Labels:
    return dataset.labels


def _fer2013_targets(dataset: Dataset, label_smoothing: float) -> Floats:
    return smoothed_targets(dataset.labels, label_smoothing)


def _vote_shares(dataset: Dataset, label_smoothing: float) -> Floats:
    """Votes for the seven labels as shares of all ten: where the crowd saw something else, a row
    counts less. Votes are soft already, so they are not smoothed.
    """
    if dataset.votes is None:
        raise DataError(
            "this recipe learns from FER+ votes; put fer2013new.csv next to the data, or name it with --ferplus"
        )
    votes = dataset.votes.astype(np.float32)
    total = np.maximum(votes.sum(axis=1, keepdims=True), 1)
    return votes[:, list(VOTE_OF_LABEL)] / total


FER2013 = Head(
    name="fer2013",
    title="FER2013 labels",
    card_sentence=("It predicts what an expression looks like to FER2013's labellers, not what a person feels."),
    target_accuracy=0.75,
    labels=_fer2013_labels,
    targets=_fer2013_targets,
)
"""The one label that FER2013 gives each picture. Every row has it, so networks are compared by it.
"""

FERPLUS = Head(
    name="ferplus",
    title="FER+ majorities",
    card_sentence=("It predicts what an expression looks like to most of ten FER+ labellers, not what a person feels."),
    target_accuracy=0.9,
    labels=Dataset.majority,
    targets=_vote_shares,
    needs_votes=True,
    calibration_priority=1,
)
"""The votes of FER+'s ten people (Barsoum et al. 2016): the majority to measure by, their shares to
train on.
"""

HEADS = {head.name: head for head in (FER2013, FERPLUS)}


def find_head(name: str) -> Head:
    """Return the head of that name. Raises RunError, which names those there are."""
    if name not in HEADS:
        raise RunError(f"unknown head {name!r}; choose one of {', '.join(HEADS)}")
    return HEADS[name]


def calibration_head(names: Iterable[str]) -> Head:
    """Return the head, of those named, whose labels the confidence threshold goes by."""
    return max(map(find_head, names), key=lambda head: head.calibration_priority)


def stack_labels(dataset: Dataset, names: Iterable[str]) -> Labels:
    """Return (n, heads) int8 labels, -1 for none. Raises DataError where votes are needed and there
    are none.
    """
    return np.stack([find_head(name).labels(dataset) for name in names], axis=1)


def stack_targets(dataset: Dataset, names: Iterable[str], label_smoothing: float) -> Floats:
    """Return (n, heads, 7) float32 targets. Raises DataError where votes are needed and there are
    none.
    """
    return np.stack([find_head(name).targets(dataset, label_smoothing) for name in names], axis=1)
