"""When the publisher does what: by a clock that the test sets, with a broker that the test plays."""

import json
import sqlite3
from itertools import pairwise

import pytest
from mien_edge import testing
from mien_edge.errors import PublishError
from mien_edge.log.writer import LogWriter
from mien_edge.publish import publisher as publisher_module
from mien_edge.publish.inflight import CAREFUL_AFTER, CULPRIT_AFTER
from mien_edge.publish.mqtt import RETAIN_UNSUPPORTED, TAKEN_OVER, BrokerLimits
from mien_edge.publish.outbox import Cursor
from mien_edge.publish.publisher import (
    ACK_SECONDS,
    INTRODUCTION_SECONDS,
    MAX_RETRY_SECONDS,
    POLL_SECONDS,
    SAVE_SECONDS,
    STEADY_SECONDS,
    Publisher,
)
from mien_edge.publish.retirement import LOOK_SECONDS
from mien_edge.settings import LogSettings, PublishSettings

NOW = 1_700_000_000.0


class FakeConnection:
    """What Publisher needs of a connection; `sent` are (topic, text), the first message has number 1."""

    def __init__(self, *arguments):
        self.on_connect, self.on_sent, self.on_message = arguments[-3:]
        self.address = "broker:1883"
        self.ready = False
        self.problem = ""
        self.reason = 0
        self.is_cut = False
        self.is_flooded = False
        self.limits = BrokerLimits()
        self.will = arguments[2]
        self.holds_back = ()
        self.sent = []
        self.answered = 0
        self.subscriptions = []

    def publish(self, topic, text, retain=False):
        self.sent.append((topic, text))
        return len(self.sent)

    def subscribe(self, topic):
        self.subscriptions.append(topic)

    def packet_bytes(self, topic, text):
        return len(topic) + len(text)

    def loop(self, seconds):
        """Acknowledge what is retained, but for topics that end as `holds_back`."""
        for number in range(self.answered + 1, len(self.sent) + 1):
            topic = self.sent[number - 1][0]
            if not topic.endswith(("/reading", "/event", "/minute", *self.holds_back)):
                self.on_sent(number, "")
        self.answered = len(self.sent)

    def abort(self, problem="aborted"):
        self.ready = False
        self.problem = self.problem or problem

    def lose(self):
        """The broker closes the connection without a word."""
        self.is_cut = True
        self.problem = "the connection was lost"

    def close(self):
        self.problem = "closed"

    def accept(self):
        self.ready = True
        self.on_connect(self)

    def acknowledge(self, *numbers):
        for number in numbers:
            self.on_sent(number, "")

    def numbers(self, topic):
        """Numbers of the messages whose topic ends so."""
        return [
            number
            for number, message in enumerate(self.sent, start=1)
            if message[0].endswith(topic)
        ]


class Stage:
    """A log, a publisher and its clock. `connections` are all that it opened; while `is_away`, none opens."""

    def __init__(self, tmp_path):
        (tmp_path / "run").mkdir()
        self.folder = tmp_path
        self.now = 1000.0
        self.cursor_path = tmp_path / "cursor.json"
        self.connections = []
        self.attempts = 0
        self.is_away = False
        self.log = LogWriter(tmp_path / "log.db", LogSettings(max_days=3650, commit_interval=300))
        self.count = 0
        self.start()

    def start(self, **settings):
        """Start the publisher, again with these settings."""
        chosen = PublishSettings(**{"host": "broker", "device": "pi"} | settings)
        folders = self.folder / "log.db", self.folder / "run", self.folder
        self.publisher = Publisher(chosen, *folders, clock=lambda: self.now, wall_clock=lambda: NOW)
        self.publisher.machine = "1a2b3c4d"

    def open(self, *arguments):
        """In place of Connection."""
        self.attempts += 1
        if self.is_away:
            raise PublishError("broker:1883: connection refused")
        self.connections.append(FakeConnection(*arguments))
        return self.connections[-1]

    def write(self, count):
        for _ in range(count):
            self.count += 1
            self.log((testing.reading("happy", NOW + 2 * self.count, track=self.count),))
        self.log.commit()

    def step(self, seconds=0.0):
        """Let some time pass, and one step be done."""
        self.now += seconds
        self.publisher.step(0)

    def connect(self):
        self.step()
        self.connections[-1].accept()
        self.step(POLL_SECONDS)
        return self.connections[-1]


