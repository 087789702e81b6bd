"""What the log makes of clocks that are wrong, of ends that were not clean, and of ids."""

import shutil
import sqlite3
import time

import pytest
from mien_edge import settings as configuration
from mien_edge import testing
from mien_edge.events import EventKind
from mien_edge.log import clock, database, reader
from mien_edge.log.database import append_event
from mien_edge.log.reader import Filter
from mien_edge.log.writer import LogWriter

NOW = 1_800_000_000.0
DAY = 86400.0


class Device:
    """A machine with a log, and with a clock that starts wrong and may be set."""

    def __init__(self, path, offset=NOW):
        self.path = path
        self.offset = offset
        self.since_boot = 30.0
        self.boot = 1
        self.is_synchronized = False
        self.count = 0
        self.log = None

    def wall(self):
        return self.offset + self.since_boot

    def start(self, **settings):
        self.log = LogWriter(
            self.path,
            configuration.LogSettings(**{"heartbeat_interval": 0.0, **settings}),
            self.wall,
            lambda: self.since_boot,
            lambda: self.is_synchronized,
            f"boot {self.boot}",
        )

    def run(self, seconds, step=10.0):
        """One reading a step."""
        for _ in range(round(seconds / step)):
            self.since_boot += step
            self.count += 1
            self.log((testing.reading("happy", self.wall(), track=self.count),))
            self.log.commit()

    def run_as_earlier_mien(self, seconds, step=10.0):
        """One reading a step, by a program that knows of neither boots nor reserved ids."""
        connection = sqlite3.connect(self.path)
        columns = "time, monotonic, source, frame, track, quality, x, y, width, height, model"
        query = f"INSERT INTO readings ({columns}) VALUES (?, ?, '', 0, ?, 'ok', 0, 0, 1, 1, '')"  # noqa: S608
        for _ in range(round(seconds / step)):
            self.since_boot += step
            self.count += 1
            connection.execute(query, (self.wall(), self.since_boot, self.count))
        connection.commit()
        connection.close()

    def kill(self):
        """The service ends without a word."""
        self.log._connection.close()

    def reboot(self, seconds_off=0.0, clock_stands=True):
        """The machine is off for a while; a clock without a battery goes on where it stood."""
        wall = self.wall() + (0.0 if clock_stands else seconds_off)
        self.boot += 1
        self.since_boot = 30.0
        self.offset = wall - self.since_boot
        self.is_synchronized = False

    def synchronize(self, now):
        self.offset = now - self.since_boot
        self.is_synchronized = True

    def cut_power(self):
        """What was not synced is gone: go on with the copy that `on_disk` is."""
        self.kill()
        for file in self.path.parent.glob(f"{self.path.name}*"):
            file.unlink()
        for file in self.on_disk.iterdir():
            shutil.copy(file, self.path.parent)

    def sync(self):
        """Copy what a power cut would leave."""
        self.log._sync(self.since_boot)
        self.on_disk = self.path.parent / "on disk"
        shutil.rmtree(self.on_disk, ignore_errors=True)
        self.on_disk.mkdir()
        for file in self.path.parent.glob(f"{self.path.name}*"):
            shutil.copy(file, self.on_disk)


@pytest.fixture
def device(tmp_path):
    return Device(tmp_path / "log.db")


def rows(path):
    """(id, track, time) of every reading."""
    connection = reader.open_to_read(path)
    entries = [(n, entry.track, entry.time) for n, entry in reader.readings(connection, Filter())]
    connection.close()
    return entries


def event_times(path):
    connection = reader.open_to_read(path)
    times = [event.time for event in reader.events(connection, Filter())]
    connection.close()
    return times


def reserved(path):
    """The mark above the ids of readings in use."""
    connection = reader.open_to_read(path)
    query = "SELECT value FROM meta WHERE key = 'reserved readings'"
    mark = int(connection.execute(query).fetchone()[0])
    connection.close()
    return mark


class Broken:
    """A database on a disk that fails to write."""

    def __init__(self, connection):
        self.connection = connection

    def __enter__(self):
        raise sqlite3.OperationalError("disk I/O error")

    def __exit__(self, *_):
        pass

    def __getattr__(self, name):
        return getattr(self.connection, name)


def event_kinds(path):
    connection = reader.open_to_read(path)
    kinds = [event.kind for event in reader.events(connection, Filter())]
    connection.close()
    return kinds


@pytest.mark.parametrize("wrong", [0.0, NOW - 40 * DAY, NOW + 3650 * DAY])
def test_a_restart_before_the_first_synchronisation_costs_no_reading(device, wrong):
    device.offset = wrong
    device.start()
    device.run(300)
    device.kill()
    device.start()
    device.run(60)
    device.synchronize(NOW)
    device.run(3 * 3600)
    device.log.close()
    times = [time for _, _, time in rows(device.path)]
    assert len(times) == 30 + 6 + 1080
    assert times == pytest.approx([times[-1] - 10 * i for i in reversed(range(len(times)))])
    assert event_kinds(device.path) == ["clock"]


