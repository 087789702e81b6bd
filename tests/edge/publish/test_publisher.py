"""From the log to a real broker: at least once, in order, whatever is killed."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from subprocess import PIPE

import pytest
from helpers import clean_environment

sys.path.insert(0, str(Path(__file__).parent))
from brokers import Broker, Subscriber, free_port
from mien_edge import testing
from mien_edge.errors import PublishError, SourceError
from mien_edge.formats import reading_record
from mien_edge.labels import LABELS
from mien_edge.log import reader
from mien_edge.log.writer import LogWriter
from mien_edge.publish import homeassistant, publisher
from mien_edge.publish.outbox import BATCH_SIZE, Cursor, MinuteSums, Outbox, SingleReadings
from mien_edge.publish.publisher import Publisher
from mien_edge.service import status_writer
from mien_edge.settings import LogSettings, PublishSettings
from mien_edge.status import status_file
from mien_edge.status.status_file import ModelStatus, Status

NOW = 1_700_000_000.0


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path / "broker").start()
    yield broker
    broker.stop()


class Device:
    """The folders of a device and its log; `count` readings are in it. `settings` are of publishing."""

    def __init__(self, tmp_path, port, **settings):
        self.folder = tmp_path
        self.path = tmp_path / "log.db"
        self.settings = PublishSettings(host="127.0.0.1", port=port, device="pi", **settings)
        self.count = 0
        (tmp_path / "run").mkdir(exist_ok=True)
        self.open_log()

    def open_log(self):
        self.log = LogWriter(self.path, LogSettings(max_days=3650, commit_interval=300))

    def replace_log(self):
        """What happens when the log is damaged: another begins in its place."""
        self.log.close()
        self.path.unlink()
        self.open_log()

    def publisher(self):
        return Publisher(self.settings, self.path, self.folder / "run", self.folder)

    def from_the_beginning(self):
        """Let the publisher begin with the oldest entry, and not with the next."""
        connection = reader.open_to_read(self.path)
        Cursor(reader.name(connection)).save(self.folder / "cursor.json")
        connection.close()
        return self

    def write(self, count, commit=True):
        for _ in range(count):
            self.count += 1
            self.log((testing.reading("happy", NOW + 2 * self.count, track=self.count),))
        if commit:
            self.log.commit()


def numbers(subscriber, topic="reading"):
    """The numbers in the ids, each once, in the order of their first arrival, which must be rising."""
    ids = [json.loads(text)["id"] for text in subscriber.payloads(topic)]
    received = [int(entry.partition("-")[2][1:]) for entry in ids]
    unique = list(dict.fromkeys(received))
    assert unique == sorted(unique), "in order"
    return unique


def until(publisher, condition, seconds=60.0):
    """Wait while the publisher works, if one is given; the limit only ends a test that would wait for ever."""
    deadline = time.monotonic() + seconds
    while not condition():
        if publisher is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            assert time.monotonic() < deadline, publisher.report()
            publisher.step(0.02)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_readings_events_and_state_reach_the_broker(tmp_path, broker, protocol):
    subscriber = Subscriber(broker)
    device = Device(tmp_path, broker.port, protocol=protocol).from_the_beginning()
    device.write(3)
    device.log.event("camera lost", "no frame")
    status_writer.StatusWriter(tmp_path / "run", "demo", lambda: ModelStatus("fake-1"))(
        testing.frames([[]]).__next__(), (testing.reading("sad"), testing.reading("sad", track=2))
    )
    publisher = device.publisher()
    until(publisher, lambda: subscriber.payloads("state") and subscriber.payloads("event"))
    until(publisher, lambda: len(subscriber.payloads("reading")) == 3)
    assert json.loads(subscriber.payloads("reading")[0])["label"] == "happy"
    assert json.loads(subscriber.payloads("event")[0])["kind"] == "camera lost"
    state = json.loads(subscriber.payloads("state")[0])
    assert (state["emotion"], state["faces"], state["model"]) == ("sad", 2, "fake-1")
    assert subscriber.payloads("status") == ["online"]
    until(publisher, lambda: publisher.published == 4)
    publisher.close()
    subscriber.wait_for(2, "status")
    subscriber.close()
    assert Cursor.read(tmp_path / "cursor.json").reading == 3
    assert subscriber.payloads("status") == ["online", "offline"]


def test_a_publisher_that_never_ran_begins_with_what_comes(tmp_path, broker):
    subscriber = Subscriber(broker)
    device = Device(tmp_path, broker.port)
    device.write(50)
    publisher = device.publisher()
    until(publisher, lambda: publisher.connected)
    device.write(2)
    until(publisher, lambda: publisher.published == 2)
    subscriber.wait_for(2)
    subscriber.close()
    assert numbers(subscriber) == [51, 52]


@pytest.mark.parametrize("has_read", [False, True])
def test_a_killed_broker_costs_nothing(tmp_path, broker, monkeypatch, has_read):
    """SIGKILL and a new start, ten times, with readings on their way: the broker has not read them, or its
    acknowledgements are read after its death. Mosquitto acknowledges before it writes to disk and may so lose what it
    alone has; it is killed when the subscriber has all that was acknowledged.
    """
    monkeypatch.setattr("mien_edge.publish.publisher.FIRST_RETRY_SECONDS", 0.05)
    monkeypatch.setattr("mien_edge.publish.publisher.MAX_RETRY_SECONDS", 0.2)
    monkeypatch.setattr("mien_edge.publish.publisher.POLL_SECONDS", 0.0)
    subscriber = Subscriber(broker, "mien/pi/reading")
    device = Device(tmp_path, broker.port).from_the_beginning()
    broker.stop()  # so that the broker has written down whose session it keeps
    broker.start()
    publisher = device.publisher()
    for _ in range(10):
        device.write(30)
        until(
            publisher,
            lambda: publisher.outbox.done.reading == len(numbers(subscriber)) == device.count,
        )
        broker.freeze()
        device.write(7)
        until(publisher, lambda: len(publisher._inflight) == 7)
        if has_read:
            broker.thaw()
            until(None, lambda: len(numbers(subscriber)) == device.count)
        subscriber.subscribed.clear()
        broker.stop(signal.SIGKILL)
        assert publisher.outbox.done.reading == device.count - 7
        broker.start()
        back = "the subscriber is back before anything is published that only the broker would have"
        assert subscriber.subscribed.wait(20), back
    until(
        publisher, lambda: publisher.reconnects == 10 and len(numbers(subscriber)) == device.count
    )
    publisher.close()
    subscriber.close()
    assert numbers(subscriber) == list(range(1, device.count + 1))


def test_an_hour_without_network_is_caught_up(tmp_path, broker, monkeypatch):
    monkeypatch.setattr("mien_edge.publish.publisher.FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr("mien_edge.publish.publisher.MAX_RETRY_SECONDS", 0.02)
    subscriber = Subscriber(broker, "mien/pi/reading")
    device = Device(tmp_path, broker.port).from_the_beginning()
    publisher = device.publisher()
    until(publisher, lambda: publisher.connected)
    broker.stop()
    for _ in range(60):
        device.write(60)
        publisher.step(0.01)
        publisher.step(0.01)
    assert not publisher.connected
    assert len(publisher._queue) <= 2 * BATCH_SIZE, "what waits stays in the log, not in memory"
    broker.start()
    until(publisher, lambda: publisher.published == 3600)
    subscriber.wait_for(3600)
    subscriber.close()
    assert numbers(subscriber) == list(range(1, 3601))


def megabytes(process, key):
    """A figure of /proc/PID/status: VmRSS is the memory in use, VmHWM its peak."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(key))


