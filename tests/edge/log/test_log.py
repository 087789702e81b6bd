"""The on-device log: what it keeps, what it survives, how it is read."""

import json
import mmap
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import clean_environment, until
from mien_edge import cli, drawing, formats, testing
from mien_edge import settings as configuration
from mien_edge.errors import SettingsError, SinkError
from mien_edge.labels import LABELS
from mien_edge.log import database, plot, retention, show
from mien_edge.log import reader as log_reader
from mien_edge.log.minutes import MinuteSummary
from mien_edge.log.reader import Filter
from mien_edge.log.writer import LogWriter

NOW = 1_800_000_000.0
RANDOM = random.Random()  # noqa: S311 - moments of kills, not secrets


def Settings(**values):  # noqa: N802 - in the place of the class, with a shorter interval
    return configuration.LogSettings(**{"heartbeat_interval": 1.0, **values})


class Clocks:
    """A wall clock that can be set, and a monotonic one."""

    def __init__(self):
        self.now, self.offset = 1000.0, NOW - 1000.0
        self.boot = 1
        self.is_synchronized = True

    def monotonic(self):
        return self.now

    def wall(self):
        return self.now + self.offset

    def run(self, seconds):
        self.now += seconds

    def reboot(self, seconds=0.0):
        """The machine is off for so long, and its clock with it."""
        self.boot += 1
        self.offset += self.now - 30.0 + seconds
        self.now = 30.0

    def writer(self, path, **settings):
        """A log written by these clocks."""
        return LogWriter(
            path,
            Settings(**settings),
            self.wall,
            self.monotonic,
            lambda: self.is_synchronized,
            f"boot {self.boot}",
        )


def write_log(path, readings, **settings):
    """A closed log of the given readings, one frame each."""
    sink = LogWriter(path, Settings(**{"max_days": 3650, **settings}))
    for reading in readings:
        sink((reading,))
    sink.close()
    return path


def read_back(path, selection=None):
    connection = log_reader.open_to_read(path)
    readings = [reading for _, reading in log_reader.readings(connection, selection or Filter())]
    connection.close()
    return readings


def stream(*labels, step=2.0):
    return [testing.reading(label, NOW + i * step) for i, label in enumerate(labels)]


def test_a_reading_comes_back_as_it_went(tmp_path):
    readings = stream("happy", None)
    copies = read_back(write_log(tmp_path / "log.db", readings))
    assert [reading.label for reading in copies] == ["happy", None]
    assert copies[0].emotion.scores == pytest.approx(readings[0].emotion.scores, abs=1e-3)
    assert copies[0].box == readings[0].box
    assert copies[1].emotion is None


def test_a_steady_face_is_written_once_a_second_and_a_change_at_once(tmp_path):
    readings = [testing.reading("happy", NOW + i / 10) for i in range(30)]
    readings.append(testing.reading("sad", NOW + 2.95))
    copies = read_back(write_log(tmp_path / "log.db", readings))
    assert [reading.label for reading in copies] == ["happy"] * 3 + ["sad"]


def test_the_log_is_bounded_by_age_rows_and_bytes(tmp_path):
    clocks = Clocks()
    path = tmp_path / "age.db"
    sink = clocks.writer(path, max_days=1)
    for label, pause in (("sad", 2), ("sad", 86400 * 3), ("happy", 2), ("happy", 3601)):
        sink((testing.reading(label, clocks.wall()),))
        clocks.run(pause)
    sink.commit()
    sink.close()
    assert {reading.label for reading in read_back(path)} == {"happy"}

    path = write_log(tmp_path / "rows.db", stream(*["happy"] * 300))
    LogWriter(path, Settings(max_days=3650, max_rows=100)).close()
    assert len(read_back(path)) == 100
    assert read_back(path)[-1].time == NOW + 299 * 2

    path = write_log(tmp_path / "bytes.db", stream(*["happy"] * 16000))
    assert path.stat().st_size > 1e6
    sink = LogWriter(path, Settings(max_days=3650, max_megabytes=1))
    assert sink.size() <= 1e6
    sink.close()
    assert read_back(path)[-1].time == NOW + 15999 * 2


@pytest.mark.slow
def test_a_reader_in_the_way_does_not_cost_readings(tmp_path):
    path = write_log(tmp_path / "log.db", stream(*["happy"] * 16000))
    reader = sqlite3.connect(path)
    reader.execute("BEGIN")
    reader.execute("SELECT COUNT(*) FROM readings").fetchone()
    LogWriter(path, Settings(max_days=3650, max_megabytes=1)).close()
    reader.close()
    assert len(read_back(path)) > 3000


def test_events_are_bounded_as_well(tmp_path):
    sink = LogWriter(tmp_path / "log.db", Settings(max_days=3650, max_rows=100))
    sink.commit([(NOW, 0.0, "start", str(i)) for i in range(300)])
    sink._trim()
    sink.close()
    assert [event.text for event in events(sink.path)] == [str(i) for i in range(200, 300)]


