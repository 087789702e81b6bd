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


def with_labels(source, folder, rows, name="own", version=1):
    """A bundle in `folder` whose network is the one in `source`, with other labels: it has an output for each of `rows`.

    rows: each label of the new bundle, and the label of `source` whose weights its output has.
    """
    pytest.importorskip(
        "ai_edge_litert", reason="rewriting a network needs ai-edge-litert's schema"
    )
    import flatbuffers
    from mien_edge.model import tflite

    folder.mkdir(parents=True)
    card = contract.parse_card((source / "card.json").read_text())
    chosen = [card.labels.index(label) for label in rows.values()]
    model = tflite._model((source / "model.tflite").read_bytes())
    graph = model.subgraphs[0]
    dense = graph.operators[-1]
    for index, dtype in zip(dense.inputs[1:], (np.int8, np.int32), strict=True):
        tensor = graph.tensors[index]
        content = bytes(model.buffers[tensor.buffer].data)
        values = np.frombuffer(content, dtype).reshape(tensor.shape)[chosen]
        model.buffers[tensor.buffer].data = np.frombuffer(values.tobytes(), np.uint8)
        tensor.shape = np.array(values.shape, np.int32)
        steps = tensor.quantization
        if len(steps.scale) > 1:
            steps.scale = steps.scale[chosen]
            steps.zeroPoint = steps.zeroPoint[chosen]
    graph.tensors[dense.outputs[0]].shape = np.array([1, len(chosen)], np.int32)
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    (folder / "model.tflite").write_bytes(bytes(builder.Output()))
    with np.load(source / "golden.npz") as golden:
        inputs, outputs = golden["inputs"], golden["outputs"][:, chosen]
    np.savez(folder / "golden.npz", inputs=inputs, outputs=outputs)
    (folder / "card.json").write_text((source / "card.json").read_text())
    pin_again(folder, contract=2, labels=tuple(rows), name=name, version=version)
    return folder
