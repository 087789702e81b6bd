"""Python packages for a device without internet, downloaded with this machine's pip settings."""

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

MACHINES = ("aarch64", "x86_64")
"""The machines that PyPI has the wheels for."""

_GLIBC = ("2_34", "2_28", "2_27", "2_24", "2_17")
_ROOT = Path(__file__).resolve().parents[2]


def build_wheel() -> Path:
    """Build mien's wheel from the checkout that this module is in.

    Returns the wheel, in a temporary folder. Raises DeployError where there is no checkout.
    """
    if not (_ROOT / "pyproject.toml").is_file():
        raise DeployError("no checkout here to build a wheel from; name a wheel with --wheel")
    folder = Path(tempfile.mkdtemp(prefix="mien-wheel-"))
    _pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(_ROOT))
    return next(folder.glob("*.whl"))


def wheelhouse(wheel: Path, python: str, machine: str, extra: str = "device") -> Path:
    """Return a tar file with all wheels that mien's wheel requires on a device.

    python: the device's, such as '3.11'.
    machine: the device's, one of MACHINES.
    extra: mien's, `device` or `edge`.

    The file stays in the cache for the next device of that kind. Raises DeployError for another
    machine, a file that is not a wheel, and if pip fails.
    """
    if machine not in MACHINES:
        raise DeployError(f"PyPI has no wheels for {machine}; use a 64-bit Raspberry Pi OS")
    packages = requirements(wheel, python, machine, extra)
    digest = hashlib.sha256("\n".join(packages).encode()).hexdigest()[:12]
    archive = _cache_folder() / f"wheels-{python}-{machine}-{extra}-{digest}.tar"
    if archive.is_file():
        return archive
    folder = Path(tempfile.mkdtemp(prefix="mien-wheels-"))
    _download(packages, python, machine, folder)
    with files.atomic_write(archive) as temporary, tarfile.open(temporary, "w") as tar:
        for path in sorted(folder.glob("*.whl")):
            tar.add(path, path.name)
    shutil.rmtree(folder)
    return archive


def _cache_folder() -> Path:
    root = os.environ.get("XDG_CACHE_HOME")
    if root:
        return Path(root) / "mien"
    return Path.home() / ".cache" / "mien"


def _download(packages: list[str], python: str, machine: str, folder: Path) -> None:
    tag = python.replace(".", "")
    platforms = [f"manylinux_{glibc}_{machine}" for glibc in _GLIBC]
    platforms.append(f"manylinux2014_{machine}")
    options = [f"--platform={platform}" for platform in platforms]
    options += [f"--abi={abi}" for abi in (f"cp{tag}", "abi3", "none")]
    options += ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}"]
    _pip("download", *options, "--dest", str(folder), *packages)


def requirements(wheel: Path, python: str, machine: str, extra: str) -> list[str]:
    """Return what the wheel's extra requires on a device, such as 'numpy<2'.

    python, machine, extra: as for `wheelhouse`.

    The markers are evaluated here, for pip would evaluate them for this machine, not for the
    device. Raises DeployError for a file that is not a wheel.
    """
    # Only setup --offline needs this package; without it the other commands run all the same.
    from packaging.requirements import InvalidRequirement, Requirement

    environment = {"python_version": python, "platform_machine": machine, "extra": extra}
    try:
        candidates = [Requirement(line) for line in _metadata(wheel)]
    except (OSError, zipfile.BadZipFile, StopIteration, InvalidRequirement) as problem:
        reason = problem or "no metadata"
        raise DeployError(f"{wheel}: not a wheel ({reason}); name another with --wheel") from None
    return [
        f"{requirement.name}{requirement.specifier}"
        for requirement in candidates
        if not requirement.marker or requirement.marker.evaluate(environment)
    ]


def _metadata(wheel: Path) -> list[str]:
    """Return the wheel's lines of Requires-Dist. Raises StopIteration if it has no metadata."""
    with zipfile.ZipFile(wheel) as content:
        name = next(name for name in content.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(content.read(name)).get_all("Requires-Dist", [])


def _pip(action: str, *arguments: str) -> None:
    command = [sys.executable, "-m", "pip", action]
    command += ["--quiet", "--disable-pip-version-check", *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        lines = result.stderr.strip().splitlines() or ["no reason given"]
        raise DeployError(f"pip {action} failed ({lines[-1]}); see: {shlex.join(command)}")
