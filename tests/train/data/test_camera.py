"""A camera's frames of a photograph: the face lies where it should, and is seen less well the stronger the corruption."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
from mien_edge.chain import detect, photos, sources
from mien_edge.settings import DetectSettings
from mien_edge.values import Frame
from mien_train.data import camera, sights
from mien_train.data.camera import CAMERA_CORRUPTIONS, View

IN_PLACE = [
    corruption for corruption in CAMERA_CORRUPTIONS if corruption.name not in ("tilt", "distance")
]
"""The corruptions that leave the face where it is."""


@pytest.fixture(scope="module")
def portrait():
    """The demo's photograph and its face's box."""
    path = sources.astronaut()
    return photos.read_photo(path), sights.look(path).box


def rendered(portrait, view):
    return camera.render(*portrait, view, np.random.default_rng(0))


def gray(frame):
    return frame.astype(float).mean(axis=2)


@pytest.mark.parametrize(
    "view",
    [
        View(),
        View(face_height=80, x=0.2, y=0.7),
        View(face_height=240, x=0.6, y=0.4),
        View(degrees=15, x=0.4),
    ],
)
def test_the_detector_sees_the_face_where_the_view_puts_it(portrait, view):
    frame = rendered(portrait, view)
    assert frame.shape == (camera.FRAME[1], camera.FRAME[0], 3)
    faces = detect.detector(DetectSettings())(Frame(frame, 0, 0.0))
    assert faces[0].box.iou(view.face_box(portrait[1])) > 0.6


def test_a_tilted_head_turned_back_is_the_upright_one(portrait):
    tilted = rendered(portrait, View(degrees=20))
    width, height = camera.FRAME
    turn = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), -20, 1)
    upright = cv2.warpAffine(tilted, turn, camera.FRAME)
    face = np.s_[180:300, 260:380]
    expected = gray(rendered(portrait, View()))[face]
    correlation = np.corrcoef(gray(upright)[face].ravel(), expected.ravel())[0, 1]
    assert correlation > 0.98


@pytest.mark.parametrize("corruption", IN_PLACE, ids=lambda corruption: corruption.name)
def test_a_stronger_corruption_is_further_from_the_face_as_placed(portrait, corruption):
    clean = gray(rendered(portrait, View()))
    area = np.s_[160:320, 240:400]
    distances = []
    for strength in corruption.strengths:
        view = corruption.view(strength, np.random.default_rng(0))
        distances.append(np.abs(gray(rendered(portrait, view)) - clean)[area].mean())
    assert distances[0] > 0
    assert distances == sorted(distances)


def test_a_frame_is_the_same_for_the_same_random_numbers(portrait):
    view = View(light=0.1)
    assert (rendered(portrait, view) == rendered(portrait, view)).all()


def test_a_quarter_of_the_light_doubles_the_noise_and_keeps_the_brightness(portrait):
    wall = np.s_[:60, :60]
    bright = rendered(portrait, View())[wall].astype(float)
    dim = rendered(portrait, View(light=0.25))[wall].astype(float)
    assert dim.mean() == pytest.approx(bright.mean(), abs=1)
    assert dim.std() == pytest.approx(2 * bright.std(), rel=0.15)


def test_below_a_sixteenth_of_the_light_the_camera_can_amplify_no_more_and_it_gets_dark(portrait):
    brightness = [rendered(portrait, View(light=2.0**-stops)).mean() for stops in (4, 5, 6)]
    assert all(darker < 0.8 * brighter for brighter, darker in pairwise(brightness))


@pytest.mark.parametrize("view", [View(defocus=6), View(path=(12, 9))])
def test_blur_spreads_light_and_loses_none(portrait, view):
    def light(frame):
        return (frame / 255.0) ** 2.2

    blurred = light(rendered(portrait, view))
    assert blurred.mean() == pytest.approx(light(rendered(portrait, View())).mean(), rel=0.01)


def test_in_motion_a_face_starts_at_rest_and_stays_in_the_frame(portrait):
    views = list(camera.motion(60))
    assert views[0] == View()
    width, height = camera.FRAME
    for view in views:
        box = view.face_box(portrait[1])
        assert box.x > 0
        assert box.y > 0
        assert box.x + box.width < width
        assert box.y + box.height < height


def test_in_motion_a_face_moves_slowly_from_frame_to_frame(portrait):
    boxes = [view.face_box(portrait[1]) for view in camera.motion(60)]
    overlaps = [before.iou(after) for before, after in pairwise(boxes)]
    assert min(overlaps) > 0.75
    assert max(overlaps) < 1
