"""A log that is damaged, cannot be written, or is in the way of others."""

import itertools
import os
import random
import sqlite3

import pytest
from mien_edge import files, testing
from mien_edge import settings as configuration
from mien_edge.errors import SinkError
from mien_edge.events import EventKind
from mien_edge.log import checkup, database, reader, retention
from mien_edge.log.reader import Filter
from mien_edge.log.writer import LogWriter

NOW = 1_800_000_000.0
SECTOR = 512
FIRST_SECTORS = {
    "an erased flash block": b"\xff" * SECTOR,
    "another file's text": (b"Nov 26 03:14:15 raspberrypi systemd[1]: Started\n" * 11)[:SECTOR],
    "no UTF-8": bytes(range(128, 256)) * 4,
    "zeros": bytes(SECTOR),
    "a page of it": b"\xff" * 4096,
}


class Clock:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def wall(self):
        return NOW + self.now


def write(path, clock=None, **settings):
    """An open log, with a heartbeat that makes a row of every reading."""
    clock = clock or Clock()
    values = configuration.LogSettings(
        **{"heartbeat_interval": 0.0, "commit_interval": 300.0, "max_days": 3650, **settings}
    )
    return LogWriter(path, values, clock.wall, clock.monotonic, lambda: False, "boot")


def fill(log, count):
    for number in range(count):
        log((testing.reading("happy", NOW + number, track=number),))
    log.commit()


def closed_log(path, count=300):
    log = write(path)
    fill(log, count)
    log.close()
    return path


def tracks(path):
    connection = reader.open_to_read(path)
    numbers = [reading.track for _, reading in reader.readings(connection, Filter())]
    connection.close()
    return numbers


def events(path):
    connection = reader.open_to_read(path)
    entries = [(event.kind, event.text) for event in reader.events(connection, Filter())]
    connection.close()
    return entries


@pytest.mark.parametrize("content", FIRST_SECTORS.values(), ids=FIRST_SECTORS)
def test_a_log_whose_first_sector_is_lost_is_moved_aside(tmp_path, content):
    path = closed_log(tmp_path / "log.db")
    with path.open("r+b") as file:
        file.write(content)
    log = write(path)
    fill(log, 1)
    log.close()
    assert tracks(path) == [0]
    (aside,) = tmp_path.glob("log.db.corrupt-*")
    assert aside.read_bytes().startswith(content)


@pytest.mark.slow
def test_every_damage_of_the_header_leaves_a_log_that_starts(tmp_path):
    """Each of the first hundred bytes, set to another value: the service's own log."""
    good = closed_log(tmp_path / "good.db", 3).read_bytes()
    clock = Clock()
    settings = configuration.LogSettings(max_days=3650)
    for number in range(100):
        value = 0xFF if number % 2 else good[number] ^ 0x41
        path = tmp_path / "log.db"
        path.write_bytes(good[:number] + bytes([value]) + good[number + 1 :])
        log = LogWriter(path, settings, clock.wall, clock.monotonic, is_own=True)
        log((testing.reading("sad", NOW),))
        log.close()
        assert tracks(path)[-1] == 1, f"byte {number} = {value:#x}"
        for file in tmp_path.glob("log.db*"):
            file.unlink()


@pytest.mark.parametrize(
    ("whole", "damaged"),
    [
        (b"label TEXT,\n  quality", b"l\xe1bel TEXT,\n  quality"),
        (b"kind TEXT", b"kine TEXT"),
        (b"boot INTEGER PRIMARY", b"boot INTEGES PRIMARY"),
        (b"id INTEGER PRIMARY", b"id INTEGES PRIMARY"),
    ],
)
def test_a_log_whose_tables_are_damaged_is_moved_aside(tmp_path, whole, damaged):
    path = closed_log(tmp_path / "log.db", 3)
    content = path.read_bytes()
    assert whole in content
    path.write_bytes(content.replace(whole, damaged, 1))
    closed_log(path, 5)
    assert tracks(path) == [0, 1, 2, 3, 4]


def test_a_log_whose_damage_asks_for_too_much_memory_is_moved_aside(tmp_path, monkeypatch):
    """SQLite's NOMEM for a damaged length is a MemoryError in Python."""
    path = closed_log(tmp_path / "log.db", 3)
    connect = database._connect
    failures = [MemoryError()]

    def fail_once(*arguments):
        if failures:
            raise failures.pop()
        return connect(*arguments)

    monkeypatch.setattr(database, "_connect", fail_once)
    closed_log(path, 5)
    assert tracks(path) == [0, 1, 2, 3, 4]


def test_a_log_whose_boots_are_damaged_is_moved_aside(tmp_path):
    path = closed_log(tmp_path / "log.db", 3)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE boots SET clock_offset = X'00'")
    connection.close()
    closed_log(path, 5)
    assert tracks(path) == [0, 1, 2, 3, 4]