@pytest.fixture
def stage(tmp_path, monkeypatch):
    stage = Stage(tmp_path)
    monkeypatch.setattr(publisher_module, "Connection", stage.open)
    yield stage
    stage.log.close()


def test_a_broker_that_is_away_is_tried_again_after_doubled_pauses_of_at_most_a_minute(stage):
    stage.is_away = True
    times = []
    for _ in range(400):
        before = stage.attempts
        stage.step()
        if stage.attempts > before:
            times.append(stage.now)
        stage.now += 0.5
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, MAX_RETRY_SECONDS, MAX_RETRY_SECONDS]
    assert stage.publisher.problem == "broker:1883: connection refused"


def test_the_first_messages_are_status_discovery_and_state(stage):
    connection = stage.connect()
    topics = [topic for topic, _ in connection.sent]
    assert topics == ["mien/pi/status", "homeassistant/device/pi/config", "mien/pi/state"]
    assert connection.subscriptions == ["mien/pi/state", "homeassistant/status"]


def test_the_state_is_sent_each_interval_and_at_once_when_home_assistant_starts(stage):
    connection = stage.connect()
    stage.step(9.0)
    assert len(connection.numbers("/state")) == 1
    stage.step(1.0)
    assert len(connection.numbers("/state")) == 2
    stage.step(1.0)
    connection.on_message(connection, "homeassistant/status", b"offline", False)
    stage.step()
    assert len(connection.numbers("/state")) == 2
    connection.on_message(connection, "homeassistant/status", b"online", False)
    stage.step()
    assert len(connection.numbers("/state")) == 3
    assert len(connection.numbers("/config")) == 2


def test_no_more_than_the_broker_takes_is_in_flight(stage):
    connection = stage.connect()
    connection.limits = BrokerLimits(max_inflight=3)
    stage.write(5)
    stage.step(POLL_SECONDS)
    first = connection.numbers("/reading")
    assert len(first) == 3
    connection.acknowledge(*first)
    stage.step()
    stage.step()
    assert len(connection.numbers("/reading")) == 5
    assert stage.publisher.published == 3


def test_the_cursor_moves_only_past_an_unbroken_row_of_acknowledgements(stage):
    connection = stage.connect()
    stage.write(3)
    stage.step(POLL_SECONDS)
    one, two, three = connection.numbers("/reading")
    connection.acknowledge(two, three)
    stage.step()
    assert stage.publisher.outbox.done.reading == 0
    connection.acknowledge(one)
    stage.step()
    assert stage.publisher.outbox.done.reading == 3


def test_what_was_not_acknowledged_is_sent_again_after_a_lost_connection(stage):
    connection = stage.connect()
    stage.write(4)
    stage.step(POLL_SECONDS)
    connection.acknowledge(*connection.numbers("/reading")[:2])
    stage.step()
    connection.lose()
    stage.step()
    assert not stage.publisher.connected
    assert Cursor.read(stage.cursor_path).reading == 2, "saved at once"
    stage.now += 1.0
    again = stage.connect()
    ids = [
        json.loads(text)["id"].rpartition("-")[2]
        for topic, text in again.sent
        if topic.endswith("/reading")
    ]
    assert ids == ["r3", "r4"]
    assert stage.publisher.reconnects == 1


def test_the_cursor_is_saved_once_a_minute_and_at_the_end(stage):
    connection = stage.connect()
    stage.write(1)
    stage.step(POLL_SECONDS)
    connection.acknowledge(*connection.numbers("/reading"))
    stage.step()
    assert Cursor.read(stage.cursor_path).reading == 0
    stage.step(SAVE_SECONDS)
    assert Cursor.read(stage.cursor_path).reading == 1
    stage.write(1)
    stage.step(POLL_SECONDS)
    connection.acknowledge(connection.numbers("/reading")[-1])
    stage.publisher.close()
    assert Cursor.read(stage.cursor_path).reading == 2
    assert connection.sent[-1] == ("mien/pi/status", "offline")


def test_where_a_first_run_begins_is_saved_at_once_so_that_a_power_cut_loses_nothing(stage):
    stage.connect()
    stage.start()  # killed: nothing is saved at its end
    stage.write(2)
    connection = stage.connect()
    assert len(connection.numbers("/reading")) == 2


def test_a_full_batch_is_followed_by_the_next_without_a_pause(stage):
    connection = stage.connect()
    stage.write(130)
    stage.step(POLL_SECONDS)
    for _ in range(20):
        connection.acknowledge(*connection.numbers("/reading"))
        stage.step()
    assert stage.publisher.outbox.done.reading == 130


