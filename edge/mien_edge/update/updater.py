"""The running service's side of new models: taken between two frames, tried, and kept or given back.

All that may take long, such as reading a bundle or syncing a disk, is done by a thread beside the frames; what it finds
is put into the chain, and told, between two frames.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from mien_edge.chain.pipeline import Timed
from mien_edge.errors import MienError
from mien_edge.events import EventKind, OnEvent
from mien_edge.model import bundle as bundles
from mien_edge.model.bundle import Bundle
from mien_edge.settings import UpdateSettings
from mien_edge.status.status_file import ModelStatus, ProbationStatus, UpdateStatus
from mien_edge.update import compare
from mien_edge.update.probation import LastHour, Probation
from mien_edge.update.store import Store
from mien_edge.values import Frame, Reading

_GAP = 2.0  # seconds without a frame that are the camera's affair, not the model's
_REST = 30.0  # seconds before the store is tried again that could not be changed

_log = logging.getLogger("mien.update")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that runs: its bundle, and the two stages that depend on it."""

    bundle: Bundle
    classify: Callable[..., Any]
    smooth: Callable[..., Any]

    @property
    def name(self) -> str:
        """NAME-VERSION."""
        return self.bundle.card.id


def load_startup_model(store: Store, make: Callable[[Bundle], LoadedModel]) -> LoadedModel:
    """What a service starts with. A bundle of the store's that does not compute here what it did at home, perhaps
    because another interpreter was installed, gives way to the one before, and in the end to the one that came with
    mien. Raises BundleError where not even that can be had.
    """
    while True:
        current = store.state().current
        try:
            return make(bundles.load(bundles.find()))
        except MienError as problem:
            if not current:
                raise
            _log.error("%s", problem)
            store.give_back(current, str(problem))


@dataclass(frozen=True, slots=True)
class _Change:
    """What the thread found: which model is current, the committed one if the former is on probation, and a shadow."""

    tenant: LoadedModel
    before: LoadedModel | None
    shadow: compare.ModelComparison | None
    problem: str = ""


