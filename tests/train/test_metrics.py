"""Figures, checked by hand or against known cases."""

import json

import numpy as np
import pytest
from mien_edge.contract import LABELS, softmax
from mien_edge.errors import RunError
from mien_train import metrics
from mien_train.metrics import ClassificationMetrics
from mien_train.results import evaluation


def logits_for(predicted, confidence=8.0):
    return np.eye(len(LABELS))[predicted] * confidence


def test_figures_of_a_case_counted_by_hand():
    labels = np.array([0, 0, 1, 1, 3, 3])
    predicted = np.array([0, 1, 1, 1, 3, 0])
    figures = metrics.classification_metrics(logits_for(predicted), labels)
    assert figures.accuracy == pytest.approx(4 / 6)
    assert figures.precision["disgust"] == pytest.approx(2 / 3)
    assert figures.recall["happy"] == pytest.approx(1 / 2)
    assert figures.macro_f1 == pytest.approx((0.5 + 0.8 + 2 / 3) / 3), "of the labels that occur"
    assert set(figures.recall) == {"angry", "disgust", "happy"}
    assert figures.confusion[0][1] == 1


def test_calibration_error_is_zero_when_confidence_is_the_accuracy():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20000, 7))
    probabilities = softmax(logits)
    labels = np.array([rng.choice(7, p=row) for row in probabilities])
    assert metrics.calibration_error(probabilities, labels) < 0.015
    assert metrics.calibration_error(softmax(logits * 4), labels) > 0.15
    assert metrics.fit_temperature(logits * 4, labels) == pytest.approx(4, rel=0.05)


def test_the_threshold_reaches_its_target_accuracy():
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 1.5, (20000, 7))
    probabilities = softmax(logits)
    labels = np.array([rng.choice(7, p=row) for row in probabilities])
    curve = metrics.risk_coverage(probabilities, labels)
    accepted = probabilities.max(axis=1) >= metrics.threshold_for_accuracy([curve], 0.7)
    assert 0.1 < accepted.mean() < 0.9
    assert (probabilities.argmax(axis=1) == labels)[accepted].mean() >= 0.7
    assert (probabilities.argmax(axis=1) == labels)[accepted].mean() == pytest.approx(0.7, abs=0.01)


def test_a_target_accuracy_out_of_reach_gives_the_best_threshold():
    confidence = np.repeat([0.9, 0.6], 40)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    labels = np.array([0] * 32 + [1] * 8 + [0] * 20 + [1] * 20)
    curve = metrics.risk_coverage(probabilities, labels)
    assert 0.6 < metrics.threshold_for_accuracy([curve], 0.9) <= 0.9


def test_a_handful_of_sure_faces_promises_nothing():
    confidence = np.concatenate([np.full(29, 0.99), np.full(71, 0.6)])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    labels = np.array([0] * 29 + [0, 1] * 35 + [1])
    curve = metrics.risk_coverage(probabilities, labels)
    assert metrics.threshold_for_accuracy([curve], 0.95) <= 0.6


def test_an_accuracy_that_no_share_of_the_faces_reaches_is_reached_never():
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 1, (1000, 7))
    predicted = logits.argmax(axis=1)
    is_wrong = rng.random(1000) < 0.3
    labels = np.where(is_wrong, (predicted + 1) % 7, predicted)
    figures = metrics.classification_metrics(logits, labels)
    assert figures.coverage["95%"] is None
    text = evaluation.scores_as_text({"fer2013": figures})
    assert "never at 90%, never at 95%" in text
    stored = json.loads(json.dumps(figures.to_json()))
    assert metrics.ClassificationMetrics.from_json(stored, "figures").coverage["95%"] is None


def test_a_handful_of_faces_that_happen_to_be_right_reaches_no_accuracy():
    logits = np.zeros((1000, 7))
    logits[:, 0] = np.linspace(9, 1, 1000)
    labels = np.ones(1000, int)
    labels[:9] = 0
    assert metrics.classification_metrics(logits, labels).coverage["80%"] is None


def test_metrics_read_back_from_json_are_equal():
    rng = np.random.default_rng(2)
    figures = metrics.classification_metrics(rng.normal(0, 1, (50, 7)), rng.integers(0, 7, 50))
    stored = json.loads(json.dumps(figures.to_json()))
    assert ClassificationMetrics.from_json(stored, "figures") == figures
    with pytest.raises(RunError, match="'nll' is missing"):
        ClassificationMetrics.from_json(
            {key: stored[key] for key in stored if key != "nll"}, "figures"
        )
