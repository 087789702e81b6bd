"""Bundles: verified, replayed, refused."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT, clean_environment, environment, pin_again, with_labels
from mien_edge import contract
from mien_edge.cli import main
from mien_edge.errors import BundleError, ContractError, RuntimeMissingError
from mien_edge.model import interpreter
from mien_edge.model.bundle import find_bundle, load_bundle, replay_golden
from mien_edge.model.check import check
from mien_edge.model.interpreter import Classifier


def test_the_committed_bundle_passes_its_golden_vectors(bundle):
    replay = replay_golden(bundle, Classifier(bundle.model))
    assert replay.vectors >= 32
    assert replay.difference <= bundle.card.golden.tolerance


def test_the_reference_kernels_give_the_golden_vectors_exactly(bundle):
    assert replay_golden(bundle, Classifier(bundle.model, reference=True)).difference == 0


def test_golden_vectors_reach_several_labels(bundle):
    with np.load(bundle.folder / "golden.npz") as golden:
        assert len(set(golden["outputs"].argmax(axis=1).tolist())) >= 4


def test_a_network_has_as_many_outputs_as_its_card_has_labels(three_labels, eight_labels, tmp_path):
    for loaded, count in ((three_labels, 3), (eight_labels, 8)):
        classifier = Classifier(loaded.model)
        assert (classifier.outputs, len(loaded.card.labels)) == (count, count)
        assert replay_golden(loaded, classifier).difference <= loaded.card.golden.tolerance
        assert check(loaded.folder).labels == loaded.card.labels
    labels = three_labels.card.labels
    folder = tmp_path / "two"
    shutil.copytree(three_labels.folder, folder)
    pin_again(folder, labels=labels[:2])
    loaded = load_bundle(folder)
    with pytest.raises(BundleError, match="the card has 2 labels, the network 3 outputs"):
        replay_golden(loaded, Classifier(loaded.model))


@pytest.mark.parametrize("count", [1, 17])
def test_a_network_with_too_few_or_too_many_outputs_is_refused(
    bundle, tmp_path, count, monkeypatch
):
    """Its card cannot be written with so many labels, so the check of cards is off while the test makes it."""
    rows = {f"l{index}": "happy" for index in range(count)}
    monkeypatch.setattr(contract, "check_labels", lambda _: None)
    folder = with_labels(bundle.folder, tmp_path / "own", rows)
    with pytest.raises(
        BundleError, match=rf"output shape \[1, {count}\] where \[1, 2\] to \[1, 16\]"
    ):
        Classifier(folder / "model.tflite")


REPLAY = """
import sys
from pathlib import Path
from mien_edge.model.bundle import load_bundle, replay_golden
from mien_edge.model.interpreter import Classifier
loaded = load_bundle(Path(sys.argv[1]))
classifier = Classifier(loaded.model)
print(classifier.runtime.name, replay_golden(loaded, classifier).difference)
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
    with pytest.raises(
        RuntimeMissingError, match=r"no-such-runtime is not installed; pip install 'mien\[edge\]'"
    ):
        interpreter.find_runtime()


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
        load_bundle(copy)


def test_a_symlink_is_no_file_of_a_bundle(copy):
    (copy / "model.tflite").rename(copy / "other")
    (copy / "model.tflite").symlink_to("other")
    with pytest.raises(BundleError, match="not a plain file"):
        load_bundle(copy)


def test_a_pinned_name_cannot_lead_outside(copy):
    content = json.loads((copy / "card.json").read_text())
    content["files"]["../evil"] = content["files"]["model.tflite"]
    (copy / "card.json").write_text(json.dumps(content))
    with pytest.raises(BundleError, match="not a plain file"):
        load_bundle(copy)


def test_a_file_that_is_no_network_is_refused(copy):
    (copy / "model.tflite").write_bytes(b"TFL3" * 100)
    pin_again(copy)
    with pytest.raises(BundleError, match=r"the interpreter refuses it|inputs where|8-bit"):
        Classifier(load_bundle(copy).model)


def test_a_network_that_computes_something_else_is_refused(copy):
    with np.load(copy / "golden.npz") as golden:
        inputs, outputs = golden["inputs"], golden["outputs"]
    np.savez(copy / "golden.npz", inputs=inputs, outputs=np.roll(outputs, 1, axis=1))
    pin_again(copy)
    loaded = load_bundle(copy)
    with pytest.raises(BundleError, match="golden vectors differ by"):
        replay_golden(loaded, Classifier(loaded.model))


def test_a_card_whose_size_is_not_the_networks_is_refused(bundle, copy):
    pin_again(copy, preprocess=dataclasses.replace(bundle.card.preprocess, size=64))
    loaded = load_bundle(copy)
    with pytest.raises(BundleError, match=r"preprocess.size is 64, the network takes 48"):
        replay_golden(loaded, Classifier(loaded.model))


def test_the_packaged_default_is_the_current_one(monkeypatch, tmp_path):
    monkeypatch.setenv("MIEN_MODELS", str(tmp_path / "none"))
    assert find_bundle() == ROOT / "models" / "current"
    assert find_bundle("elsewhere").name == "elsewhere"


def test_a_check_says_what_a_threshold_holds_for_and_what_cannot_be_told(bundle, tmp_path, capsys):
    folder = tmp_path / "told"
    shutil.copytree(bundle.folder, folder)
    calibration = {"scope": "below 73% a device says so", "unreliable": ["disgust", "fear"]}
    pin_again(folder, metrics={"calibration": calibration})
    assert main(["check", "--model", str(folder)]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert ["unreliable_labels", "disgust fear"] in lines
    assert ["confidence_scope", "below 73% a device says so"] in lines
    before = check(bundle.folder)
    after = check(folder)
    assert after.confidence_threshold == before.confidence_threshold
    earlier = check(bundle.folder.parent / "edge-ferplus-4")
    assert (earlier.unreliable_labels, earlier.confidence_scope) == ((), "")


def test_a_check_prints_no_note_of_the_interpreter(bundle):
    command = [sys.executable, "-m", "mien_edge", "check", "--model", str(bundle.folder)]
    answer = subprocess.run(
        command, capture_output=True, text=True, env=clean_environment(), check=True
    )
    assert answer.stderr == ""


@pytest.mark.parametrize("name", [".venv-tflite", ".venv-edge"])
def test_what_is_no_note_is_passed_on(name):
    code = """
import importlib, os, sys
sys.path.insert(0, sys.argv[1])
from mien_edge.model.first_delegate import make_first_delegate
for module in ("ai_edge_litert.interpreter", "tflite_runtime.interpreter"):
    try:
        real = importlib.import_module(module)
    except ImportError:
        continue
    class Loud:
        def Interpreter(self, **options):
            os.write(2, b"ERROR: something real\\n")
            return real.Interpreter(**options)
    make_first_delegate(Loud())
    break
"""
    command = [str(environment(name)), "-c", code, str(ROOT / "edge")]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stderr == "ERROR: something real\n"
