"""Replaying a bundle's golden vectors in a process of its own.

A malformed network may crash an interpreter, hang it, eat memory, or worse: it must not harm the service, and gets
neither root's rights nor a network.
"""

import ctypes
import os
import resource
import subprocess
import sys
from pathlib import Path

from mien_edge.errors import BundleError

SECONDS = 60
MEMORY = 256 << 20  # bytes of data (RLIMIT_DATA); the shipped bundle needs less than a quarter
_NEWUSER, _NEWNET = 0x10000000, 0x40000000


def replay(folder: Path, name: str, seconds: float = SECONDS, memory: int = MEMORY) -> None:
    """Replay the golden vectors of the bundle in `folder`. Raises BundleError with the reason if it must not run; the
    message calls it `name`.
    """
    command = [sys.executable, "-P", "-m", "mien_edge", "check", "--model", str(folder)]
    owner = folder.stat()

    def limits() -> None:
        _unshare_network()
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 5,) * 2)  # should the one who waits be killed
        drop_privileges(owner)

    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nonexistent"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=seconds, preexec_fn=limits, cwd="/",
            env=environment,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise BundleError(
            f"{name} refused: its golden vectors took over {seconds:g} s; it does not suit this device"
        ) from None
    if done.returncode < 0:
        raise BundleError(f"{name} refused: it ended the interpreter by signal {-done.returncode}; export it again")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"the interpreter ended with code {done.returncode}"]
        reason = lines[-1].removeprefix("mien-edge: error: ").replace(f"{folder}: ", "").replace(f"{folder}/", "")
        if "MemoryError" in reason or "bad_alloc" in done.stderr:
            reason = f"it needs more memory than {memory >> 20} MB"
        raise BundleError(f"{name} refused: {reason}")


def drop_privileges(owner: os.stat_result) -> None:
    """From root to the one to whom a folder belongs, for good; nothing where this is not root, or root owns it."""
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
        os.chdir("/")


def _unshare_network() -> None:
    """A network of its own, without any device; where the kernel allows it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEWNET) != 0:
        libc.unshare(_NEWUSER | _NEWNET)
