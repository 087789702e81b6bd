"""What became of labelled photographs, and figures of it with bootstrap intervals.

The intervals hold 95 % of 2,000 bootstrap samples (Efron 1979): groups, such as persons, are drawn
with replacement, each with all of its photographs (Field & Welsh 2007). Two models on the same
photographs are drawn alike, so that their samples may be subtracted.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "coverage", "settled_accuracy")
"""What `figures` gives, each a share, 0 to 1.

accuracy: of all photographs, those whose most probable emotion is their label; one without an
emotion is wrong, here and below. balanced_accuracy: mean over the labels that occur of the share of
their photographs that is right. macro_f1: mean over these of their F1 scores. coverage: those that
were told a label. settled_accuracy: of these the ones that are right; NaN where there are none.
"""

_SAMPLES = 2000
_CHUNK = 100  # samples at once, so that thousands of groups fit into memory
_TAIL = 2.5  # per cent beyond each end of an interval

Ints = NDArray[np.int_]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What became of n photographs.

    labels: the model's. truth: (n,) indices of them. predicted: (n,) indices of the most probable
    emotions; -1 for a photograph without one, or with one that is none of the labels. confidence:
    (n,) of the most probable emotion, 0 to 1; 0 where there is none. settled: (n,) whether a label
    was told. groups: (n,) numbers of what is drawn together; None where each stands for itself.
    """

    labels: Sequence[str]
    truth: Ints
    predicted: Ints
    confidence: Doubles
    settled: NDArray[np.bool_]
    groups: Ints | None = None

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def is_right(self) -> NDArray[np.bool_]:
        """(n,) whether the most probable emotion is the label."""
        return self.predicted == self.truth

    def take(self, rows: NDArray[np.int_] | NDArray[np.bool_]) -> "Outcomes":
        """The photographs of these numbers, or of this mask."""
        return Outcomes(
            self.labels,
            self.truth[rows],
            self.predicted[rows],
            self.confidence[rows],
            self.settled[rows],
            None if self.groups is None else self.groups[rows],
        )


def figures(outcomes: Outcomes) -> dict[str, float]:
    """The FIGURES of the photographs; 0 where there is nothing to share."""
    counts = _counts_of_groups(outcomes).sum(axis=0, keepdims=True)
    values = _figures(_as_cells(counts, outcomes))
    return {name: float(np.nan_to_num(value[0])) for name, value in values.items()}


def sampled_figures(outcomes: Outcomes) -> dict[str, Doubles]:
    """The FIGURES of each bootstrap sample, (2000,) each; the samples are the same for as many
    photographs in the same groups.
    """
    counts = _counts_of_groups(outcomes)
    groups = len(counts)
    rng = np.random.default_rng(0)
    chunks = []
    for _ in range(0, _SAMPLES, _CHUNK):
        draws = [rng.integers(0, max(groups, 1), groups) for _ in range(_CHUNK)]
        times_drawn = [np.bincount(draw, minlength=groups) for draw in draws]
        chunks.append(np.array(times_drawn, float) @ counts)
    return _figures(_as_cells(np.concatenate(chunks), outcomes))


def interval(samples: Doubles) -> tuple[float, float]:
    """The 95 % interval of (n,) bootstrap samples, those left out that are NaN; 0 to 0 for none."""
    numbers = samples[~np.isnan(samples)]
    if not len(numbers):
        return 0.0, 0.0
    low, high = np.percentile(numbers, [_TAIL, 100 - _TAIL])
    return float(low), float(high)


def intervals(outcomes: Outcomes) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each of the FIGURES."""
    return {name: interval(samples) for name, samples in sampled_figures(outcomes).items()}


def _counts_of_groups(outcomes: Outcomes) -> Doubles:
    """(groups, cells) photographs of each group by truth, prediction and whether a label was told;
    the last prediction is none.
    """
    groups = np.arange(len(outcomes)) if outcomes.groups is None else outcomes.groups
    names, members = np.unique(groups, return_inverse=True)
    shape = _cell_shape(outcomes)
    cells = (outcomes.truth, outcomes.predicted % shape[1], outcomes.settled.astype(int))
    counts = np.zeros((len(names), *shape))
    np.add.at(counts, (members.reshape(-1), *cells), 1)
    return counts.reshape(len(names), math.prod(shape))


def _cell_shape(outcomes: Outcomes) -> tuple[int, int, int]:
    labels = len(outcomes.labels)
    return labels, labels + 1, 2


def _as_cells(counts: Doubles, outcomes: Outcomes) -> Doubles:
    return counts.reshape(-1, *_cell_shape(outcomes))


def _figures(cells: Doubles) -> dict[str, Doubles]:
    """The FIGURES of each sample. cells: (samples, truth, prediction, told) counts."""
    confusion = cells.sum(axis=3)
    photographs = confusion.sum(axis=(1, 2))
    right = _right(confusion)
    labelled = confusion.sum(axis=2)
    predicted = confusion.sum(axis=1)[:, :-1]
    told = cells[..., 1]
    settled = told.sum(axis=(1, 2))
    settled_right = _right(told).sum(axis=1)
    occurs = labelled > 0
    values = (
        _ratio(right.sum(axis=1), photographs, empty=0.0),
        _mean(_ratio(right, labelled, empty=0.0), occurs),
        _mean(_ratio(2 * right, labelled + predicted, empty=0.0), occurs),
        _ratio(settled, photographs, empty=0.0),
        _ratio(settled_right, settled, empty=np.nan),
    )
    return dict(zip(FIGURES, values, strict=True))


def _right(confusion: Doubles) -> Doubles:
    """(samples, labels) photographs whose prediction is their label."""
    return np.diagonal(confusion[:, :, :-1], axis1=1, axis2=2)


def _mean(shares: Doubles, occurs: NDArray[np.bool_]) -> Doubles:
    """(samples,) means of (samples, labels) shares over the labels that occur."""
    return _ratio((shares * occurs).sum(axis=1), occurs.sum(axis=1), empty=0.0)


def _ratio(numerators: Doubles, denominators: NDArray[np.number], empty: float) -> Doubles:
    """Element by element; `empty` where the denominator is 0."""
    shares = np.full(np.shape(numerators), empty)
    return np.divide(numerators, denominators, out=shares, where=denominators > 0)
