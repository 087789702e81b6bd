"""One clip of a variable rate through a whole run: every time beside ffprobe's."""

import csv
import json
from itertools import pairwise

import cv2
import pytest
from mien_edge.chain.annotate import annotator
from mien_edge.chain.video import Video
from mien_edge.export.exports import Export
from mien_edge.formats import position_text
from mien_edge.log import reader, show
from mien_edge.log.reader import Filter
from mien_edge.service.run import RunOptions, Service, load_model
from mien_edge.settings import LogSettings, Settings, SourceSettings
from videos import VARIABLE, make_video, probe_times


@pytest.fixture
def clip(tmp_path, astronaut):
    """A face for 40 frames of a variable rate."""
    picture = tmp_path / "face.png"
    cv2.imwrite(str(picture), cv2.resize(astronaut[:300, 100:400], (160, 160)))
    return make_video(tmp_path / "clip.mp4", [*VARIABLE, "-pix_fmt", "yuv420p"], picture)


def settings_for(clip):
    log = LogSettings(heartbeat_interval=0.0)
    return Settings(source=SourceSettings(uri=str(clip)), log=log)


def test_a_run_tells_ffprobes_times_on_every_way(clip, bundle, tmp_path, capsys):
    settings = settings_for(clip)
    exports = [Export.by_suffix(tmp_path / name) for name in ("r.jsonl", "r.csv")]
    options = RunOptions(console="text", exports=exports, log=tmp_path / "log.db")
    summary = Service(settings, load_model(settings, bundle), options).run()
    probed = probe_times(clip)
    times = [round(time, 3) for time in probed]
    assert (len(times), summary.frames, summary.readings, summary.skipped) == (40, 40, 40, 0)

    lines = (tmp_path / "r.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["position"] for record in records] == times
    assert {record["source"] for record in records} == {"clip.mp4"}
    with (tmp_path / "r.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [(row["source"], row["position"]) for row in rows] == [
        ("clip.mp4", f"{time:.3f}") for time in times
    ]

    connection = reader.open_to_read(options.log)
    logged = [reading for _, reading in reader.readings(connection, Filter())]
    assert [reading.position for reading in logged] == pytest.approx(probed, abs=2e-6)
    (minute, *others) = reader.read_minutes(connection, 0.0)
    seconds = sum(span.face_seconds for span in (minute, *others))
    connection.close()
    assert seconds == pytest.approx(0.1 + probed[-1], abs=0.01)
    (hour, *_) = show.summary(options.log, Filter(source="clip.mp4"))
    assert hour.faces == 1

    printed = [line.split("  ")[1:3] for line in capsys.readouterr().out.splitlines()]
    repeats = [position_text(time) for time in times]
    assert printed[0] == ["clip.mp4", "0:00.00"]
    assert printed[-1][1] in repeats[-3:], "once a second of the file, not of its reading"
    assert 5 <= len(printed) <= 12
    assert {position for _, position in printed} <= set(repeats)


def test_a_run_writes_no_time_in_the_future(clip, bundle, tmp_path):
    settings = settings_for(clip)
    options = RunOptions(log=tmp_path / "log.db")
    summary = Service(settings, load_model(settings, bundle), options).run()
    connection = reader.open_to_read(options.log)
    times = [reading.time for _, reading in reader.readings(connection, Filter())]
    (stop,) = [event.time for event in reader.events(connection, Filter(), "stop")]
    connection.close()
    assert len(times) == summary.readings == 40
    assert max(times) <= stop


def test_an_annotated_copy_shows_each_picture_for_as_long_as_the_file_does(tmp_path):
    ramp = "color=black:size=480x480:rate=30,format=gray,geq=lum=20+N*5"
    timing = VARIABLE[1]
    options = ["-vf", f"{timing},format=yuv420p", *VARIABLE[2:], "-qp", "0"]
    clip = make_video(tmp_path / "clip.mp4", options, pattern=ramp)
    source = Video(clip)
    watcher = annotator(tmp_path / "copy.avi", lambda: source.fps, [])
    for frame in source:
        watcher(frame, ())
    watcher.close()

    times = probe_times(clip)
    starts = {}
    for frame in Video(tmp_path / "copy.avi"):
        starts.setdefault(round((frame.image.mean() - 20) / 5), frame.position)
    assert sorted(starts) == list(range(40)), "no picture is left out"
    assert [starts[index] for index in range(40)] == pytest.approx(times, abs=0.5 / source.fps)
    assert min(second - first for first, second in pairwise(starts.values())) > 0
