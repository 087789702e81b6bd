"""The command `mien-edge`."""

import argparse
import contextlib
import dataclasses
import functools
import json
import logging
import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mien_edge import __version__, places
from mien_edge import settings as configuration
from mien_edge.errors import MienError, SettingsError
from mien_edge.labels import LABELS
from mien_edge.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 for success, 1 for an error (one line on stderr), 2 for usage."""
    # Before NumPy is loaded: its matrices here are tiny, and OpenBLAS' other threads would spin for 40 milliseconds
    # after each product, eight times what the whole chain takes.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    return guarded("mien-edge", parser(), arguments)


def script() -> None:
    """The console script: as `main`, and never held back at its end by a camera driver that hangs."""
    code = main()
    camera = sys.modules.get("mien_edge.camera")
    if camera and any(thread.name == camera.THREAD for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def guarded(name: str, commands: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    """Parse and run; a MienError becomes one line, with a traceback only if MIEN_DEBUG=1."""
    options = commands.parse_args(arguments)
    logging.basicConfig(format=f"{name}: %(levelname)s: %(message)s", level=logging.WARNING)
    try:
        code = int(options.run(options) or 0)
        sys.stdout.flush()
        return code
    except MienError as problem:
        if os.environ.get("MIEN_DEBUG") == "1":
            raise
        sys.stderr.write(f"{name}: error: {problem}\n")
        return 1
    except sqlite3.Error as problem:
        sys.stderr.write(f"{name}: error: the log cannot be read ({problem}); see: mien-edge doctor\n")
        return 1
    except ModuleNotFoundError as problem:
        if os.environ.get("MIEN_DEBUG") == "1" or (problem.name or "").startswith("mien"):
            raise
        extra = name.removeprefix("mien-")
        sys.stderr.write(f"{name}: error: {problem.name} is not installed; pip install 'mien[{extra}]'\n")
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    top = argparse.ArgumentParser(prog="mien-edge", description="Emotion readings from a camera, on the device.")
    top.add_argument("--version", action="version", version=f"mien-edge {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_check(commands)
    _add_bench(commands)
    _add_logs(commands)
    _add_publish(commands)
    _add_view(commands)
    _add_status(commands)
    _add_doctor(commands)
    _add_models(commands)
    _add_init(commands)
    show = add_command(commands, "settings", "print a settings file in which every key is explained", _settings)
    show.add_argument("--settings", type=Path, metavar="FILE", help="print this file's (default: built-in settings)")
    return top


def add_command(
    commands: Any, name: str, text: str, run: Callable[[argparse.Namespace], int | None]
) -> argparse.ArgumentParser:
    """A subcommand of an argparse group: `text` is its help, `run` what it calls with the parsed options."""
    made: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    made.set_defaults(run=run)
    return made


def _settings_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--settings", type=Path, metavar="FILE",
        help=f"settings file (default: {places.SETTINGS} where it is, else built-in settings)",
        default=places.SETTINGS if places.SETTINGS.is_file() else None,
    )  # fmt: skip


def _model_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", metavar="FOLDER", help="model bundle (default: the installed one)")


def _json_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON")


def _chosen(options: argparse.Namespace) -> Settings:
    settings = configuration.load(options.settings)
    if getattr(options, "model", None):
        settings = dataclasses.replace(settings, model=dataclasses.replace(settings.model, bundle=options.model))
    if getattr(options, "source", None):
        settings = dataclasses.replace(settings, source=dataclasses.replace(settings.source, uri=options.source))
    return settings


# --- run ---------------------------------------------------------------------------------------------------------


def _add_run(commands: Any) -> None:
    run = add_command(commands, "run", "turn a source into readings until it ends or is stopped", _run)
    run.add_argument("source", nargs="?", help="picamera, v4l2:0, rtsp://…, video, photo, folder, demo, demo:forever")
    _settings_option(run)
    _model_option(run)
    run.add_argument("--json", action="store_true", help="print readings as JSON lines, then a line with the summary")
    run.add_argument("--quiet", action="store_true", help="print the summary only")
    run.add_argument("--jsonl", type=Path, metavar="FILE", help="also write JSON lines to a rotated file")
    run.add_argument("--csv", type=Path, metavar="FILE", help="also write CSV to a rotated file")
    run.add_argument("--log", type=Path, metavar="FILE", help="also write the SQLite log that `logs` reads")
    run.add_argument(
        "--annotate", type=Path, metavar="FILE", help="also draw a picture, a video or a folder of pictures"
    )
    run.add_argument("--labels", type=Path, metavar="FILE", help="labels.csv to score photographs against")
    run.add_argument("--max-frames", type=int, metavar="N", help="stop after N frames")


def _run(options: argparse.Namespace) -> int:
    from mien_edge import annotate, app, log, notify, panel, sources

    settings, stop, events = _chosen(options), threading.Event(), app.Events()
    store, recovered = _installed(settings)
    model = _model(settings, store)
    uri = settings.source.uri
    with contextlib.ExitStack() as closing:

        def opened(each: Any) -> Any:
            closing.callback(each.close)
            return each

        written: list[Any] = []
        if options.log or settings.log.path or places.given("STATE_DIRECTORY"):
            written = [opened(log.Log(options.log or places.log(settings.log.path), settings.log))]
            written[0].started(model.name)
            events.add(written[0].event)
        for kind, text in recovered:
            events(kind, text)
        try:
            notifier = opened(notify.Notifier())
            switch = opened(panel.Panel(settings.panel, notifier.alive, places.given("STATE_DIRECTORY")))
            source = sources.open_source(settings.source, stop, events, switch)
            scored = _score(options, uri, source.still)
            sinks = [*written, *(opened(sink) for sink in _sinks(options)), *([scored] if scored else [])]
            watchers: list[Any] = [notifier]
            if options.annotate:
                fps = getattr(source, "fps", 0) or settings.source.fps
                watchers.append(opened(annotate.annotator(options.annotate, fps, source.still, Path(uri))))
            status = places.given("RUNTIME_DIRECTORY")
            most = options.max_frames
            summary = app.run(settings, model, source, stop, sinks, watchers, most, events, status, store)
        except MienError as problem:
            events("failed", str(problem))
            raise
        events("stop", str(summary))
    _print_summary(options, summary, scored)
    return 0


def _model(settings: Settings, store: Any) -> Any:
    """The model to run."""
    from mien_edge import app, bundle, update

    make = functools.partial(app.tenant, settings)
    return make(bundle.load(bundle.find(settings.model.bundle))) if store is None else update.first(store, make)


def _installed(settings: Settings) -> tuple[Any, list[tuple[str, str]]]:
    """The service's store of bundles, after what a power cut or a crash left was put right, and events that tell it."""
    from mien_edge import bundle, signing
    from mien_edge.store import Store

    if settings.model.bundle or not places.given("STATE_DIRECTORY"):
        return None, []
    store = Store(bundle.models_folder(), signing.Trust.of(settings.update), patience=20)
    try:
        recovered = [("rolled back", text) for text in store.recover()]
        store.begin()
    except MienError as problem:
        logging.getLogger("mien.models").error("%s", problem)
        return store, [("update failed", str(problem))]
    return store, recovered


