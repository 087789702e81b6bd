"""From the log to a real broker: at least once, in order, whatever is killed."""

import contextlib
import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from helpers import ROOT, clean_environment

sys.path.insert(0, str(Path(__file__).parent))
from brokers import Broker, Listener, free_port
from mien_edge import testing
from mien_edge.errors import PublishError, SourceError
from mien_edge.labels import LABELS
from mien_edge.log import reader, writer
from mien_edge.publish import homeassistant
from mien_edge.publish import outbox as outboxes
from mien_edge.publish import publisher as publishing
from mien_edge.publish.outbox import Cursor, Outbox
from mien_edge.publish.publisher import Publisher
from mien_edge.service import status_writer
from mien_edge.settings import LogSettings, PublishSettings
from mien_edge.status import status_file
from mien_edge.status.health import Health
from mien_edge.status.status_file import ModelStatus, PublisherStatus, Status
from prometheus_client import CollectorRegistry, generate_latest

NOW = 1_700_000_000.0


@pytest.fixture
def broker(tmp_path):
    started = Broker(tmp_path / "broker").start()
    yield started
    started.stop()


class Device:
    """The folders of a device, its log, and a publisher that has told all up to now."""

    def __init__(self, tmp_path, port, **settings):
        self.folder, self.path = tmp_path, tmp_path / "log.db"
        (tmp_path / "run").mkdir(exist_ok=True)
        self.log, self.count = writer.LogWriter(self.path, LogSettings(max_days=3650, commit_interval=300)), 0
        self.settings = PublishSettings(host="127.0.0.1", port=port, device="pi", **settings)

    def publisher(self):
        return Publisher(self.settings, self.path, self.folder / "run", self.folder)

    def from_the_start(self):
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


def numbers(listener, topic="reading"):
    """The numbers in the ids, each once, in the order of their first coming; the order must be rising."""
    found = [int(json.loads(text)["id"].partition("-")[2][1:]) for text in listener.of(topic)]
    once = list(dict.fromkeys(found))
    assert once == sorted(once), "in order"
    return once


