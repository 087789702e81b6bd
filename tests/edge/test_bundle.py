"""Bundles: verified, replayed, refused, installed."""

import dataclasses
import io
import json
import shutil
import subprocess
import tarfile

import numpy as np
import pytest
from helpers import ROOT, clean_environment, environment
from mien_edge import bundle as bundles
from mien_edge import contract, files, interpreter, store
from mien_edge.errors import BundleError, ContractError, MienError, RuntimeMissingError
from mien_edge.interpreter import Classifier


@pytest.fixture
def copy(bundle, tmp_path):
    """A copy of the bundle that a test may spoil."""
    folder = tmp_path / "copy"
    shutil.copytree(bundle.folder, folder)
    return folder


def pin_again(folder, **changes):
    """Write the card anew with the digests of the files as they are."""
    card = contract.parse_card((folder / "card.json").read_text())
    pins = {n: contract.File(files.sha256(folder / n), (folder / n).stat().st_size) for n in card.files}
    (folder / "card.json").write_text(dataclasses.replace(card, files=pins, **changes).to_json())


def test_the_committed_bundle_passes_its_golden_vectors(bundle):
    replay = bundles.replay(bundle, Classifier(bundle.model))
    assert replay.vectors >= 32
    assert replay.difference <= bundle.card.golden.tolerance


def test_the_reference_kernels_give_the_golden_vectors_exactly(bundle):
    assert bundles.replay(bundle, Classifier(bundle.model, reference=True)).difference == 0


def test_golden_vectors_reach_several_labels(bundle):
    with np.load(bundle.folder / "golden.npz") as golden:
        assert len(set(golden["outputs"].argmax(axis=1).tolist())) >= 4


REPLAY = """
import sys
from pathlib import Path
from mien_edge import bundle, interpreter
loaded = bundle.load(Path(sys.argv[1]))
classifier = interpreter.Classifier(loaded.model)
print(classifier.runtime.name, bundle.replay(loaded, classifier).difference)
"""


@pytest.mark.parametrize(
    ("name", "runtime"),
    [(".venv-edge", "ai-edge-litert"), (".venv-tflite", "tflite-runtime")],
    ids=["litert", "tflite"],
)
def test_each_interpreter_alone_passes_the_golden_vectors(bundle, name, runtime):
    python = environment(name)
    if not list(python.parents[1].glob(f"lib/*/site-packages/{runtime.replace('-', '_')}")):
        pytest.skip(f"{runtime} has no wheel for this Python")
    command = [python, "-c", REPLAY, bundle.folder]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
    assert done.returncode == 0, done.stderr
    found, difference = done.stdout.split()
    assert found == runtime
    assert int(difference) <= bundle.card.golden.tolerance


def test_without_an_interpreter_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(interpreter, "_RUNTIMES", (("no-such-runtime", "no_such_runtime"),))
    with pytest.raises(RuntimeMissingError, match=r"no-such-runtime is not installed; pip install 'mien\[edge\]'"):
        interpreter.runtime()


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: flip(folder / "model.tflite"), "sha256 is not the card's"),
        (lambda folder: flip(folder / "golden.npz"), "sha256 is not the card's"),
        (lambda folder: (folder / "model.tflite").write_bytes(b""), "0 bytes where the card pins"),
        (lambda folder: (folder / "golden.npz").unlink(), "not a plain file"),
        (lambda folder: (folder / "card.json").unlink(), "cannot be read"),
        (lambda folder: (folder / "card.json").write_bytes(b"\xff\xfe"), "cannot be read"),
        (lambda folder: (folder / "card.json").write_text("{"), "not valid JSON"),
    ],
)
def test_a_spoilt_bundle_is_refused_with_its_reason(copy, spoil, reason):
    spoil(copy)
    with pytest.raises((BundleError, ContractError), match=reason):
        bundles.load(copy)


def test_a_symlink_is_no_file_of_a_bundle(copy):
    (copy / "model.tflite").rename(copy / "other")
    (copy / "model.tflite").symlink_to("other")
    with pytest.raises(BundleError, match="not a plain file"):
        bundles.load(copy)


def test_a_pinned_name_cannot_lead_outside(copy):
    content = json.loads((copy / "card.json").read_text())
    content["files"]["../evil"] = content["files"]["model.tflite"]
    (copy / "card.json").write_text(json.dumps(content))
    with pytest.raises(BundleError, match="not a plain file"):
        bundles.load(copy)


def test_a_file_that_is_no_network_is_refused(copy):
    (copy / "model.tflite").write_bytes(b"TFL3" * 100)
    pin_again(copy)
    with pytest.raises(BundleError, match=r"the interpreter refuses it|inputs where|8-bit"):
        Classifier(bundles.load(copy).model)


def test_a_network_that_computes_something_else_is_refused(copy):
    with np.load(copy / "golden.npz") as golden:
        inputs, outputs = golden["inputs"], golden["outputs"]
    np.savez(copy / "golden.npz", inputs=inputs, outputs=np.roll(outputs, 1, axis=1))
    pin_again(copy)
    loaded = bundles.load(copy)
    with pytest.raises(BundleError, match="golden vectors differ by"):
        bundles.replay(loaded, Classifier(loaded.model))


