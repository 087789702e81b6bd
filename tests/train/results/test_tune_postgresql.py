"""A study in a real PostgreSQL: two processes, one killed; what goes wrong is one line, without the password."""

import glob
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

import optuna
import pytest
from helpers import until
from mien_edge.errors import RunError
from mien_train import cli
from mien_train.results import tune, tune_storage
from mien_train.training.recipes import EDGE_FRESH
from optuna.trial import TrialState

PATIENCE = 600  # seconds; it only ends a test that would wait for ever
PASSWORD = "s3cr3t/{}@word"  # noqa: S105 - of a test
USER = "mien"
NUMBERS = itertools.count()

WORKER = """
import json, sys, time
from pathlib import Path
from mien_edge import files
from mien_train import cli
from mien_train.results import tune

class Network:  # its training is as long as the test wants
    def __init__(self, folder):
        self.path = folder / "history.json"
    def train(self, max_epochs):
        history = json.loads(self.path.read_text()) if self.path.exists() else []
        while len(history) < max_epochs:
            history.append({"epoch": len(history) + 1, "val_accuracy": 0.5 + len(history) / 100})
            files.write_text(self.path, json.dumps(history))
            while Path(sys.argv[1]).exists():
                time.sleep(0.01)
        return history

tune._trainer = lambda recipe, space, folder: Network(folder).train
tune.measure_cost = lambda recipe, folder: tune.Cost(1.0, 1.0)
sys.exit(cli.main(sys.argv[2:]))
"""


def program(name):
    """A program of PostgreSQL's server, which Debian keeps off the PATH."""
    places = [shutil.which(name), *sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))]
    return next(filter(None, places), None)


