"""Python packages for a device without internet, downloaded here with this machine's own pip settings."""

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from email import message_from_bytes
from pathlib import Path

from mien_edge import files
from mien_edge.errors import DeployError
from packaging.requirements import InvalidRequirement, Requirement

MACHINES = ("aarch64", "x86_64")
_GLIBC = ("2_34", "2_28", "2_27", "2_24", "2_17")
_ROOT = Path(__file__).resolve().parents[2]


def own_wheel() -> Path:
    """mien's wheel, made from the checkout that this is. Raises DeployError where it is none."""
    if not (_ROOT / "pyproject.toml").is_file():
        raise DeployError("no checkout here to make a wheel from; name one with --wheel")
    place = Path(tempfile.mkdtemp(prefix="mien-wheel-"))
    _pip("wheel", "--no-deps", "--wheel-dir", str(place), str(_ROOT))
    return next(place.glob("*.whl"))


def house(wheel: Path, python: str, machine: str, extra: str = "device") -> Path:
    """A tar file with all that mien's wheel needs on a device with Python `python` ('3.11') of a kind ('aarch64').

    `extra` is mien's, device or edge. The file is kept for the next device of that kind. Raises DeployError.
    """
    if machine not in MACHINES:
        raise DeployError(f"PyPI has no wheels for {machine}; use a 64-bit Raspberry Pi OS")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mien"
    wanted = needs(wheel, python, machine, extra)
    key = hashlib.sha256("\n".join(wanted).encode()).hexdigest()[:12]
    place = cache / f"wheels-{python}-{machine}-{extra}-{key}.tar"
    if not place.is_file():
        part = Path(tempfile.mkdtemp(prefix="mien-wheels-"))
        tag = python.replace(".", "")
        platforms = [f"--platform=manylinux_{glibc}_{machine}" for glibc in _GLIBC]
        # pip would ask this machine's markers, not the device's.
        _pip(
            "download", "--only-binary=:all:", "--implementation=cp", f"--abi=cp{tag}", "--abi=abi3", "--abi=none",
            f"--python-version={python}", *platforms, f"--platform=manylinux2014_{machine}", "--dest", str(part),
            *wanted,
        )  # fmt: skip
        with files.atomic_write(place) as temporary, tarfile.open(temporary, "w") as packed:
            for each in sorted(part.glob("*.whl")):
                packed.add(each, each.name)
        shutil.rmtree(part)
    return place


def needs(wheel: Path, python: str, machine: str, extra: str) -> list[str]:
    """What the wheel's extra needs on a device with that Python and machine. Raises DeployError."""
    device = {"python_version": python, "platform_machine": machine, "extra": extra}
    try:
        with zipfile.ZipFile(wheel) as content:
            name = next(each for each in content.namelist() if each.endswith(".dist-info/METADATA"))
            said = message_from_bytes(content.read(name)).get_all("Requires-Dist", [])
        found = [Requirement(each) for each in said]
        return [f"{each.name}{each.specifier}" for each in found if not each.marker or each.marker.evaluate(device)]
    except (OSError, zipfile.BadZipFile, StopIteration, InvalidRequirement) as problem:
        raise DeployError(f"{wheel}: not a wheel ({problem or 'no metadata'}); name another with --wheel") from None


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", arguments[0], "--quiet", "--disable-pip-version-check", *arguments[1:]]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise DeployError(f"pip {arguments[0]} failed ({reason}); see: {shlex.join(command)}")
