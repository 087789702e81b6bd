"""Networks of others in an ensemble's folder: measured beside its members, and never copied."""

import contextlib
import io
import json
import shutil

import cv2
import numpy as np
import pytest
import small_packages as packages
from mien_edge.contract import LABELS
from mien_edge.errors import RunError
from mien_train import cli
from mien_train.training import ensemble, members
from small_data import picture

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """The contract of an ONNX network that says neutral of every picture."""
    pytest.importorskip("onnx", reason="onnx is not installed: the group test")
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: mien[onnx]")
    folder = tmp_path_factory.mktemp("packages")
    file = packages.onnx_file(folder / "net.onnx", np.zeros((3, 7)), [9, 0, 0, 0, 0, 0, 0])
    return packages.contract_of(file, "calm")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two gray 48x48 photographs of each of three labels."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(5)
    for label in ("happy", "sad", "neutral"):
        (folder / label).mkdir()
        for number in range(2):
            path = folder / label / f"{number}.png"
            cv2.imwrite(str(path), picture(LABELS.index(label), rng))
    return folder


@pytest.fixture(scope="module")
def made(tiny_run, small, teacher, photos, tmp_path_factory):
    """The folder of an ensemble with that teacher, made by the command, and what the command printed."""
    folder = tmp_path_factory.mktemp("ensemble") / "teachers"
    command = [
        "ensemble",
        folder,
        tiny_run,
        "--data",
        small,
        "--package",
        teacher,
        "--photos",
        photos,
    ]
    return folder, call(command)


def call(command):
    """Run a command of mien-train; returns what it printed."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert cli.main(list(map(str, command))) == 0
    return output.getvalue()


def record_of(folder):
    return json.loads((folder / "ensemble.json").read_text())


def test_the_command_measures_a_package_beside_the_members_on_rows_and_photographs(made):
    folder, output = made
    record = record_of(folder)
    (package,) = record["packages"]
    assert set(package["figures"]) == {
        "validation",
        "PublicTest",
        "PublicTest unseen",
        "photographs",
    }
    assert package["figures"]["PublicTest"]["fer2013"]["accuracy"] == pytest.approx(1 / 7)
    photographs = package["figures"]["photographs"]["fer2013"]
    assert (photographs["rows"], photographs["accuracy"]) == (6, pytest.approx(1 / 3))
    assert photographs["recall"] == {"happy": 0, "sad": 0, "neutral": 1}
    last = output.splitlines()[-1]
    assert last.startswith("calm (package) ")
    assert last.count(" 14.29% (14.29%)") == 3
    assert last.endswith(" 33.33% (33.33%)")


def test_a_package_has_no_share_and_leaves_the_ensembles_probabilities_as_they_were(
    made, tiny_run, small, tmp_path
):
    folder, _ = made
    call(["ensemble", tmp_path / "without", tiny_run, "--data", small])
    crops = np.random.default_rng(0).integers(0, 256, (5, 48, 48), np.uint8)
    alone = ensemble.load_ensemble(tmp_path / "without")
    both = ensemble.load_ensemble(folder)
    assert (both(crops) == alone(crops)).all()
    assert [member.share for member in both.members] == [1]
    assert alone.packages == ()


def test_its_weights_are_not_in_the_folder_and_its_contract_is(made, teacher):
    folder, _ = made
    assert sorted(path.name for path in folder.iterdir()) == [
        "ensemble.json",
        "ensemble.png",
        "tiny.npz",
    ]
    (package,) = record_of(folder)["packages"]
    assert package["contract"]["licence"] == "MIT, (c) somebody"
    assert package["contract"]["data"] == "pictures of nobody"
    assert len(package["contract"]["sha256"]) == 64
    (loaded,) = ensemble.load_ensemble(folder).packages
    assert loaded.contract == ensemble.package_network.load_package(teacher).contract


def test_a_loaded_package_computes_where_its_file_was_or_lies_next_to_ensemble_json(
    made, teacher, tmp_path
):
    folder, _ = made
    crops = np.zeros((2, 48, 48), np.uint8)
    (loaded,) = ensemble.load_ensemble(folder).packages
    probabilities = loaded.probabilities(crops)
    assert (probabilities.argmax(axis=1) == LABELS.index("neutral")).all()
    moved = tmp_path / "elsewhere" / "moved"
    shutil.copytree(folder, moved)
    ensemble.load_ensemble(moved)(crops)
    with pytest.raises(
        RunError,
        match=r"net\.onnx: cannot be read .* calm is in it; get it there: npm pack other@1",
    ):
        ensemble.load_ensemble(moved).packages[0].probabilities(crops)
    shutil.copy(teacher.parent / "net.onnx", moved)
    assert (ensemble.load_ensemble(moved).packages[0].probabilities(crops) == probabilities).all()


def test_a_package_that_is_too_sure_is_calibrated_on_validation_rows_as_members_are(made):
    (entry,) = record_of(made[0])["packages"]
    # One picture in seven is neutral: the largest temperature is the best.
    assert entry["temperature"] == pytest.approx(10, rel=0.01)
    (loaded,) = ensemble.load_ensemble(made[0]).packages
    assert loaded.temperature == entry["temperature"]
    (shares,) = loaded.probabilities(np.zeros((1, 48, 48), np.uint8))
    odds = shares[LABELS.index("neutral")] / shares[LABELS.index("happy")]
    assert odds == pytest.approx(np.exp(9 / loaded.temperature), rel=1e-4)


def test_a_card_names_a_packages_licence_and_data_where_it_has_taught(made):
    teachers = ensemble.load_ensemble(made[0])
    assert [entry["name"] for entry in ensemble.provenance(teachers, ("fer2013", "ferplus"))] == [
        "tiny"
    ]
    member, package = ensemble.provenance(teachers, ("fer2013", "real"))
    assert member["name"] == "tiny"
    assert {key: package[key] for key in ("name", "licence", "data", "get")} == {
        "name": "calm",
        "licence": "MIT, (c) somebody",
        "data": "pictures of nobody",
        "get": "npm pack other@1",
    }
    assert "share" not in package


def test_packages_of_an_ensemble_go_on_into_the_next_unless_a_contract_takes_their_place(
    made, teacher, tmp_path
):
    folder, _ = made
    (inherited,) = members.open_packages([folder], [])
    assert inherited.name == "calm"
    assert inherited.path.samefile(teacher.parent / "net.onnx")
    shutil.copy(teacher.parent / "net.onnx", tmp_path / "net.onnx")
    again = packages.contract_of(tmp_path / "net.onnx", "calm", data="other pictures")
    (replaced,) = members.open_packages([folder], [again])
    assert replaced.contract.data == "other pictures"


def test_a_package_with_the_name_of_a_member_is_refused(tiny_run, small, teacher, tmp_path, capsys):
    shutil.copy(teacher.parent / "net.onnx", tmp_path / "net.onnx")
    contract = packages.contract_of(tmp_path / "net.onnx", "tiny")
    command = ["ensemble", tmp_path / "out", tiny_run, "--data", small, "--package", contract]
    assert cli.main(list(map(str, command))) == 1
    assert "two members have the same name" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_package_that_is_not_there_is_named_before_anything_is_measured(
    tiny_run, small, teacher, tmp_path, capsys
):
    contract = shutil.copy(teacher, tmp_path)
    command = ["ensemble", tmp_path / "out", tiny_run, "--data", small, "--package", contract]
    assert cli.main(list(map(str, command))) == 1
    error = capsys.readouterr().err
    assert "net.onnx: cannot be read (No such file or directory)" in error
    assert "measuring" not in error
    assert not (tmp_path / "out").exists()
