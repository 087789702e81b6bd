"""What the commands of several programs share: parsers, errors as one line, common options."""

import argparse
import dataclasses
import io
import logging
import os
import sqlite3
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from mien_edge import paths
from mien_edge.addresses import mask_text
from mien_edge.errors import MienError
from mien_edge.text import ESCAPE, printable_lines

if TYPE_CHECKING:  # for --help, the settings alone would take a quarter of the time
    from mien_edge.export.textfile import Existing
    from mien_edge.settings import Settings

Commands: TypeAlias = "argparse._SubParsersAction[Any]"
Handler: TypeAlias = Callable[[argparse.Namespace], int | None]


def guarded(
    name: str,
    make_parser: Callable[[], argparse.ArgumentParser],
    arguments: Sequence[str] | None,
) -> int:
    """Parse the arguments, run the command that they name, and return its exit code.

    name: the program's name in messages, as mien-edge.
    make_parser: returns a parser that sets `run`, a function of the parsed options, for each
        command. It may import what is not installed.
    arguments: None for those of this process.

    A MienError, an error of the system, a broken log, a missing package and a name that the locale
    lacks letters for become one line on stderr and exit code 1; with MIEN_DEBUG=1 they are raised.
    """
    _accept_every_letter()
    _hide_secrets(f"{name}: %(levelname)s: %(message)s")
    try:
        options = make_parser().parse_args(arguments)
        code = int(options.run(options) or 0)
        if sys.stdout:  # None in a process that was started without
            sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _flush_or_discard()
        return 0
    except _PROBLEMS as problem:
        if os.environ.get("MIEN_DEBUG") == "1" or _is_defect(problem):
            raise
        _flush_or_discard()
        return _fail(name, _explain(problem, name.removeprefix("mien-")))


_PROBLEMS = (MienError, sqlite3.Error, MemoryError, ImportError, UnicodeError, OSError)
"""What the world does to a program, and no defect of it."""


def _is_defect(problem: BaseException) -> bool:
    """Whether a module of mien is missing."""
    is_error = isinstance(problem, ImportError) and not isinstance(problem, MienError)
    return is_error and _package(problem).startswith("mien")


def _package(problem: BaseException) -> str:
    """The package that an ImportError is about; '' if it does not say."""
    return (getattr(problem, "name", None) or "").partition(".")[0]


def _explain(problem: BaseException, extra: str) -> str:
    """Return a line about one of _PROBLEMS.

    extra: mien's extra that the program's packages come with.
    """
    if isinstance(problem, MienError):
        return str(problem)
    if isinstance(problem, sqlite3.Error):
        return f"the log cannot be read ({problem}); see: mien-edge doctor"
    if isinstance(problem, MemoryError):
        return "not enough memory; a log that is damaged asks for too much; see: mien-edge doctor"
    if isinstance(problem, ModuleNotFoundError):
        return f"{_package(problem)} is not installed; pip install 'mien[{extra}]'"
    if isinstance(problem, ImportError):
        reason = f"{_package(problem) or 'a package'} does not load ({problem})"
        return f"{reason}; pip install 'mien[{extra}]'"
    if isinstance(problem, UnicodeError):
        kind = problem.__class__.__name__
        return f"this locale lacks letters of a name or a text ({kind}); set LC_ALL=C.UTF-8"
    return _explain_system_error(problem)


def _explain_system_error(problem: BaseException) -> str:
    reason = getattr(problem, "strerror", None) or str(problem)
    file = getattr(problem, "filename", None)
    place = f"{os.fsdecode(file)}: " if isinstance(file, str | bytes) else ""
    return f"{place}{reason}; put that right, and run it again"


