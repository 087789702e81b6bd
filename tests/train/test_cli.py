"""The command as users call it: names of every kind, one line per error, the same options everywhere."""

import json
import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
from helpers import ROOT
from mien_edge import files
from mien_train import cli
from mien_train.training.run import open_run

NAME = os.fsdecode(b"caf\xe9")


@pytest.fixture
def table(small, tmp_path):
    """The small fer2013.csv in a folder and under a name that are not UTF-8."""
    (tmp_path / NAME).mkdir()
    return shutil.copy(small, tmp_path / NAME / f"{NAME}.csv")


def test_data_pictures_and_pages_of_names_that_are_not_utf8(table, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache{NAME}"))
    for words in (
        ["data", "show", str(table), "--out", str(tmp_path / f"{NAME}.png")],
        ["data", "audit", str(table), "--html", str(tmp_path / f"{NAME}.html")],
    ):
        assert cli.main(words) == 0
    assert (tmp_path / f"{NAME}.png").read_bytes().startswith(b"\x89PNG")
    assert "html" in (tmp_path / f"{NAME}.html").read_text("utf-8")
    assert cli.main(["data", "show", str(tmp_path / f"none{NAME}.csv")]) == 1
    assert "nonecaf\\xe9.csv: no such file" in capsys.readouterr().err


def test_pictures_of_names_that_are_not_utf8_are_read(tmp_path):
    for label in ("angry", "happy"):
        (tmp_path / NAME / "train" / label).mkdir(parents=True)
        path = tmp_path / NAME / "train" / label / f"{NAME}.png"
        with files.utf8_path(path) as name:
            cv2.imwrite(name, np.zeros((48, 48), np.uint8))
    assert cli.main(["data", "show", str(tmp_path / NAME), "--out", str(tmp_path / "o.png")]) == 0


@pytest.mark.slow
def test_a_run_folder_of_such_a_name_trains_and_is_opened_again(table, tmp_path):
    folder = tmp_path / f"run{NAME}"
    words = ["fit", "tiny", "--data", str(table), "--folder", str(folder), "--epochs", "1"]
    assert cli.main(words) == 0
    assert list((folder / "fit" / "tensorboard").rglob("events*"))
    run = open_run(folder)
    assert len(run.dataset) == 364
    record = (folder / "run.json").read_bytes()
    assert json.loads(record)["data"]["path"] == str(table)
    assert record.isascii()


def test_audit_and_show_take_the_data_as_every_other_command_does(small, tmp_path, capsys):
    for words in (
        ["--data", str(small), "--json"],
        ["--json", "--data", str(small)],
        ["--json", str(small)],
    ):
        assert cli.main(["data", "audit", *words]) == 0
        assert json.loads(capsys.readouterr().out)["rows"] == 364
    words = ["data", "show", "--data", str(small), "--out", str(tmp_path / "o.png")]
    assert cli.main(words) == 0


def test_a_usage_error_shows_the_usage_of_the_command_that_was_typed(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["data", "audit", "--bogus"])
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("usage: mien-train data audit [-h]")
    assert lines[-1] == "mien-train data audit: error: unrecognized arguments: --bogus"


BLOCKED = """
import sys
for package in sys.argv[1].split(","):
    sys.modules[package] = None
from importlib import import_module
sys.exit(import_module(sys.argv[2]).main(sys.argv[3:]))
"""


@pytest.mark.parametrize(
    ("packages", "program", "words", "extra"),
    [
        ("tqdm,tensorflow,matplotlib,cv2", "mien_train.cli", ["--help"], "train"),
        ("tqdm,tensorflow,matplotlib,cv2", "mien_train.cli", ["fit", "tiny"], "train"),
        ("tensorflow", "mien_train.cli", ["report", "runs/edge"], "train"),
        ("cv2", "mien_edge.cli", ["run", "demo"], "edge"),
        ("paho", "mien_edge.cli", ["publish", "--state", "."], "edge"),
        ("aiohttp", "mien_edge.cli", ["view"], "edge"),
    ],
)  # fmt: skip
def test_a_missing_package_is_one_line_that_names_the_extra(
    tmp_path, packages, program, words, extra
):
    path = os.pathsep.join(str(ROOT / room) for room in ("edge", "train", "deploy"))
    command = [sys.executable, "-c", BLOCKED, packages, program, *words]
    environment = {**os.environ, "PYTHONPATH": path}
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.endswith(f"is not installed; pip install 'mien[{extra}]'")


def test_what_cannot_be_written_is_named_as_the_user_typed_it(small, tmp_path, capsys):
    (tmp_path / "file").touch()
    for name, reason in (
        ("file/o.png", "file: Not a directory"),
        ("", f"{tmp_path}: Is a directory"),
    ):
        assert cli.main(["data", "show", str(small), "--out", str(tmp_path / name)]) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.endswith(f"{reason}; put that right, and run it again")
