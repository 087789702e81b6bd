"""The contract: what training and device must agree on."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mien_edge import contract
from mien_edge.contract import (
    LABELS,
    Calibration,
    Card,
    File,
    Golden,
    Preprocess,
    Quantization,
    parse_card,
)
from mien_edge.errors import ContractError
from mien_edge.values import Box

PLAIN = Preprocess(48, 0.0, "none")
STANDARD = Preprocess(48, 0.0, "standardize")


def card(**changes):
    values = {
        "contract": contract.VERSION, "name": "edge", "version": 1, "created": "2026-01-01T00:00:00+00:00",
        "labels": LABELS, "preprocess": STANDARD, "calibration": Calibration(1.1, 0.4), "golden": Golden(1),
        "files": {"model.tflite": File("0" * 64, 10)}, "provenance": {}, "metrics": {}, "intended_use": (),
        "out_of_scope_use": (), "limitations": (),
    }  # fmt: skip
    return Card(**{**values, **changes})


KEYS = sorted(json.loads(card().to_json()))


def test_a_card_is_written_with_the_keys_that_its_contract_version_has():
    assert (
        sorted(
            [
                "contract",
                "name",
                "version",
                "created",
                "labels",
                "preprocess",
                "calibration",
                "golden",
                "files",
                "origin",
                "figures",
                "intended",
                "forbidden",
                "limits",
            ]
        )
        == KEYS
    )
    content = json.loads(card().to_json())
    assert content["preprocess"] == {"size": 48, "margin": 0.0, "tone": "standard"}
    assert content["calibration"] == {"temperature": 1.1, "uncertain": 0.4}


def test_a_card_says_for_what_its_threshold_holds_and_which_labels_cannot_be_told_reliably():
    measured = {"scope": "below 73% …", "unreliable": ["fear", "disgust", "calm"], "parts": {}}
    new = card(metrics={"calibration": measured})
    assert new.unreliable_labels == ("disgust", "fear"), "its own, in its order"
    assert new.calibration_scope == "below 73% …"
    assert contract.parse_card(new.to_json()) == new
    assert json.loads(new.to_json())["calibration"] == {"temperature": 1.1, "uncertain": 0.4}, (
        "a mien that knows of neither reads it, too"
    )


@pytest.mark.parametrize(
    "metrics",
    [
        {},
        {"calibration": 3},
        {"calibration": {"scope": 3, "unreliable": "fear"}},
        {"calibration": {}},
    ],
)
def test_a_card_that_says_nothing_of_them_loads_as_before(metrics):
    old = card(metrics=metrics)
    assert old.unreliable_labels == ()
    assert old.calibration_scope == ""


def test_a_picture_of_the_networks_size_passes_unchanged():
    image = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
    assert (PLAIN.whole(image) == image).all()


def test_shrinking_by_a_whole_factor_averages_areas():
    image = np.random.default_rng(0).integers(0, 256, (96, 144), dtype=np.uint8)
    expected = image.reshape(48, 2, 48, 3).mean(axis=(1, 3))
    assert np.abs(PLAIN.cropped(image, Box(0, 0, 144, 96)) - expected).max() <= 0.5


def test_shrinking_agrees_with_opencvs_area_interpolation():
    image = np.random.default_rng(1).integers(0, 256, (131, 131), dtype=np.uint8)
    ours = PLAIN.whole(image).astype(int)
    assert np.abs(ours - cv2.resize(image, (48, 48), interpolation=cv2.INTER_AREA)).max() <= 1


def test_enlarging_agrees_with_opencvs_linear_interpolation():
    image = np.random.default_rng(2).integers(0, 256, (20, 20), dtype=np.uint8)
    ours = PLAIN.whole(image).astype(int)
    assert np.abs(ours - cv2.resize(image, (48, 48), interpolation=cv2.INTER_LINEAR)).max() <= 1


def test_the_crop_is_the_square_about_the_box_with_the_margin():
    image = np.zeros((200, 200), np.uint8)
    image[60:140, 60:140] = 200  # a square of 80 about (100, 100)
    assert (Preprocess(48, 0.0, "none")(image, Box(70, 60, 60, 80)) == 200).all()
    wider = Preprocess(48, 1.0, "none")(image, Box(70, 60, 60, 80))
    assert wider[0, 0] == 0
    assert wider[24, 24] == 200


def test_outside_of_the_picture_its_edge_repeats():
    image = np.full((50, 50), 77, np.uint8)
    assert (PLAIN(image, Box(-30, -30, 60, 60)) == 77).all()
    assert (PLAIN(image, Box(400, 400, 60, 60)) == 77).all()


@given(
    x=st.floats(-300, 300), y=st.floats(-300, 300), width=st.floats(0.5, 400), height=st.floats(0.5, 400),
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
)  # fmt: skip
def test_any_box_on_any_picture_gives_a_crop_within_its_range(x, y, width, height, shape):
    image = np.random.default_rng(0).integers(40, 200, shape, dtype=np.uint8)
    crop = PLAIN(image, Box(x, y, width, height))
    assert crop.shape == (48, 48)
    assert image.min() <= crop.min()
    assert crop.max() <= image.max()


def dense_weights(start, step, n_in):
    """The definition: (48, n_in) shares of all input pixels in each output pixel, whose edges repeat."""
    if step < 1:
        centres = np.clip(start + step * (np.arange(48) + 0.5) - 0.5, 0, n_in - 1)
        return np.maximum(1 - np.abs(centres[:, None] - np.arange(n_in)), 0)
    edges = start + step * np.arange(49)
    left = np.arange(n_in, dtype=float)
    right = left + 1
    left[0] = -np.inf
    right[-1] = np.inf
    overlap = np.minimum(edges[1:, None], right) - np.maximum(edges[:-1, None], left)
    return overlap.clip(0) / step


@settings(deadline=None, max_examples=50)
@given(
    x=st.floats(-40, 300), y=st.floats(-40, 300), width=st.floats(1, 400), height=st.floats(1, 400),
    shape=st.tuples(st.integers(1, 300), st.integers(1, 300)),
)  # fmt: skip
def test_a_crop_is_the_sum_of_all_pixels_by_their_shares(x, y, width, height, shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    rows = dense_weights(y, height / 48, shape[0])
    columns = dense_weights(x, width / 48, shape[1])
    exact = rows @ image.astype(float) @ columns.T
    assert np.abs(PLAIN.cropped(image, Box(x, y, width, height)) - exact).max() < 0.501


@settings(deadline=None, max_examples=50)
@given(
    x=st.floats(-40, 120), y=st.floats(-40, 120), side=st.floats(2, 90),
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
)  # fmt: skip
def test_the_needed_pixels_alone_give_the_same_crop(x, y, side, shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    rows, columns = contract.needed_pixels(Box(x, y, side, side), shape)
    moved = Box(x - columns.start, y - rows.start, side, side)
    whole = PLAIN.cropped(image, Box(x, y, side, side))
    assert (PLAIN.cropped(image[rows, columns], moved) == whole).all()


WITH_THREADS = """
import os, pathlib, sys, time
os.environ["OPENBLAS_NUM_THREADS"] = "4"
import numpy as np
from mien_edge.contract import Preprocess
from mien_edge.values import Box