def test_a_locked_log_can_be_opened(tmp_path, caplog, monkeypatch):
    path = write_log(tmp_path / "log.db", stream("happy"))

    def fail(*_):
        raise sqlite3.OperationalError("disk is full")

    monkeypatch.setattr(retention.Retention, "step", fail)
    LogWriter(path, Settings(max_days=3650)).close()
    assert "cannot be trimmed now (disk is full)" in caplog.text


def test_somebody_elses_file_is_not_moved_aside(tmp_path):
    (tmp_path / "notes.txt").write_text("my notes " * 100)
    with pytest.raises(SinkError, match="not a log of mien's"):
        LogWriter(tmp_path / "notes.txt", Settings())
    assert (tmp_path / "notes.txt").read_text().startswith("my notes")


def test_a_file_of_zeros_is_what_a_power_cut_leaves(tmp_path):
    (tmp_path / "log.db").write_bytes(bytes(9000))
    assert len(read_back(write_log(tmp_path / "log.db", stream("happy")))) == 1


def test_a_corrupt_file_is_moved_aside_and_said(tmp_path, caplog):
    path = tmp_path / "log.db"
    path.write_bytes(b"SQLite format 3\0" + os.urandom(9000))
    assert len(read_back(write_log(path, stream("happy")))) == 1
    assert len(list(tmp_path.glob("log.db.corrupt-*"))) == 1
    assert "was corrupt" in caplog.text


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="cannot be opened"):
        LogWriter(tmp_path / "file" / "log.db", Settings())


def test_a_disk_that_fails_is_said_once_and_counted(tmp_path, caplog):
    sink = LogWriter(tmp_path / "log.db", Settings(commit_interval=0.1, max_days=3650))
    sink._connection.execute("PRAGMA query_only=1")  # what a read-only disk looks like to SQLite
    for reading in stream("happy", "sad", "fear"):
        sink((reading,))
        sink.commit()
    sink._connection.execute("PRAGMA query_only=0")
    sink((testing.reading("angry", NOW + 99),))
    sink.close()
    assert sink.dropped == 3
    assert caplog.text.count("cannot be written") == 1
    assert [reading.label for reading in read_back(tmp_path / "log.db")] == ["angry"]
    assert "3 readings were lost" in events(tmp_path / "log.db")[0].text


FILLER = """
import sys
from pathlib import Path
from mien_edge.log.writer import LogWriter
from mien_edge.settings import LogSettings
from mien_edge import drawing, formats, testing
folder = Path(sys.argv[1])
sink = LogWriter(folder / "log.db", LogSettings(max_days=3650, heartbeat_interval=1))
count = 0
while not sink.dropped:
    for _ in range(500):
        sink((testing.reading("happy", 1.8e9 + 2 * count),))
        count += 1
    sink.commit()
(folder / "ballast").unlink()
sink((testing.reading("sad", 1.8e9 + 2 * count),))
sink.close()
print(count, sink.dropped)
"""