def publish_command(settings, log, state):
    """The real program, as the unit starts it."""
    options = ["--settings", settings, "--log", log, "--state", state]
    return [sys.executable, "-m", "mien_edge", "publish", *options]


def test_a_hundred_thousand_readings_are_published_in_flat_memory(tmp_path, broker):
    """The real process; its memory at the end is close to that at the first thousand, and its peak is small."""
    subscriber = Subscriber(broker, "mien/pi/reading")
    device = Device(tmp_path, broker.port).from_the_beginning()
    device.write(100_000)
    settings = tmp_path / "mien.toml"
    settings.write_text(f'[publish]\nhost = "127.0.0.1"\nport = {broker.port}\ndevice = "pi"\n')
    command = publish_command(settings, device.path, tmp_path)
    with subprocess.Popen(command, env=clean_environment(), text=True) as process:
        until(None, lambda: len(subscriber.messages) > 1000 or process.poll() is not None, 240)
        early = megabytes(process, "VmRSS")
        until(None, lambda: len(subscriber.messages) >= 100_000 or process.poll() is not None, 240)
        last = megabytes(process, "VmRSS")
        peak = megabytes(process, "VmHWM")
        process.terminate()
    subscriber.close()
    received = numbers(subscriber)
    assert (len(received), received[-1]) == (100_000, 100_000)
    assert last < early + 3
    assert peak < 45
    assert Cursor.read(tmp_path / "cursor.json").reading == 100_000


