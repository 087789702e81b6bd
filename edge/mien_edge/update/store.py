"""Installed bundles as a state machine in files: a power cut leaves the old or the new bundle.

    models/NAME-VERSION/   installed: verified, and replayed on this very device
    models/pending         link: requested; the service renames it to `current` between two frames
    models/current         link: what runs
    models/shadow          link: what is compared with it on the same faces
    models/state.json      the committed bundles (two, newest first), the last result

`current` is committed when it heads that list, else on probation. Whatever is on probation when the
service starts is undone: the process before did not live to commit it. Without any installed bundle
the one that came with mien runs. Every change is one rename, synced before and after; `disk.Disk`
is the only way to the files.

Earlier versions called the link `pending` `next`. It is read as `pending`, and the first change
renames it.
"""

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from mien_edge import schema
from mien_edge.errors import BundleError, ContractError
from mien_edge.model.bundle import LARGEST, Bundle, load_bundle, read_card, verify_files
from mien_edge.update import sandbox
from mien_edge.update.disk import Disk
from mien_edge.update.record import ProbationResult, StoreRecord, StoreState, display_name
from mien_edge.update.signing import SIGNATURE

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""What files and folders of bundles are called."""

_VERSIONED_NAME = re.compile(r"(.+)-(\d+)")
_CARD = "card.json"
_STATE = "state.json"
_CURRENT = "current"
_PENDING = "pending"
_OLD_PENDING = "next"  # where it exists, an older version wrote it after `pending`
_SHADOW = "shadow"
_STAGING = ".staging-"
_NEW = ".new-"
_LOCK = ".lock"
_MAX_COMMITTED = 2
_MAX_UNUSED = 3  # installed bundles besides those in use
_NOT_PROVED = "the service ended before it had proved itself"
_DAMAGED = "it is damaged on the disk"


class _StoreBusyError(BundleError):
    """Another process holds the store's lock."""


