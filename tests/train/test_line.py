"""The training line with the `tiny` recipe: fit, quantize, export, evaluate, report; killed, resumed, in two."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
from helpers import until
from mien_edge import cli as edge_cli
from mien_edge.model import tflite
from mien_edge.model.bundle import load_bundle, replay_golden
from mien_edge.model.interpreter import Classifier

pytestmark = pytest.mark.slow

PATIENCE = 1800  # seconds; it only ends a test that would wait for ever

TRAIN = [sys.executable, "-c", "import sys; from mien_train.cli import main; sys.exit(main())"]


def train(*arguments, **more):
    process = subprocess.run(
        [*TRAIN, *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE, **more
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout


@pytest.mark.parametrize("words", [["--help"], ["fit", "--help"]])
def test_the_help_loads_neither_opencv_nor_tensorflow(words):
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print({'cv2', 'tensorflow'} & set(sys.modules), file=sys.stderr))\n"
        "from mien_train import cli\n"
        "cli.main(sys.argv[1:])"
    )
    process = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert process.stdout.startswith("usage: mien-train")
    assert process.stderr == "set()\n"


@pytest.fixture(scope="module")
def tiny(tiny_run):
    """The bundle of that run."""
    return load_bundle(tiny_run / "models" / "tiny-1")


def test_the_bundle_is_whole_and_every_operator_is_integer(tiny):
    from mien_train.training import convert

    content = tiny.model.read_bytes()
    convert.check_integer(content)
    assert {operator.name for operator in tflite.operators(content)} >= {
        "CONV_2D",
        "FULLY_CONNECTED",
    }
    classifier = Classifier(tiny.model)
    assert (classifier.input.dtype, classifier.output.dtype, classifier.size) == (
        "uint8",
        "int8",
        48,
    )
    assert replay_golden(tiny, classifier).vectors == 64


def test_the_input_steps_are_the_pixels_themselves(tiny):
    classifier = Classifier(tiny.model)
    assert np.abs(classifier._steps_of_gray.astype(int) - np.arange(256)).max() <= 1


def test_int8_predicts_what_the_fake_quantized_network_predicts(tiny):
    assert tiny.card.metrics["agreement"]["qat/int8"] > 0.95
    assert set(tiny.card.metrics["networks"]) == {"float", "qat", "int8", "int8-ptq"}


def test_the_card_says_where_it_comes_from(tiny):
    origin = tiny.card.provenance
    assert origin["recipe"]["name"] == "tiny"
    assert "run tiny" in origin["command"]
    assert origin["epochs"] == {"fit": 3, "quantize": 1}
    assert len(origin["data"]["sha256"]) == 64
    assert tiny.card.out_of_scope_use


def test_a_bundle_of_other_data_says_nothing_of_fer2013_and_its_labellers(tiny):
    limitations = " ".join(tiny.card.limitations)
    assert "labels of its training data, fer2013.csv (364 pictures)" in limitations
    assert "FER2013 was collected" not in limitations
    assert "labellers" not in limitations


def test_a_card_says_what_its_confidence_threshold_is_set_for_and_what_it_reaches(tiny):
    [sentence] = [text for text in tiny.card.limitations if text.startswith("Of its confidence")]
    assert "set for 75% right by fer2013 labels, all labels counting equally" in sentence
    calibration = tiny.card.metrics["calibration"]
    assert list(calibration["parts"])[:2] == ["validation rows", "blur"]
    assert len(calibration["parts"]) == 9
    assert tiny.card.calibration_scope in sentence
    hardest = calibration["parts"][calibration["hardest"]]
    is_reached = hardest["accuracy"] >= calibration["target"]
    assert sentence.count("never reached there") == (not is_reached)
    unreliable = [text for text in tiny.card.limitations if text.startswith("It cannot tell")]
    assert len(unreliable) == bool(tiny.card.unreliable_labels)


def test_the_report_is_one_file_with_its_pictures(tiny_run):
    page = (tiny_run / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 8
    assert "When pictures get worse" in page
    assert "Cortex-A72" in page
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert (tiny_run / "fit" / "curves.png").exists()
    assert list((tiny_run / "fit" / "tensorboard").rglob("events.*"))


def test_a_finished_run_has_nothing_left_to_do(tiny_run, small, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    cache = {**os.environ, "XDG_CACHE_HOME": str(tiny_run.parent / "cache")}
    before = (tiny_run / "fit" / "state.npz").stat().st_mtime_ns
    train("run", "tiny", "--data", small, "--folder", run, env=cache)
    assert (run / "fit" / "state.npz").stat().st_mtime_ns == before
    assert [path.name for path in (run / "models").iterdir()] == ["tiny-1"]


def test_evaluate_measures_the_bundle_as_its_card_says(tiny, small):
    result = json.loads(train("evaluate", tiny.folder, "--data", small, "--json"))
    card = tiny.card.metrics["networks"]["int8"]["test"]["fer2013"]
    assert result["figures"]["fer2013"]["accuracy"] == card["accuracy"]
    assert result["figures"]["fer2013"]["rows"] == 56


def test_the_device_reads_the_photograph_with_the_new_bundle(tiny, capsys, tmp_path):
    log = tmp_path / "r.db"
    arguments = [
        "run",
        "demo",
        "--model",
        str(tiny.folder),
        "--max-frames",
        "12",
        "--log",
        str(log),
        "--json",
    ]
    assert edge_cli.main(arguments) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 13
    assert {reading["model"] for reading in lines[:-1]} == {"tiny-1"}
    assert lines[-1]["faces"] == 1


def test_another_recipe_in_the_same_folder_is_refused(tiny_run, small):
    process = subprocess.run(
        [*TRAIN, "fit", "tiny", "--seed", "5", "--data", str(small), "--folder", str(tiny_run)],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 1
    assert "holds a run with another recipe" in process.stderr.splitlines()[-1]


def start(folder, small, **environment):
    return subprocess.Popen(
        [*TRAIN, "fit", "tiny", "--data", str(small), "--folder", str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **environment},
    )  # fmt: skip


def test_a_run_killed_and_resumed_ends_as_if_it_had_not_been(tiny_run, small, tmp_path):
    process = start(tmp_path / "run", small)
    state = tmp_path / "run" / "fit" / "state.npz"
    until(lambda: state.exists() or process.poll() is not None, PATIENCE)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with np.load(state) as killed:
        assert 1 <= len(json.loads(str(killed["history"]))) < 3
    train("fit", "tiny", "--data", small, "--folder", tmp_path / "run")
    with np.load(state) as resumed, np.load(tiny_run / "fit" / "state.npz") as uninterrupted:
        assert set(resumed.files) == set(uninterrupted.files)
        for name in uninterrupted.files:
            if name != "history":
                np.testing.assert_allclose(
                    resumed[name], uninterrupted[name], rtol=1e-3, atol=1e-4, err_msg=name
                )
        histories = [json.loads(str(state["history"])) for state in (resumed, uninterrupted)]
    curves = [[entry["val_loss"] for entry in history] for history in histories]
    np.testing.assert_allclose(*curves, rtol=1e-3)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_processes_train_one_run(small, tmp_path):
    pytest.importorskip("jax")
    addresses = ",".join(f"127.0.0.1:{free_port()}" for _ in range(2))
    processes = [
        start(
            tmp_path / "run",
            small,
            KERAS_BACKEND="jax",
            JAX_PLATFORMS="cpu",
            KERAS_DISTRIBUTION_JOB_ADDRESSES=addresses,
            KERAS_DISTRIBUTION_NUM_PROCESSES="2",
            KERAS_DISTRIBUTION_PROCESS_ID=str(number),
        )
        for number in range(2)
    ]
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], (
        outputs[0][-2000:] + outputs[1][-2000:]
    )
    history = json.loads((tmp_path / "run" / "fit" / "history.json").read_text())
    assert len(history) == 3
    assert history[-1]["loss"] < history[0]["loss"]
    assert "validation" in outputs[0]
    assert "validation" not in outputs[1]
