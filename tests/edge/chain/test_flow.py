"""Optical flow: faces go where their pictures go, or are lost; on a real photograph that is moved."""

import itertools

import cv2
import numpy as np
import pytest
from mien_edge.chain import detect, flow
from mien_edge.values import Box, Face

FACE = Face(
    Box(173, 60, 100, 130),
    0.9,
    ((200.0, 110.0), (240.0, 108.0), (223.0, 135.0), (206.0, 158.0), (242.0, 156.0)),
)


@pytest.fixture(scope="module")
def picture(astronaut):
    return detect.gray(astronaut)


def motion(dx=0.0, dy=0.0, scale=1.0, roll=0.0):
    """A similarity about the face's middle, (2, 3)."""
    matrix = cv2.getRotationMatrix2D(FACE.box.centre, roll, scale)
    matrix[:, 2] += (dx, dy)
    return matrix


def moved(picture, matrix):
    height, width = picture.shape
    return cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)


def advanced(faces, pictures, scale=1.0):
    """The faces after all pictures, each None if it was lost on the way."""
    trails = [flow.Trail.start(face) for face in faces]
    small = [
        cv2.resize(each, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        for each in pictures
    ]
    for before, now in itertools.pairwise(small):
        trails = flow.advance(trails, before, now, (scale, scale))
        if None in trails:
            return trails
    return [trail.current() for trail in trails]


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize(
    "end",
    [
        {},
        {"dx": 60.0, "dy": -20.0},
        {"scale": 1.3},
        {"scale": 0.8},
        {"roll": 25.0},
        {"dx": -50.0, "dy": 30.0, "scale": 1.15, "roll": -15.0},
    ],
    ids=["still", "aside", "nearer", "farther", "turned", "all"],
)
def test_box_and_landmarks_go_where_the_picture_goes(picture, end, scale):
    steps = 7
    start = {"dx": 0.0, "dy": 0.0, "scale": 1.0, "roll": 0.0}
    poses = [
        {key: value + (end.get(key, value) - value) * step / steps for key, value in start.items()}
        for step in range(steps + 1)
    ]
    matrix = motion(**poses[-1])
    (face,) = advanced([FACE], [moved(picture, motion(**pose)) for pose in poses], scale)
    centre = matrix @ (*FACE.box.centre, 1)
    assert face.box.centre == pytest.approx(tuple(centre), abs=1.5 / scale)
    assert face.box.width == pytest.approx(FACE.box.width * end.get("scale", 1.0), rel=0.02)
    assert face.box.height == pytest.approx(FACE.box.height * end.get("scale", 1.0), rel=0.02)
    for landmark, original in zip(face.landmarks, FACE.landmarks, strict=True):
        assert landmark == pytest.approx(tuple(matrix @ (*original, 1)), abs=1.5 / scale)
    assert face.score == FACE.score


def test_each_face_is_followed_by_itself(picture):
    wide = np.hstack([picture, picture])
    other = FACE.box._replace(x=FACE.box.x + picture.shape[1])
    later = np.hstack([moved(picture, motion(dx=9)), moved(picture, motion(dy=-7, scale=1.05))])
    first, second = advanced([FACE, Face(other, 0.8)], [wide, later])
    x, y = FACE.box.centre
    assert first.box.centre == pytest.approx((x + 9, y), abs=1)
    assert second.box.centre == pytest.approx((x + picture.shape[1], y - 7), abs=1)
    assert second.box.width == pytest.approx(1.05 * other.width, rel=0.02)


def test_a_face_without_landmarks_is_followed_too(picture):
    (face,) = advanced([Face(FACE.box, 1.0)], [picture, moved(picture, motion(dx=12))])
    assert face.box.x == pytest.approx(FACE.box.x + 12, abs=1)
    assert face.landmarks == ()


def test_one_covered_step_by_step_is_lost_and_its_neighbour_is_not(picture):
    wide = np.hstack([picture, picture])
    neighbour = Face(FACE.box._replace(x=FACE.box.x + picture.shape[1]), 0.8)
    texture = np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)
    hand = cv2.resize(texture, (160, 160), interpolation=cv2.INTER_CUBIC)
    trails = [flow.Trail.start(FACE), flow.Trail.start(neighbour)]
    before = wide
    for top in (150, 135, 120, 105, 90):
        now = wide.copy()
        now[top : top + 160, 150:310] = hand
        trails = flow.advance(trails, before, now, (1.0, 1.0))
        if trails[0] is None:
            break
        before = now
    assert trails[0] is None
    assert trails[1].current().box == pytest.approx(neighbour.box, abs=1)


def test_one_that_leaves_the_picture_is_lost(picture):
    pictures = [moved(picture, motion(dx=-30 * step)) for step in range(9)]
    assert advanced([FACE], pictures) == [None]


def test_what_has_nothing_to_follow_is_lost():
    flat = np.full((240, 320), 90, np.uint8)
    assert advanced([FACE], [flat, flat]) == [None]


def test_another_picture_loses_the_face(picture):
    assert advanced([FACE], [picture, picture[::-1].copy()]) == [None]


def test_no_face_is_followed_nowhere(picture):
    assert flow.advance([], picture, picture, (1.0, 1.0)) == []