def test_installing_makes_it_current_and_again_changes_nothing(bundle, tmp_path):
    place = tmp_path / "models"
    for _ in range(2):
        store.install(bundle.folder, place)
        assert store.installed(place) == [(bundle.card.id, True)]
        assert sorted(path.name for path in place.iterdir()) == sorted([bundle.card.id, "current"])


def test_a_refused_bundle_leaves_the_old_one_current(bundle, copy, tmp_path):
    place = tmp_path / "models"
    store.install(bundle.folder, place)
    with np.load(copy / "golden.npz") as golden:
        inputs, outputs = golden["inputs"], golden["outputs"]
    np.savez(copy / "golden.npz", inputs=inputs, outputs=np.roll(outputs, 1, axis=1))
    pin_again(copy, version=bundle.card.version + 1)
    with pytest.raises(BundleError, match=r"refused: .*golden vectors differ"):
        store.install(copy, place)
    assert store.installed(place) == [(bundle.card.id, True)]


def test_going_on_and_back_between_versions(bundle, copy, tmp_path):
    place = tmp_path / "models"
    store.install(bundle.folder, place)
    pin_again(copy, version=bundle.card.version + 1)
    newer = store.install(copy, place).card.id
    assert store.installed(place) == [(bundle.card.id, False), (newer, True)]
    store.activate(bundle.card.id, place)
    assert store.installed(place) == [(bundle.card.id, True), (newer, False)]


def test_another_bundle_of_the_same_version_is_refused(bundle, copy, tmp_path):
    store.install(bundle.folder, tmp_path / "models")
    pin_again(copy, created="2030-01-01T00:00:00+00:00")
    with pytest.raises(BundleError, match="another bundle of this name and version"):
        store.install(copy, tmp_path / "models")


@pytest.mark.parametrize("name", ["current", "../outside", "none-1", ".", ""])
def test_only_an_installed_bundle_can_be_chosen(bundle, tmp_path, name):
    store.install(bundle.folder, tmp_path / "models")
    shutil.copytree(bundle.folder, tmp_path / "outside")
    with pytest.raises(BundleError, match="not installed"):
        store.activate(name, tmp_path / "models")
    assert store.installed(tmp_path / "models") == [(bundle.card.id, True)]


def test_a_damaged_installed_bundle_is_replaced_by_installing_again(bundle, tmp_path):
    store.install(bundle.folder, tmp_path / "models")
    flip(tmp_path / "models" / bundle.card.id / "model.tflite")
    store.install(bundle.folder, tmp_path / "models")
    assert bundles.load(tmp_path / "models" / "current").card == bundle.card


def test_a_card_whose_size_is_not_the_networks_is_refused(bundle, copy):
    pin_again(copy, preprocess=dataclasses.replace(bundle.card.preprocess, size=64))
    loaded = bundles.load(copy)
    with pytest.raises(BundleError, match=r"preprocess.size is 64, the network takes 48"):
        bundles.replay(loaded, Classifier(loaded.model))


def archive(*entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for entry, content in entries:
            entry.size = len(content)
            made.addfile(entry, io.BytesIO(content))
    out.seek(0)
    return out


def link(name, target):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    return entry


@pytest.mark.parametrize(
    "stream",
    [
        archive((tarfile.TarInfo("../card.json"), b"{}")),
        archive((tarfile.TarInfo("/etc/passwd"), b"{}")),
        archive((tarfile.TarInfo("a/b"), b"{}")),
        archive((link("card.json", "/etc/passwd"), b"")),
        archive((tarfile.TarInfo(".."), b"{}")),
        archive((tarfile.TarInfo("a" * 300), b"{}")),
        io.BytesIO(b"no archive at all" * 99),
        io.BytesIO(b""),
    ],
    ids=["parent", "absolute", "folder", "symlink", "dots", "long", "garbage", "empty"],
)
def test_a_hostile_archive_is_refused_and_writes_nothing(stream, tmp_path):
    (tmp_path / "inside").mkdir()
    with pytest.raises(MienError):
        store.receive(stream, tmp_path / "inside" / "models")
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]
    assert list((tmp_path / "inside").iterdir()) == []


def test_a_cut_off_archive_is_refused(bundle, tmp_path):
    content = b"".join(
        archive((tarfile.TarInfo(path.name), path.read_bytes())).getvalue() for path in [bundle.folder / "card.json"]
    )
    with pytest.raises(MienError):
        store.receive(io.BytesIO(content[: len(content) // 2]), tmp_path / "models")


def test_the_packaged_default_is_the_current_one(monkeypatch, tmp_path):
    monkeypatch.setenv("MIEN_MODELS", str(tmp_path / "none"))
    assert bundles.find() == ROOT / "models" / "current"
    assert bundles.find("elsewhere").name == "elsewhere"