def _sinks(options: argparse.Namespace) -> Iterator[Any]:
    from mien_edge import sinks

    if options.json and not options.quiet:
        yield sinks.JsonLines(lambda text: print(text, end="", flush=True))  # noqa: T201
    elif not options.quiet:
        yield sinks.Console()
    if options.jsonl:
        yield sinks.JsonLines.to_file(options.jsonl)
    if options.csv:
        yield sinks.Csv(options.csv)


def _score(options: argparse.Namespace, uri: str, still: bool) -> Any:
    from mien_edge import score

    beside = Path(uri) / "labels.csv"
    path = options.labels or (beside if still and beside.is_file() else None)
    return score.Score(score.read_labels(path)) if path else None


def _print_summary(options: argparse.Namespace, summary: Any, scored: Any) -> None:
    from mien_edge import score

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


# --- check, bench, settings --------------------------------------------------------------------------------------


def _add_check(commands: Any) -> None:
    check = add_command(commands, "check", "verify a bundle and replay its golden vectors on this device", _check)
    _settings_option(check)
    _model_option(check)
    _json_option(check)


def _check(options: argparse.Namespace) -> None:
    from mien_edge import bundle
    from mien_edge.check import check

    settings = _chosen(options)
    result = check(bundle.find(settings.model.bundle), settings.model.threads)
    if options.json:
        print(json.dumps(result))  # noqa: T201
        return
    for key, value in result.items():
        print(f"{key:<17} {' '.join(value) if isinstance(value, list) else value}")  # noqa: T201


def _add_bench(commands: Any) -> None:
    bench = add_command(commands, "bench", "measure milliseconds per stage, memory and start-up on this device", _bench)
    _settings_option(bench)
    _model_option(bench)
    _json_option(bench)
    bench.add_argument("--layers", action="store_true", help="measure each layer of the network instead")
    bench.add_argument("--frames", type=int, default=200, metavar="N", help="frames to measure (default: 200)")


def _bench(options: argparse.Namespace) -> None:
    from mien_edge import bench, bundle

    settings = _chosen(options)
    found = bundle.load(bundle.find(settings.model.bundle))
    if options.layers:
        measured = bench.layers(found.model)
        print(json.dumps(measured) if options.json else bench.layers_as_text(measured))  # noqa: T201
        return
    result = bench.bench(settings, found, max(options.frames, 1))
    print(json.dumps(result) if options.json else bench.as_text(result))  # noqa: T201


