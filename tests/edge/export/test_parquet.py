"""Parquet: typed, streamed in whole parts, and clear where pyarrow is missing."""

import dataclasses
import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from mien_edge import testing
from mien_edge.errors import RuntimeMissingError, SinkError
from mien_edge.export import exports, parquet
from mien_edge.export.textfile import Existing
from mien_edge.formats import columns
from mien_edge.labels import LABELS
from mien_edge.log.writer import LogWriter
from mien_edge.settings import LogSettings

HAPPY = dataclasses.replace(testing.reading("happy", 1.5), source="clip.mp4", position=4.96)
BLURRED = testing.reading(None, 2.0, track=2, quality="blurred")


@pytest.fixture
def arrow():
    """pyarrow.parquet, to read back with."""
    return pytest.importorskip("pyarrow.parquet", reason="needs pyarrow, the extra parquet")


def test_readings_become_typed_rows(tmp_path, arrow):
    sink = parquet.Parquet(tmp_path / "r.parquet", Existing.REFUSE)
    sink((HAPPY, BLURRED))
    sink(())
    sink.close()
    table = arrow.read_table(tmp_path / "r.parquet")
    assert tuple(table.column_names) == columns()
    first, second = table.to_pylist()
    assert first["time"] == datetime.fromtimestamp(1.5, UTC)
    assert (first["source"], first["position"], first["label"]) == ("clip.mp4", 4.96, "happy")
    assert first["happy"] == pytest.approx(0.9)
    assert [second[name] for name in ("position", "label", "confidence", "happy")] == [None] * 4
    assert (second["track"], second["quality"], second["width"]) == (2, "blurred", 60)
    assert [path.name for path in tmp_path.iterdir()] == ["r.parquet"]


def test_a_name_that_is_not_utf8_is_written_to(tmp_path, arrow):
    path = tmp_path / os.fsdecode(b"caf\xe9.parquet")
    sink = parquet.Parquet(path, Existing.REFUSE)
    sink((HAPPY,))
    sink.close()
    with path.open("rb") as file:
        assert arrow.read_table(file).num_rows == 1


def test_no_reading_is_an_empty_table_with_its_columns(tmp_path, arrow):
    parquet.Parquet(tmp_path / "new" / "r.parquet", Existing.REFUSE).close()
    assert tuple(arrow.read_table(tmp_path / "new" / "r.parquet").column_names) == columns()


def test_labels_that_come_with_another_model_get_columns_beside_those_before(tmp_path, arrow):
    labels = ("x", "label", "happy")
    sink = parquet.Parquet(tmp_path / "r.parquet", Existing.REFUSE, lambda: 0.0)
    for _ in range(5000):
        sink((HAPPY,))
    sink((testing.reading("x", 2.0, labels=labels),))
    sink.close()
    table = arrow.read_table(tmp_path / "r.parquet")
    assert tuple(table.column_names) == columns((*LABELS, "x", "label"))
    last = table.slice(5000).to_pylist()[0]
    assert (last["label"], last["x"], last["sad"]) == ("x", 10, None)
    assert last["scores.x"] == pytest.approx(0.9)
    assert last["scores.label"] == last["happy"] == pytest.approx(0.05)
    first = table.slice(0, 1).to_pylist()[0]
    assert (first["happy"], first["scores.x"]) == (pytest.approx(0.9), None)


def test_a_kill_leaves_whole_parts_and_the_next_run_names_them(tmp_path, arrow):
    now = [0.0]
    killed = parquet.Parquet(tmp_path / "r.parquet", Existing.REFUSE, lambda: now[0])
    for index in range(9000):
        killed((dataclasses.replace(HAPPY, frame=index),))
    now[0] = 11.0
    killed((dataclasses.replace(HAPPY, frame=9000),))
    killed((dataclasses.replace(HAPPY, frame=9001),))
    parts = arrow.read_table(tmp_path / "r.parquet.parts")
    assert parts["frame"].to_pylist() == list(range(9001))
    assert not (tmp_path / "r.parquet").exists()
    for existing in Existing:
        with pytest.raises(
            SinkError, match=r"r\.parquet\.parts: readings of a run .* move it away"
        ):
            parquet.Parquet(tmp_path / "r.parquet", existing)
    killed.close()
    table = arrow.read_table(tmp_path / "r.parquet")
    assert table["frame"].to_pylist() == list(range(9002))
    assert arrow.ParquetFile(tmp_path / "r.parquet").num_row_groups == 1


def test_a_full_disk_is_told_with_where_the_readings_are(tmp_path, arrow, monkeypatch):
    sink = parquet.Parquet(tmp_path / "r.parquet", Existing.REFUSE)
    sink((HAPPY,))
    monkeypatch.setattr(sink, "_row_groups", full)
    with pytest.raises(
        SinkError, match=r"No space left .* what was written before is in .*r\.parquet\.parts"
    ):
        sink.close()
    assert [path.name for path in tmp_path.iterdir()] == ["r.parquet.parts"]
    assert arrow.read_table(tmp_path / "r.parquet.parts").num_rows == 1


def test_a_table_that_another_run_writes_is_left_alone(tmp_path, arrow):
    sink = parquet.Parquet(tmp_path / "r.parquet", Existing.REFUSE)
    with pytest.raises(SinkError, match=r"r\.parquet: another run writes it"):
        parquet.Parquet(tmp_path / "r.parquet", Existing.REFUSE)
    sink.close()
    assert [path.name for path in tmp_path.iterdir()] == ["r.parquet"]


def full():
    raise OSError(28, "No space left on device")


def test_without_pyarrow_one_line_says_what_to_install_before_anything_is_opened(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(parquet, "find_spec", lambda name: None)
    export = exports.Export.by_suffix(tmp_path / "r.parquet")
    with pytest.raises(RuntimeMissingError, match=r"r\.parquet: pyarrow .*'mien\[parquet\]'"):
        exports.check([export], Existing.REFUSE)


def test_the_log_is_exported_to_a_table_and_not_to_subtitles(tmp_path):
    log = LogWriter(tmp_path / "log", LogSettings())
    log((HAPPY, BLURRED))
    log.close()
    command = [sys.executable, "-m", "mien_edge", "logs", "--log", tmp_path / "log", "--export"]

    def logs(*options):
        result = subprocess.run([*command, *options], capture_output=True, text=True)
        return result.returncode, (result.stdout + result.stderr).strip()

    path = tmp_path / "r.csv"
    assert logs(path, "--emotion", "happy") == (0, f"exported: 1 readings to {path}")
    assert ",clip.mp4,4.960," in path.read_text()
    assert "is there already" in logs(path)[1]
    assert logs(path, "--overwrite") == (0, f"exported: 2 readings to {path}")
    code, message = logs(tmp_path / "r.vtt")
    assert (code, "mien-edge run clip.mp4 --export FILE" in message) == (1, True)
