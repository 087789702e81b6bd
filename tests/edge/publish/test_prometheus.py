"""The metrics, as Prometheus reads them: names by its rules, each with one HELP and one TYPE."""

import shutil
import subprocess
from collections import Counter

import pytest
from helpers import ROOT
from mien_edge.publish.prometheus import Collector
from mien_edge.status.health import Health
from mien_edge.status.status_file import PublisherStatus, Status
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

SERVICE = Status(
    camera="ok",
    frames=1200,
    fps=15.0,
    stage_milliseconds={"detect": 3.0, "classify": 0.35},
    health=Health(temperature=61.5, throttled_now=("throttled",), available_megabytes=512.0),
    resident_megabytes=104.5,
)
PUBLISHER = PublisherStatus(
    broker="broker:1883",
    shares={"happy": 0.75, "none": 0.25},
    faces=2,
    waiting=7,
    refused=4,
    set_aside=3,
)

BASE_UNITS = ("seconds", "celsius", "bytes", "ratio")  # prometheus.io/docs/practices/naming
OTHER_UNITS = (
    "milliseconds",
    "ms",
    "minutes",
    "hours",
    "days",
    "fahrenheit",
    "megabytes",
    "mb",
    "percent",
)
WITHOUT_UNIT = {
    "mien_up",
    "mien_frames_total",
    "mien_frames_per_second",
    "mien_throttled",
    "mien_camera_lost",
    "mien_faces",
    "mien_entries_waiting",
    "mien_messages_refused_total",
    "mien_messages_set_aside_total",
}


def scrape(service=SERVICE, publisher=PUBLISHER):
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(lambda: service, lambda: publisher))
    return generate_latest(registry).decode()


@pytest.fixture
def families():
    return list(text_string_to_metric_families(scrape()))


def test_the_values_are_in_base_units():
    lines = scrape().splitlines()
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
        "mien_messages_refused_total 4.0",
        "mien_messages_set_aside_total 3.0",
    ):
        assert line in lines


def test_every_metric_has_one_help_and_one_type(families):
    lines = scrape().splitlines()
    names = {sample.name for family in families for sample in family.samples}
    for comment in ("HELP", "TYPE"):
        described = Counter(line.split()[2] for line in lines if line.startswith(f"# {comment} "))
        assert described == dict.fromkeys(names, 1)
    for family in families:
        assert family.documentation
        assert family.type in ("gauge", "counter")


def test_counters_and_only_counters_end_in_total(families):
    assert "counter" in {family.type for family in families}
    for family in families:
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter")


def test_names_end_in_the_base_unit_where_there_is_one(families):
    for family in families:
        for sample in family.samples:
            assert sample.name.endswith(BASE_UNITS) or sample.name in WITHOUT_UNIT
            assert not set(sample.name.split("_")) & set(OTHER_UNITS)


def test_every_metric_stands_in_the_documentation(families):
    table = (ROOT / "edge" / "README.md").read_text()
    for family in families:
        for sample in family.samples:
            assert f"`{sample.name}" in table


def test_without_a_service_it_is_down_and_the_publisher_is_there():
    lines = scrape(service=None).splitlines()
    assert "mien_up 0.0" in lines
    assert "mien_entries_waiting 7.0" in lines
    assert not any(line.startswith("mien_frames") for line in lines)


def test_what_a_machine_does_not_report_is_no_metric():
    lines = scrape(service=Status(camera="ok")).splitlines()
    assert not any(line.startswith(("mien_temperature", "mien_memory")) for line in lines)


def test_where_there_is_no_broker_nothing_is_said_of_one():
    page = scrape(publisher=PublisherStatus(shares={"happy": 1.0}, faces=1))
    assert 'mien_emotion_ratio{label="happy"} 1.0' in page
    assert "mien_entries_waiting" not in page
    assert "broker" not in page


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs Debian's prometheus: promtool")
@pytest.mark.parametrize("service", [SERVICE, Status(camera="lost"), None])
@pytest.mark.parametrize("publisher", [PUBLISHER, PublisherStatus()])
def test_promtool_takes_the_metrics(service, publisher):
    page = scrape(service, publisher)
    command = ["promtool", "check", "metrics"]
    check = subprocess.run(command, input=page, capture_output=True, text=True)
    assert (check.returncode, check.stdout, check.stderr) == (0, "", "")
