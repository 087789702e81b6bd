"""Fine-tuning a bundle: refusals first; what its network starts from; what it must not forget."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mien_edge.contract import LABELS
from mien_edge.model.bundle import load_bundle, shipped_bundle
from mien_train import cli
from mien_train.data.heads import labels_head
from mien_train.data.mixture import repeat_edges
from mien_train.data.read import Dataset
from mien_train.results.evaluate import int8_logits
from mien_train.results.export import golden_inputs
from mien_train.training import finetune as finetuning
from mien_train.training import loop, networks
from mien_train.training.recipes import FINETUNE
from mien_train.training.samples import TrainingSet
from small_data import picture

START = shipped_bundle()


def write_pictures(folder, **counts):
    """Write so many pictures of each label as train/LABEL/N.png."""
    rng = np.random.default_rng(0)
    for index, (label, count) in enumerate(counts.items()):
        (folder / "train" / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            cv2.imwrite(str(folder / "train" / label / f"{number}.png"), picture(index, rng))
    return folder


def finetune(tmp_path, *words):
    return cli.main(["run", "finetune", "--folder", str(tmp_path / "run"), *map(str, words)])


def test_what_is_missing_is_named_before_any_work(tmp_path, capsys):
    photos = write_pictures(tmp_path / "photos", happy=30, sad=30)
    for words, message in (
        (["--data", photos], f"name it with --start, such as the one that ships: --start {START}"),
        (["--start", START], "your own photographs; name them with --data FOLDER"),
        (["--start", tmp_path, "--data", photos], "card.json"),
        (["--start", START, "--data", tmp_path / "none"], "none: no such file or folder"),
    ):
        assert finetune(tmp_path, *words) == 1
        (error,) = capsys.readouterr().err.splitlines()
        assert message in error
    assert not (tmp_path / "run").exists()


def test_start_is_refused_for_recipes_that_do_not_start_from_a_bundle(small, tmp_path, capsys):
    words = ["--data", str(small), "--start", str(START), "--folder", str(tmp_path / "run")]
    assert cli.main(["fit", "tiny", *words]) == 1
    assert (
        "--start is for edge-contempt and finetune; leave it out for tiny"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"happy": 20, "sad": 10}, "30 pictures with a face and a label are too few; 40 are needed"),
        ({"happy": 50}, "all pictures are labelled 'happy'; add pictures of other labels"),
        ({"happy": 50, "sad": 1}, "there is one picture of 'sad', which cannot be learnt and"),
    ],
)  # fmt: skip
def test_too_few_pictures_are_refused_before_anything_is_written(tmp_path, capsys, counts, message):
    photos = write_pictures(tmp_path / "photos", **counts)
    assert finetune(tmp_path, "--start", START, "--data", photos) == 1
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


OWN = ("bored", "happy", "sad")


@pytest.fixture(scope="module")
def bundle():
    return load_bundle(START)


@pytest.fixture(scope="module")
def training(bundle):
    """Twelve pictures, four of each own label."""
    labels = np.arange(12) % 3
    return TrainingSet(
        images=golden_inputs(48, 12, seed=1),
        targets=np.eye(3, dtype=np.float32)[labels],
        head_sizes=(3,),
        validation_images=golden_inputs(48, 3, seed=2),
        validation_labels=np.arange(3, dtype=np.int8)[:, None],
        preprocess=bundle.card.preprocess,
    )


def test_outputs_of_known_labels_are_the_bundles_own_and_new_ones_stay_fresh(bundle, training):
    model = networks.build(finetuning.adapt(FINETUNE, bundle), len(OWN))
    fresh, _ = model.layers[-1].get_weights()
    finetuning.initialize(bundle, OWN, model, training)
    kernel, _ = model.layers[-1].get_weights()
    assert (kernel[:, 0] == fresh[:, 0]).all()
    crops = training.crops()
    known = [LABELS.index(label) for label in OWN[1:]]
    difference = loop.predict(model, crops)[:, 1:] - int8_logits(bundle.model, crops)[:, known]
    assert np.abs(difference).mean() < 0.15


def test_what_the_bundle_says_of_labels_that_it_lacks_is_nothing(bundle, training):
    said = finetuning.probabilities(bundle, OWN, training.crops())
    everything = finetuning.probabilities(bundle, LABELS, training.crops())
    assert (said[:, 0] == 0).all()
    assert everything.sum(axis=1) == pytest.approx(np.ones(12), abs=1e-5)
    assert (said[:, 1:] == everything[:, [LABELS.index("happy"), LABELS.index("sad")]]).all()


def run_of(bundle, earlier=None):
    recipe = finetuning.adapt(FINETUNE, bundle)
    return SimpleNamespace(bundle=bundle, heads=(labels_head(OWN),), earlier=earlier, recipe=recipe)


def test_without_earlier_data_targets_hold_a_part_of_what_the_bundle_says_but_not_of_new_labels(
    bundle, training
):
    stage = FINETUNE.fit
    mixed = finetuning.with_earlier_knowledge(run_of(bundle), stage, training)
    said = finetuning.probabilities(bundle, OWN, training.crops())
    weight = stage.distillation_weight
    is_bored = training.targets[:, 0] == 1
    expected = (1 - weight) * training.targets + weight * said
    assert mixed.targets[~is_bored] == pytest.approx(expected[~is_bored])
    assert (mixed.targets[is_bored] == training.targets[is_bored]).all()


def test_earlier_data_are_rehearsed_beside_labels_as_they_are(bundle, training):
    images = golden_inputs(48, 20, seed=3)
    usages = np.repeat([0, 1], 10).astype(np.int8)
    labels = np.zeros(20, np.int8)
    dataset = Dataset(images, labels, usages, np.arange(20, dtype=np.int32), "0" * 64)
    run = run_of(bundle, SimpleNamespace(dataset=dataset))
    around = replace(training, surroundings=repeat_edges(training.images))
    rehearsed = finetuning.with_earlier_knowledge(run, FINETUNE.fit, around)
    assert len(rehearsed) == 22
    assert rehearsed.surroundings.shape == (22, 96, 96)
    assert (rehearsed.targets[:12] == training.targets).all()
    assert (rehearsed.images[12:] == images[:10]).all()
    crops = training.preprocess.normalize(images[:10])
    assert (rehearsed.targets[12:] == finetuning.probabilities(bundle, OWN, crops)).all()


def test_the_last_epoch_is_taken_though_an_earlier_one_did_better_on_the_few_validation_rows(
    bundle, training, tmp_path, monkeypatch
):
    accuracies = iter((0.9, 0.1))
    monkeypatch.setattr(loop, "_accuracy", lambda logits, labels: next(accuracies))
    small = replace(FINETUNE, arguments={"widths": (4, 8), "halving": (1,)})
    stage = replace(FINETUNE.fit, epochs=2, batch_size=6, warmup_epochs=0)
    loop.train(partial(networks.build, small, len(OWN)), stage, training, tmp_path, seed=0)
    selected = loop.best_weights(tmp_path)
    with np.load(tmp_path / "state.npz") as state:
        last = [state[f"a{index}"] for index in range(len(selected))]
    assert all(map(np.array_equal, selected, last))
