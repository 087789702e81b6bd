"""Whether a network does as well for one group of people as for all others: the statistics alone.

Two things are compared for each group: the share that is right, and confidence minus that share. A
group whose pictures have other labels than the others' has another accuracy for that reason alone,
so both are compared at equal labels: of each picture's value the mean of all pictures with its
label is taken off first, as the Cochran-Mantel-Haenszel test does by strata.

Pictures of one person are no independent evidence, so people are drawn and shuffled, not pictures:
a permutation test with a studentized statistic (Chung & Romano 2013,
https://doi.org/10.1214/13-AOS1090), whose variances are those of people's sums; p by Phipson &
Smyth 2010 (https://doi.org/10.2202/1544-6115.1585). Holm's correction (1979) of all p values bounds
the chance that any gap is claimed where there is none.
"""

import dataclasses
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from scipy import stats

from mien_train import metrics
from mien_train.arrays import Array, Doubles, Indices, Mask

FAMILY_WISE_ERROR = 0.05
"""How often, at most, any gap may be claimed where there is none."""

MIN_ROWS = 30
MIN_PEOPLE = 10
"""What a group needs, and the others together, before anything is said of it: with 30 pictures an
accuracy is known to some 17 points either way.
"""

PERMUTATIONS = 9999
"""How often groups are shuffled for one p value."""

_CONFIDENCE_LEVEL = 0.95
_NORMAL_QUANTILE = float(stats.norm.ppf((1 + _CONFIDENCE_LEVEL) / 2))
_BOOTSTRAP_SAMPLES = 2000
_CHUNK = 250  # permutations or samples at a time, for the memory's sake
_TINY = 1e-9

_Key = TypeVar("_Key", bound=Hashable)

