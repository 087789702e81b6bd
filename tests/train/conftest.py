"""What the training room's tests share."""

import os
import subprocess
import sys

import pytest
from small_data import rows, write_csv, write_votes

TRAIN = [sys.executable, "-c", "import sys; from mien_train.cli import main; sys.exit(main())"]


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """fer2013.csv with 40 Training, 8 PublicTest and 4 PrivateTest rows per label."""
    folder = tmp_path_factory.mktemp("data")
    return write_csv(folder / "fer2013.csv", rows({"Training": 40, "PublicTest": 8, "PrivateTest": 4}))


@pytest.fixture(scope="session")
def voted(tmp_path_factory):
    """The same with FER+ votes beside it."""
    folder = tmp_path_factory.mktemp("voted")
    entries = list(rows({"Training": 40, "PublicTest": 8, "PrivateTest": 4}))
    write_votes(folder / "fer2013new.csv", entries)
    return write_csv(folder / "fer2013.csv", entries)


@pytest.fixture(scope="session")
def tiny_run(small, tmp_path_factory):
    """The folder of a finished run of the tiny recipe; a test that changes it works on a copy."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder.parent / "cache")}
    command = [*TRAIN, "run", "tiny", "--data", str(small), "--folder", str(folder)]
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert process.returncode == 0, process.stderr[-3000:]
    return folder
