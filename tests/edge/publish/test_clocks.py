"""Minutes when the clock is set, and after a power cut: none is lost, none told twice under one name."""

import json
import shutil
import sqlite3

import pytest
from mien_edge import testing
from mien_edge.log import reader
from mien_edge.log.database import INSERT_MINUTE
from mien_edge.log.minutes import ALL
from mien_edge.log.writer import LogWriter
from mien_edge.publish.outbox import Cursor, MinuteSums, Outbox, SingleReadings
from mien_edge.settings import LogSettings

NOW = 1_699_999_980  # the start of a minute
MINUTE = 60


class Device:
    """A log whose minutes the test writes, and clocks that it sets. `published` are the starts that were told."""

    def __init__(self, folder):
        self.path = folder / "log.db"
        self.log = LogWriter(self.path, LogSettings(max_days=3650))
        self.cursor_path = folder / "cursor.json"
        self.wall = NOW
        self.since_boot = 100.0
        self.boot = "first"
        self.is_synchronized = False
        self.published = []
        connection = reader.open_to_read(self.path)
        self.cursor = Cursor(reader.name(connection))
        connection.close()
        self.start()

    def start(self):
        """Start the publisher, again from its cursor."""
        self.outbox = Outbox(
            self.path,
            MinuteSums(1),
            self.cursor,
            lambda: self.wall,
            lambda: self.since_boot,
            self.boot,
            lambda: self.is_synchronized,
        )

    def restart(self):
        """End the publisher and start it: what its cursor's file holds is all that it knows."""
        self.outbox.done.save(self.cursor_path)
        self.cursor = Cursor.read(self.cursor_path)
        self.start()

    def reboot(self, wall):
        """The machine starts again, with a clock that shows this."""
        self.outbox.done.save(self.cursor_path)
        self.cursor = Cursor.read(self.cursor_path)
        self.boot = f"{self.boot}+"
        self.wall = wall
        self.since_boot = 10.0
        self.start()

    def write(self, *starts, seconds=1.0):
        connection = self.log._connection
        for start in starts:
            for label in ("happy", ALL):
                connection.execute(INSERT_MINUTE, (1, start, label, seconds, 1))
        connection.commit()

    def set_clock(self, step):
        """The clock is set, and the log moves its minutes as it does by whole minutes."""
        self.wall += step
        connection = self.log._connection
        rows = connection.execute(
            "SELECT run, minute, label, seconds, faces FROM minutes"
        ).fetchall()
        connection.execute("DELETE FROM minutes")
        for run, minute, label, seconds, faces in rows:
            moved = (run, minute + step, label, seconds, faces)
            connection.execute(INSERT_MINUTE, moved)
        connection.commit()

    def wait(self, seconds):
        self.wall += seconds
        self.since_boot += seconds

    def publish(self):
        """Take all that there is, and let the broker have it."""
        for _ in range(3):
            for message in self.outbox.take():
                self.published.append(message.number)
                self.outbox.acknowledge(message)


@pytest.fixture
def device(tmp_path):
    device = Device(tmp_path)
    yield device
    device.log.close()


STEPS = [10 * 365 * 86400, -10 * 365 * 86400, 3600, -3600, 120, -120]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("restart", [False, True])
def test_a_clock_that_is_set_neither_loses_minutes_nor_tells_them_twice(device, step, restart):
    device.write(NOW, NOW + MINUTE, NOW + 2 * MINUTE)
    device.wait(3 * MINUTE)
    device.publish()
    assert device.published == [NOW, NOW + MINUTE]
    device.set_clock(step)
    if restart:
        device.restart()
    device.publish()
    device.wait(3 * MINUTE)
    device.write(NOW + step + 3 * MINUTE)
    device.wait(MINUTE)
    device.publish()
    assert device.published[2:] == [NOW + step + 2 * MINUTE, NOW + step + 3 * MINUTE]