Interval = tuple[float, float]
"""The ends of a 95 % confidence interval."""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What a network made of n labelled pictures.

    labels, predicted: (n,) indices of label names. confidence: (n,), 0..1, of the predicted label.
    people: (n,) numbers; rows with equal ones belong together, as pictures of one person; None
    where that is not known, and each row counts as one.
    """

    labels: Array
    predicted: Array
    confidence: Array
    people: Array | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def is_correct(self) -> Mask:
        """(n,) whether the predicted label is the right one."""
        return self.predicted == self.labels

    @property
    def are_enough(self) -> bool:
        """Whether something can be said of so many pictures of so many people."""
        people = self.count_people()
        return len(self) >= MIN_ROWS and (people is None or people >= MIN_PEOPLE)

    def count_people(self) -> int | None:
        """How many people they are of; None where that is not known."""
        return None if self.people is None else len(np.unique(self.people))

    def take(self, rows: Array) -> "Outcomes":
        """The outcomes of those rows (indices or a mask)."""
        people = None if self.people is None else self.people[rows]
        return Outcomes(self.labels[rows], self.predicted[rows], self.confidence[rows], people)


@dataclass(frozen=True)
class GroupFigures:
    """How a network does for a group; every share is 0..1, every interval one of 95 %.

    accuracy: its interval is Wilson's (1927), of as many rows as people's resemblance leaves.
    balanced_accuracy: mean over the labels that occur of the share that is right.
    overconfidence: mean confidence minus accuracy, -1..1. Its interval, and that of
    balanced_accuracy, come from 2,000 bootstrap samples of people (Efron 1979).
    calibration_error: expected calibration error, which grows as a group shrinks;
    calibration_error_of_size: the mean of groups of as many people drawn from all at random; None
    for all pictures.
    """

    accuracy: float
    accuracy_interval: Interval
    balanced_accuracy: float
    balanced_accuracy_interval: Interval
    overconfidence: float
    overconfidence_interval: Interval
    calibration_error: float
    calibration_error_of_size: float | None = None

    def bars(self) -> dict[str, tuple[float, Interval]]:
        """What is drawn: the figures that GroupGaps compares, by the names of its fields."""
        return {
            "accuracy": (self.accuracy, self.accuracy_interval),
            "overconfidence": (self.overconfidence, self.overconfidence_interval),
        }


@dataclass(frozen=True)
class Gap:
    """A group against the others at equal labels, in shares of 1.

    difference: the group's minus the others'. interval: of the difference, by itself. p: of the
    permutation test. corrected_p: after Holm's correction for all tests.
    """

    difference: float
    interval: Interval
    p: float
    corrected_p: float = 1.0

    @property
    def is_significant(self) -> bool:
        """Whether it is claimed."""
        return self.corrected_p <= FAMILY_WISE_ERROR

    def mirrored(self) -> "Gap":
        """The same of the others against the group."""
        low, high = self.interval
        return dataclasses.replace(self, difference=-self.difference, interval=(-high, -low))


@dataclass(frozen=True)
class GroupGaps:
    """The gaps of one group: of the share that is right, and of confidence minus that share."""

    accuracy: Gap
    overconfidence: Gap

    def by_measure(self) -> Iterator[tuple[str, Gap]]:
        """Yield each gap with the name of what is compared."""
        yield "accuracy", self.accuracy
        yield "overconfidence", self.overconfidence

    def mirrored(self) -> "GroupGaps":
        """The same of the others against the group."""
        return GroupGaps(self.accuracy.mirrored(), self.overconfidence.mirrored())


class _Units(NamedTuple):
    """A unit is what one person has in one group; (u,) group of each, (n,) unit of each row."""

    groups: Indices
    of_row: Indices


def figures(
    outcomes: Outcomes, rng: np.random.Generator, of_size: float | None = None
) -> GroupFigures:
    """Measure the pictures of one group, at least one.

    of_size: see GroupFigures.calibration_error_of_size.
    """
    units = _units(outcomes, np.zeros(len(outcomes), np.int64))
    sums = _unit_sums(outcomes, units)
    whole = _balanced_accuracy(*(part.sum(axis=0, keepdims=True) for part in sums[:2]))
    samples = _bootstrap(sums, rng)
    return GroupFigures(
        accuracy=float(outcomes.is_correct.mean()),
        accuracy_interval=_wilson(outcomes, units),
        balanced_accuracy=float(whole[0]),
        balanced_accuracy_interval=_percentiles(_balanced_accuracy(*samples[:2])),
        overconfidence=float((outcomes.confidence - outcomes.is_correct).mean()),
        overconfidence_interval=_percentiles(_overconfidence(*samples)),
        calibration_error=_calibration_error(outcomes),
        calibration_error_of_size=of_size,
    )


def gaps(
    outcomes: Outcomes,
    groups: Indices,
    tested: Sequence[int],
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
) -> dict[int, GroupGaps]:
    """Test each of the `tested` groups against all other rows.

    groups: (n,) the group of each row. The p values are not corrected yet.
    """
    units = _units(outcomes, groups)
    right = outcomes.is_correct.astype(float)
    values = (right, outcomes.confidence - right)
    samples = [_UnitSample(outcomes.labels, value, units) for value in values]
    exceeding = np.zeros((len(tested), len(samples)), np.int64)
    observed = np.zeros(exceeding.shape)
    for row, group in enumerate(tested):
        members = units.groups[None] == group
        observed[row] = [abs(sample.statistic(members)[0]) for sample in samples]
    for shuffled in _shuffles(units.groups, permutations, rng):
        for row, group in enumerate(tested):
            members = shuffled == group
            for column, sample in enumerate(samples):
                statistic = np.abs(sample.statistic(members))
                exceeding[row, column] += (statistic >= observed[row, column] - _TINY).sum()
    p = (exceeding + 1) / (permutations + 1)
    return {
        group: GroupGaps(
            *(
                sample.gap(units.groups == group, float(p[row, column]))
                for column, sample in enumerate(samples)
            )
        )
        for row, group in enumerate(tested)
    }


def correct(gaps: Mapping[_Key, GroupGaps]) -> dict[_Key, GroupGaps]:
    """The same gaps with p values that are corrected for all of them together."""
    p = [gap.p for group in gaps.values() for _, gap in group.by_measure()]
    corrected = iter(holm(p).tolist())
    return {
        key: GroupGaps(
            *(
                dataclasses.replace(gap, corrected_p=next(corrected))
                for _, gap in group.by_measure()
            )
        )
        for key, group in gaps.items()
    }


def holm(p: Sequence[float]) -> Doubles:
    """Holm's step-down correction of p values, in their order."""
    values = np.asarray(p, float)
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected


def calibration_error_of_size(
    outcomes: Outcomes, members: Mask, rng: np.random.Generator, samples: int = 100
) -> float:
    """The mean expected calibration error of groups with as many people as the (n,) members, drawn
    from all rows at random.
    """
    units = _units(outcomes, members.astype(np.int64))
    errors = [
        _calibration_error(outcomes.take(draw[units.of_row] == 1))
        for shuffled in _shuffles(units.groups, samples, rng)
        for draw in shuffled
    ]
    return float(np.mean(errors))


class _UnitSample:
    """One value of each picture at equal labels, summed by unit."""

    def __init__(self, labels: Array, values: Array, units: _Units) -> None:
        count = len(units.groups)
        at_equal_labels = values - _means_by_label(labels, values)
        sums = np.bincount(units.of_row, at_equal_labels, count)
        rows = np.bincount(units.of_row, minlength=count).astype(float)
        ones = np.ones(count)
        # What the mean of a set of units and its variance are made of.
        self._columns = np.stack([ones, rows, sums, sums**2, sums * rows, rows**2], axis=1)

    def statistic(self, members: Mask) -> Doubles:
        """(k,) studentized differences of (k, u) members' mean and the others'."""
        difference, error = self._difference(members)
        return difference / np.maximum(error, _TINY)

    def gap(self, members: Mask, p: float) -> Gap:
        """The gap of (u,) members."""
        difference, error = (float(value[0]) for value in self._difference(members[None]))
        reach = _NORMAL_QUANTILE * error
        return Gap(difference, (difference - reach, difference + reach), p)

    def _difference(self, members: Mask) -> tuple[Doubles, Doubles]:
        """The differences and their standard errors."""
        inside = members.astype(float) @ self._columns
        outside = self._columns.sum(axis=0) - inside
        mean, variance = _mean_and_variance(inside)
        other_mean, other_variance = _mean_and_variance(outside)
        return mean - other_mean, np.sqrt(variance + other_variance)


