"""A log with readings of models that have different labels."""

import csv
import dataclasses
import json
import os
import shutil
import sqlite3
from contextlib import closing

import pytest
from mien_edge import cli, drawing, testing
from mien_edge.labels import LABELS
from mien_edge.log import database, distributions, plot, reader, show
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
        assert labels(1000, 2000) == ()
        assert distributions.noted_labels(connection) == (*LABELS, "smile", "eyes-closed")


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
    schemas = set()
    for statements in range(1, 200):
        path = tmp_path / f"{statements}.db"
        shutil.copy(old, path)
        child = os.fork()
        if child == 0:
            _open_and_die(path, statements)
        was_killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        assert [copy.label for copy in read_back(path)] == list(MOODS)
        schema = tuple(query(path, "SELECT sql FROM sqlite_master ORDER BY name"))
        if schema not in schemas:
            schemas.add(schema)
            write(path, reading("smile", 60, THREE))
            copies = read_back(path)
            assert [copy.emotion.labels for copy in copies] == [LABELS] * 3 + [THREE]
            assert len(query(path, "SELECT * FROM view_scores")) == 3 * 7 + 3
        if not was_killed:
            break
        kills += 1
    assert kills > 15
    assert len(schemas) > 2


def _open_and_die(path, statements):
    """Open a log as a start does, and end the process with the nth statement that may write."""
    connect = sqlite3.connect
    count = iter(range(statements))

    def trace(statement):
        writes = not statement.startswith(("PRAGMA", "SELECT"))
        if writes and next(count, None) is None:
            os._exit(9)

    def traced(*arguments, **options):
        connection = connect(*arguments, **options)
        connection.set_trace_callback(trace)
        return connection

    sqlite3.connect = traced
    try:
        database.open_database(path)
    finally:
        os._exit(0)


def summary_lines(path, since=0.0, until=1e12):
    hours = show.summary(path, Filter(since=since, until=until))
    return list(show.summary_lines(hours))


def test_the_summary_has_a_letter_for_each_label_of_the_models_that_ran(mixed):
    legend, bar = summary_lines(mixed)
    assert legend == (
        "A angry  D disgust  F fear  H happy  S sad  U surprise  N neutral  "
        "M smile  E eyes-closed  . no label"
    )
    assert {"H", "N", "M", "S"} <= set(bar)
    assert summary_lines(mixed, NOW + 60, NOW + 120)[0] == (
        "N neutral  S smile  E eyes-closed  . no label"
    )


def test_a_summary_of_a_time_without_faces_says_so(mixed):
    assert summary_lines(mixed, 0.0, 1.0) == ["no face in that time"]


def test_seven_labels_have_the_letters_and_the_legend_that_they_had(tmp_path):
    path = write(tmp_path / "log.db", reading("happy", 0))
    legend, _ = summary_lines(path)
    assert legend == (
        "A angry  D disgust  F fear  H happy  S sad  U surprise  N neutral  . no label"
    )
    (hour,) = show.summary(path, Filter())
    assert list(hour.shares) == [*LABELS, "none"]


def test_more_labels_than_letters_still_have_a_summary_and_a_chart_with_room_for_all(tmp_path):
    runs = [tuple(f"label-{run}-{index:x}" for index in range(16)) for run in range(5)]
    path = tmp_path / "log.db"
    for number, labels in enumerate(runs):
        write(path, reading(labels[number], 60 * number, labels))
    legend, bar = summary_lines(path)
    assert legend.count("label-") == 80
    assert len(bar.split()[2]) == 40
    chart = plot.chart(show.summary(path, Filter()))
    assert len(chart.legend) == 81
    assert max(box.bottom for box in chart.legend) < chart.height
    names = [text for text in chart.texts if text.text.startswith("label-")]
    assert all(text.x + 9 * len(text.text) <= chart.width for text in names)
    assert drawing.draw_chart(chart).shape[:2] == (chart.height, chart.width)