class Server:
    """A PostgreSQL of the test's own, on a Unix socket in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.unprivileged = []  # initdb and postgres refuse root
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
            self.unprivileged = [
                "setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=INT",
            ]  # fmt: skip
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        command = [
            program("initdb"), "--no-sync", "--username", USER, "--auth", "scram-sha-256", "--pwfile", str(secret),
            "--no-locale", "--encoding", "UTF8", "--pgdata", str(folder / "data"),
        ]  # fmt: skip
        subprocess.run([*self.unprivileged, *command], check=True, capture_output=True, cwd=folder)
        self.start()

    def start(self):
        command = [
            program("postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder), "-F",
            "-c", "listen_addresses=", "-c", f"log_directory={self.folder}",
        ]  # fmt: skip
        log = (self.folder / "log").open("a")
        self.process = subprocess.Popen(
            [*self.unprivileged, *command], stdout=log, stderr=log, cwd=self.folder
        )
        ready = [program("pg_isready"), "-q", "-h", str(self.folder)]
        until(lambda: subprocess.run(ready).returncode == 0 or self.process.poll() is not None)
        assert self.process.poll() is None, (self.folder / "log").read_text()

    def stop(self):
        self.process.send_signal(signal.SIGINT)  # fast shutdown: connections are ended
        self.process.wait()

    def url(self, password=PASSWORD, database="postgres"):
        return f"postgresql://{USER}:{quote(password, safe='')}@/{database}?host={self.folder}"


@pytest.fixture(scope="module")
def postgresql():
    pytest.importorskip("psycopg", reason="psycopg is not installed: mien[tune-postgresql]")
    if program("postgres") is None or program("pg_isready") is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    # Not below tmp_path: the user postgres may not enter pytest's folders, and a socket's path is short.
    with tempfile.TemporaryDirectory(prefix="mien-postgresql-") as folder:
        running = Server(Path(folder))
        yield running
        running.stop()


@pytest.fixture
def url(postgresql):
    """The address of an empty database."""
    import psycopg

    name = f"test_{next(NUMBERS)}"
    with psycopg.connect(postgresql.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgresql.url(database=name)


def study(folder, url, resume, name="mien"):
    return tune.open_study(folder, url, "random", 0, resume, config={"rows": 7}, name=name)


def worker(small, folder, url, gate, *more):
    command = [
        sys.executable, "-c", WORKER, str(gate), "tune", "--data", str(small), "--folder", str(folder),
        "--storage", url, "--sampler", "random", "--trials", "4", *more,
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_of_two_processes_at_one_study_one_is_killed_and_the_other_takes_its_trial_up(
    small, tmp_path, url
):
    folder = tmp_path / "study"
    gate = tmp_path / "gate"  # while it is there, an epoch does not end
    gate.touch()
    killed = worker(small, folder, url, gate)
    history = folder / "trials" / "0000" / "fit" / "history.json"
    until(lambda: history.exists() or killed.poll() is not None, PATIENCE)
    other = worker(small, folder, url, gate, "--resume", "--seed", "1")
    second = folder / "trials" / "0001" / "fit" / "history.json"
    until(lambda: second.exists() or other.poll() is not None, PATIENCE)
    killed.send_signal(signal.SIGKILL)
    outputs = [killed.communicate()[0]]
    gate.unlink()
    outputs.append(other.communicate(timeout=PATIENCE)[0])
    assert other.returncode == 0, outputs[1][-3000:]
    storage = tune.open_storage(folder, url)
    trials = optuna.load_study(study_name=tune.STUDY, storage=storage).trials
    assert [trial.number for trial in trials] == list(range(4))
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert trials[0].state == TrialState.COMPLETE
    assert [entry["epoch"] for entry in json.loads(history.read_text())] == list(range(1, 10))
    assert "trials trained to the end" in outputs[1]
    written = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    for text in (*outputs, *(content.decode(errors="replace") for content in written)):
        assert PASSWORD not in text
        assert quote(PASSWORD, safe="") not in text


def test_a_database_that_was_restarted_meanwhile_is_connected_again(postgresql, tmp_path, url):
    begun = study(tmp_path, url, resume=False)
    trial = begun.ask()
    postgresql.stop()
    postgresql.start()
    begun.tell(trial, [0.5, 1.0, 1.0])
    assert begun.trials[0].state == TrialState.COMPLETE


def test_a_database_that_goes_away_during_a_trial_is_one_line_and_the_trial_goes_on_later(
    postgresql, tmp_path, url, monkeypatch
):
    def stop_server(*arguments):
        postgresql.stop()
        return tune.Cost(1.0, 1.0)

    space = tune.SearchSpace(EDGE_FRESH, None, None, tmp_path, max_macs=30)
    monkeypatch.setattr(tune, "measure_cost", stop_server)
    begun = study(tmp_path, url, resume=False)
    try:
        with pytest.raises(RunError) as raised, tune_storage.database_errors(url):
            tune.run_trials(begun, space, 1)
    finally:
        postgresql.start()
    message = str(raised.value)
    assert "\n" not in message
    assert "run the command again" in message
    assert study(tmp_path, url, resume=True).trials[0].state == TrialState.RUNNING


def test_several_studies_lie_in_one_database_each_with_its_own_folder(tmp_path, url):
    first = study(tmp_path / "first", url, resume=False)
    study(tmp_path / "second", url, resume=False, name="second")
    assert study(tmp_path / "first", url, resume=True)._study_id == first._study_id
    with pytest.raises(
        RunError, match="exists; continue it with --resume, or name another --study"
    ):
        study(tmp_path / "third", url, resume=False)
    with pytest.raises(RunError, match="not the folder that the study 'mien' was begun in"):
        study(tmp_path / "second", url, resume=True)
    (tmp_path / "first" / "trials").mkdir()
    with pytest.raises(RunError, match="holds the trials of another study"):
        study(tmp_path / "first", url, resume=False, name="fourth")


def refused(capsys, small, folder, url):
    """What the command says of a database, in its one line."""
    assert cli.main(["tune", "--data", str(small), "--folder", str(folder), "--storage", url]) == 1
    lines = capsys.readouterr().err.splitlines()
    *notes, error = lines
    assert all(" trains the head " in note for note in notes), lines  # what the data cannot teach
    assert error.startswith("mien-train: error: ")
    return error


def test_an_unreachable_database_is_one_line_that_names_it_without_its_password(
    small, tmp_path, capsys, postgresql
):
    nowhere = f"postgresql://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:1/study"
    line = refused(capsys, small, tmp_path, nowhere)
    assert "postgresql://127.0.0.1:1/study" in line
    assert "refused" in line
    assert "s3cr3t" not in line


def test_a_wrong_password_and_a_database_that_is_not_there_are_one_line_each(
    small, tmp_path, capsys, postgresql
):
    line = refused(capsys, small, tmp_path, postgresql.url("another-s3cr3t"))
    assert "authentication failed" in line
    assert "s3cr3t" not in line
    line = refused(capsys, small, tmp_path, postgresql.url(database="nowhere"))
    assert 'database "nowhere" does not exist' in line
    assert "s3cr3t" not in line


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://mien:s3cr3t",
        "postgresql://mien:a@s3cr3t@127.0.0.1:1/x",
        "oracle-of-delphi://mien:s3cr3t@host/x",
        "s3cr3t",
    ],
)
def test_what_is_no_url_of_a_database_is_one_line_without_a_password(small, tmp_path, capsys, url):
    line = refused(capsys, small, tmp_path, url)
    assert ":s3cr3t" not in line
    assert "@s3cr3t" not in line
    assert "postgresql://HOST/NAME" in line or "~/.pgpass" in line


def test_without_the_driver_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(RunError, match=r"pip install 'mien\[tune-postgresql\]'"):
        tune_storage.open_storage(tmp_path, "postgres://mien@127.0.0.1:1/x")