def _mean_and_variance(totals: Doubles) -> tuple[Doubles, Doubles]:
    """Of a ratio of sums over units (Cochran 1977, Sampling Techniques, 2.11 and 6.4)."""
    count, rows, sums, squares, products, row_squares = totals.T
    mean = sums / rows
    spread = squares - 2 * mean * products + mean**2 * row_squares
    correction = count / np.maximum(count - 1, 1)
    return mean, np.maximum(spread, 0) * correction / rows**2


def _means_by_label(labels: Array, values: Array) -> Doubles:
    """(n,) the mean value of the rows with each row's label."""
    counts = np.bincount(labels)
    means = np.bincount(labels, values) / np.maximum(counts, 1)
    return means[labels]


def _units(outcomes: Outcomes, groups: Indices) -> _Units:
    people = np.arange(len(outcomes)) if outcomes.people is None else outcomes.people
    pairs = np.stack([people, groups], axis=1)
    unique, of_row = np.unique(pairs, axis=0, return_inverse=True)
    return _Units(unique[:, 1], of_row.reshape(-1))


def _shuffles(groups: Indices, count: int, rng: np.random.Generator) -> Iterator[Indices]:
    """Yield `count` shuffles of the units' groups, (k, u) at a time."""
    for start in range(0, count, _CHUNK):
        size = min(_CHUNK, count - start)
        yield rng.permuted(np.tile(groups, (size, 1)), axis=1)


def _unit_sums(outcomes: Outcomes, units: _Units) -> tuple[Doubles, Doubles, Doubles]:
    """By unit: (u, labels) rows of each label, (u, labels) right ones, (u, 1) confidences."""
    labels, positions = np.unique(outcomes.labels, return_inverse=True)
    shape = (len(units.groups), len(labels))
    rows = np.zeros(shape)
    right = np.zeros(shape)
    np.add.at(rows, (units.of_row, positions), 1)
    np.add.at(right, (units.of_row, positions), outcomes.is_correct)
    confidence = np.zeros(len(units.groups))
    np.add.at(confidence, units.of_row, outcomes.confidence)
    return rows, right, confidence[:, None]


def _bootstrap(
    sums: tuple[Doubles, ...], rng: np.random.Generator
) -> tuple[Doubles, Doubles, Doubles]:
    """The sums of bootstrap samples of units: (samples, …) each."""
    count = len(sums[0])
    parts: list[list[Doubles]] = [[] for _ in sums]
    for _ in range(0, _BOOTSTRAP_SAMPLES, _CHUNK):
        weights = rng.multinomial(count, np.full(count, 1 / count), _CHUNK).astype(float)
        for part, values in zip(parts, sums, strict=True):
            part.append(weights @ values)
    rows, right, confidence = (np.concatenate(part) for part in parts)
    return rows, right, confidence


def _balanced_accuracy(rows: Doubles, right: Doubles) -> Doubles:
    """(k,) means over the labels that occur, of (k, labels) rows and right ones."""
    recall = np.divide(right, rows, out=np.zeros_like(right), where=rows > 0)
    return recall.sum(axis=1) / (rows > 0).sum(axis=1)


def _overconfidence(rows: Doubles, right: Doubles, confidence: Doubles) -> Doubles:
    return (confidence[:, 0] - right.sum(axis=1)) / rows.sum(axis=1)


def _calibration_error(outcomes: Outcomes) -> float:
    return metrics.binned_calibration_error(outcomes.confidence, outcomes.is_correct)


def _percentiles(values: Doubles) -> Interval:
    tail = 100 * (1 - _CONFIDENCE_LEVEL) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def _wilson(outcomes: Outcomes, units: _Units) -> Interval:
    """Wilson's interval of the accuracy, with the rows divided by the design effect (Kish 1965)
    where people have several.
    """
    right = outcomes.is_correct.astype(float)
    rows = len(right)
    count = len(units.groups)
    accuracy = right.mean()
    spread = float(accuracy * (1 - accuracy))
    effective = float(count)
    if spread > 0:
        deviations = np.bincount(units.of_row, right - accuracy, count)
        variance = (deviations**2).sum() * count / max(count - 1, 1) / rows**2
        effective = min(rows, max(spread / variance, 1)) if count > 1 else 1.0
    return _wilson_interval(float(accuracy), effective)


def _wilson_interval(share: float, rows: float) -> Interval:
    square = _NORMAL_QUANTILE**2
    middle = share + square / (2 * rows)
    reach = _NORMAL_QUANTILE * np.sqrt(share * (1 - share) / rows + square / (4 * rows**2))
    scale = 1 + square / rows
    return float(max((middle - reach) / scale, 0)), float(min((middle + reach) / scale, 1))
