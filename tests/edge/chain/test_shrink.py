"""Pictures scaled down: as the mean of an area, of fewer pixels."""

import cv2
import numpy as np
import pytest
from mien_edge.chain import detect
from mien_edge.chain.shrink import shrink
from mien_edge.settings import DetectSettings
from mien_edge.values import Frame


def smooth_picture(height, width, channels):
    """Random blobs: what a lens leaves of a scene."""
    rng = np.random.default_rng(height)
    coarse = rng.integers(0, 256, (9, 16, channels), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("height", "width"), [(180, 320), (240, 426), (720, 1280), (1080, 1920), (1458, 2592)]
)
def test_a_picture_of_any_size_is_as_the_mean_of_each_area(height, width, channels):
    image = smooth_picture(height, width, channels)
    small = shrink(image, 320, 180, 2)
    area = cv2.resize(image, (320, 180), interpolation=cv2.INTER_AREA)
    assert small.shape == area.shape
    assert small.dtype == np.uint8
    assert np.abs(small.astype(int) - area).max() <= 3
    assert abs(small.mean() - area.mean()) <= 0.6


def test_a_picture_that_is_not_large_is_the_mean_of_each_area_to_the_bit():
    image = np.random.default_rng(0).integers(0, 256, (400, 700, 3), dtype=np.uint8)
    area = cv2.resize(image, (320, 180), interpolation=cv2.INTER_AREA)
    assert (shrink(image, 320, 180, 2) == area).all()


@pytest.mark.parametrize("halvings", [1, 2, 3])
def test_noise_shrinks_as_in_the_mean_of_the_grid(halvings):
    noise = np.random.default_rng(0).normal(128, 32, (1200, 1600)).astype(np.uint8)
    small = shrink(noise, 100, 75, halvings)
    assert small.std() == pytest.approx(32 / 2**halvings, rel=0.1)


def test_a_face_in_a_4k_picture_is_where_it_was_before_it_was_enlarged(astronaut):
    detector = detect.YuNet(DetectSettings())
    (face,) = detector(Frame(astronaut, 0, 0.0))
    large = cv2.resize(astronaut, (2160, 2160), interpolation=cv2.INTER_CUBIC)
    (large_face,) = detector(Frame(cv2.copyMakeBorder(large, 0, 0, 840, 840, 1), 0, 0.0))[:1]
    box = large_face.box._replace(x=large_face.box.x - 840).scaled(512 / 2160, 512 / 2160)
    assert box.iou(face.box) > 0.85
