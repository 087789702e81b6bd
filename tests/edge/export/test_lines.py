"""CSV and JSON lines: what a run by hand refuses and continues, and how the service's files rotate."""

import csv
import json
import logging
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from mien_edge import testing
from mien_edge.errors import SettingsError, SinkError
from mien_edge.events import EventKind
from mien_edge.export import exports, lines
from mien_edge.export.textfile import Existing, LineFile, LineFormat, RotatingFile, Rotation
from mien_edge.labels import LABELS
from mien_edge.settings import parse_settings

ANY = LineFormat("head\n", bool)
RUN = [sys.executable, "-m", "mien_edge", "run", "demo", "--max-frames", "3", "--quiet"]


def write(path, existing=Existing.REFUSE, moment=1.0):
    exporter = exports.open_export(exports.Export.by_suffix(path), existing)
    exporter((testing.reading("sad", moment), testing.reading(None, moment, 2, quality="blurred")))
    exporter(())
    exporter.close()


def numbered_lines(file, count):
    for number in range(count):
        file.write(f"line {number:04d}\n")


def remaining(folder):
    """The numbers of the lines in all files of a folder, sorted."""
    texts = [path.read_text().splitlines()[1:] for path in folder.iterdir()]
    return sorted(int(line.split()[1]) for text in texts for line in text)


def test_json_lines_hold_whole_readings_of_the_type_reading(tmp_path):
    write(tmp_path / "r.jsonl", moment=1.5)
    first, second = map(json.loads, (tmp_path / "r.jsonl").read_text().splitlines())
    assert (first["type"], first["label"], first["track"]) == ("reading", "sad", 1)
    assert first["time"] == "1970-01-01T00:00:01.500Z"
    assert sum(first["scores"].values()) == pytest.approx(1, abs=1e-3)
    assert (second["label"], second["scores"], second["quality"]) == (None, None, "blurred")


@pytest.mark.parametrize("name", ["r.csv", "r.CSV", "r.jsonl", "r.ndjson"])
def test_a_second_run_is_refused_appends_or_overwrites_as_it_is_told(tmp_path, name):
    path = tmp_path / "new" / name
    write(path)
    first = path.read_bytes()
    with pytest.raises(SinkError, match=rf"{name}: is there already; add --append or --overwrite"):
        write(path)
    assert path.read_bytes() == first
    write(path, Existing.APPEND)
    header = lines.csv_format().header.encode() if name.lower() == "r.csv" else b""
    assert path.read_bytes() == first + first.removeprefix(header)
    write(path, Existing.OVERWRITE)
    assert path.read_bytes() == first


def test_csv_has_one_header_and_scores_per_label(tmp_path):
    write(tmp_path / "r.csv")
    write(tmp_path / "r.csv", Existing.APPEND)
    rows = list(csv.DictReader((tmp_path / "r.csv").open()))
    assert [row["label"] for row in rows] == ["sad", "", "sad", ""]
    assert float(rows[0]["sad"]) == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.csv", "file,emotion\na.png,happy\n"),
        ("r.csv", "one line without an end"),
        ("r.csv", lines.csv_format().header.replace("source,", "")),
        ("r.csv", lines.csv_format().header.replace("\n", "\r\n")),
        ("r.csv", lines.csv_format().header + "1,2,3\n"),
        ("r.csv", lines.csv_format().header + "2026-01-01T00:00:00.000Z,,"),
        ("r.csv", "\0\xff" * 100_000),
        ("r.jsonl", '{"my": "notes"}\n'),
        ("r.jsonl", "[1, 2]\n"),
        ("r.jsonl", "\n"),
        ("r.jsonl", "[" * 50_000 + "\n"),
        ("r.jsonl", '{"summary": {"frames": 3}}\n'),
    ],
)
def test_nothing_is_appended_to_a_foreign_or_broken_file(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SinkError, match=f"{name}: nothing is appended, for its .* --overwrite"):
        write(path, Existing.APPEND)
    assert path.read_bytes() == text.encode("latin-1")


