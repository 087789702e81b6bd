"""The running service takes new models between two frames, tries them, keeps or rolls back.

What may take long, such as reading a bundle or syncing a disk, is done by a thread beside the
frames; its result is applied between two frames.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from mien_edge.chain.pipeline import Timed
from mien_edge.errors import BundleError, ContractError, MienError
from mien_edge.events import EventKind, OnEvent
from mien_edge.labels import change_as_text
from mien_edge.model.bundle import Bundle, find_bundle, load_bundle, shipped_bundle
from mien_edge.settings import UpdateSettings
from mien_edge.status.status_file import ModelStatus, ProbationStatus, UpdateStatus
from mien_edge.update.compare import ModelComparison, Stage, as_sentence
from mien_edge.update.probation import LastHour, Probation
from mien_edge.update.record import ProbationProgress, StoreState
from mien_edge.update.store import Store
from mien_edge.values import Face, Frame, Reading

_MAX_GAP = 2.0  # seconds; a longer time without a frame is the camera's fault and does not count
_MIN_FPS = 0.1  # frames per second, to tell how long a single frame may have taken
_RETRY_DELAY = 30.0  # seconds after a store that could not be changed
_RELOAD_INTERVAL = 0.5  # seconds between two looks at the store
_NEVER = float("-inf")

_log = logging.getLogger("mien.update")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that runs: its bundle, and the two stages that depend on it."""

    bundle: Bundle
    classify: Stage
    smooth: Callable[[tuple[Reading, ...]], tuple[Reading, ...]]

    @property
    def name(self) -> str:
        """NAME-VERSION."""
        return self.bundle.card.id

    @property
    def labels(self) -> tuple[str, ...]:
        """What it tells apart."""
        return self.bundle.card.labels

    def status(self, update: UpdateStatus | None = None) -> ModelStatus:
        """What the status file says of it.

        update: what is tried; None where the settings fix the model.
        """
        card = self.bundle.card
        folder = str(self.bundle.folder)
        return ModelStatus(self.name, folder, update, card.labels, card.unreliable_labels)


class FirstFace:
    """A classify stage of a model: if it ends the process at its first face, that counts.

    stage: the model's own stage.
    before: called before its first face.
    after: called after it; None for nothing.
    """

    def __init__(
        self,
        stage: Stage,
        before: Callable[[], None],
        after: Callable[[], None] | None = None,
    ) -> None:
        self._stage = stage
        self._before = before
        self._after = after
        self._has_read_face = False

    def __call__(self, frame: Frame, faces: tuple[Face, ...]) -> tuple[Reading, ...]:
        """Return one reading for each face."""
        if self._has_read_face or not faces:
            return self._stage(frame, faces)
        _count_attempt(self._before)
        readings = self._stage(frame, faces)
        self._has_read_face = True
        if self._after is not None:
            _count_attempt(self._after)
        return readings


def _change_as_text(before: LoadedModel, now: LoadedModel) -> str:
    labels = change_as_text(before.labels, now.labels)
    suffix = f"; its labels: {labels}" if labels else ""
    return f"{before.name} before, {now.name} now{suffix}"


def _count_attempt(count: Callable[[], None]) -> None:
    """Begin or end an attempt. A disk that fails is no reason not to run."""
    try:
        count()
    except BundleError as error:
        _log.warning("%s", error)


def load_startup_model(
    store: Store,
    load_model: Callable[[Bundle], LoadedModel],
    bundle: Bundle | None = None,
    progress: ProbationProgress | None = None,
) -> LoadedModel:
    """Return the model that a service starts with: the current one of `store`, loaded.

    A bundle that does not compute here what it did on the workstation, perhaps because another
    interpreter was installed, is rolled back; in the end, or where the store cannot be changed, the
    bundle that came with mien runs.

    load_model: called with a verified bundle; raises a MienError if it must not run here.
    bundle: the current one, if it is verified already.
    progress: how far its probation is, if that goes on. Once the bundle is loaded, an end of the
        process before its first face does not undo it.

    Raises that MienError if not even the bundle that came with mien can run.
    """
    while True:
        state = store.state()
        current = state.current
        try:
            if not current:
                return load_model(bundle or load_bundle(find_bundle()))
            if state.on_probation:
                model = load_model(bundle or load_bundle(find_bundle()))
                return _suspended_until_face(store, model, progress)
            return _load_counted(store, bundle or load_bundle(find_bundle()), load_model)
        except (BundleError, ContractError) as error:
            if not current:
                raise
            _log.error("%s", error)
            bundle = None
            try:
                store.roll_back(current, str(error))
            except BundleError as problem:
                _log.error("%s; the bundle that came with mien runs", problem)
                return load_model(load_bundle(shipped_bundle()))


