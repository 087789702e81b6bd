"""A calibration holds on the hardest of its parts, with all labels counting equally, and says so."""

import numpy as np
import pytest
from mien_train import metrics
from mien_train.data.corruptions import CORRUPTIONS, corrupted_views
from mien_train.results.calibration import CalibrationRows, calibrate

NAMES = ("angry", "happy", "neutral")


def part(name, margins, labels, predicted=None):
    """Rows whose predicted label, by default the true one, leads by a margin of the logits."""
    labels = np.array(labels, np.int8)
    predicted = labels if predicted is None else np.array(predicted)
    logits = np.zeros((len(labels), len(NAMES)), np.float32)
    logits[np.arange(len(labels)), predicted] = margins
    return CalibrationRows(name, logits, labels, labels)


def noisy(name, seed, share_right_at_most, count=600):
    """Rows that are right the more often the surer, and never more often than that."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(NAMES), count)
    margins = rng.uniform(0.1, 4, count)
    is_right = rng.random(count) < share_right_at_most * (0.4 + 0.6 * margins / 4)
    predicted = np.where(is_right, labels, (labels + 1) % len(NAMES))
    return part(name, margins, labels, predicted)


def fit(*parts, target=0.8):
    return calibrate(parts, NAMES, target, "votes")


def test_the_threshold_is_that_of_the_part_that_needs_the_highest():
    easy = noisy("easy", 1, 1.0)
    hard = noisy("hard", 2, 0.9)
    result = fit(easy, hard)
    assert result.hardest == "hard"
    assert fit(easy).threshold < result.threshold
    assert result.parts["hard"].accuracy >= 0.8
    assert result.parts["easy"].accuracy > result.parts["hard"].accuracy
    assert fit(hard, easy).threshold == result.threshold, "whichever comes first"


def test_a_frequent_label_does_not_hide_the_rare_ones():
    labels = [1] * 900 + [0] * 100
    predicted = [1] * 900 + [0] * 40 + [1] * 60
    margins = [3.0] * 900 + [3.0] * 40 + [2.0] * 60
    result = fit(part("rows", margins, labels, predicted), target=0.9)
    logits = part("rows", margins, labels, predicted).logits
    sureness = np.exp(2 / result.temperature) / (np.exp(2 / result.temperature) + 2)
    assert (logits.argmax(axis=1) == labels).mean() == 0.94
    assert result.threshold > sureness, "where 40 % of the rare faces are told wrong, none is told"
    assert result.parts["rows"].accuracy == 1.0
    assert result.parts["rows"].coverage == pytest.approx(0.7)


def test_labels_that_cannot_be_told_are_named():
    labels = [0] * 40 + [1] * 40 + [2] * 10
    predicted = [0] * 15 + [1] * 25 + [1] * 40 + [2] * 10
    result = fit(part("rows", np.full(90, 3.0), labels, predicted), target=0.5)
    assert result.labels["angry"].recall == pytest.approx(15 / 40)
    assert result.labels["angry"].precision == 1.0
    assert result.labels["happy"].is_reliable
    assert result.labels["neutral"].rows == 10
    assert result.unreliable == ("angry", "neutral"), "one is missed, of the other are too few"


def test_a_label_without_faces_is_not_judged():
    result = fit(part("rows", np.full(60, 3.0), [0] * 30 + [1] * 30))
    assert set(result.labels) == {"angry", "happy"}
    assert result.unreliable == ()


def test_what_is_never_reached_is_said_and_the_threshold_stays_one_of_a_card():
    labels = [0, 1] * 50
    result = fit(part("rows", np.full(100, 60.0), labels, [1, 1] * 50), target=0.9)
    assert result.threshold < 1
    assert result.scope.endswith(": what it is set for is never reached there")
    reached = fit(part("rows", np.full(100, 3.0), labels), target=0.9)
    assert "never" not in reached.scope


def test_the_scope_says_what_it_holds_for_and_what_that_costs():
    scope = fit(noisy("validation rows", 1, 1.0), noisy("blur", 2, 0.9)).scope
    assert "set for 80% right by votes, all labels counting equally" in scope
    assert "on the hardest of validation rows, blur; " in scope
    assert "of the hardest, blur, of which 8" in scope


def test_a_part_without_labels_to_go_by_says_nothing():
    rows = noisy("rows", 1, 1.0)
    unlabelled = rows._replace(name="others", target_labels=np.full_like(rows.labels, -1))
    result = fit(rows, unlabelled)
    assert list(result.parts) == ["rows"]


def test_rows_that_count_twice_are_as_if_they_came_twice():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((200, 3))
    labels = rng.integers(0, 3, 200)
    weights = np.where(labels == 0, 2.0, 1.0)
    again = np.concatenate([np.arange(200), np.flatnonzero(labels == 0)])
    temperature = metrics.fit_temperature(logits, labels, weights)
    assert temperature == metrics.fit_temperature(logits[again], labels[again])
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    confidence = probabilities.max(axis=1)
    is_right = probabilities.argmax(axis=1) == labels
    error = metrics.binned_calibration_error(confidence, is_right, weights)
    repeated = metrics.binned_calibration_error(confidence[again], is_right[again])
    assert error == pytest.approx(repeated)
    curve = metrics.risk_coverage(probabilities, labels, weights)
    assert curve.coverage[-1] == 1
    assert curve.accuracy[-1] == pytest.approx(is_right[again].mean())


def test_every_picture_is_corrupted_in_every_way_and_the_same_each_time():
    images = np.random.default_rng(0).integers(0, 256, (4, 48, 48), np.uint8)
    views = dict(corrupted_views(images))
    assert list(views) == [corruption.name for corruption in CORRUPTIONS]
    for name, again in corrupted_views(images):
        assert views[name].shape == images.shape
        assert (views[name] == again).all()
        assert (views[name] != images).any(axis=(1, 2)).all(), name
