"""Folds that keep groups together and labels even."""

import numpy as np
import pytest
from mien_edge.errors import DataError
from mien_train.data.folds import FOLDS, assign_folds, fold_count, hold_out


def test_a_group_is_in_one_fold_and_each_label_in_all_of_them():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 90, 400)
    labels = rng.choice(4, 400, p=[0.5, 0.3, 0.15, 0.05]).astype(np.int8)
    folds = assign_folds(labels, groups, 5, seed=0)
    assert all(len(np.unique(folds[groups == group])) == 1 for group in groups)
    assert set(folds.tolist()) == {0, 1, 2, 3, 4}
    for label in range(4):
        parts = np.bincount(folds[labels == label], minlength=5)
        assert parts.max() - parts.min() <= max(3, 0.15 * parts.sum())
    assert (assign_folds(labels, groups, 5, seed=0) == folds).all()
    assert (assign_folds(labels, groups, 5, seed=1) != folds).any()


def test_folds_of_single_rows_are_stratified_exactly():
    labels = np.repeat(np.arange(3), [50, 25, 5]).astype(np.int8)
    folds = assign_folds(labels, np.arange(80), 5, seed=3)
    for label, each in enumerate((10, 5, 1)):
        assert np.bincount(folds[labels == label], minlength=5).tolist() == [each] * 5


def test_a_tenth_is_held_out_in_whole_groups_and_of_each_label():
    groups = np.repeat(np.arange(100), 2)
    labels = (groups % 2).astype(np.int8)
    is_held = hold_out(labels, groups, seed=0)
    assert not set(groups[is_held]) & set(groups[~is_held])
    assert np.bincount(labels[is_held]).tolist() == [10, 10]
    assert hold_out(labels, np.zeros(200), seed=0).sum() == 20


def test_fewer_groups_than_folds_are_refused():
    with pytest.raises(DataError, match="3 groups make no 5 folds; add pictures of other people"):
        assign_folds(np.zeros(9, np.int8), np.arange(9) % 3, 5, seed=0)


def test_as_few_folds_as_there_are_people_are_enough():
    assert fold_count(np.arange(100)) == FOLDS
    assert fold_count(np.arange(100) % 3) == 3
