"""`mien-edge publish`, `view` and `status`."""

import argparse
import json
import threading
from pathlib import Path
from typing import Any

from mien_edge import paths
from mien_edge.commands.common import (
    add_command,
    json_option,
    load_settings,
    log_option,
    log_path,
    service_log_path,
    settings_option,
)
from mien_edge.errors import SettingsError


def add_publish(commands: Any) -> None:
    publish = add_command(commands, "publish", "publish the log to an MQTT broker, until stopped", _publish)
    settings_option(publish)
    log_option(publish)
    publish.add_argument(
        "--state",
        type=Path,
        metavar="FOLDER",
        help="folder for the cursor, which marks what is published (default: $STATE_DIRECTORY)",
    )


def _publish(options: argparse.Namespace) -> None:
    import signal

    from mien_edge.publish import publisher

    settings, stop = load_settings(options), threading.Event()
    state = options.state or paths.systemd_directory("STATE_DIRECTORY")
    if state is None:
        raise SettingsError("the cursor needs a folder; name one with --state")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    log = service_log_path(options, settings)
    done = publisher.run(
        settings.publish, log, paths.RUNTIME, state, paths.systemd_directory("RUNTIME_DIRECTORY"), stop.is_set
    )
    print(f"{done.published} published, {done.outbox.waiting} waiting")  # noqa: T201


def add_view(commands: Any) -> None:
    view = add_command(
        commands, "view", "serve a web page with picture, labels, timeline and health, until stopped", _view
    )
    settings_option(view)
    log_option(view)
    view.add_argument(
        "--runtime", type=Path, metavar="FOLDER", help="runtime folder of the service (default: /run/mien)"
    )


def _view(options: argparse.Namespace) -> None:
    from mien_edge.view import server

    settings = load_settings(options)
    log = service_log_path(options, settings)
    server.serve(settings, log, options.runtime or paths.RUNTIME, lambda text: print(text, flush=True))  # noqa: T201


def add_status(commands: Any) -> None:
    status = add_command(commands, "status", "show the service's status; exits 1 if there is a problem", _status)
    settings_option(status)
    log_option(status)
    json_option(status)


def _status(options: argparse.Namespace) -> int:
    from mien_edge.status import summary as status_summary

    summary = status_summary.collect(paths.runtime(), log_path(options))
    print(json.dumps(summary.to_json()) if options.json else status_summary.as_text(summary))  # noqa: T201
    return 1 if summary.problems else 0
