"""Rows in folds: each label spread as evenly as possible, rows of one group always together."""

from dataclasses import dataclass, replace

import numpy as np
from mien_edge.errors import DataError

from mien_train.arrays import Doubles, Indices, Labels, Mask
from mien_train.data.duplicates import cached_near_groups
from mien_train.data.read import PUBLIC_TEST, USAGES, Dataset
from mien_train.data.splits import Split, split_groups

FOLDS = 5
SPLIT_NAME = "all but validation"
_HOLD_OUT_FOLDS = 10  # of which one is held out


@dataclass(frozen=True, eq=False)
class GroupedRows:
    """The rows of a data set that can be learnt from: those with a label that are not for tests.

    rows: (n,) row numbers of the dataset. labels: (n,) indices of its label_names. named_groups:
    (n,), what must not be torn, see splits.split_groups. groups: (n,), the same, or near duplicates
    where all rows are of one group.
    """

    rows: Indices
    labels: Labels
    named_groups: Indices
    groups: Indices

    def split(self, is_test: Mask, test_name: str, seed: int) -> Split:
        """Return the rows that are not for tests, about a tenth of them for validation, in whole
        groups.
        """
        others = self.rows[~is_test]
        is_validation = hold_out(self.labels[~is_test], self.groups[~is_test], seed)
        return Split(
            train=others[~is_validation],
            validation=others[is_validation],
            test=self.rows[is_test],
            test_name=test_name,
        )


def grouped_rows(dataset: Dataset) -> GroupedRows:
    """Return the rows of a data set that can be learnt from, with their groups; none of a group
    that has a row for tests.
    """
    all_groups = split_groups(dataset)
    is_test = dataset.usages == PUBLIC_TEST
    is_free = ~np.isin(all_groups, all_groups[is_test])
    rows = np.flatnonzero(is_free & (dataset.labels >= 0))
    named = all_groups[rows]
    groups = cached_near_groups(dataset)[rows] if len(np.unique(named)) == 1 else named
    return GroupedRows(rows, dataset.labels[rows], named, groups)


def split_for_few(dataset: Dataset, seed: int) -> Split:
    """Split a data set of few rows: about a tenth for validation, the others for training; for
    tests only what the data set has for them.
    """
    part = grouped_rows(dataset)
    split = part.split(np.zeros(len(part.rows), bool), USAGES[PUBLIC_TEST], seed)
    return replace(split, test=np.flatnonzero(dataset.usages == PUBLIC_TEST))


def fold_count(groups: Indices) -> int:
    """How many folds rows of such (n,) groups are cross-validated in: FOLDS, or as many as there
    are groups.
    """
    return min(FOLDS, len(np.unique(groups)))


def assign_folds(labels: Labels, groups: Indices, count: int, seed: int) -> Indices:
    """Number the fold of each row, from 0: rows of one group share a fold, and each fold has its
    part of each label, as far as the groups allow.

    The groups whose labels are most uneven come first, each to the fold where it leaves the labels
    most even (as scikit-learn's StratifiedGroupKFold does). labels: (n,) from 0. groups: (n,).
    count: of folds. Raises DataError where there are fewer groups than folds.
    """
    names, members = np.unique(groups, return_inverse=True)
    if len(names) < count:
        raise DataError(f"{len(names)} groups make no {count} folds; add pictures of other people")
    counts = np.zeros((len(names), int(labels.max()) + 1))
    np.add.at(counts, (members, labels.astype(int)), 1)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-counts[order].std(axis=1), kind="stable")]
    totals = np.maximum(counts.sum(axis=0), 1)
    shares = np.zeros((count, counts.shape[1]))
    rows = np.zeros(count)
    fold_of_group = np.zeros(len(names), np.int64)
    for group in order:
        fold = _most_even_fold(shares, counts[group] / totals, rows)
        shares[fold] += counts[group] / totals
        rows[fold] += counts[group].sum()
        fold_of_group[group] = fold
    return fold_of_group[members.reshape(-1)]


def hold_out(labels: Labels, groups: Indices, seed: int) -> Mask:
    """Draw about a tenth of (n,) rows, in whole groups, each label as evenly as these allow: (n,)
    bool. Where all rows are of one group, rows of it are drawn.
    """
    if len(np.unique(groups)) == 1:
        groups = np.arange(len(labels))
    count = min(_HOLD_OUT_FOLDS, len(np.unique(groups)))
    return assign_folds(labels, groups, count, seed) == 0


def _most_even_fold(shares: Doubles, added: Doubles, rows: Doubles) -> int:
    """The fold to which a group is added: the one after which each label is spread most evenly,
    and of equal ones that with the fewest rows.

    shares: (folds, labels) of all rows of each label. added: (labels,). rows: (folds,).
    """
    spreads = np.zeros(len(shares))
    for fold in range(len(shares)):
        candidate = shares.copy()
        candidate[fold] += added
        spreads[fold] = candidate.std(axis=0).mean()
    return int(np.lexsort((rows, spreads.round(9)))[0])
