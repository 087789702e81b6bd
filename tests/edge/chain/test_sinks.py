"""Console, JSON lines, CSV, rotation."""

import csv
import io
import json
from pathlib import Path

import pytest
from mien_edge import testing
from mien_edge.chain import sinks
from mien_edge.errors import SinkError


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


def test_a_file_that_is_not_ours_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("one line without an end")
    with pytest.raises(SinkError, match="not a file of mien's readings"):
        sinks.RotatingFile(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "one line without an end"
