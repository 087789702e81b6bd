"""The chain as a service: put together from settings, run until it ends, closed in order."""

import logging
import operator
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import cv2

from mien_edge import paths
from mien_edge.addresses import mask_address, mask_text
from mien_edge.chain import pipeline, reach, smooth, sources, track
from mien_edge.chain.classify import Classify
from mien_edge.chain.follow import following_detector
from mien_edge.chain.score import Score, ScoreResult, read_labels
from mien_edge.chain.sinks import Console, StandardOutput
from mien_edge.chain.video import Video
from mien_edge.errors import MienError, SettingsError, SinkError
from mien_edge.events import EventKind, OnEvent
from mien_edge.export.exports import Export, open_export, open_timed
from mien_edge.export.lines import JSON_LINES, Csv, JsonLines, csv_format
from mien_edge.export.textfile import Existing, LineFormat, RotatingFile, Rotation
from mien_edge.formats import position_text
from mien_edge.model.bundle import Bundle, find_bundle, load_bundle, models_folder, replay_golden
from mien_edge.model.interpreter import Classifier
from mien_edge.progress import ProgressLines
from mien_edge.service import memory
from mien_edge.service.file_show import FileShow
from mien_edge.service.gpio import GpioSwitch
from mien_edge.service.preview import PreviewServer
from mien_edge.service.status_writer import StatusWriter
from mien_edge.service.throttle import Governor, ThrottledSource
from mien_edge.settings import MINUTES_ONLY, Settings
from mien_edge.status.systemd import Notifier
from mien_edge.text import encodable
from mien_edge.update.record import ProbationProgress
from mien_edge.update.signing import Trust
from mien_edge.update.store import Recovery, Store
from mien_edge.update.updater import LoadedModel, Updater, load_startup_model
from mien_edge.values import Frame, Reading

_STORE_TIMEOUT = 20.0  # seconds; the store's lock may be held by an installation