def _accept_every_letter() -> None:
    """Let no letter end this program, whatever the locale: a terminal shows as an escape what its
    alphabet lacks; a file or a pipe gets UTF-8, as TOML and JSON must be, or what PYTHONIOENCODING
    says.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        is_chosen = sys.stdout.isatty() or "PYTHONIOENCODING" in os.environ
        encoding = None if is_chosen else "utf-8"
        sys.stdout.reconfigure(encoding=encoding, errors=ESCAPE)
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors=ESCAPE)


def _flush_or_discard() -> None:
    """Write what is left in the buffer of standard output, or nowhere where that cannot be."""
    if sys.stdout:
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(name: str, message: str) -> int:
    sys.stderr.write(_harmless(f"{name}: error: {message}") + "\n")
    return 1


def _harmless(text: str) -> str:
    """A text without the secrets of addresses, and without what acts on a terminal."""
    return printable_lines(mask_text(text))


class _HarmlessFormatter(logging.Formatter):
    """Formats records without the secrets of addresses, their tracebacks as well."""

    def format(self, record: logging.LogRecord) -> str:
        return _harmless(super().format(record))


def _hide_secrets(log_format: str) -> None:
    """Log to stderr, and show records and tracebacks without the secrets of addresses."""
    handler = logging.StreamHandler()
    handler.setFormatter(_HarmlessFormatter(log_format))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _print_masked_traceback
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _print_masked_thread_traceback


def _print_masked_traceback(
    kind: type[BaseException], problem: BaseException | None, trace: TracebackType | None
) -> None:
    text = "".join(traceback.format_exception(kind, problem, trace))
    sys.stderr.write(_harmless(text))


def _print_masked_thread_traceback(arguments: threading.ExceptHookArgs) -> None:
    _print_masked_traceback(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)


class MaskingParser(argparse.ArgumentParser):
    """A parser whose usage errors show no secret of an address that was typed, and the usage of the
    command that was typed.
    """

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as ArgumentParser does; what is left over is a usage error of this command, not of
        the one above it. Options may stand among any number of arguments: run a.jpg --quiet b.jpg.
        """
        options, rest = super().parse_known_args(args, namespace)
        many = [action.dest for action in self._actions if _takes_many(action)]
        if many and not any(word.startswith("-") for word in rest):
            before = getattr(options, many[0]) or []
            setattr(options, many[0], [*before, *rest])
            rest = []
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return options, rest

    def error(self, message: str) -> NoReturn:
        """Exit with code 2 and one line."""
        super().error(_harmless(message))


def _takes_many(action: argparse.Action) -> bool:
    return not action.option_strings and action.nargs == "*"


class CommandParser(MaskingParser):
    """The parser of a command whose module is imported once its arguments are parsed.

    configure: "module:function", called with this parser to add the options; empty for a command
    that is configured already.
    """

    def __init__(self, *, configure: str = "", **options: Any) -> None:
        super().__init__(**options)
        self._configure = configure

    def load(self) -> None:
        """Import the command's module and add its options, unless that was done before."""
        module, _, function = self._configure.partition(":")
        self._configure = ""
        if module:
            getattr(import_module(module), function)(self)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as ArgumentParser does, with the command's options."""
        self.load()
        return super().parse_known_args(args, namespace)

    def format_help(self) -> str:
        """Return the help, with the command's options."""
        self.load()
        return super().format_help()


class RenamedCommand(argparse.ArgumentParser):
    """The parser of a command of an earlier version: it is not in the help, and any use of it is a
    usage error that names the new command.
    """

    def __init__(self, prog: str, new: str) -> None:
        super().__init__(prog=prog, add_help=False)
        self.new = new

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Exit with code 2."""
        self.error(f"it is now {self.new}; use that word")


class _Choices(dict[str, argparse.ArgumentParser]):
    """The commands of a parser; those of an earlier version are in it, and are not listed."""

    def __iter__(self) -> Iterator[str]:
        return iter([name for name, parser in self.items() if not _is_renamed(parser)])


def _is_renamed(parser: argparse.ArgumentParser) -> bool:
    return isinstance(parser, RenamedCommand)


def renamed_command(commands: Commands, old: str, prog: str, new: str) -> None:
    """Make `old`, a command of an earlier version, a usage error that names `new`.

    prog: the words by which the old command was called. It is neither in the help nor among the
    choices that an error lists.
    """
    choices = _Choices(commands.choices)
    choices[old] = RenamedCommand(prog, new)
    commands.choices = choices
    commands._name_parser_map = choices


def add_command(commands: Commands, name: str, text: str, run: Handler) -> argparse.ArgumentParser:
    """Add a command and return its parser.

    text: its help, a lower-case phrase without a full stop.
    run: called with the parsed options; returns an exit code, or None for 0.
    """
    parser = commands.add_parser(name, help=text, description=describe(text))
    parser.set_defaults(run=run)
    return parser


def describe(text: str) -> str:
    """Make a sentence of a command's help."""
    return text[0].upper() + text[1:] + "."


