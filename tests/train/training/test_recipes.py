"""Recipes follow what the data can teach, and what train's messages advise works."""

import shlex

import cv2
import numpy as np
import pytest
from helpers import ROOT
from mien_edge.contract import LABELS
from mien_edge.errors import DataError, RunError
from mien_train import cli
from mien_train.data import splits
from mien_train.data.splits import Split
from mien_train.training import loop, members
from mien_train.training.recipes import (
    EDGE,
    EDGE_FRESH,
    RECIPES,
    SEED,
    TEACHER_FACE,
    fit_to_data,
)
from mien_train.training.run import open_run
from small_data import rows

OWN = ("happy", "sad", "bored")
NONE = np.zeros(0, np.int64)


def test_data_with_votes_change_no_recipe():
    for recipe in RECIPES.values():
        for has_teacher in (True, False):
            assert fit_to_data(recipe, LABELS, True, has_teacher) is recipe


def test_without_votes_and_teacher_the_head_that_needs_none_learns_from_labels_alone():
    recipe = fit_to_data(EDGE, LABELS, has_votes=False, has_teacher=False)
    assert recipe.heads == ("fer2013",)
    assert not recipe.is_distilled
    assert recipe.initial_weights == "random"
    assert recipe.network == EDGE.network
    assert fit_to_data(SEED, LABELS, False, False) is SEED


def test_without_votes_a_teacher_of_that_one_head_still_teaches():
    recipe = fit_to_data(EDGE_FRESH, LABELS, has_votes=False, has_teacher=True)
    assert recipe.heads == ("fer2013",)
    assert recipe.fit == EDGE_FRESH.fit


def test_weights_that_come_from_no_teacher_stay():
    recipe = fit_to_data(TEACHER_FACE, LABELS, has_votes=False, has_teacher=False)
    assert recipe.initial_weights == "pretrained"
    assert not recipe.is_distilled


def test_other_labels_than_the_seven_get_a_head_of_their_own():
    assert fit_to_data(SEED, OWN, False, False).heads == ("labels",)
    assert fit_to_data(EDGE, OWN, False, False).heads == ("labels",)
    assert fit_to_data(SEED, tuple(reversed(LABELS)), False, False) is SEED


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Image folders as `mien-train data fetch` brings them."""
    folder = tmp_path_factory.mktemp("fer 2013")
    for number, (label, picture, usage) in enumerate(rows({"Training": 40, "PublicTest": 8})):
        part = "train" if usage == "Training" else "test"
        path = folder / part / LABELS[label] / f"{usage}_{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture)
    return folder


@pytest.mark.slow
def test_what_data_fetch_brings_trains_edge_as_fetch_advises(
    folders, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("mien_train.data.fetch.fetch", lambda dataset, folder: folder)
    assert cli.main(["data", "fetch", "--into", str(folders)]) == 0
    advised = shlex.split(capsys.readouterr().out.rpartition("mien-train ")[2])
    assert advised[:2] == ["run", "edge"]
    words = ["fit", *advised[1:], "--epochs", "1", "--folder", str(tmp_path / "edge")]
    assert cli.main(words) == 0
    said = capsys.readouterr().err
    assert "edge trains the head fer2013, without a teacher, from random weights" in said
    run = open_run(tmp_path / "edge")
    assert run.recipe.heads == ("fer2013",)
    assert len(run.history("fit")) == 1
    monkeypatch.setattr(loop, "is_finished", lambda history, stage: False)
    with pytest.raises(RunError, match="its training is not finished; resume it with: mien-train"):
        members.run_member(run)


def test_a_teacher_of_other_heads_is_refused_with_what_works(folders, tmp_path, capsys):
    words = ["--data", str(folders), "--teacher", str(ROOT / "models" / "teachers")]
    assert cli.main(["fit", "edge", *words, "--folder", str(tmp_path / "r")]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "teaches the heads fer2013, ferplus, and edge learns fer2013 of" in error
    assert error.endswith(
        "leave --teacher out, or name an ensemble of networks with the same heads, trained on these data"
    )
    assert not (tmp_path / "r").exists()


def test_a_distilled_recipe_names_a_teacher_that_there_is(voted, tmp_path, capsys):
    assert cli.main(["fit", "edge", "--data", str(voted), "--folder", str(tmp_path / "r")]) == 1
    error = capsys.readouterr().err
    assert "name an ensemble with --teacher, such as models/teachers of the repository" in error
    assert not (tmp_path / "r").exists()


def test_data_without_test_rows_are_not_sent_to_another_split():
    with pytest.raises(DataError, match="use --split official or deduplicated"):
        splits.require_test(Split(NONE, NONE, NONE, "none"))
    with pytest.raises(DataError, match="the data have no test rows to report on; add PublicTest"):
        splits.require_test(Split(NONE, NONE, NONE, "PublicTest"))
