"""The head that learns from its teacher alone."""

import numpy as np
import pytest
from mien_train.data import heads
from mien_train.data.source import DataSource
from mien_train.training import derived, networks


def test_a_prior_is_the_share_of_each_label_in_the_targets_of_its_head():
    targets = np.array([[1, 0, 0.5, 0.5], [1, 0, 0, 0], [0, 1, 0, 0.5]], np.float32)
    [first, second] = derived.priors(targets, [2, 2])
    assert first == pytest.approx([2 / 3, 1 / 3])
    assert second == pytest.approx([1 / 3, 2 / 3])


def test_a_head_that_says_no_more_than_it_expects_says_nothing():
    priors = [np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.1, 0.8])]
    teacher = np.concatenate(priors)[None]
    assert derived.probabilities(teacher, ("fer2013", "ferplus"), priors)[0] == pytest.approx(
        [1 / 3] * 3
    )


def test_the_heads_are_averaged_as_logarithms_and_packages_come_on_top():
    priors = [np.array([0.5, 0.5]), np.array([0.25, 0.75])]
    teacher = np.array([[0.8, 0.2, 0.5, 0.5]])
    odds = 4**0.4 * 3**0.6
    both = derived.probabilities(teacher, ("fer2013", "ferplus"), priors)
    assert both[0, 0] / both[0, 1] == pytest.approx(odds)
    packages = np.log([[0.1, 0.9]])
    taught = derived.probabilities(teacher, ("fer2013", "ferplus"), priors, packages)
    assert taught[0, 0] / taught[0, 1] == pytest.approx(odds * 9**-1.15)


def test_no_row_teaches_a_derived_head_and_the_majority_measures_it(voted):
    dataset = DataSource(voted, voted.parent / "fer2013new.csv").dataset
    assert not heads.REAL.targets(dataset, 0.1).any()
    majority = heads.FERPLUS.label_indices(dataset)
    assert (heads.REAL.label_indices(dataset) == majority).all()
    both = heads.stack_learned_labels(dataset, [heads.FERPLUS, heads.REAL])
    assert (both[:, 0] == majority).all()
    assert (both[:, 1] == -1).all()
    assert heads.learned(["fer2013", "real", "labels"]) == ("fer2013", "labels")


def test_further_heads_begin_as_the_mean_and_heads_of_several_sizes_are_left_alone():
    kernel = np.arange(8.0).reshape(2, 4)
    bias = np.arange(4.0)
    *body, wider_kernel, wider_bias = networks.more_heads(["body", kernel, bias], 6, 2)
    assert body == ["body"]
    assert wider_kernel.tolist() == [[0, 1, 2, 3, 1, 2], [4, 5, 6, 7, 5, 6]]
    assert wider_bias.tolist() == [0, 1, 2, 3, 1, 2]
    seven_and_eight = [np.zeros((2, 15)), np.zeros(15)]
    assert networks.more_heads(seven_and_eight, 15, 7) == seven_and_eight