_log = logging.getLogger("mien.service")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What is decided for one run, beside the settings.

    console: what is printed of each reading: a line of text, a line of JSON, or nothing.
    log: the log to write; None for the settings' one.
    exports: files to write readings to, beside the rotated ones of the settings.
    existing: what is done with those of them that are there already.
    per_frame: subtitles and annotations last for one frame each, and not from change to change.
    annotate: a picture, video or folder to write with boxes and labels drawn; None for none.
    labels: a table of true labels, to score photographs; None for labels.csv in their folder.
    max_frames: the number of frames to end after, at least 1; None for no limit.
    sources: paths and globs to read, where there are several, in place of the settings' source.
    state_folder: the service's folder that outlives a restart; None outside of a service.
    runtime_folder: the folder for status and preview, a service's or a page's; None for neither.
    progress: say now and then how far a file is, on standard error.
    is_viewed: a page was opened for this run: a file is shown to whoever looks (FileShow).
    """

    console: Literal["text", "json", "none"] = "none"
    log: Path | None = None
    exports: Sequence[Export] = ()
    existing: Existing = Existing.REFUSE
    per_frame: bool = False
    annotate: Path | None = None
    labels: Path | None = None
    max_frames: int | None = None
    sources: Sequence[str] = ()
    state_folder: Path | None = None
    runtime_folder: Path | None = None
    progress: bool = False
    is_viewed: bool = False


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did.

    source: the source's URI without secrets (mask_address).
    model: NAME-VERSION of the model that the run started with.
    frames: frames that went through the chain.
    skipped: unreadable photographs, or frames that were dropped for a newer one.
    readings, faces: readings of all faces, and different faces.
    seconds: from the first stage's set-up to the end of the source.
    score: of labelled photographs (score.Score.result), else None.
    failed_reads: frames that a camera failed to deliver, or that could not be decoded; of a video
        file the places where it is damaged.
    """

    source: str
    model: str
    frames: int
    skipped: int
    readings: int
    faces: int
    seconds: float
    score: ScoreResult | None = None
    failed_reads: int = 0

    def __str__(self) -> str:
        rate = self.frames / self.seconds if self.seconds > 0 else 0.0
        failed_reads = f"{self.failed_reads} failed reads, " if self.failed_reads else ""
        return (
            f"{self.frames} frames in {self.seconds:.1f} s ({rate:.1f} fps), "
            f"{self.skipped} skipped, {failed_reads}"
            f"{self.readings} readings of {self.faces} faces, model {self.model}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the summary for JSON; without `score` where there is none."""
        values = asdict(self)
        if self.score is None:
            del values["score"]
        return values


class Events:
    """The listeners that are told what happens to a run."""

    def __init__(self) -> None:
        self._listeners: list[OnEvent] = []

    def add(self, listener: OnEvent) -> None:
        """Call `listener` with each event from now on."""
        self._listeners.append(listener)

    def remove(self, listener: OnEvent) -> None:
        """Call `listener` no more. Raises ValueError if it was not added."""
        self._listeners.remove(listener)

    def __call__(self, kind: EventKind, text: str) -> None:
        """Tell every listener of an event; `text` is a sentence for people.

        The secrets of an address in it are masked, and it is made fit for UTF-8.
        """
        for listener in self._listeners:
            listener(kind, encodable(mask_text(text)))


@dataclass(frozen=True, slots=True)
class Service:
    """One run, put together from settings and options; `run` runs it once.

    model: the model to start with.
    store: the installed bundles; with them the model changes while the service runs, at SIGHUP.
        None for a model that stays.
    recovery: events of the store's recovery, told once the log is open.
    progress: how far the probation of `model` was when the service ended; None for no such one.
    source: the frames; None to open the source that the settings name.
    sinks: further sinks, closed with those that settings and options name.
    events: told of everything that happens.
    stop: ends the run after the frame in which it is set.

    What is opened last is closed first:

    1. The log, so that 'failed' or 'stop' can be written after all else has ended.
    2. The notifier to systemd, the GPIO switch, the source, the sinks, the annotated picture.
    3. The handlers of signals.
    4. The updater, the status file, the preview: they exist only while frames pass.
    """

    settings: Settings
    model: LoadedModel
    options: RunOptions = RunOptions()
    store: Store | None = None
    recovery: Sequence[tuple[EventKind, str]] = ()
    progress: ProbationProgress | None = None
    source: sources.Source | None = None
    sinks: Sequence[pipeline.Sink] = ()
    events: Events = field(default_factory=Events)
    stop: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def from_settings(cls, settings: Settings, options: RunOptions) -> "Service":
        """Recover the store of installed bundles, and load the model to start with.

        Only a service, which has a state folder, has a store; where settings name a bundle, it
        has none.

        Raises BundleError or ContractError if no model can run here.
        """
        load = partial(load_model, settings)
        if settings.model.bundle or options.state_folder is None:
            model = load(load_bundle(find_bundle(settings.model.bundle)))
            return cls(settings, model, options)
        trust = Trust.from_settings(settings.update)
        store = Store(models_folder(), trust, lock_timeout=_STORE_TIMEOUT)
        recovery, problems = _recover(store)
        events = [(EventKind.ROLLED_BACK, text) for text in recovery.events]
        events += [(EventKind.UPDATE_FAILED, text) for text in problems]
        try:
            with _exit_on_sigterm():
                model = load_startup_model(store, load, recovery.bundle, recovery.probation)
        except (MienError, SystemExit):
            if recovery.probation is not None:
                _tell_problem(partial(store.suspend_probation, recovery.probation))
            raise
        return cls(settings, model, options, store, events, recovery.probation)

    def run(self) -> Summary:
        """Run until the source ends, `stop` is set, or SIGINT or SIGTERM arrives.

        Raises MienError, after the event 'failed'.
        """
        with ExitStack() as stack:
            log_sinks = self._open_log(stack)
            for kind, text in self.recovery:
                self.events(kind, text)
            try:
                summary = self._run_source(stack, log_sinks)
            except MienError as problem:
                self.events(EventKind.FAILED, str(problem))
                raise
            self.events(EventKind.STOP, str(summary))
        return summary

    def _open_log(self, stack: ExitStack) -> list[pipeline.Sink]:
        """Open the log, where there is one."""
        path = self._log_path()
        if path is None:
            return []
        from mien_edge.log.reader import refuse_single_readings  # load SQLite
        from mien_edge.log.writer import LogWriter

        min_group = self.settings.min_group
        if min_group and self.options.log:
            refuse_single_readings(path)
        writer = LogWriter(path, self.settings.log, is_own=self._has_own_log(), min_group=min_group)
        log = stack.enter_context(closing(writer))
        log.log_start(self.model.name)
        self.events.add(log.event)
        return [log]

    def _has_own_log(self) -> bool:
        """Whether nobody has chosen the log's place: what is no log there is in the way."""
        return not self.options.log and not self.settings.log.path

    def _log_path(self) -> Path | None:
        if self.options.log:
            return self.options.log
        if self.settings.log.path:
            return Path(self.settings.log.path)
        if self.options.state_folder:
            return self.options.state_folder / paths.LOG_NAME
        return None

    def _run_source(self, stack: ExitStack, log_sinks: list[pipeline.Sink]) -> Summary:
        """Open the source and all that its readings go to, and pass its frames."""
        notifier = Notifier()
        stack.callback(notifier.close)
        source = self.source
        if source is None:
            source = self._open_source(stack, notifier)
        counter = _Counter()
        score = self._score(source)
        sinks = [counter, *log_sinks]
        outputs = _Outputs(self._open_sinks(stack), self.model.name)
        watchers: list[pipeline.Watcher] = [outputs, notifier]
        watchers += self._open_annotator(stack, source)
        watchers += self._open_timed(stack, source)
        if self.options.progress and not source.live:
            lines = ProgressLines(f"mien-edge: {self._source_name()}", "pictures")
            watchers.append(_FileProgress(lines))
        if score:
            watchers.append(score)
        start = time.monotonic()
        frames = self._pass_frames(source, sinks, watchers)
        if score and score.advice():
            _log.warning("%s", score.advice())
        return Summary(
            source=self._source_name(),
            model=self.model.name,
            frames=frames,
            skipped=source.skipped,
            readings=counter.readings,
            faces=counter.faces,
            seconds=time.monotonic() - start,
            score=score.result() if score else None,
            failed_reads=getattr(source, "failed_reads", 0),
        )

    def _open_source(self, stack: ExitStack, notifier: Notifier) -> sources.Source:
        """Open the source that the settings name, and the GPIO switch that may pause its camera."""
        folder = self.options.state_folder
        switch = GpioSwitch(self.settings.gpio, notifier.ping_watchdog, folder)
        stack.callback(switch.close)
        settings = self.settings.source
        names = self.options.sources
        return sources.open_source(settings, self.stop, self.events, switch, names)

    def _score(self, source: sources.Source) -> Score | None:
        """Make the watcher that scores photographs, where true labels are known."""
        path = self.options.labels
        if path is None and len(source.paths) == 1:
            path = source.paths[0] / "labels.csv"
            if not path.is_file():
                return None
        labels = self.model.labels
        return Score(read_labels(path, labels), labels) if path else None

    def _open_sinks(self, stack: ExitStack) -> list[pipeline.Sink]:
        sinks = list(self.sinks)
        if self.settings.use.minutes_only:
            self._refuse_single_readings()
        elif self.options.console == "json":
            sinks.append(JsonLines(StandardOutput()))
        elif self.options.console == "text":
            sinks.append(Console())
        for sink in sinks:
            stack.callback(sink.close)
        tables = [export for export in self.options.exports if not export.is_timed]
        for export in tables:
            exporter = open_export(export, self.options.existing, self.model.labels)
            sinks.append(stack.enter_context(closing(exporter)))
        if self.settings.sinks.jsonl:
            file = self._open_rotating(self.settings.sinks.jsonl, JSON_LINES)
            sinks.append(stack.enter_context(closing(JsonLines(file))))
        if self.settings.sinks.csv:
            labels = self.model.labels
            file = self._open_rotating(self.settings.sinks.csv, csv_format(labels))
            sinks.append(stack.enter_context(closing(Csv(file, labels))))
        return sinks

    def _refuse_single_readings(self) -> None:
        """Raise SettingsError for an option that asks for what the purpose public forbids."""
        files = [export.path for export in self.options.exports]
        if self.options.annotate:
            files.append(self.options.annotate)
        for path in files:
            advice = "leave it out, or name other settings"
            raise SettingsError(f"{path}: {MINUTES_ONLY}; {advice}")

    def _open_rotating(self, path: str, line_format: LineFormat) -> RotatingFile:
        bounds = self.settings.sinks
        rotation = Rotation(round(bounds.max_megabytes * 1_000_000), bounds.max_files)
        return RotatingFile(Path(path), line_format, rotation, self.events)

    def _open_timed(self, stack: ExitStack, source: sources.Source) -> list[pipeline.Watcher]:
        """Open the exports that see when a frame was, and nothing else of it."""
        exporters: list[pipeline.Watcher] = []
        for export in self.options.exports:
            if not export.is_timed:
                continue
            if source.paths and not isinstance(source, Video):
                hint = "name one, or a table, such as a .csv file"
                raise SinkError(f"{export.path}: is of a single video or a camera; {hint}")
            media = source.paths[0] if source.paths else None
            exporter = open_timed(export, self.options.existing, media, self.options.per_frame)
            exporters.append(stack.enter_context(closing(exporter)))
        return exporters

    def _open_annotator(self, stack: ExitStack, source: sources.Source) -> list[pipeline.Watcher]:
        if self.options.annotate is None:
            return []
        from mien_edge.chain import annotate  # loads the charts' modules and the log's queries

        frame_rate = partial(_frame_rate, source, self.settings.source.fps)
        annotator = annotate.annotator(self.options.annotate, frame_rate, source.paths)
        stack.callback(annotator.close)
        return [annotator]

    def _pass_frames(
        self,
        source: sources.Source,
        sinks: Sequence[pipeline.Sink],
        watchers: Sequence[pipeline.Watcher],
    ) -> int:
        """Pass frames until the run ends; return their number.

        A live source is throttled. The updater, the status file and the preview watch the frames.
        """
        chain, stages = pipeline.timed(build_chain(self.settings, self.model))
        governor = Governor(self.settings.throttle, self.settings.source.fps, self.events)
        throttled = None
        if source.live:
            throttled = ThrottledSource(source, self.settings.throttle, governor)
        updater = self._updater(dict(stages), partial(_target_rate, governor, throttled))
        with _Signals(self.stop, self._on_reload(updater)), ExitStack() as stack:
            watchers = list(watchers)
            if updater:
                stack.callback(updater.close)
                watchers.append(updater)
            show = None
            if self.options.runtime_folder:
                status = self._open_status(stack, stages, throttled, updater)
                preview = self._open_preview(stack, self.options.runtime_folder)
                watchers.append(status)
                if preview and self.options.is_viewed and not source.live:
                    show = FileShow(preview, status.ended, self.stop)
                    watchers.append(show)
                elif preview:
                    watchers.append(preview)
            self.events(EventKind.START, f"{self._source_name()} with {self.model.name}")
            if updater:
                updater.request_reload()
            with _suspended(updater):
                frames = pipeline.run(
                    islice(throttled or source, self._max_frames()),
                    chain,
                    sinks,
                    watchers,
                    self.stop.is_set,
                )
                if show:
                    show.end()
                return frames

    def _updater(
        self,
        stages: dict[str, pipeline.Timed],
        target_rate: Callable[[], float],
    ) -> Updater | None:
        if self.store is None:
            return None
        return Updater(
            self.settings.update,
            self.store,
            self.model,
            partial(load_model, self.settings),
            stages,
            target_rate,
            self.events,
            progress=self.progress,
            minutes_only=self.settings.use.minutes_only,
        )

    def _on_reload(self, updater: Updater | None) -> Callable[[], None] | None:
        """Return what SIGHUP does; None leaves the signal alone."""
        if updater:
            return updater.request_reload
        if self.options.runtime_folder and not self.options.is_viewed:
            return _keep_model
        return None

    def _open_status(
        self,
        stack: ExitStack,
        stages: Sequence[tuple[str, pipeline.Timed]],
        throttled: ThrottledSource | None,
        updater: Updater | None,
    ) -> StatusWriter:
        assert self.options.runtime_folder  # noqa: S101 - its caller has asked
        status = StatusWriter(
            self.options.runtime_folder,
            self._source_name(),
            updater.state if updater else self.model.status,
            stages,
            throttled.state if throttled else None,
            minutes_only=self.settings.use.minutes_only,
        )
        stack.callback(status.close)
        self.events.add(status.event)
        stack.callback(self.events.remove, status.event)
        return status

    def _open_preview(self, stack: ExitStack, runtime_folder: Path) -> PreviewServer | None:
        """Open the socket that shows the picture; where pictures are forbidden there is none."""
        if not self.settings.view.show_picture:
            return None
        path = paths.preview(runtime_folder)
        try:
            preview = PreviewServer(path)
        except OSError as problem:
            fix = "to have one: sudo systemd-tmpfiles --create mien.conf, then restart the service"
            _log.warning("no live picture, %s: %s; %s", path, problem.strerror or problem, fix)
            return None
        stack.callback(preview.close)
        return preview

    def _source_name(self) -> str:
        names = self.options.sources or [self.settings.source.uri]
        return encodable(" ".join(mask_address(name) for name in names))

    def _max_frames(self) -> int | None:
        if self.options.max_frames is None:
            return None
        return min(max(self.options.max_frames, 1), sys.maxsize)


def build_chain(settings: Settings, model: LoadedModel) -> pipeline.Chain:
    """Put the stages together around a model.

    OpenCV then uses as many threads as the settings say, in the whole process: it would take every
    core; and malloc keeps what frames have freed.
    """
    memory.keep_freed_memory()
    cv2.setNumThreads(settings.detect.threads)
    detector_settings = replace(settings.detect, size=reach.detector_size(settings))
    detector = following_detector(detector_settings)
    return pipeline.Chain(detector, track.Tracker(settings.track), model.classify, model.smooth)


def load_model(settings: Settings, bundle: Bundle) -> LoadedModel:
    """Load a bundle's network and replay its golden vectors.

    Raises BundleError if this device computes something else than the workstation did.
    """
    classifier = Classifier(bundle.model, settings.model.threads)
    replay_golden(bundle, classifier)
    classify = Classify(bundle, classifier, settings.quality)
    threshold = bundle.card.calibration.confidence_threshold
    return LoadedModel(bundle, classify, smooth.Smoother(settings.smooth, threshold))


def _recover(store: Store) -> tuple[Recovery, list[str]]:
    """Put right what a crash or a power cut left in the store, and take what is requested.

    Returns what was done, and the problems of a store that cannot be changed.
    """
    recovery = Recovery()
    try:
        recovery = store.recover()
        promoted = store.promote()
    except MienError as problem:
        _log.error("%s", problem)
        return recovery, [str(problem)]
    if promoted is not None:
        progress = ProbationProgress(promoted.card.id, 0.0)
        return Recovery(recovery.events, promoted, progress), []
    return recovery, []


@contextmanager
def _suspended(updater: Updater | None) -> Iterator[None]:
    """Let a probation go on after a restart, if this run ends in order or by its camera or disk.

    A crash undoes it.
    """
    try:
        yield
    except MienError:
        if updater:
            _tell_problem(updater.suspend)
        raise
    if updater:
        _tell_problem(updater.suspend)


def _tell_problem(action: Callable[[], None]) -> None:
    """Do something at the end of a run; what fails then is told and changes nothing."""
    try:
        action()
    except MienError as problem:
        _log.warning("%s", problem)


def _target_rate(governor: Governor, throttled: ThrottledSource | None) -> float:
    """Return the frames per second that the chain should reach now; 0 while it idles."""
    if throttled and throttled.idle:
        return 0.0
    return governor.fps


def _frame_rate(source: sources.Source, rate: float) -> float:
    """Return the frames per second of the video that is being read; `rate` where there is none."""
    return getattr(source, "fps", 0.0) or rate


def _keep_model() -> None:
    """Do nothing: this service's model is fixed by its settings, and SIGHUP must not end it."""


class _Counter:
    """A sink that counts readings and different faces; a face's number only grows."""

    def __init__(self) -> None:
        self.readings = 0
        self.faces = 0

    def __call__(self, readings: tuple[Reading, ...]) -> None:
        self.readings += len(readings)
        self.faces = max([self.faces, *(reading.track for reading in readings)])

    def close(self) -> None:
        """Do nothing."""


class _FileProgress:
    """A watcher that says now and then how far a file or a folder is."""

    def __init__(self, lines: ProgressLines) -> None:
        self._lines = lines

    def __call__(self, frame: Frame, readings: tuple[Reading, ...]) -> None:
        position = frame.position
        self._lines.update(note="" if position is None else f"at {position_text(position)}")


class _Outputs:
    """A watcher that passes readings on to what people read: console, JSON lines, tables.

    They get a line for a photograph in which there is no face as well (values.Reading.no_face).
    """

    def __init__(self, sinks: Sequence[pipeline.Sink], model: str) -> None:
        self._sinks = sinks
        self._model = model

    def __call__(self, frame: Frame, readings: tuple[Reading, ...]) -> None:
        is_photograph = bool(frame.name) and frame.position is None
        if is_photograph and not readings:
            readings = (Reading.no_face(frame, self._model),)
        for sink in self._sinks:
            sink(readings)


def ignore_hangup() -> None:
    """Let SIGHUP, SIGUSR1 and SIGUSR2 not end this process, not even while it starts or ends.

    For a service, which is the whole process; `Service.run` answers SIGHUP while frames pass.
    """
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end this program in order, so that it is not taken for a crash of the model.

    A model that hangs does not come to that; systemd kills it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _exit(*_: object) -> None:
    raise SystemExit(0)


class _Signals:
    """While inside, SIGINT and SIGTERM set `stop`, and SIGHUP calls `on_reload` if there is one.

    A handler in Python can be interrupted by the next signal, as deep as the stack goes, and may
    not take a lock that the main thread holds. So SIGHUP has one in C that does nothing: its number
    comes through a pipe (signal.set_wakeup_fd) to a thread, which does what is asked, once for all
    signals that came meanwhile.

    Outside of the main thread, where Python allows no handlers, it does nothing.
    """

    def __init__(self, stop: threading.Event, on_reload: Callable[[], None] | None) -> None:
        self._stop = stop
        self._on_reload = on_reload
        self._previous: dict[signal.Signals, Any] = {}
        self._previous_pipe = -1
        self._is_stopping = False
        self._reader, self._writer = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="mien-signals", daemon=True)

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        self._writer.setblocking(False)
        self._previous_pipe = signal.set_wakeup_fd(
            self._writer.fileno(),
            warn_on_full_buffer=False,
        )
        self._thread.start()
        self._handle(signal.SIGINT, self._on_stop_signal)
        self._handle(signal.SIGTERM, self._on_stop_signal)
        if self._on_reload:
            self._handle(signal.SIGHUP, operator.is_)  # in C, takes two values and does nothing

    def _handle(self, number: signal.Signals, handler: Callable[..., Any]) -> None:
        self._previous[number] = signal.signal(number, handler)

    def _on_stop_signal(self, *_: object) -> None:
        # A second signal ends a program whose camera driver hangs.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._previous[number])
        self._is_stopping = True
        with suppress(BlockingIOError):  # a full pipe wakes the thread as well
            self._writer.send(b"\0")

    def _serve(self) -> None:
        """In the thread: do what signals ask for, until the pipe is closed."""
        while numbers := self._reader.recv(4096):
            if self._is_stopping:
                self._stop.set()
            if signal.SIGHUP in numbers and self._on_reload:
                self._on_reload()

    def __exit__(self, *_: object) -> None:
        if self._previous:
            for number, handler in self._previous.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._previous_pipe)
        self._writer.close()
        if self._thread.is_alive():
            self._thread.join()
        self._reader.close()
