"""What a network's outputs predict: one head a kind of labels.

A head knows which labels it has, and matches a row's label by its name; a row without a label that
the head has teaches it nothing. A new head of FER2013 or FER+ is one entry in `HEADS` and a recipe
that names it: training, evaluation, export and report go by the entry. The head `labels` predicts
whatever labels a data set has.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from mien_edge.contract import LABELS, softmax
from mien_edge.errors import DataError, RunError

from mien_train.arrays import Array, Doubles, Floats, Labels, Pixels
from mien_train.data.read import VOTE_OF_LABEL, VOTES, Dataset

LABELS_HEAD = "labels"
"""The name of the head that predicts the data set's own labels."""


@dataclass(frozen=True)
class Head:
    """A kind of labels that a network learns and is measured by.

    name: in recipes, file names and JSON. title: in reports. card_sentence: what a model card says
    of its predictions. target_accuracy: 0..1, what the confidence threshold is set for on rows with
    these labels. labels: the names that its outputs predict, in their order. vote_columns: for each
    label the column of read.VOTES that holds its votes; empty for a head that learns the one label
    that a row is given. calibration_priority: of the heads that rows have labels for, the threshold
    goes by the one with the highest. measured_by: of a head that learns from its teacher alone,
    from what the teacher's other heads say (see training/derived.py), the head whose labels measure
    it; empty for one that learns from labels.
    """

    name: str
    title: str
    card_sentence: str
    target_accuracy: float
    labels: tuple[str, ...]
    vote_columns: tuple[int, ...] = ()
    calibration_priority: int = 0
    measured_by: str = ""

    @property
    def is_derived(self) -> bool:
        """Whether it learns from its teacher alone."""
        return bool(self.measured_by)

    @property
    def needs_votes(self) -> bool:
        """Whether it needs FER+'s votes."""
        return bool(self.vote_columns)

    def has_labels(self, dataset: Dataset) -> bool:
        """Whether the dataset holds what this head's labels are made of."""
        if self.needs_votes:
            return dataset.votes is not None
        return not set(self.labels).isdisjoint(dataset.label_names)

    def label_indices(self, dataset: Dataset) -> Labels:
        """Return (n,) int8 indices of `labels`, -1 where a row has none of them.

        Raises DataError where votes are needed and there are none.
        """
        if self.needs_votes:
            return _majority(_votes(dataset), self.vote_columns)
        index_of_name = {name: index for index, name in enumerate(self.labels)}
        own_index = [index_of_name.get(name, -1) for name in dataset.label_names]
        # The last one is what a row without label, -1, finds.
        return np.array([*own_index, -1], np.int8)[dataset.labels]

    def targets(self, dataset: Dataset, label_smoothing: float) -> Floats:
        """Return (n, len(labels)) float32 shares to train on. A row that sums to less than 1 counts
        less, one of zeros not at all; a derived head's are zeros.

        label_smoothing: 0..1; votes are soft already, and are not smoothed. Raises DataError as
        `label_indices` does.
        """
        if self.is_derived:
            return np.zeros((len(dataset), len(self.labels)), np.float32)
        if self.needs_votes:
            return _vote_shares(_votes(dataset), self.vote_columns)
        return smoothed_targets(self.label_indices(dataset), len(self.labels), label_smoothing)


def smoothed_targets(labels: Labels, count: int, label_smoothing: float) -> Floats:
    """Return (n, count) float32 probabilities of (n,) labels: 1 - label_smoothing on the label, the
    rest spread evenly over all (Szegedy et al. 2015); zeros where the label is -1.
    """
    one_hot = np.eye(count, dtype=np.float32)[labels]
    smoothed = one_hot * (1 - label_smoothing) + label_smoothing / count
    smoothed[labels < 0] = 0
    return smoothed


FER2013 = Head(
    name="fer2013",
    title="FER2013 labels",
    card_sentence=(
        "It predicts what an expression looks like to FER2013's labellers, not what a person feels."
    ),
    target_accuracy=0.75,
    labels=LABELS,
)
"""The one label that FER2013 gives each picture. Every row has it, so networks are compared by it.
"""

FERPLUS = Head(
    name="ferplus",
    title="FER+ majorities",
    card_sentence=(
        "It predicts what an expression looks like to most of ten FER+ labellers, not what a "
        "person feels."
    ),
    target_accuracy=0.9,
    labels=LABELS,
    vote_columns=VOTE_OF_LABEL,
    calibration_priority=1,
)
"""The votes of FER+'s ten people (Barsoum et al. 2016): the majority to measure by, their shares of
all ten to train on. Where the crowd saw something else, a row counts less.
"""

FERPLUS8 = Head(
    name="ferplus8",
    title="FER+ majorities with contempt",
    card_sentence=FERPLUS.card_sentence,
    target_accuracy=FERPLUS.target_accuracy,
    labels=(*LABELS, "contempt"),
    vote_columns=(*VOTE_OF_LABEL, VOTES.index("contempt")),
    calibration_priority=2,
)
"""The same with FER+'s eighth emotion."""

REAL = Head(
    name="real",
    title="faces in front of a camera, by FER+ majorities",
    card_sentence=(
        "It predicts what an expression looks like to most people, where none of the seven is "
        "expected more than another, not what a person feels."
    ),
    target_accuracy=FERPLUS.target_accuracy,
    labels=LABELS,
    vote_columns=VOTE_OF_LABEL,
    calibration_priority=1,
    measured_by=FERPLUS.name,
)
"""What devices take. A third of FER+'s faces are neutral, and hardly one shows disgust; in front of
a camera that is not so.
"""

