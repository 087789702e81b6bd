"""Several data sets as one."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from mien_train.arrays import Array, Floats, Pixels
from mien_train.data.label_map import order_labels
from mien_train.data.read import SIZE, TRAINING, VOTES, Dataset


def mix(datasets: Sequence[Dataset], weights: Sequence[float]) -> Dataset:
    """The rows of all data sets, one after the other, each counting `weights` of its set in
    training.

    The rows of a set of weight 0 are pictures without labels, of which only a teacher says what
    they show: all of them are training rows. A row's label is matched by its name. Groups of
    different sets stay apart. Rows without votes have zeros; rows of which nothing is known around
    the picture have its edges repeated.
    """
    label_names = order_labels(name for dataset in datasets for name in dataset.label_names)
    relabelled = [_relabelled(dataset, label_names) for dataset in datasets]
    parts = [
        part if weight else _unlabelled(part)
        for part, weight in zip(relabelled, weights, strict=True)
    ]
    names = [part.sha256 for part in parts]
    digest = hashlib.sha256(repr((names, list(weights))).encode()).hexdigest()
    rows = sum(map(len, parts))
    return Dataset(
        images=_join(parts, "images"),
        labels=_join(parts, "labels"),
        usages=_join(parts, "usages"),
        row_numbers=np.arange(rows, dtype=np.int32),
        sha256=digest,
        votes=_optional(parts, "votes", lambda part: np.zeros((len(part), len(VOTES)), np.uint8)),
        skipped=sum(part.skipped for part in parts),
        label_names=label_names,
        groups=_groups(parts),
        weights=_weights(parts, weights),
        surroundings=_optional(parts, "surroundings", lambda part: repeat_edges(part.images)),
        boxes=_optional(parts, "boxes", lambda part: np.full((len(part), 4), np.nan)),
        names=_optional(parts, "names", lambda part: part.row_numbers.astype(str)),
        findings=tuple(finding for part in parts for finding in part.findings),
    )


def repeat_edges(images: Pixels) -> Pixels:
    """Return surroundings, see Dataset, for (n, 48, 48) pictures beyond which nothing is known."""
    width = SIZE // 2
    return np.pad(images, ((0, 0), (width, width), (width, width)), mode="edge")


def _relabelled(dataset: Dataset, label_names: tuple[str, ...]) -> Dataset:
    index = [label_names.index(name) for name in dataset.label_names]
    # The last one is what a row without label, -1, finds.
    labels = np.array([*index, -1], np.int8)[dataset.labels]
    return replace(dataset, labels=labels, label_names=label_names)


def _unlabelled(dataset: Dataset) -> Dataset:
    return replace(
        dataset,
        labels=np.full(len(dataset), -1, np.int8),
        usages=np.full(len(dataset), TRAINING, dataset.usages.dtype),
        groups=None,
        votes=None,
    )


def _join(parts: Sequence[Dataset], field: str) -> Array:
    return np.concatenate([getattr(part, field) for part in parts])


def _optional(
    parts: Sequence[Dataset],
    field: str,
    default: Callable[[Dataset], Array],
) -> Array | None:
    """A field of all parts; what `default` makes of a part that lacks it; None where all do."""
    values = [getattr(part, field) for part in parts]
    if all(value is None for value in values):
        return None
    filled = [
        default(part) if value is None else value for part, value in zip(parts, values, strict=True)
    ]
    return np.concatenate(filled)


def _groups(parts: Sequence[Dataset]) -> Array | None:
    """The groups of all parts, numbered on; -1 for the rows of a part without groups."""
    if all(part.groups is None for part in parts):
        return None
    groups = []
    first = 0
    for part in parts:
        if part.groups is None:
            groups.append(np.full(len(part), -1, np.int32))
        else:
            groups.append(np.where(part.groups < 0, -1, part.groups + first).astype(np.int32))
            first += int(part.groups.max(initial=-1)) + 1
    return np.concatenate(groups)


def _weights(parts: Sequence[Dataset], weights: Sequence[float]) -> Floats | None:
    if all(weight == 1 for weight in weights) and all(part.weights is None for part in parts):
        return None
    columns = [
        np.full(len(part), weight, np.float32) * (1 if part.weights is None else part.weights)
        for part, weight in zip(parts, weights, strict=True)
    ]
    return np.concatenate(columns).astype(np.float32)
