"""Figures, checked by hand or against known cases."""

import numpy as np
import pytest
from mien_edge.contract import LABELS, softmax
from mien_train import metrics


def logits_for(told, confidence=8.0):
    return np.eye(len(LABELS))[told] * confidence


def test_figures_of_a_case_counted_by_hand():
    labels, told = np.array([0, 0, 1, 1, 3, 3]), np.array([0, 1, 1, 1, 3, 0])
    found = metrics.figures(logits_for(told), labels)
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["precision"]["disgust"] == pytest.approx(2 / 3)
    assert found["recall"]["happy"] == pytest.approx(1 / 2)
    assert found["macro_f1"] == pytest.approx((0.5 + 0.8 + 2 / 3) / 7)
    assert found["confusion"][0][1] == 1


def test_calibration_error_is_zero_when_confidence_is_the_accuracy():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20000, 7))
    probabilities = softmax(logits)
    labels = np.array([rng.choice(7, p=row) for row in probabilities])
    assert metrics.calibration_error(probabilities, labels) < 0.015
    assert metrics.calibration_error(softmax(logits * 4), labels) > 0.15
    assert metrics.fit_temperature(logits * 4, labels) == pytest.approx(4, rel=0.05)


def test_the_trust_threshold_reaches_what_is_wanted():
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 1.5, (20000, 7))
    probabilities = softmax(logits)
    labels = np.array([rng.choice(7, p=row) for row in probabilities])
    threshold, coverage = metrics.trust_threshold(probabilities, labels, 0.7)
    accepted = probabilities.max(axis=1) >= threshold
    assert accepted.mean() == pytest.approx(coverage, abs=0.01)
    assert (probabilities.argmax(axis=1) == labels)[accepted].mean() == pytest.approx(0.7, abs=0.01)


def test_a_trust_that_cannot_be_reached_takes_the_best_there_is():
    threshold, coverage = metrics.trust_threshold(np.full((4, 7), 1 / 7), np.array([1, 2, 3, 4]), 0.9)
    assert 0 <= threshold <= 1
    assert 0 < coverage <= 1
