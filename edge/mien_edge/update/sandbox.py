"""Replaying a bundle's golden vectors in a process of its own.

A malformed network may crash an interpreter, hang it, eat memory, or worse: it must not harm the
service, and gets neither root's rights nor a network.
"""

import ctypes
import os
import resource
import subprocess
import sys
from pathlib import Path

from mien_edge.errors import BundleError

SECONDS = 60
MEMORY = 256 << 20
"""Bytes of data (RLIMIT_DATA) for a replay; mien's own bundle needs less than a quarter."""

_CLONE_NEWUSER = 0x10000000  # unshare(2)
_CLONE_NEWNET = 0x40000000


def replay(folder: Path, name: str, seconds: float = SECONDS, memory: int = MEMORY) -> None:
    """Replay the golden vectors of the bundle in `folder`.

    name: what a refusal calls the bundle.
    seconds: the longest time that it may take.
    memory: bytes of data that it may use.

    Raises BundleError with the reason if the bundle must not run here.
    """
    owner = folder.stat()

    def restrict() -> None:
        _unshare_network()
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        cpu_seconds = int(seconds) + 5  # ends it even if the process that waits was killed
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
        drop_privileges(owner)

    command = [sys.executable, "-P", "-m", "mien_edge", "check", "--model", str(folder)]
    environment = {
        **os.environ,
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/nonexistent",
    }
    try:
        process = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            preexec_fn=restrict,
            cwd="/",
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise BundleError(
            f"{name} refused: its golden vectors took over {seconds:g} s; "
            "it does not suit this device",
        ) from None
    if process.returncode < 0:
        raise BundleError(
            f"{name} refused: it ended the interpreter by signal {-process.returncode}; "
            "export it again",
        )
    if process.returncode:
        raise BundleError(f"{name} refused: {_reason(process, folder, memory)}")


def _reason(process: "subprocess.CompletedProcess[str]", folder: Path, memory: int) -> str:
    """Why the check failed: its last line, without the name of the temporary folder."""
    lines = process.stderr.strip().splitlines()
    if not lines:
        return f"the interpreter ended with code {process.returncode}"
    reason = lines[-1].removeprefix("mien-edge: error: ")
    reason = reason.replace(f"{folder}: ", "").replace(f"{folder}/", "")
    if "MemoryError" in reason or "bad_alloc" in process.stderr:
        return f"it needs more memory than {memory >> 20} MB"
    return reason


def drop_privileges(owner: os.stat_result) -> None:
    """Become the owner of a folder, for good, if this process is root and the owner is not.

    owner: the folder's stat result.

    Raises OSError if the user cannot be changed.
    """
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
        os.chdir("/")


def _unshare_network() -> None:
    """Move this process into a network without any device, where the kernel allows that."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
