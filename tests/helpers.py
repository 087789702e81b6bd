"""Places and environments that tests share."""

import dataclasses
import os
import time
from pathlib import Path

import numpy as np
import pytest
from mien_edge import contract, files
from mien_edge.model.interpreter import Classifier, find_runtime

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


def until(condition, seconds=60.0):
    """Wait for something that another thread or process does; the limit only ends a test that would wait for ever."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def environment(name):
    """The Python of one of the Makefile's environments; skips where it is not built."""
    python = ROOT / name / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{name} is not built; run make {name}/ready")
    return python


def clean_environment():
    """The environment variables of a subprocess, with only the device's room on its path."""
    return {**os.environ, "PYTHONPATH": str(ROOT / "edge")}


def pin_again(folder, **changes):
    """Write a bundle's card anew with the digests of the files as they are."""
    card = contract.parse_card((folder / "card.json").read_text())
    pins = {
        n: contract.File(files.sha256(folder / n), (folder / n).stat().st_size) for n in card.files
    }
    (folder / "card.json").write_text(dataclasses.replace(card, files=pins, **changes).to_json())


def collapsed(folder, label):
    """Make the network in `folder` see one label in every face, and its golden vectors agree: it passes every check but
    the one on people.
    """
    model, wanted = folder / "model.tflite", contract.LABELS.index(label)
    interpreter = find_runtime().load(model)
    biases = [
        each
        for each in interpreter.get_tensor_details()
        if list(each["shape"]) == [len(contract.LABELS)]
    ]
    content = model.read_bytes()
    for each in biases:
        if each["dtype"] == np.int32:
            old = interpreter.get_tensor(each["index"])
            new = old.copy()
            new[wanted] += 10 * int(np.abs(old).max()) + 100_000
            assert content.count(old.tobytes()) == 1
            content = content.replace(old.tobytes(), new.tobytes())
    model.write_bytes(content)
    with np.load(folder / "golden.npz") as golden:
        inputs = golden["inputs"]
    classifier = Classifier(model)
    np.savez(
        folder / "golden.npz",
        inputs=inputs,
        outputs=np.stack([classifier(crop) for crop in inputs]),
    )
    pin_again(folder)
