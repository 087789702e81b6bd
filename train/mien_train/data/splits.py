"""Which rows train, validate and test. Pictures are named by their pixels, so that files in any
order split alike.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mien_edge.errors import DataError

from mien_train.arrays import Indices, Mask, Pixels
from mien_train.data.duplicates import cached_near_groups, linked_groups
from mien_train.data.read import (
    PUBLIC_TEST,
    TRAINING,
    UNASSIGNED,
    USAGES,
    VALIDATION,
    Dataset,
)

SPLITS = ("official", "deduplicated", "deck")
RENAMED_SPLITS = {"honest": "official", "strict": "deduplicated"}
"""Split names of earlier versions, as their runs, studies, ensembles and cards hold them, and their
names now.
"""
_TEST_FRACTION = 0.2  # of the groups of rows without a usage
_TEST_DRAW = 0x7E57  # keeps the draw of test rows apart from that of validation rows
_VALIDATION_IDS = Path(__file__).with_name("validation_ids.txt")


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of a dataset, each (n,) int64 in rising order.

    train: to learn from. validation: held out for every choice. test: only reported; may be empty.
    test_name: the usage that the test rows come from; "test" where they were drawn; or "none".
    """

    train: Indices
    validation: Indices
    test: Indices
    test_name: str


def split_dataset(
    dataset: Dataset,
    kind: str,
    seed: int = 0,
    validation_fraction: float = 0.1,
) -> Split:
    """Split by `kind`, one of SPLITS. Raises DataError for another.

    official: validation is `validation_fraction` of Training, in whole groups of near duplicates
    that no test row belongs to; the rest is for training; test is PublicTest.
    `without_near_duplicates` says which test rows have no near duplicate to train on. For FER2013,
    in whichever file, validation is the pictures that validation_ids.txt names (drawn that way with
    seed 0), so that everybody's runs compare and anybody's teachers can teach.
    deduplicated: the same validation, but rows of Training that nearly equal a test row are left
    out as well.
    deck: the slide deck's split: all of Training to train on, PublicTest and PrivateTest together
    for validation, no test. Its validation accuracy is chosen on the rows that it reports, so it
    flatters.

    Validation rows that the data set names itself are those. Of rows without a usage a fifth are
    drawn for the test, by group, and the others are as Training. Rows of weight 0, of which no
    label is known, validate nothing. Rows of one group (Dataset.groups), and what nearly equals
    them, never lie on two sides: where the data set's own split separates them, those in Training
    are left out.

    seed: of the drawn rows; FER2013's listed ones go with seed 0.
    """
    if kind not in SPLITS:
        raise DataError(f"unknown split {kind!r}; choose one of {', '.join(SPLITS)}")
    if kind == "deck":
        return _deck_split(dataset)
    groups = split_groups(dataset)
    test = np.flatnonzero(dataset.usages == PUBLIC_TEST)
    drawn_test = _drawn_test(dataset, groups, seed)
    named_validation = np.flatnonzero(dataset.usages == VALIDATION)
    is_training = np.isin(dataset.usages, (TRAINING, UNASSIGNED))
    is_training[drawn_test] = False
    training = np.flatnonzero(is_training)
    others = np.flatnonzero(~is_training)
    clean = training[~np.isin(groups[training], groups[others])]
    labelled = clean if dataset.weights is None else clean[dataset.weights[clean] > 0]
    validation = _validation(dataset, groups, labelled, seed, validation_fraction)
    validation = np.union1d(validation, named_validation)
    candidates = clean if kind == "deduplicated" else _without_torn_groups(dataset, training, clean)
    train = candidates[~np.isin(groups[candidates], groups[validation])]
    name = "test" if len(drawn_test) else USAGES[PUBLIC_TEST]
    return Split(train, validation, np.union1d(test, drawn_test), name)


def split_groups(dataset: Dataset) -> Indices:
    """(N,) numbers of what must not be torn: rows of one group, near duplicates, and what either
    links.
    """
    near = cached_near_groups(dataset)
    if dataset.groups is None:
        return near
    return linked_groups([near, dataset.groups])


def current_split_name(recorded: str) -> str:
    """The present name of a split that a file records, perhaps under the name of an earlier
    version.
    """
    return RENAMED_SPLITS.get(recorded, recorded)


def first_split_name(name: str) -> str:
    """What the first version called the split that is called `name` now."""
    for first_name, current_name in RENAMED_SPLITS.items():
        if current_name == name:
            return first_name
    return name


