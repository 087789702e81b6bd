"""Installed bundles on a device, as a small state machine in files. A power cut leaves the old or the new bundle.

    models/NAME-VERSION/   installed: verified, and replayed on this very device
    models/next            link: asked for; the service takes it between two frames, by renaming it to `current`
    models/current         link: what runs
    models/shadow          link: what runs beside it, to be compared
    models/state.json      which bundles have proved themselves (newest first, two of them), and the last verdict

`current` is committed when it heads that list, else on probation. Whatever is on probation when the service starts is
undone: the process before did not live to commit it. Without any installed bundle the one that came with mien runs.
Every change is one rename, synced before and after; `disk.Disk` is the only way to the files.
"""

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mien_edge import schema
from mien_edge.contract import parse_card
from mien_edge.errors import BundleError, ContractError
from mien_edge.model import bundle as bundles
from mien_edge.model.bundle import Bundle
from mien_edge.update import sandbox
from mien_edge.update.disk import Disk
from mien_edge.update.record import ProbationResult, Record, StoreState, describe
from mien_edge.update.signing import SIGNATURE

_CARD, _STATE = "card.json", "state.json"
_STAGING, _NEW, _LOCK = ".staging-", ".new-", ".lock"
_KEPT = 2  # committed bundles
_OTHERS = 3  # installed bundles beside those in use
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_VERSIONED = re.compile(r"(.+)-(\d+)")


