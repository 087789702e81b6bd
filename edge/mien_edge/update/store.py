"""Installed bundles as a state machine in files: a power cut leaves the old or the new bundle.

    models/NAME-VERSION/   installed: verified, and replayed on this very device
    models/pending         link: requested; the service renames it to `current` between two frames
    models/current         link: what runs
    models/shadow          link: what is compared with it on the same faces
    models/state.json      the committed bundles (two, newest first), the last result
    models/probation.json  how far a probation was when the service ended in order
    models/NAME-VERSION/starts.json  how often in a row that bundle, committed or a shadow, has
                                     ended the service
    models/NAME-VERSION/failed  why that bundle is not taken again

`current` is committed when it heads that list, else on probation. Whatever is on probation when the
service starts is undone, unless probation.json says that the process before ended in order. That
file is removed before the bundle is loaded, and once more before it reads its first face: in
between, while the camera is opened, an end of the process is not the bundle's fault. Without any
installed bundle the one that came with mien runs. Every change is one rename, synced before and
after; `disk.Disk` is the only way to the files.

A committed bundle is loaded, and reads its first face, between `begin_attempt` and `end_attempt`. A
process that ends in between is the bundle's failure; one that ends elsewhere, for instance because
there is no camera, is not. After five such failures in a row the bundle before runs; a shadow is
compared no more after the first.

Who installs holds the lock `.installing`, for a bundle may come slowly, and the store's own lock
only for the moments in which it changes what is there: the service never waits for a sender.

Earlier versions called the link `pending` `next`. It is read as `pending`, and the first change
renames it.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from mien_edge import schema
from mien_edge.contract import Card
from mien_edge.errors import BundleError, ContractError
from mien_edge.model.bundle import (
    LARGEST,
    Bundle,
    check_sizes,
    load_bundle,
    read_card,
    verify_file,
)
from mien_edge.update import sandbox
from mien_edge.update.bundle_files import NAME, BundleFiles, FolderFiles
from mien_edge.update.disk import Disk
from mien_edge.update.record import (
    ProbationProgress,
    ProbationResult,
    StartFailures,
    StoreRecord,
    StoreState,
    display_name,
)
from mien_edge.update.signing import SIGNATURE

_VERSIONED_NAME = re.compile(r"(.+)-(\d+)")
_CARD = "card.json"
_STATE = "state.json"
_PROBATION = "probation.json"
_STARTS = "starts.json"
_FAILED = "failed"
_RESERVED_NAMES = (_CARD, SIGNATURE, _FAILED, _STARTS)
_CURRENT = "current"
_PENDING = "pending"
_OLD_PENDING = "next"  # where it exists, an older version wrote it after `pending`
_SHADOW = "shadow"
_STAGING = ".staging-"
_NEW = ".new-"
_LOCK = ".lock"
_INSTALLING = ".installing"
_SESSION = ".session-"
_MAX_SESSIONS = 4  # processes that send a bundle or wait for its probation
_MAX_CARD = 256 * 1024  # bytes; the largest that mien has written has 43 KB
_MAX_SIGNATURE = 64 * 1024  # bytes; real ones have some hundreds
_MAX_FILES = 16
_MAX_BYTES = 2 * LARGEST
_RESERVE = 16 * 1024 * 1024  # bytes that an installation leaves free, for the log
_MAX_START_FAILURES = 5  # in a row; systemd gives up after ten starts within five minutes
_MAX_COMMITTED = 2
_MAX_UNUSED = 3  # installed bundles besides those in use
_NOT_PROVED = "the service ended before it had proved itself"
_DAMAGED = "it is damaged on the disk"


T = TypeVar("T")


class _StoreBusyError(BundleError):
    """Another process holds the store's lock."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What `Store.recover` did.

    events: what was undone, in sentences for people.
    bundle: the current bundle, verified; None for the one that came with mien.
    probation: how far its probation was, if that goes on; None if it does not.
    """

    events: tuple[str, ...] = ()
    bundle: Bundle | None = None
    probation: ProbationProgress | None = None


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
            failed=self._failed(),
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

    def labels(self, name: str) -> tuple[str, ...]:
        """The labels of the installed bundle `name`; none where its card cannot be read."""
        try:
            return read_card(self.folder / name).labels
        except (BundleError, ContractError):
            return ()

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

    def _failed(self) -> dict[str, str]:
        """The reasons why installed bundles are not taken again, by name."""
        reasons = {}
        for path in sorted(self.folder.glob(f"*/{_FAILED}")):
            with contextlib.suppress(OSError):
                reasons[path.parent.name] = path.read_text(errors="replace").strip()
        return reasons

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

        shown_as: what messages call the folder, where it is a copy of another one.

        Options, result and errors are those of `install_from`.
        """
        shown = shown_as or source
        return self.install_from(FolderFiles(source, shown), allow_downgrade, shown)

    def install_from(
        self,
        bundle_files: BundleFiles,
        allow_downgrade: bool,
        shown_as: Path,
    ) -> Bundle:
        """Copy, verify and replay a bundle; keep and return the copy. It does not run yet.

        The signature is checked before anything but the card is copied, and the replay runs in a
        process of its own. A damaged bundle of the same name is replaced.

        allow_downgrade: accept an older version than has run here.
        shown_as: what messages call the bundle.

        Raises BundleError or ContractError for what is refused, and if another process installs a
        bundle; nothing is installed then.
        """
        with self._os_errors_explained():
            self.folder.mkdir(parents=True, exist_ok=True)
        with self._installing():
            with self._locked():
                self._make_room()
            staging = self.folder / f"{_STAGING}{os.getpid()}"
            try:
                with self._os_errors_explained():
                    bundle = self._stage(bundle_files, staging, allow_downgrade, shown_as)
                self.replay(staging, bundle.card.id)
                with self._locked():
                    self._check_downgrade(bundle.card.id, allow_downgrade)
                    return self._move_in(bundle, staging)
            finally:
                with contextlib.suppress(OSError):
                    self._remove_tree(staging)

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """Be one of the four processes that may send bundles and wait for their probation.

        Raises BundleError if there are as many already.
        """
        with self._os_errors_explained():
            self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            for number in range(_MAX_SESSIONS):
                with contextlib.suppress(_StoreBusyError):
                    stack.enter_context(self._held(f"{_SESSION}{number}", "another submission"))
                    break
            else:
                raise BundleError(f"{_MAX_SESSIONS} submissions are under way; try again later")
            yield

    def request(self, bundle: Bundle, allow_downgrade: bool = False) -> StoreState:
        """Request that the service runs `bundle`, from `install` or `open`; return the new state.

        A running service takes it at SIGHUP, another one when it starts. Nothing changes for a
        bundle that is current already.

        allow_downgrade: accept an older version than has run here.
        """
        name = bundle.card.id
        with self._locked():
            self._check_installed(name)
            self._check_not_failed(name)
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

    def suspend_probation(self, progress: ProbationProgress) -> None:
        """Let the next start go on with a probation; a service that ends in order calls this.

        Nothing changes if another bundle is current or the probation is over.
        """
        with self._locked():
            state = self.state()
            if state.on_probation and state.current == progress.name:
                self._write_json(_PROBATION, progress)

    def resume_probation(self) -> None:
        """From now on an end of the process, unless it is in order, undoes the probation."""
        with self._os_errors_explained():
            self._forget(_PROBATION)

    def begin_attempt(self, name: str) -> None:
        """Count it as the bundle's failure if this process ends before `end_attempt`.

        name: the current bundle, or the shadow.
        """
        with self._os_errors_explained():
            failures = self._start_failures(name)
            self._write_starts(name, replace(failures, is_open=True))

    def end_attempt(self, name: str, has_read_face: bool) -> None:
        """The process did not end: what was attempted is no failure.

        has_read_face: whether the bundle has proved itself, so that earlier failures do not count.
        """
        with self._os_errors_explained():
            failures = self._start_failures(name)
            if has_read_face or not failures.count:
                self._forget(_starts(name))
            else:
                self._write_starts(name, replace(failures, is_open=False))

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

    def recover(self) -> Recovery:
        """Put the store in order when a service starts.

        What was not committed is undone, unless its process ended in order. `current` is a sound
        bundle afterwards, and one that does not fail at every start; and what another process left
        half done is removed.
        """
        if not self.folder.is_dir():
            return Recovery()
        with self._locked():
            self._remove_leftovers()
            with contextlib.suppress(_StoreBusyError), self._installing():
                self._remove_staged()
            if self._read_record() is None and self._target(_CURRENT):
                self._write_record(self._adopt_current())
            state = self.state()
            for link in (_PENDING, _SHADOW):
                if self._target(link) not in ("", *state.installed):
                    self._unlink(link)
            events = self._stop_deadly_shadow(state)
            recovery = self._recover_current(state)
            return replace(recovery, events=(*events, *recovery.events))

    def _stop_deadly_shadow(self, state: StoreState) -> tuple[str, ...]:
        """Compare a shadow no more that has ended the service; return what is to be told."""
        name = state.shadow
        if not name or name == state.current or not self._start_failures(name).is_open:
            return ()
        self._unlink(_SHADOW)
        self._forget(_starts(name))
        return (f"{name}: it ended the service as a shadow; it is compared no more",)

    def _recover_current(self, state: StoreState) -> Recovery:
        current = state.current
        progress = self._read_json(_PROBATION, ProbationProgress)
        self._forget(_PROBATION)  # before the bundle runs: a crash of its must be undone
        if not current:
            if state.record.committed:
                self._fall_back(state, state.record.committed, "its link was gone")
            return Recovery(bundle=self._open_current())
        if state.on_probation and (progress is None or progress.name != current):
            return self._give_way(state, state.record.committed, _NOT_PROVED)
        failures = self._count_start_failure(current)
        if failures >= _MAX_START_FAILURES:
            reason = f"it ended the service in {failures} starts in a row"
            self._mark_failed(current, reason)
            return self._give_way(state, state.rollback_targets, reason)
        bundle = self._open_sound(current)
        if bundle is None:
            return self._give_way(state, state.rollback_targets, _DAMAGED)
        return Recovery(bundle=bundle, probation=progress if state.on_probation else None)

    def _give_way(self, state: StoreState, candidates: tuple[str, ...], reason: str) -> Recovery:
        name = self._fall_back(state, candidates, reason)
        event = f"{state.current}: {reason}; back to {display_name(name)}"
        return Recovery((event,), self._open_current())

    def _open_current(self) -> Bundle | None:
        current = self._target(_CURRENT)
        return self._open_sound(current) if current else None

    def _count_start_failure(self, name: str) -> int:
        """How many starts in a row have failed by the fault of the bundle `name`."""
        failures = self._start_failures(name)
        if not failures.is_open:
            return failures.count
        count = failures.count + 1
        self._write_starts(name, StartFailures(count))
        return count

    # --- the lock and what the operating system refuses -------------------------------------------

    @contextlib.contextmanager
    def _locked(self, lock_timeout: float | None = None) -> Iterator[None]:
        """Keep other processes from changing the store; an OSError becomes a BundleError."""
        with self._os_errors_explained():
            handle = self._open_lock(_LOCK)
            try:
                self._wait_for_lock(handle, lock_timeout)
                self._rename_old_pending()
                yield
            finally:
                os.close(handle)

    def _open_lock(self, name: str) -> int:
        return os.open(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _installing(self) -> contextlib.AbstractContextManager[None]:
        """Be the one process that installs a bundle; raises _StoreBusyError at once."""
        return self._held(_INSTALLING, "another submission is under way; try again")

    @contextlib.contextmanager
    def _held(self, name: str, problem: str) -> Iterator[None]:
        """Hold a lock file, which the kernel frees when this process ends, however it ends."""
        with self._os_errors_explained():
            handle = self._open_lock(name)
        try:
            if not _try_lock(handle):
                raise _StoreBusyError(problem)
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
        while not _try_lock(handle):
            if time.monotonic() > deadline:
                raise _StoreBusyError(
                    f"{self.folder}: another process changes it; try again in a minute",
                )
            time.sleep(0.1)

    def _rename_old_pending(self) -> None:
        if self._target(_OLD_PENDING):
            self.disk.rename(self.folder / _OLD_PENDING, self.folder / _PENDING)
            self.disk.sync(self.folder)

    # --- installing -------------------------------------------------------------------------------

    def _stage(
        self,
        bundle_files: BundleFiles,
        staging: Path,
        allow_downgrade: bool,
        shown_as: Path,
    ) -> Bundle:
        """Copy a bundle into `staging` and verify the copy: a command's one verification."""
        self.disk.make_folder(staging)
        self._copy_file(bundle_files, staging, _CARD, _MAX_CARD)
        if bundle_files.has(SIGNATURE):
            self._copy_file(bundle_files, staging, SIGNATURE, _MAX_SIGNATURE)
        self.trust(staging, shown_as.name)
        card = read_card(staging, shown_as=shown_as)
        self._check_downgrade(card.id, allow_downgrade)
        self._check_space(card, shown_as)
        for name, pinned in sorted(card.files.items()):
            self._copy_file(bundle_files, staging, name, pinned.bytes)
            verify_file(staging, name, pinned, shown_as)
        bundle_files.finish()
        check_sizes(staging, card, shown_as)
        self.disk.sync(staging)
        return Bundle(staging.resolve(), card)

    def _copy_file(
        self,
        bundle_files: BundleFiles,
        staging: Path,
        name: str,
        max_bytes: int,
    ) -> None:
        chunks = bundle_files.chunks(name, min(max_bytes, LARGEST))
        self.disk.copy(chunks, staging / name)
        self.disk.sync(staging / name)

    def _check_space(self, card: Card, shown_as: Path) -> None:
        """Refuse what is larger than any bundle, or than what is free, before it is copied."""
        for name in card.files:
            if not NAME.fullmatch(name) or name in _RESERVED_NAMES:
                raise BundleError(f"{shown_as}: {name!r} is no name for a file; export it again")
        size = sum(pinned.bytes for pinned in card.files.values())
        if size > _MAX_BYTES or len(card.files) > _MAX_FILES:
            raise BundleError(
                f"{shown_as}: {len(card.files)} files of {size / 1e6:.0f} MB; a bundle has at most "
                f"{_MAX_FILES} of {_MAX_BYTES / 1e6:.0f} MB: export it again",
            )
        free = shutil.disk_usage(self.folder).free
        if size + _RESERVE > free:
            raise BundleError(
                f"{self.folder}: the bundle needs {(size + _RESERVE) / 1e6:.1f} MB with a reserve "
                f"for the log, and {free / 1e6:.1f} MB are free; free some space",
            )

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
        self._remove_staged()
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

    def _check_not_failed(self, name: str) -> None:
        if name in self._failed():
            raise BundleError(
                f"{name} is not taken again: {self._failed()[name]}; export a higher version, or "
                f"try it again after: mien-edge models remove {name}",
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
        self._write_json(_STATE, record)

    def _write_json(self, name: str, content: object) -> None:
        path = self._new_path(name)
        self.disk.write(path, _as_json(content))
        self.disk.sync(path)
        self.disk.rename(path, self.folder / name)
        self.disk.sync(self.folder)

    def _read_json(self, name: str, kind: type[T]) -> T | None:
        """The content of a file that may be missing; one that can't be read says nothing."""
        try:
            content = json.loads((self.folder / name).read_text())
            return schema.from_dict(kind, content, name, ContractError)
        except (OSError, ValueError, RecursionError):
            return None

    def _start_failures(self, name: str) -> StartFailures:
        """What is counted against the bundle `name`."""
        return self._read_json(_starts(name), StartFailures) or StartFailures()

    def _write_starts(self, name: str, failures: StartFailures) -> None:
        """Written in place, without the lock: a file that a power cut spoils counts nothing."""
        path = self.folder / _starts(name)
        self.disk.write(path, _as_json(failures))
        self.disk.sync(path)

    def _mark_failed(self, name: str, reason: str) -> None:
        path = self.folder / name / _FAILED
        self.disk.write(path, f"{reason}\n".encode())
        self.disk.sync(path)
        self.disk.sync(path.parent)

    def _forget(self, name: str) -> None:
        """Remove a file, if it is there."""
        path = self.folder / name
        if path.exists():
            self.disk.remove(path)
            self.disk.sync(path.parent)

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
        self._remove_all(_NEW)

    def _remove_staged(self) -> None:
        """Remove what installations left that were killed; needs the lock of installations."""
        self._remove_all(_STAGING)

    def _remove_all(self, prefix: str) -> None:
        for path in sorted(self.folder.iterdir()):
            if path.name.startswith(prefix):
                self._remove_tree(path)

    def _remove_tree(self, path: Path) -> None:
        if path.is_symlink() or path.is_file():
            self.disk.remove(path)
        elif path.is_dir():
            for child in sorted(path.iterdir()):
                self._remove_tree(child)
            self.disk.remove_folder(path)


def _starts(name: str) -> str:
    """Where the starts that the bundle `name` has ended are counted."""
    return f"{name}/{_STARTS}"


def _as_json(content: object) -> bytes:
    return (json.dumps(schema.to_dict(content), indent=1) + "\n").encode()


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


def _try_lock(handle: int) -> bool:
    """Lock an open file, which stays locked until it is closed; False if another process has."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
