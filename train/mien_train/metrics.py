"""Metrics of a classifier, from logits or calibrated probabilities and labels. NumPy and SciPy
only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from mien_edge import schema
from mien_edge.contract import LABELS, softmax
from mien_edge.errors import RunError
from scipy import stats

from mien_train.arrays import Array, Doubles, Indices, Mask

CONFIDENCE_BINS = 15
TARGET_ACCURACIES = (0.8, 0.9, 0.95)
"""Accuracies that the risk-coverage table is made for."""

NEVER = "never"
"""What is said of an accuracy that no share of the rows reaches."""

_TEMPERATURES = (0.1, 10.0)
_GRID_POINTS = 41
_THRESHOLDS = np.arange(10_000) / 10_000  # a card's is below 1
_MIN_ACCEPTED = 30  # rows; among fewer, an accuracy is chance


@dataclass(frozen=True)
class ClassificationMetrics:
    """How good predictions are against the labels of `rows` rows.

    accuracy: 0..1. macro_f1: 0..1, mean over the labels that rows have. precision, recall: 0..1 by
    each of these labels; a precision of 0 where it was never predicted.
    confusion: a row of counts for each of the network's labels; row: label, column: prediction.
    calibration_error: expected calibration error, 0..1.
    nll: mean negative log-likelihood in nats. coverage: for each of TARGET_ACCURACIES ('80%' …) the
    share of rows whose confidence is high enough for it; None where no confidence is.
    """

    rows: int
    accuracy: float
    macro_f1: float
    precision: dict[str, float]
    recall: dict[str, float]
    confusion: tuple[tuple[int, ...], ...]
    calibration_error: float
    nll: float
    coverage: dict[str, float | None]

    def to_json(self) -> dict[str, Any]:
        """The metrics as JSON's values, under the fields' names."""
        return schema.to_dict(self)

    @classmethod
    def from_json(cls, values: Any, where: str) -> "ClassificationMetrics":
        """Read back what `to_json` gave. Raises RunError that names `where` and the key that does
        not fit.
        """
        return schema.from_dict(cls, values, where, RunError)


class ReliabilityBin(NamedTuple):
    """One bin of a reliability diagram: mean confidence and accuracy (0..1) of its rows, and their
    number, or how much they count in sum.
    """

    confidence: float
    accuracy: float
    rows: float


class RiskCoverage(NamedTuple):
    """(n,) confidences from the greatest down; (n,) accuracies of the rows with at least each, and
    (n,) shares of all rows that these are.
    """

    confidence: Doubles
    accuracy: Doubles
    coverage: Doubles


class McNemar(NamedTuple):
    """McNemar's test: rows that only the first classifier has right, only the second, and the exact
    two-sided p.
    """

    gained: int
    lost: int
    p: float


def confusion_matrix(labels: Array, predicted: Array, count: int) -> Indices:
    """Count (n,) predictions against (n,) labels: (count, count) int64; row: label, column:
    prediction.
    """
    counts = np.zeros((count, count), np.int64)
    np.add.at(counts, (labels.astype(int), predicted.astype(int)), 1)
    return counts


def classification_metrics(
    logits: Array,
    labels: Array,
    temperature: float = 1.0,
    label_names: Sequence[str] = LABELS,
) -> ClassificationMetrics:
    """All metrics of (n, outputs) logits, divided by `temperature`, against (n,) labels.

    label_names: what the outputs stand for.
    """
    probabilities = softmax(logits, temperature)
    matrix = confusion_matrix(labels, probabilities.argmax(axis=1), len(label_names))
    correct = np.diag(matrix)
    labelled = matrix.sum(axis=1)
    predicted = matrix.sum(axis=0)
    occurs = labelled > 0
    names = [name for name, occurring in zip(label_names, occurs, strict=True) if occurring]
    precision = _ratio(correct, predicted)[occurs]
    recall = _ratio(correct, labelled)[occurs]
    f1 = _ratio(2 * correct, labelled + predicted)[occurs]
    return ClassificationMetrics(
        rows=len(labels),
        accuracy=float(correct.sum() / max(len(labels), 1)),
        macro_f1=float(f1.mean()) if names else 0.0,
        precision=dict(zip(names, precision.tolist(), strict=True)),
        recall=dict(zip(names, recall.tolist(), strict=True)),
        confusion=tuple(tuple(counts) for counts in matrix.tolist()),
        calibration_error=calibration_error(probabilities, labels),
        nll=nll(logits, labels, temperature),
        coverage=target_coverages(risk_coverage(probabilities, labels)),
    )


def coverage_as_text(coverage: float | None) -> str:
    """A share of ClassificationMetrics.coverage in per cent, or NEVER."""
    return NEVER if coverage is None else f"{coverage:.1%}"


def reliability(probabilities: Array, labels: Array) -> list[ReliabilityBin]:
    """The bins of a reliability diagram that are not empty, of 15 equal ones.

    probabilities: (n, outputs). labels: (n,).
    """
    is_correct = probabilities.argmax(axis=1) == labels
    return _reliability_bins(probabilities.max(axis=1), is_correct)


def _reliability_bins(
    confidence: Array, is_correct: Mask, weights: Array | None = None
) -> list[ReliabilityBin]:
    numbers = np.minimum((confidence * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)
    counts = np.ones(len(confidence)) if weights is None else weights
    bins = []
    for number in np.unique(numbers):
        rows = numbers == number
        mean_confidence = float(np.average(confidence[rows], weights=counts[rows]))
        accuracy = float(np.average(is_correct[rows], weights=counts[rows]))
        bins.append(ReliabilityBin(mean_confidence, accuracy, float(counts[rows].sum())))
    return bins


def calibration_error(probabilities: Array, labels: Array) -> float:
    """Expected calibration error over 15 equal bins, 0..1 (Naeini et al. 2015, Guo et al. 2017)."""
    is_correct = probabilities.argmax(axis=1) == labels
    return binned_calibration_error(probabilities.max(axis=1), is_correct)


def binned_calibration_error(
    confidence: Array, is_correct: Mask, weights: Array | None = None
) -> float:
    """The same of (n,) confidences, and whether each prediction is right; 0 of none.

    weights: (n,) how much each row counts; None for 1.
    """
    bins = _reliability_bins(confidence, is_correct, weights)
    errors = sum(rows * abs(confidence - accuracy) for confidence, accuracy, rows in bins)
    return errors / sum(each.rows for each in bins) if bins else 0.0


def nll(logits: Array, labels: Array, temperature: float, weights: Array | None = None) -> float:
    """Mean negative log-likelihood of (n,) labels in nats, given (n, outputs) logits.

    weights: (n,) how much each row counts; None for 1.
    """
    rows = np.arange(len(labels))
    likelihoods = softmax(logits, temperature)[rows, labels.astype(int)]
    losses = -np.log(np.maximum(likelihoods, 1e-12))
    return float(np.average(losses, weights=weights))


def fit_temperature(logits: Array, labels: Array, weights: Array | None = None) -> float:
    """The temperature of 0.1 to 10 with the least negative log-likelihood, to three digits (Guo et
    al. 2017).

    weights: (n,) how much each row counts; None for 1.
    """
    grid = np.geomspace(*_TEMPERATURES, _GRID_POINTS)
    for _ in range(3):
        losses = [nll(logits, labels, float(temperature), weights) for temperature in grid]
        best = int(np.argmin(losses))
        low = grid[max(best - 1, 0)]
        high = grid[min(best + 1, _GRID_POINTS - 1)]
        grid = np.geomspace(low, high, _GRID_POINTS)
    return round(float(grid[_GRID_POINTS // 2]), 3)


def threshold_for_accuracy(curves: Sequence[RiskCoverage], target: float) -> float:
    """The least confidence, to four digits, such that on each of the risk-coverage curves a share
    of at least `target` of the rows at or above it is right (selective prediction). Where none is,
    the one with the best accuracy on the curve where that is worst.

    At least 30 rows of each curve, or all where there are fewer, must lie at or above it: a handful
    that happens to be right promises nothing.
    """
    accuracies = np.stack([_accuracies(curve) for curve in curves]).min(axis=0)
    sufficient = np.flatnonzero(accuracies >= target)
    best = int(sufficient[0] if len(sufficient) else accuracies.argmax())
    return float(_THRESHOLDS[best])


def risk_coverage(
    probabilities: Array, labels: Array, weights: Array | None = None
) -> RiskCoverage:
    """The risk-coverage curve of (n, outputs) probabilities against (n,) labels (Geifman & El-Yaniv
    2017). weights: (n,) how much each row counts; None for 1.
    """
    is_correct = probabilities.argmax(axis=1) == labels
    return risk_coverage_of(probabilities.max(axis=1), is_correct, weights)


def risk_coverage_of(
    confidence: Array, is_correct: Mask, weights: Array | None = None
) -> RiskCoverage:
    """The same of (n,) confidences, and whether each prediction is right."""
    order = np.argsort(-confidence, kind="stable")
    counts = np.ones(len(order)) if weights is None else np.asarray(weights, np.float64)[order]
    covered = np.cumsum(counts)
    accuracy = np.cumsum(is_correct[order] * counts) / covered
    return RiskCoverage(confidence[order], accuracy, covered / covered[-1:])


def target_coverages(curve: RiskCoverage) -> dict[str, float | None]:
    """The greatest coverage at which each of TARGET_ACCURACIES ('80%' …) is reached, 0..1; None
    where no coverage of at least 30 rows, or of all where there are fewer, reaches it.
    """
    first = min(_MIN_ACCEPTED, len(curve.accuracy)) - 1
    coverages: dict[str, float | None] = {}
    for target in TARGET_ACCURACIES:
        sufficient = first + np.flatnonzero(curve.accuracy[first:] >= target)
        coverages[f"{target:.0%}"] = (
            float(curve.coverage[sufficient[-1]]) if len(sufficient) else None
        )
    return coverages


def mcnemar(is_correct: Mask, other_is_correct: Mask) -> McNemar:
    """McNemar's exact test of two classifiers on the same rows, from (n,) flags of each; p is 1
    where they agree.
    """
    gained = int((is_correct & ~other_is_correct).sum())
    lost = int((~is_correct & other_is_correct).sum())
    if gained + lost == 0:
        return McNemar(gained, lost, 1.0)
    return McNemar(gained, lost, float(stats.binomtest(gained, gained + lost).pvalue))


def _accuracies(curve: RiskCoverage) -> Doubles:
    """The accuracy of a curve at each of _THRESHOLDS; below 0 where too few rows have it."""
    rows = np.searchsorted(-curve.confidence, -_THRESHOLDS, side="right")
    required = min(_MIN_ACCEPTED, len(curve.confidence))
    return np.where(rows >= required, curve.accuracy[rows - 1], -1.0)


def _ratio(numerators: Array, denominators: Array) -> Doubles:
    """Element by element; 0 where the denominator is 0."""
    zeros = np.zeros(len(numerators))
    return np.divide(numerators, denominators, out=zeros, where=denominators > 0)