class Updater:
    """A watcher that swaps the model between two frames when `ask` was called, and judges it.

    tenant: the one that runs. make: a bundle as a tenant. stages: the chain's timed stages, whose callables are
    replaced. rate: the frames per second aimed at now, 0 while the chain rests.
    """

    def __init__(
        self,
        settings: UpdateSettings,
        store: Store,
        tenant: LoadedModel,
        make: Callable[[Bundle], LoadedModel],
        stages: dict[str, Timed],
        rate: Callable[[], float],
        on_event: OnEvent,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings, self.store, self.make, self.stages = settings, store, make, stages
        self.rate, self.on_event, self.steady = rate, on_event, steady
        self.tenant = tenant
        self.before: LoadedModel | None = None
        self.trial: Probation | None = None
        self.shadow: compare.ModelComparison | None = None
        self._hour = LastHour()
        self._then = steady()
        self._rests_until = float("-inf")
        self._asked = threading.Event()
        self._work: Future[Any] | None = None
        self._then_do: Callable[[Any], None] = lambda _: None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="mien-update")

    def ask(self) -> None:
        """Look at the store before the next frame; safe in a signal handler."""
        self._asked.set()

    def state(self) -> ModelStatus:
        """For the status: which model runs, on probation or not, and how its shadow compares."""
        trial = self.trial
        probation = None
        if trial:
            probation = ProbationStatus(
                seconds=round(trial.seconds, 1),
                of_seconds=self.settings.probation,
                faces=trial.seen.faces,
                of_faces=self.settings.min_faces,
            )
        shadow = self.shadow.report() if self.shadow else None
        folder = str(self.tenant.bundle.folder)
        return ModelStatus(self.tenant.name, folder, UpdateStatus(probation, shadow))

    def __call__(self, frame: Frame, readings: tuple[Reading, ...]) -> None:
        """A frame has gone through the chain: judge, and change what has to be changed before the next."""
        now = self.steady()
        gap, self._then = now - self._then, now
        if gap < _GAP:
            due = gap * self.rate()
            if self.trial:
                self.trial.add(gap, due)
            else:
                self._hour.add(now, due)
        elif self.trial:
            self.trial.add(1 / max(self.rate(), 0.1), 0.0)  # a slow device's frame, or the first after a pause
        if self._work:
            if self._work.done():
                self._finish()
        elif self._asked.is_set():
            self._asked.clear()
            self._start(self._look, self._found)
        elif now < self._rests_until:
            pass
        elif self.trial:
            self._judge(self.trial)
        elif self.shadow and (self.shadow.second.problem or self.shadow.seconds >= self.settings.shadow):
            self._start(lambda: self.store.shadow(""), lambda _: self._end_shadow())

    # --- beside the frames ---------------------------------------------------------------------------------

    def _start(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        self._work, self._then_do = self._worker.submit(work), then

    def _finish(self) -> None:
        work, self._work = self._work, None
        assert work is not None  # noqa: S101 - asked before
        try:
            found = work.result()
        except (MienError, OSError) as problem:
            if self._rests_until == float("-inf"):
                _log.error("%s", problem)
                self.on_event(EventKind.UPDATE_FAILED, f"{problem}; it is tried again")
            self._rests_until = self.steady() + _REST
        else:
            self._rests_until = float("-inf")
            self._then_do(found)

    def _look(self) -> _Change:
        """What should run now, and beside it."""
        self.store.begin()
        problem = ""
        try:
            tenant = self._current()
        except MienError as refusal:
            problem = str(refusal)
            self.store.give_back(self.store.state().current, problem)
            tenant = self._current()
        before = self._committed() if self.store.state().on_probation else None
        return _Change(tenant, before, None if before else self._beside(tenant), problem)

    def _current(self) -> LoadedModel:
        return self._tenant(bundles.load(bundles.find()))

    def _tenant(self, bundle: Bundle) -> LoadedModel:
        """The bundle as a tenant; the one that runs stays as it is."""
        for known in (self.tenant, self.before):
            if known and known.bundle == bundle:
                return known
        return self.make(bundle)

    def _committed(self) -> LoadedModel | None:
        """The model that was good, whatever runs now."""
        committed = self.store.state().record.committed
        try:
            return self._tenant(bundles.load(self.store.folder / committed[0] if committed else bundles.shipped()))
        except MienError as problem:
            _log.warning("nothing to compare with: %s", problem)
            return None

    def _beside(self, tenant: LoadedModel) -> compare.ModelComparison | None:
        name = self.store.state().shadow
        if not name or name == tenant.name:
            return None
        if self.shadow and self.shadow.name == name and self.shadow.first.stage is tenant.classify:
            return self.shadow
        try:
            second = self.make(bundles.load(self.store.folder / name)).classify
        except MienError as problem:
            _log.warning("the shadow %s cannot run: %s", name, problem)
            return None
        return compare.ModelComparison(tenant.classify, second, name, self.steady)

    # --- between two frames --------------------------------------------------------------------------------

    def begin(self) -> None:
        """The service has started: its bundle may be on probation, or have a shadow."""
        self.ask()

    def _found(self, change: _Change) -> None:
        old, tenant = self.tenant, change.tenant
        if change.problem:
            self.on_event(EventKind.MODEL_REFUSED, f"{change.problem}; {tenant.name} runs on")
        if tenant is not old:
            self.on_event(EventKind.MODEL_CHANGED, f"{old.name} before, {tenant.name} now")
        is_new = change.before is not None and (tenant is not old or not self.trial)
        if self.shadow and change.shadow is not self.shadow:
            self._tell_shadow()
        self.shadow = change.shadow
        if is_new and change.before:
            self.before = change.before
            seen = compare.ModelComparison(tenant.classify, change.before.classify, change.before.name, self.steady)
            self.trial = Probation(self.settings, seen, self._hour.pace(self.steady()))
            self.on_event(EventKind.PROBATION, f"{tenant.name} for {self.settings.probation:g} s")
        elif change.before is None:
            self.trial = self.before = None
        self._put(tenant)
        if self.shadow and self.shadow.faces == 0 and self.shadow.seconds < 1:
            self.on_event(EventKind.SHADOW, f"{self.shadow.name} is compared with {tenant.name}")

    def _put(self, tenant: LoadedModel) -> None:
        """From the next frame on."""
        self.tenant = tenant
        self.stages["smooth"].stage = tenant.smooth
        self.stages["classify"].stage = self.trial.seen if self.trial else self.shadow or tenant.classify

    def _judge(self, trial: Probation) -> None:
        fault, tenant = trial.fault(), self.tenant
        if fault:
            if self.before:
                # The bad one goes now, whatever the disk says to it.
                self.stages["classify"].stage, self.stages["smooth"].stage = self.before.classify, self.before.smooth
            self._start(lambda: self._back(tenant.name, fault), lambda found: self._gone(tenant.name, fault, found))
        elif trial.is_over:
            self._start(lambda: self.store.commit(tenant.name, trial.praise()), lambda _: self._kept(trial))

    def _back(self, name: str, fault: str) -> LoadedModel:
        self.store.give_back(name, fault)
        return self._current()

    def _gone(self, name: str, fault: str, tenant: LoadedModel) -> None:
        self.trial = self.before = None
        self._put(tenant)
        _log.error("%s is rolled back: %s", name, fault)
        self.on_event(EventKind.ROLLED_BACK, f"{name}: {fault}; {tenant.name} runs again")

    def _kept(self, trial: Probation) -> None:
        self.trial = self.before = None
        self._put(self.tenant)
        self.on_event(EventKind.COMMITTED, f"{self.tenant.name}: {trial.praise()}")
        self.ask()  # a shadow may have waited

    def _tell_shadow(self) -> None:
        if self.shadow:
            self.on_event(EventKind.SHADOW_ENDED, compare.as_text(self.shadow.report()).splitlines()[0])

    def _end_shadow(self) -> None:
        self._tell_shadow()
        self.shadow = None
        self._put(self.tenant)

    def close(self) -> None:
        """Let what is being done come to its end."""
        self._worker.shutdown(wait=True)