def test_a_killed_publisher_goes_on_where_its_cursor_is(tmp_path, broker):
    subscriber = Subscriber(broker, "mien/pi/reading")
    device = Device(tmp_path, broker.port).from_the_beginning()
    device.write(30)
    first = device.publisher()
    until(first, lambda: first.published == 30)
    first._connection.abort()  # killed: no goodbye, nothing saved
    device.write(10)
    second = device.publisher()
    until(second, lambda: second.published == 40)
    subscriber.wait_for(70)
    subscriber.close()
    assert len(subscriber.messages) == 70, "thirty came twice"
    assert numbers(subscriber) == list(range(1, 41))


def test_a_log_that_replaces_another_follows_it(tmp_path, broker):
    subscriber = Subscriber(broker, "mien/pi/reading")
    device = Device(tmp_path, broker.port).from_the_beginning()
    device.write(5)
    publisher = device.publisher()
    until(publisher, lambda: publisher.published == 5)
    device.replace_log()
    device.write(3)
    until(publisher, lambda: publisher.published == 8)
    subscriber.wait_for(8)
    subscriber.close()
    ids = [json.loads(text)["id"] for text in subscriber.payloads("reading")]
    assert len(set(ids)) == 8
    assert ids[5].endswith("-r1")


def test_a_broker_publishes_the_last_will_of_a_device_that_vanishes(tmp_path, broker):
    subscriber = Subscriber(broker, "mien/pi/status")
    device = Device(tmp_path, broker.port)
    publisher = device.publisher()
    until(publisher, lambda: subscriber.messages)
    publisher._connection.abort()
    subscriber.wait_for(2, "status")
    subscriber.close()
    assert subscriber.payloads("status") == ["online", "offline"]
    late = Subscriber(broker, "mien/pi/status")
    late.wait_for(1, "status")
    late.close()
    assert ("mien/pi/status", "offline", True) in late.messages


