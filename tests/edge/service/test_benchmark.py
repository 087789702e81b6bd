"""What `bench` says of a busy machine."""

import os

import pytest
from mien_edge.service import benchmark
from mien_edge.service.scenes import scenes
from mien_edge.settings import Settings


def test_a_busy_machine_is_named_as_the_reason_not_to_trust_the_wall_clock():
    waiting = benchmark._busy(0.1, wall_seconds=2.0, cpu_seconds=1.0)
    assert waiting == "the chain waited for the processor 50% of the time"
    loaded = benchmark._busy(2.4, wall_seconds=1.0, cpu_seconds=1.0)
    assert loaded == "2.4 processes a core wanted to run in the minute before"


def test_nothing_is_said_of_an_idle_machine():
    assert benchmark._busy(0.1, wall_seconds=1.05, cpu_seconds=1.0) == ""


def test_the_load_is_counted_for_each_core(monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (6.0, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert benchmark._load() == 1.5


@pytest.mark.parametrize("scene", ["moving face", "several faces", "empty room"])
def test_the_parts_of_a_round_add_up_to_its_time(bundle, scene):
    meter = benchmark._Meter(Settings(), bundle, scenes()[scene])
    meter.warm_up(1)
    meter.measure(8)
    (row,) = meter._rounds
    parts = [row[part] for part in benchmark.PARTS]
    assert sum(parts) == pytest.approx(row["total"])
    assert row["detector"] > 0
    result = meter.result()
    assert 0 < result["looks"] <= 1
    assert set(result["milliseconds"]) == {"total", *benchmark.PARTS}


def test_a_scene_is_the_same_at_each_run_and_never_the_same_picture_twice():
    first = scenes()["still face"]
    second = scenes()["still face"]
    picture = first(0.0)
    assert (picture == second(0.0)).all()
    assert (picture != first(0.0)).any()
