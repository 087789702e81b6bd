"""What is published stays as it is, byte for byte: Home Assistant and people's automations read it."""

import json

import pytest
from mien_edge import __version__, testing
from mien_edge.events import EventKind
from mien_edge.labels import LABELS
from mien_edge.log import reader, writer
from mien_edge.log.minutes import MinuteSummary
from mien_edge.publish import homeassistant
from mien_edge.publish.outbox import Cursor, MinuteSums, Outbox, SingleReadings
from mien_edge.publish.publisher import Publisher
from mien_edge.settings import LogSettings, PublishSettings
from mien_edge.status import status_file

NOW = 1_700_000_000.0

DISCOVERY = (
    '{"dev": {"ids": ["mien_B_ro_96eecebc"], "name": "Büro", "mf": "mien", "mdl": "Emotion readings", "sw": "VERSION"}, '
    '"o": {"name": "mien", "sw": "VERSION"}, '
    '"state_topic": "mien/Büro/state", "availability_topic": "mien/Büro/status", "qos": 1, '
    '"cmps": {"emotion": {"p": "sensor", "name": "Dominant emotion", "device_class": "enum", '
    '"options": ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "none"], '
    '"value_template": "{{ value_json.emotion }}", "icon": "mdi:emoticon-outline", '
    '"unique_id": "mien_B_ro_96eecebc_emotion"}, '
    '"faces": {"p": "sensor", "name": "Faces", "state_class": "measurement", "unit_of_measurement": "faces", '
    '"value_template": "{{ value_json.faces }}", "icon": "mdi:account-group", "unique_id": "mien_B_ro_96eecebc_faces"}, '
    '"fps": {"p": "sensor", "name": "Frames per second", "state_class": "measurement", '
    '"unit_of_measurement": "fps", "value_template": "{{ value_json.fps }}", "entity_category": "diagnostic", '
    '"unique_id": "mien_B_ro_96eecebc_fps"}, '
    '"temperature": {"p": "sensor", "name": "Temperature", "device_class": "temperature", '
    '"state_class": "measurement", "unit_of_measurement": "°C", '
    '"value_template": "{{ value_json.temperature }}", "entity_category": "diagnostic", '
    '"unique_id": "mien_B_ro_96eecebc_temperature"}, '
    '"problem": {"p": "binary_sensor", "name": "Problem", "device_class": "problem", '
    '"value_template": "{{ \'ON\' if value_json.problems else \'OFF\' }}", "entity_category": "diagnostic", '
    '"json_attributes_topic": "mien/Büro/state", '
    '"json_attributes_template": "{{ {\'problems\': value_json.problems} | tojson }}", '
    '"unique_id": "mien_B_ro_96eecebc_problem"}}}'
)

SERVICE = (
    '{"time": 4e9, "started": 1700000000.0, "pid": 7, "model": "seed-1", "bundle": "/b", "source": "camera", '
    '"target_fps": 15, "idle": false, "camera": "ok", "frames": 1200, "fps": 14.9, "faces": ['
    '{"time": "2026-01-31T12:00:00.000Z", "source": "", "position": null, "frame": 9, "track": 1, "label": "sad", "confidence": 0.9, '
    '"quality": "good", "box": [1, 2, 3, 4], "scores": null, "model": "seed-1"}, '
    '{"time": "2026-01-31T12:00:00.000Z", "source": "", "position": null, "frame": 9, "track": 2, "label": null, "confidence": null, '
    '"quality": "blurred", "box": [1, 2, 3, 4], "scores": null, "model": "seed-1"}], '
    '"milliseconds": {"detect": 3.0}, "temperature": 61.5, "limits": ["throttled"], "had": [], "memory": 512.0, '
    '"rss": 104.5, "written_per_day": null, "events": []}'
)


@pytest.fixture
def log(tmp_path):
    opened = writer.LogWriter(tmp_path / "log.db", LogSettings(max_days=3650, commit_interval=300))
    yield opened
    opened.close()


@pytest.fixture
def publisher(tmp_path, log):
    """Makes a publisher that is never connected, with these settings."""

    def create(**settings):
        (tmp_path / "run").mkdir()
        chosen = PublishSettings(host="broker", device="pi", **settings)
        created = Publisher(chosen, tmp_path / "log.db", tmp_path / "run", tmp_path)
        created.machine = "1a2b3c4d"
        return created

    return create


def start_of(path):
    connection = reader.open_to_read(path)
    cursor = Cursor(reader.name(connection))
    connection.close()
    return cursor


def test_the_discovery_message():
    assert (
        homeassistant.discovery_topic("homeassistant", "Büro")
        == "homeassistant/device/B_ro_96eecebc/config"
    )
    message = homeassistant.discovery_message("mien/Büro", "Büro", LABELS)
    assert message == DISCOVERY.replace("VERSION", __version__)


def test_a_state_message_of_a_running_service(tmp_path, publisher):
    running = publisher()
    (tmp_path / "run" / status_file.NAME).write_text(SERVICE)
    assert json.dumps(running.state()) == (
        '{"emotion": "sad", "faces": 2, "fps": 14.9, "temperature": 61.5, "model": "seed-1", "camera": "ok", '
        '"problems": ["the device has throttled now; see: mien-edge doctor"], "machine": "1a2b3c4d"}'
    )


