"""Keeps the notes that TensorFlow's C++ parts write past Python off the terminal.

Neither TF_CPP_MIN_LOG_LEVEL nor absl's own variables stop them (TensorFlow 2.21): they are written
to file descriptor 2 before absl's log is set up. So that descriptor leads to a process of its own
that leaves out what is known to be a note and passes on all else, also what the last words before a
crash are. This file is also that process's program.
"""

import atexit
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

_STDERR = 2
_END_SECONDS = 5.0
_NVIDIA_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/nvhost-gpu")

_NOTES = re.compile(
    rb"""
    I\d{4}\ \d\d:            # absl's level INFO: I0000 00:00:1795705210.424042 port.cc:153] oneDNN
    | \d{4}-\d\d-\d\d\ [\d:.]+:\ I\   # the same of older versions
    | WARNING:\ All\ log\ messages\ before\ absl::InitializeLog\(\)
    | INFO:\                  # TensorFlow Lite: which delegate it has made
    | fully_quantize:\        # the converter: how it quantises
    """,
    re.VERBOSE,
)
_NO_CUDA = re.compile(rb"E\d{4} \d\d:.*cuda_platform\.cc:\d+\] failed call to cuInit")
"""An error only where there is an NVIDIA device."""


def leave_out_native_notes() -> None:
    """Send this process's file descriptor 2 through a filter until it ends.

    Python's own standard error stays what it was, a terminal for instance. Where no process can be
    started, nothing changes.
    """
    own_stderr = os.dup(_STDERR)
    reader, writer = os.pipe()
    command = [sys.executable, "-I", str(Path(__file__))]
    try:
        process = subprocess.Popen(command, stdin=reader, stderr=own_stderr)
    except OSError:
        os.close(own_stderr)
        os.close(writer)
        return
    finally:
        os.close(reader)
    os.dup2(writer, _STDERR)
    os.close(writer)
    sys.stderr = os.fdopen(own_stderr, "w", buffering=1, errors="backslashreplace")
    atexit.register(_end, process, own_stderr)


def _end(process: "subprocess.Popen[bytes]", own_stderr: int) -> None:
    """Let the filter write the rest, and end."""
    os.dup2(own_stderr, _STDERR)
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:  # a child of this process has its end of the pipe
        process.kill()


def without_notes(lines: Iterable[bytes], has_nvidia: bool) -> Iterator[bytes]:
    """Yield the lines that are no notes.

    has_nvidia: whether there is such a device, so that what fails about CUDA matters.
    """
    for line in lines:
        is_expected = not has_nvidia and _NO_CUDA.match(line)
        if not is_expected and not _NOTES.match(line):
            yield line


def _filter() -> None:
    """Pass standard input on to standard error until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process whose words these are
    has_nvidia = any(os.path.exists(path) for path in _NVIDIA_DEVICES)
    for line in without_notes(sys.stdin.buffer, has_nvidia):
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()


if __name__ == "__main__":
    _filter()