def csv_rows(path):
    return list(csv.DictReader(show.lines(path, Filter(), "csv")))


def test_csv_of_a_mixed_log_has_a_column_per_label_and_empty_cells_for_those_a_model_lacks(mixed):
    rows = csv_rows(mixed)
    assert [row["label"] for row in rows] == ["happy", "neutral", "smile", "neutral", "sad"]
    assert [row["smile"] for row in rows] == ["", "", "0.9", "0.05", ""]
    assert [row["happy"] for row in rows][::2] == ["0.9", "", "0.0167"]
    assert rows[3]["neutral"] == "0.9"


def test_json_of_a_mixed_log_has_each_readings_own_labels(mixed):
    records = [json.loads(line) for line in show.lines(mixed, Filter(), "json")]
    assert [tuple(record["scores"]) for record in records] == [LABELS, LABELS, THREE, THREE, LABELS]


def test_following_as_csv_prints_a_header_again_when_a_model_with_other_labels_comes(tmp_path):
    path = write(tmp_path / "log.db", reading("happy", 0))
    lines = show.follow(path, Filter(since=1.0), "csv", pause=0.01)
    before = next(lines)
    assert before.endswith(",neutral,model")
    assert ",happy," in next(lines)
    write(path, reading("smile", 60, THREE))
    assert next(lines).endswith(",neutral,smile,eyes-closed,model")
    assert ",smile," in next(lines)


@pytest.mark.parametrize("label", ["smile", "eyes-closed", "angry"])
def test_logs_take_any_label_that_a_model_of_the_log_has(mixed, capsys, label):
    assert cli.main(["logs", "--log", str(mixed), "--emotion", label, "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == (label == "smile")


def test_logs_say_which_labels_there_are_for_one_that_there_is_not(mixed, capsys):
    assert cli.main(["logs", "--log", str(mixed), "--emotion", "smiling"]) == 1
    error = capsys.readouterr().err
    assert "--emotion 'smiling' is no label in" in error
    assert error.endswith(
        "choose one of angry, disgust, fear, happy, sad, surprise, neutral, smile, eyes-closed\n"
    )


def test_runs_of_bundles_with_seven_three_eight_and_seven_labels_fill_one_log(
    bundle, three_labels, eight_labels, tmp_path, capsys
):
    log = ["--log", str(tmp_path / "log.db")]
    csv_file = tmp_path / "readings.csv"
    (tmp_path / "mien.toml").write_text(f'[sinks]\ncsv = "{csv_file}"\n[source]\nuri = "demo"\n')
    settings = ["--settings", str(tmp_path / "mien.toml")]
    order = (bundle, three_labels, eight_labels, bundle)
    for each in order:
        options = ["--max-frames", "4", "--quiet", "--model", str(each.folder), *log, *settings]
        assert cli.main(["run", *options]) == 0
    copies = read_back(tmp_path / "log.db")
    assert {copy.model: copy.emotion.labels for copy in copies if copy.emotion} == {
        each.card.id: each.card.labels for each in order
    }
    files = [*(tmp_path / f"readings.csv.{number}" for number in (3, 2, 1)), csv_file]
    columns = [file.read_text().partition("\n")[0].split(",")[12:-1] for file in files]
    assert columns == [list(distributions.ordered(each.card.labels)) for each in order]
    capsys.readouterr()
    assert cli.main(["logs", *log, "--csv"]) == 0
    (header, *rows) = csv.reader(capsys.readouterr().out.splitlines())
    assert header[12:-1] == [*LABELS, "happiness", "sadness", "other", "contempt"]
    assert len(rows) == len(copies)
    assert cli.main(["logs", *log, "--summary"]) == 0
    legend = capsys.readouterr().out.splitlines()[0]
    assert legend.endswith("N neutral  C contempt  P happiness  E sadness  O other  . no label")
