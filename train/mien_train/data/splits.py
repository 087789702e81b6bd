"""Which rows train, validate and test, named by their pixels."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mien_edge.errors import DataError
from numpy.typing import NDArray

from mien_train.data.duplicates import cached_near_groups
from mien_train.data.read import Dataset

SPLITS = ("official", "deduplicated", "deck")
RENAMED_SPLITS = {"honest": "official", "strict": "deduplicated"}
"""Split names of earlier versions, as their runs, studies, ensembles and cards hold them, and their names now."""
_HELD = Path(__file__).with_name("validation_ids.txt")


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of a dataset: train, validation (for every choice) and test (only reported). test may be empty."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    test_name: str


def split(dataset: Dataset, kind: str, seed: int = 0, share: float = 0.1) -> Split:
    """Split by `kind`, one of SPLITS. Raises DataError for another.

    official: validation is `share` of Training, in whole groups of near duplicates that no test row belongs to; the
    rest is for training; test is PublicTest. `unseen` says which test rows have no near duplicate to train on. For
    FER2013, in whichever file, validation is the pictures that validation_ids.txt names (drawn that way with seed 0),
    so that everybody's runs compare and anybody's teachers can teach.
    deduplicated: the same validation, but rows of Training that nearly equal a test row are left out as well.
    deck: the slide deck's split: all of Training to train on, PublicTest and PrivateTest together for validation, no
    test. Its figure is chosen on the rows that it reports, so it flatters.
    """
    training = np.flatnonzero(dataset.usages == 0)
    if kind == "deck":
        return Split(training, np.flatnonzero(dataset.usages != 0), np.zeros(0, np.int64), "none")
    if kind not in SPLITS:
        raise DataError(f"unknown split {kind!r}; choose one of {', '.join(SPLITS)}")
    groups = cached_near_groups(dataset)
    clean = training[~np.isin(groups[training], groups[dataset.usages != 0])]
    held = _held(dataset, training) if seed == 0 else clean[:0]
    if not len(held):
        names = np.unique(groups[clean])
        chosen = np.random.default_rng(seed).permutation(names)[: max(1, round(len(names) * share))]
        held = clean[np.isin(groups[clean], chosen)]
    kept = clean if kind == "deduplicated" else training
    train = kept[~np.isin(groups[kept], groups[held])]
    return Split(train, held, np.flatnonzero(dataset.usages == 1), "PublicTest")


def split_name(recorded: str) -> str:
    """The name now of a split that a file names, perhaps one of an earlier version."""
    return RENAMED_SPLITS.get(recorded, recorded)


def _held(dataset: Dataset, training: NDArray[np.int64]) -> NDArray[np.int64]:
    """The Training rows that validation_ids.txt names; none where not all of them are here."""
    names = set(_HELD.read_text().split())
    told = np.array([digest(dataset.images[row]) for row in training])
    found = np.isin(told, list(names))
    return training[found] if names == set(told[found].tolist()) else training[:0]


def digest(image: NDArray[np.uint8]) -> str:
    """Ten hexadecimal digits that name a picture by its pixels."""
    return hashlib.sha1(image.tobytes(), usedforsecurity=False).hexdigest()[:10]


def held_digest(dataset: Dataset, parts: Split) -> str:
    """Names a split by the pictures that it holds for validation, in whichever file they came."""
    names = sorted({digest(dataset.images[row]) for row in parts.validation})
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def with_test(parts: Split) -> Split:
    """The same split. Raises DataError where it has no test rows to report on."""
    if not len(parts.test):
        raise DataError("this split has no test rows to report on; use --split official or deduplicated")
    return parts


def unseen(dataset: Dataset, parts: Split) -> NDArray[np.bool_]:
    """Which test rows have no near duplicate among the training rows, (len(parts.test),)."""
    groups = cached_near_groups(dataset)
    return ~np.isin(groups[parts.test], groups[parts.train])
