"""Stable numbers and steady labels."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mien_edge import testing
from mien_edge.chain.smooth import Smoother
from mien_edge.chain.track import Tracker
from mien_edge.contract import LABELS
from mien_edge.settings import SmoothSettings, TrackSettings
from mien_edge.values import Box, Face, Frame

NOTHING = np.zeros((4, 4), np.uint8)


def face(x, y=0.0, size=60.0):
    return Face(Box(x, y, size, size), 0.9)


def follow(tracker, *scenes, fps=15.0):
    """Numbers that each scene's faces get."""
    return [
        [tracked.track for tracked in tracker(Frame(NOTHING, i, i / fps), tuple(faces))]
        for i, faces in enumerate(scenes)
    ]


def settle(readings, confidence_threshold=0.3, **settings):
    smoother = Smoother(SmoothSettings(**settings), confidence_threshold)
    return [smoother((reading,))[0] for reading in readings]


def sequence(*labels, fps=15.0, confidence=0.9):
    return [
        testing.reading(label, i / fps, confidence=confidence) for i, label in enumerate(labels)
    ]


def test_a_moving_face_keeps_its_number():
    assert follow(Tracker(TrackSettings()), *[[face(30 * i)] for i in range(8)]) == [[1]] * 8


def test_two_faces_keep_theirs_in_any_order():
    assert follow(Tracker(TrackSettings()), [face(0), face(300)], [face(305), face(5)]) == [
        [1, 2],
        [2, 1],
    ]


def test_a_face_back_within_the_memory_keeps_its_number_and_later_is_new():
    short, long = [[]] * 10, [[]] * 30
    assert follow(Tracker(TrackSettings(max_age=1)), [face(0)], *short, [face(0)])[-1] == [1]
    assert follow(Tracker(TrackSettings(max_age=1)), [face(0)], *long, [face(0)])[-1] == [2]


def test_without_memory_a_face_that_stays_keeps_its_number():
    assert follow(Tracker(TrackSettings(max_age=0)), [face(0)], [face(2)], [], [face(2)]) == [
        [1],
        [1],
        [],
        [2],
    ]


def test_a_number_is_given_once_per_frame():
    assert sorted(follow(Tracker(TrackSettings()), [face(0)], [face(0), face(2)])[-1]) == [1, 2]


def test_files_share_no_numbers():
    tracker = Tracker(TrackSettings())
    frames = [
        Frame(NOTHING, i, 0.0, name) for i, name in enumerate(["a.jpg", "b.jpg", "c.mp4", "c.mp4"])
    ]
    faces = (face(0), face(90))
    assert [[tracked.track for tracked in tracker(frame, faces)] for frame in frames] == [
        [1, 2],
        [3, 4],
        [5, 6],
        [5, 6],
    ]


def greedy(before, now, min_iou):
    """The index in `before` of the box that each of `now` continues, by the definition: of all pairs of free boxes
    the one with the greatest overlap, the first of equals."""
    pairs = [
        (-box.square(1.5).iou(other.square(1.5)), i, j)
        for i, box in enumerate(now)
        for j, other in enumerate(before)
    ]
    numbers = {}
    for overlap, i, j in sorted(pairs):
        if -overlap >= min_iou and i not in numbers and j not in numbers.values():
            numbers[i] = j
    return numbers


def tracked_indices(before, now, min_iou):
    """What the tracker makes of it, in the same form."""
    tracker = Tracker(TrackSettings(min_iou=min_iou))
    scenes = [[Face(box, 0.9) for box in boxes] for boxes in (before, now)]
    numbers = follow(tracker, *scenes)[1]
    return {i: number - 1 for i, number in enumerate(numbers) if number <= len(before)}


SIDES = st.integers(0, 3)
COARSE_BOXES = st.lists(st.builds(Box, SIDES, SIDES, SIDES, SIDES), max_size=9)
"""Boxes of which many are the same, many overlap alike and some are empty."""


@settings(deadline=None, max_examples=50)
@given(COARSE_BOXES, COARSE_BOXES, st.sampled_from([0.05, 0.5, 0.95]))
def test_the_greatest_overlap_wins_among_equal_and_empty_boxes_too(before, now, min_iou):
    assert tracked_indices(before, now, min_iou) == greedy(before, now, min_iou)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 40])