def test_while_much_is_sent_what_waits_is_counted_each_half_second(stage, monkeypatch):
    connection = stage.connect()
    stage.write(530)
    looks = []
    update = stage.publisher.outbox._update
    monkeypatch.setattr(
        stage.publisher.outbox, "_update", lambda log: (looks.append(stage.now), update(log))
    )
    for _ in range(60):
        stage.step(POLL_SECONDS / 20)
        connection.acknowledge(*connection.numbers("/reading"))
    assert stage.publisher.outbox.done.reading == 530
    assert len(looks) <= 3, "six batches are read, three times half a second passes"
    stage.step(POLL_SECONDS)
    assert stage.publisher.outbox.waiting == 0


def test_a_log_that_is_not_there_stops_nothing(stage, tmp_path):
    connection = stage.connect()
    stage.log.close()
    (tmp_path / "log.db").unlink()
    stage.step(POLL_SECONDS)
    stage.step(10.0)
    assert len(connection.numbers("/state")) == 2
    assert stage.publisher.outbox.waiting == 0


# --- an unreadable log -------------------------------------------------------------------------------------------


def damage(path):
    with path.open("r+b") as file:
        file.seek(1024)
        file.write(b"\xff" * (path.stat().st_size - 1024))


def test_a_log_that_cannot_be_read_is_told_once_and_so_is_its_recovery(stage, tmp_path, caplog):
    stage.connect()
    stage.log.close()
    path = tmp_path / "log.db"
    whole = path.read_bytes()
    damage(path)
    for _ in range(5):
        stage.step(POLL_SECONDS)
    report = stage.publisher.report()
    assert report.connected
    assert "log.db" in report.problem
    assert "nothing is published" in report.problem
    assert stage.publisher.state()["problems"][-1] == report.problem
    assert caplog.text.count("nothing is published") == 1
    path.write_bytes(whole)
    for _ in range(5):
        stage.step(POLL_SECONDS)
    assert stage.publisher.report().problem == ""
    assert caplog.text.count("can be read again") == 1


def test_an_unreadable_log_is_told_while_the_broker_is_away(stage, tmp_path):
    stage.is_away = True
    stage.log.close()
    damage(tmp_path / "log.db")
    stage.step()
    problem = stage.publisher.report().problem
    assert "connection refused" in problem
    assert "log.db" in problem


@pytest.mark.parametrize("column", ["happy", "x"])
def test_a_damaged_row_ends_nothing(stage, tmp_path, column):
    connection = stage.connect()
    stage.write(1)
    stage.log.close()
    with sqlite3.connect(tmp_path / "log.db") as database:
        database.execute(f"UPDATE readings SET {column} = X'ff00'")  # noqa: S608
    database.close()
    stage.step(POLL_SECONDS)
    assert not connection.numbers("/reading")
    assert "log.db" in stage.publisher.report().problem


# --- floods ------------------------------------------------------------------------------------------------------


def test_a_flood_of_online_is_answered_once_in_ten_seconds(stage):
    connection = stage.connect()
    stage.step(INTRODUCTION_SECONDS)
    before = len(connection.numbers("/config"))
    for _ in range(1000):
        connection.on_message(connection, "homeassistant/status", b"online", False)
        stage.step()
    assert len(connection.numbers("/config")) == before + 1
    stage.step(INTRODUCTION_SECONDS)
    assert len(connection.numbers("/config")) == before + 2


def test_a_state_waits_until_the_broker_has_acknowledged_the_one_before(stage):
    connection = stage.connect()
    connection.holds_back = ("/state",)
    for _ in range(5):
        stage.step(10.0)
    assert len(connection.numbers("/state")) == 2


def test_a_broker_that_acknowledges_nothing_is_left(stage):
    connection = stage.connect()
    connection.holds_back = ("/state",)
    stage.step(10.0)
    stage.step(ACK_SECONDS + 1)
    assert not stage.publisher.connected
    assert "acknowledges nothing" in stage.publisher.problem


# --- what a broker never takes -----------------------------------------------------------------------------------


def lose(stage):
    """The broker ends the connection when all that it answers is answered; the pause is over."""
    for _ in range(5):
        stage.step()
    stage.connections[-1].lose()
    stage.step()
    stage.now += MAX_RETRY_SECONDS