def _suspended_until_face(
    store: Store,
    model: LoadedModel,
    progress: ProbationProgress | None,
) -> LoadedModel:
    """Let the probation go on if this process ends before the model has read a face."""
    if progress is None:
        return model
    _count_attempt(partial(store.suspend_probation, progress))
    return replace(model, classify=FirstFace(model.classify, store.resume_probation))


def _load_counted(
    store: Store,
    bundle: Bundle,
    load_model: Callable[[Bundle], LoadedModel],
) -> LoadedModel:
    """Load a bundle, so that it counts if it ends this process meanwhile or at its first face.

    A process that is stopped in order meanwhile does not count.
    """
    name = bundle.card.id
    begin_attempt = partial(store.begin_attempt, name)
    end_load = partial(store.end_attempt, name, has_read_face=False)
    end_first_face = partial(store.end_attempt, name, has_read_face=True)
    _count_attempt(begin_attempt)
    try:
        model = load_model(bundle)
    except (MienError, SystemExit, KeyboardInterrupt):
        _count_attempt(end_load)
        raise
    _count_attempt(end_load)
    return replace(model, classify=FirstFace(model.classify, begin_attempt, end_first_face))


# --- the phases: what runs now, and why. Each is a value; the updater replaces it as a whole ------


@dataclass(frozen=True, slots=True)
class Serving:
    """A committed model runs, and another one may be compared with it.

    shadow: that comparison; its `first` is the model that runs.
    """

    model: LoadedModel
    shadow: ModelComparison | None = None
    probation: ClassVar[None] = None

    @property
    def models(self) -> tuple[LoadedModel, ...]:
        """The models that are in memory and can run on."""
        return (self.model,)

    @property
    def stages(self) -> dict[str, Any]:
        """What the chain's stages call, by name."""
        return {"classify": self.shadow or self.model.classify, "smooth": self.model.smooth}


@dataclass(frozen=True, slots=True)
class _Trial:
    """A new model, and the committed one on the same faces.

    model: the new one.
    previous: the committed model.
    probation: the measurements.
    """

    model: LoadedModel
    previous: LoadedModel
    probation: Probation
    shadow: ClassVar[None] = None

    @property
    def models(self) -> tuple[LoadedModel, ...]:
        """The models that are in memory and can run on."""
        return (self.model, self.previous)


@dataclass(frozen=True, slots=True)
class OnProbation(_Trial):
    """A new model runs and is measured."""

    @property
    def stages(self) -> dict[str, Any]:
        """What the chain's stages call, by name."""
        return {"classify": self.probation.comparison, "smooth": self.model.smooth}


@dataclass(frozen=True, slots=True)
class RollingBack(_Trial):
    """A new model has failed: the previous one runs already, and the store has to follow.

    reason: why, in a sentence for people.
    """

    reason: str

    @property
    def stages(self) -> dict[str, Any]:
        """What the chain's stages call, by name."""
        return {"classify": self.previous.classify, "smooth": self.previous.smooth}


Phase = Serving | OnProbation | RollingBack


@dataclass(frozen=True, slots=True)
class ModelChange:
    """What the store says should run.

    model: the current model.
    previous: the committed one, if `model` is on probation.
    shadow: the comparison to run, if `model` is not on probation.
    problem: why a requested bundle was refused; '' if none was.
    """

    model: LoadedModel
    previous: LoadedModel | None
    shadow: ModelComparison | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Task(Generic[T]):
    """Work of the thread, and what is called with its result between two frames."""

    future: "Future[T]"
    on_done: Callable[[T], None]


