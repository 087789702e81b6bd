"""What `bench` says of a busy machine."""

import os

from mien_edge.service import benchmark


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
