"""The on-device log: what it keeps, what it survives, how it is read."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from helpers import clean_environment
from mien_edge import log, logview, testing
from mien_edge.errors import SettingsError, SinkError
from mien_edge.log import Filter, Log
from mien_edge.settings import Log as Settings

NOW = 1_800_000_000.0


def written(path, readings, **settings):
    """A closed log of the given readings, one frame each."""
    sink = Log(path, Settings(**{"days": 3650, **settings}))
    for reading in readings:
        sink((reading,))
    sink.close()
    return path


def kept(path, wanted=None):
    connection = log.open_to_read(path)
    found = [reading for _, reading in log.readings(connection, wanted or Filter())]
    connection.close()
    return found


def stream(*labels, step=2.0):
    return [testing.reading(label, NOW + i * step) for i, label in enumerate(labels)]


def test_a_reading_comes_back_as_it_went(tmp_path):
    given = stream("happy", None)
    found = kept(written(tmp_path / "log.db", given))
    assert [reading.label for reading in found] == ["happy", None]
    assert found[0].emotion.scores == pytest.approx(given[0].emotion.scores, abs=1e-3)
    assert found[0].box == given[0].box
    assert found[1].emotion is None


def test_a_steady_face_is_written_once_a_second_and_a_change_at_once(tmp_path):
    readings = [testing.reading("happy", NOW + i / 10) for i in range(30)]
    readings.append(testing.reading("sad", NOW + 2.95))
    found = kept(written(tmp_path / "log.db", readings))
    assert [reading.label for reading in found] == ["happy"] * 3 + ["sad"]


def test_the_log_is_bounded_by_age_rows_and_bytes(tmp_path):
    old = [testing.reading("sad", time.time() - 86400 * 3 + i) for i in range(5)]
    new = [testing.reading("happy", time.time() + 2 * i) for i in range(5)]
    path = written(tmp_path / "age.db", old + new)
    Log(path, Settings(days=1)).close()
    assert {reading.label for reading in kept(path)} == {"happy"}

    path = written(tmp_path / "rows.db", stream(*["happy"] * 300))
    Log(path, Settings(days=3650, rows=100)).close()
    assert len(kept(path)) == 100
    assert kept(path)[-1].time == NOW + 299 * 2

    path = written(tmp_path / "bytes.db", stream(*["happy"] * 8000))
    assert path.stat().st_size > 1e6
    sink = Log(path, Settings(days=3650, megabytes=1))
    assert sink.size() <= 1e6
    sink.close()
    assert kept(path)[-1].time == NOW + 7999 * 2


def test_a_reader_in_the_way_does_not_cost_readings(tmp_path):
    path = written(tmp_path / "log.db", stream(*["happy"] * 8000))
    reader = sqlite3.connect(path)
    reader.execute("BEGIN")
    reader.execute("SELECT COUNT(*) FROM readings").fetchone()
    Log(path, Settings(days=3650, megabytes=1)).close()
    reader.close()
    assert len(kept(path)) > 3000


def test_events_are_bounded_as_well(tmp_path):
    sink = Log(tmp_path / "log.db", Settings(days=3650, rows=100))
    sink.commit([(NOW, 0.0, "start", str(i)) for i in range(300)])
    sink._trim()
    assert [event["text"] for event in log.events(sink_reader(sink))] == [str(i) for i in range(200, 300)]
    sink.close()


def sink_reader(sink):
    return log.open_to_read(sink.path)


def test_a_locked_log_can_be_opened(tmp_path, caplog, monkeypatch):
    path = written(tmp_path / "log.db", stream("happy"))
    monkeypatch.setattr(Log, "_shrink", lambda self: (_ for _ in ()).throw(sqlite3.OperationalError("disk is full")))
    Log(path, Settings(days=3650)).close()
    assert "cannot be trimmed now (disk is full)" in caplog.text


def test_somebody_elses_file_is_not_moved_aside(tmp_path):
    (tmp_path / "notes.txt").write_text("my notes " * 100)
    with pytest.raises(SinkError, match="not a log of mien's"):
        Log(tmp_path / "notes.txt", Settings())
    assert (tmp_path / "notes.txt").read_text().startswith("my notes")


def test_a_file_of_zeros_is_what_a_power_cut_leaves(tmp_path):
    (tmp_path / "log.db").write_bytes(bytes(9000))
    assert len(kept(written(tmp_path / "log.db", stream("happy")))) == 1


def test_a_corrupt_file_is_moved_aside_and_said(tmp_path, caplog):
    path = tmp_path / "log.db"
    path.write_bytes(b"SQLite format 3\0" + os.urandom(9000))
    assert len(kept(written(path, stream("happy")))) == 1
    assert len(list(tmp_path.glob("log.db.corrupt-*"))) == 1
    assert "was corrupt" in caplog.text


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="cannot be opened"):
        Log(tmp_path / "file" / "log.db", Settings())


def test_a_disk_that_fails_is_said_once_and_counted(tmp_path, caplog):
    sink = Log(tmp_path / "log.db", Settings(commit=0.1, days=3650))
    sink._connection.execute("PRAGMA query_only=1")  # what a read-only disk looks like to SQLite
    for reading in stream("happy", "sad", "fear"):
        sink((reading,))
        sink.commit()
    sink._connection.execute("PRAGMA query_only=0")
    sink((testing.reading("angry", NOW + 99),))
    sink.close()
    assert sink.dropped == 3
    assert caplog.text.count("cannot be written") == 1
    assert [reading.label for reading in kept(tmp_path / "log.db")] == ["angry"]


WRITER = """
import sys, time
from pathlib import Path
from mien_edge.log import Log
from mien_edge.settings import Log as Settings
from mien_edge import testing
sink = Log(Path(sys.argv[1]), Settings(commit=0.1, days=3650))
for i in range(10**6):
    sink((testing.reading("happy", 1.8e9 + 2 * i),))
    print(i, flush=True)
    time.sleep(0.002)