def test_a_full_disk_costs_what_did_not_fit_and_heals(tmp_path):
    """On a real file system of 600 kB, mounted in a namespace of its own."""
    script = 'mount -t tmpfs -o size=600k none "$1" && head -c 300k /dev/zero > "$1/ballast" && "$2" -c "$3" "$1" && '
    script += 'cp "$1"/log.db* "$4"'
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh"]
    if (
        not shutil.which("unshare")
        or subprocess.run([*command[:3], "true"], capture_output=True).returncode
    ):
        pytest.skip("no namespaces of our own here")
    (tmp_path / "disk").mkdir()
    done = subprocess.run(
        [*command, tmp_path / "disk", sys.executable, FILLER, tmp_path],
        capture_output=True, text=True, env=clean_environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    count, dropped = map(int, done.stdout.split())
    assert done.stderr.count("cannot be written (database or disk is full)") == 1
    readings = read_back(tmp_path / "log.db")
    assert len(readings) == count + 1 - dropped
    assert readings[-1].label == "sad"


def test_a_file_that_becomes_corrupt_is_moved_aside_while_it_runs(tmp_path, caplog):
    path = write_log(tmp_path / "log.db", stream(*["happy"] * 3000))
    sink = LogWriter(path, Settings(max_days=3650))
    sink._connection.execute("PRAGMA cache_size=1")
    with path.open("r+b") as file:
        file.seek(1024)
        file.write(os.urandom(path.stat().st_size - 1024))
    for label in ("sad", "fear", "angry"):
        sink((testing.reading(label, NOW + 1e6),))
        sink.commit()
    sink.close()
    assert "was corrupt" in caplog.text
    assert [reading.label for reading in read_back(path)][-1] == "angry"
    assert len(list(tmp_path.glob("log.db.corrupt-*"))) == 1


def events(path):
    connection = log_reader.open_to_read(path)
    entries = list(log_reader.events(connection, Filter()))
    connection.close()
    return entries


@pytest.mark.parametrize("step", [86400.0 * 90, 3600.0, -3600.0])
def test_a_clock_that_is_set_takes_this_runs_entries_along(tmp_path, step):
    path, clocks = write_log(tmp_path / "log.db", stream("fear")), Clocks()
    sink = LogWriter(path, Settings(max_days=3650), clocks.wall, clocks.monotonic)
    sink.event("start", "")
    for label in ("sad", "sad", "happy"):
        sink((testing.reading(label, clocks.wall()),))
        clocks.run(61)
    clocks.offset += step
    sink((testing.reading("angry", clocks.wall()),))
    sink.close()
    end = clocks.wall()
    assert [reading.time for reading in read_back(path)] == [
        NOW,
        end - 183,
        end - 122,
        end - 61,
        end,
    ]
    assert [event.kind for event in events(path)] == ["start", "clock"]
    assert events(path)[0].time == end - 183
    connection = log_reader.open_to_read(path)
    hours = log_reader.read_minutes(connection, 0.0)
    assert {span.time for span in hours} == {
        int(time // 60) * 60 for time in (NOW, *(end - 61 * i for i in range(4)))
    }


@pytest.mark.parametrize(("minutes", "step"), [(30, -600.0), (300, -3600.0), (30, 90.0)])
def test_a_clock_that_is_set_by_less_than_the_run_has_lasted_moves_all_of_it(
    tmp_path, minutes, step
):
    clocks = Clocks()
    sink = LogWriter(tmp_path / "log.db", Settings(max_days=3650), clocks.wall, clocks.monotonic)
    start = clocks.wall()
    for _ in range(minutes * 6):
        sink((testing.reading("sad", clocks.wall()),))
        clocks.run(10)
    clocks.offset += step
    for _ in range(60):
        sink((testing.reading("happy", clocks.wall()),))
        clocks.run(10)
    sink.close()
    times = [reading.time for reading in read_back(sink.path)]
    assert sink.dropped == 0
    assert np.diff(times) == pytest.approx(10.0)
    assert times[0] == start + step
    connection = log_reader.open_to_read(sink.path)
    minutes_read = log_reader.read_minutes(connection, 0.0)
    assert sum(span.face_seconds for span in minutes_read) == pytest.approx(
        10 * (minutes * 6 + 60), rel=0.01
    )
    assert (
        minutes_read[0].time == (start + step) // 60 * 60
        or abs(minutes_read[0].time - start - step) < 90
    )
    assert [event.kind for event in events(sink.path)] == ["clock"]


def test_a_log_that_is_removed_is_begun_anew(tmp_path):
    clocks = Clocks()
    sink = LogWriter(tmp_path / "log.db", Settings(), clocks.wall, clocks.monotonic)
    sink.path.unlink()
    clocks.run(100)
    sink.commit()
    sink((testing.reading("sad", clocks.wall()),))
    sink.close()
    assert len(read_back(sink.path)) == 1


def test_minutes_are_bounded_by_bytes_as_well_and_free_pages_given_back_bit_by_bit(tmp_path):
    clocks = Clocks()
    sink = LogWriter(
        tmp_path / "log.db",
        Settings(max_megabytes=1, max_summary_days=36500),
        clocks.wall,
        clocks.monotonic,
    )
    rows = [(1, 60 * i, label, 1.0, 1) for i in range(30000) for label in ("", "happy", "sad")]
    with sink._connection:
        sink._connection.executemany(database.INSERT_MINUTE, rows)
    assert retention.used_bytes(sink._connection) > 1e6
    for _ in range(1000):
        before = minute_rows(sink)
        clocks.run(10)
        sink.commit()
        assert before - minute_rows(sink) <= retention.MAX_STEP_ROWS
        if minute_rows(sink) == before and sink.size() <= 1.1e6:
            break
    assert retention.used_bytes(sink._connection) <= 1e6
    assert sink.size() <= 1.1e6
    sink.close()
    assert log_reader.read_minutes(log_reader.open_to_read(sink.path), 0.0)[-1].time == 60 * 29999


def minute_rows(sink):
    return sink._connection.execute("SELECT COUNT(*) FROM minutes").fetchone()[0]


def test_a_clock_that_is_adjusted_a_little_moves_nothing(tmp_path):
    clocks = Clocks()
    sink = LogWriter(tmp_path / "log.db", Settings(max_days=3650), clocks.wall, clocks.monotonic)
    for _ in range(10):
        sink((testing.reading("sad", clocks.wall()),))
        clocks.run(10)
        clocks.offset += 30
    sink.close()
    assert events(sink.path) == []
    assert read_back(sink.path)[0].time == NOW


def test_a_clock_that_leaps_ahead_removes_nothing_before_it_ran_an_hour(tmp_path):
    path, clocks = tmp_path / "log.db", Clocks()
    sink = clocks.writer(path)
    for reading in stream("fear", "fear"):
        sink((reading,))
    sink.close()
    clocks.reboot()
    sink = clocks.writer(path, max_days=30)
    clocks.offset += 86400 * 365
    for _ in range(30):
        clocks.run(100)
        sink.commit()
    assert len(read_back(path)) == 2
    for _ in range(12):
        clocks.run(100)
        sink.commit()
    assert len(read_back(path)) == 1, "the newest stays, so that no id comes twice"
    sink.close()


def test_a_log_of_the_first_layout_is_put_aside_and_one_of_a_newer_mien_refused(tmp_path, caplog):
    old = sqlite3.connect(tmp_path / "old.db")
    old.executescript(
        "CREATE TABLE readings (id INTEGER PRIMARY KEY, scores TEXT); INSERT INTO readings VALUES (1, '')"
    )
    old.close()
    assert len(read_back(write_log(tmp_path / "old.db", stream("happy")))) == 1
    assert "layout of mien 0.1" in caplog.text
    newer = write_log(tmp_path / "new.db", [])
    sqlite3.connect(newer).execute("PRAGMA user_version = 99")
    with pytest.raises(SinkError, match="newer mien"):
        LogWriter(newer, Settings())
    with pytest.raises(SinkError, match="version 99"):
        log_reader.open_to_read(newer)


EARLIER_LOG = """
PRAGMA page_size=1024;
PRAGMA auto_vacuum=INCREMENTAL;
PRAGMA journal_mode=WAL;
PRAGMA user_version = 2;
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('log', '0123456789abcdef');
CREATE TABLE readings (
  id INTEGER PRIMARY KEY, time REAL NOT NULL, monotonic REAL NOT NULL, source TEXT NOT NULL, frame INTEGER NOT NULL,
  track INTEGER NOT NULL, label TEXT, quality TEXT NOT NULL, x INTEGER NOT NULL, y INTEGER NOT NULL,
  width INTEGER NOT NULL, height INTEGER NOT NULL, angry INTEGER, disgust INTEGER, fear INTEGER, happy INTEGER,
  sad INTEGER, surprise INTEGER, neutral INTEGER, model TEXT NOT NULL);
CREATE TABLE events (
  id INTEGER PRIMARY KEY, time REAL NOT NULL, monotonic REAL NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL);
CREATE TABLE minutes (
  minute INTEGER NOT NULL, label TEXT NOT NULL, run INTEGER NOT NULL, seconds REAL NOT NULL, faces INTEGER NOT NULL,
  PRIMARY KEY (minute, label, run)) WITHOUT ROWID;
INSERT INTO readings VALUES
  (1, 1800000000.0, 1000.0, 'v4l2:0', 7, 1, 'happy', 'good', 10, 20, 60, 80, 167, 167, 167, 9000, 167, 167, 167, 'm-1'),
  (2, 1800000002.0, 1002.0, 'v4l2:0', 37, 1, NULL, 'blurred', 10, 20, 60, 80, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
   'm-1');
INSERT INTO events VALUES (1, 1800000000.0, 999.0, 'start', 'v4l2:0 with m-1');
INSERT INTO minutes VALUES
  (1800000000, '', 1, 2.1, 1), (1800000000, 'happy', 1, 0.1, 1), (1800000000, 'none', 1, 2.0, 1);
"""
"""What mien 0.2 wrote: a log of version 2 after a run that was killed."""


def test_a_log_of_the_version_before_is_read_and_continued(tmp_path):
    path = tmp_path / "log.db"
    connection = sqlite3.connect(path)
    connection.executescript(EARLIER_LOG)
    schema_before = schema(connection)
    connection.close()
    assert [(reading.label, reading.quality) for reading in read_back(path)] == [
        ("happy", "good"),
        (None, "blurred"),
    ]
    assert [event.kind for event in events(path)] == ["start"]

    log = LogWriter(path, Settings(max_days=3650))
    log.log_start("m-2")
    log((testing.reading("sad", NOW + 10),))
    log.close()

    assert [reading.label for reading in read_back(path)] == ["happy", None, "sad"]
    assert read_back(path)[0].emotion.scores[3] == 0.9
    assert [event.kind for event in events(path)] == ["start", "unclean end", "model changed"]
    connection = log_reader.open_to_read(path)
    assert log_reader.name(connection) == "0123456789abcdef"
    (minute,) = log_reader.read_minutes(connection, 0.0)
    assert minute == MinuteSummary(1800000000, {"happy": 0.1, "none": 2.0, "sad": 0.1}, 1)
    assert schema(connection).items() >= schema_before.items()
    connection.close()


def test_a_new_log_has_all_that_the_version_before_reads(tmp_path):
    earlier = sqlite3.connect(":memory:")
    earlier.executescript(EARLIER_LOG)
    new = sqlite3.connect(write_log(tmp_path / "log.db", []))
    assert schema(new).items() >= schema(earlier).items()
    assert (
        new.execute("PRAGMA user_version").fetchone()
        == earlier.execute("PRAGMA user_version").fetchone()
    )
    new.close()


def schema(connection):
    """Per table its columns: number, name, type, NOT NULL, default and place in the primary key."""
    tables = [
        row[0]
        for row in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
        )
    ]
    return {
        table: [tuple(row) for row in connection.execute(f"PRAGMA table_info({table})")]
        for table in tables
    }


@pytest.fixture
def open_folder():
    """A folder that other users may enter; pytest's own are closed to them, at several levels."""
    with tempfile.TemporaryDirectory(prefix="mien-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def test_the_log_can_be_read_by_who_may_not_write_it(open_folder):
    """As another user, while the service writes and after it has stopped."""
    if os.geteuid():
        pytest.skip("only root can become another user")
    folder = open_folder / "state"
    sink = LogWriter(folder / "log.db", Settings(commit_interval=0.1, max_days=3650))
    for reading in stream("happy", "sad"):
        sink((reading,))
    sink.commit()
    for place in (folder, *folder.iterdir()):
        place.chmod(0o755 if place.is_dir() else 0o644)
    code = (
        "import sys, os\nfrom pathlib import Path\nfrom mien_edge.log import reader\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "c = reader.open_to_read(Path(sys.argv[1])); print(len(list(reader.readings(c, reader.Filter()))))"
    )
    command = [sys.executable, "-c", code, folder / "log.db"]
    for close in (lambda: None, sink.close):
        close()
        done = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
        assert done.stdout == "2\n", done.stderr


def _write_until_killed(path, safe):
    """In a process of its own: readings with times 1, 2, 3 … after those there; safe[0] counts the safe ones."""
    count = int(safe[0])
    sink = LogWriter(path, Settings(max_days=3650, commit_interval=300))
    while True:
        for _ in range(RANDOM.randrange(1, 9)):
            count += 1
            sink((testing.reading("happy", float(count)),))
        sink.commit()
        safe[0] = count


@pytest.mark.slow
def test_two_hundred_kills_cost_only_what_was_not_committed(tmp_path):
    path, safe = tmp_path / "log.db", np.frombuffer(mmap.mmap(-1, 8), np.int64)
    for number in range(200):
        child = os.fork()
        if not child:
            _write_until_killed(path, safe)
        if number % 4:  # the others may be killed while they open the log
            enough = safe[0] + RANDOM.randrange(7, 20)
            until(lambda enough=enough: safe[0] >= enough)
        time.sleep(RANDOM.uniform(0.0, 0.01))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if not path.exists():
            continue
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        has_table = connection.execute(
            "SELECT 1 FROM sqlite_master WHERE name = 'readings'"
        ).fetchone()
        times = (
            [time for (time,) in connection.execute("SELECT time FROM readings ORDER BY id")]
            if has_table
            else []
        )
        connection.close()
        assert times == [float(i + 1) for i in range(len(times))], "none missing, none twice"
        assert safe[0] <= len(times)
        safe[0] = len(times)
    assert safe[0] > 1000
    assert list(tmp_path.glob("*.corrupt-*")) == []


def test_filters_choose_by_time_label_and_track(tmp_path):
    readings = [*stream("happy", "sad", "happy"), testing.reading("sad", NOW + 9, track=2)]
    path = write_log(tmp_path / "log.db", readings)
    assert len(read_back(path, Filter(label="sad"))) == 2
    assert len(read_back(path, Filter(label="sad", track=2))) == 1
    assert len(read_back(path, Filter(since=NOW + 2, until=NOW + 5))) == 2


def test_a_run_that_was_killed_and_one_with_another_model_are_told_by_the_next(tmp_path):
    sink = LogWriter(tmp_path / "log.db", Settings())
    sink.log_start("fake-1")
    sink.event("start", "")
    sink((testing.reading("happy", time.time()),))
    sink.close()  # killed: it never said stop
    sink = LogWriter(tmp_path / "log.db", Settings())
    sink.log_start("fake-2")
    sink.event("stop", "")
    sink.log_start("fake-1")
    sink.close()
    assert [event.kind for event in events(sink.path)] == [
        "start",
        "unclean end",
        "model changed",
        "stop",
    ]


def test_events_stand_between_the_readings(tmp_path):
    sink = LogWriter(tmp_path / "log.db", Settings())
    sink((testing.reading("happy", time.time() - 5),))
    sink.event("camera lost", "no frame for 10 s")
    sink.close()
    lines = list(show.lines(tmp_path / "log.db", Filter(), "text"))
    assert "happy" in lines[0]
    assert lines[1].endswith("* camera lost: no frame for 10 s")


def test_json_and_csv_are_readable_by_programs(tmp_path):
    path = write_log(tmp_path / "log.db", stream("happy", None))
    assert [json.loads(line)["label"] for line in show.lines(path, Filter(), "json")] == [
        "happy",
        None,
    ]
    table = list(show.lines(path, Filter(), "csv"))
    assert table[0].startswith("time,source,position,frame")
    assert len(table) == 3


def test_following_yields_what_is_committed_later(tmp_path):
    path = write_log(tmp_path / "log.db", stream("happy"))
    following = show.follow(path, Filter(), "json", pause=0.01)
    sink = LogWriter(path, Settings(max_days=3650))
    connection = sqlite3.connect(path, check_same_thread=False)

    def later():
        connection.execute(
            database.INSERT_READING, database.reading_row(testing.reading("sad", NOW + 50), 0.0)
        )
        connection.commit()

    threading.Timer(0.2, later).start()
    assert json.loads(next(following))["label"] == "sad"
    since = show.follow(path, Filter(since=NOW - 1), "json", pause=0.01)
    assert [json.loads(next(since))["label"] for _ in range(2)] == ["happy", "sad"]
    sink.close()


def test_following_ends_when_nobody_can_read_there_any_more(tmp_path):
    path = write_log(tmp_path / "log.db", stream("happy"))
    for reader, writer in (os.pipe(), [end.detach() for end in socket.socketpair()]):
        os.close(reader)
        try:
            assert len(list(show.follow(path, Filter(since=1.0), "json", output=writer))) == 1
        finally:
            os.close(writer)


def test_the_summary_gives_shares_of_face_time_per_hour(tmp_path):
    path = write_log(tmp_path / "log.db", stream("happy", "happy", "sad", None, step=1800.0))
    rows = list(show.summary(path, Filter()))
    assert len(rows) == 2
    assert all(sum(row.shares.values()) == pytest.approx(1) for row in rows)
    bars = list(show.summary_lines(rows))[1:]
    assert "".join(bars).count("H") == 40 * sum(row.shares["happy"] for row in rows)


def test_a_minute_counts_the_time_of_each_face_over_all_frames(tmp_path):
    readings = [
        (
            testing.reading("happy", NOW + i / 10, track=1),
            testing.reading("sad" if i < 100 else None, NOW + i / 10, track=2),
        )
        for i in range(300)
    ]
    sink = LogWriter(tmp_path / "log.db", Settings(max_days=3650))
    for frame in readings:
        sink(frame)
    sink.close()
    connection = log_reader.open_to_read(sink.path)
    (minute,) = log_reader.read_minutes(connection, 0.0)
    assert minute.faces == 2
    assert minute.seconds == {
        "happy": pytest.approx(30, abs=0.2), "sad": pytest.approx(10, abs=0.2), "none": pytest.approx(20, abs=0.2)
    }  # fmt: skip


def test_a_person_who_is_lost_and_found_again_is_one_and_still_ones_count_in_full(tmp_path):
    sink = LogWriter(tmp_path / "log.db", Settings(max_days=3650))
    for i in range(60):
        sink(
            (testing.reading("happy", NOW + i * 1.07, track=i // 10),)
        )  # a chain that rests: a frame a second or so
    sink(())
    sink((testing.reading("happy", NOW + 75),))
    sink.close()
    connection = log_reader.open_to_read(sink.path)
    minutes_read = log_reader.read_minutes(connection, 0.0)
    assert [span.faces for span in minutes_read] == [1, 1]
    assert sum(span.face_seconds for span in minutes_read) == pytest.approx(
        59 * 1.07 + 0.2, abs=0.2
    )


def test_minutes_outlive_readings(tmp_path):
    clocks = Clocks()
    sink = LogWriter(
        tmp_path / "log.db",
        Settings(max_days=1, max_summary_days=10),
        clocks.wall,
        clocks.monotonic,
    )
    for _ in range(5):
        sink((testing.reading("sad", clocks.wall()),))
        clocks.run(86400 * 3)
        sink.commit()
    sink.close()
    assert len(read_back(sink.path)) == 1
    assert len(log_reader.read_minutes(log_reader.open_to_read(sink.path), 0.0)) == 3


def frame_of(source, position, label="happy", moment=None):
    return (
        replace(
            testing.reading(label, NOW if moment is None else moment),
            source=source,
            position=position,
        ),
    )


def log_of_clips(path):
    """A log in which two clips of a second were read within the same moment, beside a camera."""
    log = LogWriter(path, Settings(max_days=3650))
    log((testing.reading("sad", NOW),))
    for source, label in (("a.mp4", "happy"), ("b.mp4", "fear")):
        for index in range(11):
            log(frame_of(source, index / 10, label, NOW + index / 1000))
        log(())
    log.close()
    return path


def test_a_reading_of_a_video_is_logged_with_its_file_and_position(tmp_path):
    log = LogWriter(tmp_path / "log.db", Settings(max_days=3650, heartbeat_interval=0.0))
    for position in (0.0, 0.0333, 4.96):
        log(frame_of("clip.mp4", position))
    log((testing.reading("happy", NOW),))
    log.close()
    assert [(reading.source, reading.position) for reading in read_back(log.path)] == [
        ("clip.mp4", 0.0),
        ("clip.mp4", 0.0333),
        ("clip.mp4", 4.96),
        ("", None),
    ]
    lines = list(show.lines(log.path, Filter(), "text"))
    assert "  clip.mp4  0:04.96  face 1  happy" in lines[2]
    assert list(show.lines(log.path, Filter(), "csv"))[3].split(",")[1:3] == ["clip.mp4", "4.960"]
    assert json.loads(list(show.lines(log.path, Filter(), "json"))[2])["position"] == 4.96


def test_positions_are_deleted_with_their_readings(tmp_path):
    log = LogWriter(tmp_path / "log.db", Settings(max_days=3650))
    log(frame_of("clip.mp4", 1.0))
    log.close()
    with sqlite3.connect(log.path) as connection:
        connection.execute("DELETE FROM readings")
        assert connection.execute("SELECT COUNT(*) FROM positions").fetchone() == (0,)


def test_the_version_before_goes_on_writing_a_log_with_positions(tmp_path):
    path = log_of_clips(tmp_path / "log.db")
    with sqlite3.connect(path) as connection:  # as it does: every column of readings, unnamed
        row = database.reading_row(testing.reading("sad", NOW + 50), 0.0)
        connection.execute(database.INSERT_READING, row)
        connection.execute(
            "INSERT INTO minutes (run, minute, label, seconds, faces) VALUES (9, ?, 'sad', 1.0, 1)",
            (int(NOW),),
        )
    assert (read_back(path)[-1].label, read_back(path)[-1].position) == ("sad", None)
    with sqlite3.connect(path) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(readings)")]
    assert len(columns) == 20


def test_logs_of_one_source_are_told_from_those_of_another(tmp_path):
    path = log_of_clips(tmp_path / "log.db")

    def sources(form):
        return list(show.lines(path, Filter(source="b.mp4"), form))

    assert {json.loads(line)["source"] for line in sources("json")} == {"b.mp4"}
    assert {line.split(",")[1] for line in sources("csv")[1:]} == {"b.mp4"}
    assert all("  b.mp4  0:0" in line for line in sources("text"))


def test_the_summary_of_a_video_is_of_its_own_seconds(tmp_path):
    path = log_of_clips(tmp_path / "log.db")
    (hour,) = show.summary(path, Filter(source="b.mp4"))
    assert (hour.face_minutes, hour.faces) == (round(1.1 / 60, 2), 1)
    assert {label: share for label, share in hour.shares.items() if share} == {"fear": 1.0}
    (everything,) = show.summary(path, Filter())
    assert everything.face_minutes == round((0.1 + 1.1 + 1.1) / 60, 2)
    assert list(show.summary(path, Filter(source="none.mp4"))) == []


def test_a_source_that_the_log_does_not_have_is_an_error_that_names_those_it_has(tmp_path):
    path = log_of_clips(tmp_path / "log.db")
    show.require_source(path, "a.mp4")
    with pytest.raises(SettingsError, match=r"c\.mp4: .* it has those of a\.mp4, b\.mp4$"):
        show.require_source(path, "c.mp4")
    with pytest.raises(SettingsError, match="those of cameras only"):
        show.require_source(write_log(tmp_path / "camera.db", stream("happy")), "c.mp4")


def test_the_command_logs_tells_one_of_two_clips_in_every_form(tmp_path, capsys):
    path = log_of_clips(tmp_path / "log.db")

    def logs(*options):
        code = cli.main(["logs", "--log", str(path), *options])
        output = capsys.readouterr()
        return code, output.out.splitlines(), output.err

    clip = ("--source", "b.mp4")
    assert [line.split("  ")[1:3] for line in logs(*clip)[1]] == [
        ["b.mp4", "0:00.00"],
        ["b.mp4", "0:01.00"],
    ]
    assert json.loads(logs(*clip, "--json")[1][0])["source"] == "b.mp4"
    assert logs(*clip, "--csv")[1][1].split(",")[1:3] == ["b.mp4", "0.000"]
    assert json.loads(logs(*clip, "--json", "--summary")[1][0])[0]["shares"]["fear"] == 1.0
    assert "F" * 40 in logs(*clip, "--summary")[1][1]
    code, lines, problem = logs("--source", "c.mp4")
    assert (code, lines) == (1, [])
    assert "it has those of a.mp4, b.mp4" in problem
    code, lines, problem = logs(*clip, "--summary", "--until", "2020-01-01")
    assert (code, lines) == (1, [])
    assert "b.mp4: the log has no face-minutes of it in that time" in problem


def test_a_video_counts_each_frame_for_as_long_as_it_lasts_however_fast_it_is_read(tmp_path):
    log = LogWriter(tmp_path / "log.db", Settings(max_days=3650))
    for index, position in enumerate((0.0, 0.1, 0.2, 30.2)):
        log(frame_of("clip.mp4", position, "happy", NOW + index / 1000))
    log.close()
    (minute,) = log_reader.read_minutes(log_reader.open_to_read(log.path), 0.0)
    assert minute.seconds == {"happy": pytest.approx(0.1 + 0.1 + 0.1 + 30.0)}


def test_the_plot_stands_for_the_hours(tmp_path):
    path = write_log(tmp_path / "log.db", stream("happy", "happy", "sad", None, step=1800.0))
    rows = list(show.summary(path, Filter()))
    drawing.save_chart(tmp_path / "plot.png", plot.chart(rows))
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(SinkError, match="nothing to draw"):
        plot.chart([])
    with pytest.raises(SinkError, match=r"name a \.png"):
        drawing.save_chart(tmp_path / "plot.xyz", plot.chart(rows))


def test_an_hour_without_a_face_is_a_gap_in_the_chart():
    share = dict.fromkeys((*LABELS, "none"), 0.0) | {"happy": 0.75, "sad": 0.25}
    hours = [
        show.HourSummary(f"2027-01-15T{hour:02d}:00:00.000Z", 4.0, 1, share) for hour in (8, 9, 11)
    ]
    chart = plot.chart(hours)
    assert [bar.label for bar in chart.bars] == ["happy", "sad"] * 3
    lefts = [bar.left for bar in chart.bars if bar.label == "happy"]
    assert lefts[2] - lefts[1] == 2 * (lefts[1] - lefts[0])
    happy, sad = chart.bars[:2]
    assert happy.top - sad.bottom == 1, "one on the other"
    assert (happy.bottom - happy.top + 1) == 3 * (sad.bottom - sad.top + 1)
    assert [text.text for text in chart.texts][:5] == ["0", "1.25", "2.5", "3.75", "5"]


def test_only_the_last_two_weeks_are_drawn():
    share = dict.fromkeys((*LABELS, "none"), 0.0) | {"happy": 1.0}
    hours = [show.HourSummary(formats.iso(NOW + 3600 * hour), 4.0, 1, share) for hour in range(500)]
    assert len(plot.chart(hours).bars) == 14 * 24


def test_kinds_choose_readings_events_or_one_sort_of_event(tmp_path):
    sink = LogWriter(tmp_path / "log.db", Settings())
    sink((testing.reading("happy", time.time() - 5),))
    sink.event("camera lost", "no frame")
    sink.event("camera back", "frames flow")
    sink.close()

    def of_kind(kind, form="json"):
        return [json.loads(line) for line in show.lines(sink.path, Filter(), form, kind)]

    assert [entry["label"] for entry in of_kind("reading")] == ["happy"]
    assert [entry["kind"] for entry in of_kind("event")] == ["camera lost", "camera back"]
    assert [entry["text"] for entry in of_kind("camera back")] == ["frames flow"]


@pytest.mark.parametrize(
    ("text", "ago"), [("90s", 90), ("15m", 900), ("1h", 3600), ("7d", 604800), ("1.5h", 5400)]
)
def test_moments_may_be_told_as_time_ago(text, ago):
    assert show.moment(text, NOW) == NOW - ago


def test_a_moment_may_be_a_date_and_nonsense_is_refused():
    assert show.moment("2026-01-31T12:00:00+00:00", NOW) == 1769860800
    with pytest.raises(SettingsError, match="write 1h"):
        show.moment("soon", NOW)


def test_no_log_and_no_database_are_clear_errors(tmp_path):
    with pytest.raises(SinkError, match="no log here"):
        log_reader.open_to_read(tmp_path / "none.db")
    (tmp_path / "text.db").write_text("this is no database " * 100)
    with pytest.raises(SinkError, match="not a readable log"):
        log_reader.open_to_read(tmp_path / "text.db")


def test_events_of_an_earlier_version_show_no_secret_of_an_address(tmp_path):
    path = tmp_path / "log.db"
    write_log(path, [])
    with sqlite3.connect(path) as connection:
        text = "rtsp://me:ge/heim@192.0.2.7/x?pwd=geheim: cannot be opened"
        query = "INSERT INTO events (time, monotonic, kind, text) VALUES (?, 0, 'failed', ?)"
        connection.execute(query, (NOW, text))
    connection.close()
    connection = log_reader.open_to_read(path)
    texts = [event.text for event in log_reader.events(connection, Filter())]
    connection.close()
    assert texts[-1] == "rtsp://192.0.2.7/x?pwd=***: cannot be opened"
