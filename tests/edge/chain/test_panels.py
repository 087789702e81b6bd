"""Where panels go."""

import itertools
import random

import pytest
from mien_edge.chain.panels import Size, free_corner, place_panels
from mien_edge.values import Box

PICTURE = Size(640, 480)
SIZES = [Size(140, 130), Size(130, 22), Size(30, 18)]


def places(*faces):
    return place_panels(faces, [SIZES] * len(faces), PICTURE, 3)


def is_inside(box):
    return box.intersection(Box(0, 0, *PICTURE)).area == pytest.approx(box.area)


def test_a_lone_face_has_its_whole_panel_at_its_right():
    ((choice, box),) = places(Box(100, 100, 100, 120))
    assert (choice, box) == (0, Box(203, 100, 140, 130))


def test_a_panel_moves_to_another_side_where_a_neighbour_is_or_the_picture_ends():
    first, second = places(Box(150, 150, 120, 150), Box(300, 160, 120, 150))
    assert (first.choice, second.choice) == (0, 0)
    (at_the_edge,) = places(Box(560, 100, 100, 120))
    assert at_the_edge.box == Box(417, 100, 140, 130)


def test_a_face_that_fills_the_picture_has_its_panel_in_a_corner_of_its_own():
    ((choice, box),) = places(Box(-20, -20, 700, 520))
    assert (choice, box.x, box.y) == (0, 0, 0)


def test_in_a_crowd_panels_become_poorer_and_every_face_keeps_one():
    crowd = [Box(4 + 53 * column, 4 + 53 * row, 50, 50) for row in range(9) for column in range(12)]
    assert {place.choice for place in places(*crowd)} == {2}


def random_faces(seed):
    """Up to a dozen faces of three sizes, of which some are cut by the edge; 40 pixels lie between them."""
    numbers = random.Random(seed)  # noqa: S311 - no secret
    faces = []
    for _ in range(40):
        side = numbers.choice([20, 60, 120])
        face = Box(numbers.uniform(-30, 600), numbers.uniform(-30, 440), side, side * 1.2)
        wide = Box(face.x - 40, face.y - 40, face.width + 80, face.height + 80)
        if all(wide.iou(other) == 0 for other in faces):
            faces.append(face)
    return faces


@pytest.mark.parametrize("seed", range(30))
def test_no_panel_covers_a_neighbours_face_or_panel_or_leaves_the_picture(seed):
    faces = random_faces(seed)
    panels = [place.box for place in places(*faces)]
    assert all(is_inside(box) for box in panels)
    for a, b in itertools.permutations(range(len(faces)), 2):
        assert panels[a].intersection(faces[b]).area < 0.01
        assert panels[a].intersection(panels[b]).area < 0.01


def test_a_legend_goes_to_a_free_corner_or_nowhere():
    corners = [Box(0, 380, 100, 100), Box(540, 380, 100, 100), Box(0, 0, 100, 100)]
    assert free_corner(Size(90, 90), PICTURE, corners[:1]) == Box(550, 390, 90, 90)
    assert free_corner(Size(90, 90), PICTURE, corners) == Box(550, 0, 90, 90)
    assert free_corner(Size(90, 90), PICTURE, [*corners, Box(540, 0, 100, 100)]) is None
