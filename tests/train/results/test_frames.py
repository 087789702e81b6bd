"""The whole line on a camera's frames: what is counted, and that the device's own chain is what is measured."""

import dataclasses
import json
import shutil

import cv2
import numpy as np
import pytest
from helpers import ROOT
from mien_edge.chain import sources
from mien_edge.chain.photos import read_photo
from mien_edge.errors import DataError
from mien_edge.model.bundle import load_bundle
from mien_edge.values import Box, Frame
from mien_train import cli
from mien_train.data import camera, sights
from mien_train.data.camera import CAMERA_CORRUPTIONS, View
from mien_train.results import frames, line
from mien_train.results.crossvalidation import estimate_ratio
from mien_train.results.frames import FrameResult
from mien_train.results.line import Observation

BUNDLE = ROOT / "models" / "current"
MINUTE = round(60 * line.FPS)
"""Frames of a minute."""


def clip(*labels):
    """A minute in which these labels follow each other, each for as long; None: no label, "": no face."""
    observations = [
        Observation() if label == "" else Observation(1, label, label, label, "good")
        for label in labels
    ]
    return [observations[index * len(labels) // MINUTE] for index in range(MINUTE)]


def in_motion(*clips, truth="happy"):
    return frames.motion_figures(clips, [truth] * len(clips), np.arange(len(clips)))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder with the demo's photograph, labelled."""
    folder = tmp_path_factory.mktemp("photographs")
    shutil.copy(sources.astronaut(), folder / "smile.png")
    (folder / "labels.csv").write_text("file,emotion\nsmile.png,happy\n")
    return folder


@pytest.fixture(scope="module")
def measured(photographs, tmp_path_factory):
    """The JSON that the command prints, read back, and the picture that it draws: of the demo's photograph, a torn one and one of a wall."""
    folder = tmp_path_factory.mktemp("measured")
    shutil.copytree(photographs, folder, dirs_exist_ok=True)
    (folder / "torn.png").write_bytes((folder / "smile.png").read_bytes()[:200])
    cv2.imwrite(str(folder / "wall.png"), np.full((200, 200, 3), 90, np.uint8))
    rows = "smile.png,happy\ntorn.png,sad\nwall.png,neutral\n"
    (folder / "labels.csv").write_text("file,emotion\n" + rows)
    picture = folder / "out" / "frames.png"
    command = ["robustness", str(BUNDLE), "--photos", str(folder), "--out", str(picture)]
    with pytest.MonkeyPatch.context() as patch:
        printed = []
        patch.setattr("builtins.print", printed.append)
        assert cli.main([*command, "--skip-bad", "--json"]) == 0
    (values,) = json.loads(printed[0])
    return FrameResult.from_json(values, "result"), picture


def test_the_command_measures_a_bundle_under_each_corruption_and_in_motion(measured):
    result, picture = measured
    assert result.model == load_bundle(BUNDLE).card.id
    assert result.photographs == 1
    assert result.as_placed.found.value == 1
    assert result.as_placed.accuracy.value == 1
    strengths = {name: entry.strengths for name, entry in result.corruptions.items()}
    assert strengths == {entry.name: entry.strengths for entry in CAMERA_CORRUPTIONS}
    assert result.motion.found.value > 0.9
    assert result.motion.given_accuracy.value == 1
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_photographs_that_are_left_out_are_counted_and_named(measured):
    result, _ = measured
    assert result.without_face == 1
    assert result.unreadable == 1
    text = result.as_text()
    assert "left out: 1 without a face for the detector as they are, 1 unreadable" in text


def test_the_text_names_every_corruption_with_its_unit_and_the_motion(measured):
    text = measured[0].as_text()
    for corruption in CAMERA_CORRUPTIONS:
        assert f"{corruption.name}, {corruption.unit}" in text
    assert "label changes a minute: 0.00" in text


def test_in_the_dark_no_face_is_found_and_so_none_is_right(photographs):
    (chain,) = line.observed_chains([load_bundle(BUNDLE)])
    path = photographs / "smile.png"
    box = sights.look(path).box
    view = View(light=1e-4)
    frame = camera.render(read_photo(path), box, view, np.random.default_rng(0))
    assert chain(Frame(frame, 0, 0.0, "dark"), view.face_box(box)) == Observation()


def test_a_face_elsewhere_in_the_frame_is_not_taken_for_the_one_that_is_measured(photographs):
    (chain,) = line.observed_chains([load_bundle(BUNDLE)])
    path = photographs / "smile.png"
    box = sights.look(path).box
    frame = camera.render(read_photo(path), box, View(), np.random.default_rng(0))
    assert chain(Frame(frame, 0, 0.0, "here"), View().face_box(box)).is_found
    assert not chain(Frame(frame, 0, 0.0, "elsewhere"), Box(0, 0, 120, 160)).is_found


def test_bundles_beside_each_other_say_what_each_says_alone(photographs):
    bundles = [load_bundle(ROOT / "models" / name) for name in ("edge-1", "edge-ferplus-4")]
    path = photographs / "smile.png"
    box = sights.look(path).box
    view = View(light=0.01)
    frame = Frame(camera.render(read_photo(path), box, view, np.random.default_rng(0)), 0, 0.0, "x")
    together = [chain(frame, view.face_box(box)) for chain in line.observed_chains(bundles)]
    alone = [line.observed_chains([bundle])[0](frame, view.face_box(box)) for bundle in bundles]
    assert together == alone


def test_a_label_that_comes_back_after_a_gap_has_not_changed():
    assert in_motion(clip("happy", None, "happy")).label_changes.value == 0
    assert in_motion(clip("happy", None, "sad")).label_changes.value == 1
    assert in_motion(clip("happy", "", "sad", "happy")).label_changes.value == 2


def test_what_is_shown_changes_with_each_gap_too():
    assert in_motion(clip("happy", None, "happy")).shown_changes.value == 2
    assert in_motion(clip("happy", "", "sad")).shown_changes.value == 2


def test_labels_without_smoothing_are_counted_for_themselves():
    moments = clip("happy", "happy")
    moments[10] = dataclasses.replace(moments[10], single_label="sad")
    figures = in_motion(moments)
    assert figures.label_changes.value == 0
    assert figures.unsmoothed_changes.value == 2


def test_steady_is_a_share_of_the_photographs_that_are_given_a_label():
    figures = in_motion(clip("happy"), clip("happy", "sad"), clip(None), clip(""))
    assert figures.steady.value == 0.5
    assert figures.given.value == pytest.approx(0.5, abs=0.001)
    assert figures.found.value == 0.75
    assert figures.given_accuracy.value == 0.75
    assert in_motion(clip(None)).steady is None


def test_a_photograph_that_is_not_found_counts_as_wrong_and_gives_no_label():
    observations = [
        Observation(1, "sad", "sad", "sad", "good"),
        Observation(1, "sad", None, None, "uncertain"),
        Observation(1, "happy", "happy", "happy", "good"),
        Observation(),
    ]
    figures = frames.still_figures(observations, ["sad"] * 4, np.arange(4))
    assert figures.found.value == 0.75
    assert figures.accuracy.value == 0.5
    assert figures.given.value == 0.5
    assert figures.given_accuracy.value == 0.5
    nothing = frames.still_figures(observations[3:], ["sad"], np.arange(1))
    assert nothing.given_accuracy is None


def test_an_interval_over_few_groups_is_wider_than_one_over_single_photographs():
    right = np.repeat([1, 0, 1, 1], 25)
    ones = np.ones(100)
    single = estimate_ratio(right, ones)
    grouped = estimate_ratio(right, ones, np.repeat(np.arange(4), 25))
    assert single.value == grouped.value == 0.75
    assert single.low == pytest.approx(0.75 - 1.96 * np.sqrt(0.75 * 0.25 / 100), abs=0.02)
    assert grouped.high - grouped.low > 2 * (single.high - single.low)


def test_a_photograph_that_cannot_be_read_is_named_or_left_out(photographs, tmp_path):
    shutil.copytree(photographs, tmp_path, dirs_exist_ok=True)
    (tmp_path / "torn.png").write_bytes((tmp_path / "smile.png").read_bytes()[:200])
    (tmp_path / "labels.csv").write_text("file,emotion\ntorn.png,sad\n")
    bundles = [load_bundle(BUNDLE)]
    pictures = line.read_pictures(tmp_path, None, 0)
    with pytest.raises(DataError, match=r"torn\.png: .*--skip-bad"):
        frames.measure(bundles, pictures)
    with pytest.raises(DataError, match="no face in any of the photographs"):
        frames.measure(bundles, pictures, skip_bad=True)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("gone.png,sad\nsmile.png,happy\n", r"gone\.png: no such file"),
        ("smile.png,tired\n", "no photograph has one of its labels"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_any_photograph_is(
    photographs, tmp_path, monkeypatch, rows, message
):
    shutil.copytree(photographs, tmp_path, dirs_exist_ok=True)
    (tmp_path / "labels.csv").write_text("file,emotion\n" + rows)
    monkeypatch.setattr(line, "compute_ahead", None)
    with pytest.raises(DataError, match=message):
        frames.measure([load_bundle(BUNDLE)], line.read_pictures(tmp_path, None, 0))


def test_a_draw_of_photographs_is_the_same_at_each_call_and_in_their_order(tmp_path):
    names = [f"{number:02}.png" for number in range(20)]
    rows = "".join(f"{name},happy\n" for name in names)
    (tmp_path / "labels.csv").write_text("file,emotion\n" + rows)
    first, again = (
        [picture.path.name for picture in line.read_pictures(tmp_path, None, 7)] for _ in range(2)
    )
    assert first == again == sorted(first)
    assert len(set(first)) == 7
    assert len(line.read_pictures(tmp_path, None, 0)) == 20


def test_frames_and_crops_are_not_asked_for_at_once(photographs, capsys):
    command = ["robustness", str(BUNDLE), "--photos", str(photographs), "--data", "fer2013.csv"]
    assert cli.main(command) == 1
    assert "give one of the two" in capsys.readouterr().err