def test_an_empty_file_is_written_to_and_a_folder_is_not(tmp_path):
    (tmp_path / "r.csv").touch()
    write(tmp_path / "r.csv")
    assert (tmp_path / "r.csv").read_text().startswith(lines.csv_format().header)
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(SinkError, match="a folder; name a file"):
        write(tmp_path / "d.csv", Existing.OVERWRITE)


def test_a_pipe_and_a_full_device_are_written_to_until_they_refuse(tmp_path):
    reader, writer = os.pipe()
    exporter = lines.Csv(LineFile(Path(f"/dev/fd/{writer}"), lines.csv_format(), Existing.REFUSE))
    exporter((testing.reading("sad"),))
    assert os.read(reader, 9999).decode().startswith(lines.csv_format().header)
    os.close(reader)
    with pytest.raises(SinkError, match="Broken pipe"):
        exporter((testing.reading("sad"),))
    os.close(writer)
    with pytest.raises(SinkError, match=r"/dev/full: cannot be written .* free some space"):
        LineFile(Path("/dev/full"), lines.csv_format(), Existing.REFUSE)


def test_two_names_of_one_file_and_a_file_that_is_read_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("file,emotion\n")
    (tmp_path / "link.csv").symlink_to(tmp_path / "a.csv")
    export = exports.Export.by_suffix(tmp_path / "link.csv")
    with pytest.raises(SinkError, match="named twice, or read by this run"):
        exports.check([export], Existing.OVERWRITE, inputs=[tmp_path / "a.csv"])
    twice = [exports.Export(tmp_path / "new", "csv"), exports.Export(tmp_path / "new", "jsonl")]
    with pytest.raises(SinkError, match="named twice"):
        exports.check(twice, Existing.REFUSE)


def test_a_suffix_without_a_format_is_told_with_those_that_have_one(tmp_path):
    with pytest.raises(SinkError, match=r"r\.xlsx: no format to export; name a file in \.csv"):
        exports.Export.by_suffix(tmp_path / "r.xlsx")


