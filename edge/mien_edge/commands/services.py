"""`mien-edge publish`, `view` and `status`."""

import argparse
import json
import signal
import threading
from pathlib import Path

from mien_edge import paths
from mien_edge.commands.common import (
    json_option,
    log_option,
    log_path,
    runtime_option,
    service_log_path,
    settings_from,
    settings_option,
)
from mien_edge.errors import SettingsError


def configure_publish(parser: argparse.ArgumentParser) -> None:
    """Add the options of `publish`."""
    settings_option(parser)
    log_option(parser)
    parser.add_argument(
        "--state",
        type=Path,
        metavar="FOLDER",
        help="folder for the cursor, which marks what is published (default: $STATE_DIRECTORY)",
    )
    parser.set_defaults(run=_publish)


def _publish(options: argparse.Namespace) -> None:
    from mien_edge.publish import publisher

    settings = settings_from(options)
    state_folder = options.state or paths.systemd_directory("STATE_DIRECTORY")
    if state_folder is None:
        raise SettingsError("the cursor needs a folder; name one with --state")
    counts = publisher.run(
        settings.publish,
        service_log_path(options, settings),
        paths.RUNTIME,
        state_folder,
        paths.systemd_directory("RUNTIME_DIRECTORY"),
        _stop_event().is_set,
    )
    print(counts)  # noqa: T201


def _stop_event() -> threading.Event:
    """Return an event that SIGINT and SIGTERM set."""
    stop = threading.Event()

    def on_signal(*_: object) -> None:
        stop.set()

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    return stop


def configure_view(parser: argparse.ArgumentParser) -> None:
    """Add the options of `view`."""
    settings_option(parser)
    log_option(parser)
    runtime_option(parser)
    beside = "end with standard input, on a free port of 127.0.0.1: what `run --view` starts"
    parser.add_argument("--beside-run", action="store_true", help=beside)
    parser.set_defaults(run=_view)


def _view(options: argparse.Namespace) -> None:
    from mien_edge.view import server

    settings = settings_from(options)
    log = service_log_path(options, settings)
    serve = server.serve_beside if options.beside_run else server.serve
    serve(settings, log, options.runtime or paths.RUNTIME, _print_at_once)


def _print_at_once(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def configure_status(parser: argparse.ArgumentParser) -> None:
    """Add the options of `status`."""
    settings_option(parser)
    log_option(parser)
    json_option(parser)
    parser.set_defaults(run=_status)


def _status(options: argparse.Namespace) -> int:
    from mien_edge.status import summary

    status = summary.collect(paths.runtime(), log_path(options))
    print(json.dumps(status.to_json()) if options.json else summary.as_text(status))  # noqa: T201
    return 1 if status.problems else 0