class Store:
    """The folder of installed bundles. Several processes may change it, one at a time.

    trust: raises BundleError for a folder whose card it does not believe (signing.Trust). Every change raises
    BundleError for what is refused or fails; what runs is then left as it was. patience: seconds to wait for another
    process.
    """

    def __init__(
        self,
        folder: Path,
        trust: Callable[[Path, str], Any],
        disk: Disk | None = None,
        replay: Callable[[Path, str], None] = sandbox.replay,
        patience: float = 180.0,
    ) -> None:
        self.folder, self.trust, self.disk, self.replay = folder, trust, disk or Disk(), replay
        self.patience = patience

    # --- looking ---------------------------------------------------------------------------------------------

    def state(self) -> StoreState:
        """How things are."""
        try:
            folders = [path.name for path in self.folder.iterdir() if path.is_dir() and not path.is_symlink()]
        except FileNotFoundError:
            folders = []
        except OSError as problem:
            raise BundleError(
                f"{self.folder}: cannot be read ({problem.strerror}); run it as the folder's owner"
            ) from None
        found = sorted(name for name in folders if not name.startswith("."))
        current, following, shadow = (self._target(link) for link in ("current", "next", "shadow"))
        return StoreState(tuple(found), current, following, shadow, self._record() or Record())

    def _target(self, link: str) -> str:
        try:
            return os.readlink(self.folder / link)
        except OSError:
            return ""

    def _record(self) -> Record | None:
        """None where there is none yet; an empty one where it is damaged, for then nothing is known to be good."""
        try:
            return schema.from_dict(Record, json.loads((self.folder / _STATE).read_text()), _STATE, ContractError)
        except FileNotFoundError:
            return None
        except OSError as problem:
            path = self.folder / _STATE
            raise BundleError(f"{path}: cannot be read ({problem.strerror}); run it as root") from None
        except (ValueError, RecursionError):
            return Record()

    # --- changing --------------------------------------------------------------------------------------------

    def install(self, source: Path, allow_downgrade: bool = False) -> Bundle:
        """Verify the bundle in the folder `source`, replay it in a process of its own and keep it; it does not run yet.

        The signature is checked before anything of the card is believed.
        """
        with self._changing(making=True):
            self._make_room()
            staged = self.folder / f"{_STAGING}{os.getpid()}"
            try:
                bundle = self._stage(source, staged, allow_downgrade)
                self.replay(staged, bundle.card.id)
                self._place(staged, self.folder / bundle.card.id)
            finally:
                with contextlib.suppress(OSError):
                    self._remove_tree(staged)
            return bundles.load(self.folder / bundle.card.id)

    def activate(self, name: str, allow_downgrade: bool = False) -> StoreState:
        """Ask for an installed bundle: the running service takes it at SIGHUP, one that does not run at its start."""
        with self._changing():
            self._check(name, allow_downgrade)
            state = self.state()
            if name == state.current and not state.next:
                return state
            self._point("next", name)
            return self.state()

    def withdraw(self, name: str) -> None:
        """Do not ask for that bundle any more."""
        with self._changing():
            if self._target("next") == name:
                self._unlink("next")

    def begin(self) -> str:
        """Take the bundle that is asked for: it is `current`, on probation, from now on. '' if none is, or if it is not
        whole.
        """
        if not self._target("next"):
            return ""
        with self._changing():
            name = self._target("next")
            if name and self._record() is None:
                self._write(self._adopted())
            if not name or not self._is_whole(name):
                self._unlink("next")
                return ""
            self.disk.rename(self.folder / "next", self.folder / "current")
            self.disk.sync(self.folder)
            return name

    def commit(self, name: str, reason: str = "it proved itself") -> None:
        """`name` stays, if it is still the one on probation."""
        with self._changing():
            state = self.state()
            if state.on_probation and state.current == name:
                self._write(self._with(state.record, name, ProbationResult(name, True, reason, time.time())))

    def give_back(self, name: str, reason: str) -> None:
        """`name` goes, if it is still current: back to the last committed bundle that is another one and whole."""
        with self._changing():
            state = self.state()
            if state.current == name:
                self._undo(state, state.older, reason)

    def rollback(self, reason: str) -> str:
        """Go back by hand: from a bundle on probation to the last committed one, from that to the one before. Returns
        which, '' for the one that came with mien. Whatever is asked for is not any more.
        """
        with self._changing():
            state = self.state()
            self._unlink("next")
            if not state.current:
                raise BundleError(f"{self.folder}: the bundle that came with mien runs; there is none before it")
            return self._undo(state, state.older, reason)

    def shadow(self, name: str) -> None:
        """Run an installed bundle beside the current one; '' ends that."""
        with self._changing():
            if name:
                self._check(name, allow_downgrade=True)
                self._point("shadow", name)
            else:
                self._unlink("shadow")

    def discard(self, name: str) -> None:
        """Remove an installed bundle that is not in use; a shadow ends."""
        with self._changing():
            state = self.state()
            if name not in state.installed:
                raise BundleError(f"{name}: not installed in {self.folder}; see: mien-edge models list")
            if name == state.shadow:
                self._unlink("shadow")
            elif name in state.in_use:
                raise BundleError(f"{name} is in use; go to another one first: mien-edge models rollback")
            self._throw_away(name)

    def recover(self) -> list[str]:
        """To be called when the service starts: undo what was not committed, leave a current bundle that is whole, and
        clear what was left half done. Returns what it did, for people.
        """
        if not self.folder.is_dir():
            return []
        with self._changing():
            self._sweep()
            done = []
            if self._record() is None and self._target("current"):
                self._write(self._adopted())
            state = self.state()
            for link in ("next", "shadow"):
                if self._target(link) not in ("", *state.installed):
                    self._unlink(link)
            if state.on_probation:
                left = self._undo(state, state.record.committed, "the service ended before it had proved itself")
                done.append(f"{state.current}: the service ended before it had proved itself; back to {describe(left)}")
            elif not state.current and state.record.committed:
                self._undo(state, state.record.committed, "its link was gone")
            elif state.current and not self._is_whole(state.current):
                left = self._undo(state, state.older, "it is damaged on the disk")
                done.append(f"{state.current}: it is damaged on the disk; back to {describe(left)}")
            return done

    # --- parts -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _changing(self, making: bool = False) -> Iterator[None]:
        """One process at a time; an OSError becomes a BundleError."""
        try:
            if making:
                self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._wait(handle)
                yield
            finally:
                os.close(handle)
        except FileNotFoundError as problem:
            if not self.folder.exists():
                raise BundleError(f"{self.folder}: no bundle is installed; see: mien-edge models install") from None
            raise BundleError(f"{problem.filename}: not there; look at: mien-edge models list") from None
        except OSError as problem:
            if isinstance(problem, BundleError):
                raise
            raise BundleError(
                f"{self.folder}: cannot be changed ({problem.strerror}); free space, or run it as root"
            ) from None

    def _wait(self, handle: int) -> None:
        began = time.monotonic()
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() - began > self.patience:
                    raise BundleError(f"{self.folder}: another process changes it; try again in a minute") from None
                time.sleep(0.1)

    def _stage(self, source: Path, staged: Path, allow_downgrade: bool) -> Bundle:
        self.disk.make_folder(staged)
        for name in (_CARD, SIGNATURE):
            self._take(source, staged, name, needed=name == _CARD)
        self.trust(staged, source.name)
        card = parse_card((staged / _CARD).read_text(encoding="utf-8", errors="replace"), str(source / _CARD))
        self._refuse_downgrade(card.id, allow_downgrade)
        for name in card.files:
            self._take(source, staged, name, most=card.files[name].bytes)
        bundle = bundles.load(staged)
        self.disk.sync(staged)
        return bundle

    def _take(self, source: Path, staged: Path, name: str, most: int = bundles.LARGEST, needed: bool = True) -> None:
        path = source / name
        if not needed and not os.path.lexists(path):
            return
        if not NAME.fullmatch(name) or path.is_symlink() or not path.is_file():
            raise BundleError(f"{path}: cannot be read as a plain file; name a folder with a model bundle")
        if path.stat().st_size > min(most, bundles.LARGEST):
            raise BundleError(f"{path}: larger than {min(most, bundles.LARGEST)} bytes; copy the bundle again")
        self.disk.copy(path, staged / name)
        self.disk.sync(staged / name)

    def _place(self, staged: Path, target: Path) -> None:
        if target.exists():
            try:
                if bundles.load(target).card == bundles.load(staged).card:
                    self._renew_signature(staged, target)
                    return
            except (BundleError, ContractError):
                self._throw_away(target.name)  # damaged: what is staged takes its place
            else:
                raise BundleError(f"{target}: another bundle of this name and version is here; export a higher version")
        self.disk.rename(staged, target)
        self.disk.sync(self.folder)

    def _renew_signature(self, staged: Path, target: Path) -> None:
        """The same bundle, signed anew: after a key was revoked."""
        fresh, old = staged / SIGNATURE, target / SIGNATURE
        if fresh.exists() and (not old.exists() or old.read_bytes() != fresh.read_bytes()):
            self.disk.rename(fresh, old)
            self.disk.sync(target)

    def _check(self, name: str, allow_downgrade: bool) -> None:
        if not NAME.fullmatch(name) or name not in self.state().installed:
            raise BundleError(f"{name}: not installed in {self.folder}; see: mien-edge models list")
        self.trust(self.folder / name, name)
        found = bundles.load(self.folder / name).card.id
        if found != name:
            raise BundleError(f"{self.folder / name} holds {found}; install that one with: mien-edge models install")
        self._refuse_downgrade(name, allow_downgrade)

    def _refuse_downgrade(self, name: str, allowed: bool) -> None:
        found = _VERSIONED.fullmatch(name)
        highest = self.state().record.highest.get(found[1], 0) if found else 0
        if found and int(found[2]) < highest and not allowed:
            raise BundleError(
                f"{name} is older than version {highest}, which has run here; add --allow-downgrade if that is meant"
            )

    def _undo(self, state: StoreState, older: tuple[str, ...], reason: str) -> str:
        """`current` becomes the first whole one of `older`, which alone stay committed."""
        while older and not self._is_whole(older[0]):
            older = older[1:]
        if older:
            self._point("current", older[0])
        else:
            self._unlink("current")
        verdict = ProbationResult(state.current, False, reason, time.time()) if state.current else state.record.verdict
        self._write(replace(state.record, committed=older, verdict=verdict))
        return older[0] if older else ""

    def _is_whole(self, name: str) -> bool:
        """Whether the bundle can be read, and is the one that its folder says."""
        try:
            return bool(NAME.fullmatch(name)) and bundles.load(self.folder / name).card.id == name
        except (BundleError, ContractError):
            return False

    def _adopted(self) -> Record:
        """Without a state.json, what is current is committed."""
        current = self._target("current")
        return self._with(Record(), current, None) if current and self._is_whole(current) else Record()

    def _with(self, record: Record, name: str, verdict: ProbationResult | None) -> Record:
        committed = (name, *(each for each in record.committed if each != name))[:_KEPT]
        found = _VERSIONED.fullmatch(name)
        highest = dict(record.highest)
        if found:
            highest[found[1]] = max(highest.get(found[1], 0), int(found[2]))
        return Record(committed, highest, verdict or record.verdict)

    def _write(self, record: Record) -> None:
        path = self._new(_STATE)
        self.disk.write(path, (json.dumps(asdict(record), indent=1) + "\n").encode())
        self.disk.sync(path)
        self.disk.rename(path, self.folder / _STATE)
        self.disk.sync(self.folder)

    def _new(self, name: str) -> Path:
        """Where the successor of `name` is made; what a process that died left there is gone."""
        path = self.folder / f"{_NEW}{name}"
        if os.path.lexists(path):
            self.disk.remove(path)
        return path

    def _unlink(self, link: str) -> None:
        """Remove a link, if it is there."""
        if self._target(link):
            self.disk.remove(self.folder / link)
            self.disk.sync(self.folder)

    def _point(self, link: str, name: str) -> None:
        path = self._new(link)
        self.disk.link(name, path)
        self.disk.rename(path, self.folder / link)
        self.disk.sync(self.folder)

    def _make_room(self) -> None:
        """Clear what was left half done, and the oldest bundles that nobody uses."""
        self._sweep()
        state = self.state()
        idle = [self.folder / name for name in state.installed if name not in state.in_use]
        idle.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in idle[_OTHERS - 1 :]:
            self._throw_away(path.name)

    def _throw_away(self, name: str) -> None:
        trash = self.folder / f"{_STAGING}{name}-old"
        self._remove_tree(trash)
        self.disk.rename(self.folder / name, trash)
        self.disk.sync(self.folder)
        self._remove_tree(trash)

    def _sweep(self) -> None:
        for left_behind in sorted(self.folder.iterdir()):
            if left_behind.name.startswith((_STAGING, _NEW)):
                self._remove_tree(left_behind)

    def _remove_tree(self, path: Path) -> None:
        if path.is_symlink() or path.is_file():
            self.disk.remove(path)
        elif path.is_dir():
            for each in sorted(path.iterdir()):
                self._remove_tree(each)
            self.disk.remove_folder(path)