def test_a_state_message_of_sums_tells_no_single_face(tmp_path, publisher):
    sums = publisher(aggregate=True, min_faces=1)
    (tmp_path / "run" / status_file.NAME).write_text(SERVICE)
    assert json.dumps(sums.state()).startswith('{"emotion": "none", "faces": 0, "fps": 14.9,')


def test_a_state_message_without_a_service(tmp_path, publisher):
    path = tmp_path / "run" / status_file.NAME
    reason = f"{path}: the service does not run here; start it with: sudo systemctl start mien"
    assert json.dumps(publisher().state()) == (
        '{"emotion": "none", "faces": 0, "fps": 0, "temperature": null, '
        f'"problems": {json.dumps([reason])}, "model": "", "machine": "1a2b3c4d"}}'
    )


def test_the_messages_of_a_reading_and_an_event(tmp_path, log):
    log((testing.reading("happy", NOW),))
    log.event(EventKind.CAMERA_LOST, "no frame")
    log.commit()
    start = start_of(log.path)
    event, reading = Outbox(log.path, SingleReadings(), start).take()
    assert (event.kind, event.number, reading.kind, reading.number) == ("event", 1, "reading", 1)
    time = json.loads(event.text)["time"]
    assert event.text == (
        f'{{"id": "{start.log}-e1", "time": "{time}", "kind": "camera lost", "text": "no frame"}}'
    )
    assert reading.text == (
        f'{{"id": "{start.log}-r1", "time": "2023-11-14T22:13:20.000Z", "source": "", "position": null, "frame": 25500000000, '
        '"track": 1, "label": "happy", "confidence": 0.9, "quality": "good", "box": [10, 20, 60, 80], '
        '"scores": {"angry": 0.0167, "disgust": 0.0167, "fear": 0.0167, "happy": 0.9, "sad": 0.0167, '
        '"surprise": 0.0167, "neutral": 0.0167}, "model": "fake-1"}'
    )


def test_the_message_of_a_minute(tmp_path, log):
    for frame in range(4):
        labelled = testing.reading("happy", NOW + frame)
        blurred = testing.reading(None, NOW + frame, track=2, quality="blurred")
        log((labelled, blurred))
    log.commit()
    start = start_of(log.path)
    (minute,) = Outbox(log.path, MinuteSums(2), start, lambda: NOW + 600).take()
    assert (minute.kind, minute.number) == ("minute", 1_699_999_980)
    assert minute.text == (
        f'{{"id": "{start.log}-m1699999980", "time": "2023-11-14T22:13:00.000Z", "faces": 2, '
        '"face_seconds": 6.2, "shares": {"happy": 0.5, "none": 0.5}}'
    )


THREE = ("smile", "neutral", "eyes-closed")


def test_a_state_has_no_label_that_the_running_model_lacks(tmp_path, publisher, log):
    """As Home Assistant refuses it: of the model before are faces and the minute that has ended."""
    sums = publisher(aggregate=True, min_faces=1)
    sums.outbox.last_minute = MinuteSummary(0, {"sad": 9.0, "neutral": 2.0, "none": 1.0}, 1)
    faces = [json.loads(SERVICE)["faces"][0]]
    for labels, emotion in ((THREE, "neutral"), (("a", "b"), "none"), (LABELS, "sad"), ((), "sad")):
        status = json.loads(SERVICE) | {"labels": labels, "faces": faces}
        (tmp_path / "run" / status_file.NAME).write_text(json.dumps(status))
        assert sums.state()["emotion"] == emotion
    single = Publisher(PublishSettings(host="b"), log.path, tmp_path / "run", tmp_path)
    (tmp_path / "run" / status_file.NAME).write_text(json.dumps(status | {"labels": THREE}))
    assert single.state()["emotion"] == "none"


def test_the_messages_of_any_labels(tmp_path, log):
    log((testing.reading("smile", NOW, labels=THREE),))
    log.commit()
    start = start_of(log.path)
    (reading,) = Outbox(log.path, SingleReadings(), start).take()
    assert json.loads(reading.text)["scores"] == {
        "smile": 0.9,
        "neutral": 0.05,
        "eyes-closed": 0.05,
    }
    (minute,) = Outbox(log.path, MinuteSums(1), start, lambda: NOW + 600).take()
    assert json.loads(minute.text)["shares"] == {"smile": 1.0}


def test_the_shares_of_a_minute_are_of_the_running_models_labels_and_of_what_was_seen(
    tmp_path, publisher, log
):
    running = publisher()
    log((testing.reading("happy", NOW),))
    log((testing.reading("smile", NOW + 120, labels=THREE),))
    log.commit()
    running.outbox.look()
    status = tmp_path / "run" / status_file.NAME

    def shares(seconds):
        running.outbox.last_minute = MinuteSummary(0, seconds, 1)
        return running.report().shares

    status.write_text(json.dumps({"labels": LABELS}))
    assert shares({"happy": 1.0}) == dict.fromkeys((*LABELS, "none"), 0.0) | {"happy": 1.0}
    status.write_text(json.dumps({"labels": THREE}))
    both = ("happy", "neutral", "smile", "eyes-closed", "none")
    assert shares({"happy": 1.0}) == dict.fromkeys(both, 0.0) | {"happy": 1.0}
    three = ("neutral", "smile", "eyes-closed", "none")
    assert shares({"smile": 3.0}) == dict.fromkeys(three, 0.0) | {"smile": 1.0}
    status.unlink()
    assert set(shares({"smile": 3.0})) == {*LABELS, *THREE, "none"}, "those of the log"
