"""Temperature and confidence threshold, fitted so that they hold off the laboratory, too.

They are fitted on several parts: validation rows as they are, the same under each corruption of
`data.corruptions`, and other data that the user names. In each part all labels count equally, for a
camera's faces are not a third neutral, as FER+'s are. The threshold is one that holds on each part,
and so on the hardest: one that holds on the parts' mean does not hold on a part that it has not
seen (models/README).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from mien_edge.contract import softmax

from mien_train import metrics
from mien_train.arrays import Array, Floats, Labels, Mask
from mien_train.data.balance import loss_weights

VALIDATION_ROWS = "validation rows"
"""The part of validation rows as they are."""

RELIABLE_SHARE = 0.5
"""A label is reliable where at least this share of its faces is recognized, and of the faces that
are given it.
"""

RELIABLE_ROWS = 30
"""Of fewer faces nothing can be said of a label."""


MIN_PART_ROWS = 100
"""Other data with fewer labels are no part: what a threshold reaches on so few is chance."""


class CalibrationRows(NamedTuple):
    """One part of what a calibration is fitted on.

    name: as the card calls it. logits: (n, outputs) of a network. labels: (n,) int8 indices of its
    outputs by the labels that it learnt, -1 for none; the temperature goes by these.
    target_labels: (n,) by those that the threshold goes by.
    """

    name: str
    logits: Floats
    labels: Labels
    target_labels: Labels


@dataclass(frozen=True)
class PartCalibration:
    """How a calibration does on one part of its data, all labels counting equally.

    rows: with a label. coverage: 0..1, share at or above the threshold. accuracy: 0..1, share of
    these that is right. calibration_error: 0..1, of all of them.
    """

    rows: int
    coverage: float
    accuracy: float
    calibration_error: float


@dataclass(frozen=True)
class LabelReliability:
    """How well one label can be told, on all parts together, all labels counting equally.

    rows: faces that have it, in the part with most of them. recall: 0..1, share of all that is
    recognized. precision: 0..1, share that is right of what is given this label; 0 where nothing
    is.
    """

    rows: int
    recall: float
    precision: float

    @property
    def is_reliable(self) -> bool:
        """Whether rows are enough to say so, and neither share is below RELIABLE_SHARE."""
        shares = (self.recall, self.precision)
        return self.rows >= RELIABLE_ROWS and min(shares) >= RELIABLE_SHARE


@dataclass(frozen=True)
class MixedCalibration:
    """A temperature, a threshold, and what they do on each part of the data that they were fitted
    on.

    scope: a sentence, without its full stop: for which faces the threshold holds, and what that
    costs. target: 0..1, share of the given labels that should be right. hardest: the part whose
    given labels are right least often. labels: by name, all that rows have. unreliable: the names
    of those that cannot be told reliably.
    """

    temperature: float
    threshold: float
    scope: str
    target: float
    hardest: str
    parts: dict[str, PartCalibration]
    labels: dict[str, LabelReliability]
    unreliable: tuple[str, ...]


def calibrate(
    parts: Sequence[CalibrationRows],
    label_names: Sequence[str],
    target: float,
    judged_by: str,
) -> MixedCalibration:
    """Fit temperature and threshold on the parts, the first of which is of rows as they are.

    label_names: what the outputs stand for. target: 0..1, share of the given labels that should be
    right. judged_by: how a sentence calls the labels that they are right by. A part without such a
    label says nothing. The threshold is the least at which each part's given labels are right as
    often as they should be; where there is none, the one with the best accuracy on the worst part.
    """
    temperature = _fit_temperature(parts)
    outcomes = dict(_outcomes(parts, temperature))
    curves = [metrics.risk_coverage(*outcome) for outcome in outcomes.values()]
    threshold = metrics.threshold_for_accuracy(curves, target)
    results = _at(outcomes, threshold)
    hardest = min(results, key=lambda name: results[name].accuracy)
    labels = _reliability(outcomes, label_names, threshold)
    return MixedCalibration(
        temperature=temperature,
        threshold=threshold,
        scope=_scope(results, hardest, threshold, target, judged_by),
        target=target,
        hardest=hardest,
        parts=results,
        labels=labels,
        unreliable=tuple(name for name, label in labels.items() if not label.is_reliable),
    )


def assess(
    parts: Sequence[CalibrationRows], temperature: float, threshold: float
) -> dict[str, PartCalibration]:
    """How a calibration that is given does on each part with a label to go by, by its name."""
    return _at(dict(_outcomes(parts, temperature)), threshold)


def _scope(
    parts: dict[str, PartCalibration], name: str, threshold: float, target: float, judged_by: str
) -> str:
    """The scope of MixedCalibration. name: of the hardest part."""
    first = next(iter(parts.values()))
    hardest = parts[name]
    text = (
        f"below a confidence of {threshold:.0%} a device says 'uncertain': set for {target:.0%} "
        f"right by {judged_by}, all labels counting equally, on the hardest of {', '.join(parts)}; "
        f"{first.coverage:.0%} of the first get a label, of which {first.accuracy:.0%} are right, "
        f"and {hardest.coverage:.0%} of the hardest, {name}, of which {hardest.accuracy:.0%} are "
        "right"
    )
    never = ": what it is set for is never reached there"
    return text if hardest.accuracy >= target else f"{text}{never}"


class _Outcome(NamedTuple):
    """(n, outputs) probabilities of the rows with a label, (n,) these labels, and (n,) how much
    each row counts.
    """

    probabilities: Array
    labels: Labels
    weights: Floats

    @property
    def predicted(self) -> Array:
        return self.probabilities.argmax(axis=1)

    @property
    def is_right(self) -> Mask:
        return self.predicted == self.labels

    def is_given(self, threshold: float) -> Mask:
        """(n,) whether a row gets a label."""
        return self.probabilities.max(axis=1) >= threshold

    def at(self, threshold: float) -> PartCalibration:
        is_given = self.is_given(threshold)
        given_weights = self.weights * is_given
        error = metrics.binned_calibration_error(
            self.probabilities.max(axis=1), self.is_right, self.weights
        )
        return PartCalibration(
            rows=len(self.labels),
            coverage=_share(given_weights, self.weights),
            accuracy=_share(given_weights * self.is_right, given_weights),
            calibration_error=error,
        )


def _at(outcomes: dict[str, _Outcome], threshold: float) -> dict[str, PartCalibration]:
    return {name: outcome.at(threshold) for name, outcome in outcomes.items()}


def _fit_temperature(parts: Sequence[CalibrationRows]) -> float:
    logits = np.concatenate([part.logits for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    weights = np.concatenate([loss_weights(part.labels) for part in parts])
    rows = labels >= 0
    return metrics.fit_temperature(logits[rows], labels[rows], weights[rows])


def _outcomes(
    parts: Iterable[CalibrationRows], temperature: float
) -> Iterator[tuple[str, _Outcome]]:
    """Yield the names of the parts that have labels for the threshold to go by, and their
    outcomes.
    """
    for part in parts:
        rows = part.target_labels >= 0
        if rows.any():
            labels = part.target_labels[rows]
            probabilities = softmax(part.logits[rows], temperature)
            yield part.name, _Outcome(probabilities, labels, loss_weights(labels))


def _reliability(
    outcomes: dict[str, _Outcome], label_names: Sequence[str], threshold: float
) -> dict[str, LabelReliability]:
    """How well each label that rows have can be told."""
    pooled = _Outcome(*map(np.concatenate, zip(*outcomes.values(), strict=True)))
    is_given = pooled.is_given(threshold)
    reliability = {}
    for index, name in enumerate(label_names):
        has_label = pooled.labels == index
        if not has_label.any():
            continue
        gets_label = (pooled.predicted == index) & is_given
        weights = pooled.weights
        reliability[name] = LabelReliability(
            rows=max(int((outcome.labels == index).sum()) for outcome in outcomes.values()),
            recall=_share(weights * (has_label & pooled.is_right), weights * has_label),
            precision=_share(weights * (gets_label & has_label), weights * gets_label),
        )
    return reliability


def _share(part: Array, whole: Array) -> float:
    """The part of a sum of weights; 0 where there is nothing to share."""
    total = float(whole.sum())
    return float(part.sum()) / total if total else 0.0
