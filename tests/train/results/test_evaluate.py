"""A bundle is measured by the names of its labels: what it shares with the data counts, the rest is said."""

import json

import numpy as np
import pytest
from mien_edge.contract import LABELS
from mien_edge.errors import DataError
from mien_edge.model.bundle import load_bundle
from mien_train import cli
from mien_train.data import heads
from mien_train.data.read import VOTES, Dataset
from mien_train.data.source import DataSource
from mien_train.results import evaluate


def dataset(label_names, labels, **more):
    """Pictures of noise with those labels, all of them Training rows."""
    count = len(labels)
    rng = np.random.default_rng(0)
    return Dataset(
        images=rng.integers(0, 256, (count, 48, 48), np.uint8),
        labels=np.array(labels, np.int8),
        usages=np.zeros(count, np.int8),
        row_numbers=np.arange(count, dtype=np.int32),
        sha256="0" * 64,
        label_names=label_names,
        **more,
    )


def all_rows(data):
    return np.arange(len(data))


def test_rows_whose_label_a_bundle_has_not_are_left_out_and_counted(three_labels):
    data = dataset(LABELS, [3, 3, 4, 0, 0, 0, 6, -1])
    samples = evaluate.bundle_crops(three_labels, data, all_rows(data))
    assert samples.labels["labels"].tolist() == [0, 0, 1, -1, -1, -1, -1, -1]
    assert samples.left_out == {"labels": {"angry": 3, "neutral": 1}}
    logits = np.eye(3)[[0, 1, 1, 0, 0, 0, 2, 2]]
    score = evaluate.measure(samples, logits, 1.0)["labels"]
    assert score.rows == 3
    assert score.accuracy == pytest.approx(2 / 3)
    assert score.recall == {"happiness": 0.5, "sadness": 1.0}
    assert np.array(score.confusion).shape == (3, 3)


def test_what_a_bundle_predicts_and_the_data_have_not_is_wrong(eight_labels):
    data = dataset(LABELS, [0, 1])
    samples = evaluate.bundle_crops(eight_labels, data, all_rows(data))
    score = evaluate.measure(samples, np.eye(8)[[7, 1]], 1.0)["labels"]
    assert score.accuracy == 0.5
    assert score.confusion[0][7] == 1
    assert samples.left_out == {}


def test_contempt_is_measured_where_crowd_and_bundle_know_it(eight_labels, bundle):
    votes = np.zeros((3, 10), np.uint8)
    votes[0, 7] = 9  # contempt
    votes[1, 0] = 9  # neutral
    votes[2, 1] = 9  # happiness
    data = dataset(LABELS, [6, 6, 3], votes=votes)
    samples = evaluate.bundle_crops(eight_labels, data, all_rows(data))
    assert [head.name for head in samples.heads] == ["labels", "ferplus8"]
    assert samples.labels["ferplus8"].tolist() == [7, 6, 3]
    ferplus = load_bundle(bundle.folder.parent / "edge-ferplus-6")
    samples = evaluate.bundle_crops(ferplus, data, all_rows(data))
    assert samples.labels["ferplus"].tolist() == [-1, 6, 3]
    assert samples.reference_head == heads.FERPLUS


def votes_of(*rows):
    """(n, 10) votes from what each row counts by FER+'s column: {'happiness': 6, 'NF': 4}."""
    votes = np.zeros((len(rows), 10), np.uint8)
    for row, counts in enumerate(rows):
        for column, count in counts.items():
            votes[row, VOTES.index(column)] = count
    return votes


def test_the_published_protocol_drops_single_votes_and_needs_more_than_half_of_the_others():
    votes = votes_of(
        {"happiness": 10},
        {"happiness": 4, "sadness": 3, "fear": 1, "anger": 1, "NF": 1},  # 4 of 7
        {"happiness": 4, "sadness": 4, "fear": 1, "anger": 1},  # half of 8 is not more than half
        {"happiness": 4, "sadness": 2, "unknown": 2, "NF": 2},  # most votes, not half of them
        {"happiness": 5, "sadness": 1, "fear": 1, "anger": 1, "disgust": 1, "NF": 1},
        {"happiness": 3, "unknown": 7},
        {"happiness": 3, "NF": 7},
        {"contempt": 6, "anger": 4},
        dict.fromkeys(VOTES, 1),
        {},
    )
    happiness = VOTES.index("happiness")
    contempt = VOTES.index("contempt")
    expected = [happiness, happiness, -1, -1, happiness, -1, -1, contempt, -1, -1]
    assert heads.published_majority(votes).tolist() == expected