def test_only_shares_of_enough_faces_leave_where_single_faces_must_not_be_published(
    tmp_path, broker
):
    subscriber = Subscriber(broker)
    settings = {"aggregate": True, "min_faces": 3, "state_interval": 1}
    device = Device(tmp_path, broker.port, **settings).from_the_beginning()
    minute = int(time.time() // 60) * 60 - 300
    for faces in (2, 3):
        for frame in range(20):
            time_of_frame = minute + 60 * faces + frame / 2
            labels = ["sad", "happy", "happy"][:faces]
            faces_of_frame = zip(labels, range(10 * frame, 10 * frame + faces), strict=True)
            device.log(
                tuple(
                    testing.reading(label, time_of_frame, track) for label, track in faces_of_frame
                )
            )
    device.log.commit()
    publisher = device.publisher()
    until(publisher, lambda: subscriber.payloads("minute") and subscriber.payloads("state"))
    publisher.close()
    subscriber.close()
    assert subscriber.payloads("reading") == subscriber.payloads("event") == []
    (published,) = map(json.loads, subscriber.payloads("minute"))
    assert published["faces"] == 3
    assert published["shares"] == pytest.approx({"happy": 2 / 3, "sad": 1 / 3}, abs=0.01)
    assert not any("track" in text or '"box"' in text for _, text, _ in subscriber.messages)


# --- Home Assistant ----------------------------------------------------------------------------------------------


def test_home_assistant_gets_what_its_documentation_requires(tmp_path, broker):
    """Device discovery: required are the device's identifiers, the origin's name, and per component platform and
    unique_id; sensors need a state topic, an enum has options, a temperature a unit, and every template a field.
    """
    subscriber = Subscriber(broker)
    device = Device(tmp_path, broker.port)
    status_file.write(tmp_path / "run", Status(labels=LABELS))
    publisher = device.publisher()
    until(publisher, lambda: subscriber.payloads("config") and subscriber.payloads("state"))
    subscriber.close()
    topic = next(topic for topic, _, _ in subscriber.messages if topic.endswith("config"))
    assert topic == "homeassistant/device/pi/config"
    content = json.loads(subscriber.payloads("config")[0])
    state = json.loads(subscriber.payloads("state")[0])
    assert content["dev"]["ids"]
    assert content["o"]["name"] == "mien"
    assert content["state_topic"] == "mien/pi/state"
    assert content["availability_topic"] == "mien/pi/status"
    assert set(content["cmps"]) == {"emotion", "faces", "fps", "temperature", "problem"}
    ids = [component["unique_id"] for component in content["cmps"].values()]
    assert len(set(ids)) == len(ids)
    for component in content["cmps"].values():
        assert component["p"] in ("sensor", "binary_sensor")
        assert any(f"value_json.{key}" in component["value_template"] for key in state)
        if component.get("device_class") == "enum":
            assert component["options"] == [*LABELS, "none"]
            assert "state_class" not in component
            assert "unit_of_measurement" not in component
            assert state["emotion"] in component["options"]
        if component.get("device_class") == "temperature":
            assert component["unit_of_measurement"] == "°C"
    late = Subscriber(broker, "homeassistant/#")
    late.wait_for(1, "config")
    late.close()
    assert any(retained for _, _, retained in late.messages)


def test_home_assistant_knows_the_labels_of_a_new_model_before_a_state_has_one(tmp_path, broker):
    subscriber = Subscriber(broker)
    device = Device(tmp_path, broker.port, state_interval=1)
    status_file.write(tmp_path / "run", running_with("happy", LABELS))
    publisher = device.publisher()
    until(publisher, lambda: subscriber.payloads("state"))
    status_file.write(tmp_path / "run", running_with("smile", THREE))
    until(publisher, lambda: "smile" in subscriber.payloads("state")[-1])
    (tmp_path / "run" / status_file.NAME).unlink()  # it is known on while the service starts anew
    until(publisher, lambda: "does not run" in subscriber.payloads("state")[-1])
    subscriber.close()
    options = []
    for topic, payload, _ in subscriber.messages:
        if topic.endswith("/config"):
            options.append(json.loads(payload)["cmps"]["emotion"]["options"])
        elif topic.endswith("/state"):
            assert json.loads(payload)["emotion"] in options[-1]
    assert options == [[*LABELS, "none"], [*THREE, "none"]]


THREE = ("smile", "neutral", "eyes-closed")


def running_with(label, labels):
    """The status of a service whose model has these labels and sees a face with one of them."""
    return Status(
        labels=labels, faces=(reading_record(testing.reading(label, NOW, labels=labels)),)
    )


def test_home_assistant_gets_the_device_again_when_it_starts(tmp_path, broker, monkeypatch):
    monkeypatch.setattr("mien_edge.publish.publisher.INTRODUCTION_SECONDS", 0.01)
    subscriber = Subscriber(broker)
    device = Device(tmp_path, broker.port)
    publisher = device.publisher()
    until(publisher, lambda: subscriber.payloads("config"))
    for _ in range(10):
        publisher.step(0.02)
    subscriber.client.publish("homeassistant/status", "online")
    until(publisher, lambda: len(subscriber.payloads("config")) == 2)
    subscriber.close()


@pytest.mark.parametrize("names", [("廚房", "客廳"), ("cam 1", "cam.1", "cam/1", "cam_1")])
def test_devices_with_different_names_are_different_devices_in_home_assistant(names):
    contents = [
        json.loads(homeassistant.discovery_message("mien/x", name, LABELS)) for name in names
    ]
    ids = {content["dev"]["ids"][0] for content in contents}
    entities = {
        component["unique_id"] for content in contents for component in content["cmps"].values()
    }
    topics = {homeassistant.discovery_topic("homeassistant", name) for name in names}
    assert len(ids) == len(topics) == len(names)
    assert len(entities) == 5 * len(names)
    assert all(
        re.fullmatch(r"homeassistant/device/[A-Za-z0-9_-]+/config", topic) for topic in topics
    )


def test_a_plain_name_is_its_own_id():
    assert homeassistant.discovery_topic("ha", "Cam_1-b") == "ha/device/Cam_1-b/config"


# --- security ----------------------------------------------------------------------------------------------------


def certificates(folder):
    def openssl(words):
        subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True)

    key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    authority = (
        "-days 2 -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign"
    )
    for name in ("ca", "other"):
        openssl(f"req -x509 {key} {authority} -subj /CN={name} -keyout {name}.key -out {name}.crt")
    openssl(f"req {key} -subj /CN=localhost -keyout server.key -out server.csr")
    (folder / "ext").write_text(
        "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n"
    )
    openssl(
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.crt"
    )


