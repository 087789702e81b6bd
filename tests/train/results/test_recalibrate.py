"""A bundle's calibration is fitted anew without training: the next version, the one before untouched."""

import json
from dataclasses import replace

import numpy as np
import pytest
from mien_edge import files
from mien_edge.errors import DataError
from mien_edge.model.bundle import load_bundle
from mien_train import cli
from mien_train.data import imported
from mien_train.data.source import DataSource
from mien_train.results.evaluate import CalibrationRequest
from mien_train.results.recalibrate import recalibrate


@pytest.fixture
def tiny(tiny_run):
    return load_bundle(tiny_run / "models" / "tiny-1")


def test_the_next_version_has_the_same_network_and_the_one_before_is_untouched(
    tiny, small, tmp_path, capsys
):
    before = files.sha256(tiny.folder / "card.json")
    command = ["calibrate", str(tiny.folder), "--data", str(small), "--models", str(tmp_path)]
    assert cli.main([*command, "--target-accuracy", "0.5"]) == 0
    assert "set for 50% right by fer2013 labels" in capsys.readouterr().out
    again = load_bundle(tmp_path / "tiny-2")
    assert files.sha256(tiny.folder / "card.json") == before
    assert again.card.files == tiny.card.files
    assert again.card.provenance["recalibrated"]["bundle"] == "tiny-1"
    assert again.card.provenance["recalibrated"]["card"] == before
    said = [text for text in again.card.limitations if text.startswith("Of its confidence: ")]
    assert len(said) == 1
    assert again.card.calibration_scope in said[0]
    int8 = again.card.metrics["networks"]["int8"]
    assert int8["temperature"] == again.card.calibration.temperature
    accuracy = tiny.card.metrics["networks"]["int8"]["test"]["fer2013"]["accuracy"]
    assert int8["test"]["fer2013"]["accuracy"] == accuracy
    assert cli.main(command) == 0
    assert load_bundle(tmp_path / "tiny-3").card.metrics["calibration"]["target"] == 0.75


def test_the_same_rows_give_the_calibration_that_the_export_gave(tiny, small, tmp_path):
    result = recalibrate(tiny, DataSource(small).dataset, "official", tmp_path)
    again = result.bundle
    assert result.before == result.after
    assert list(result.after)[-1] == "PublicTest"
    assert again.card.calibration == tiny.card.calibration
    assert again.card.metrics == tiny.card.metrics
    assert again.card.limitations == tiny.card.limitations


def test_other_data_are_a_part_of_it_where_they_share_a_label(tiny, small, tmp_path, capsys):
    dataset = DataSource(small).dataset
    faces = tmp_path / "faces.npz"
    imported.save(dataset, faces)
    command = ["calibrate", str(tiny.folder), "--data", str(small), "--models", str(tmp_path)]
    assert cli.main([*command, "--calibration-data", str(faces)]) == 0
    assert "occlusion, faces.npz; " in capsys.readouterr().out
    card = json.loads((tmp_path / "tiny-2" / "card.json").read_text())
    assert card["figures"]["calibration"]["parts"]["faces.npz"]["rows"] == len(dataset)
    assert card["origin"]["recalibrated"]["calibration_data"] == {"faces.npz": dataset.sha256}
    others = {"pets": replace(dataset, label_names=("cat",) * 7)}
    with pytest.raises(DataError, match="pets: none of its labels is one of angry"):
        recalibrate(tiny, dataset, "official", tmp_path, CalibrationRequest(others))
    few = CalibrationRequest({"few": dataset.take(np.arange(99))})
    with pytest.raises(DataError, match=r"few: 99 faces with a label are too few .* at least 100"):
        recalibrate(tiny, dataset, "official", tmp_path, few)
    hidden = CalibrationRequest({"blur": dataset})
    with pytest.raises(DataError, match="blur: calibration has a part of that name"):
        recalibrate(tiny, dataset, "official", tmp_path, hidden)


@pytest.mark.parametrize("share", ["0", "1", "85"])
def test_a_target_that_is_no_share_is_refused(tiny, small, tmp_path, capsys, share):
    command = ["calibrate", str(tiny.folder), "--data", str(small), "--models", str(tmp_path)]
    assert cli.main([*command, "--target-accuracy", share]) == 1
    assert "must be between 0 and 1" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_pointed_to_export(tiny_run, capsys):
    assert cli.main(["calibrate", str(tiny_run)]) == 1
    assert f"mien-train export {tiny_run}" in capsys.readouterr().err
