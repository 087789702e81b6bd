"""What is on the terminal, and in a file instead of one."""

import os
import re
import subprocess
import sys

import pytest
from mien_train.native_notes import without_notes

NOTES = [
    b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n",
    b"I0000 00:00:1795705210.424042   20010 port.cc:153] oneDNN custom operations are on.\n",
    b"I0000 00:00:1795705210.424521   20010 cudart_stub.cc:31] Could not find cuda drivers\n",
    b"2025-01-02 03:04:05.678901: I tensorflow/core/util/port.cc:153] oneDNN\n",
    b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n",
    b"fully_quantize: 0, inference_type: 6, input_inference_type: UINT8\n",
]
CUDA = (
    b"E0000 00:00:1795705419.883086   23092 cuda_platform.cc:52] failed call to cuInit: INTERNAL\n"
)
ERRORS = [
    b"E0000 00:00:1795705419.883086   23092 cuda_dnn.cc:52] Loaded runtime CuDNN library: 8.1\n",
    b"W0000 00:00:1795705419.883086   23092 gpu_device.cc:2342] Cannot dlopen some GPU libraries\n",
    b"F0000 00:00:1795705419.883086   23092 cpu_feature_guard.cc:52] compiled to use AVX\n",
    b"terminate called after throwing an instance of 'std::bad_alloc'\n",
    b"Traceback (most recent call last):\n",
    b"mien-train: error: no data\n",
    b"I wonder\n",
    b"half a line",
]


def test_only_notes_are_left_out():
    assert list(without_notes([*NOTES, CUDA, *ERRORS], has_nvidia=False)) == ERRORS


def test_where_there_is_an_nvidia_device_what_fails_about_cuda_is_said():
    assert list(without_notes([*NOTES, CUDA], has_nvidia=True)) == [CUDA]


CRASH = """
import os, sys
from mien_train.native_notes import leave_out_native_notes
leave_out_native_notes()
sys.stderr.write("Python's own\\n")
os.write(2, b"I0000 00:00:1 1 x.cc:1] note\\n" + b"the reason of the crash\\n")
{end}
"""


@pytest.mark.parametrize("end", ["os.abort()", "sys.exit(3)", "os.kill(os.getpid(), 9)"])
def test_the_last_words_before_a_crash_are_printed(end):
    command = [sys.executable, "-c", CRASH.format(end=end)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert sorted(process.stderr.splitlines()) == ["Python's own", "the reason of the crash"]


def test_a_training_prints_its_own_lines_alone(tiny_run):
    assert (tiny_run.parent / "stderr.txt").read_text() == ""
    epochs = re.findall(
        r"^(?:fit|quantize) +\d+/\d+  loss", (tiny_run.parent / "stdout.txt").read_text(), re.M
    )
    assert len(epochs) == 4


def test_a_line_is_in_the_file_as_soon_as_it_is_printed(tmp_path):
    code = "import os, sys; from mien_train import cli; cli.main = lambda: print('now') or os._exit(0); cli.script()"
    with (tmp_path / "out.txt").open("w") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True, env=os.environ)
    assert (tmp_path / "out.txt").read_text() == "now\n"
