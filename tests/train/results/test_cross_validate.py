"""Cross-validation of a fine-tuning run: who is trained on what, and what is compared with what."""

from dataclasses import replace

import numpy as np
import pytest
from mien_edge.contract import LABELS
from mien_edge.model.bundle import load_bundle, shipped_bundle
from mien_train.data.corruptions import CORRUPTIONS
from mien_train.data.read import Dataset
from mien_train.data.source import DataSource
from mien_train.results import cross_validate
from mien_train.training import finetune
from mien_train.training.recipes import FINETUNE
from mien_train.training.run import RunRequest, begin
from small_data import picture

NAMES = ("happy", "sad", "bored")
PEOPLE = 12
PICTURES = 120


def dataset(groups=None, names=NAMES):
    rng = np.random.default_rng(0)
    labels = np.arange(PICTURES) % len(names)
    images = np.stack([picture(label, rng) for label in labels])
    return Dataset(
        images=images,
        labels=labels.astype(np.int8),
        usages=np.zeros(PICTURES, np.int8),
        row_numbers=np.arange(PICTURES, dtype=np.int32),
        sha256="0" * 64,
        label_names=names,
        groups=groups,
    )


def people():
    return (np.arange(PICTURES) // (PICTURES // PEOPLE)).astype(np.int32)


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """`begun(dataset)`: a run that fine-tunes the bundle that ships, on those rows."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def begin_run(rows, earlier=None):
        source = type("Rows", (DataSource,), {"dataset": rows})(tmp_path)
        recipe = finetune.adapt(FINETUNE, load_bundle(shipped_bundle()))
        request = RunRequest(tmp_path / "run", recipe, source, "official", "test")
        return begin(replace(request, bundle=shipped_bundle(), earlier=earlier))

    return begin_run


@pytest.fixture
def trained(monkeypatch):
    """Networks that know the labels of all pictures; the runs that they were trained in."""
    runs = []

    def predict(run, crops):
        (head,) = run.heads
        labels = head.label_indices(run.dataset.take(run.split.test))
        return np.eye(len(head.labels), dtype=np.float32)[labels]

    monkeypatch.setattr(cross_validate.fit, "fit", runs.append)
    monkeypatch.setattr(cross_validate.quantize, "quantize", lambda run: None)
    monkeypatch.setattr(cross_validate.quantize, "quantized_network", lambda run, head: run)
    monkeypatch.setattr(cross_validate.fake_quant, "predict", predict)
    return runs


def test_every_picture_is_predicted_once_by_a_network_that_has_seen_none_of_its_group(
    begun, trained
):
    groups = people()
    cross_validate.cross_validate(begun(dataset(groups)))
    assert len(trained) == 5
    tested = np.concatenate([run.split.test for run in trained])
    assert sorted(tested.tolist()) == list(range(PICTURES))
    for run in trained:
        parts = [
            set(groups[rows]) for rows in (run.split.train, run.split.validation, run.split.test)
        ]
        assert all(parts)
        assert sum(map(len, parts)) == PEOPLE


def test_the_start_is_wrong_about_labels_that_it_lacks_and_compared_on_those_that_it_has(
    begun, trained
):
    result = cross_validate.cross_validate(begun(dataset(people())))
    assert result.own.after.value == 1
    assert result.by_label["bored"].before.value == 0
    assert result.by_label["bored"].rows == PICTURES // 3
    assert result.known.rows == 2 * PICTURES // 3
    assert result.known.before.value > result.by_label["bored"].before.value
    assert result.notes[-2:] == (
        "new labels, about which the bundle before is always wrong: bored",
        "labels without a picture, which the network does not predict any more: "
        "angry, disgust, fear, surprise, neutral",
    )


def test_with_the_labels_of_the_start_there_is_nothing_else_to_compare(begun, trained):
    result = cross_validate.cross_validate(begun(dataset(people(), names=LABELS)))
    assert result.known is None
    assert result.start == load_bundle(shipped_bundle()).card.id


def test_what_is_cross_validated_is_not_trained_again(begun, trained):
    run = begun(dataset(people()))
    result = cross_validate.cross_validate(run)
    assert cross_validate.cross_validate(run) == result
    (run.folder / "crossvalidation.json").unlink()
    assert cross_validate.cross_validate(run) == result
    assert len(trained) == 5


def test_the_network_is_calibrated_on_every_picture_by_networks_that_had_not_seen_it(
    begun, trained
):
    run = begun(dataset(people()))
    assert cross_validate.held_out(run) == []
    cross_validate.cross_validate(run)
    parts = cross_validate.held_out(run)
    assert parts[0].name == "faces that it had not seen in cross-validation"
    assert [part.name for part in parts[1:]] == [corruption.name for corruption in CORRUPTIONS]
    for part in parts:
        assert len(part.labels) == PICTURES
        assert (part.logits.argmax(axis=1) == run.dataset.labels).all()
    assert len(trained) == 5


def test_pictures_of_one_person_are_cross_validated_by_near_duplicates_and_it_is_said(
    begun, trained
):
    result = cross_validate.cross_validate(begun(dataset(np.zeros(PICTURES, np.int32))))
    assert result.folds == 5
    assert result.own.groups > 100
    assert result.notes[0].startswith("all pictures are of one group, such as one person")


def test_two_people_make_two_folds(begun, trained):
    result = cross_validate.cross_validate(begun(dataset((people() % 2).astype(np.int32))))
    assert result.folds == 2
    assert all(len(run.split.validation) for run in trained)