def waits():
    tasks = [path for path in pathlib.Path("/proc/self/task").iterdir() if path.name != str(os.getpid())]
    return [line for task in tasks for line in (task / "status").read_text().splitlines() if "ctxt" in line]

def settled():
    before, now = None, waits()
    while now != before:
        time.sleep(0.05)
        before, now = now, waits()
    return now

image = np.zeros((1500, 1500), np.uint8)
before = settled()
Preprocess(48, 0.0, "standardize")(image, Box(0, 0, 1450, 1450))
after_crop = settled()
np.ones((48, 1500), np.float32) @ image.astype(np.float32)
can_wake = settled() != after_crop
print("woken" if after_crop != before else "asleep" if can_wake else "no threads")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_crop_of_a_large_face_wakes_no_thread_of_the_matrix_library():
    code = [sys.executable, "-c", WITH_THREADS]
    state = subprocess.run(code, capture_output=True, text=True, check=True).stdout.strip()
    if state == "no threads":
        pytest.skip("this NumPy's matrix library has no threads that wait")
    assert state == "asleep"


def test_toning_fixes_mean_and_deviation_and_ignores_light(gray):
    dark = (gray * 0.4 + 10).astype(np.uint8)
    bright, dim = STANDARD.whole(gray).astype(int), STANDARD.whole(dark).astype(int)
    assert abs(bright.mean() - 128) < 1
    assert abs(bright.std() - 51) < 1
    assert np.abs(bright - dim).max() <= 5


def test_toning_a_single_tone_gives_mid_gray():
    assert (STANDARD.normalize(np.full((48, 48), 9, np.uint8)) == 128).all()


def test_toning_a_batch_is_toning_each():
    batch = np.random.default_rng(3).integers(0, 256, (5, 48, 48), dtype=np.uint8)
    assert (
        STANDARD.normalize(batch) == np.stack([STANDARD.normalize(image) for image in batch])
    ).all()


@given(
    scale=st.floats(1e-4, 10),
    zero=st.integers(-128, 127),
    values=st.lists(st.floats(-1000, 1000), min_size=1, max_size=9),
)
def test_dequantised_values_are_within_half_a_step_unless_saturated(scale, zero, values):
    q = Quantization(scale, zero, "int8")
    low, high = (-128 - zero) * scale, (127 - zero) * scale
    back = q.dequantize(q.quantize(np.array(values)))
    expected = np.clip(values, low, high)
    assert np.abs(back - expected).max() <= scale * 0.5 + 1e-4 * max(1, scale)