"""


@pytest.mark.parametrize("delay", [0.05, 0.21, 0.43])
def test_a_kill_at_any_moment_costs_at_most_one_batch(tmp_path, delay):
    path = tmp_path / "log.db"
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=clean_environment()) as process:
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        told = len(process.stdout.read().splitlines()) + 1
    found = kept(path)
    assert [reading.time for reading in found] == [1.8e9 + 2 * i for i in range(len(found))]
    assert told - len(found) <= 0.1 / 0.002 + 25


def test_filters_choose_by_time_label_and_track(tmp_path):
    readings = [*stream("happy", "sad", "happy"), testing.reading("sad", NOW + 9, track=2)]
    path = written(tmp_path / "log.db", readings)
    assert len(kept(path, Filter(label="sad"))) == 2
    assert len(kept(path, Filter(label="sad", track=2))) == 1
    assert len(kept(path, Filter(since=NOW + 2, until=NOW + 5))) == 2


def test_events_stand_between_the_readings(tmp_path):
    sink = Log(tmp_path / "log.db", Settings())
    sink((testing.reading("happy", time.time() - 5),))
    sink.event("camera lost", "no frame for 10 s")
    sink.close()
    lines = list(logview.lines(tmp_path / "log.db", Filter(), "text"))
    assert "happy" in lines[0]
    assert lines[1].endswith("* camera lost: no frame for 10 s")


def test_json_and_csv_are_readable_by_programs(tmp_path):
    path = written(tmp_path / "log.db", stream("happy", None))
    assert [json.loads(line)["label"] for line in logview.lines(path, Filter(), "json")] == ["happy", None]
    table = list(logview.lines(path, Filter(), "csv"))
    assert table[0].startswith("time,source,frame")
    assert len(table) == 3


def test_following_yields_what_is_committed_later(tmp_path):
    path = written(tmp_path / "log.db", stream("happy"))
    following = logview.follow(path, Filter(), "json", pause=0.01)
    sink = Log(path, Settings(days=3650))
    connection = sqlite3.connect(path, check_same_thread=False)

    def later():
        connection.execute(log._INSERT, log._row(testing.reading("sad", NOW + 50), 0.0))
        connection.commit()

    threading.Timer(0.2, later).start()
    assert json.loads(next(following))["label"] == "sad"
    since = logview.follow(path, Filter(since=NOW - 1), "json", pause=0.01)
    assert [json.loads(next(since))["label"] for _ in range(2)] == ["happy", "sad"]
    sink.close()


def test_the_summary_gives_shares_per_hour(tmp_path):
    path = written(tmp_path / "log.db", stream("happy", "happy", "sad", None, step=1800.0))
    rows = logview.summary(path, Filter())
    assert sum(row["readings"] for row in rows) == 4
    assert all(sum(row["shares"].values()) == pytest.approx(1) for row in rows)
    assert "H" in logview.summary_text(rows)


@pytest.mark.parametrize(("text", "ago"), [("90s", 90), ("15m", 900), ("1h", 3600), ("7d", 604800), ("1.5h", 5400)])
def test_moments_may_be_told_as_time_ago(text, ago):
    assert logview.moment(text, NOW) == NOW - ago


def test_a_moment_may_be_a_date_and_nonsense_is_refused():
    assert logview.moment("2026-01-31T12:00:00+00:00", NOW) == 1769860800
    with pytest.raises(SettingsError, match="write 1h"):
        logview.moment("soon", NOW)


def test_no_log_and_no_database_are_clear_errors(tmp_path):
    with pytest.raises(SinkError, match="no log here"):
        log.open_to_read(tmp_path / "none.db")
    (tmp_path / "text.db").write_text("this is no database " * 100)
    with pytest.raises(SinkError, match="not a readable log"):
        log.open_to_read(tmp_path / "text.db")
