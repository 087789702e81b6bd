"""What a derived head learns: how faces look in front of a camera, from what a teacher's other
heads say of them.

Each of those heads expects what its training data had most of: a third of FER+'s faces are neutral,
a sixtieth shows disgust. Without that expectation, its prior, a head says what the picture alone
says (Saerens et al. 2002, https://doi.org/10.1162/089976602753284446). These logarithms are
averaged: FER+'s ten labellers count more than FER2013's one, and what networks out of packages say,
which have seen other faces, comes on top.
"""

from collections.abc import Sequence

import numpy as np
from mien_edge.contract import softmax

from mien_train.arrays import Array, Doubles
from mien_train.data.heads import FER2013, FERPLUS, split_heads

_SHARES = {FER2013.name: 0.4, FERPLUS.name: 0.6}
_PACKAGE_SHARE = 1.15
_LEAST = 1e-4  # of a probability: what is less is noise, and its logarithm would rule the mean


def priors(targets: Array, head_sizes: Sequence[int]) -> list[Doubles]:
    """Return for each head the share of each of its labels in (n, outputs) targets, which sum to
    one.
    """
    sums = [own.sum(axis=0, dtype=np.float64) for own in split_heads(targets, head_sizes)]
    return [np.maximum(own / max(own.sum(), 1e-9), _LEAST) for own in sums]


def probabilities(
    teacher: Array,
    heads: Sequence[str],
    head_priors: Sequence[Array],
    packages: Array | None = None,
) -> Array:
    """Return the (n, labels) probabilities that a derived head learns.

    teacher: (n, outputs) probabilities of all of the teacher's heads, which have the same labels.
    heads: their names. head_priors: see `priors`. packages: (n, labels) mean log-probabilities of
    networks out of packages, or None.
    """
    sizes = [len(prior) for prior in head_priors]
    parts = zip(heads, split_heads(teacher, sizes), head_priors, strict=True)
    total = np.zeros((len(teacher), sizes[0]))
    for name, own, prior in parts:
        total += _SHARES[name] * (np.log(np.maximum(own, _LEAST)) - np.log(prior))
    if packages is not None:
        total += _PACKAGE_SHARE * packages
    return softmax(total)
