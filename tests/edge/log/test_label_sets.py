"""A log with readings of models that have different labels."""

import dataclasses
import os
import shutil
import sqlite3
from contextlib import closing

import pytest
from mien_edge import testing
from mien_edge.labels import LABELS
from mien_edge.log import database, distributions, reader
from mien_edge.log.reader import Filter
from mien_edge.log.writer import LogWriter
from mien_edge.settings import LogSettings

NOW = 1_800_000_000.0
THREE = ("smile", "neutral", "eyes-closed")
EIGHT = (*LABELS, "contempt")
PERMUTED = tuple(reversed(LABELS))


def reading(label, time, labels=LABELS, confidence=0.9):
    model = f"of-{len(labels)}"
    made = testing.reading(label, NOW + time, confidence=confidence, labels=labels)
    return dataclasses.replace(made, model=model)


def write(path, *readings):
    """The log with these readings, a frame each, in one run."""
    sink = LogWriter(path, LogSettings(max_days=3650))
    for one in readings:
        sink((one,))
    sink.close()
    return path


@pytest.fixture
def mixed(tmp_path):
    """A log that went from seven labels to three and back, each in a run of its own."""
    path = write(tmp_path / "log.db", reading("happy", 0), reading("neutral", 2))
    write(path, reading("smile", 60, THREE), reading("neutral", 62, THREE))
    return write(path, reading("sad", 120))


def query(path, text):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(text).fetchall()


def read_back(path, selection=None):
    with closing(reader.open_to_read(path)) as connection:
        return [one for _, one in reader.readings(connection, selection or Filter())]


@pytest.mark.parametrize("labels", [THREE, EIGHT, PERMUTED, ("1", "0"), ("label", "x", "id")])
def test_a_reading_of_any_labels_comes_back_with_its_labels_and_probabilities(tmp_path, labels):
    label = labels[-1]
    (copy,) = read_back(write(tmp_path / "log.db", reading(label, 0, labels)))
    assert copy.emotion.labels == labels
    assert copy.emotion.scores == pytest.approx(
        testing.emotion(label, 0.9, labels).scores, abs=1e-4
    )
    assert (copy.label, copy.emotion.label) == (label, label)


def test_a_log_that_goes_from_seven_labels_to_three_and_back_keeps_each_readings_own(mixed):
    copies = read_back(mixed)
    assert [copy.label for copy in copies] == ["happy", "neutral", "smile", "neutral", "sad"]
    assert [copy.emotion.labels for copy in copies] == [LABELS, LABELS, THREE, THREE, LABELS]
    assert all(copy.emotion.confidence == 0.9 for copy in copies)
    with closing(reader.open_to_read(mixed)) as connection:
        assert distributions.label_sets(connection) == [LABELS, THREE]
        assert distributions.all_labels(connection) == (*LABELS, "smile", "eyes-closed")


def test_a_log_of_the_seven_labels_takes_no_more_space_than_before(tmp_path):
    path = write(tmp_path / "log.db", reading("happy", 0), reading(None, 2))
    assert query(path, "SELECT COUNT(*) FROM scores") == [(0,)]
    assert query(path, "SELECT happy FROM readings") == [(9000,), (None,)]


def test_the_labels_of_a_span_are_those_of_the_models_that_ran_in_it(mixed):
    with closing(reader.open_to_read(mixed)) as connection:

        def labels(since, until):
            return distributions.labels_of_minutes(connection, NOW + since, NOW + until)

        assert labels(0, 60) == LABELS  # neutral is a label of both
        assert labels(0, 120) == (*LABELS, "smile", "eyes-closed")
        assert labels(60, 120) == ("neutral", "smile", "eyes-closed")
        assert labels(1000, 2000) == (*LABELS, "smile", "eyes-closed")  # nobody: all of the log


def test_a_mien_that_knows_seven_labels_only_goes_on_with_the_log_and_its_readings_are_read(mixed):
    row = database.reading_row(reading("fear", 200), 0.0)
    with closing(sqlite3.connect(mixed)) as connection:
        connection.execute("DELETE FROM label_sets WHERE labels LIKE '%angry%'")
        with connection:  # as it does: every column of readings, unnamed, and nothing beside it
            connection.execute(database.INSERT_READING, row)
    assert read_back(mixed)[-1].emotion.labels == LABELS
    with closing(reader.open_to_read(mixed)) as connection:
        assert set(distributions.all_labels(connection)) >= set(LABELS)
    # what it reads of the others: a label, and no probabilities rather than wrong ones
    columns = ", ".join(LABELS)
    rows = query(mixed, f"SELECT label, {columns} FROM readings WHERE model = 'of-3'")  # noqa: S608
    assert rows == [("smile", *[None] * 7), ("neutral", *[None] * 7)]