def command_lines(parser: argparse.ArgumentParser) -> Iterator[list[str]]:
    """Yield the words of every command and sub-command: [], ['run'], ['models', 'list'] …

    Imports the modules of all commands. Commands of earlier versions are left out.
    """
    yield []
    if isinstance(parser, CommandParser):
        parser.load()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                if not isinstance(command, RenamedCommand):
                    yield from ([name, *words] for words in command_lines(command))


class _RenamedOption(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        parser.error(f"{self.option_strings[0]} is now {self.const}; rename it")


def renamed_option(parser: argparse.ArgumentParser, old: str, new: str) -> None:
    """Make `old`, an option of an earlier version, a usage error that names `new`.

    It is not in the help.
    """
    parser.add_argument(
        old,
        action=_RenamedOption,
        nargs="?",
        const=new,
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )


def renamed_values(new_names: Mapping[str, str]) -> Callable[[str], str]:
    """Return the `type` of an option whose values were renamed.

    new_names: from the values of an earlier version, which are usage errors, to the new ones.
    """

    def check(value: str) -> str:
        if value in new_names:
            raise argparse.ArgumentTypeError(f"{value} is now {new_names[value]}; rename it")
        return value

    return check


def settings_option(parser: argparse.ArgumentParser) -> None:
    """Add --settings."""
    parser.add_argument(
        "--settings",
        type=Path,
        metavar="FILE",
        default=paths.SETTINGS if paths.SETTINGS.is_file() else None,
        help=f"settings file (default: {paths.SETTINGS} if it exists, else built-in settings)",
    )


def model_option(parser: argparse.ArgumentParser) -> None:
    """Add --model."""
    parser.add_argument(
        "--model",
        metavar="FOLDER",
        help="model bundle (default: the installed one)",
    )


def json_option(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def existing_options(parser: argparse.ArgumentParser) -> None:
    """Add --append and --overwrite, for `existing`."""
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--append",
        action="store_true",
        help="continue exported CSV or JSON lines that are there already",
    )
    choice.add_argument(
        "--overwrite",
        action="store_true",
        help="replace exported files that are there already",
    )


def existing(options: argparse.Namespace) -> "Existing":
    """Return what is done with an export that is there already, by --append and --overwrite."""
    from mien_edge.export.textfile import Existing

    if options.append:
        return Existing.APPEND
    return Existing.OVERWRITE if options.overwrite else Existing.REFUSE


def runtime_option(parser: argparse.ArgumentParser) -> None:
    """Add --runtime."""
    parser.add_argument(
        "--runtime",
        type=Path,
        metavar="FOLDER",
        help=f"runtime folder of the service (default: {paths.RUNTIME})",
    )


def log_option(parser: argparse.ArgumentParser) -> None:
    """Add --log."""
    parser.add_argument(
        "--log",
        type=Path,
        metavar="FILE",
        help="log file (default: the log of the service)",
    )


def settings_from(options: argparse.Namespace) -> "Settings":
    """Return the settings that a command runs with: the file's, overridden by its options.

    options: has `settings`, a Path or None for the defaults; may have `model` and `source`.

    Raises SettingsError.
    """
    from mien_edge.settings import load_settings

    settings = load_settings(options.settings)
    folder = getattr(options, "model", None)
    if folder:
        model = dataclasses.replace(settings.model, bundle=folder)
        settings = dataclasses.replace(settings, model=model)
    uri = getattr(options, "source", None)
    if uri:
        source = dataclasses.replace(settings.source, uri=uri)
        settings = dataclasses.replace(settings, source=source)
    return settings


def log_path(options: argparse.Namespace) -> Path:
    """Return the log to read: --log, else the settings' log, else readings.db in the state folder.

    Raises SettingsError for settings that cannot be read.
    """
    if options.log:
        return Path(options.log)
    from mien_edge.settings import load_settings

    return paths.log(load_settings(options.settings).log.path)


def service_log_path(options: argparse.Namespace, settings: "Settings") -> Path:
    """Return the log of mien.service, for a unit whose own state folder is another one."""
    if options.log:
        return Path(options.log)
    if settings.log.path:
        return Path(settings.log.path)
    return paths.STATE / paths.LOG_NAME