def test_a_clock_that_is_set_while_the_service_rests_moves_what_came_before(device):
    device.offset = 0.0
    device.start()
    device.run(60)
    device.log.close()
    device.synchronize(NOW)
    device.since_boot += 500
    device.start()
    device.run(10)
    device.log.close()
    assert all(NOW - 600 < time <= device.wall() for _, _, time in rows(device.path))
    device.start()
    device.log.close()
    assert event_kinds(device.path) == ["clock"], "moved once"


def test_a_boot_that_never_learnt_the_time_is_as_old_as_the_next_that_did(device):
    device.offset = 0.0  # 1970
    device.start(max_days=30)
    device.run(100)
    device.log.close()
    device.reboot()
    device.synchronize(NOW)
    device.start(max_days=30)
    device.run(2 * 3600, step=100)
    assert len(rows(device.path)) == 10 + 72, "written an hour ago, whatever their clock showed"
    device.run(31 * DAY, step=DAY / 4)
    assert next(track for _, track, _ in rows(device.path)) > 82
    device.log.close()


def test_a_clock_ten_years_ahead_deletes_nothing_and_its_readings_do_not_live_for_ever(device):
    device.synchronize(NOW)
    device.start(max_days=30)
    device.run(20 * DAY, step=DAY / 10)
    device.log.close()
    device.reboot(60)
    device.offset += 3650 * DAY
    device.start(max_days=30)
    device.run(2 * 3600, step=60)
    assert len(rows(device.path)) == 200 + 120
    device.log.close()
    device.reboot()
    device.synchronize(NOW + 20 * DAY + 4 * 3600)
    device.start(max_days=30)
    device.run(7200, step=100)
    assert len(rows(device.path)) == 200 + 120 + 72
    device.run(31 * DAY, step=DAY / 4)
    assert max(time for _, _, time in rows(device.path)) <= device.wall()
    device.log.close()


def test_a_device_that_never_sees_a_time_server_deletes_by_the_time_it_has_run(device):
    device.start(max_days=2)
    device.run(DAY, step=3600)
    device.log.close()
    for _ in range(3):
        device.reboot(seconds_off=5 * DAY)
        device.start(max_days=2)
        device.run(DAY, step=3600)
        device.log.close()
    tracks = [track for _, track, _ in rows(device.path)]
    assert tracks[0] in (48, 49, 50), "what came before two days of running is gone"
    assert tracks[-1] == 96


def test_entries_of_an_earlier_mien_are_as_old_as_their_clock_says(device):
    """It knows of no boots: what it writes seems to belong to the last one that the log knows."""
    device.start()
    device.since_boot += 29 * DAY
    device.run(100)
    device.log.close()
    device.reboot(clock_stands=False)
    device.run_as_earlier_mien(100)
    device.reboot(clock_stands=False)
    device.start()
    device.since_boot += 2 * DAY
    device.run(100)
    device.log.close()
    assert [track for _, track, _ in rows(device.path)] == list(range(1, 31))


def test_minutes_are_held_by_the_same_ages(device):
    device.offset = 0.0
    device.start(max_summary_days=10)
    device.run(600)
    device.log.close()
    device.reboot()
    device.synchronize(NOW)
    device.start(max_summary_days=10)
    device.run(7200, step=100)
    connection = reader.open_to_read(device.path)
    assert min(minute.time for minute in reader.iterate_minutes(connection, 0.0)) < DAY
    device.run(11 * DAY, step=DAY / 4)
    assert min(minute.time for minute in reader.iterate_minutes(connection, 0.0)) > NOW
    connection.close()
    device.log.close()


def test_no_id_names_two_entries_after_a_power_cut(device):
    device.start()
    device.run(500)
    device.sync()
    device.run(300)
    device.log.event(EventKind.CAMERA_LOST, "before the cut")
    published = {number: track for number, track, _ in rows(device.path)}
    assert len(published) == 80
    device.cut_power()
    device.reboot()
    device.start()
    device.log.event(EventKind.START, "after the cut")
    device.run(400)
    device.log.close()
    after = {number: track for number, track, _ in rows(device.path)}
    assert len(after) == 50 + 40
    assert [n for n in after if n in published and after[n] != published[n]] == []
    assert min(n for n, track in after.items() if track > 80) > max(published), "a cursor sees them"
    connection = reader.open_to_read(device.path)
    (event,) = reader.events(connection, Filter())
    assert event.id > 1
    connection.close()


def test_a_clean_end_wastes_no_id(device):
    for _ in range(3):
        device.start()
        device.run(50)
        device.log.close()
    assert [number for number, _, _ in rows(device.path)] == list(range(1, 16))


