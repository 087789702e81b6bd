"""Figures of labelled photographs hold what became of each, and their intervals what chance could do."""

import numpy as np
import pytest
from mien_edge.chain.outcomes import FIGURES, Outcomes, figures, intervals, sampled_figures

LABELS = ("happy", "sad", "fear")


def outcomes(truth, predicted, settled, groups=None):
    confidence = np.full(len(truth), 0.8)
    return Outcomes(
        LABELS,
        np.array(truth),
        np.array(predicted),
        confidence,
        np.array(settled, bool),
        None if groups is None else np.array(groups),
    )


def test_each_figure_is_what_its_definition_says_and_a_missed_face_is_wrong_in_all_of_them():
    # four happy, of which one is taken for sad and one has no face; one sad, which is right
    photographs = outcomes([0, 0, 0, 0, 1], [0, 0, 1, -1, 1], [1, 0, 1, 0, 1])
    values = figures(photographs)
    assert values["accuracy"] == pytest.approx(3 / 5)
    assert values["balanced_accuracy"] == pytest.approx((2 / 4 + 1) / 2)
    happy_f1 = 2 * 2 / (4 + 2)
    sad_f1 = 2 * 1 / (1 + 2)
    assert values["macro_f1"] == pytest.approx((happy_f1 + sad_f1) / 2)
    assert values["coverage"] == pytest.approx(3 / 5)
    assert values["settled_accuracy"] == pytest.approx(2 / 3)


def test_no_photograph_and_no_label_that_was_told_give_zeros():
    nothing = outcomes(np.zeros(0, int), np.zeros(0, int), [])
    assert figures(nothing) == dict.fromkeys(FIGURES, 0.0)
    assert intervals(nothing)["accuracy"] == (0.0, 0.0)
    doubtful = outcomes([0, 1], [0, 1], [0, 0])
    assert figures(doubtful)["settled_accuracy"] == 0.0
    assert intervals(doubtful)["settled_accuracy"] == (0.0, 0.0)


def test_photographs_of_few_people_tell_less_than_photographs_of_many():
    """The same outcomes, of which each person's ten are alike: an interval by person is wider."""
    people = np.repeat(np.arange(12), 10)
    predicted = np.where(people % 3 == 0, 1, 0)
    settled = np.ones(120)
    alone = outcomes(np.zeros(120, int), predicted, settled)
    grouped = outcomes(np.zeros(120, int), predicted, settled, people)
    low, high = intervals(alone)["accuracy"]
    grouped_low, grouped_high = intervals(grouped)["accuracy"]
    assert figures(alone) == figures(grouped)
    # standard errors: sqrt(2/9 / 120) and sqrt(2/9 / 12), 3.2 times as much
    assert (grouped_high - grouped_low) / (high - low) == pytest.approx(10**0.5, rel=0.15)


def test_two_models_are_drawn_alike():
    """A model that is right wherever the other is, and once more, is better in every sample or equal."""
    truth = np.tile([0, 1, 2], 20)
    worse = truth.copy()
    worse[::2] = (worse[::2] + 1) % 3
    better = worse.copy()
    better[0] = truth[0]
    settled = np.ones(60)
    gains = (
        sampled_figures(outcomes(truth, better, settled))["accuracy"]
        - sampled_figures(outcomes(truth, worse, settled))["accuracy"]
    )
    assert gains.min() >= 0 < gains.max()
