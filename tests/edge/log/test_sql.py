"""The log for programs that read it with SQL: its documented schema, and its views in natural units."""

import dataclasses
import re
import sqlite3

import pytest
from helpers import ROOT
from mien_edge import testing
from mien_edge.events import EventKind
from mien_edge.labels import LABELS
from mien_edge.log import reader
from mien_edge.log.database import VERSION, open_database
from mien_edge.log.writer import LogWriter
from mien_edge.settings import LogSettings

PAGE = (ROOT / "edge" / "mien_edge" / "log" / "README.md").read_text()
NOON = 1_800_000_000.5
HAPPY = dataclasses.replace(testing.reading("happy", NOON), source="clip.mp4", position=4.96)
BLURRED = testing.reading(None, NOON + 1, track=2, quality="blurred")


@pytest.fixture
def log(tmp_path):
    """A log with two readings and an event, opened with nothing but SQLite."""
    writer = LogWriter(tmp_path / "log", LogSettings())
    writer((HAPPY,))
    writer((BLURRED,))
    writer.event(EventKind.CAMERA_LOST, "v4l2:0: unplugged")
    writer.close()
    connection = sqlite3.connect(tmp_path / "log")
    connection.row_factory = sqlite3.Row
    yield connection
    connection.close()


def documented():
    """Each column's table, name and type, in the order of the page."""
    rows = []
    for section in PAGE.split("\n### ")[1:]:
        table = section.partition("`")[2].partition("`")[0]
        rows += [
            (table, *cells) for cells in re.findall(r"^\| `(\w+)` \| ([A-Z]+) \|", section, re.M)
        ]
    return rows


def test_the_page_names_every_table_view_column_and_type_and_no_others(log):
    query = (
        "SELECT entry.name, field.name, field.type, entry.type AS kind FROM sqlite_master AS entry, "
        "pragma_table_info(entry.name) AS field WHERE entry.type IN ('table', 'view') "
    )
    schema = log.execute(query).fetchall()
    columns = [(table, column) for table, column, _, _ in schema]
    assert sorted(columns) == sorted((table, column) for table, column, _ in documented())
    types = {(table, column, kind) for table, column, kind, entry in schema if entry == "table"}
    assert types <= set(documented())
    assert f"`PRAGMA user_version` is {VERSION}" in PAGE


def test_values_of_the_views_have_the_types_that_the_page_says(log):
    names = {"TEXT": str, "INTEGER": int, "REAL": float}
    for view in ("view_readings", "view_scores", "view_events", "view_minutes"):
        rows = log.execute(f"SELECT * FROM {view}").fetchall()  # noqa: S608
        assert rows
        for table, column, kind in documented():
            if table == view:
                values = [row[column] for row in rows if row[column] is not None]
                assert {type(value) for value in values} <= {names[kind]}, column


def test_views_are_in_iso_times_seconds_probabilities_and_names(log):
    happy, blurred = log.execute("SELECT * FROM view_readings ORDER BY id").fetchall()
    assert happy["time"] == "2027-01-15T08:00:00.500Z"
    assert (happy["source"], happy["position"], happy["label"]) == ("clip.mp4", 4.96, "happy")
    assert happy["confidence"] == happy["happy"] == 0.9
    assert sum(happy[label] for label in LABELS) == pytest.approx(1, abs=1e-3)
    absent = ("source", "position", "label", "confidence", "happy")
    assert [blurred[column] for column in absent] == [None] * 5
    (event,) = log.execute("SELECT * FROM view_events WHERE kind = 'camera lost'")
    assert event["text"] == "v4l2:0: unplugged"
    minutes = log.execute("SELECT * FROM view_minutes WHERE label = 'all faces'").fetchall()
    assert {(row["time"], row["faces"]) for row in minutes} == {("2027-01-15T08:00:00.000Z", 1)}
    assert {row["source"] for row in minutes} == {None, "clip.mp4"}


def test_every_query_of_the_page_runs(log):
    queries = re.findall(r"```sql\n(.*?)```", PAGE, re.S)
    statements = [text for block in queries for text in block.split(";") if text.strip()]
    assert len(statements) == 6
    rows = [log.execute(statement).fetchall() for statement in statements]
    assert [len(found) for found in rows[:5]] == [0, 1, 3, 1, 7]


def test_the_version_before_goes_on_with_a_log_that_has_views_and_the_views_show_its_rows(log):
    columns = len(log.execute("SELECT * FROM readings LIMIT 1").fetchone())
    places = ", ".join("?" * (columns - 1))
    row = [NOON, 1.0, "", 7, 1, "sad", "good", 1, 2, 3, 4, *[0] * 6, 10_000, "old-1"]
    log.execute("CREATE TABLE IF NOT EXISTS readings (id INTEGER PRIMARY KEY)")
    log.execute(f"INSERT INTO readings VALUES (99, {places})", row)  # noqa: S608
    (old,) = log.execute("SELECT * FROM view_readings WHERE model = 'old-1'")
    assert (old["label"], old["neutral"], old["position"]) == ("sad", 1.0, None)


def test_a_log_without_views_gets_them_and_those_of_another_version_are_replaced(tmp_path):
    connection = open_database(tmp_path / "log")
    connection.execute("DROP VIEW view_minutes")
    connection.execute("DROP VIEW view_events")
    connection.execute("CREATE VIEW view_events AS SELECT 1 AS other")
    connection.close()
    with reader.open_to_read(tmp_path / "log") as connection:
        assert list(reader.readings(connection, reader.Filter())) == []
    connection = open_database(tmp_path / "log")
    before = connection.execute("PRAGMA schema_version").fetchone()
    assert connection.execute("SELECT kind FROM view_minutes, view_events").fetchall() == []
    connection.close()
    connection = open_database(tmp_path / "log")
    assert connection.execute("PRAGMA schema_version").fetchone() == before
    connection.close()