def _settings(options: argparse.Namespace) -> None:
    print(configuration.as_toml(_chosen(options)), end="")  # noqa: T201


# --- logs --------------------------------------------------------------------------------------------------------


def _add_logs(commands: Any) -> None:
    logs = add_command(commands, "logs", "read the on-device log", _logs)
    _settings_option(logs)
    _log_option(logs)
    logs.add_argument("--since", metavar="TIME", help="from 90s, 15m, 1h, 7d ago, or an ISO date or time")
    logs.add_argument("--until", metavar="TIME", help="up to, in the same forms")
    logs.add_argument("--emotion", choices=LABELS, help="only this label")
    logs.add_argument("--track", type=int, metavar="N", help="only this face")
    logs.add_argument("--kind", metavar="KIND", help="'reading', 'event', or the events of a kind, as 'camera lost'")
    logs.add_argument("--follow", action="store_true", help="print entries as they are committed")
    form = logs.add_mutually_exclusive_group()
    form.add_argument("--summary", action="store_true", help="emotion shares per hour")
    form.add_argument("--csv", action="store_true", help="print readings as CSV")
    form.add_argument("--plot", type=Path, metavar="FILE", help="draw the emotion shares per hour to a .png or .jpg")
    logs.add_argument("--json", action="store_true", help="print JSON lines, or with --summary one JSON array")


