"""Folds by group, and paired intervals that hold what they promise."""

import json
import re

import numpy as np
import pytest
from mien_edge.errors import DataError, RunError
from mien_train.results.crossvalidation import (
    CrossValidation,
    check_enough,
    compare,
)

SEEDS = 400
RESAMPLES = 400


def predictions(rng, gain, groups=60, rows=5):
    """Whether two classifiers are right, before on 55 % of rows and after on `gain` more; the rows of a group lean one way together."""
    lean = np.repeat(rng.normal(0, 0.15, groups), rows)
    chance = np.clip(0.55 + lean, 0, 1 - gain)
    draw = rng.random(groups * rows)
    flip = rng.random(groups * rows) < 0.2
    before = np.where(flip, rng.random(groups * rows) < chance, draw < chance)
    after = draw < chance + gain
    return before, after, np.repeat(np.arange(groups), rows)


def gains(gain):
    """The interval of the gain for each of many seeds."""
    results = []
    for seed in range(SEEDS):
        before, after, groups = predictions(np.random.default_rng(seed), gain)
        results.append(compare(before, after, groups, seed, RESAMPLES))
    return results


def test_the_interval_of_a_planted_gain_holds_it_as_often_as_it_says_and_excludes_zero():
    results = gains(0.15)
    covered = np.mean([result.gain.low <= 0.15 <= result.gain.high for result in results])
    assert 0.92 <= covered <= 0.98
    assert np.mean([result.verdict == "better" for result in results]) > 0.95


def test_where_there_is_no_gain_none_is_invented_more_often_than_the_interval_says():
    verdicts = [result.verdict for result in gains(0.0)]
    assert verdicts.count("no difference is shown") >= 0.92 * SEEDS
    assert verdicts.count("better") <= 0.05 * SEEDS
    assert verdicts.count("worse") <= 0.05 * SEEDS


def test_rows_of_a_group_are_drawn_together_so_that_repeats_narrow_nothing():
    before, after, groups = predictions(np.random.default_rng(1), 0.1, rows=1)
    once = compare(before, after, groups)
    repeated = compare(np.tile(before, 8), np.tile(after, 8), np.tile(groups, 8))
    assert (repeated.gain.low, repeated.gain.high) == pytest.approx(
        (once.gain.low, once.gain.high), abs=0.005
    )
    apart = compare(np.tile(before, 8), np.tile(after, 8), np.arange(8 * len(groups)))
    assert apart.gain.high - apart.gain.low < 0.5 * (once.gain.high - once.gain.low)


def test_a_comparison_of_too_few_groups_has_no_verdict_however_clear_it_looks():
    nothing, everything = np.zeros(30, bool), np.ones(30, bool)
    assert compare(nothing, everything, np.arange(30) % 3).verdict == "too few to say"
    assert compare(nothing, everything, np.arange(30)).verdict == "better"
    assert compare(everything, nothing, np.arange(30)).verdict == "worse"


NAMES = ("happy", "sad", "bored")


def labels_of(**counts):
    return np.repeat([NAMES.index(name) for name in counts], list(counts.values())).astype(np.int8)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (labels_of(happy=20, sad=15), "35 pictures with a face and a label are too few; 40 are needed, a few hundred"),
        (labels_of(happy=60), "all pictures are labelled 'happy'; add pictures of other labels"),
        (labels_of(happy=40, sad=40, bored=1), "one picture of 'bored', which cannot be learnt and measured"),
    ],
)  # fmt: skip
def test_too_few_pictures_are_refused_with_what_to_add(labels, message):
    with pytest.raises(DataError, match=message):
        check_enough(labels, NAMES, np.arange(len(labels)))


def test_what_limits_the_figures_is_said():
    labels = labels_of(happy=40, sad=40, bored=5)
    rows = np.arange(len(labels))
    single, few = check_enough(labels, NAMES, rows)
    assert single.startswith("nearly every picture is a group of its own: where they show the same")
    assert few == (
        "few pictures: 5 of 'bored'; what is said of these labels is hardly more than chance"
    )
    one_person, _ = check_enough(labels, NAMES, np.zeros(len(labels)))
    assert one_person == (
        "all pictures are of one group, such as one person: the figures are for that person and "
        "say nothing of other people"
    )
    people, _, only = check_enough(labels, NAMES, np.where(labels == 2, 99, rows % 6))
    assert people.startswith("the pictures are of 7 groups, such as persons: how it does on other")
    assert only.startswith("all pictures of 'bored' are of one group, so that whenever they are")
    assert check_enough(labels_of(happy=40, sad=40), NAMES, np.arange(80) // 2) == ()


@pytest.fixture
def result():
    before, after, groups = predictions(np.random.default_rng(5), 0.2)
    half = np.arange(len(before)) % 2 == 0
    return CrossValidation(
        start="edge-ferplus-4",
        folds=5,
        own=compare(before, after, groups),
        by_label={"happy": compare(before[half], after[half], groups[half])},
        earlier=compare(before, before, groups),
        earlier_name="FER2013's PublicTest",
        notes=("few pictures",),
    )


def test_the_result_reads_back_and_says_what_it_means(result):
    stored = json.loads(json.dumps(result.to_json()))
    assert CrossValidation.from_json(stored, "x") == result
    del stored["own"]["gain"]
    with pytest.raises(RunError, match=r"here\.own: the key 'gain' is missing"):
        CrossValidation.from_json(stored, "here")
    first, header, own, *_, earlier, note = result.as_text().splitlines()
    assert re.fullmatch(
        r"Fine-tuned from edge-ferplus-4: \d\d\.\d % to \d\d\.\d %, \+\d+\.\d to \+\d+\.\d points by "
        r"95 % bootstrap, on faces that it had not seen \(5-fold cross-validation by group, "
        r"300 pictures in 60 groups\)\.",
        first,
    )
    assert header.split()[:4] == ["pictures", "groups", "edge-ferplus-4", "fine-tuned"]
    assert own.startswith("your faces")
    assert own.endswith("better")
    assert earlier.startswith("FER2013's PublicTest")
    assert earlier.endswith("no difference is shown")
    assert note == "note: few pictures"


def test_the_picture_is_a_png(result):
    assert result.picture().startswith(b"\x89PNG")
