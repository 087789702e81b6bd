"""What `mien-edge logs` and `status` say of what does not fit."""

import pytest
from mien_edge import cli, testing
from mien_edge.events import EventKind
from mien_edge.log.writer import LogWriter
from mien_edge.settings import LogSettings


@pytest.fixture
def log(tmp_path):
    """A log with a reading, an event, and one of a kind of another version."""
    writer = LogWriter(tmp_path / "log.db", LogSettings())
    writer((testing.reading("happy", 0.0),))
    writer.event(EventKind.START, "demo")
    writer.event("lens cleaned", "by hand")
    writer.close()
    return writer.path


def test_an_unknown_kind_is_an_error_that_lists_the_known_ones(log, capsys):
    assert cli.main(["logs", "--log", str(log), "--kind", "nonsense"]) == 1
    error = capsys.readouterr().err
    assert "--kind 'nonsense' is no kind of entry; choose one of camera back, camera lost" in error
    assert "event" in error
    assert "lens cleaned" in error
    assert "reading" in error


@pytest.mark.parametrize("kind", ["reading", "event", "start", "camera lost", "lens cleaned"])
def test_a_known_kind_is_printed_or_nothing_where_there_is_none(log, capsys, kind):
    assert cli.main(["logs", "--log", str(log), "--kind", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == {"reading": 1, "event": 2, "camera lost": 0}.get(kind, 1)