def test_a_run_refuses_an_existing_file_before_it_looks_for_model_or_camera(tmp_path):
    (tmp_path / "r.csv").write_text("mine\n")
    command = [*RUN, "--model", tmp_path / "none", "--csv", tmp_path / "r.csv"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert "r.csv: is there already; add --append or --overwrite" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_run_by_hand_drops_no_line_however_many(tmp_path):
    file = LineFile(tmp_path / "log", ANY, Existing.REFUSE)
    for _ in range(60):
        file.write("x" * 1_000_000 + "\n")
    file.close()
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert (tmp_path / "log").stat().st_size == 60 * 1_000_001 + len(ANY.header)


def test_a_file_that_another_run_writes_is_left_alone(tmp_path):
    file = LineFile(tmp_path / "log", ANY, Existing.REFUSE)
    for existing in (Existing.APPEND, Existing.OVERWRITE):
        with pytest.raises(SinkError, match="another run writes it"):
            LineFile(tmp_path / "log", ANY, existing)
    file.write("line 0001\n")
    assert (tmp_path / "log").read_text() == "head\nline 0001\n"


def test_a_rotated_file_keeps_within_its_bounds_and_tells_each_file_that_is_deleted(
    tmp_path, caplog
):
    events = []
    rotation = Rotation(max_bytes=1000, max_files=3)
    file = RotatingFile(tmp_path / "log", ANY, rotation, lambda *event: events.append(event))
    with caplog.at_level(logging.WARNING):
        numbered_lines(file, 400)
    file.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    assert all(path.read_text().startswith("head\n") for path in tmp_path.iterdir())
    assert remaining(tmp_path) == list(range(400))[-len(remaining(tmp_path)) :]
    rotations = 400 // 99  # a file holds 99 lines
    assert [kind for kind, _ in events] == [EventKind.FILE_DELETED] * (rotations - 2)
    assert [record.getMessage() for record in caplog.records] == [text for _, text in events]
    assert "sinks.max_files" in events[0][1]


def test_with_max_files_0_the_service_keeps_all_and_fewer_later_delete_the_excess(tmp_path):
    events = []
    file = RotatingFile(
        tmp_path / "log", ANY, Rotation(1000, 0), lambda *event: events.append(event)
    )
    numbered_lines(file, 1200)
    file.close()
    assert (len(list(tmp_path.iterdir())), remaining(tmp_path)) == (13, list(range(1200)))
    assert events == []
    file = RotatingFile(
        tmp_path / "log", ANY, Rotation(1000, 2), lambda *event: events.append(event)
    )
    numbered_lines(file, 99)
    file.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1"]
    ((_, text),) = events
    assert "the oldest 12 files" in text


def test_one_file_alone_is_bounded_too(tmp_path):
    file = RotatingFile(tmp_path / "log", ANY, Rotation(1000, 1))
    numbered_lines(file, 150)
    file.close()
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert remaining(tmp_path) == list(range(99, 150))


def test_the_service_continues_its_file_after_a_restart_and_a_power_cut(tmp_path):
    for moment in (1.0, 2.0):
        file = RotatingFile(tmp_path / "r.csv", lines.csv_format(), Rotation(10**6, 5))
        exporter = lines.Csv(file)
        exporter((testing.reading("sad", moment),))
        exporter.close()
        with (tmp_path / "r.csv").open("a") as power_cut:
            power_cut.write("1970-01-01T00:00")
    RotatingFile(tmp_path / "r.csv", lines.csv_format(), Rotation(10**6, 5)).close()
    rows = list(csv.DictReader((tmp_path / "r.csv").open()))
    assert [row["time"][17:19] for row in rows] == ["01", "02"]
    assert [path.name for path in tmp_path.iterdir()] == ["r.csv"]


@pytest.mark.parametrize(
    ("line_format", "text"),
    [
        (lines.csv_format(), "time,label\n1,happy\n"),
        (lines.csv_format(), "no line"),
        (lines.JSON_LINES, '{"time": 1}\n'),
    ],
)
def test_a_foreign_file_in_the_services_way_is_moved_aside_and_never_lost(
    tmp_path, line_format, text
):
    events = []
    for _ in range(2):
        (tmp_path / "r").write_text(text)
        file = RotatingFile(
            tmp_path / "r", line_format, Rotation(10**6, 5), lambda *event: events.append(event)
        )
        file.close()
    assert (tmp_path / "r").read_text() == line_format.header
    assert [(tmp_path / f"r.old-{number}").read_text() for number in (1, 2)] == [text, text]
    assert [kind for kind, _ in events] == [EventKind.FILE_MOVED] * 2
    assert events[1][1].endswith("moved to r.old-2")


THREE = ("smile", "neutral", "eyes-closed")
CLASHING = ("label", "model", "x", "time")


def of(labels, index=0, moment=1.0):
    return testing.reading(labels[index], moment, labels=labels)


def csv_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_columns_of_the_seven_labels_are_those_that_they_were():
    assert lines.csv_format().header == (
        "time,source,position,frame,track,label,confidence,quality,x,y,width,height,"
        "angry,disgust,fear,happy,sad,surprise,neutral,model\n"
    )


@pytest.mark.parametrize("labels", [THREE, CLASHING, (*LABELS, "contempt"), ("1", "0")])
def test_csv_has_a_column_for_each_label_also_where_it_is_called_as_another_column(
    tmp_path, labels
):
    path = tmp_path / "r.csv"
    for existing in (Existing.REFUSE, Existing.APPEND):
        exports.check([exports.Export.by_suffix(path)], existing)
        sink = exports.open_export(exports.Export.by_suffix(path), existing, labels)
        sink((of(labels), testing.reading(None, 2.0, quality="blurred")))
        sink.close()
    first, blurred, second, _ = csv_of(path)
    assert first == second
    taken = set(CLASHING)
    scores = {label: first[f"scores.{label}" if label in taken else label] for label in labels}
    assert float(scores.pop(labels[0])) == 0.9
    assert sum(map(float, scores.values())) == pytest.approx(0.1, abs=1e-3)
    assert (first["label"], first["model"], first["x"]) == (labels[0], "fake-1", "10")
    assert first["time"].startswith("1970-01-01T00:00:01")
    assert (blurred["label"], blurred["quality"]) == ("", "blurred")


def test_nothing_is_appended_to_a_file_of_other_labels_and_what_it_lacks_is_never_dropped(
    tmp_path,
):
    path = tmp_path / "r.csv"
    write(path)
    before = path.read_bytes()
    export = exports.Export.by_suffix(path)
    with pytest.raises(SinkError, match="nothing is appended, for its first line is not: time,"):
        exports.open_export(export, Existing.APPEND, THREE)
    sink = exports.open_export(export, Existing.APPEND)
    with pytest.raises(SinkError, match=r"has no room for the columns .*smile.*name another file"):
        sink((of(THREE),))
    sink.close()
    assert path.read_bytes() == before


def test_the_services_file_of_one_model_makes_room_for_that_of_the_next(tmp_path):
    events = []

    def open_csv(labels):
        file = RotatingFile(
            tmp_path / "r.csv",
            lines.csv_format(labels),
            Rotation(10**6, 3),
            lambda *event: events.append(event),
        )
        return lines.Csv(file, labels)

    sink = open_csv(LABELS)
    sink((of(LABELS, 3),))
    sink((of(THREE), testing.reading(None, 2.0, quality="blurred")))  # swapped while it runs
    sink.close()
    sink = open_csv(LABELS)  # swapped while it did not run
    sink((of(LABELS, 4),))
    sink.close()
    files = [csv_of(tmp_path / name) for name in ("r.csv", "r.csv.1", "r.csv.2")]
    labels = [[row["label"] for row in rows] for rows in files]
    assert labels == [["sad"], ["smile", ""], ["happy"]]
    assert [row["smile"] for row in files[1]] == ["0.9", ""]
    assert not events
    sink = open_csv(THREE)
    sink((of(LABELS, 3),))  # nothing stood there yet
    sink.close()
    assert {path.name for path in tmp_path.iterdir()} == {"r.csv", "r.csv.1", "r.csv.2"}
    assert [kind for kind, _ in events] == [EventKind.FILE_DELETED], "the bound holds"
    assert [row["label"] for row in csv_of(tmp_path / "r.csv")] == ["happy"]


def test_a_line_that_did_not_fit_the_disk_is_cut_off_again(tmp_path, monkeypatch):
    file = LineFile(tmp_path / "log", ANY, Existing.REFUSE)
    file.write("whole\n")
    monkeypatch.setattr(file, "_file", FullAfter(file._file, 3))
    with pytest.raises(SinkError, match="No space left on device"):
        file.write("next line\n")
    assert (tmp_path / "log").read_text() == "head\nwhole\n"


class FullAfter:
    """A file on a disk that has room for some more bytes."""

    def __init__(self, file, room):
        self.file = file
        self.room = room

    def write(self, data):
        if not self.room:
            raise OSError(28, "No space left on device")
        count = self.file.write(data[: self.room])
        self.room -= count
        return count

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_both_sinks_of_the_settings_in_one_file_are_refused():
    with pytest.raises(SettingsError, match=r"jsonl and csv are both /a; name two files"):
        parse_settings('[sinks]\njsonl = "/a"\ncsv = "/a"\n')


def test_the_settings_bound_the_services_files_and_a_run_that_names_source_or_file_leaves_them_alone(
    tmp_path,
):
    toml = f"""
        [source]
        uri = "demo"
        fps = 120.0
        [sinks]
        csv = "{tmp_path / "out" / "r.csv"}"
        max_megabytes = 0.01
        max_files = 1
    """
    (tmp_path / "mien.toml").write_text(toml)
    command = [
        *(sys.executable, "-m", "mien_edge", "run", "--settings", tmp_path / "mien.toml"),
        *("--quiet", "--max-frames"),
    ]
    for options in (["3", "demo"], ["3", "--csv", tmp_path / "mine.csv"]):
        subprocess.run([*command, *options], check=True, capture_output=True)
    assert not (tmp_path / "out").exists()
    command += ["100", "--log", tmp_path / "log"]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["r.csv"]
    assert all(path.stat().st_size <= 10_000 for path in (tmp_path / "out").iterdir())
    log = sqlite3.connect(tmp_path / "log")
    events = log.execute("SELECT text FROM events WHERE kind = 'file deleted'").fetchall()
    assert 0 < len(events) == result.stderr.count("WARNING: ")
    assert all(text in result.stderr for (text,) in events)