def test_in_a_crowd_as_between_two_the_greatest_overlap_wins(count):
    """Few boxes are compared one by one, many in a table."""
    rng = np.random.default_rng(count)
    for _ in range(200 // count):
        places = rng.uniform(0, 40 * count**0.5, (count, 2))
        before = [Box(x, y, 30.0, 40.0) for x, y in places]
        now = [Box(x, y, 33.0, 38.0) for x, y in places + rng.normal(0, 12, (count, 2))]
        assert tracked_indices(before, now, 0.2) == greedy(before, now, 0.2)


@given(st.sampled_from(LABELS), st.sampled_from(LABELS), st.integers(1, 30), st.floats(0.4, 1.0))
def test_one_odd_frame_never_flips_a_label(label, odd_label, index, confidence):
    labels = [label] * 40
    labels[index] = odd_label
    readings = settle(sequence(*labels, confidence=confidence))
    assert {reading.label for reading in readings} == {label}


def test_a_lasting_change_takes_over():
    readings = settle(sequence(*["happy"] * 15, *["sad"] * 30))
    assert readings[14].label == "happy"
    assert readings[-1].label == "sad"


def test_labels_that_alternate_do_not_flicker():
    readings = settle(sequence(*["happy", "sad"] * 40, confidence=0.6))
    changes = sum(a.label != b.label for a, b in pairwise(readings))
    assert changes == 0


def test_the_time_constant_does_not_depend_on_the_frame_rate():
    slow = settle(sequence(*["happy"] * 5, *["sad"] * 10, fps=5), time_constant=1)[-1]
    fast = settle(sequence(*["happy"] * 25, *["sad"] * 50, fps=25), time_constant=1)[-1]
    assert slow.emotion.confidence == pytest.approx(fast.emotion.confidence, abs=0.05)


def test_two_faces_never_mix():
    smoother = Smoother(SmoothSettings(), 0.3)
    for i in range(30):
        pair = smoother((testing.reading("happy", i / 15, 1), testing.reading("sad", i / 15, 2)))
    assert [reading.label for reading in pair] == ["happy", "sad"]
    assert pair[0].emotion.scores[LABELS.index("sad")] < 0.05


def test_a_model_with_other_labels_that_steps_in_begins_each_track_anew():
    """A new model fails on a face, and the one before answers: no score of one is added to another's."""
    smoother = Smoother(SmoothSettings(), 0.3)
    labels = ("asleep", "awake")
    for time in range(3):
        smoother((testing.reading("happy", time / 15),))
    (settled,) = smoother((testing.reading("awake", 0.2, confidence=0.8, labels=labels),))
    assert (settled.label, settled.emotion.labels) == ("awake", labels)
    assert settled.emotion.scores == pytest.approx((0.2, 0.8))
    same_count = tuple(f"label{index}" for index in range(7))
    (settled,) = smoother((testing.reading("label3", 0.3, confidence=0.8, labels=same_count),))
    assert (settled.label, settled.emotion.confidence) == ("label3", pytest.approx(0.8))


def test_below_the_cards_threshold_there_is_no_label():
    reading = settle(sequence("happy", confidence=0.35), confidence_threshold=0.5)[0]
    assert (reading.label, reading.quality) == (None, "uncertain")


def test_a_face_without_emotion_passes_as_it_is():
    blurred = testing.reading(None, quality="blurred")
    assert Smoother(SmoothSettings(), 0.3)((blurred,)) == (blurred,)


def test_a_clock_that_jumps_back_does_no_harm():
    readings = [
        *sequence(*["happy"] * 5),
        testing.reading("happy", -1e6),
        testing.reading("happy", 1e9),
    ]
    assert {reading.label for reading in settle(readings)} == {"happy"}


@given(st.lists(st.tuples(st.sampled_from(LABELS), st.floats(0.2, 1.0)), min_size=1, max_size=40))
def test_smoothed_scores_stay_a_distribution(steps):
    readings = [
        testing.reading(label, i / 15, confidence=share) for i, (label, share) in enumerate(steps)
    ]
    for reading in settle(readings):
        assert sum(reading.emotion.scores) == pytest.approx(1)
        assert min(reading.emotion.scores) >= -1e-12