def test_a_message_before_which_every_connection_ends_is_set_aside_and_the_rest_published(
    stage, caplog
):
    stage.connect()
    stage.write(3)
    stage.step(POLL_SECONDS)
    for _ in range(CULPRIT_AFTER):
        lose(stage)
        stage.connect()
    connection = stage.connections[-1]
    stage.step(POLL_SECONDS)
    assert "r1" not in "".join(text for _, text in connection.sent)
    connection.acknowledge(*connection.numbers("/reading"))
    stage.step(POLL_SECONDS)
    connection.acknowledge(*connection.numbers("/reading"))
    stage.step()
    assert stage.publisher.outbox.done.reading == 3
    assert (stage.publisher.published, stage.publisher.set_aside) == (2, 1)
    assert "set aside" in stage.publisher.report().problem
    assert caplog.text.count("set aside") == 1


def test_in_doubt_one_message_is_sent_at_a_time(stage):
    stage.connect()
    stage.write(3)
    for _ in range(CAREFUL_AFTER):
        stage.step(POLL_SECONDS)
        lose(stage)
        stage.connect()
    for _ in range(5):
        stage.step()
    connection = stage.connections[-1]
    assert len(connection.numbers("/reading")) == 1
    connection.acknowledge(*connection.numbers("/reading"))
    stage.step()
    assert len(connection.numbers("/reading")) == 2


def test_a_network_that_breaks_sets_no_message_aside(stage):
    stage.connect()
    stage.write(3)
    stage.step(POLL_SECONDS)
    for _ in range(2 * CULPRIT_AFTER):
        stage.connections[-1].problem = "Keep alive timeout"
        stage.step()
        stage.now += MAX_RETRY_SECONDS
        stage.connect()
    assert stage.publisher.set_aside == 0
    assert stage.connections[-1].numbers("/reading")


def test_a_broker_that_takes_nothing_at_all_sets_no_message_aside(stage):
    for _ in range(3 * CULPRIT_AFTER):
        stage.step()
        stage.connections[-1].holds_back = ("",)
        stage.connections[-1].accept()
        stage.step(POLL_SECONDS)
        lose(stage)
    assert stage.publisher.set_aside == 0


def test_the_pause_grows_until_something_was_published_on_a_connection_that_stands(stage):
    pauses = []
    for _ in range(5):
        stage.connect()
        stage.connections[-1].lose()
        stage.step()
        pauses.append(stage.publisher._backoff.remaining())
        stage.now += pauses[-1]
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0]
    stage.connect()
    stage.step(STEADY_SECONDS)
    stage.connections[-1].lose()
    stage.step()
    assert stage.publisher._backoff.remaining() == 1.0


def test_a_broker_that_refuses_retained_messages_gets_a_last_will_that_is_none(stage):
    stage.step()
    first = stage.connections[-1]
    first.reason = RETAIN_UNSUPPORTED
    first.problem = "it refuses: Retain not supported"
    stage.step()
    stage.step(1.0)
    assert (first.will.retain, stage.connections[-1].will.retain) == (True, False)


def test_a_refusal_is_told_once_and_counted_each_time(stage, caplog):
    connection = stage.connect()
    stage.write(3)
    stage.step(POLL_SECONDS)
    for number in connection.numbers("/reading"):
        connection.on_sent(number, "Not authorized")
    stage.step()
    assert stage.publisher.report().refused == 3
    assert "refuses mien/pi/reading (Not authorized)" in stage.publisher.report().problem
    assert caplog.text.count("Not authorized") == 1


# --- who else has this name --------------------------------------------------------------------------------------


def test_a_take_over_is_told_as_what_it_is_with_a_growing_pause(stage, caplog):
    pauses = []
    for _ in range(4):
        stage.connect()
        stage.step(STEADY_SECONDS)
        stage.connections[-1].reason = TAKEN_OVER
        stage.connections[-1].problem = "Session taken over"
        stage.step()
        pauses.append(stage.publisher._backoff.remaining())
        stage.now += pauses[-1]
    problem = stage.publisher.report().problem
    assert "another client with the same name pi" in problem
    assert "publish.device" in problem
    assert pauses == [1.0, 2.0, 4.0, 8.0]


def test_a_connection_that_is_lost_again_and_again_may_be_a_take_over(stage, caplog):
    for _ in range(6):
        stage.connect()
        lose(stage)
    assert "another client with the same name pi" in stage.publisher.problem
    assert caplog.text.count("trying again") == 2, "told once as lost, once as what it may be"