def _log_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--log", type=Path, metavar="FILE", help="the log (default: the service's)")


def _logs(options: argparse.Namespace) -> None:
    import time

    from mien_edge import logread, logview

    path, now = _found_log(options), time.time()
    wanted = logread.Filter(
        since=logview.moment(options.since, now) if options.since else 0.0,
        until=logview.moment(options.until, now) if options.until else 1e12,
        label=options.emotion,
        track=options.track,
    )
    if options.summary or options.plot:
        _summary(options, logview.summary(path, wanted))
        return
    form = "json" if options.json else "csv" if options.csv else "text"
    printed = logview.follow if options.follow else logview.lines
    for text in printed(path, wanted, form, options.kind):
        print(text, flush=options.follow)  # noqa: T201


def _summary(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    from mien_edge import logview, plot

    if options.emotion or options.track or options.kind or options.follow:
        raise SettingsError("a summary is of all faces; leave out --emotion, --track, --kind and --follow")
    if options.plot:
        plot.save(options.plot, rows)
        print(f"drawn: {options.plot}")  # noqa: T201
    else:
        print(json.dumps(rows) if options.json else logview.summary_text(rows))  # noqa: T201


def _found_log(options: argparse.Namespace) -> Path:
    return options.log or places.log(configuration.load(options.settings).log.path)


# --- publish -----------------------------------------------------------------------------------------------------


def _add_publish(commands: Any) -> None:
    publish = add_command(commands, "publish", "tell an MQTT broker what stands in the log, until stopped", _publish)
    _settings_option(publish)
    _log_option(publish)
    publish.add_argument("--state", type=Path, metavar="FOLDER", help="where the cursor is kept (default: the unit's)")


def _publish(options: argparse.Namespace) -> None:
    import signal

    from mien_edge import publish

    settings, stop = _chosen(options), threading.Event()
    state = options.state or places.given("STATE_DIRECTORY")
    if state is None:
        raise SettingsError("the cursor needs a folder; name one with --state")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    log = _service_log(options, settings)
    done = publish.run(settings.publish, log, places.RUNTIME, state, places.given("RUNTIME_DIRECTORY"), stop.is_set)
    print(f"{done.published} published, {done.outbox.waiting} wait")  # noqa: T201


# --- view --------------------------------------------------------------------------------------------------------


def _service_log(options: argparse.Namespace, settings: Settings) -> Path:
    """The camera service's log, as a unit with a state folder of its own has to look for it."""
    return options.log or (Path(settings.log.path) if settings.log.path else places.STATE / "readings.db")


def _add_view(commands: Any) -> None:
    view = add_command(commands, "view", "show a page with picture, labels, timeline and health, until stopped", _view)
    _settings_option(view)
    _log_option(view)
    view.add_argument("--runtime", type=Path, metavar="FOLDER", help="the service's folder (default: /run/mien)")


def _view(options: argparse.Namespace) -> None:
    from mien_edge import view

    settings = _chosen(options)
    log = _service_log(options, settings)
    view.serve(settings, log, options.runtime or places.RUNTIME, lambda text: print(text, flush=True))  # noqa: T201


# --- status, doctor ----------------------------------------------------------------------------------------------


def _add_status(commands: Any) -> None:
    status = add_command(commands, "status", "tell how the service on this device is; exits 1 if not well", _status)
    _settings_option(status)
    _log_option(status)
    _json_option(status)


def _status(options: argparse.Namespace) -> int:
    from mien_edge import status

    found = status.collect(places.runtime(), _found_log(options))
    print(json.dumps(found) if options.json else status.as_text(found))  # noqa: T201
    return 1 if found["problems"] else 0


def _add_doctor(commands: Any) -> None:
    text = "look for what is wrong with this device, and tell the fix; exits 0, 1 with warnings, 2 with errors"
    doctor = add_command(commands, "doctor", text, _doctor)
    _settings_option(doctor)
    _json_option(doctor)


def _doctor(options: argparse.Namespace) -> int:
    from mien_edge import doctor

    settings = _chosen(options)
    found = doctor.examine(settings)
    if settings.publish.host:
        found.append(doctor.broker(settings.publish.host, settings.publish.port))
    print(json.dumps([dataclasses.asdict(each) for each in found]) if options.json else doctor.as_text(found))  # noqa: T201
    return {"error": 2, "warning": 1}.get(doctor.worst(found), 0)


# --- models ------------------------------------------------------------------------------------------------------


def _add_models(commands: Any) -> None:
    models = add_command(commands, "models", "install, try, choose and remove model bundles on this device", _on_models)
    actions = models.add_subparsers(title="actions", required=True, metavar="ACTION")
    _json_option(_action(actions, "list", "list installed bundles; * marks the current one", "listing"))
    install = _action(actions, "install", "verify and replay a bundle, and keep it; it does not run yet", "install")
    install.add_argument("bundle", help="folder of the bundle, or - for a tar stream on standard input")
    _downgrade_option(install)
    activate = _action(actions, "activate", "run an installed bundle, on probation at first", "activate")
    _name(activate)
    _downgrade_option(activate)
    _wait_option(activate)
    _action(actions, "rollback", "go back to the bundle that was committed before", "rollback")
    _name(_action(actions, "discard", "remove an installed bundle that is not in use", "discard"))
    beside = _action(actions, "shadow", "compare a bundle with the current one, or print how they compare", "beside")
    beside.add_argument("name", nargs="?", help="NAME-VERSION as `models list` prints it; none to print the comparison")
    beside.add_argument("--end", action="store_true", help="end the comparison")
    _json_option(beside)
    take = _action(commands, "receive", "install and run a bundle from a tar stream; for restricted keys", "take")
    _downgrade_option(take)
    _wait_option(take)


def _action(actions: Any, name: str, text: str, does: str) -> argparse.ArgumentParser:
    made = add_command(actions, name, text, _on_models)
    made.set_defaults(does=does)
    _settings_option(made)
    made.add_argument("--runtime", type=Path, metavar="FOLDER", help="the service's folder (default: /run/mien)")
    return made


def _name(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", help="NAME-VERSION as `models list` prints it")


def _downgrade_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--allow-downgrade", action="store_true", help="take an older version than has run here")


def _wait_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--wait", type=float, metavar="SECONDS", help="wait so long for the end of its probation")


def _on_models(options: argparse.Namespace) -> int | None:
    from mien_edge import manage

    code: int | None = getattr(manage, options.does)(options)
    return code


# --- init, notice ------------------------------------------------------------------------------------------------


def _add_init(commands: Any) -> None:
    from mien_edge import purpose

    init = add_command(commands, "init", "ask what the device is used for, and write its settings file", _init)
    init.add_argument("--purpose", choices=purpose.PURPOSES, help="the answer, instead of asking")
    init.add_argument("--source", default="picamera", metavar="URI", help="where frames come from (default: picamera)")
    init.add_argument(
        "--output", type=Path, default=places.SETTINGS, metavar="FILE", help=f"default: {places.SETTINGS}"
    )
    init.add_argument("--force", action="store_true", help="replace a file that is there")
    notice = add_command(commands, "notice", "make a printable notice for the people that the camera sees", _notice)
    notice.add_argument("output", type=Path, help="the sheet, an .html file")
    notice.add_argument("--language", choices=purpose.LANGUAGES, default="en", help="default: en")
    notice.add_argument("--purpose", default="", metavar="TEXT", help="what it is used for")
    notice.add_argument("--operator", default="", metavar="TEXT", help="who is responsible")
    notice.add_argument("--contact", default="", metavar="TEXT", help="where to ask")
    _settings_option(notice)


def _init(options: argparse.Namespace) -> None:
    from mien_edge import purpose

    chosen = options.purpose or purpose.ask()
    purpose.write(options.output, chosen, options.source, options.force)
    print(f"written: {options.output}; next: mien-edge doctor --settings {options.output}")  # noqa: T201


def _notice(options: argparse.Namespace) -> None:
    from mien_edge import purpose

    settings = _chosen(argparse.Namespace(settings=options.settings))
    purpose.notice(options.output, settings, options.language, options.purpose, options.operator, options.contact)
    print(f"written: {options.output}; open it in a browser and print it")  # noqa: T201
