"""Annotated pictures and videos."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from mien_edge import drawing, testing
from mien_edge.chain import annotate, encode
from mien_edge.errors import SinkError
from mien_edge.values import Box, Emotion, Frame


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


def bar_pixels(drawn, colour):
    return int((drawn == colour).all(axis=-1).sum())


@pytest.mark.parametrize("count", [2, 8, 16])
def test_every_label_of_a_bundle_has_a_bar_in_its_own_colour(count):
    labels = tuple(f"label-of-some-length-{index}" for index in range(count))
    even = Emotion(labels, tuple([1 / count] * count))
    reading = dataclasses.replace(
        testing.reading(), emotion=even, label=None, box=Box(0, 0, 60, 60)
    )
    drawn = annotate.draw_readings(np.full((480, 640, 3), 90, np.uint8), (reading,))
    colours = drawing.colours(labels)
    assert len(set(colours.values())) == count
    assert all(bar_pixels(drawn, colour) > 20 for colour in colours.values())


def test_a_long_label_is_not_covered_by_its_bar():
    """The white of the names is the same with a bar of any length."""
    labels = ("a-label-of-thirty-two-characters", "b")
    whites = []
    for confidence in (0.01, 0.99):
        emotion = Emotion(labels, (confidence, 1 - confidence))
        reading = dataclasses.replace(testing.reading(), emotion=emotion, label=None)
        drawn = annotate.draw_readings(np.full((480, 640, 3), 90, np.uint8), (reading,))
        whites.append(int((drawn > 200).all(axis=-1).sum()))
    assert whites[0] == whites[1] > 0


def test_the_picture_kept_is_the_one_that_shows_most(tmp_path):
    picture = annotate.Picture(tmp_path / "out" / "best.png")
    large = testing.reading("happy")
    small = dataclasses.replace(large, box=Box(0, 0, 30, 30))
    cut = dataclasses.replace(large, box=Box(-50, 0, 400, 400))
    for index, readings in enumerate([(), (large,), (small,), (cut,)]):
        picture(Frame(np.full((480, 480, 3), index * 50, np.uint8), index, 0.0), readings)
    picture.close()
    assert cv2.imread(str(tmp_path / "out" / "best.png"))[-1, -1, 0] == 50


def annotator(path, *sources, fps=10.0):
    return annotate.annotator(path, lambda: fps, sources)


def write(watcher, count):
    for index in range(count):
        watcher(Frame(flat(9), index, index / 10), (testing.reading(),))
    watcher.close()


def frames_of(path):
    """Times in seconds and mean brightness of a video file's frames."""
    capture = cv2.VideoCapture(str(path))
    while capture.grab():
        seconds = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        yield round(seconds, 2), capture.retrieve()[1].mean()


def flat(value, height=480):
    return np.full((height, 640, 3), value, np.uint8)


def codec_of(path):
    capture = cv2.VideoCapture(str(path))
    return int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode().lower()


@pytest.mark.parametrize(
    ("name", "codec"),
    [("out.avi", "mjpg"), ("out.webm", "vp80"), ("out.mp4", "h264"), ("out.mkv", "h264")],
)
def test_a_video_is_written_whole_in_a_codec_that_browsers_play(tmp_path, name, codec):
    if codec == "h264" and not encode.has_h264():
        pytest.skip("ffmpeg with libx264 is not installed")
    video = annotator(tmp_path / name)
    for index in range(5):
        video(Frame(flat(9), index, index / 10), (testing.reading(),))
    assert not (tmp_path / name).exists()
    video.close()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert len(list(frames_of(tmp_path / name))) == 5
    assert codec_of(tmp_path / name) in (codec, "avc1")


