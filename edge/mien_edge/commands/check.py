"""`mien-edge check` and `mien-edge settings`."""

import argparse
import json
from pathlib import Path

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
        print(f"{key:<17} {text}")  # noqa: T201


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
    print(as_toml(settings_from(options)), end="")  # noqa: T201