@pytest.fixture
def guarded(tmp_path):
    """A broker with TLS and a password."""
    folder = tmp_path / "broker"
    folder.mkdir()
    certificates(folder)
    Broker(folder)
    subprocess.run(
        ["mosquitto_passwd", "-b", "-c", folder / "pw", "mien", "secret"],
        check=True,
        capture_output=True,
    )
    lines = ["allow_anonymous false", f"password_file {folder}/pw", f"cafile {folder}/ca.crt"]
    lines += [f"certfile {folder}/server.crt", f"keyfile {folder}/server.key"]
    broker = Broker(folder, *lines).start()
    yield broker
    broker.stop()


def test_a_broker_with_tls_and_a_password_is_reached(tmp_path, guarded, monkeypatch):
    (tmp_path / "mqtt-password").write_text("secret\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    ca = str(tmp_path / "broker" / "ca.crt")
    device = Device(tmp_path, guarded.port, tls=True, ca=ca, username="mien").from_the_beginning()
    device.write(3)
    publisher = device.publisher()
    until(publisher, lambda: publisher.published == 3)
    publisher.close()


@pytest.mark.parametrize(
    ("settings", "password", "words"),
    [
        ({"tls": True, "ca": "broker/ca.crt", "username": "mien"}, "wrong", "it refuses"),
        (
            {"tls": True, "ca": "broker/other.crt", "username": "mien"},
            "secret",
            "certificate verify failed",
        ),
        ({"tls": True, "ca": "broker/ca.crt"}, "", "it refuses"),
    ],
    ids=["wrong password", "unknown authority", "no password"],
)
def test_a_refused_publisher_says_why(tmp_path, guarded, settings, password, words):
    (tmp_path / "pw").write_text(password)
    settings = {**settings, "ca": str(tmp_path / settings["ca"])}
    if "username" in settings:
        settings["password_file"] = str(tmp_path / "pw")
    publisher = Device(tmp_path, guarded.port, **settings).publisher()
    until(publisher, lambda: publisher.problem not in ("not tried yet", ""))
    assert words in publisher.problem.lower()


def test_a_user_without_a_password_is_told_so(tmp_path):
    publisher = Device(tmp_path, free_port(), username="mien").publisher()
    publisher.step(0.01)
    assert "no password" in publisher.problem


# --- Prometheus and status ---------------------------------------------------------------------------------------


def has_published(folder, count):
    """Whether the publisher's status file says so, and that nothing waits."""
    try:
        status = status_file.read_publisher(folder)
    except SourceError:
        return False
    return (status.published, status.waiting) == (count, 0)


def test_prometheus_and_status_say_how_the_publisher_is(tmp_path, broker):
    device = Device(tmp_path, broker.port).from_the_beginning()
    port = free_port()
    device.write(5)
    (tmp_path / "publish").mkdir()
    settings = tmp_path / "mien.toml"
    settings.write_text(
        f'[publish]\nhost = "127.0.0.1"\nport = {broker.port}\ndevice = "pi"\nmetrics_port = {port}\n'
    )
    environment = {**clean_environment(), "RUNTIME_DIRECTORY": str(tmp_path / "publish")}
    command = publish_command(settings, device.path, tmp_path)
    with subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE) as process:
        until(None, lambda: has_published(tmp_path / "publish", 5))
        status = status_file.read_publisher(tmp_path / "publish")
        page = scraped(port)
        process.terminate()
        printed = process.stdout.read()
    assert (status.connected, status.waiting, status.problem) == (True, 0, "")
    assert "mien_up 0.0" in page
    assert "mien_entries_waiting 0.0" in page
    assert printed == "5 published, 0 waiting\n"
    assert not (tmp_path / "publish" / status_file.NAME).exists()