class Updater:
    """A watcher that swaps the model between two frames, and commits it or rolls it back.

    settings: when a model is committed, and when it is rolled back.
    store: the installed bundles.
    model: the one that runs now.
    load_model: called with a verified bundle; raises a MienError if it must not run here.
    stages: the chain's timed stages by name; their callables are replaced.
    target_fps: the frames per second that are expected now; 0 while the chain idles.
    on_event: called between two frames with what happens.
    clock: seconds of a monotonic clock.
    progress: how far the probation of `model` was when the service ended; None if it is new.
    minutes_only: whether no labels of faces may be kept: after a restart a probation counts its
        faces anew.

    phase: what runs now, and why.
    """

    def __init__(
        self,
        settings: UpdateSettings,
        store: Store,
        model: LoadedModel,
        load_model: Callable[[Bundle], LoadedModel],
        stages: dict[str, Timed],
        target_fps: Callable[[], float],
        on_event: OnEvent,
        clock: Callable[[], float] = time.monotonic,
        progress: ProbationProgress | None = None,
        minutes_only: bool = False,
    ) -> None:
        self.settings = settings
        self.store = store
        self._minutes_only = minutes_only
        self._progress = progress
        self.load_model = load_model
        self.stages = stages
        self.target_fps = target_fps
        self.on_event = on_event
        self.clock = clock
        self.phase: Phase = Serving(model)
        self._last_hour = LastHour()
        self._last_frame_at = clock()
        self._retry_at = _NEVER
        self._next_reload_at = _NEVER
        self._reload_requested = threading.Event()
        self._has_failed_reload = False
        self._task: _Task[Any] | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="mien-update")

    def request_reload(self) -> None:
        """Look at the store before the next frame, also after a failure; safe in a signal handler.

        A service calls it once when it starts, because its model may be on probation or have a
        shadow.
        """
        self._retry_at = _NEVER
        self._reload_requested.set()

    def state(self) -> ModelStatus:
        """Return the model that runs, its probation, and how its shadow compares."""
        model = self.phase.model
        shadow = self.phase.shadow
        update = UpdateStatus(
            probation=self._probation_status(),
            shadow=None if shadow is None else shadow.report(),
        )
        return model.status(update)

    def _probation_status(self) -> ProbationStatus | None:
        probation = self.phase.probation
        if probation is None:
            return None
        return ProbationStatus(
            seconds=round(probation.seconds, 1),
            of_seconds=self.settings.probation,
            faces=probation.comparison.faces,
            of_faces=self.settings.min_faces,
        )

    def __call__(self, frame: Frame, readings: tuple[Reading, ...]) -> None:
        """Count a frame that has gone through the chain, and change the model if it is time to."""
        now = self.clock()
        self._count_frame(now)
        if self._task is not None:
            if self._task.future.done():
                self._finish(self._task)
        else:
            self._start_next_task(now)

    def close(self) -> None:
        """Wait for the thread to end what it does."""
        self._worker.shutdown(wait=True)

    def suspend(self) -> None:
        """Close it, and let the next start of the service go on with a probation.

        For a service that ends in order. Raises BundleError if that cannot be written down.
        """
        self.close()
        phase = self.phase
        if isinstance(phase, OnProbation) and not phase.probation.failure_reason():
            self._suspend_probation(phase.probation.progress(phase.model.name))
        elif self._progress is not None:
            self._suspend_probation(self._progress)
        elif isinstance(phase, Serving):
            self._suspend_promoted(phase.model.name)

    def _suspend_probation(self, progress: ProbationProgress) -> None:
        if self._minutes_only:
            progress = replace(progress, labels={})
        self.store.suspend_probation(progress)

    def _suspend_promoted(self, running: str) -> None:
        """Excuse a bundle that was promoted, but has not come to run."""
        current = self.store.state().current
        if current != running:
            self.store.suspend_probation(ProbationProgress(current, 0.0))

    def _count_frame(self, now: float) -> None:
        gap = now - self._last_frame_at
        self._last_frame_at = now
        fps = self.target_fps()
        probation = self.phase.probation
        if probation is not None and gap >= _MAX_GAP:
            # A slow device's frame, or the first one after a pause of the camera.
            probation.add(1 / max(fps, _MIN_FPS), 0.0)
        elif probation is not None:
            probation.add(gap, gap * fps)
        elif gap < _MAX_GAP:
            self._last_hour.add(now, gap * fps)

    # --- tasks: started and finished between two frames, done by the thread -----------------------

    def _start_next_task(self, now: float) -> None:
        """A request is served at once, unless requests come without end: a probation goes on
        between them. After a failure all else waits, a failed reload longest.
        """
        if self._reload_requested.is_set() and now >= self._next_reload_at:
            self._reload_requested.clear()
            self._next_reload_at = now + _RELOAD_INTERVAL
            self._start_reload()
        elif now >= self._retry_at:
            self._start_task_of_phase()
            if self._task is None and self._has_failed_reload:
                self._start_reload()

    def _start_task_of_phase(self) -> None:
        phase = self.phase
        if isinstance(phase, OnProbation):
            self._check_probation(phase)
        elif isinstance(phase, RollingBack):
            self._start_roll_back(phase)
        elif phase.shadow is not None and self._is_over(phase.shadow):
            self._start(self.store.stop_shadow, self._on_shadow_stopped)

    def _start_reload(self) -> None:
        self._has_failed_reload = False
        self._start(self._reload, self._apply_change)

    def _start(self, work: Callable[[], T], on_done: Callable[[T], None]) -> None:
        self._task = _Task(self._worker.submit(work), on_done)

    def _finish(self, task: _Task[Any]) -> None:
        self._task = None
        try:
            result = task.future.result()
        except (MienError, OSError) as error:
            self._on_failed(error)
        else:
            self._retry_at = _NEVER
            task.on_done(result)

    def _on_failed(self, error: Exception) -> None:
        """The task is tried again later; only its first failure is an event."""
        if self._retry_at == _NEVER:
            _log.error("%s", error)
            self.on_event(EventKind.UPDATE_FAILED, f"{error}; it is tried again")
        self._retry_at = self.clock() + _RETRY_DELAY

    def _enter(self, phase: Phase) -> None:
        """Let the chain run what `phase` says, from the next frame on."""
        self.phase = phase
        for name, stage in phase.stages.items():
            self.stages[name].stage = stage

    # --- what the store says should run -----------------------------------------------------------

    def _reload(self) -> ModelChange:
        try:
            return self._resolve_target()
        except (MienError, OSError):
            self._has_failed_reload = True
            raise

    def _resolve_target(self) -> ModelChange:
        """Promote what is requested, and load what should run and its shadow; in the thread."""
        promoted = self.store.promote()
        problem = ""
        try:
            model = self._current_model() if promoted is None else self._load(promoted)
        except MienError as error:
            problem = str(error)
            self.store.roll_back(self.store.state().current, problem)
            model = self._current_model()
        state = self.store.state()
        previous = self._committed_model(state) if state.on_probation else None
        shadow = self._shadow_of(model, state) if previous is None else None
        return ModelChange(model, previous, shadow, problem)

    def _current_model(self) -> LoadedModel:
        return self._load(load_bundle(find_bundle()))

    def _load(self, bundle: Bundle) -> LoadedModel:
        """The bundle as a model; one that runs already stays as it is."""
        for model in self.phase.models:
            if model.bundle == bundle:
                return model
        return self.load_model(bundle)

    def _committed_model(self, state: StoreState) -> LoadedModel | None:
        """The newest committed model; None if it cannot run, so that nothing can be compared."""
        try:
            return self._load(load_bundle(self._committed_folder(state)))
        except MienError as error:
            _log.warning("nothing to compare with: %s", error)
            return None

    def _committed_folder(self, state: StoreState) -> Path:
        if state.record.committed:
            return self.store.folder / state.record.committed[0]
        return shipped_bundle()

    def _shadow_of(self, model: LoadedModel, state: StoreState) -> ModelComparison | None:
        """The comparison that is requested; one that runs already goes on."""
        name = state.shadow
        if not name or name == model.name:
            return None
        running = self.phase.shadow
        if running is not None and running.name == name and running.first.stage is model.classify:
            return running
        try:
            bundle = load_bundle(self.store.folder / name)
            shadow = _load_counted(self.store, bundle, self.load_model)
        except MienError as error:
            _log.warning("the shadow %s cannot run: %s", name, error)
            return None
        labels = (model.labels, shadow.labels)
        return ModelComparison(model.classify, shadow.classify, name, self.clock, labels)

    def _apply_change(self, change: ModelChange) -> None:
        """Let the chain run what the store says, and tell what is new; between two frames."""
        before = self.phase
        phase = self._phase_after(change)
        name = change.model.name
        if change.problem:
            self.on_event(EventKind.MODEL_REFUSED, f"{change.problem}; {name} runs on")
        if change.model is not before.model:
            self.on_event(EventKind.MODEL_CHANGED, _change_as_text(before.model, change.model))
        if before.shadow is not None and before.shadow is not phase.shadow:
            self._report_shadow(before.shadow)
        if isinstance(phase, OnProbation) and phase is not before:
            self.on_event(EventKind.PROBATION, self._probation_text(phase))
        self._enter(phase)
        if phase.shadow is not None and phase.shadow is not before.shadow:
            self.on_event(EventKind.SHADOW, f"{phase.shadow.name} is compared with {name}")

    def _phase_after(self, change: ModelChange) -> Phase:
        phase = self.phase
        if change.previous is None:
            return Serving(change.model, change.shadow)
        if phase.probation is not None and phase.model is change.model:
            return phase
        comparison = ModelComparison(
            change.model.classify,
            change.previous.classify,
            change.previous.name,
            self.clock,
            (change.model.labels, change.previous.labels),
        )
        baseline = self._last_hour.frame_rate(self.clock())
        progress = self._progress
        self._progress = None
        if progress is not None and progress.name != change.model.name:
            progress = None
        probation = Probation(self.settings, comparison, baseline, progress)
        return OnProbation(change.model, change.previous, probation)

    def _probation_text(self, phase: OnProbation) -> str:
        name = phase.model.name
        faces = phase.probation.comparison.faces
        needed = f"{self.settings.min_faces} readings of faces"
        if phase.probation.seconds:
            return f"{name} goes on after a restart, {faces} of {needed} until now"
        return f"{name} for {self.settings.probation:g} s and {needed}"

    # --- probation --------------------------------------------------------------------------------

    def _check_probation(self, phase: OnProbation) -> None:
        reason = phase.probation.failure_reason()
        if reason:
            failed = RollingBack(phase.model, phase.previous, phase.probation, reason)
            self._enter(failed)
            self._start_roll_back(failed)
        elif phase.probation.is_over:
            summary = phase.probation.summary()
            commit = partial(self.store.commit, phase.model.name, summary)
            self._start(commit, partial(self._on_committed, phase.model, summary))

    def _on_committed(self, model: LoadedModel, summary: str, _: None) -> None:
        self._enter(Serving(model))
        self.on_event(EventKind.COMMITTED, f"{model.name}: {summary}")
        self.request_reload()  # a shadow may have waited

    def _start_roll_back(self, phase: RollingBack) -> None:
        self._start(partial(self._roll_back, phase), partial(self._on_rolled_back, phase))

    def _roll_back(self, phase: RollingBack) -> LoadedModel:
        self.store.roll_back(phase.model.name, phase.reason)
        return self._current_model()

    def _on_rolled_back(self, phase: RollingBack, model: LoadedModel) -> None:
        self._enter(Serving(model))
        _log.error("%s is rolled back: %s", phase.model.name, phase.reason)
        name = phase.model.name
        labels = change_as_text(phase.model.labels, model.labels)
        suffix = f"; its labels: {labels}" if labels else ""
        text = f"{name}: {phase.reason}; {model.name} runs again{suffix}"
        self.on_event(EventKind.ROLLED_BACK, text)

    # --- shadow -----------------------------------------------------------------------------------

    def _is_over(self, shadow: ModelComparison) -> bool:
        return bool(shadow.second.problem) or shadow.seconds >= self.settings.shadow

    def _on_shadow_stopped(self, _: None) -> None:
        if self.phase.shadow is not None:
            self._report_shadow(self.phase.shadow)
        self._enter(Serving(self.phase.model))

    def _report_shadow(self, shadow: ModelComparison) -> None:
        self.on_event(EventKind.SHADOW_ENDED, as_sentence(shadow.report()))
