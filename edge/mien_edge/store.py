"""Installed bundles on a device: a folder of bundles and a symlink `current` that changes atomically.

A bundle is verified, staged on the same file system, replayed in a process of its own (a malformed network may crash
an interpreter: it must not crash a service), synced to disk and renamed; then `current` is swapped by one rename. A
power cut at any point leaves the old or the new bundle.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import BinaryIO

from mien_edge import bundle as bundles
from mien_edge import files
from mien_edge.bundle import Bundle
from mien_edge.errors import BundleError, ContractError

_REPLAY_SECONDS = 120
_STAGING = ".staging-"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def install(source: Path, store: Path) -> Bundle:
    """Verify, stage, replay and activate the bundle in folder `source`. Raises BundleError; the old one then stays."""
    offered = bundles.load(source)
    try:
        store.mkdir(parents=True, exist_ok=True)
        _sweep(store)
        with tempfile.TemporaryDirectory(prefix=_STAGING, dir=store) as staging:
            staged = Path(staging) / offered.card.id
            _copy(offered, staged)
            bundles.load(staged)
            replay_apart(staged)
            _place(staged, store / offered.card.id)
        return activate(offered.card.id, store)
    except OSError as problem:
        if isinstance(problem, BundleError):
            raise
        raise BundleError(
            f"{store}: the bundle cannot be installed ({problem}); free space or check the owner"
        ) from None


def receive(stream: BinaryIO, store: Path) -> Bundle:
    """Install a bundle that comes as a tar stream with its files at the top. Raises BundleError."""
    with tempfile.TemporaryDirectory(prefix="mien-receive-") as folder:
        unpack(stream, Path(folder))
        return install(Path(folder), store)


def unpack(stream: BinaryIO, folder: Path) -> None:
    """Unpack plain files of plain names and bounded size; anything else in the archive is a BundleError."""
    left = 4 * bundles.LARGEST
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                left -= member.size
                if not member.isfile() or not _NAME.fullmatch(member.name) or left < 0:
                    raise BundleError(f"{member.name!r} is no file of a bundle; make the archive with mien-deploy push")
                content = archive.extractfile(member)
                assert content is not None  # noqa: S101 - a plain file has content
                (folder / member.name).write_bytes(content.read())
    except (tarfile.TarError, EOFError) as problem:
        raise BundleError(f"the bundle's archive is damaged ({problem}); send it again") from None
    except OSError as problem:
        raise BundleError(f"{folder}: cannot be written ({problem.strerror}); free some space") from None


def activate(name: str, store: Path) -> Bundle:
    """Make an installed bundle the current one, by one rename. Raises BundleError if it is not there or damaged."""
    if name not in [each for each, _ in installed(store)]:
        raise BundleError(f"{name}: not installed in {store}; see: mien-edge models list")
    chosen = bundles.load(store / name)
    link = store / f".current-{os.getpid()}"
    try:
        link.unlink(missing_ok=True)
        link.symlink_to(name)
        link.replace(store / "current")
        files.sync(store)
    except OSError as problem:
        raise BundleError(f"{store}: cannot be changed ({problem.strerror}); run it as the folder's owner") from None
    return chosen


def installed(store: Path) -> list[tuple[str, bool]]:
    """(name, whether it is current) of the bundles in the store."""
    try:
        current = os.readlink(store / "current") if (store / "current").is_symlink() else ""
        folders = (
            [path for path in store.iterdir() if path.is_dir() and not path.is_symlink()] if store.exists() else []
        )
    except OSError as problem:
        raise BundleError(f"{store}: cannot be read ({problem.strerror}); run it as the folder's owner") from None
    names = sorted(path.name for path in folders if not path.name.startswith("."))
    return [(name, name == current) for name in names]


def replay_apart(folder: Path) -> None:
    """Replay golden vectors in a process of its own. Raises BundleError with that process's reason."""
    command = [sys.executable, "-P", "-m", "mien_edge", "check", "--model", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_REPLAY_SECONDS)
    except subprocess.TimeoutExpired:
        raise BundleError(
            f"{folder.name}: its golden vectors took over {_REPLAY_SECONDS} s; it does not suit"
        ) from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"the interpreter ended with code {done.returncode}"])[-1]
        raise BundleError(f"{folder.name} refused: {reason}")


def _copy(bundle: Bundle, target: Path) -> None:
    target.mkdir()
    for name in ["card.json", *bundle.card.files]:
        shutil.copyfile(bundle.folder / name, target / name)
        files.sync(target / name)
    files.sync(target)


def _place(staged: Path, target: Path) -> None:
    if target.exists():
        try:
            same = bundles.load(target).card == bundles.load(staged).card
        except (BundleError, ContractError):
            shutil.rmtree(target)  # damaged: what is staged takes its place
        else:
            if same:
                return
            raise BundleError(f"{target}: another bundle of this name and version is here; export a higher version")
    staged.rename(target)
    files.sync(target.parent)


def _sweep(store: Path) -> None:
    for left_behind in store.glob(f"{_STAGING}*"):
        shutil.rmtree(left_behind, ignore_errors=True)
