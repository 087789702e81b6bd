"""Puts a chain together from settings, and runs it from start to summary."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from mien_edge.chain import detect, pipeline, smooth, sources, track
from mien_edge.chain.classify import Classify
from mien_edge.chain.devices import without_password
from mien_edge.events import EventKind, OnEvent
from mien_edge.model import bundle as bundles
from mien_edge.model.bundle import Bundle
from mien_edge.model.interpreter import Classifier
from mien_edge.service import preview, status_writer, throttle
from mien_edge.settings import Settings
from mien_edge.status.status_file import ModelStatus
from mien_edge.update.store import Store
from mien_edge.update.updater import LoadedModel, Updater
from mien_edge.values import Reading


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did. `skipped` counts unreadable photographs, or frames dropped for a newer one."""

    source: str
    model: str
    frames: int
    skipped: int
    readings: int
    faces: int
    seconds: float

    def __str__(self) -> str:
        rate = self.frames / self.seconds if self.seconds > 0 else 0.0
        return (
            f"{self.frames} frames in {self.seconds:.1f} s ({rate:.1f} fps), {self.skipped} skipped, "
            f"{self.readings} readings of {self.faces} faces, model {self.model}"
        )


def chain(settings: Settings, model: LoadedModel, still: bool) -> pipeline.Chain:
    """The stages around a model. `still` is for unrelated photographs."""
    find = detect.detector(settings.detect) if still else detect.steady(settings.detect)
    tracker = track.NoTracking() if still else track.Tracker(settings.track)
    return pipeline.Chain(find, tracker, model.classify, model.smooth)


def load_model(settings: Settings, bundle: Bundle) -> LoadedModel:
    """A bundle as a model that runs; it has to pass its golden vectors here.

    Raises BundleError if this device computes something else than the workstation did.
    """
    classifier = Classifier(bundle.model, settings.model.threads)
    bundles.replay(bundle, classifier)
    classify = Classify(bundle, classifier, settings.quality)
    return LoadedModel(bundle, classify, smooth.Smoother(settings.smooth, bundle.card.calibration.confidence_threshold))


class Counter:
    """A sink that counts readings and different faces."""

    def __init__(self) -> None:
        self.readings, self.faces = 0, 0

    def __call__(self, readings: tuple[Reading, ...]) -> None:
        """Count; numbers of faces only grow."""
        self.readings += len(readings)
        self.faces = max([self.faces, *(reading.track for reading in readings)])

    def close(self) -> None:
        """Nothing to close."""


class Events:
    """Tells every listener what happens to the run: a kind and a text, both for people."""

    def __init__(self) -> None:
        self._listeners: list[OnEvent] = []

    def add(self, listener: OnEvent) -> None:
        """Tell this one as well, from now on."""
        self._listeners.append(listener)

    @contextlib.contextmanager
    def telling(self, listener: OnEvent) -> Iterator[None]:
        """Tell this one as well, as long as the context lasts."""
        self.add(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def __call__(self, kind: EventKind, text: str) -> None:
        """Something happened."""
        for listener in self._listeners:
            listener(kind, text)


def run(
    settings: Settings,
    model: LoadedModel,
    source: sources.Source,
    stop: threading.Event,
    sinks: Sequence[pipeline.Sink],
    watchers: Sequence[pipeline.Watcher] = (),
    most: int | None = None,
    events: Events | None = None,
    status: Path | None = None,
    store: Store | None = None,
) -> Summary:
    """Run until the source ends, `stop` is set or `most` frames are done; SIGINT and SIGTERM set `stop`.

    Live sources are paced. `events` is told what happens; in the folder `status`, if any, stands how
    things are, and a socket that shows the picture. With a `store`, of which `model` is the current one, SIGHUP makes
    it look for another model there.
    """
    events = events or Events()
    counter, start = Counter(), time.monotonic()
    made, stages = pipeline.timed(chain(settings, model, source.still))
    governor = throttle.Governor(settings.throttle, settings.source.fps, events)
    paced = throttle.ThrottledSource(source, settings.throttle, governor) if source.live else None
    watching: list[Any] = [*watchers, _Limit(most, stop)]
    name = without_password(settings.source.uri)
    updater = _updater(settings, model, store, dict(stages), governor, paced, events) if store else None
    hang_up = updater.ask if updater else _nothing if status else None
    with contextlib.ExitStack() as closing, _Signals(stop, hang_up):
        if updater:
            closing.callback(updater.close)
            watching.append(updater)
        if status:
            fixed_model = partial(ModelStatus, model.name, str(model.bundle.folder))
            model_status = updater.state if updater else fixed_model
            throttle_status = paced.state if paced else None
            told = status_writer.StatusWriter(status, name, model_status, stages, throttle_status)
            closing.callback(told.close)
            closing.enter_context(events.telling(told.event))
            shown = preview.PreviewServer(status)
            closing.callback(shown.close)
            watching += [told, shown]
        events(EventKind.START, f"{name} with {model.name}")
        if updater:
            updater.begin()
        count = pipeline.run(paced or source, made, [counter, *sinks], watching, stop.is_set)
    seconds = time.monotonic() - start
    return Summary(name, model.name, count, source.skipped, counter.readings, counter.faces, seconds)


def _updater(
    settings: Settings,
    model: LoadedModel,
    store: Store,
    stages: dict[str, pipeline.Timed],
    governor: throttle.Governor,
    paced: throttle.ThrottledSource | None,
    events: Events,
) -> Updater:
    def rate() -> float:
        return 0.0 if paced and paced.idle else governor.fps

    return Updater(settings.update, store, model, partial(load_model, settings), stages, rate, events)


def _nothing() -> None:
    """A service whose model is fixed by its settings stays as it is."""


class _Limit:
    def __init__(self, most: int | None, stop: threading.Event) -> None:
        self.left, self.stop = most, stop

    def __call__(self, *_: object) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left <= 0:
                self.stop.set()


class _Signals:
    """While inside, SIGINT and SIGTERM set the event, and SIGHUP asks for another model where that can be; outside of
    the main thread signals are left alone.
    """

    def __init__(self, stop: threading.Event, ask: Callable[[], None] | None = None) -> None:
        self.stop, self.ask = stop, ask

    def __enter__(self) -> None:
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._old = {number: signal.signal(number, self._set) for number in (signal.SIGINT, signal.SIGTERM)}
            if self.ask:
                self._old[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._hang_up)

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        if self.ask:
            self.ask()

    def _set(self, number: int, frame: FrameType | None) -> None:
        self.stop.set()
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, self._old[each])  # so that a second one ends a program whose driver hangs

    def __exit__(self, *_: object) -> None:
        if self._main:
            for number, handler in self._old.items():
                signal.signal(number, handler)