def test_what_is_deleted_takes_its_probabilities_along(mixed):
    with closing(sqlite3.connect(mixed)) as connection, connection:
        connection.execute("DELETE FROM readings")
    assert query(mixed, "SELECT COUNT(*) FROM scores") == [(0,)]


def test_only_minutes_are_kept_in_a_public_place_and_the_labels_are_known_all_the_same(tmp_path):
    sink = LogWriter(tmp_path / "log.db", LogSettings(max_days=3650), min_group=1)
    sink((reading("smile", 0, THREE),))
    sink.close()
    assert query(sink.path, "SELECT COUNT(*) FROM readings") == [(0,)]
    with closing(reader.open_to_read(sink.path)) as connection:
        assert distributions.labels_of_minutes(connection, 0.0, 1e12) == distributions.ordered(
            THREE
        )


def test_the_views_show_every_label_set(mixed):
    rows = query(mixed, "SELECT label, confidence, neutral, happy FROM view_readings ORDER BY id")
    assert rows[:3] == [
        ("happy", 0.9, pytest.approx(1 / 60, abs=1e-4), 0.9),
        ("neutral", 0.9, 0.9, pytest.approx(1 / 60, abs=1e-4)),
        ("smile", 0.9, 0.05, None),
    ]
    scores = query(
        mixed,
        "SELECT view_scores.label, probability FROM view_scores JOIN view_readings USING (id) "
        "WHERE model = 'of-3' ORDER BY id, probability DESC",
    )
    assert scores[0] == ("smile", 0.9)
    assert sorted(name for name, _ in scores) == sorted(2 * THREE)
    assert len(query(mixed, "SELECT * FROM view_scores")) == 3 * 7 + 2 * 3


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE scores SET scores = '[1, 2'",
        "UPDATE scores SET scores = '[1, 2]'",
        "UPDATE scores SET scores = '{}'",
        "UPDATE scores SET scores = x'00'",
        "UPDATE scores SET scores = '[\"a\", 1, 2]'",
        "UPDATE label_sets SET labels = '[[1], 2, 3]' WHERE label_set = 2",
        "DELETE FROM label_sets WHERE label_set = 2",
    ],
)
def test_probabilities_that_are_damaged_are_an_error_of_the_database(mixed, statement):
    with closing(sqlite3.connect(mixed)) as connection, connection:
        connection.execute(statement)
    with pytest.raises(sqlite3.DatabaseError, match="none"):
        read_back(mixed)


MOODS = ("happy", "sad", "happy")
OLD_SCHEMA = """
DROP VIEW view_scores; DROP VIEW view_readings;
DROP TRIGGER delete_scores; DROP TABLE scores; DROP TABLE label_sets;
"""


def test_a_kill_at_any_statement_of_the_first_start_with_an_old_log_loses_nothing(tmp_path):
    old = write(tmp_path / "old.db", *[reading(label, 0) for label in MOODS])
    with closing(sqlite3.connect(old)) as connection:
        connection.executescript(OLD_SCHEMA)
        connection.execute("PRAGMA journal_mode=DELETE")
    kills = 0
    for statements in range(1, 200):
        path = tmp_path / f"{statements}.db"
        shutil.copy(old, path)
        child = os.fork()
        if child == 0:
            _open_and_die(path, statements)
        was_killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        kills += was_killed
        assert [copy.label for copy in read_back(path)] == list(MOODS)
        write(path, reading("smile", 60, THREE))
        copies = read_back(path)
        assert [copy.emotion.labels for copy in copies] == [LABELS] * 3 + [THREE]
        assert len(query(path, "SELECT * FROM view_scores")) == 3 * 7 + 3
        if not was_killed:
            break
    assert kills > 15


def _open_and_die(path, statements):
    """Open a log as a start does, and end the process with its nth statement."""
    connect = sqlite3.connect
    count = iter(range(statements))

    def trace(_statement):
        if next(count, None) is None:
            os._exit(9)

    def traced(*arguments, **options):
        connection = connect(*arguments, **options)
        connection.set_trace_callback(trace)
        return connection

    sqlite3.connect = traced
    try:
        LogWriter(path, LogSettings(max_days=3650))
    finally:
        os._exit(0)