def until(publisher, condition, seconds=60.0):
    """With a publisher that works, or with None."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, publisher and publisher.report()
        publisher.step(0.02) if publisher else time.sleep(0.02)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_readings_events_and_state_reach_the_broker(tmp_path, broker, protocol):
    listener, device = Listener(broker), Device(tmp_path, broker.port, protocol=protocol).from_the_start()
    device.write(3)
    device.log.event("camera lost", "no frame")
    status_writer.StatusWriter(tmp_path / "run", "demo", lambda: ModelStatus("fake-1"))(
        testing.frames([[]]).__next__(), (testing.reading("sad"), testing.reading("sad", track=2))
    )
    publisher = device.publisher()
    until(publisher, lambda: listener.of("state") and len(listener.of("reading")) == 3 and listener.of("event"))
    assert json.loads(listener.of("reading")[0])["label"] == "happy"
    assert json.loads(listener.of("event")[0])["kind"] == "camera lost"
    state = json.loads(listener.of("state")[0])
    assert (state["emotion"], state["faces"], state["model"]) == ("sad", 2, "fake-1")
    assert listener.of("status") == ["online"]
    until(publisher, lambda: publisher.published == 4)
    publisher.close()
    listener.heard(2, "status")
    listener.close()
    assert Cursor.read(tmp_path / "cursor.json").reading == 3
    assert listener.of("status") == ["online", "offline"]


def test_a_publisher_that_never_ran_begins_with_what_comes(tmp_path, broker):
    listener, device = Listener(broker), Device(tmp_path, broker.port)
    device.write(50)
    publisher = device.publisher()
    until(publisher, lambda: publisher.connected)
    device.write(2)
    until(publisher, lambda: publisher.published == 2)
    listener.heard(2)
    listener.close()
    assert numbers(listener) == [51, 52]


@pytest.mark.parametrize("has_read", [False, True])
def test_a_killed_broker_costs_nothing(tmp_path, broker, monkeypatch, has_read):
    """SIGKILL and a new start, ten times, with readings on their way: the broker has not read them, or its
    acknowledgements are read after its death. Mosquitto acknowledges before it writes to disk and may so lose what it
    alone has; it is killed when the listener has all that was acknowledged.
    """
    monkeypatch.setattr(publishing, "_PAUSE", 0.05)
    monkeypatch.setattr(publishing, "_LONGEST_PAUSE", 0.2)
    monkeypatch.setattr(publishing, "_LOOK", 0.0)
    listener, device = Listener(broker, "mien/pi/reading"), Device(tmp_path, broker.port).from_the_start()
    broker.stop()  # so that the broker has written down whose session it keeps
    broker.start()
    publisher = device.publisher()
    for _ in range(10):
        device.write(30)
        until(publisher, lambda: publisher.outbox.done.reading == len(numbers(listener)) == device.count)
        broker.freeze()
        device.write(7)
        until(publisher, lambda: len(publisher._flying) == 7)
        if has_read:
            broker.thaw()
            until(None, lambda: len(numbers(listener)) == device.count)
        listener.ready.clear()
        broker.stop(signal.SIGKILL)
        assert publisher.outbox.done.reading == device.count - 7
        broker.start()
        assert listener.ready.wait(20), "the listener is back before anything is told that only the broker would have"
    until(publisher, lambda: publisher.reconnects == 10 and len(numbers(listener)) == device.count)
    publisher.close()
    listener.close()
    assert numbers(listener) == list(range(1, device.count + 1))


def test_an_hour_without_network_is_made_up_for(tmp_path, broker, monkeypatch):
    monkeypatch.setattr(publishing, "_PAUSE", 0.01)
    monkeypatch.setattr(publishing, "_LONGEST_PAUSE", 0.02)
    listener, device = Listener(broker, "mien/pi/reading"), Device(tmp_path, broker.port).from_the_start()
    publisher = device.publisher()
    until(publisher, lambda: publisher.connected)
    broker.stop()
    for _ in range(60):
        device.write(60)
        publisher.step(0.01)
        publisher.step(0.01)
    assert not publisher.connected
    assert len(publisher._entries) <= 2 * outboxes.BATCH_SIZE, "what waits stays in the log, not in memory"
    broker.start()
    until(publisher, lambda: publisher.published == 3600)
    listener.heard(3600)
    listener.close()
    assert numbers(listener) == list(range(1, 3601))


def test_a_hundred_thousand_readings_are_told_in_flat_memory(tmp_path, broker):
    """The real process; its memory at the end and its greatest are close to that at the first thousand."""
    listener, device = Listener(broker, "mien/pi/reading"), Device(tmp_path, broker.port).from_the_start()
    device.write(100_000)
    settings = tmp_path / "mien.toml"
    settings.write_text(f'[publish]\nhost = "127.0.0.1"\nport = {broker.port}\ndevice = "pi"\n')
    command = [sys.executable, "-m", "mien_edge", "publish", "--settings", settings, "--log", device.path]
    with subprocess.Popen([*command, "--state", tmp_path], env=clean_environment(), text=True) as process:

        def memory(kind):
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(kind))

        end, first = time.monotonic() + 240, 0.0
        while len(listener.got) < 100_000 and time.monotonic() < end and process.poll() is None:
            first = first or (memory("VmRSS") if len(listener.got) > 1000 else 0.0)
            time.sleep(0.2)
        last, most = memory("VmRSS"), memory("VmHWM")
        process.terminate()
    listener.close()
    assert (len(numbers(listener)), numbers(listener)[-1]) == (100_000, 100_000)
    assert last < first + 3
    assert most < 45
    assert Cursor.read(tmp_path / "cursor.json").reading == 100_000


def test_a_killed_publisher_goes_on_where_its_cursor_is(tmp_path, broker):
    listener, device = Listener(broker, "mien/pi/reading"), Device(tmp_path, broker.port).from_the_start()
    device.write(30)
    first = device.publisher()
    until(first, lambda: first.published == 30)
    first._link.drop()  # killed: no goodbye, nothing saved
    device.write(10)
    second = device.publisher()
    until(second, lambda: second.published == 40)
    listener.heard(70)
    listener.close()
    assert len(listener.got) == 70, "thirty came twice"
    assert numbers(listener) == list(range(1, 41))


def test_a_log_that_is_begun_anew_follows_the_old_one(tmp_path, broker):
    listener, device = Listener(broker, "mien/pi/reading"), Device(tmp_path, broker.port).from_the_start()
    device.write(5)
    publisher = device.publisher()
    until(publisher, lambda: publisher.published == 5)
    device.log.close()
    device.path.unlink()
    device.log = writer.LogWriter(device.path, LogSettings(max_days=3650, commit_interval=300))
    device.write(3)
    until(publisher, lambda: publisher.published == 8)
    listener.heard(8)
    listener.close()
    ids = [json.loads(text)["id"] for text in listener.of("reading")]
    assert len(set(ids)) == 8
    assert ids[5].endswith("-r1")


def test_a_broker_that_vanishes_tells_the_last_will(tmp_path, broker):
    listener, device = Listener(broker, "mien/pi/status"), Device(tmp_path, broker.port)
    publisher = device.publisher()
    until(publisher, lambda: listener.got)
    publisher._link.drop()
    listener.heard(2, "status")
    listener.close()
    assert listener.of("status") == ["online", "offline"]
    late = Listener(broker, "mien/pi/status")
    late.heard(1, "status")
    late.close()
    assert ("mien/pi/status", "offline", True) in late.got


def test_only_shares_of_enough_faces_leave_where_single_faces_must_not_be_told(tmp_path, broker):
    listener, device = (
        Listener(broker),
        Device(tmp_path, broker.port, aggregate=True, min_faces=3, state_interval=1).from_the_start(),
    )
    minute = int(time.time() // 60) * 60 - 300
    for faces in (2, 3):
        for i in range(20):
            at = minute + 60 * faces + i / 2
            device.log(tuple(testing.reading("happy" if n else "sad", at, track=10 * i + n) for n in range(faces)))
    device.log.commit()
    publisher = device.publisher()
    until(publisher, lambda: listener.of("minute") and listener.of("state"))
    publisher.close()
    listener.close()
    assert listener.of("reading") == listener.of("event") == []
    (told,) = map(json.loads, listener.of("minute"))
    assert told["faces"] == 3
    assert told["shares"] == pytest.approx({"happy": 2 / 3, "sad": 1 / 3}, abs=0.01)
    assert not any("track" in text or '"box"' in text for _, text, _ in listener.got)


# --- Home Assistant ----------------------------------------------------------------------------------------------


def test_home_assistant_is_told_what_its_documentation_asks_for(tmp_path, broker):
    """Device discovery: required are the device's identifiers, the origin's name, and per component platform and
    unique_id; sensors need a state topic, an enum has options, a temperature a unit, and every template a field.
    """
    listener, device = Listener(broker), Device(tmp_path, broker.port)
    publisher = device.publisher()
    until(publisher, lambda: listener.of("config") and listener.of("state"))
    listener.close()
    topic = next(topic for topic, _, _ in listener.got if topic.endswith("config"))
    assert topic == "homeassistant/device/pi/config"
    content, state = json.loads(listener.of("config")[0]), json.loads(listener.of("state")[0])
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
    late = Listener(broker, "homeassistant/#")
    late.heard(1, "config")
    late.close()
    assert any(retained for _, _, retained in late.got)


def test_home_assistant_hears_again_who_is_there_when_it_starts(tmp_path, broker):
    listener, device = Listener(broker), Device(tmp_path, broker.port)
    publisher = device.publisher()
    until(publisher, lambda: listener.of("config"))
    for _ in range(10):
        publisher.step(0.02)
    listener.client.publish("homeassistant/status", "online")
    until(publisher, lambda: len(listener.of("config")) == 2)
    listener.close()


def test_a_device_may_have_any_name():
    assert homeassistant.topic("homeassistant", "Büro/3 #1") == "homeassistant/device/B_ro_3__1/config"


# --- security ----------------------------------------------------------------------------------------------------


def certificates(folder):
    def openssl(words):
        subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True)

    key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    authority = "-days 2 -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign"
    for name in ("ca", "other"):
        openssl(f"req -x509 {key} {authority} -subj /CN={name} -keyout {name}.key -out {name}.crt")
    openssl(f"req {key} -subj /CN=localhost -keyout server.key -out server.csr")
    (folder / "ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
    openssl("x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.crt")


@pytest.fixture
def guarded(tmp_path):
    """A broker with TLS and a password."""
    folder = tmp_path / "broker"
    folder.mkdir()
    certificates(folder)
    Broker(folder)
    subprocess.run(["mosquitto_passwd", "-b", "-c", folder / "pw", "mien", "secret"], check=True, capture_output=True)
    lines = ["allow_anonymous false", f"password_file {folder}/pw", f"cafile {folder}/ca.crt"]
    started = Broker(folder, *lines, f"certfile {folder}/server.crt", f"keyfile {folder}/server.key").start()
    yield started
    started.stop()


def test_a_broker_with_tls_and_a_password_is_told(tmp_path, guarded, monkeypatch):
    (tmp_path / "mqtt-password").write_text("secret\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    ca = str(tmp_path / "broker" / "ca.crt")
    device = Device(tmp_path, guarded.port, tls=True, ca=ca, username="mien").from_the_start()
    device.write(3)
    publisher = device.publisher()
    until(publisher, lambda: publisher.published == 3)
    publisher.close()


@pytest.mark.parametrize(
    ("settings", "password", "words"),
    [
        ({"tls": True, "ca": "broker/ca.crt", "username": "mien"}, "wrong", "it refuses"),
        ({"tls": True, "ca": "broker/other.crt", "username": "mien"}, "secret", "certificate verify failed"),
        ({"tls": True, "ca": "broker/ca.crt"}, "", "it refuses"),
    ],
    ids=["wrong password", "unknown authority", "no password"],
)
def test_who_may_not_is_told_why(tmp_path, guarded, settings, password, words):
    (tmp_path / "pw").write_text(password)
    chosen = {**settings, "ca": str(tmp_path / settings["ca"])}
    if "username" in settings:
        chosen["password_file"] = str(tmp_path / "pw")
    publisher = Device(tmp_path, guarded.port, **chosen).publisher()
    until(publisher, lambda: publisher.problem not in ("not tried yet", ""))
    assert words in publisher.problem.lower()


def test_settings_that_cannot_be_are_errors_at_the_start(tmp_path):
    with pytest.raises(PublishError, match=r"publish\.host is empty"):
        Publisher(PublishSettings(), tmp_path / "log.db", tmp_path, tmp_path)
    publisher = Device(tmp_path, free_port(), username="mien").publisher()
    publisher.step(0.01)
    assert "no password" in publisher.problem


# --- Prometheus and status ---------------------------------------------------------------------------------------


def test_prometheus_and_status_are_told(tmp_path, broker):
    device, port = Device(tmp_path, broker.port).from_the_start(), free_port()
    device.write(5)
    (tmp_path / "publish").mkdir()
    settings = tmp_path / "mien.toml"
    settings.write_text(f'[publish]\nhost = "127.0.0.1"\nport = {broker.port}\ndevice = "pi"\nmetrics_port = {port}\n')
    environment = {**clean_environment(), "RUNTIME_DIRECTORY": str(tmp_path / "publish")}
    command = [sys.executable, "-m", "mien_edge", "publish", "--settings", settings, "--log", device.path]
    with subprocess.Popen(
        [*command, "--state", tmp_path], env=environment, text=True, stdout=subprocess.PIPE
    ) as process:
        end, found = time.monotonic() + 30, PublisherStatus()
        while (found.published, found.waiting) != (5, 0) and time.monotonic() < end:
            time.sleep(0.2)
            with contextlib.suppress(SourceError):
                found = status_file.read_publisher(tmp_path / "publish")
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
        process.terminate()
        said = process.stdout.read()
    assert (found.connected, found.waiting, found.problem) == (True, 0, "")
    assert "mien_up 0.0" in page
    assert "mien_entries_waiting 0.0" in page
    assert said == "5 published, 0 waiting\n"
    assert not (tmp_path / "publish" / status_file.NAME).exists()


def test_metrics_have_base_units_and_each_one_help_and_one_type():
    from mien_edge.publish import prometheus

    service = Status(
        camera="ok",
        frames=1200,
        fps=15.0,
        stage_milliseconds={"detect": 3.0, "classify": 0.35},
        health=Health(temperature=61.5, throttled_now=("throttled",), available_megabytes=512.0),
        resident_megabytes=104.5,
    )
    publisher = PublisherStatus(shares={"happy": 0.75, "none": 0.25}, faces=2, waiting=7)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(prometheus.Collector(lambda: (service, publisher)))
    lines = generate_latest(registry).decode().splitlines()
    for line in (
        "mien_up 1.0",
        "mien_frames_total 1200.0",
        "mien_frames_per_second 15.0",
        'mien_stage_duration_seconds{stage="detect"} 0.003',
        'mien_stage_duration_seconds{stage="classify"} 0.00035',
        "mien_temperature_celsius 61.5",
        'mien_throttled{limit="throttled"} 1.0',
        "mien_memory_available_bytes 5.12e+08",
        "process_resident_memory_bytes 1.045e+08",
        "mien_camera_lost 0.0",
        'mien_emotion_ratio{label="happy"} 0.75',
        "mien_faces 2.0",
        "mien_entries_waiting 7.0",
    ):
        assert line in lines
    assert "# TYPE mien_frames_total counter" in lines
    names = {line.partition("{")[0].split()[0] for line in lines if not line.startswith("#")}
    for comment in ("HELP", "TYPE"):
        described = [line.split()[2] for line in lines if line.startswith(f"# {comment} ")]
        assert sorted(described) == sorted(names)
    table = (ROOT / "edge" / "README.md").read_text()
    for name in names:
        assert f"`{name}" in table


def test_a_damaged_cursor_is_said_and_costs_the_past_only(tmp_path, caplog):
    (tmp_path / "cursor.json").write_text("{")
    assert Cursor.read(tmp_path / "cursor.json") == Cursor()
    assert "damaged" in caplog.text


def test_late_answers_of_a_log_that_was_replaced_do_not_move_the_new_ones_cursor(tmp_path):
    device = Device(tmp_path, 1).from_the_start()
    device.write(5)
    outbox = Outbox(device.path, 0, Cursor.read(tmp_path / "cursor.json"))
    old = outbox.take()
    device.log.close()
    device.path.unlink()
    device.log = writer.LogWriter(device.path, LogSettings(max_days=3650, commit_interval=300))
    device.write(3)
    new = outbox.take()
    for message in old:
        outbox.acknowledged(message)
    outbox.rewind()
    assert [message.text for message in outbox.take()] == [message.text for message in new]


def test_another_mode_tells_no_history(tmp_path):
    device, clock = Device(tmp_path, 1).from_the_start(), [NOW + 5000.0]
    device.write(5)
    sums = Outbox(device.path, 2, Cursor.read(tmp_path / "cursor.json"), lambda: clock[0])
    sums.take()
    single = Outbox(device.path, 0, sums.done, lambda: clock[0])
    assert single.take() == [], "what was kept back stays so"
    device.write(1)
    assert len(single.take()) == 1


def test_a_clock_that_was_ahead_does_not_silence_the_sums(tmp_path):
    device, clock = Device(tmp_path, 1), [NOW + 86400.0]
    connection = reader.open_to_read(device.path)
    outbox = Outbox(device.path, 1, Cursor(reader.name(connection), minute=int(clock[0])), lambda: clock[0])
    clock[0] = NOW
    outbox.take()
    for i in range(120):
        device.log((testing.reading("happy", NOW + 60 + i),))
    device.log.commit()
    clock[0] = NOW + 300
    assert len(outbox.take()) >= 2


@pytest.mark.parametrize("setting", [{"device": "pi/#"}, {"topic": "+"}])
def test_names_that_mean_something_in_mqtt_are_refused(tmp_path, setting):
    with pytest.raises(PublishError, match="leave them out"):
        Publisher(PublishSettings(host="h", **setting), tmp_path / "l", tmp_path, tmp_path)


def test_an_outbox_passes_minutes_with_too_few_faces(tmp_path):
    device = Device(tmp_path, 1)
    for i in range(200):
        device.log((testing.reading("happy", NOW + 60 * i, track=i),))
    device.log.commit()
    connection = reader.open_to_read(device.path)
    outbox = Outbox(device.path, 2, Cursor(reader.name(connection)))
    connection.close()
    assert [outbox.take() for _ in range(3)] == [[], [], []]
    assert outbox.done.minute == int((NOW + 60 * 199) // 60) * 60
