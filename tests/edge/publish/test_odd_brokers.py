"""Brokers with limits, and servers that are no brokers: each is told by its cause, none ends the publisher."""

import json
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2]))
from brokers import Broker, Subscriber
from mien_edge import testing
from mien_edge.commands import doctor
from mien_edge.errors import PublishError
from mien_edge.log.writer import LogWriter
from mien_edge.publish import mqtt, probe
from mien_edge.publish import publisher as publisher_module
from mien_edge.publish.publisher import Publisher
from mien_edge.settings import LogSettings, PublishSettings
from odd_brokers import ACCEPTED_5, ACCEPTED_311, OddBroker, publish_packet

NOW = 1_700_000_000.0


@pytest.fixture
def odd(request):
    broker = OddBroker(*request.param)
    yield broker
    broker.stop()


@pytest.fixture
def log(tmp_path):
    log = LogWriter(tmp_path / "log.db", LogSettings(max_days=3650, commit_interval=300))
    yield log
    log.close()


@pytest.fixture
def publisher(tmp_path, log, monkeypatch):
    """Makes a publisher for a broker's port; its pauses are short."""
    monkeypatch.setattr(publisher_module, "FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(publisher_module, "MAX_RETRY_SECONDS", 0.02)
    (tmp_path / "run").mkdir()

    def create(port, **settings):
        chosen = PublishSettings(host="127.0.0.1", port=port, device="pi", **settings)
        return Publisher(chosen, log.path, tmp_path / "run", tmp_path)

    return create


def until(publisher, condition, seconds=60.0):
    """Wait while the publisher works; the limit only ends a test that would wait for ever."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, publisher.report()
        publisher.step(0.02)


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        ((b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",), "not as a broker of MQTT 5"),
        ((b"HTTP/1.1 400 Bad Request\r\n\r\n", True), "not as a broker of MQTT 5"),
        ((b"", True), "not as a broker of MQTT 5"),
        ((b"\x20\x02\x00\x01", True), "publish.protocol"),
        ((b"\x20\x03\x00\x84\x00",), "set publish.protocol to the version that it speaks"),
        ((b"\x20\x03\x00\x86\x00",), "check publish.username and the password"),
        ((b"\x20\x03\x00\x95\x00",), "raise the size of packets"),
        ((b"\x20\x03\x00\x9a\x00",), "without retained messages"),
        ((b"\x20\x03\x00\x9d\x00",), "set publish.host to the other server"),
    ],
    indirect=["odd"],
    ids=["ssh", "http", "closes", "old broker", "version", "password", "size", "retain", "moved"],
)
def test_a_server_that_does_not_let_in_is_told_by_its_cause(publisher, odd, words):
    running = publisher(odd.port)
    until(running, lambda: running.problem not in ("", "not tried yet"))
    assert words in running.problem
    assert ("password" in running.problem) == ("password" in words)


@pytest.mark.parametrize("odd", [(b"\x20\x02\x00\x01", True)], indirect=True)
def test_a_broker_that_refuses_mqtt_3_1_1_is_told_by_its_cause(publisher, odd):
    running = publisher(odd.port, protocol="3.1.1")
    until(running, lambda: running.problem not in ("", "not tried yet"))
    assert "publish.protocol" in running.problem


@pytest.mark.parametrize(
    "odd",
    [
        (ACCEPTED_5 + publish_packet(topic, b"online") + b"\x20\x00",)
        for topic in (b"\xff\xfe\xfd", b"\xed\xa0\x80")
    ],
    indirect=True,
    ids=["bytes", "surrogate"],
)
def test_a_topic_that_is_not_utf_8_ends_nothing(publisher, odd):
    running = publisher(odd.port)
    until(running, lambda: "no MQTT" in running.problem)
    until(running, lambda: odd.connections >= 3)


@pytest.mark.parametrize(
    "odd",
    [(ACCEPTED_311 + publish_packet(b"homeassistant/status", b"x" * 20_000, b""),)],
    indirect=True,
)
def test_a_large_message_is_not_received_and_no_topic_subscribed_to_any_more(publisher, odd):
    running = publisher(odd.port, protocol="3.1.1")
    until(running, lambda: running._is_flooded)
    assert f"more than {mqtt.MAX_INCOMING} bytes" in running.problem


@pytest.mark.parametrize("odd", [(ACCEPTED_5 + b"\x34\x07\x00\x01a\x00\x01\x00x",)], indirect=True)
def test_messages_with_qos_2_which_paho_would_keep_end_the_connection(publisher, odd):
    running = publisher(odd.port)
    until(running, lambda: "QoS 2" in running.problem)


@settings(max_examples=60, deadline=None)
@given(
    first=st.sampled_from([0x20, 0x30, 0x32, 0x34, 0x40, 0x50, 0x62, 0x70, 0x90, 0xB0, 0xD0, 0xE0]),
    body=st.binary(max_size=20),
    protocol=st.sampled_from(["5", "3.1.1"]),
    accepts=st.booleans(),
)
def test_whatever_a_server_sends_ends_a_connection_at_worst(first, body, protocol, accepts):
    accepted = ACCEPTED_5 if protocol == "5" else ACCEPTED_311
    packet = bytes([first, len(body)]) + body
    server = OddBroker((accepted if accepts else b"") + packet, closes=True)
    chosen = PublishSettings(host="127.0.0.1", port=server.port, protocol=protocol)
    connection = mqtt.Connection(
        chosen, "fuzz", None, lambda _: None, lambda *_: None, lambda *_: None
    )
    deadline = time.monotonic() + 60
    while not connection.problem and time.monotonic() < deadline:
        connection.loop(0.1)
    server.stop()
    assert connection.problem.isprintable()


def test_a_message_above_the_brokers_packet_size_is_set_aside_and_the_rest_published(
    tmp_path, publisher, log, caplog
):
    broker = Broker(tmp_path / "broker", "allow_anonymous true", "max_packet_size 1200").start()
    subscriber = Subscriber(broker)
    running = publisher(broker.port)
    until(running, lambda: running.connected)
    log((testing.reading("happy", NOW),))
    log.event("camera lost", "x" * 2000)
    log.event("camera lost", "y" * 2000)
    log.commit()
    until(running, lambda: running.outbox.done.reading == 1)
    subscriber.wait_for(1)
    subscriber.close()
    running.close()
    broker.stop()
    assert running.reconnects == 0
    assert running.report().set_aside == 3, "discovery and two events"
    assert running.published == 1
    assert caplog.text.count("pi/event was set aside: it has") == 1
    assert "the broker takes at most 1200" in running.report().problem


def test_a_broker_of_mqtt_3_1_1_that_hangs_up_at_a_large_message_gets_the_rest(
    tmp_path, publisher, log
):
    broker = Broker(tmp_path / "broker", "allow_anonymous true", "max_packet_size 1200").start()
    running = publisher(broker.port, protocol="3.1.1")
    until(running, lambda: running.connected)
    log((testing.reading("happy", NOW),))
    log.commit()
    until(running, lambda: running.outbox.done.reading == 1)
    running.close()
    broker.stop()
    assert running.report().set_aside == 1
    assert "homeassistant/device/pi/config was set aside" in running.report().problem


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("retain_available false", "keeps no retained messages"),
        ("max_qos 0", "takes QoS 0 only"),
    ],
)
def test_a_broker_without_a_feature_gets_all_else_and_that_is_told(
    tmp_path, publisher, log, limit, words
):
    broker = Broker(tmp_path / "broker", "allow_anonymous true", limit).start()
    running = publisher(broker.port)
    until(running, lambda: running.connected)
    log((testing.reading("happy", NOW),))
    log.commit()
    until(running, lambda: running.published == 1)
    running.close()
    broker.stop()
    assert words in running.report().problem


# --- files and doctor --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("pässword".encode("latin-1"), "line 1 is not UTF-8"),
        ("password".encode("utf-16")[:-1], "UTF-16 that is cut off"),
        (b"pass\0word", "control characters"),
        (b"x" * 70_000, "over 65535 bytes"),
    ],
    ids=["latin-1", "cut utf-16", "nul", "huge"],
)
def test_a_password_file_that_is_none_is_refused_by_name(tmp_path, content, words):
    (tmp_path / "pw").write_bytes(content)
    settings = PublishSettings(host="h", username="mien", password_file=str(tmp_path / "pw"))
    with pytest.raises(PublishError, match=words) as refused:
        mqtt.check_files(settings)
    assert str(tmp_path / "pw") in str(refused.value)
    assert "word" not in str(refused.value).replace("password", "")
    finding = doctor.broker(settings)
    assert (finding.severity, words in finding.text) == ("error", True)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_a_password_written_on_windows_is_read(tmp_path, encoding):
    (tmp_path / "pw").write_bytes("\ufeffgeheim\r\n".encode(encoding))
    settings = PublishSettings(host="h", username="mien", password_file=str(tmp_path / "pw"))
    assert mqtt._read_password(settings) == "geheim"


@pytest.mark.parametrize("content", [b"", b"no certificate", b"\x00\xff" * 100])
def test_a_ca_file_that_is_none_is_refused_by_name(tmp_path, content):
    (tmp_path / "ca.crt").write_bytes(content)
    settings = PublishSettings(host="h", tls=True, ca=str(tmp_path / "ca.crt"))
    with pytest.raises(PublishError, match=r"publish\.ca: .*ca\.crt holds no certificate"):
        mqtt.check_files(settings)
    assert "holds no certificate" in doctor.broker(settings).text


def test_doctor_says_that_another_machine_publishes_under_this_devices_name(
    tmp_path, publisher, monkeypatch
):
    broker = Broker(tmp_path / "broker").start()
    subscriber = Subscriber(broker, "mien/pi/state")
    running = publisher(broker.port)
    until(running, lambda: subscriber.messages)
    own = doctor.broker(running.settings)
    monkeypatch.setattr("mien_edge.publish.identity.machine", lambda: "ffffffff")
    other = doctor.broker(running.settings)
    running.step(0.02)
    assert running.connected, "doctor takes nobody's session"
    running.close()
    subscriber.close()
    broker.stop()
    assert own.severity == "ok"
    assert other.severity == "warning"
    assert f"machine {running.machine} publishes as pi as well" in other.text
    assert json.loads(subscriber.payloads("state")[0])["machine"] == running.machine


@pytest.mark.parametrize("odd", [(b"HTTP/1.1 400 Bad Request\r\n\r\n", True)], indirect=True)
def test_doctor_says_that_a_server_is_no_broker(odd):
    finding = doctor.broker(PublishSettings(host="127.0.0.1", port=odd.port, device="pi"))
    assert finding.severity == "error"
    assert "not as a broker" in finding.text


@pytest.mark.parametrize("odd", [(b"",)], indirect=True)
def test_a_look_at_a_server_that_answers_nothing_ends(odd):
    with pytest.raises(PublishError, match="answers nothing"):
        probe.look(PublishSettings(host="127.0.0.1", port=odd.port, device="pi"), seconds=0.0)
