"""Figures of a classifier, from calibrated probabilities and labels. NumPy and SciPy only."""

from typing import Any

import numpy as np
from mien_edge.contract import LABELS, softmax
from numpy.typing import NDArray
from scipy import stats

BINS = 15
WANTED = (0.8, 0.9, 0.95)
"""Accuracies that the risk-coverage table is made for."""


def confusion(labels: NDArray[Any], told: NDArray[Any]) -> NDArray[np.int64]:
    """(7, 7) counts; row: label, column: what was told."""
    counts = np.zeros((len(LABELS), len(LABELS)), np.int64)
    np.add.at(counts, (labels.astype(int), told.astype(int)), 1)
    return counts


def figures(logits: NDArray[Any], labels: NDArray[Any], temperature: float = 1.0) -> dict[str, Any]:
    """Accuracy, macro-F1, precision and recall per class, confusion matrix, expected calibration error, negative
    log-likelihood (nats) and risk-coverage of (n, 7) logits against (n,) labels.
    """
    probabilities = softmax(logits, temperature)
    table = confusion(labels, probabilities.argmax(axis=1))
    right, asked, told = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    precision, recall = _ratio(right, told), _ratio(right, asked)
    f1 = _ratio(2 * right, asked + told)
    return {
        "rows": len(labels),
        "accuracy": float(right.sum() / max(len(labels), 1)),
        "macro_f1": float(f1.mean()),
        "precision": dict(zip(LABELS, precision.tolist(), strict=True)),
        "recall": dict(zip(LABELS, recall.tolist(), strict=True)),
        "confusion": table.tolist(),
        "calibration_error": calibration_error(probabilities, labels),
        "nll": nll(logits, labels, temperature),
        "coverage": {f"{wanted:.0%}": trust_threshold(probabilities, labels, wanted)[1] for wanted in WANTED},
    }


def _ratio(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    return np.divide(a, b, out=np.zeros(len(a)), where=b > 0)


def reliability(probabilities: NDArray[Any], labels: NDArray[Any]) -> list[tuple[float, float, int]]:
    """(mean confidence, accuracy, rows) of each of 15 equal confidence bins that is not empty."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    chosen = [bins == i for i in range(BINS) if (bins == i).any()]
    return [(float(confidence[rows].mean()), float(right[rows].mean()), int(rows.sum())) for rows in chosen]


def calibration_error(probabilities: NDArray[Any], labels: NDArray[Any]) -> float:
    """Expected calibration error over 15 equal bins (Naeini et al. 2015, Guo et al. 2017), 0..1."""
    rows = reliability(probabilities, labels)
    return sum(count * abs(confidence - accuracy) for confidence, accuracy, count in rows) / max(len(labels), 1)


def nll(logits: NDArray[Any], labels: NDArray[Any], temperature: float) -> float:
    """Mean negative log-likelihood in nats."""
    chosen = softmax(logits, temperature)[np.arange(len(labels)), labels.astype(int)]
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


def fit_temperature(logits: NDArray[Any], labels: NDArray[Any]) -> float:
    """The temperature of 0.1 to 10 with the least negative log-likelihood, to three digits (Guo et al. 2017)."""
    grid = np.geomspace(0.1, 10, 41)
    for _ in range(3):
        losses = [nll(logits, labels, float(value)) for value in grid]
        best = int(np.argmin(losses))
        grid = np.geomspace(grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)], 41)
    return round(float(grid[len(grid) // 2]), 3)


def trust_threshold(probabilities: NDArray[Any], labels: NDArray[Any], wanted: float) -> tuple[float, float]:
    """(threshold, coverage): the least confidence such that rows at or above it are right in a share of at least
    `wanted`; coverage is those rows' share of all. Where no threshold reaches it, the one with the best accuracy.
    """
    confidence, accuracy = risk_coverage(probabilities, labels)
    reached = np.flatnonzero(accuracy >= wanted)
    last = int(reached[-1]) if len(reached) else int(accuracy.argmax())
    return round(float(confidence[last]), 4), (last + 1) / len(labels)


def risk_coverage(probabilities: NDArray[Any], labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """(n,) confidences, falling, and the accuracy of the rows with at least each (Geifman & El-Yaniv 2017)."""
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    right = (probabilities.argmax(axis=1) == labels)[order]
    return confidence[order], np.cumsum(right) / np.arange(1, len(right) + 1)


def mcnemar(right: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[int, int, float]:
    """(rows that only the first got right, only the other, exact two-sided p) of McNemar's test on the same rows."""
    gained, lost = int((right & ~other).sum()), int((~right & other).sum())
    return gained, lost, float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