def test_minutes_that_waited_for_the_broker_are_told_after_the_clock_was_set_back(device):
    device.write(*(NOW + MINUTE * number for number in range(60)))
    device.wait(2 * MINUTE)
    device.publish()
    device.wait(60 * MINUTE)  # the broker is away
    device.set_clock(-10 * 365 * 86400)
    device.publish()
    assert len(device.published) == 60
    assert len(set(device.published)) == 60


def test_a_boot_with_a_clock_that_is_behind_tells_no_minute_twice(device):
    device.write(NOW, NOW + MINUTE, NOW + 2 * MINUTE)
    device.wait(10 * MINUTE)
    device.publish()
    device.reboot(NOW - 30 * MINUTE)
    device.wait(40 * MINUTE)
    device.publish()
    assert device.published == [NOW, NOW + MINUTE, NOW + 2 * MINUTE]


def test_minutes_of_a_boot_whose_clock_was_behind_are_told_when_it_is_set(device):
    device.write(NOW)
    device.wait(2 * MINUTE)
    device.publish()
    device.reboot(NOW - 30 * MINUTE)
    device.write(NOW - 29 * MINUTE)
    device.wait(3 * MINUTE)
    device.publish()
    assert device.published == [NOW]
    connection = device.log._connection
    connection.execute("UPDATE minutes SET minute = ? WHERE minute < ?", (NOW + 31 * MINUTE, NOW))
    connection.commit()
    device.wall += 60 * MINUTE
    device.is_synchronized = True
    device.publish()
    assert device.published == [NOW, NOW + 31 * MINUTE]


def test_a_cursor_from_a_boot_whose_clock_was_ahead_goes_back_when_the_clock_is_known_to_be_right(
    device,
):
    future = NOW + 10 * 365 * 86400
    device.wall = future
    device.write(future)
    device.wait(3 * MINUTE)
    device.publish()
    device.reboot(NOW)
    device.publish()
    device.is_synchronized = True
    device.publish()
    device.write(NOW)
    device.wait(3 * MINUTE)
    device.publish()
    assert device.published == [future, NOW]


def test_a_minute_that_a_power_cut_lets_the_log_write_anew_is_not_told_again(device):
    device.write(NOW, seconds=30.0)
    device.wait(2 * MINUTE)
    device.publish()
    device.log._connection.execute("DELETE FROM minutes")
    device.write(NOW, seconds=7.0)
    device.reboot(NOW + 3 * MINUTE)
    device.publish()
    assert device.published == [NOW]


def test_what_was_held_back_stays_so_with_a_clock_that_is_behind(device):
    device.write(NOW)
    device.wait(5 * MINUTE)
    single = Outbox(device.path, SingleReadings(), device.outbox.done, lambda: device.wall)
    single.take()
    single.take()
    behind = Outbox(device.path, SingleReadings(), single.done, lambda: NOW - 86400, boot="")
    behind.take()
    assert behind.done.minute >= NOW


def test_a_cursor_of_an_earlier_version_is_read(tmp_path):
    (tmp_path / "cursor.json").write_text(
        json.dumps({"log": "a", "reading": 1, "event": 2, "minute": 3})
    )
    assert Cursor.read(tmp_path / "cursor.json") == Cursor("a", 1, 2, 3)


def publish(outbox, told):
    """Take and acknowledge what there is; `told` are the tracks by id."""
    for _ in range(5):
        for message in outbox.take():
            content = json.loads(message.text)
            if message.kind == "reading":
                told.setdefault(content["id"], set()).add(content["track"])
            outbox.acknowledge(message)


def write(log, first, last):
    for track in range(first, last + 1):
        log((testing.reading("happy", NOW + track, track=track),))
    log.commit()


