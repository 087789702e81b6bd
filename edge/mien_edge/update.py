"""The running service's side of new models: taken between two frames, tried, and kept or given back.

All that may take long, such as reading a bundle or syncing a disk, is done by a thread beside the frames.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from mien_edge import bundle as bundles
from mien_edge import camera, shadow
from mien_edge.bundle import Bundle
from mien_edge.errors import BundleError, MienError
from mien_edge.pipeline import Timed
from mien_edge.probation import LastHour, Probation
from mien_edge.settings import Update as Settings
from mien_edge.store import Store
from mien_edge.values import Face, Frame, Reading

_GAP = 2.0  # seconds without a frame that are the camera's affair, not the model's

_log = logging.getLogger("mien.update")

Stages = tuple[Callable[..., Any], Callable[..., Any]]
"""What depends on the model: classify and smooth."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """A model that runs: its bundle and its two stages."""

    bundle: Bundle
    classify: Callable[..., Any]
    smooth: Callable[..., Any]


class Updater:
    """A watcher that swaps the model between two frames when `ask` was called, and judges it.

    make: the two stages of a bundle. stages: the chain's timed stages, whose callables are replaced. rate: the frames
    per second aimed at now. on_model: told which bundle runs.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        bundle: Bundle,
        make: Callable[[Bundle], Stages],
        stages: dict[str, Timed],
        rate: Callable[[], float],
        on_event: camera.OnEvent,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings, self.store, self.make, self.stages = settings, store, make, stages
        self.rate, self.on_event, self.steady = rate, on_event, steady
        self.tenant = Tenant(bundle, stages["classify"].stage, stages["smooth"].stage)
        self.before: Tenant | None = None
        self.trial: Probation | None = None
        self.shadow: shadow.Compared | None = None
        self._hour = LastHour()
        self._then = steady()
        self._asked = threading.Event()
        self._work: Future[Any] | None = None
        self._then_do: Callable[[Any], None] = lambda _: None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="mien-update")
        self._fault = ""

    def ask(self) -> None:
        """Look at the store before the next frame; safe in a signal handler."""
        self._asked.set()

    def state(self) -> dict[str, Any]:
        """For the status: which model runs, on probation or not, and what its shadow says."""
        trial = self.trial
        found: dict[str, Any] = {"model": self.tenant.bundle.card.id, "bundle": str(self.tenant.bundle.folder)}
        found["probation"] = trial and {
            "seconds": round(trial.seconds, 1), "of_seconds": self.settings.probation, "faces": trial.seen.faces,
            "of_faces": self.settings.faces,
        }  # fmt: skip
        return found | {"shadow": self.shadow.report() if self.shadow else None}

    def __call__(self, frame: Frame, readings: tuple[Reading, ...]) -> None:
        """A frame has gone through the chain: judge, and change what has to be changed before the next."""
        now = self.steady()
        spent, due = self.stages["classify"].last, min(now - self._then, _GAP) * self.rate()
        self._then = now
        if self.trial:
            self.trial.add(now, readings, spent, due)
        else:
            self._hour.add(now, readings, spent, due)
        if self._work:
            if self._work.done():
                self._finish()
        elif self._asked.is_set():
            self._asked.clear()
            self._start(self._look, self._found)
        elif self.trial:
            self._judge(self.trial)
        elif self.shadow and (self.shadow.problem or self.shadow.seconds >= self.settings.shadow):
            self._start(lambda: self.store.shadow(""), lambda _: self._end_shadow())

    # --- beside the frames ---------------------------------------------------------------------------------

    def _start(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        self._work, self._then_do = self._worker.submit(work), then

    def _finish(self) -> None:
        work, self._work = self._work, None
        assert work is not None  # noqa: S101 - asked before
        try:
            found = work.result()
        except MienError as problem:
            _log.error("%s", problem)
            self.on_event("model refused", str(problem))
        else:
            self._then_do(found)

    def _look(self) -> tuple[Tenant | None, shadow.Compared | None]:
        """What should run now, if it is another one; and beside it."""
        self.store.begin()
        folder = bundles.find()
        try:
            bundle = bundles.load(folder)
            changed = bundle.card != self.tenant.bundle.card
            tenant = Tenant(bundle, *self.make(bundle)) if changed else None
        except MienError as problem:
            self.store.rollback(str(problem))
            raise BundleError(f"{folder.name} cannot run, the model before goes on: {problem}") from None
        return tenant, self._shadow(tenant or self.tenant)

    def _shadow(self, tenant: Tenant) -> shadow.Compared | None:
        name = self.store.state().shadow
        if not name:
            return None
        if self.shadow and self.shadow.name == name and self.shadow.first is tenant.classify:
            return self.shadow
        second, _ = self.make(bundles.load(self.store.folder / name))
        return shadow.Compared(tenant.classify, second, name)

    # --- between two frames --------------------------------------------------------------------------------

    def _found(self, found: tuple[Tenant | None, shadow.Compared | None]) -> None:
        tenant, beside = found
        if tenant:
            old, self.before = self.tenant, self.tenant
            self._put(tenant)
            self.on_event("model changed", f"{old.bundle.card.id} before, {tenant.bundle.card.id} now")
            self._try(tenant)
        if beside is not self.shadow:
            if beside:
                self.on_event("shadow", f"{beside.name} is compared with {self.tenant.bundle.card.id}")
            else:
                self._end_shadow()
            self.shadow = beside
            self._put(self.tenant)

    def _put(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.stages["smooth"].stage = tenant.smooth
        if self.shadow and self.shadow.first is not tenant.classify:
            self.shadow = None
        self.stages["classify"].stage = self.shadow or tenant.classify

    def begin(self) -> None:
        """The service has started with a bundle that may be on probation."""
        self._try(self.tenant)

    def _try(self, tenant: Tenant) -> None:
        self._fault = ""
        if not self.store.state().on_probation:
            self.trial, self.before = None, None
            return
        now = self.steady()
        self.trial = Probation(self.settings, self._hour.tally(now), now)
        if self.before:
            self.stages["classify"].stage = _Guarded(tenant.classify, self.before.classify, self._failed)
        self.on_event("probation", f"{tenant.bundle.card.id} for {self.settings.probation:g} s")

    def _failed(self, problem: Exception) -> None:
        self._fault = f"it failed on a face: {type(problem).__name__}: {problem}"

    def _judge(self, trial: Probation) -> None:
        fault = self._fault or trial.fault()
        name = self.tenant.bundle.card.id
        if fault:
            self._start(lambda: self._back(fault), lambda tenant: self._gone_back(name, fault, tenant))
        elif trial.is_over:
            self._start(lambda: self.store.commit(trial.praise()), lambda _: self._kept(name, trial))

    def _back(self, fault: str) -> Tenant:
        self.store.rollback(fault)
        bundle = bundles.load(bundles.find())
        if self.before and bundle.card == self.before.bundle.card:
            return self.before
        return Tenant(bundle, *self.make(bundle))

    def _gone_back(self, name: str, fault: str, tenant: Tenant) -> None:
        self.trial, self.before = None, None
        self._put(tenant)
        _log.error("%s is rolled back: %s", name, fault)
        self.on_event("rolled back", f"{name}: {fault}; {tenant.bundle.card.id} runs again")

    def _kept(self, name: str, trial: Probation) -> None:
        self._hour.moved_in(trial.now, trial.seen)
        self.trial, self.before = None, None
        self._put(self.tenant)
        self.on_event("committed", f"{name}: {trial.praise()}")

    def _end_shadow(self) -> None:
        if self.shadow:
            self.on_event("shadow ended", shadow.as_text(self.shadow.report()).splitlines()[0])
        self.shadow = None
        self._put(self.tenant)

    def close(self) -> None:
        """Let what is being done come to its end."""
        self._worker.shutdown(wait=True)


class _Guarded:
    """A classify stage on probation: a frame on which it fails is given to the one before, and it is told of."""

    def __init__(
        self, stage: Callable[..., Any], before: Callable[..., Any], failed: Callable[[Exception], None]
    ) -> None:
        self.stage, self.before, self.failed = stage, before, failed

    def __call__(self, frame: Frame, faces: tuple[Face, ...]) -> Any:
        try:
            return self.stage(frame, faces)
        except Exception as problem:
            self.failed(problem)
            return self.before(frame, faces)
