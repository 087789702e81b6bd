"""How far from the camera faces are found and read."""

import math

import pytest
from mien_edge.chain import reach
from mien_edge.settings import DetectSettings, QualitySettings, Settings, SourceSettings


def settings(distance: float = 0.0, size: int = 320, width: int = 640, degrees: float = 66.0):
    return Settings(
        source=SourceSettings(width=width, field_of_view=degrees),
        detect=DetectSettings(size=size, max_distance=distance),
    )


def test_without_a_distance_the_detector_has_the_size_that_is_set():
    assert reach.detector_size(settings(size=250)) == 250


@pytest.mark.parametrize("distance", [0.5, 1.0, 2.0, 3.3])
def test_the_size_is_the_smallest_multiple_of_the_padding_that_reaches_the_distance(distance):
    size = reach.detector_size(settings(distance))
    assert size % reach.SIZE_STEP == 0
    assert reach.found_distance(settings(size=size)) >= distance
    assert reach.found_distance(settings(size=size - reach.SIZE_STEP)) < distance


def test_at_90_degrees_the_picture_shows_two_metres_at_a_distance_of_one():
    pixels_per_metre = 320 / 2
    expected = pixels_per_metre * reach.FACE_HEIGHT / reach.FOUND_PIXELS
    assert math.isclose(reach.found_distance(settings(degrees=90.0)), expected)


def test_a_size_larger_than_the_frames_reaches_no_farther():
    large = reach.found_distance(settings(size=1280))
    assert large == reach.found_distance(settings(size=640))


def test_a_face_at_the_distance_of_labels_has_just_the_pixels_that_a_label_takes():
    small = settings(degrees=90.0)
    metres = reach.read_distance(small)
    pixels = reach.FACE_HEIGHT * small.source.width / (2 * metres)
    assert math.isclose(pixels, QualitySettings().min_face_pixels)


def test_frames_of_the_needed_size_reach_the_distance_for_labels():
    far = settings(distance=4.0)
    assert reach.read_distance(far) < 4.0
    large = settings(distance=4.0, width=reach.needed_frame_size(far))
    assert reach.read_distance(large) >= 4.0
    assert reach.found_distance(large) >= 4.0
