"""The training loop on each of Keras' backends, alone and in two processes."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

STEP = Path(__file__).with_name("backend_step.py")
PATIENCE = 1800  # seconds; it only ends a test that would wait for ever


def start(folder, kind, backend, **environment):
    return subprocess.Popen(
        [sys.executable, str(STEP), str(folder), kind],
        env={**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, stderr[-3000:]
    return stdout


def groups(folder):
    """Weights, optimiser and averaged weights after training."""
    with np.load(folder / "state.npz") as stored:
        return {
            prefix: [stored[f"{prefix}{index}"] for index in range(int(stored[f"n_{prefix}"]))]
            for prefix in "woa"
        }


def assert_same(folder, other, tolerance):
    own = groups(folder)
    others = groups(other)
    for prefix, arrays in own.items():
        assert len(arrays) == len(others[prefix])
        for array, other_array in zip(arrays, others[prefix], strict=True):
            np.testing.assert_allclose(array, other_array, rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module", params=["float", "quantize"])
def on_tensorflow(request, tmp_path_factory):
    """The kind, and the folder of its training on TensorFlow."""
    folder = tmp_path_factory.mktemp("backends") / "tensorflow"
    finish(start(folder, request.param, "tensorflow"))
    return request.param, folder


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_every_backend_trains_the_same_network(on_tensorflow, backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    kind, expected = on_tensorflow
    stdout = finish(start(tmp_path / backend, kind, backend))
    assert stdout.splitlines()[-1] == f"{backend} False"  # TensorFlow is not loaded
    assert_same(tmp_path / backend, expected, tolerance=5e-3)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_processes_train_the_network_that_one_would(tmp_path):
    pytest.importorskip("jax")
    alone = start(tmp_path / "alone", "float", "jax")
    finish(alone)
    addresses = ",".join(f"127.0.0.1:{free_port()}" for _ in range(2))
    processes = [
        start(
            tmp_path / "together",
            "float",
            "jax",
            KERAS_DISTRIBUTION_JOB_ADDRESSES=addresses,
            KERAS_DISTRIBUTION_NUM_PROCESSES="2",
            KERAS_DISTRIBUTION_PROCESS_ID=str(number),
        )
        for number in range(2)
    ]
    outputs = [process.communicate(timeout=PATIENCE) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs[1][1][-3000:]
    assert "validation" in outputs[0][0]
    assert "validation" not in outputs[1][0]
    assert_same(tmp_path / "together", tmp_path / "alone", tolerance=1e-4)
    histories = [
        json.loads((tmp_path / name / "history.json").read_text()) for name in ("together", "alone")
    ]
    losses = [[entry["loss"] for entry in history] for history in histories]
    np.testing.assert_allclose(*losses, rtol=1e-4)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"TF_CONFIG": "{}"}, "TF_CONFIG is no longer read; set KERAS_BACKEND=jax"),
        ({"KERAS_DISTRIBUTION_NUM_PROCESSES": "2"}, "processes train on JAX's"),
    ],
)
def test_what_several_processes_cannot_do_is_refused(environment, message, tmp_path):
    process = start(tmp_path / "run", "float", "tensorflow", **environment)
    stderr = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode != 0
    assert message in stderr
    assert not (tmp_path / "run").exists()
