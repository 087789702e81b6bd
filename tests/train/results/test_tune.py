"""The search: pruning by Pareto rank, killed studies that go on, and two processes at one study."""

import json
import signal
import subprocess
import sys

import numpy as np
import optuna
import pytest
from helpers import until
from mien_edge.errors import RunError
from mien_train import cli
from mien_train.results import tune
from mien_train.training.recipes import EDGE_FRESH

pytestmark = pytest.mark.slow

PATIENCE = 1800  # seconds; it only ends a test that would wait for ever

TRAIN = [sys.executable, "-c", "import sys; from mien_train.cli import main; sys.exit(main())"]


def trials(*pairs):
    """Running trials that reached the first rung with (accuracy, M MACs)."""
    running = []
    for number, (accuracy, macs) in enumerate(pairs):
        attributes = {"accuracy after 1": accuracy, "M MACs": macs}
        state = optuna.trial.TrialState.RUNNING
        trial = optuna.trial.create_trial(state=state, user_attrs=attributes)
        trial.number = number
        running.append(trial)
    return running


def test_a_trial_that_nothing_cheaper_beats_is_promoted():
    running = trials((0.5, 10), (0.6, 20), (0.4, 5), (0.45, 12), (0.3, 25), (0.35, 11))
    assert [tune.is_promoted(running, number, 1) for number in range(6)] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]


def test_trials_that_have_not_come_so_far_do_not_count():
    running = trials((0.5, 10), (0.6, 9))
    del running[1].user_attrs["accuracy after 1"]
    assert tune.is_promoted(running, 0, 1)


@pytest.mark.parametrize("block", ["basic", "bottleneck", "inverted"])
def test_each_block_makes_a_network_with_integer_operators(block, tmp_path):
    from mien_edge.model import tflite

    small = {f"depth {stage}": 1 for stage in range(1, 5)} | {
        "block": block,
        "width": 16,
        "growth": 1.5,
    }
    rest = {
        "augmentation": 1.0, "mixup": 0.2, "batch size": 64, "optimizer": "sgd", "schedule": "linear",
        "learning rate": 1e-3, "weight decay": 1e-2, "smoothing": 0.1,
    }  # fmt: skip
    chosen = tune.suggest_recipe(optuna.trial.FixedTrial({**small, **rest}), EDGE_FRESH)
    macs, milliseconds = tune.measure_cost(chosen, tmp_path)
    operators = tflite.operators((tmp_path / "model.tflite").read_bytes())
    names = {operator.name for operator in operators}
    assert not any("FLOAT" in dtype for operator in operators for dtype in operator.dtypes)
    assert ("DEPTHWISE_CONV_2D" in names) == (block == "inverted")
    assert macs == pytest.approx(sum(operator.macs for operator in operators) / 1e6, abs=1e-3)
    assert milliseconds > 0


SMALL = (298, 362, 58)
"""Seeds of the random sampler whose first two networks are among the smallest of four hundred seeds' ones."""


def start(voted, folder, seed, trials, *more):
    command = [
        *TRAIN, "tune", "--data", str(voted), "--folder", str(folder), "--trials", str(trials), "--seed", str(seed),
        "--sampler", "random", "--max-macs", "200", *more,
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(process):
    output = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 0, output[-3000:]
    return output


def test_a_killed_study_goes_on_with_its_trial_and_two_processes_share_it(voted, tmp_path):
    folder = tmp_path / "study"
    process = start(voted, folder, SMALL[0], 2)
    state = folder / "trials" / "0000" / "fit" / "state.npz"
    until(lambda: state.exists() or process.poll() is not None, PATIENCE)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with np.load(state) as killed:
        before = json.loads(str(killed["history"]))
    together = [start(voted, folder, seed, 2, "--resume") for seed in SMALL[1:]]
    outputs = [finished(each) for each in together]
    study = optuna.load_study(study_name=tune.STUDY, storage=tune.open_storage(folder, ""))
    done = [each for each in study.trials if each.state.is_finished()]
    assert len(done) >= 2
    assert [each.number for each in study.trials] == list(range(len(study.trials)))
    assert study.trials[0].state.is_finished()
    assert not [each for each in study.trials if each.state == optuna.trial.TrialState.FAIL]
    assert study.trials[0].user_attrs["accuracy after 1"] == before[0]["val_accuracy"]
    assert "trials trained to the end" in outputs[0]
    history = json.loads((folder / "trials" / "0000" / "fit" / "history.json").read_text())
    assert history[: len(before)] == before, "it went on after the epochs that it had"
    assert [entry["epoch"] for entry in history] == list(range(1, len(history) + 1))
    assert (folder / "tune.csv").read_text().startswith("trial,accuracy after 1,")


def test_a_study_is_not_begun_twice_by_mistake_nor_resumed_where_there_is_none(
    tmp_path, voted, capsys
):
    tune.open_study(tmp_path / "study", "", "random", 0, resume=False, config={"rows": 7})
    common = ["tune", "--data", str(voted), "--folder"]
    with pytest.raises(RunError, match="another rows"):
        tune.open_study(tmp_path / "study", "", "random", 0, resume=True, config={"rows": 8})
    assert cli.main([*common, str(tmp_path / "study")]) == 1
    assert "--resume" in capsys.readouterr().err
    assert cli.main([*common, str(tmp_path / "none"), "--resume"]) == 1
    assert "no study to resume" in capsys.readouterr().err


def test_a_study_with_a_split_name_of_an_earlier_version_is_resumed(tmp_path):
    study = tune.open_study(
        tmp_path, "", "random", 0, resume=False, config={"split": "deduplicated"}
    )
    study.set_user_attr("split", "strict")
    tune.open_study(tmp_path, "", "random", 0, resume=True, config={"split": "deduplicated"})
    with pytest.raises(RunError, match="another split"):
        tune.open_study(tmp_path, "", "random", 0, resume=True, config={"split": "official"})


def test_the_page_draws_the_front(tmp_path):
    study = tune.open_study(tmp_path, "", "random", 0, resume=False, config={})
    for number in range(6):
        trial = study.ask()
        tune.suggest_recipe(trial, EDGE_FRESH)
        trial.set_user_attr("M MACs", 10.0 + number)
        trial.set_user_attr("milliseconds", 1.0 + number)
        study.tell(trial, [0.5 + number / 100, 10.0 + number, 1.0 + number])
    tune.report(study, tmp_path)
    assert "data:image/png;base64," in (tmp_path / "tune.html").read_text()
    assert (tmp_path / "tune.csv").read_text().count("front") == 6
    assert tune.as_text(study).count("\n") == 6
    assert sum(tune.importances(study).values()) == pytest.approx(1, abs=1e-6)