@given(st.sampled_from(["int8", "uint8"]), st.integers(0, 255))
def test_quantising_what_was_dequantised_gives_the_same_step(dtype, offset):
    info = np.iinfo(dtype)
    q = Quantization(0.0371, int(info.min) + offset, dtype)
    steps = np.arange(info.min, info.max + 1).astype(dtype)
    assert (q.quantize(q.dequantize(steps)) == steps).all()


def test_softmax_sums_to_one_and_flattens_with_temperature():
    logits = np.array([[1.0, 2.0, 1000.0], [0.0, 0.0, 0.0]])
    assert np.allclose(contract.softmax(logits).sum(axis=1), 1)
    assert (
        contract.softmax(np.array([0.0, 3.0]), 3.0).max()
        < contract.softmax(np.array([0.0, 3.0])).max()
    )


def test_a_card_survives_its_json():
    assert parse_card(card().to_json()) == card()


@pytest.mark.parametrize("key", KEYS)
def test_a_missing_key_is_named(key):
    content = json.loads(card().to_json())
    del content[key]
    with pytest.raises(ContractError, match=f"'{key}' is missing"):
        parse_card(json.dumps(content))


def test_an_unknown_key_is_named_with_its_neighbour():
    content = json.loads(card().to_json())
    content["calibration"]["temprature"] = content["calibration"].pop("temperature")
    with pytest.raises(
        ContractError, match=r"calibration: unknown key 'temprature'; did you mean 'temperature'"
    ):
        parse_card(json.dumps(content))


def test_another_contract_version_is_named_before_anything_else():
    with pytest.raises(ContractError, match="'contract' is 99, this mien reads 1 and 2"):
        parse_card('{"contract": 99, "future": true}')


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"contract": 1, "labels": list(reversed(LABELS))}, "labels must be angry"),
        ({"labels": ["happy"]}, "labels must be 2 to 16 names, not 1; export the bundle again"),
        ({"labels": [f"l{index}" for index in range(17)]}, "labels must be 2 to 16 names, not 17"),
        ({"labels": ["sad", "happy", "sad"]}, "labels has 'sad' twice"),
        ({"labels": ["happy", "none"]}, "labels has 'none', but a label is 1 to 32 of a-z"),
        ({"labels": ["happy", "Sad"]}, "labels has 'Sad', but a label is"),
        ({"labels": ["happy", "\U0001f600"]}, "labels has '.U0001f600', but a label is"),
        ({"labels": ["happy", 7]}, r"labels\[1\] must be of type str"),
        ({"labels": "happy,sad"}, "labels must be a list"),
        ({"name": "../evil"}, "name must be letters"),
        ({"version": 0}, "version must be 1"),
        ({"calibration": {"temperature": 0, "uncertain": 0.4}}, "temperature must be"),
        ({"calibration": {"temperature": 1e999, "uncertain": 0.4}}, "no JSON number|finite"),
        ({"files": {"model.tflite": {"sha256": "zz", "bytes": 1}}}, "64 hexadecimal"),
        ({"preprocess": {"size": 4, "margin": 0.1, "tone": "none"}}, "size must be"),
        (
            {"preprocess": {"size": 48, "margin": 0.1, "tone": "loud"}},
            "must be one of none, standard",
        ),
        ({"version": True}, "must be of type int"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_reason(change, reason):
    content = json.loads(card().to_json()) | change
    with pytest.raises(ContractError, match=reason):
        parse_card(json.dumps(content))


@pytest.mark.parametrize("labels", [["happy", "x" * 10_000], "x" * 10_000, {"x" * 10_000: 1}])
def test_labels_of_ten_thousand_letters_are_refused_in_one_short_line(labels):
    content = json.loads(card().to_json()) | {"labels": labels}
    with pytest.raises(ContractError, match=r"^card\.json.*labels") as refusal:
        parse_card(json.dumps(content))
    assert len(str(refusal.value)) < 600
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "labels", [("happy", "sad"), (*LABELS, "contempt"), ("a", "0", "eyes-closed")]
)
def test_a_card_has_labels_of_its_own_in_their_order(labels):
    parsed = parse_card(card(labels=labels).to_json())
    assert parsed.labels == labels
    assert parsed.contract == 2


def test_a_card_of_contract_version_1_is_read_and_means_the_seven():
    parsed = parse_card(card(contract=1).to_json())
    assert (parsed.contract, parsed.labels) == (1, LABELS)


@given(st.text())
def test_no_text_crashes_the_parser(text):
    with pytest.raises(ContractError):
        parse_card(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=6,
    ),
    st.sampled_from(KEYS),
)
def test_any_value_under_any_key_is_a_card_or_a_contract_error(value, key):
    content = json.loads(card().to_json()) | {key: value}
    try:
        parsed = parse_card(json.dumps(content))
    except ContractError:
        return
    assert parse_card(parsed.to_json()) == parsed