class Store:
    """The folder of installed bundles. Several processes may change it, one at a time.

    folder: where the bundles are; it is created by the first installation.
    trust: called with a bundle's folder and name; raises BundleError for a card that it does not
    trust (signing.Trust).
    disk: the file operations.
    replay: called with a bundle's folder and name; raises BundleError if it computes something else
    on this device.
    lock_timeout: seconds to wait for another process that changes the store.

    Every method that changes something raises BundleError for what is refused or fails; what runs
    is then left as it was.
    """

    def __init__(
        self,
        folder: Path,
        trust: Callable[[Path, str], object],
        disk: Disk | None = None,
        replay: Callable[[Path, str], None] = sandbox.replay,
        lock_timeout: float = 180.0,
    ) -> None:
        self.folder = folder
        self.trust = trust
        self.disk = disk or Disk()
        self.replay = replay
        self.lock_timeout = lock_timeout

    # --- reading ----------------------------------------------------------------------------------

    def state(self) -> StoreState:
        """Return what is installed and what each bundle is for; nothing without the folder.

        Raises BundleError if the folder or its state file cannot be read.
        """
        # Read before `current`: a bundle that is promoted meanwhile is seen twice, not missed.
        pending = self._pending()
        return StoreState(
            installed=self._installed(),
            current=self._target(_CURRENT),
            pending=pending,
            shadow=self._target(_SHADOW),
            record=self._read_record() or StoreRecord(),
        )

    def settled_state(self, timeout: float) -> StoreState | None:
        """Return the state while no process changes the store; `state` may be between two changes.

        timeout: seconds to wait for other processes; None is returned when they are over.

        Raises BundleError if the folder cannot be read.
        """
        try:
            with self._locked(lock_timeout=timeout):
                return self.state()
        except _StoreBusyError:
            return None

    def open(self, name: str) -> Bundle:
        """Verify the installed bundle `name`: its signature, its card and its files.

        Raises BundleError or ContractError if it is not installed, not trusted any more, or
        damaged.
        """
        with self._os_errors_explained():
            if not NAME.fullmatch(name):
                raise self._not_installed(name)
            self._check_installed(name)
            self.trust(self.folder / name, name)
            bundle = load_bundle(self.folder / name)
        if bundle.card.id != name:
            raise BundleError(
                f"{self.folder / name} holds {bundle.card.id}; "
                "install that one with: mien-edge models install",
            )
        return bundle

    def _installed(self) -> tuple[str, ...]:
        try:
            paths = sorted(self.folder.iterdir())
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise BundleError(
                f"{self.folder}: cannot be read ({error.strerror}); run it as the folder's owner",
            ) from None
        return tuple(path.name for path in paths if _is_bundle_folder(path))

    def _target(self, link: str) -> str:
        """The bundle that a link names; '' where there is no such link."""
        try:
            return os.readlink(self.folder / link)
        except OSError:
            return ""

    def _pending(self) -> str:
        """The bundle that is requested, also by an older version; '' for none."""
        return self._target(_OLD_PENDING) or self._target(_PENDING)

    def _read_record(self) -> StoreRecord | None:
        """None without a state file; empty for a damaged one: nothing is known to be good."""
        path = self.folder / _STATE
        try:
            content = json.loads(path.read_text())
            return schema.from_dict(StoreRecord, content, _STATE, ContractError)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BundleError(
                f"{path}: cannot be read ({error.strerror}); run it as root",
            ) from None
        except (ValueError, RecursionError):
            return StoreRecord()

    # --- changing ---------------------------------------------------------------------------------

    def install(
        self,
        source: Path,
        allow_downgrade: bool = False,
        shown_as: Path | None = None,
    ) -> Bundle:
        """Copy, verify and replay the bundle in the folder `source`; keep and return the copy.

        The signature is checked before the card is believed, and the replay runs in a process of
        its own. The bundle does not run yet. A damaged bundle of the same name is replaced.

        allow_downgrade: accept an older version than has run here.
        shown_as: what messages call the folder, where it is a copy of another one.

        Raises BundleError or ContractError for what is refused; nothing is installed then.
        """
        with self._locked(create=True):
            self._make_room()
            staging = self.folder / f"{_STAGING}{os.getpid()}"
            try:
                bundle = self._stage(source, staging, allow_downgrade, shown_as or source)
                self.replay(staging, bundle.card.id)
                return self._move_in(bundle, staging)
            finally:
                with contextlib.suppress(OSError):
                    self._remove_tree(staging)

    def request(self, bundle: Bundle, allow_downgrade: bool = False) -> StoreState:
        """Request that the service runs `bundle`, from `install` or `open`; return the new state.

        A running service takes it at SIGHUP, another one when it starts. Nothing changes for a
        bundle that is current already.

        allow_downgrade: accept an older version than has run here.
        """
        name = bundle.card.id
        with self._locked():
            self._check_installed(name)
            self._check_downgrade(name, allow_downgrade)
            state = self.state()
            if name == state.current and not state.pending:
                return state
            self._point(_PENDING, name)
            return self.state()

    def cancel(self, name: str) -> None:
        """Withdraw the request for the bundle `name`, if it is still pending."""
        with self._locked():
            if self._target(_PENDING) == name:
                self._unlink(_PENDING)

    def promote(self) -> Bundle | None:
        """Make the pending bundle `current`, on probation, and return it, verified.

        Returns None if none is pending, or if it is damaged; its request is withdrawn then.
        """
        if not self._pending():
            return None
        with self._locked():
            if self._target(_PENDING) and self._read_record() is None:
                self._write_record(self._adopt_current())
            bundle = self._open_sound(self._target(_PENDING))
            if bundle is None:
                self._unlink(_PENDING)
                return None
            self.disk.rename(self.folder / _PENDING, self.folder / _CURRENT)
            self.disk.sync(self.folder)
            return bundle

    def commit(self, name: str, reason: str = "it proved itself") -> None:
        """End the probation of the bundle `name` for good, if it is still the one on probation.

        reason: a sentence for people, kept in the record.
        """
        with self._locked():
            state = self.state()
            if state.on_probation and state.current == name:
                result = ProbationResult(name, True, reason, time.time())
                self._write_record(_with_committed(state.record, name, result))

    def roll_back(self, name: str, reason: str) -> None:
        """Replace `name`, if it is still current, by the newest committed bundle that is sound.

        Where there is none, the bundle that came with mien runs.

        reason: a sentence for people, kept in the record.
        """
        with self._locked():
            state = self.state()
            if state.current == name:
                self._fall_back(state, state.rollback_targets, reason)

    def return_to_previous(self, reason: str) -> str:
        """Go back by hand: to the committed bundle, or from that to the one committed before.

        Any request is withdrawn. Returns the bundle that is current now, '' for the one that came
        with mien. Raises BundleError if that one runs already.

        reason: a sentence for people, kept in the record.
        """
        with self._locked():
            state = self.state()
            self._unlink(_PENDING)
            if not state.current:
                raise BundleError(
                    f"{self.folder}: the bundle that came with mien runs; there is none before it",
                )
            return self._fall_back(state, state.rollback_targets, reason)

    def start_shadow(self, bundle: Bundle) -> None:
        """Compare `bundle`, from `install` or `open`, with the current one on the same faces."""
        with self._locked():
            self._check_installed(bundle.card.id)
            self._point(_SHADOW, bundle.card.id)

    def stop_shadow(self) -> None:
        """Compare no bundle with the current one any more."""
        with self._locked():
            self._unlink(_SHADOW)

    def remove(self, name: str) -> None:
        """Remove the installed bundle `name`; if it is the shadow, the comparison stops.

        Raises BundleError if it is not installed, or if it is current, pending or committed.
        """
        with self._locked():
            state = self.state()
            self._check_installed(name)
            if name == state.shadow:
                self._unlink(_SHADOW)
            elif name in state.in_use:
                raise BundleError(
                    f"{name} is in use; go to another one first: mien-edge models rollback",
                )
            self._remove_bundle(name)

    def recover(self) -> list[str]:
        """Put the store in order when a service starts; return what was done, for people.

        What was not committed is undone, `current` is a sound bundle afterwards, and what another
        process left half done is removed.
        """
        if not self.folder.is_dir():
            return []
        with self._locked():
            self._remove_leftovers()
            if self._read_record() is None and self._target(_CURRENT):
                self._write_record(self._adopt_current())
            state = self.state()
            for link in (_PENDING, _SHADOW):
                if self._target(link) not in ("", *state.installed):
                    self._unlink(link)
            return self._recover_current(state)

    def _recover_current(self, state: StoreState) -> list[str]:
        if state.on_probation:
            name = self._fall_back(state, state.record.committed, _NOT_PROVED)
            return [f"{state.current}: {_NOT_PROVED}; back to {display_name(name)}"]
        if not state.current:
            if state.record.committed:
                self._fall_back(state, state.record.committed, "its link was gone")
            return []
        if self._open_sound(state.current) is None:
            name = self._fall_back(state, state.rollback_targets, _DAMAGED)
            return [f"{state.current}: {_DAMAGED}; back to {display_name(name)}"]
        return []

    # --- the lock and what the operating system refuses -------------------------------------------

    @contextlib.contextmanager
    def _locked(self, create: bool = False, lock_timeout: float | None = None) -> Iterator[None]:
        """Keep other processes from changing the store; an OSError becomes a BundleError."""
        with self._os_errors_explained():
            if create:
                self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._wait_for_lock(handle, lock_timeout)
                self._rename_old_pending()
                yield
            finally:
                os.close(handle)

    @contextlib.contextmanager
    def _os_errors_explained(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if not self.folder.exists():
                raise BundleError(
                    f"{self.folder}: no bundle is installed; see: mien-edge models install",
                ) from None
            raise BundleError(
                f"{error.filename}: no such file; see: mien-edge models list",
            ) from None
        except OSError as error:
            raise BundleError(
                f"{self.folder}: cannot be changed ({error.strerror}); "
                "free space, or run it as root",
            ) from None

    def _wait_for_lock(self, handle: int, lock_timeout: float | None) -> None:
        seconds = self.lock_timeout if lock_timeout is None else lock_timeout
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise _StoreBusyError(
                        f"{self.folder}: another process changes it; try again in a minute",
                    ) from None
                time.sleep(0.1)

    def _rename_old_pending(self) -> None:
        if self._target(_OLD_PENDING):
            self.disk.rename(self.folder / _OLD_PENDING, self.folder / _PENDING)
            self.disk.sync(self.folder)

    # --- installing -------------------------------------------------------------------------------

    def _stage(
        self,
        source: Path,
        staging: Path,
        allow_downgrade: bool,
        shown_as: Path,
    ) -> Bundle:
        """Copy a bundle into `staging` and verify the copy: a command's one verification."""
        self.disk.make_folder(staging)
        self._copy_file(source, staging, _CARD, LARGEST, shown_as)
        if os.path.lexists(source / SIGNATURE):
            self._copy_file(source, staging, SIGNATURE, LARGEST, shown_as)
        self.trust(staging, source.name)
        card = read_card(staging, shown_as=shown_as)
        self._check_downgrade(card.id, allow_downgrade)
        for name, pinned in card.files.items():
            self._copy_file(source, staging, name, pinned.bytes, shown_as)
        bundle = verify_files(staging, card, shown_as=shown_as)
        self.disk.sync(staging)
        return bundle

    def _copy_file(
        self,
        source: Path,
        staging: Path,
        name: str,
        max_bytes: int,
        shown_as: Path,
    ) -> None:
        path = source / name
        shown = shown_as / name
        if not NAME.fullmatch(name) or path.is_symlink() or not path.is_file():
            raise BundleError(
                f"{shown}: cannot be read as a plain file; name a folder with a model bundle",
            )
        limit = min(max_bytes, LARGEST)
        if path.stat().st_size > limit:
            raise BundleError(f"{shown}: larger than {limit} bytes; copy the bundle again")
        self.disk.copy(path, staging / name)
        self.disk.sync(staging / name)

    def _move_in(self, bundle: Bundle, staging: Path) -> Bundle:
        """Rename the staged bundle to its own folder, unless the same one is there already."""
        name = bundle.card.id
        target = self.folder / name
        if target.exists():
            installed = _load_sound(target)
            if installed is None:
                self._remove_bundle(name)
            elif installed.card == bundle.card:
                self._renew_signature(staging, target)
                return installed
            else:
                raise BundleError(
                    f"{target}: another bundle of this name and version is here; "
                    "export a higher version",
                )
        self.disk.rename(staging, target)
        self.disk.sync(self.folder)
        return replace(bundle, folder=target.resolve())

    def _renew_signature(self, staging: Path, target: Path) -> None:
        """Replace the signature of an installed bundle, for instance after a key was revoked."""
        new = staging / SIGNATURE
        old = target / SIGNATURE
        if not new.exists():
            return
        if not old.exists() or old.read_bytes() != new.read_bytes():
            self.disk.rename(new, old)
            self.disk.sync(target)

    def _make_room(self) -> None:
        """Remove what was left half done, and the oldest bundles that are not in use."""
        self._remove_leftovers()
        state = self.state()
        unused = [self.folder / name for name in state.installed if name not in state.in_use]
        unused.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in unused[_MAX_UNUSED - 1 :]:
            self._remove_bundle(path.name)

    # --- checks -----------------------------------------------------------------------------------

    def _check_installed(self, name: str) -> None:
        if name not in self._installed():
            raise self._not_installed(name)

    def _not_installed(self, name: str) -> BundleError:
        return BundleError(f"{name}: not installed in {self.folder}; see: mien-edge models list")

    def _check_downgrade(self, name: str, is_allowed: bool) -> None:
        versioned = _VERSIONED_NAME.fullmatch(name)
        if is_allowed or versioned is None:
            return
        highest = self.state().record.highest.get(versioned[1], 0)
        if int(versioned[2]) < highest:
            raise BundleError(
                f"{name} is older than version {highest}, which has run here; "
                "if that is meant, add --allow-downgrade",
            )

    def _open_sound(self, name: str) -> Bundle | None:
        """The installed bundle `name`; None if it is damaged or is not what its folder says."""
        if not NAME.fullmatch(name):
            return None
        bundle = _load_sound(self.folder / name)
        if bundle is None or bundle.card.id != name:
            return None
        return bundle

    # --- the record and the links -----------------------------------------------------------------

    def _fall_back(self, state: StoreState, candidates: tuple[str, ...], reason: str) -> str:
        """Make the first sound one of `candidates` current; return its name, '' for none.

        It and the candidates after it stay committed, and `current` has failed because of `reason`.
        """
        while candidates and self._open_sound(candidates[0]) is None:
            candidates = candidates[1:]
        if candidates:
            self._point(_CURRENT, candidates[0])
        else:
            self._unlink(_CURRENT)
        result = state.record.last_result
        if state.current:
            result = ProbationResult(state.current, False, reason, time.time())
        self._write_record(replace(state.record, committed=candidates, last_result=result))
        return candidates[0] if candidates else ""

    def _adopt_current(self) -> StoreRecord:
        """The record of a store without a state file: what is current is committed."""
        current = self._target(_CURRENT)
        if self._open_sound(current) is None:
            return StoreRecord()
        return _with_committed(StoreRecord(), current, None)

    def _write_record(self, record: StoreRecord) -> None:
        content = json.dumps(schema.to_dict(record), indent=1) + "\n"
        path = self._new_path(_STATE)
        self.disk.write(path, content.encode())
        self.disk.sync(path)
        self.disk.rename(path, self.folder / _STATE)
        self.disk.sync(self.folder)

    def _point(self, link: str, name: str) -> None:
        """Create or replace a link."""
        path = self._new_path(link)
        self.disk.link(name, path)
        self.disk.rename(path, self.folder / link)
        self.disk.sync(self.folder)

    def _unlink(self, link: str) -> None:
        """Remove a link, if it is there."""
        if self._target(link):
            self.disk.remove(self.folder / link)
            self.disk.sync(self.folder)

    def _new_path(self, name: str) -> Path:
        """Where the successor of the file `name` is written; an older attempt there is removed."""
        path = self.folder / f"{_NEW}{name}"
        if os.path.lexists(path):
            self.disk.remove(path)
        return path

    # --- removing ---------------------------------------------------------------------------------

    def _remove_bundle(self, name: str) -> None:
        """Remove a bundle; renamed first, so that a power cut leaves a whole one or leftovers."""
        trash = self.folder / f"{_STAGING}{name}-old"
        self._remove_tree(trash)
        self.disk.rename(self.folder / name, trash)
        self.disk.sync(self.folder)
        self._remove_tree(trash)

    def _remove_leftovers(self) -> None:
        for path in sorted(self.folder.iterdir()):
            if path.name.startswith((_STAGING, _NEW)):
                self._remove_tree(path)

    def _remove_tree(self, path: Path) -> None:
        if path.is_symlink() or path.is_file():
            self.disk.remove(path)
        elif path.is_dir():
            for child in sorted(path.iterdir()):
                self._remove_tree(child)
            self.disk.remove_folder(path)


def _is_bundle_folder(path: Path) -> bool:
    """Whether an entry of the store is a bundle: no link, and nothing that is half done."""
    return path.is_dir() and not path.is_symlink() and not path.name.startswith(".")


def _load_sound(folder: Path) -> Bundle | None:
    """The bundle in `folder`, verified; None if it is damaged."""
    try:
        return load_bundle(folder)
    except (BundleError, ContractError):
        return None


def _with_committed(record: StoreRecord, name: str, result: ProbationResult | None) -> StoreRecord:
    """The record with `name` as its newest bundle; without `result` the last result stays."""
    older = [committed for committed in record.committed if committed != name]
    committed = (name, *older)[:_MAX_COMMITTED]
    highest = dict(record.highest)
    versioned = _VERSIONED_NAME.fullmatch(name)
    if versioned:
        highest[versioned[1]] = max(highest.get(versioned[1], 0), int(versioned[2]))
    return StoreRecord(committed, highest, result or record.last_result)
