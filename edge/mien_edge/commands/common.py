"""Options and helpers that several commands share."""

import argparse
import dataclasses
import logging
import os
import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mien_edge import paths
from mien_edge import settings as configuration
from mien_edge.errors import MienError
from mien_edge.settings import Settings


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


def add_command(
    commands: Any, name: str, text: str, run: Callable[[argparse.Namespace], int | None]
) -> argparse.ArgumentParser:
    """A subcommand of an argparse group: `text` is its help, `run` what it calls with the parsed options."""
    made: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    made.set_defaults(run=run)
    return made


class RenamedCommand(argparse.ArgumentParser):
    """The hidden parser of a command of an earlier version: any use of it is a usage error that names the new one."""

    def __init__(self, prog: str, new: str) -> None:
        super().__init__(prog=prog, add_help=False)
        self.new = new

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Exit with code 2."""
        self.error(f"it is now {self.new}; use that word")


class _RenamedOption(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        parser.error(f"{self.option_strings[0]} is now {self.const}; rename it")


def renamed_option(command: argparse.ArgumentParser, old: str, new: str) -> None:
    """Make `old`, an option of an earlier version, a usage error that names `new`. It is not in the help."""
    command.add_argument(
        old, action=_RenamedOption, nargs="?", const=new, default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )


def renamed_values(new_names: Mapping[str, str]) -> Callable[[str], str]:
    """The `type` of an option: a value of an earlier version (a key of `new_names`) is a usage error that names the
    new one.
    """

    def check(value: str) -> str:
        if value in new_names:
            raise argparse.ArgumentTypeError(f"{value} is now {new_names[value]}; rename it")
        return value

    return check


def settings_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--settings", type=Path, metavar="FILE",
        help=f"settings file (default: {paths.SETTINGS} if it exists, else built-in settings)",
        default=paths.SETTINGS if paths.SETTINGS.is_file() else None,
    )  # fmt: skip


def model_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", metavar="FOLDER", help="model bundle (default: the installed one)")


def json_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON")


def load_settings(options: argparse.Namespace) -> Settings:
    settings = configuration.load(options.settings)
    if getattr(options, "model", None):
        settings = dataclasses.replace(settings, model=dataclasses.replace(settings.model, bundle=options.model))
    if getattr(options, "source", None):
        settings = dataclasses.replace(settings, source=dataclasses.replace(settings.source, uri=options.source))
    return settings


def log_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--log", type=Path, metavar="FILE", help="log file (default: the log of the service)")


def log_path(options: argparse.Namespace) -> Path:
    return options.log or paths.log(configuration.load(options.settings).log.path)


def service_log_path(options: argparse.Namespace, settings: Settings) -> Path:
    """The camera service's log, as a unit with a state folder of its own has to look for it."""
    return options.log or (Path(settings.log.path) if settings.log.path else paths.STATE / "readings.db")