def test_an_event_of_another_process_keeps_to_the_reserved_ids(device):
    device.start()
    device.log.event(EventKind.START, "")
    device.kill()
    device.start()
    append_event(device.path, EventKind.MODEL_INSTALLED, "while it runs")
    device.log.event(EventKind.STOP, "")
    device.log.close()
    append_event(device.path, EventKind.MODEL_INSTALLED, "while it rests")
    connection = reader.open_to_read(device.path)
    ids = [event.id for event in reader.events(connection, Filter())]
    connection.close()
    assert len(set(ids)) == 4
    assert ids[1] > 1000
    assert ids[1:] == list(range(ids[1], ids[1] + 3))


def test_what_waits_behind_an_id_is_counted_and_not_computed(device):
    device.start()
    device.run(100)
    device.kill()
    device.start()
    device.run(100)
    device.log.close()
    connection = reader.open_to_read(device.path)
    assert reader.count_after(connection, "readings", 5) == 15
    assert reader.count_after(connection, "readings", 1_000_000) == 0
    connection.close()


def test_reserved_ids_are_renewed_before_they_end(device):
    device.start()
    set_mark = "UPDATE meta SET value = '1010' WHERE key = 'reserved readings'"
    with device.log._connection as connection:
        connection.execute(set_mark)
    device.run(200)
    assert reserved(device.path) > 100_000
    device.log.close()


def test_ids_are_reserved_as_well_while_another_process_releases_its_own(device):
    other = Device(device.path)
    device.start()
    device.run(100)
    other.start()
    other.run(100)
    other.log.close()
    device.run(100)
    assert reserved(device.path) > rows(device.path)[-1][0] + 1000
    device.log.close()


@pytest.mark.parametrize("is_first", [True, False])
def test_two_writers_move_the_entries_once_when_the_clock_is_set(device, is_first):
    other = Device(device.path)
    other.count = 1000
    for writer in (device, other):
        writer.start()
        writer.run(100)
    for writer in (device, other) if is_first else (other, device):
        writer.synchronize(NOW + 5000.0)
        writer.run(100)
        writer.log.close()
    assert {round(time - NOW) // 1000 for _, _, time in rows(device.path)} <= {4, 5}


def test_an_event_of_another_process_that_saw_the_new_clock_first_keeps_its_time(
    device, monkeypatch
):
    device.start()
    device.run(100)
    device.log.event(EventKind.START, "before")
    device.synchronize(NOW + 5000.0)
    monkeypatch.setattr(database, "since_boot", lambda: device.since_boot)
    monkeypatch.setattr(database.time, "time", device.wall)
    append_event(device.path, EventKind.MODEL_INSTALLED, "after")
    monkeypatch.undo()
    device.run(10)
    device.log.close()
    assert {round(time - NOW) for time in event_times(device.path)} == {5000, 5010}
    assert min(time for _, _, time in rows(device.path)) > NOW + 4000


def test_an_event_that_waits_for_a_disk_moves_along_with_the_clock(device):
    device.start()
    device.run(100)
    healthy = device.log._connection
    device.log._connection = Broken(healthy)
    device.log.event(EventKind.CAMERA_LOST, "")
    device.synchronize(NOW + 5000.0)
    device.log.event(EventKind.CAMERA_BACK, "")
    device.log._connection = healthy
    device.log.close()
    assert {round(time - NOW) for time in event_times(device.path)} == {5000}


def test_a_clock_that_is_back_before_it_could_be_noted_moves_nothing(device):
    device.start()
    device.run(100)
    before = rows(device.path)
    healthy = device.log._connection
    device.log._connection = Broken(healthy)
    offset = device.offset
    for wrong in (offset + 5000.1, offset):
        device.offset = wrong
        device.log.commit()
    device.log._connection = healthy
    device.log.close()
    assert rows(device.path) == before
    assert EventKind.CLOCK not in event_kinds(device.path)


def test_the_file_of_timesyncd_is_asked_where_the_kernel_may_not_be(tmp_path, monkeypatch):
    mark = tmp_path / "synchronized"
    monkeypatch.setattr(clock, "TIMESYNCD_MARK", mark)
    monkeypatch.setattr(clock, "_kernel_state", lambda: None)
    assert not clock.is_synchronized()
    mark.touch()
    assert clock.is_synchronized()
    monkeypatch.setattr(clock, "_kernel_state", lambda: 5)  # TIME_ERROR: the clock was set by hand
    assert not clock.is_synchronized()
    monkeypatch.setattr(clock, "_kernel_state", lambda: 0)
    mark.unlink()
    assert clock.is_synchronized()


def test_the_kernel_names_its_boot_and_counts_its_seconds():
    assert len(clock.boot_id()) == len("123e4567-e89b-12d3-a456-426614174000")
    assert 0 < clock.since_boot() < time.time()
    assert clock._kernel_state() in (None, 0, 1, 2, 3, 4, 5)