def test_a_row_of_contempt_is_wrong_by_the_published_protocol_unless_the_bundle_can_say_it(
    bundle, eight_labels, monkeypatch
):
    """Every row is predicted as its crowd sees it, contempt as the last label that there is."""
    votes = votes_of({"contempt": 9}, {"neutral": 9}, {"happiness": 9}, {"unknown": 9})
    data = dataset(LABELS, [6, 6, 3, 3], votes=votes)
    monkeypatch.setattr(
        evaluate,
        "device_crops",
        lambda *_: evaluate.DeviceCrops(np.zeros(0, int), np.zeros((0, 48, 48), np.uint8)),
    )
    for model, right in ((bundle, 2), (eight_labels, 3)):
        outputs = len(model.card.labels)
        predicted = np.eye(outputs, dtype=np.float32)[[outputs - 1, 6, 3, 3]]
        monkeypatch.setattr(
            evaluate, "int8_logits", lambda _, crops, rows=predicted: rows[: len(crops)]
        )
        result = evaluate.evaluate_bundle(model, data, "official")
        assert (result.published.rows, result.published.accuracy) == (3, pytest.approx(right / 3))
        assert result.published.unknown_rows == 3 - right
    assert "1 of contempt counted as wrong" not in result.as_text()


def test_two_bundles_are_compared_by_the_published_protocol_too(voted, bundle, capsys):
    other = bundle.folder.parent / "edge-1"
    command = ["evaluate", str(bundle.folder), "--data", str(voted), "--against", str(other)]
    assert cli.main(command) == 0
    text = capsys.readouterr().out
    assert (
        "by FER+'s published protocol (single votes dropped, more than half of the others) 56 rows: accuracy"
        in text
    )
    assert "against edge-1, ferplus-published: " in text


def test_labels_of_other_data_are_not_called_those_of_fer2013(bundle):
    data = dataset(LABELS, [0, 1])
    assert [head.name for head in evaluate.bundle_crops(bundle, data, all_rows(data)).heads] == [
        "labels"
    ]


def test_a_bundle_that_shares_no_label_with_the_data_is_refused_by_name(three_labels):
    data = dataset(("cat", "dog"), [0, 1])
    with pytest.raises(
        DataError, match="happiness, sadness, other; the data's labels are cat, dog"
    ):
        evaluate.bundle_crops(three_labels, data, all_rows(data))


def test_two_bundles_with_different_labels_are_compared_on_rows_that_both_can_name(
    three_labels, bundle, small
):
    data = DataSource(small).dataset
    result = evaluate.evaluate_bundle(three_labels, data, "official", against=bundle)
    rows = np.flatnonzero(data.usages == 1)
    shared = np.isin(data.labels[rows], [3, 4])
    [test] = result.comparison.tests.values()
    assert result.scores["labels"].rows == shared.sum()
    assert test.gained + test.lost <= shared.sum()
    crops = three_labels.card.preprocess.normalize(data.images[rows[shared]])
    truth = np.where(data.labels[rows[shared]] == 3, 0, 1)
    is_right = evaluate.int8_logits(three_labels.model, crops).argmax(axis=1) == truth
    other = evaluate.int8_logits(bundle.model, crops).argmax(axis=1) == data.labels[rows[shared]]
    assert (test.gained, test.lost) == ((is_right & ~other).sum(), (~is_right & other).sum())


def test_evaluate_says_which_rows_it_left_out(three_labels, small, capsys):
    command = ["evaluate", str(three_labels.folder), "--data", str(small)]
    assert cli.main(command) == 0
    text = capsys.readouterr().out
    assert "predicts the data's labels: happiness, sadness, other" in text
    assert "left out, by the data's labels: 40 rows whose label it has not: angry (8), " in text
    assert cli.main([*command, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["labels"] == ["happiness", "sadness", "other"]
    assert result["left_out"]["labels"]["neutral"] == 8
    assert result["figures"]["labels"]["rows"] == 16
