"""Pictures that FER2013 repeats: equal ones, and nearly equal ones."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from mien_train.arrays import Array, Floats, Indices, Pixels
from mien_train.data.cache import cache_folder, cached
from mien_train.data.read import Dataset
from mien_train.progress import progress

_COARSE_SIDE = 12  # pixels of the thumbnails that are compared first
_COARSE_SLACK = 0.02  # by so much less than the pictures may their thumbnails correlate
_BLOCK = 1024  # thumbnails that are compared with all others at once
_CHUNK = 4096  # pairs of full pictures that are compared at once


def exact_groups(images: Pixels) -> Indices:
    """Number the groups of equal pictures.

    images: (N, 48, 48) uint8. Returns (N,) group numbers, the same for two rows where all their
    pixels are equal.
    """
    digests = [hashlib.sha1(image.tobytes(), usedforsecurity=False).digest() for image in images]
    groups = np.unique(np.array(digests, "V20"), return_inverse=True)[1]
    return groups.reshape(-1)


def near_groups(images: Pixels, correlation: float = 0.98) -> Indices:
    """Number the groups of nearly equal pictures.

    images: (N, 48, 48) uint8. Returns (N,) group numbers, the same for two rows where a chain of
    pairs links them whose pictures, or one and the other's mirror image, have a Pearson correlation
    above `correlation`. Every pair is compared, on 12x12 means first, then on all pixels. Constant
    pictures make one group.
    """
    pairs = [_constant_pairs(images)]
    for candidates in _candidate_pairs(images, correlation - _COARSE_SLACK):
        for start in range(0, len(candidates), _CHUNK):
            chunk = candidates[start : start + _CHUNK]
            pairs.append(chunk[_correlations(images, chunk) > correlation])
    return _linked_groups(np.concatenate(pairs), len(images))


def cached_near_groups(dataset: Dataset) -> Indices:
    """`near_groups` of the dataset's images, cached beside the parsed data."""
    path = cache_folder() / f"{dataset.sha256}-{len(dataset)}-near.npz"
    return cached(path, lambda: near_groups(dataset.images))


def linked_groups(columns: Sequence[Array]) -> Indices:
    """Number what several kinds of groups link: (N,) numbers, the same for two rows that a chain of
    common groups leads from one to the other.

    columns: (N,) group numbers of each kind; a negative one is no group.
    """
    pairs = [np.zeros((0, 2), np.int64)]
    for groups in columns:
        order = np.argsort(groups, kind="stable")
        is_linked = (groups[order][1:] == groups[order][:-1]) & (groups[order][1:] >= 0)
        pairs.append(np.column_stack([order[:-1][is_linked], order[1:][is_linked]]))
    return _linked_groups(np.concatenate(pairs), len(columns[0]))


def _candidate_pairs(images: Pixels, correlation: float) -> Iterator[Indices]:
    """Yield (k, 2) pairs of rows, the smaller first, whose thumbnails correlate above
    `correlation`.

    For each block of rows those that correlate as they are, then those that do when one is
    mirrored.
    """
    means = images.reshape(-1, _COARSE_SIDE, 4, _COARSE_SIDE, 4).mean(axis=(2, 4))
    thumbnails = _standardize(means)
    mirrored = _mirror(thumbnails)
    starts = range(0, len(images), _BLOCK)
    for start in progress(starts, "comparing pairs", "blocks of rows"):
        block = thumbnails[start : start + _BLOCK]
        for others in (thumbnails[start:], mirrored[start:]):
            is_near = block @ others.T > correlation
            yield np.argwhere(np.triu(is_near, k=1)) + start


def _constant_pairs(images: Pixels) -> Indices:
    """(k, 2) pairs that link each picture of one gray level with the next one."""
    deviations = images.reshape(len(images), -1).std(axis=1)
    constant = np.flatnonzero(deviations == 0)
    return np.column_stack([constant[:-1], constant[1:]])


def _correlations(images: Pixels, pairs: Indices) -> Floats:
    """(k,) correlation of each pair's pictures, or of one and the other's mirror image where that
    is greater.
    """
    first = _standardize(images[pairs[:, 0]])
    second = _standardize(images[pairs[:, 1]])
    mirrored = _mirror(second)
    plain = np.einsum("ij,ij->i", first, second)
    return np.maximum(plain, np.einsum("ij,ij->i", first, mirrored))


def _standardize(images: Array) -> Floats:
    """(n, pixels) rows of mean 0 and length 1, so that their dot product is the correlation; 0 for
    a constant one.
    """
    flat = images.reshape(len(images), -1).astype(np.float32)
    centred = flat - flat.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.maximum(lengths, 1e-6)


def _mirror(flat: Floats) -> Floats:
    """(n, pixels) mirror images of square pictures."""
    side = round(flat.shape[1] ** 0.5)
    return flat.reshape(-1, side, side)[:, :, ::-1].reshape(len(flat), -1)


def _linked_groups(pairs: Indices, count: int) -> Indices:
    """(count,) group numbers of rows that the (k, 2) pairs link, by union-find.

    Groups are numbered in the order of their roots, which depends on the order of the pairs.
    FER2013's validation rows were drawn by these numbers, so both orders stay.
    """
    parents = np.arange(count)
    for first, second in pairs:
        parents[_root(parents, second)] = _root(parents, first)
    roots = [_root(parents, row) for row in range(count)]
    return np.unique(roots, return_inverse=True)[1].reshape(-1)


def _root(parents: Indices, row: int) -> int:
    """The row at the end of the chain of parents, which is halved on the way."""
    while parents[row] != row:
        parents[row] = parents[parents[row]]
        row = parents[row]
    return int(row)
