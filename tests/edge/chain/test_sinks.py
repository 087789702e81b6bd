"""Console, JSON lines, CSV, rotation, and annotated pictures."""

import csv
import dataclasses
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from mien_edge import testing
from mien_edge.chain import annotate, sinks
from mien_edge.errors import SinkError
from mien_edge.values import Box, Frame


def test_the_console_tells_changes_once_and_the_empty_picture():
    out = io.StringIO()
    console = sinks.Console(out)
    for moment, label in [(0, "happy"), (0.1, "happy"), (0.2, "sad"), (1.3, "sad")]:
        console((testing.reading(label, moment),))
    console(())
    console(())
    lines = out.getvalue().splitlines()
    assert [word for line in lines for word in ("happy", "sad", "no face") if word in line] == [
        "happy", "sad", "sad", "no face",
    ]  # fmt: skip
    assert "face 1" in lines[0]
    assert "90%" in lines[0]
    assert lines[0].endswith("fake-1")


def test_the_console_says_why_there_is_no_label():
    out = io.StringIO()
    sinks.Console(out)((testing.reading(None, quality="too small"),))
    assert "(too small)" in out.getvalue()


def test_json_lines_hold_whole_readings(tmp_path):
    sink = sinks.JsonLines.to_file(tmp_path / "r.jsonl")
    sink((testing.reading("happy", 1.5), testing.reading(None, 1.5, 2, quality="blurred")))
    sink(())
    sink.close()
    first, second = map(json.loads, (tmp_path / "r.jsonl").read_text().splitlines())
    assert (first["label"], first["track"], first["time"]) == (
        "happy",
        1,
        "1970-01-01T00:00:01.500Z",
    )
    assert sum(first["scores"].values()) == pytest.approx(1, abs=1e-3)
    assert (second["label"], second["scores"], second["quality"]) == (None, None, "blurred")


def test_csv_has_one_header_over_two_runs(tmp_path):
    for moment in (1.0, 2.0):
        sink = sinks.Csv(tmp_path / "r.csv")
        sink((testing.reading("sad", moment),))
        sink.close()
    rows = list(csv.DictReader((tmp_path / "r.csv").open()))
    assert [row["label"] for row in rows] == ["sad", "sad"]
    assert float(rows[0]["sad"]) == pytest.approx(0.9)


def test_a_rotated_file_and_its_elders_stay_within_bounds(tmp_path):
    file = sinks.RotatingFile(tmp_path / "log", max_bytes=1000, max_files=3, header="head\n")
    for i in range(400):
        file.write(f"line {i:04d}\n")
    file.close()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["log", "log.1", "log.2"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    assert (tmp_path / "log").read_text().splitlines()[-1] == "line 0399"
    assert all(path.read_text().startswith("head\n") for path in tmp_path.iterdir())


def test_a_half_line_from_a_power_cut_is_cut_off(tmp_path):
    (tmp_path / "log").write_text("whole\nhal")
    file = sinks.RotatingFile(tmp_path / "log")
    file.write("next\n")
    file.close()
    assert (tmp_path / "log").read_text() == "whole\nnext\n"


def test_a_full_disk_is_one_clear_error():
    with pytest.raises(
        SinkError, match=r"/dev/full: cannot be written \(No space left on device\)"
    ):
        sinks.RotatingFile(Path("/dev/full")).write("text\n")


@pytest.mark.parametrize("shape", [(480, 640, 3), (120, 160), (30, 30, 3)])
def test_drawing_marks_the_picture_and_leaves_the_original(shape):
    image = np.full(shape, 90, np.uint8)
    drawn = annotate.draw_readings(image, (testing.reading(),))
    assert drawn.ndim == 3
    assert min(drawn.shape[:2]) >= 480
    assert (image == 90).all()
    assert (drawn != 90).any()


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


def test_a_file_that_is_not_ours_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("one line without an end")
    with pytest.raises(SinkError, match="not a file of mien's readings"):
        sinks.RotatingFile(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "one line without an end"
