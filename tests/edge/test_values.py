"""Boxes and values."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mien_edge import testing
from mien_edge.values import Box, Frame, Reading

boxes = st.builds(Box, *[st.floats(-1000, 1000)] * 2, *[st.floats(0.1, 1000)] * 2)


@given(boxes, boxes)
def test_overlap_is_symmetric_and_a_share(a, b):
    assert a.iou(b) == pytest.approx(b.iou(a))
    assert 0 <= a.iou(b) <= 1 + 1e-9


@given(boxes)
def test_a_box_overlaps_itself_fully(box):
    assert box.iou(box) == pytest.approx(1, abs=1e-6)


def test_empty_boxes_do_not_overlap():
    assert Box(5, 5, 0, 10).iou(Box(5, 5, 0, 10)) == 0


@given(boxes, boxes)
def test_an_intersection_lies_in_both(a, b):
    shared = a.intersection(b)
    assert shared.area <= min(a.area, b.area) + 1e-6


@given(boxes, st.floats(0.1, 3))
def test_a_square_keeps_the_centre_and_scales_the_longer_side(box, scale):
    square = box.square(scale)
    assert square.width == square.height == pytest.approx(max(box.width, box.height) * scale)
    assert square.centre == pytest.approx(box.centre, abs=1e-6)


def test_values_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        testing.reading().label = "sad"


def test_a_reading_has_no_place_for_pixels():
    hints = {field.name: str(field.type) for field in dataclasses.fields(Reading)}
    assert "image" in {field.name for field in dataclasses.fields(Frame)}
    assert not any("Pixels" in kind or "ndarray" in kind for kind in hints.values())


def test_label_and_confidence_are_those_of_the_highest_score():
    emotion = testing.emotion("sad", 0.5)
    assert (emotion.label, emotion.confidence) == ("sad", 0.5)
    assert sum(emotion.scores) == pytest.approx(1)
