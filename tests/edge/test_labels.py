"""Which names are labels, how they are matched, ordered and coloured."""

import itertools

import numpy as np
import pytest
from mien_edge import labels
from mien_edge.labels import LABELS, check_labels, colours, is_label, match, ordered, title

SEES_NO_GREEN = [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.011820, 0.042940, 0.968881],
]
SEES_NO_RED = [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
]
"""Linear RGB as people without green or red cones see it (Machado et al. 2009, severity 1)."""

TO_LMS = [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
]
TO_OKLAB = [
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
]
"""Ottosson's OKLab, https://bottosson.github.io/posts/oklab"""


def linear(colour):
    rgb = np.array(list(bytes.fromhex(colour[1:]))) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def oklab(colour, vision):
    seen = np.clip(vision @ linear(colour), 0, 1)
    return TO_OKLAB @ np.cbrt(TO_LMS @ seen)


@pytest.mark.parametrize(
    "name", ["happy", "0", "eyes-closed", "a_b", "x" * 32, *LABELS, "contempt"]
)
def test_such_a_name_is_a_label(name):
    assert is_label(name)


@pytest.mark.parametrize(
    "name",
    ["", "Happy", "none", "uncertain", "-x", "_x", "a b", "happy\n", "é", "😀", "x" * 33, 7, None],
)
def test_such_a_name_is_no_label(name):
    assert not is_label(name)


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["happy"], "labels must be 2 to 16 names, not 1"),
        ([f"l{index}" for index in range(17)], "labels must be 2 to 16 names, not 17"),
        (["happy", "sad", "happy"], "labels has 'happy' twice"),
        (["happy", "none"], "labels has 'none', but a label is"),
        (["happy", "Sad"], "labels has 'Sad', but a label is"),
        (["happy", "😀"], r"labels has '\\U0001f600', but a label is"),
        (["happy", "x" * 10_000], r"labels has 'x+… \(10002 characters\), but a label is"),
    ],
)
def test_what_is_wrong_with_labels_is_said_in_one_short_line(names, problem):
    with pytest.raises(ValueError, match=problem) as refusal:
        check_labels(names)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 200


def test_a_word_means_the_label_that_is_its_synonym_in_either_direction():
    assert match(" Anger", LABELS) == "angry"
    assert match("HAPPY", ("happiness", "anger")) == "happiness"
    assert match("joy", ("happiness", "anger")) == "happiness"
    assert match("contemptuous", (*LABELS, "contempt")) == "contempt"
    assert match("happiness", ("happiness", "happy")) == "happiness"
    assert match("joy", ("happiness", "happy")) is None
    assert match("contempt", LABELS) is None
    assert match("bored", LABELS) is None


def test_every_synonym_stands_for_a_name_that_is_none_itself():
    assert all(is_label(word) and is_label(label) for word, label in labels.SYNONYMS.items())
    assert not set(labels.SYNONYMS) & set(labels.SYNONYMS.values())


def test_the_seven_come_first_in_their_order_and_others_as_they_come():
    assert ordered(["zen", "sad", "calm", "angry", "zen"]) == ("angry", "sad", "zen", "calm")


def test_people_read_spaces_where_a_label_has_hyphens():
    assert title("eyes-closed_2") == "eyes closed 2"


def test_the_seven_and_contempt_keep_their_colour_in_every_set():
    assert colours(["calm", "contempt", "sad"])["contempt"] == colours(["contempt"])["contempt"]
    assert colours(["calm", "contempt", "sad"])["sad"] == colours(LABELS)["sad"]


def test_sixteen_further_labels_differ_for_people_with_every_colour_vision():
    names = [f"label{index}" for index in range(16)]
    for vision in (np.eye(3), np.array(SEES_NO_GREEN), np.array(SEES_NO_RED)):
        seen = [oklab(colour, vision) for colour in colours([*names, "contempt"]).values()]
        nearest = min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2))
        assert nearest > 0.06


def test_a_further_label_stands_out_from_a_white_and_from_a_dark_page():
    for colour in colours(f"label{index}" for index in range(16)).values():
        luminance = linear(colour) @ [0.2126, 0.7152, 0.0722]
        assert 1.05 / (luminance + 0.05) > 1.5
        assert (luminance + 0.05) / (linear("#1f1f1d") @ [0.2126, 0.7152, 0.0722] + 0.05) > 1.5
