"""Classes of unequal size: how rare ones are made to count in training.

FER2013 has 16 happy faces for each of disgust. Which way is better, if any, differs from data to
data: train a recipe with each of BALANCES, and keep the one whose validation rows are predicted
best (`mien-train report RUN` shows them); the test rows decide nothing.
"""

import numpy as np

from mien_train.arrays import Doubles, Floats, Indices, Labels

BALANCES = ("none", "sampling", "loss")
"""none: every row as often and as strong as another. sampling: rows of rare labels are drawn more
often (`balanced_order`). loss: they count more (`loss_weights`).
"""

_MAX_FACTOR = (
    10.0  # a row counts at most this many times the mean: few rows are soon learnt by heart
)


def loss_weights(labels: Labels) -> Floats:
    """Return (n,) float32, how much each row counts so that all labels count the same in sum: the
    mean row's share of its label's, at most ten times; 1 on average, and 1 for a row without label.

    labels: (n,) int8, -1 for none.
    """
    weights = np.ones(len(labels), np.float32)
    has_label = labels >= 0
    if has_label.any():
        factors = _factors(labels[has_label])
        weights[has_label] = factors / factors.mean()
    return weights


def balanced_order(labels: Labels, rng: np.random.Generator, count: int) -> Indices:
    """Return (count,) row numbers for an epoch in which all labels come equally often.

    labels: (n,) int8, -1 for none; such rows come as often as they do without balance. A label's
    rows are shuffled, and all of them come once before one comes again; where a label would have to
    come more than ten times as often as it is, it comes ten times as often.
    """
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    shares = np.array([len(rows) for rows in groups], np.float64)
    has_label = np.array([labels[rows[0]] >= 0 for rows in groups])
    if has_label.any():
        even = shares[has_label].sum() / has_label.sum()
        shares[has_label] = np.minimum(even, shares[has_label] * _MAX_FACTOR)
    drawn = [
        _cycle(rows, wanted, rng)
        for rows, wanted in zip(groups, _whole(shares, count), strict=True)
    ]
    return rng.permutation(np.concatenate(drawn))


def _factors(labels: Labels) -> Doubles:
    """(n,) how many times as rare as the mean label each row's label is, at most ten."""
    counts = np.bincount(labels)
    present = counts[counts > 0]
    return np.minimum(present.mean() / counts[labels], _MAX_FACTOR)


def _whole(shares: Doubles, count: int) -> Indices:
    """Whole numbers in the proportion of the shares that sum to `count` (largest remainders)."""
    exact = shares / shares.sum() * count
    whole = np.floor(exact).astype(np.int64)
    most_lacking = np.argsort(whole - exact, kind="stable")
    whole[most_lacking[: count - whole.sum()]] += 1
    return whole


def _cycle(rows: Indices, count: int, rng: np.random.Generator) -> Indices:
    """`count` of the rows: each once, in a new order, before one comes again."""
    rounds = [rng.permutation(rows) for _ in range(-(-count // len(rows)))]
    return np.concatenate([*rounds, rows[:0]])[:count]
