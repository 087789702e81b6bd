"""`mien-edge check` and `mien-edge settings`."""

import argparse
import json
from typing import Any

from mien_edge import settings as configuration
from mien_edge.commands.common import add_command, json_option, load_settings, model_option, settings_option


def add_check(commands: Any) -> None:
    check = add_command(commands, "check", "verify a model bundle and replay its golden vectors on this device", _check)
    settings_option(check)
    model_option(check)
    json_option(check)


def _check(options: argparse.Namespace) -> None:
    from mien_edge.model.bundle import find_bundle
    from mien_edge.model.check import check

    settings = load_settings(options)
    result = check(find_bundle(settings.model.bundle), settings.model.threads).to_json()
    if options.json:
        print(json.dumps(result))  # noqa: T201
        return
    for key, value in result.items():
        print(f"{key:<17} {' '.join(value) if isinstance(value, list) else value}")  # noqa: T201


def print_settings(options: argparse.Namespace) -> None:
    print(configuration.as_toml(load_settings(options)), end="")  # noqa: T201
