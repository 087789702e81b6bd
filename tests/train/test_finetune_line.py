"""`mien-train run finetune` from pictures to a bundle with labels of its own, and from that one on."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from mien_edge.contract import LABELS
from mien_edge.errors import RunError
from mien_edge.model.bundle import load_bundle
from mien_train import cli
from mien_train.data import folds, heads
from mien_train.data.read import VOTE_OF_LABEL, VOTES
from mien_train.data.source import DataSource
from mien_train.results import crossvalidation, export
from mien_train.training import finetune, fit, loop, networks, quantize
from mien_train.training.recipes import EDGE_CONTEMPT, RECIPES, TINY
from mien_train.training.run import RunRequest, begin, open_run
from small_data import picture, rows, write_csv, write_votes

pytestmark = pytest.mark.slow

PICTURES = 7  # of each label
SMALL = replace(
    TINY,
    name="small",
    network="mobile",
    arguments={"widths": (4, 8), "halving": (1,)},
    fit=replace(TINY.fit, epochs=1),
)


@pytest.fixture(scope="module")
def start(small, once):
    """A bundle of a minute network of the kind that can be fine-tuned."""

    def make(folder):
        run = begin(RunRequest(folder / "run", SMALL, DataSource(small), "official", "test"))
        fit.fit(run)
        quantize.quantize(run)
        export.export(run, folder, "fer2013")

    return once("small-bundle", make) / "small-1"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for index, label in enumerate(LABELS):
        (folder / "train" / label).mkdir(parents=True)
        for number in range(PICTURES):
            path = folder / "train" / label / f"{number}.png"
            cv2.imwrite(str(path), picture(index, rng))
    return folder


@pytest.fixture(scope="module")
def finished(start, photos, small, tmp_path_factory):
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("finetuned") / "run"
    words = ["--start", start, "--data", photos, "--fer2013", small, "--folder", folder]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folds, "FOLDS", 2)
        assert cli.main(["run", "finetune", "--epochs", "1", *map(str, words)]) == 0
    return folder


def test_the_bundle_has_the_labels_of_the_pictures_and_its_card_says_what_it_is_worth(finished):
    bundle = load_bundle(finished / "models" / "finetune-1")
    assert bundle.card.labels == LABELS
    assert bundle.card.metrics["crossvalidation"]["start"] == "small-1"
    assert bundle.card.metrics["crossvalidation"]["own"]["rows"] == 7 * PICTURES
    (sentence,) = [text for text in bundle.card.limitations if text.startswith("Fine-tuned from")]
    assert "points by 95 % bootstrap, on faces that it had not seen (2-fold" in sentence
    assert "(49 pictures)" in bundle.card.limitations[0]
    assert "FER2013" not in " ".join(bundle.card.limitations)
    assert bundle.card.metrics["crossvalidation"]["earlier"] is None
    assert bundle.card.metrics["calibrated_on"].startswith("faces that it had not seen")


def test_what_was_forgotten_stands_beside_the_figures_of_ones_own_faces(finished):
    result = crossvalidation.CrossValidation.from_json(
        json.loads((finished / "crossvalidation.json").read_text()), "x"
    )
    assert result.earlier.rows == 7 * 8
    assert result.earlier_name.startswith("fer2013.csv, PublicTest")
    page = (finished / "report.html").read_text()
    assert "Against small-1, from which it was fine-tuned" in page
    assert "Accuracy before and after, with 95 % intervals" in page


def test_a_finished_run_has_nothing_to_do_and_another_start_is_refused(finished, start):
    run = open_run(finished)
    assert [len(run.history(stage)) for stage in ("fit", "quantize")] == [1, 1]
    assert run.bundle.card.id == "small-1"
    card = start / "card.json"
    content = card.read_text()
    card.write_text(content.replace('"small"', '"other"', 1))
    try:
        with pytest.raises(RunError, match=r"small-1 has changed since .* began; put the old"):
            _ = open_run(finished).bundle
    finally:
        card.write_text(content)


@pytest.fixture(scope="module")
def voted_contempt(tmp_path_factory):
    """fer2013.csv whose crowd sees contempt wherever FER2013 says disgust."""
    folder = tmp_path_factory.mktemp("contempt")
    columns = list(VOTE_OF_LABEL)
    columns[LABELS.index("disgust")] = VOTES.index("contempt")
    entries = list(rows({"Training": 20, "PublicTest": 4, "PrivateTest": 4}))
    votes = write_votes(folder / "fer2013new.csv", entries, columns)
    return DataSource(write_csv(folder / "fer2013.csv", entries), votes)


def test_edge_contempt_has_one_head_of_eight_labels_and_the_edge_network():
    recipe = RECIPES["edge-contempt"]
    (head,) = map(heads.find_head, recipe.heads)
    assert head.labels == (*LABELS, "contempt")
    assert recipe.arguments == RECIPES["edge"].arguments
    assert recipe.starts_from_bundle
    assert not recipe.is_distilled


def test_edge_contempt_goes_on_from_a_bundle_of_seven_labels_to_a_card_of_eight(
    start, voted_contempt, tmp_path
):
    own = replace(EDGE_CONTEMPT, fit=SMALL.fit, quantize=SMALL.quantize)
    recipe = finetune.adapt(own, load_bundle(start))
    request = RunRequest(tmp_path / "run", recipe, voted_contempt, "official", "test", bundle=start)
    run = begin(request)
    assert run.outputs == 8
    assert run.split.test_name == "PublicTest"
    training = fit.training_set(run, recipe.fit)
    is_contempt = training.targets.argmax(axis=1) == 7
    assert is_contempt.any()
    model = networks.build(recipe, 8)
    fresh, _ = model.layers[-1].get_weights()
    finetune.initialize(run.bundle, run.heads[0].labels, model, training)
    kernel, _ = model.layers[-1].get_weights()
    assert (kernel[:, 7] == fresh[:, 7]).all()
    assert not (kernel[:, :7] == fresh[:, :7]).any()
    fit.fit(run)
    assert loop.best_weights(run.stage_folder("fit"))[-1].shape == (8,)
    quantize.quantize(run)
    card = export.export(run, tmp_path, "ferplus8").card
    assert card.id == "edge-contempt-1"
    assert card.labels == (*LABELS, "contempt")
    assert card.provenance["start"].startswith("small-1, before that: ")
    measured = card.metrics["networks"]["int8"]["test"]["ferplus8"]
    assert "contempt" in measured["recall"]
    assert sum(measured["confusion"][7]) == 4
