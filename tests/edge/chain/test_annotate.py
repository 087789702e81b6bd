"""Annotated pictures and videos."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from mien_edge import testing
from mien_edge.chain import annotate
from mien_edge.errors import SinkError
from mien_edge.values import Box, Frame


@pytest.mark.parametrize("shape", [(480, 640, 3), (120, 160), (30, 30, 3)])
def test_drawing_marks_the_picture_and_leaves_the_original(shape):
    image = np.full(shape, 90, np.uint8)
    drawn = annotate.draw_readings(image, (testing.reading(),))
    assert drawn.ndim == 3
    assert min(drawn.shape[:2]) >= 480
    assert (image == 90).all()
    assert (drawn != 90).any()


def faces_at(*lefts):
    boxes = [Box(left, 180, 100, 120) for left in lefts]
    return tuple(
        dataclasses.replace(testing.reading(), box=box, track=i) for i, box in enumerate(boxes, 1)
    )


def test_no_panel_covers_a_neighbours_face():
    drawn = annotate.draw_readings(
        np.full((480, 640, 3), 90, np.uint8), faces_at(40, 160, 280, 400)
    )
    for left in (40, 160, 280, 400):
        assert (drawn[184:296, left + 4 : left + 96] == 90).all()


def test_faces_without_room_for_a_panel_have_a_number_and_a_legend_below_a_picture():
    crowd = faces_at(*range(0, 640, 10))
    image = np.full((480, 640, 3), 90, np.uint8)
    crowd = tuple(
        dataclasses.replace(reading, box=reading.box._replace(y=0, height=480)) for reading in crowd
    )
    assert annotate.draw_readings(image, crowd).shape[0] > 480
    assert annotate.draw_readings(image, crowd, may_grow=False).shape[0] == 480


def test_the_picture_kept_is_the_one_that_shows_most(tmp_path):
    picture = annotate.Picture(tmp_path / "out" / "best.png")
    large = testing.reading("happy")
    small = dataclasses.replace(large, box=Box(0, 0, 30, 30))
    cut = dataclasses.replace(large, box=Box(-50, 0, 400, 400))
    for index, readings in enumerate([(), (large,), (small,), (cut,)]):
        picture(Frame(np.full((480, 480, 3), index * 50, np.uint8), index, 0.0), readings)
    picture.close()
    assert cv2.imread(str(tmp_path / "out" / "best.png"))[-1, -1, 0] == 50


def test_a_video_is_written_whole(tmp_path):
    video = annotate.annotator(tmp_path / "out.avi", 10, many=False, source=Path("demo"))
    for index in range(5):
        video(Frame(np.full((480, 640, 3), 9, np.uint8), index, index / 10), (testing.reading(),))
    assert not (tmp_path / "out.avi").exists()
    video.close()
    capture = cv2.VideoCapture(str(tmp_path / "out.avi"))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 5


def test_a_name_without_format_is_refused(tmp_path):
    with pytest.raises(SinkError, match=r"name a \.png"):
        annotate.annotator(tmp_path / "out", 10, many=False, source=Path("demo"))
    picture = annotate.annotator(tmp_path / "out.nonsense", 10, many=False, source=Path("demo"))
    picture(Frame(np.zeros((9, 9, 3), np.uint8), 0, 0.0), ())
    with pytest.raises(SinkError, match="cannot be written"):
        picture.close()
    assert list(tmp_path.iterdir()) == []


def test_a_video_takes_any_case_and_frames_of_another_size(tmp_path):
    video = annotate.annotator(tmp_path / "out.AVI", 10, many=False, source=Path("demo"))
    for index, height in enumerate([480, 480, 720, 480]):
        video(Frame(np.full((height, 640, 3), 9, np.uint8), index, index / 10), ())
    video.close()
    assert int(cv2.VideoCapture(str(tmp_path / "out.AVI")).get(cv2.CAP_PROP_FRAME_COUNT)) == 4


def test_photographs_of_one_stem_keep_their_own_pictures(tmp_path):
    folder = annotate.annotator(tmp_path / "out", 10, many=True, source=tmp_path / "photos")
    for name in ("a.jpg", "a.png"):
        folder(Frame(np.zeros((480, 480, 3), np.uint8), 0, 0.0, name), ())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jpg.png", "a.png.png"]


@pytest.mark.parametrize("target", ["photos", "photos/out.png"])
def test_what_is_read_is_never_overwritten(tmp_path, target):
    (tmp_path / "photos").mkdir()
    with pytest.raises(SinkError, match="would overwrite what is read"):
        annotate.annotator(tmp_path / target, 10, many=True, source=tmp_path / "photos")
