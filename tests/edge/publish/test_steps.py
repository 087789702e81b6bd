"""When the publisher does what: by a clock that the test sets, with a broker that the test plays."""

import json
from itertools import pairwise

import pytest
from mien_edge import testing
from mien_edge.errors import PublishError
from mien_edge.log.writer import LogWriter
from mien_edge.publish import publisher as publisher_module
from mien_edge.publish.outbox import Cursor
from mien_edge.publish.publisher import MAX_RETRY_SECONDS, POLL_SECONDS, SAVE_SECONDS, Publisher
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
        self.max_inflight = 20
        self.max_packet = 2**28
        self.retain = True
        self.qos = 1
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
        self.now = 1000.0
        self.cursor_path = tmp_path / "cursor.json"
        self.connections = []
        self.attempts = 0
        self.is_away = False
        self.log = LogWriter(tmp_path / "log.db", LogSettings(max_days=3650, commit_interval=300))
        self.count = 0
        settings = PublishSettings(host="broker", device="pi", state_interval=10.0)
        folders = tmp_path / "log.db", tmp_path / "run", tmp_path
        self.publisher = Publisher(
            settings, *folders, clock=lambda: self.now, wall_clock=lambda: NOW
        )

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
    connection.max_inflight = 3
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
    connection.problem = "the connection was lost"
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
    assert not stage.cursor_path.exists()
    stage.step(SAVE_SECONDS)
    assert Cursor.read(stage.cursor_path).reading == 1
    stage.write(1)
    stage.step(POLL_SECONDS)
    connection.acknowledge(connection.numbers("/reading")[-1])
    stage.publisher.close()
    assert Cursor.read(stage.cursor_path).reading == 2
    assert connection.sent[-1] == ("mien/pi/status", "offline")


def test_a_full_batch_is_followed_by_the_next_without_a_pause(stage):
    connection = stage.connect()
    stage.write(130)
    stage.step(POLL_SECONDS)
    for _ in range(20):
        connection.acknowledge(*connection.numbers("/reading"))
        stage.step()
    assert stage.publisher.outbox.done.reading == 130


def test_a_log_that_is_not_there_stops_nothing(stage, tmp_path):
    connection = stage.connect()
    stage.log.close()
    (tmp_path / "log.db").unlink()
    stage.step(POLL_SECONDS)
    stage.step(10.0)
    assert len(connection.numbers("/state")) == 2
    assert stage.publisher.outbox.waiting == 0
