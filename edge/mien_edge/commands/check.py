"""`mien-edge check` and `mien-edge settings`."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from mien_edge.addresses import mask_address
from mien_edge.commands.common import json_option, model_option, settings_from, settings_option
from mien_edge.settings import as_toml


def configure_check(parser: argparse.ArgumentParser) -> None:
    """Add the options of `check`."""
    settings_option(parser)
    model_option(parser)
    json_option(parser)
    parser.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> None:
    from mien_edge.model.bundle import find_bundle
    from mien_edge.model.check import check

    settings = settings_from(options)
    result = check(find_bundle(settings.model.bundle), settings.model.threads).to_json()
    if options.json:
        print(json.dumps(result))  # noqa: T201
        return
    for key, value in result.items():
        text = " ".join(value) if isinstance(value, list) else value
        print(f"{key:<20} {text}")  # noqa: T201


def configure_settings(parser: argparse.ArgumentParser) -> None:
    """Add the options of `settings`."""
    parser.add_argument(
        "--settings",
        type=Path,
        metavar="FILE",
        help="print the settings of this file (default: built-in settings)",
    )
    parser.set_defaults(run=_print_settings)


def _print_settings(options: argparse.Namespace) -> None:
    settings = settings_from(options)
    uri = mask_address(settings.source.uri)
    if uri != settings.source.uri:
        source = dataclasses.replace(settings.source, uri=uri)
        settings = dataclasses.replace(settings, source=source)
        hint = "put them into /etc/mien/camera-password, or name a file in source.password_file"
        sys.stderr.write(f"mien-edge: source.uri is printed without its credentials; {hint}\n")
    print(as_toml(settings), end="")  # noqa: T201
