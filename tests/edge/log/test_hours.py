"""Local times: dates, zones with half and quarter hours, and hours that a change of the clock doubles or cuts."""

import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mien_edge import formats, testing
from mien_edge.labels import LABELS
from mien_edge.log import plot, show
from mien_edge.log.database import INSERT_MINUTE
from mien_edge.log.reader import Filter
from mien_edge.log.writer import LogWriter
from mien_edge.settings import LogSettings


@pytest.fixture
def zone(monkeypatch):
    """Set the local zone."""

    def set_zone(name):
        if not Path("/usr/share/zoneinfo", name).exists():
            pytest.skip("tzdata is not installed")
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_zone
    monkeypatch.undo()
    time.tzset()


def seconds(text):
    """Seconds since 1970 of a time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def log_of_minutes(path, first, count):
    """A log with a happy face in each of `count` minutes from `first` (UTC) on."""
    LogWriter(path, LogSettings()).close()
    start = seconds(first)
    with sqlite3.connect(path) as connection:
        for index in range(count):
            for label in ("happy", ""):
                connection.execute(INSERT_MINUTE, (1, start + 60 * index, label, 60.0, 1))
    return path


def summary_of(path):
    """(the time as it is printed, face-minutes) of each hour."""
    lines = list(show.summary_lines(show.summary(path, Filter())))
    return [
        (line.split("  ")[0], float(line.split(" face-minutes")[0].split()[-1]))
        for line in lines[1:]
    ]


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [("Asia/Kolkata", "05:00", "07:00"), ("Asia/Kathmandu", "05:00", "07:00")],
)
def test_hours_are_those_of_the_local_clock(tmp_path, zone, name, first, last):
    zone(name)
    log = log_of_minutes(tmp_path / "log.db", "2026-10-25T00:00", 120)
    hours = summary_of(log)
    offset = {"Asia/Kolkata": 30, "Asia/Kathmandu": 45}[name]
    assert hours == [
        (f"2026-10-25 {first}", 60.0 - offset),
        ("2026-10-25 06:00", 60.0),
        (f"2026-10-25 {last}", float(offset)),
    ]


def test_json_names_the_start_of_a_local_hour_in_utc(tmp_path, zone):
    zone("Asia/Kathmandu")
    log = log_of_minutes(tmp_path / "log.db", "2026-10-25T00:00", 60)
    hours = [hour.hour for hour in show.summary(log, Filter())]
    assert hours == ["2026-10-24T23:15:00.000Z", "2026-10-25T00:15:00.000Z"]


def test_an_hour_that_the_clock_shows_twice_is_two_hours_told_apart_by_the_offset(tmp_path, zone):
    zone("Europe/Berlin")
    log = log_of_minutes(tmp_path / "log.db", "2026-10-24T23:00", 240)
    assert summary_of(log) == [
        ("2026-10-25 01:00", 60.0),
        ("2026-10-25 02:00+02:00", 60.0),
        ("2026-10-25 02:00+01:00", 60.0),
        ("2026-10-25 03:00", 60.0),
    ]


def test_an_hour_that_the_clock_leaves_out_is_not_there(tmp_path, zone):
    zone("Europe/Berlin")
    log = log_of_minutes(tmp_path / "log.db", "2026-03-29T00:00", 120)
    assert summary_of(log) == [("2026-03-29 01:00", 60.0), ("2026-03-29 03:00", 60.0)]


def test_half_an_hour_that_the_clock_shows_twice_begins_at_the_change(tmp_path, zone):
    zone("Australia/Lord_Howe")
    log = log_of_minutes(tmp_path / "log.db", "2026-04-04T14:00", 150)
    assert summary_of(log) == [
        ("2026-04-05 01:00", 60.0),
        ("2026-04-05 01:30+10:30", 30.0),
        ("2026-04-05 02:00", 60.0),
    ]


def test_each_line_has_its_date_over_midnight_and_its_offset_where_it_is_needed(tmp_path, zone):
    zone("Europe/Berlin")
    log = LogWriter(tmp_path / "log.db", LogSettings(max_days=3650, heartbeat_interval=0.0))
    for text in (
        "2026-01-31T22:59:59",
        "2026-01-31T23:00:01",
        "2026-10-25T00:30",
        "2026-10-25T01:30",
    ):
        log((testing.reading("happy", seconds(text)),))
    log.close()
    lines = list(show.lines(tmp_path / "log.db", Filter(), "text"))
    assert [line.split("  ")[0] for line in lines] == [
        "2026-01-31 23:59:59",
        "2026-02-01 00:00:01",
        "2026-10-25 02:30:00+02:00",
        "2026-10-25 02:30:00+01:00",
    ]


def test_a_time_that_logs_prints_may_be_given_to_since(zone):
    for name in ("Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "UTC"):
        zone(name)
        for hour in range(24):
            moment = seconds("2026-10-24T22:30") + 3600 * hour
            assert show.moment(formats.local_time(moment), 0.0) == moment


def test_the_chart_has_local_hours_below_and_both_of_an_hour_that_comes_twice(zone):
    zone("Asia/Kolkata")
    share = dict.fromkeys((*LABELS, "none"), 0.0) | {"happy": 1.0}

    def texts(first, count):
        hours = [
            show.HourSummary(formats.iso(seconds(first) + 3600 * index), 4.0, 1, share)
            for index in range(count)
        ]
        chart = plot.chart(hours)
        assert len({bar.left for bar in chart.bars}) == count
        return [text.text for text in chart.texts if text.text.endswith("h") or "UTC" in text.text]

    assert texts("2026-10-24T22:30", 3) == ["04h", "05h", "06h"]
    zone("Europe/Berlin")
    assert texts("2026-10-24T23:00", 4) == ["01h", "02h", "UTC+01:00", "02h", "03h"]