def test_without_a_broker_metrics_are_served_all_the_same(tmp_path):
    device = Device(tmp_path, 1)
    port = free_port()
    device.write(5)
    settings = tmp_path / "mien.toml"
    settings.write_text(f"[publish]\nmetrics_port = {port}\n")
    command = publish_command(settings, device.path, tmp_path)
    with subprocess.Popen(command, env=clean_environment(), text=True, stdout=PIPE) as process:
        until(None, lambda: answers(port))
        page = scraped(port)
        process.terminate()
        printed = process.stdout.read()
    assert "mien_up 0.0" in page
    assert "mien_faces" in page
    assert "mien_entries_waiting" not in page
    assert printed == f"no broker; metrics on 127.0.0.1:{port}\n"
    assert not (tmp_path / "cursor.json").exists()


def test_with_neither_a_broker_nor_metrics_it_is_said_what_to_set(tmp_path):
    with pytest.raises(
        PublishError, match=r"publish\.host is empty; name a broker, or set publish"
    ):
        publisher.run(PublishSettings(), tmp_path / "r.db", tmp_path, tmp_path, None, lambda: True)


def answers(port):
    """Whether somebody listens on this port of 127.0.0.1."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def scraped(port):
    """What Prometheus reads there."""
    return urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"log": "a", "reading": 1, "event": 1}',
        '{"log": "a", "reading": 1e400, "event": 1, "minute": 1}',
        '{"log": "a", "reading": 1, "event": 1, "minute": 1, "offset": NaN}',
        f'{{"log": "a", "reading": 1{"0" * 30}, "event": 1, "minute": 1}}',
        "\xff",
        pytest.param("[" * 100_000, id="deep"),
    ],
)
def test_a_damaged_cursor_is_logged_and_costs_the_past_only(tmp_path, caplog, content):
    (tmp_path / "cursor.json").write_bytes(content.encode("latin-1"))
    assert Cursor.read(tmp_path / "cursor.json") == Cursor()
    assert "damaged" in caplog.text


def test_late_answers_of_a_log_that_was_replaced_do_not_move_the_new_ones_cursor(tmp_path):
    device = Device(tmp_path, 1)
    device.write(5)
    outbox = Outbox(device.path, SingleReadings(), Cursor.read(tmp_path / "cursor.json"))
    old = outbox.take()
    device.replace_log()
    device.write(3)
    new = outbox.take()
    for message in old:
        outbox.acknowledge(message)
    outbox.rewind()
    assert [message.text for message in outbox.take()] == [message.text for message in new]


def test_another_mode_publishes_no_history(tmp_path):
    device = Device(tmp_path, 1)
    clock = [NOW + 5000.0]
    device.write(5)
    sums = Outbox(
        device.path, MinuteSums(2), Cursor.read(tmp_path / "cursor.json"), lambda: clock[0]
    )
    sums.take()
    single = Outbox(device.path, SingleReadings(), sums.done, lambda: clock[0])
    assert single.take() == [], "what was held back stays so"
    device.write(1)
    assert len(single.take()) == 1


def test_a_clock_that_was_ahead_does_not_silence_the_sums(tmp_path):
    device = Device(tmp_path, 1)
    clock = [NOW + 86400.0]
    connection = reader.open_to_read(device.path)
    outbox = Outbox(
        device.path,
        MinuteSums(1),
        Cursor(reader.name(connection), minute=int(clock[0])),
        lambda: clock[0],
        boot="",
        is_synchronized=lambda: True,
    )
    clock[0] = NOW
    outbox.take()
    for i in range(120):
        device.log((testing.reading("happy", NOW + 60 + i),))
    device.log.commit()
    clock[0] = NOW + 300
    assert len(outbox.take()) >= 2


def test_an_outbox_passes_minutes_with_too_few_faces(tmp_path):
    device = Device(tmp_path, 1)
    for i in range(200):
        device.log((testing.reading("happy", NOW + 60 * i, track=i),))
    device.log.commit()
    connection = reader.open_to_read(device.path)
    outbox = Outbox(device.path, MinuteSums(2), Cursor(reader.name(connection)))
    connection.close()
    assert [outbox.take() for _ in range(3)] == [[], [], []]
    assert outbox.done.minute == int((NOW + 60 * 199) // 60) * 60