@pytest.mark.parametrize("times", [1, 2])
def test_a_log_from_a_backup_is_told_on_under_another_name(tmp_path, times):
    path = tmp_path / "log.db"
    log = LogWriter(path, LogSettings(max_days=3650))
    write(log, 1, 50)
    log.close()
    shutil.copy(path, tmp_path / "backup")
    connection = reader.open_to_read(path)
    cursor = Cursor(reader.name(connection))
    connection.close()
    told = {}
    for _ in range(times):
        log = LogWriter(path, LogSettings(max_days=3650))
        write(log, 51, 500)
        outbox = Outbox(path, SingleReadings(), cursor)
        publish(outbox, told)
        log.close()
        outbox.done.save(tmp_path / "cursor.json")
        cursor = Cursor.read(tmp_path / "cursor.json")
        shutil.copy(tmp_path / "backup", path)
    log = LogWriter(path, LogSettings(max_days=3650))
    write(log, 1001, 1010)
    outbox = Outbox(path, SingleReadings(), cursor)
    publish(outbox, told)
    log.close()
    assert all(len(tracks) == 1 for tracks in told.values()), "no id names two readings"
    assert set.union(*told.values()) == {*range(1, 501), *range(1001, 1011)}
    assert outbox.waiting == 0


def test_a_log_that_a_power_cut_has_set_back_is_not_taken_for_a_backup(tmp_path):
    """The publisher looks at it before the service has opened it."""
    log = LogWriter(tmp_path / "log.db", LogSettings(max_days=3650))
    write(log, 1, 50)
    connection = reader.open_to_read(log.path)
    cursor = Cursor(reader.name(connection), reading=80)
    connection.close()
    outbox = Outbox(log.path, SingleReadings(), cursor, boot="after the cut")
    assert [message for message in outbox.take() if message.kind == "reading"] == []
    assert (outbox.done.log, outbox.done.reading) == (cursor.log, 80)
    log.close()


@pytest.mark.parametrize("loss", ["deleted", "cut"])
def test_a_log_whose_newest_readings_are_gone_uses_no_id_again(tmp_path, loss):
    """Retention may leave no row, and a run without readings may follow a power cut."""
    path = tmp_path / "log.db"
    log = LogWriter(path, LogSettings(max_days=3650))
    write(log, 1, 50)
    if loss == "cut":
        log._connection.close()
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM readings WHERE id > 20")
    connection.close()
    log.close() if loss == "deleted" else LogWriter(path, LogSettings()).close()
    log = LogWriter(path, LogSettings(max_days=3650))
    write(log, 51, 51)
    connection = reader.open_to_read(path)
    assert reader.newest(connection, "readings") > 50
    connection.close()
    log.close()


@pytest.mark.parametrize("table", ["readings", "events"])
def test_waiting_is_never_negative(device, table):
    cursor = Cursor(device.cursor.log, reading=10**6, event=10**6)
    outbox = Outbox(device.path, SingleReadings(), cursor)
    outbox.look()
    assert outbox.waiting == 0


@pytest.mark.parametrize("is_saved", [True, False], ids=["cursor saved", "cursor not saved"])
def test_readings_after_a_power_cut_are_all_told_and_no_id_names_two(tmp_path, is_saved):
    """The log falls back to its last sync, the cursor does not, or does as well."""
    settings = LogSettings(max_days=3650, sync_interval=3600)
    folder = tmp_path / "disk"
    log = LogWriter(folder / "log.db", settings)
    connection = reader.open_to_read(log.path)
    begin = Cursor(reader.name(connection))
    connection.close()
    write(log, 1, 50)
    log._sync(log._monotonic_clock())
    shutil.copytree(folder, tmp_path / "synced")
    write(log, 51, 80)
    told = {}
    outbox = Outbox(log.path, SingleReadings(), begin)
    publish(outbox, told)
    assert len(told) == 80
    log._connection.close()
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "synced", folder)
    log = LogWriter(log.path, settings)
    write(log, 81, 120)
    after = Outbox(log.path, SingleReadings(), outbox.done if is_saved else begin)
    after.look()
    assert after.waiting >= 40
    publish(after, told)
    log.close()
    assert all(len(tracks) == 1 for tracks in told.values())
    assert set.union(*told.values()) == set(range(1, 121))
    assert after.waiting == 0
