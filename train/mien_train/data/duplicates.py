"""Pictures that FER2013 repeats: equal ones, and nearly equal ones."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mien_train.data.cache import cache_folder, kept
from mien_train.data.read import Dataset


def exact_groups(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(N,) group numbers: equal where all pixels are equal."""
    digests = [hashlib.sha1(image.tobytes(), usedforsecurity=False).digest() for image in images]
    return np.unique(np.array(digests, "V20"), return_inverse=True)[1].reshape(-1)


def near_groups(images: NDArray[np.uint8], correlation: float = 0.98) -> NDArray[np.int64]:
    """(N,) group numbers: equal where pictures, or one and another's mirror image, correlate above `correlation`.

    Every pair is compared: on 12x12 means first, then on all pixels. Constant pictures make one group.
    """
    coarse = _standard(images.reshape(-1, 12, 4, 12, 4).mean(axis=(2, 4)))
    mirrored = coarse.reshape(-1, 12, 12)[:, :, ::-1].reshape(len(coarse), -1)
    parent = np.arange(len(images))
    for start in tqdm(range(0, len(images), 1024), desc="comparing pairs", leave=False, disable=None):
        block = slice(start, start + 1024)
        for other in (coarse, mirrored):
            close = np.argwhere(coarse[block] @ other[start:].T > correlation - 0.02) + start
            for a, b in close[close[:, 0] < close[:, 1]]:
                if _root(parent, a) != _root(parent, b) and _correlate(images[a], images[b]) > correlation:
                    parent[_root(parent, b)] = _root(parent, a)
    constant = np.flatnonzero(images.reshape(len(images), -1).std(axis=1) == 0)
    parent[constant] = constant[:1].repeat(len(constant))
    return np.unique([_root(parent, i) for i in range(len(parent))], return_inverse=True)[1].reshape(-1)


def _standard(images: NDArray[Any]) -> NDArray[np.float32]:
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def _correlate(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    pair = _standard(np.stack([a, b, b[:, ::-1]]))
    return float(max(pair[0] @ pair[1], pair[0] @ pair[2]))


def _root(parent: NDArray[np.int64], i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return int(i)


def cached_near_groups(dataset: Dataset) -> NDArray[np.int64]:
    """`near_groups` of the dataset's images, kept beside the cached data."""
    path = cache_folder() / f"{dataset.sha256}-{len(dataset)}-near.npz"
    return kept(path, lambda: near_groups(dataset.images))