def test_two_machines_of_one_name_are_told_and_this_ones_echo_is_not(stage):
    connection = stage.connect()
    own = json.dumps(stage.publisher.state()).encode()
    for payload in (own, b"{", b"[]", b'"x"', b'{"faces": 1}'):
        connection.on_message(connection, "mien/pi/state", payload, False)
    assert stage.publisher.report().problem == ""
    other = own.replace(b"1a2b3c4d", b"ffffffff")
    connection.on_message(connection, "mien/pi/state", other, True)
    assert stage.publisher.report().problem == "", "the card was in another machine before"
    connection.on_message(connection, "mien/pi/state", other, False)
    assert "machine ffffffff" in stage.publisher.report().problem


@pytest.mark.parametrize(
    "machine", ["\x1b]52;c;QQ==\x07", "x" * 8000, "FFFFFFFF", 7, None, [], "a\nb"]
)
def test_what_is_no_machine_is_repeated_nowhere(stage, machine):
    connection = stage.connect()
    payload = json.dumps({"machine": machine}).encode()
    connection.on_message(connection, "mien/pi/state", payload, False)
    assert stage.publisher.report().problem == ""


def test_a_flood_of_machines_is_told_once(stage, caplog):
    connection = stage.connect()
    for number in range(1000):
        payload = json.dumps({"machine": f"{number:08x}"}).encode()
        connection.on_message(connection, "mien/pi/state", payload, False)
    assert caplog.text.count("publishes as pi as well") == 1


def test_another_machines_state_proves_a_take_over_after_a_lost_connection(stage):
    stage.connect()
    lose(stage)
    connection = stage.connect()
    connection.on_message(connection, "mien/pi/state", b'{"machine": "ffffffff"}', True)
    assert "machine ffffffff" in stage.publisher.report().problem


# --- another name ------------------------------------------------------------------------------------------------


def cleared(connection):
    return {topic for topic, text in connection.sent if text == ""}


def test_a_device_with_another_name_clears_what_was_retained_under_the_old_one(stage):
    stage.connect()
    stage.publisher.close()
    for _ in range(2):  # the second start has nothing left to clear
        stage.start(device="kitchen")
        connection = stage.connect()
        assert cleared(connection) == set()
        stage.step(LOOK_SECONDS)
        stage.step()
        everything = cleared(connection)
        stage.publisher.close()
        if _ == 0:
            expected = {"mien/pi/state", "mien/pi/status", "homeassistant/device/pi/config"}
            assert everything == expected
    assert everything == set()


def test_an_old_name_that_another_machine_has_by_now_is_left_alone(stage):
    stage.connect()
    stage.publisher.close()
    stage.start(device="kitchen")
    connection = stage.connect()
    connection.on_message(connection, "mien/pi/state", b'{"machine": "ffffffff"}', True)
    stage.step(LOOK_SECONDS)
    assert cleared(connection) == set()


def test_discovery_that_was_turned_off_is_cleared_and_nothing_else(stage):
    stage.connect()
    stage.publisher.close()
    stage.start(discovery="")
    connection = stage.connect()
    stage.step(LOOK_SECONDS)
    assert cleared(connection) == {"homeassistant/device/pi/config"}


def test_a_renaming_that_was_cut_short_is_finished_by_the_next_start(stage):
    stage.connect()
    stage.publisher.close()
    for name in ("kitchen", "hall"):
        stage.start(device=name)
        connection = stage.connect()
    stage.step(LOOK_SECONDS)
    assert {"mien/pi/state", "mien/kitchen/state"} <= cleared(connection)
    assert "mien/hall/state" not in cleared(connection)


def test_an_upgrade_clears_the_discovery_under_the_earlier_id_unless_it_is_another_devices(stage):
    stage.publisher.outbox.done = Cursor("a" * 16, 1, 1, 1)
    stage.publisher._save()
    for name, is_cleared in (("廚房", True), ("客廳", False)):
        (stage.folder / "identity.json").unlink()
        stage.start(device="廚房")
        connection = stage.connect()
        discovery = json.dumps({"dev": {"name": name}}).encode()
        connection.on_message(connection, "homeassistant/device/__/config", discovery, True)
        stage.step(LOOK_SECONDS)
        assert (cleared(connection) == {"homeassistant/device/__/config"}) == is_cleared