def test_a_log_behind_a_link_is_synced_and_read_with_its_write_ahead_log(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(files, "sync", synced.append)
    (tmp_path / "usb").mkdir()
    path = tmp_path / "log.db"
    target = tmp_path / "usb" / "log.db"
    target.touch()
    path.symlink_to(target)
    log = write(path)
    fill(log, 3)
    assert tracks(path) == [0, 1, 2]
    synced.clear()
    log.event(EventKind.START, "")
    assert synced == [tmp_path / "usb" / "log.db-wal"]
    log.close()


def test_a_slow_reader_of_a_log_at_rest_stays_right_when_a_writer_starts(tmp_path):
    path = closed_log(tmp_path / "log.db", 5000)
    connection = reader.open_to_read(path)
    entries = reader.readings(connection, Filter())
    first = next(entries)[1].track
    log = write(path, max_rows=1000)
    fill(log, 3000)
    log.close()
    later = [reading.track for _, reading in entries]
    connection.close()
    kept = [*range(reader._CHUNK), *range(4400, 5000)]
    assert [first, *later] == kept, "the others were deleted meanwhile"


def test_a_slow_reader_is_told_of_a_log_that_was_replaced(tmp_path):
    path = closed_log(tmp_path / "log.db", 1000)
    connection = reader.open_to_read(path)
    entries = reader.readings(connection, Filter())
    next(entries)
    closed_log(tmp_path / "new.db", 1000).replace(path)
    with pytest.raises(SinkError, match="replaced while it was read"):
        list(entries)
    connection.close()


def test_a_start_does_not_wait_for_a_bound_that_was_lowered_by_far(tmp_path, monkeypatch):
    path = closed_log(tmp_path / "log.db", 5000)
    clock = Clock()
    step = retention.Retention.step

    def slow_step(*arguments):
        clock.now += 10.0
        return step(*arguments)

    monkeypatch.setattr(retention.Retention, "step", slow_step)
    log = write(path, clock, max_rows=100)
    assert len(tracks(path)) == 5000 - 3 * retention.MAX_STEP_ROWS
    for _ in range(30):
        log.commit()
    log.close()
    assert len(tracks(path)) == 100


def test_a_start_waits_for_another_process_that_writes(tmp_path, monkeypatch):
    path = closed_log(tmp_path / "log.db", 3)
    waits = []

    def prepare(log):
        waits.append(log._connection.execute("PRAGMA busy_timeout").fetchone()[0])
        prepared(log)
        waits.append(log._connection.execute("PRAGMA busy_timeout").fetchone()[0])

    prepared = LogWriter._prepare
    monkeypatch.setattr(LogWriter, "_prepare", prepare)
    closed_log(path, 1)
    assert waits == [5000, 100]


def test_text_that_is_no_utf8_is_read_with_replacement(tmp_path):
    path = closed_log(tmp_path / "log.db", 3)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE readings SET source = CAST(X'ff41' AS TEXT)")
    connection.execute("UPDATE meta SET value = CAST(X'ff41' AS TEXT) WHERE key = 'log'")
    connection.commit()
    connection.close()
    log = write(path)
    log.log_start("fake-1")
    log.close()
    connection = reader.open_to_read(path)
    assert reader.name(connection) == "\ufffdA"
    assert {reading.source for _, reading in reader.readings(connection, Filter())} == {"\ufffdA"}
    connection.close()


@pytest.mark.parametrize("what", ["pipe", "folder", "link into nowhere", "link to itself", "text"])
def test_what_stands_in_the_services_own_place_is_moved_aside(tmp_path, what):
    path = tmp_path / "readings.db"
    makers = {
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "link into nowhere": lambda: path.symlink_to("/nonexistent/x"),
        "link to itself": lambda: path.symlink_to(path),
        "text": lambda: path.write_text("my notes " * 100),
    }
    makers[what]()
    with pytest.raises(SinkError, match="name another"):
        write(path)
    settings = configuration.LogSettings(max_days=3650)
    log = LogWriter(path, settings, is_own=True)
    log((testing.reading("sad", NOW),))
    log.close()
    assert tracks(path) == [1]
    assert len(list(tmp_path.glob("readings.db.corrupt-*"))) == 1


def test_damage_that_nobody_reads_is_noticed_while_the_log_is_written(tmp_path, caplog):
    clock = Clock()
    path = closed_log(tmp_path / "log.db", 3000)
    log = write(path, clock)
    fill(log, 1)
    with path.open("r+b") as file:  # pages of old readings, in the middle
        file.seek(path.stat().st_size // 2 // 1024 * 1024)
        file.write(os.urandom(8192))
    for _ in range(4):
        clock.now += 61
        log.commit()
    log.close()
    assert "was corrupt" in caplog.text
    assert len(list(tmp_path.glob("log.db.corrupt-*"))) == 1


def test_a_checkup_reads_a_bounded_slice_and_comes_round(tmp_path, monkeypatch):
    monkeypatch.setattr(checkup, "MAX_ROWS", 100)
    path = closed_log(tmp_path / "log.db", 250)
    looks = checkup.Checkup(path)
    positions = []
    for _ in range(4):
        looks.step()
        positions.append(looks._positions["readings"])
    assert positions == [100, 200, float("-inf"), 100]


def test_an_idle_commit_is_no_recovery_and_the_event_counts_all_that_was_lost(tmp_path, caplog):
    log = write(tmp_path / "log.db")
    log._connection.execute("PRAGMA query_only=1")
    for number in range(3):
        log((testing.reading("happy", NOW + number, track=number),))
        log.commit()
        log.commit()  # nothing is pending: that it works says nothing of the disk
    log._connection.execute("PRAGMA query_only=0")
    log((testing.reading("sad", NOW + 99, track=99),))
    log.close()
    assert caplog.text.count("cannot be written") == 1
    assert log.dropped == 3
    assert [text for kind, text in events(log.path) if kind == "log back"] == [
        "it could not be written for a while; 3 readings were lost"
    ]


def test_an_event_outlives_a_disk_that_fails(tmp_path):
    log = write(tmp_path / "log.db")
    log._connection.execute("PRAGMA query_only=1")
    log.event(EventKind.CAMERA_LOST, "no frame")
    log._connection.execute("PRAGMA query_only=0")
    log.event(EventKind.CAMERA_BACK, "frames flow")
    log.close()
    assert [kind for kind, _ in events(log.path)] == ["log back", "camera lost", "camera back"]


def test_readings_wait_while_another_process_writes(tmp_path):
    log = write(tmp_path / "log.db")
    log._connection.execute("PRAGMA busy_timeout=0")
    other = sqlite3.connect(log.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    fill(log, 5)
    other.execute("ROLLBACK")
    other.close()
    log.close()
    assert log.dropped == 0
    assert tracks(log.path) == [0, 1, 2, 3, 4]
    assert events(log.path) == []


def test_trimming_is_done_in_steps_and_waits_for_no_reader(tmp_path):
    path = closed_log(tmp_path / "log.db", 5000)
    log = write(path)
    log.settings = configuration.LogSettings(max_days=3650, max_rows=1000, max_megabytes=1)
    log._retention._settings = log.settings
    busy = sqlite3.connect(path)
    busy.execute("BEGIN")
    busy.execute("SELECT COUNT(*) FROM readings").fetchone()
    waits = []
    log._connection.execute("PRAGMA busy_timeout=0")
    log._connection.set_trace_callback(waits.append)
    counts = [len(tracks(path))]
    for _ in range(25):
        log.commit()
        counts.append(len(tracks(path)))
    busy.close()
    assert counts[-1] == 1000
    assert max(a - b for a, b in itertools.pairwise(counts)) == retention.MAX_STEP_ROWS
    assert [statement for statement in waits if "TRUNCATE" in statement] == []
    assert [statement for statement in waits if "COUNT(*)" in statement] == []
    log.close()


def test_a_million_rows_would_be_read_in_chunks_the_first_at_once(tmp_path, monkeypatch):
    path = closed_log(tmp_path / "log.db", 2000)
    connection = reader.open_to_read(path)
    fetched = []
    connection.row_factory = lambda cursor, row: fetched.append(1) or sqlite3.Row(cursor, row)
    entries = reader.readings(connection, Filter())
    next(entries)
    assert len(fetched) <= reader._CHUNK + 8
    assert len(list(entries)) == 1999
    connection.close()


def test_since_is_answered_by_the_index(tmp_path):
    path = closed_log(tmp_path / "log.db", 2000)
    connection = reader.open_to_read(path)
    steps = []
    connection.set_progress_handler(lambda: steps.append(1) and 0, 100)
    recent = Filter(since=NOW + 1990)
    assert [reading.track for _, reading in reader.readings(connection, recent)] == list(
        range(1990, 2000)
    )
    some = len(steps)
    steps.clear()
    assert len(list(reader.readings(connection, Filter(since=1.0)))) == 2000
    assert some * 20 < len(steps)
    connection.close()


def test_readers_survive_random_damage_with_one_line_at_most(tmp_path):
    """Forty damages at fixed random places: entries, or an error that names the file."""
    good = closed_log(tmp_path / "good.db", 500).read_bytes()
    dice = random.Random(7)  # noqa: S311 - places of damage, not secrets
    path = tmp_path / "log.db"
    for _ in range(40):
        content = bytearray(good)
        place = dice.randrange(len(content) - SECTOR)
        content[place : place + SECTOR] = dice.randbytes(SECTOR)
        path.write_bytes(content)
        try:
            tracks(path)
        except (SinkError, sqlite3.Error):
            continue
