"""`mien-edge run`: a source turned into readings."""

import argparse
import contextlib
import dataclasses
import functools
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mien_edge import paths
from mien_edge.commands.common import add_command, load_settings, model_option, settings_option
from mien_edge.errors import MienError
from mien_edge.events import EventKind
from mien_edge.settings import Settings


def add_run(commands: Any) -> None:
    run = add_command(commands, "run", "read expressions from a source, until it ends or is stopped", _run)
    run.add_argument("source", nargs="?", help="picamera, v4l2:0, rtsp://…, video, photo, folder, demo, demo:forever")
    settings_option(run)
    model_option(run)
    run.add_argument("--json", action="store_true", help="print readings as JSON lines, then one line with the summary")
    run.add_argument("--quiet", action="store_true", help="print only the summary")
    run.add_argument("--jsonl", type=Path, metavar="FILE", help="also write JSON lines to this file (rotated)")
    run.add_argument("--csv", type=Path, metavar="FILE", help="also write CSV to this file (rotated)")
    run.add_argument("--log", type=Path, metavar="FILE", help="also write this SQLite log, which `logs` reads")
    run.add_argument(
        "--annotate", type=Path, metavar="FILE", help="also write an annotated picture, video or folder of pictures"
    )
    run.add_argument(
        "--labels", type=Path, metavar="FILE", help="labels.csv with the true labels, to score photographs"
    )
    run.add_argument("--max-frames", type=int, metavar="N", help="stop after N frames")


def _run(options: argparse.Namespace) -> int:
    from mien_edge.chain import annotate, sources
    from mien_edge.log import writer
    from mien_edge.service import gpio
    from mien_edge.service import run as service_run
    from mien_edge.status import systemd

    settings, stop, events = load_settings(options), threading.Event(), service_run.Events()
    store, recovered = _installed(settings)
    model = _model(settings, store)
    uri = settings.source.uri
    with contextlib.ExitStack() as closing:

        def opened(each: Any) -> Any:
            closing.callback(each.close)
            return each

        written: list[Any] = []
        if options.log or settings.log.path or paths.systemd_directory("STATE_DIRECTORY"):
            written = [opened(writer.LogWriter(options.log or paths.log(settings.log.path), settings.log))]
            written[0].log_start(model.name)
            events.add(written[0].event)
        for kind, text in recovered:
            events(kind, text)
        try:
            notifier = opened(systemd.Notifier())
            switch = opened(
                gpio.Panel(settings.gpio, notifier.ping_watchdog, paths.systemd_directory("STATE_DIRECTORY"))
            )
            source = sources.open_source(settings.source, stop, events, switch)
            scored = _score(options, uri, source.still)
            sinks = [*written, *(opened(sink) for sink in _sinks(options)), *([scored] if scored else [])]
            watchers: list[Any] = [notifier]
            if options.annotate:
                fps = getattr(source, "fps", 0) or settings.source.fps
                watchers.append(opened(annotate.annotator(options.annotate, fps, source.still, Path(uri))))
            status = paths.systemd_directory("RUNTIME_DIRECTORY")
            most = options.max_frames
            summary = service_run.run(settings, model, source, stop, sinks, watchers, most, events, status, store)
        except MienError as problem:
            events(EventKind.FAILED, str(problem))
            raise
        events(EventKind.STOP, str(summary))
    _print_summary(options, summary, scored)
    return 0


def _model(settings: Settings, store: Any) -> Any:
    """The model to run."""
    from mien_edge.model import bundle
    from mien_edge.service import run as service_run
    from mien_edge.update import updater

    make = functools.partial(service_run.load_model, settings)
    return (
        make(bundle.load(bundle.find(settings.model.bundle)))
        if store is None
        else updater.load_startup_model(store, make)
    )


def _installed(settings: Settings) -> tuple[Any, list[tuple[EventKind, str]]]:
    """The service's store of bundles, after what a power cut or a crash left was put right, and events that tell it."""
    from mien_edge.model import bundle
    from mien_edge.update import signing
    from mien_edge.update.store import Store

    if settings.model.bundle or not paths.systemd_directory("STATE_DIRECTORY"):
        return None, []
    store = Store(bundle.models_folder(), signing.Trust.of(settings.update), patience=20)
    try:
        recovered = [(EventKind.ROLLED_BACK, text) for text in store.recover()]
        store.begin()
    except MienError as problem:
        logging.getLogger("mien.models").error("%s", problem)
        return store, [(EventKind.UPDATE_FAILED, str(problem))]
    return store, recovered


def _sinks(options: argparse.Namespace) -> Iterator[Any]:
    from mien_edge.chain import sinks

    if options.json and not options.quiet:
        yield sinks.JsonLines(lambda text: print(text, end="", flush=True))  # noqa: T201
    elif not options.quiet:
        yield sinks.Console()
    if options.jsonl:
        yield sinks.JsonLines.to_file(options.jsonl)
    if options.csv:
        yield sinks.Csv(options.csv)


def _score(options: argparse.Namespace, uri: str, still: bool) -> Any:
    from mien_edge.chain import score

    beside = Path(uri) / "labels.csv"
    path = options.labels or (beside if still and beside.is_file() else None)
    return score.Score(score.read_labels(path)) if path else None


def _print_summary(options: argparse.Namespace, summary: Any, scored: Any) -> None:
    from mien_edge.chain import score

    result = scored.result() if scored else None
    if options.json:
        values = dataclasses.asdict(summary) | ({"score": result} if result else {})
        print(json.dumps({"summary": values}))  # noqa: T201
        return
    print(summary)  # noqa: T201
    if result:
        print(score.as_text(result))  # noqa: T201
    if options.annotate and options.annotate.exists():
        print(f"annotated: {options.annotate}")  # noqa: T201
