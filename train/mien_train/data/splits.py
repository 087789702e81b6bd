"""Which rows train, validate and test. Pictures are named by their pixels, so that files in any
order split alike.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mien_edge.errors import DataError

from mien_train.arrays import Indices, Mask, Pixels
from mien_train.data.duplicates import cached_near_groups
from mien_train.data.read import PUBLIC_TEST, TRAINING, USAGES, Dataset

SPLITS = ("official", "deduplicated", "deck")
RENAMED_SPLITS = {"honest": "official", "strict": "deduplicated"}
"""Split names of earlier versions, as their runs, studies, ensembles and cards hold them, and their
names now.
"""
_VALIDATION_IDS = Path(__file__).with_name("validation_ids.txt")


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of a dataset, each (n,) int64 in rising order.

    train: to learn from. validation: held out for every choice. test: only reported; may be empty.
    test_name: the usage that the test rows come from, or "none".
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

    seed: of the drawn validation rows; FER2013's listed ones go with seed 0.
    """
    if kind not in SPLITS:
        raise DataError(f"unknown split {kind!r}; choose one of {', '.join(SPLITS)}")
    is_training = dataset.usages == TRAINING
    training = np.flatnonzero(is_training)
    if kind == "deck":
        return Split(training, np.flatnonzero(~is_training), np.zeros(0, np.int64), "none")
    groups = cached_near_groups(dataset)
    clean = training[~np.isin(groups[training], groups[~is_training])]
    validation = _listed_validation(dataset, training) if seed == 0 else clean[:0]
    if not len(validation):
        validation = _drawn_validation(groups, clean, seed, validation_fraction)
    candidates = clean if kind == "deduplicated" else training
    train = candidates[~np.isin(groups[candidates], groups[validation])]
    test = np.flatnonzero(dataset.usages == PUBLIC_TEST)
    return Split(train, validation, test, USAGES[PUBLIC_TEST])


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


def _drawn_validation(groups: Indices, rows: Indices, seed: int, fraction: float) -> Indices:
    """Those of `rows` that belong to a random `fraction` of the rows' groups, at least to one."""
    numbers = np.unique(groups[rows])
    count = max(1, round(len(numbers) * fraction))
    drawn = np.random.default_rng(seed).permutation(numbers)[:count]
    return rows[np.isin(groups[rows], drawn)]