def test_without_an_h264_encoder_a_webm_is_written_and_one_line_says_so(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(encode, "has_h264", lambda: False)
    video = annotator(tmp_path / "out.mp4")
    video(Frame(flat(9), 0, 0.0), ())
    video.close()
    assert [path.name for path in tmp_path.iterdir()] == ["out.webm"]
    (line,) = caplog.messages
    assert "ffmpeg" in line
    assert line.endswith("out.webm")


def test_a_variable_frame_rate_keeps_its_times(tmp_path):
    positions = [0.0, 0.04, 0.08, 0.12, 1.0, 1.04, 2.0]
    video = annotator(tmp_path / "out.avi", fps=25.0)
    for index, position in enumerate(positions):
        video(Frame(flat(index * 40), index, 0.0, "clip.mp4", 7 + position), ())
    video.close()
    starts = {}
    for seconds, mean in frames_of(tmp_path / "out.avi"):
        starts.setdefault(round(mean / 40), seconds)
    assert list(starts.values()) == pytest.approx(positions, abs=0.001)


@pytest.mark.parametrize("name", ["out.png", "out.avi", "out.webm", "out.mp4"])
def test_a_full_disk_is_called_a_full_disk(tmp_path, name, monkeypatch):
    if name == "out.mp4" and not encode.has_h264():
        pytest.skip("ffmpeg with libx264 is not installed")
    link = tmp_path / f"full{Path(name).suffix}"
    link.symlink_to("/dev/full")
    monkeypatch.setattr(Path, "with_name", lambda path, name: link)
    watcher = annotator(tmp_path / name)
    with pytest.raises(
        SinkError, match=rf"{name}: cannot be written \(No space left on device\); free some space"
    ):
        write(watcher, 3)


@pytest.mark.skipif(not encode.has_h264(), reason="ffmpeg with libx264 is not installed")
def test_a_video_whose_encoder_ends_is_one_error_and_leaves_nothing(tmp_path):
    video = annotator(tmp_path / "out.mp4")
    video(Frame(flat(9), 0, 0.0), ())
    encoder = video._file._encoder._process
    encoder.kill()
    encoder.wait()
    with pytest.raises(SinkError, match=r"out.mp4: cannot be written \(ffmpeg: exit code -9\)"):
        write(video, 3)
    video.close()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_error(tmp_path):
    (tmp_path / "file").touch()
    for name in ("out.avi", "out.png"):
        watcher = annotator(tmp_path / "file" / name)
        with pytest.raises(SinkError, match="cannot be written"):
            write(watcher, 1)


def test_a_name_without_format_is_refused(tmp_path):
    with pytest.raises(SinkError, match=r"name a \.png"):
        annotator(tmp_path / "out")
    picture = annotator(tmp_path / "out.nonsense")
    picture(Frame(np.zeros((9, 9, 3), np.uint8), 0, 0.0), ())
    with pytest.raises(SinkError, match="cannot be written"):
        picture.close()
    assert list(tmp_path.iterdir()) == []


def test_a_video_takes_any_case_and_frames_of_another_size(tmp_path):
    video = annotator(tmp_path / "out.AVI")
    for index, height in enumerate([480, 480, 720, 480]):
        video(Frame(flat(9, height), index, index / 10), ())
    video.close()
    assert len(list(frames_of(tmp_path / "out.AVI"))) == 4


def test_a_folder_gets_a_picture_of_each_photograph_and_a_video_of_each_video(tmp_path):
    folder = annotator(tmp_path / "out", tmp_path / "photos")
    for name, position in [
        ("a.jpg", None),
        ("b/a.jpg", None),
        ("a.png", None),
        ("c.mov", 0.0),
        ("c.mov", 0.1),
        ("d.mov", 0.0),
    ]:
        folder(Frame(flat(9), 0, 0.0, name, position), ())
    folder.close()
    names = sorted(
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")
    )
    suffix = "mp4" if encode.has_h264() else "webm"
    assert names == ["a.jpg.png", "a.png.png", "b/a.jpg.png", f"c.mov.{suffix}", f"d.mov.{suffix}"]


@pytest.mark.parametrize("target", ["photos", "photos/out.png", "photos/sub/out"])
def test_what_is_read_is_never_overwritten(tmp_path, target):
    (tmp_path / "photos").mkdir()
    with pytest.raises(SinkError, match="would overwrite what is read"):
        annotator(tmp_path / target, tmp_path / "a.jpg", tmp_path / "photos")