HEADS = {head.name: head for head in (FER2013, FERPLUS, FERPLUS8, REAL)}


def find_head(name: str) -> Head:
    """Return the head of that name. Raises RunError, which names those there are."""
    if name not in HEADS:
        raise RunError(f"unknown head {name!r}; choose one of {', '.join(HEADS)}")
    return HEADS[name]


def learned(names: Iterable[str]) -> tuple[str, ...]:
    """Return those names of heads that learn from labels, without the derived ones."""
    return tuple(name for name in names if name not in HEADS or not HEADS[name].is_derived)


def measuring_head(name: str) -> str:
    """Return the name of the head whose labels measure the head of that name, often the same."""
    return HEADS[name].measured_by or name if name in HEADS else name


def labels_head(label_names: Sequence[str]) -> Head:
    """Return the head that predicts a data set's own labels, in their order."""
    return Head(
        name=LABELS_HEAD,
        title="labels of the data",
        card_sentence=(
            "It predicts what the labels of its training data call an expression, not what a "
            "person feels."
        ),
        target_accuracy=FERPLUS.target_accuracy,
        labels=tuple(label_names),
    )


def resolve(names: Iterable[str], dataset: Dataset) -> tuple[Head, ...]:
    """Return the heads of those names for a data set. Raises RunError for an unknown name."""
    return tuple(
        labels_head(dataset.label_names) if name == LABELS_HEAD else find_head(name)
        for name in names
    )


def calibration_head(heads: Iterable[Head]) -> Head:
    """Return the head, of those, whose labels the confidence threshold goes by."""
    return max(heads, key=lambda head: head.calibration_priority)


def stack_labels(dataset: Dataset, heads: Iterable[Head]) -> Labels:
    """Return (n, heads) int8 labels, -1 for none. Raises DataError where votes are needed and there
    are none.
    """
    return np.stack([head.label_indices(dataset) for head in heads], axis=1)


def stack_learned_labels(dataset: Dataset, heads: Sequence[Head]) -> Labels:
    """Return `stack_labels`, -1 for a derived head."""
    labels = stack_labels(dataset, heads)
    is_derived = [head.is_derived for head in heads]
    return np.where(is_derived, -1, labels).astype(np.int8)


def join_targets(dataset: Dataset, heads: Iterable[Head], label_smoothing: float) -> Floats:
    """Return (n, outputs) float32 targets, one head after the other, each row times its weight.

    Raises DataError where votes are needed and there are none.
    """
    targets = np.concatenate([head.targets(dataset, label_smoothing) for head in heads], axis=1)
    return targets if dataset.weights is None else targets * dataset.weights[:, None]


def split_heads(values: Array, sizes: Sequence[int]) -> list[Array]:
    """Return each head's part of (n, outputs) values. sizes: outputs of each head."""
    return np.split(values, np.cumsum(sizes)[:-1], axis=1)


def head_probabilities(
    logits: Array, sizes: Sequence[int], temperatures: Sequence[float]
) -> Doubles:
    """Return the (n, outputs) probabilities of all heads, one after the other, of (n, outputs)
    logits. sizes: outputs of each head. temperatures: one for each head.
    """
    heads = zip(split_heads(logits, sizes), temperatures, strict=True)
    return np.concatenate([softmax(part, temperature) for part, temperature in heads], axis=1)


def published_majority(votes: Pixels) -> Labels:
    """Return (n,) int8 columns of VOTES by FER+'s published protocol, -1 for a row that it leaves
    out.

    Of a row's (10,) votes single ones are dropped, whatever they are for. The column with most
    votes must have more than half of what is left, and be an emotion: neither 'unknown' nor 'NF'.

    Source: mode 'majority' of github.com/microsoft/FERPlus, src/ferplus.py (Barsoum et al. 2016).
    """
    counted = np.where(votes > 1, votes, 0).astype(np.int64)
    winners = counted.argmax(axis=1)
    is_majority = 2 * counted.max(axis=1) > counted.sum(axis=1)
    is_emotion = winners < VOTES.index("unknown")
    return np.where(is_majority & is_emotion, winners, -1).astype(np.int8)


def _votes(dataset: Dataset) -> Floats:
    if dataset.votes is None:
        raise DataError(
            "this recipe learns from FER+ votes; "
            "put fer2013new.csv next to the data, or name it with --ferplus"
        )
    return dataset.votes.astype(np.float32)


def _vote_shares(votes: Floats, columns: Sequence[int]) -> Floats:
    total = np.maximum(votes.sum(axis=1, keepdims=True), 1)
    return votes[:, list(columns)] / total


def _majority(votes: Floats, columns: Sequence[int]) -> Labels:
    """Return (n,) int8 places in `columns` of the column with most votes of all; -1 where votes tie
    or most are for another column.
    """
    most_votes = votes.max(axis=1)
    winners = (votes == most_votes[:, None]).sum(axis=1)
    is_clear = (winners == 1) & (most_votes > 0)
    label_of_column = np.full(votes.shape[1], -1, np.int8)
    label_of_column[list(columns)] = np.arange(len(columns))
    labels = label_of_column[votes.argmax(axis=1)]
    return np.where(is_clear, labels, -1).astype(np.int8)
