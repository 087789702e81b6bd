"""What the training room's tests share."""

import fcntl
import os
import subprocess
import sys

import pytest
from small_data import rows, write_csv, write_votes

TRAIN = [sys.executable, "-c", "import sys; from mien_train.cli import script; sys.exit(script())"]


@pytest.fixture(scope="session")
def once(tmp_path_factory, worker_id):
    """`once(name, make)`: a folder of that name that `make(folder)` fills, once for all of pytest-xdist's workers."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent

    def fill_once(name, make):
        folder = shared / name
        finished = shared / f"{name}-finished"
        with (shared / f"{name}-lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not finished.exists():
                folder.mkdir(exist_ok=True)
                make(folder)
                finished.touch()
        return folder

    return fill_once


@pytest.fixture(scope="session")
def small(once):
    """fer2013.csv with 40 Training, 8 PublicTest and 4 PrivateTest rows per label."""

    def make(folder):
        entries = rows({"Training": 40, "PublicTest": 8, "PrivateTest": 4})
        write_csv(folder / "fer2013.csv", entries)

    return once("small", make) / "fer2013.csv"


@pytest.fixture(scope="session")
def voted(tmp_path_factory):
    """The same with FER+ votes beside it."""
    folder = tmp_path_factory.mktemp("voted")
    entries = list(rows({"Training": 40, "PublicTest": 8, "PrivateTest": 4}))
    write_votes(folder / "fer2013new.csv", entries)
    return write_csv(folder / "fer2013.csv", entries)


@pytest.fixture(scope="session")
def tiny_run(small, once):
    """The folder of a finished run of the tiny recipe; a test that changes it works on a copy."""

    def make(folder):
        environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
        command = [*TRAIN, "run", "tiny", "--data", str(small), "--folder", str(folder / "tiny")]
        process = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert process.returncode == 0, process.stderr[-3000:]
        (folder / "stdout.txt").write_text(process.stdout)
        (folder / "stderr.txt").write_text(process.stderr)

    return once("runs", make) / "tiny"
