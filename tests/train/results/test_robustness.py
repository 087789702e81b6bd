"""Corruptions make pictures worse, the more the stronger, and the same way each time."""

import numpy as np
import pytest
from mien_edge.chain import photos, sources
from mien_train.results import robustness
from mien_train.results.robustness import CORRUPTIONS


@pytest.fixture(scope="module")
def faces():
    """(12, 48, 48) views of the demo's photograph's face."""
    import cv2

    gray = cv2.cvtColor(photos.read_photo(sources.astronaut()), cv2.COLOR_BGR2GRAY)
    crops = [gray[60 + i : 204 + i, 150 + i : 294 + i] for i in range(12)]
    return np.stack([cv2.resize(crop, (48, 48), interpolation=cv2.INTER_AREA) for crop in crops])


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda corruption: corruption.name)
def test_stronger_is_further_from_the_original(faces, corruption):
    distances = [
        np.abs(robustness.corrupt(faces, corruption, strength).astype(int) - faces).mean()
        for strength in corruption.strengths
    ]
    assert distances[0] > 0
    assert distances == sorted(distances)


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda corruption: corruption.name)
def test_the_same_call_gives_the_same_pictures(faces, corruption):
    first, again = (
        robustness.corrupt(faces, corruption, corruption.strengths[2]) for _ in range(2)
    )
    assert first.dtype == np.uint8
    assert first.shape == faces.shape
    assert (first == again).all()
