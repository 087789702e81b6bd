"""Python packages for a device without internet, downloaded with this machine's pip settings."""

import fcntl
import hashlib
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from datetime import datetime, timedelta
from email import message_from_bytes
from pathlib import Path
from typing import Any

from mien_edge import files
from mien_edge.errors import DeployError

MACHINES = ("aarch64", "x86_64")
"""The machines that PyPI has the wheels for."""

MAX_AGE = 7 * 86400.0
"""How long downloaded packages are used without looking for newer ones, in seconds."""

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


def wheelhouse(
    wheel: Path,
    python: str,
    machine: str,
    extra: str = "device",
    progress: Callable[[str], None] = lambda line: None,
    now: float | None = None,
) -> Path:
    """Return a tar file with all wheels that mien's wheel requires on a device.

    python: the device's, such as '3.11'.
    machine: the device's, one of MACHINES.
    extra: mien's, `device` or `edge`.
    progress: called with a line where packages of the cache are used.
    now: seconds since 1970; None for this machine's clock.

    The file stays in the cache for the next device of that kind, for MAX_AGE; beside it stands
    which packages it holds, their sha256 and when they were downloaded. One that is not as it was
    downloaded is never used, an older one only where pip cannot download. Raises DeployError for
    another machine, a file that is not a wheel, a cache that others can write to or that cannot be
    written, and if pip fails and there is no cache.
    """
    try:
        return _wheelhouse(wheel, python, machine, extra, progress, now)
    except OSError as problem:
        advice = "make room there, or name another folder in XDG_CACHE_HOME"
        text = f"{_cache_folder()}: the packages cannot be kept on this machine ({problem})"
        raise DeployError(f"{text}; {advice}") from None


def _wheelhouse(
    wheel: Path,
    python: str,
    machine: str,
    extra: str,
    progress: Callable[[str], None],
    now: float | None,
) -> Path:
    if machine not in MACHINES:
        raise DeployError(f"PyPI has no wheels for {machine}; use a 64-bit Raspberry Pi OS")
    packages = requirements(wheel, python, machine, extra)
    digest = hashlib.sha256("\n".join(packages).encode()).hexdigest()[:12]
    cache = _private_cache_folder()
    archive = cache / f"wheels-{python}-{machine}-{extra}-{digest}.tar"
    now = time.time() if now is None else now
    # Many devices are set up at once: one download serves all of a kind.
    with (cache / f"{archive.stem}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        record = _read_record(archive, packages)
        age = now - record["created"] if record else math.inf
        if 0 <= age < MAX_AGE:
            progress(f"the packages are {_age(age)}: {archive}")
            return archive
        try:
            _fill(archive, packages, python, machine, now)
        except DeployError as problem:
            if record is None:
                raise
            progress(f"the packages are {_age(age)} and are used as they are: {problem}")
    return archive


def _age(seconds: float) -> str:
    day = datetime.now() - timedelta(seconds=seconds)
    days = int(seconds // 86400)
    return f"of {day:%Y-%m-%d}, {days} day{'' if days == 1 else 's'} old"


def _record_path(archive: Path) -> Path:
    return archive.with_suffix(".json")


def _read_record(archive: Path, packages: list[str]) -> dict[str, Any] | None:
    """Return what was written when the archive was downloaded.

    None if there is no archive or no record, or the archive is not what the record says.
    """
    try:
        record = json.loads(_record_path(archive).read_text(encoding="utf-8"))
        is_same = (
            record["requirements"] == packages
            and record["archive"] == files.sha256(archive)
            and record["wheels"] == _wheel_digests(archive)
        )
        created = float(record["created"])
        is_whole = is_same and math.isfinite(created)
        return {**record, "created": created} if is_whole else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, tarfile.TarError):
        return None


def _wheel_digests(archive: Path) -> dict[str, str]:
    """Return the sha256 of each wheel in the archive."""
    digests = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None  # noqa: S101 - only files are put in
            digests[member.name] = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    return digests


def _fill(archive: Path, packages: list[str], python: str, machine: str, now: float) -> None:
    """Download the packages into the archive, then write its record. Raises DeployError."""
    folder = Path(tempfile.mkdtemp(prefix="mien-wheels-"))
    try:
        _download(packages, python, machine, folder)
        with files.atomic_write(archive) as temporary, tarfile.open(temporary, "w") as tar:
            for path in sorted(folder.glob("*.whl")):
                tar.add(path, path.name)
    finally:
        shutil.rmtree(folder)
    record = {
        "created": now,
        "requirements": packages,
        "archive": files.sha256(archive),
        "wheels": _wheel_digests(archive),
    }
    files.write_text(_record_path(archive), json.dumps(record, indent=1) + "\n")


def _private_cache_folder() -> Path:
    """Return the cache's folder, made if need be. Raises DeployError if others can write to it."""
    folder = _cache_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        problem = "others can write to it, and devices would run what they write"
        raise DeployError(f"{folder}: {problem}; chown it to yourself, then chmod 700 {folder}")
    return folder


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