def is_fer2013(dataset: Dataset) -> bool:
    """Whether the data are FER2013's, by the Training pictures that validation_ids.txt names; in a
    part of it, or with other pixels, as after JPEG compression, they are not known as such.
    """
    training = np.flatnonzero(dataset.usages == TRAINING)
    return len(_listed_validation(dataset, training)) > 0


def picture_id(image: Pixels) -> str:
    """Ten hexadecimal digits that name a picture by its pixels."""
    return hashlib.sha1(image.tobytes(), usedforsecurity=False).hexdigest()[:10]


def validation_digest(dataset: Dataset, split: Split) -> str:
    """A sha256 that names a split by its validation pictures, in whichever file they came."""
    ids = sorted({picture_id(dataset.images[row]) for row in split.validation})
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


def require_test(split: Split) -> Split:
    """Return the same split. Raises DataError where it has no test rows to report on."""
    if not len(split.test):
        if split.test_name == "none":
            raise DataError("this split has no test rows; use --split official or deduplicated")
        raise DataError(
            f"the data have no test rows to report on; add {split.test_name} rows to a table, or a "
            "folder test/LABEL to folders of pictures"
        )
    return split


def without_near_duplicates(dataset: Dataset, split: Split) -> Mask:
    """Which test rows have no near duplicate among the training rows: (len(split.test),) bool."""
    groups = cached_near_groups(dataset)
    return ~np.isin(groups[split.test], groups[split.train])


def _deck_split(dataset: Dataset) -> Split:
    if np.isin(dataset.usages, (VALIDATION, UNASSIGNED)).any():
        raise DataError("the split deck is for FER2013 alone; use --split official")
    is_training = dataset.usages == TRAINING
    validation = np.flatnonzero(~is_training)
    return Split(np.flatnonzero(is_training), validation, np.zeros(0, np.int64), "none")


def _drawn_test(dataset: Dataset, groups: Indices, seed: int) -> Indices:
    """A fifth of the rows without a usage, in whole groups, none of which has a row with one."""
    unassigned = np.flatnonzero(dataset.usages == UNASSIGNED)
    assigned = np.flatnonzero(dataset.usages != UNASSIGNED)
    free = unassigned[~np.isin(groups[unassigned], groups[assigned])]
    if not len(free):
        return free
    return _drawn_rows(groups, free, (seed, _TEST_DRAW), _TEST_FRACTION)


def _validation(
    dataset: Dataset,
    groups: Indices,
    clean: Indices,
    seed: int,
    fraction: float,
) -> Indices:
    """FER2013's listed validation rows, and of other rows a share of those that are clean."""
    training = np.flatnonzero(dataset.usages == TRAINING)
    listed = _listed_validation(dataset, training) if seed == 0 else training[:0]
    if len(listed):
        clean = clean[:0] if dataset.groups is None else clean[dataset.groups[clean] >= 0]
    is_named = (dataset.usages == VALIDATION).any()
    if is_named:
        clean = clean[dataset.usages[clean] == UNASSIGNED]
    if not len(clean):
        return listed
    return np.union1d(listed, _drawn_rows(groups, clean, seed, fraction))


def _without_torn_groups(dataset: Dataset, training: Indices, clean: Indices) -> Indices:
    """The training rows, without those that belong to a group, of which another row is no training
    row. FER2013's rows belong to none, and official keeps what nearly equals its test rows.
    """
    if dataset.groups is None:
        return training
    is_free = (dataset.groups[training] < 0) | np.isin(training, clean)
    return training[is_free]


def _listed_validation(dataset: Dataset, training: Indices) -> Indices:
    """The Training rows that validation_ids.txt names; none where not all of its pictures are in
    the data.
    """
    listed = set(_VALIDATION_IDS.read_text().split())
    ids = np.array([picture_id(dataset.images[row]) for row in training])
    is_listed = np.isin(ids, list(listed))
    if set(ids[is_listed].tolist()) != listed:
        return training[:0]
    return training[is_listed]


def _drawn_rows(groups: Indices, rows: Indices, seed: Any, fraction: float) -> Indices:
    """Those of `rows` that belong to a random `fraction` of the rows' groups, at least to one."""
    numbers = np.unique(groups[rows])
    count = max(1, round(len(numbers) * fraction))
    drawn = np.random.default_rng(seed).permutation(numbers)[:count]
    return rows[np.isin(groups[rows], drawn)]
