"""The command `mien-edge`.

A command's module is imported when that command runs or prints its help, and not before: a process
that has the network must not even load the code for pictures, and it needs no memory for it.
"""

import argparse
import os
import sys
import threading
from collections.abc import Sequence

from mien_edge import __version__
from mien_edge.commands.common import CommandParser, MaskingParser, describe, guarded

COMMANDS = (
    ("run", "read expressions from a source, until it ends or is stopped", "run:configure"),
    (
        "check",
        "verify a model bundle and replay its golden vectors on this device",
        "check:configure_check",
    ),
    (
        "bench",
        "measure milliseconds per stage, memory and start-up time on this device",
        "bench:configure",
    ),
    ("logs", "read the on-device log", "logs:configure"),
    (
        "publish",
        "publish the log to an MQTT broker, until stopped",
        "services:configure_publish",
    ),
    (
        "view",
        "serve a web page with picture, labels, timeline and health, until stopped",
        "services:configure_view",
    ),
    (
        "status",
        "show the service's status; exits 1 if there is a problem",
        "services:configure_status",
    ),
    (
        "doctor",
        "look for problems of this device and show their fixes; "
        "exits 0 for none, 1 for warnings, 2 for errors",
        "doctor:configure",
    ),
    (
        "models",
        "install, compare, activate and remove model bundles on this device",
        "models:configure_models",
    ),
    (
        "receive",
        "install and activate a bundle from a tar archive on standard input; "
        "for restricted SSH keys",
        "models:configure_receive",
    ),
    (
        "init",
        "ask what the device is used for and write its settings file",
        "purpose:configure_init",
    ),
    (
        "notice",
        "write a printable notice for the people in front of the camera",
        "purpose:configure_notice",
    ),
    (
        "settings",
        "print a settings file that explains every key",
        "check:configure_settings",
    ),
)
"""Each command's name, its help, and the function of mien_edge.commands that adds its options."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    arguments: the words after `mien-edge`; None for those of this process.

    Returns the exit code: 0 for success, 1 for an error (one line on stderr), 130 when interrupted;
    some commands have others. Raises SystemExit with 2 for wrong usage, and with 0 after --help.
    """
    # Before NumPy is loaded: its matrices here are tiny, and OpenBLAS' other threads would spin for
    # 40 milliseconds after each product, eight times what the whole chain takes.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    return guarded("mien-edge", parser, arguments)


def script() -> None:
    """Run as the console script: as `main`, and exit although a camera driver hangs in a thread."""
    code = main()
    camera = sys.modules.get("mien_edge.chain.camera")
    if camera and any(thread.name == camera.THREAD for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; a command's options are added when it is used."""
    text = "Read facial expressions from a camera, on the device."
    top = MaskingParser(prog="mien-edge", description=text)
    top.add_argument("--version", action="version", version=f"mien-edge {__version__}")
    commands = top.add_subparsers(
        title="commands",
        required=True,
        metavar="COMMAND",
        parser_class=CommandParser,
    )
    for name, text, function in COMMANDS:
        commands.add_parser(
            name,
            help=text,
            description=describe(text),
            configure=f"mien_edge.commands.{function}",
        )
    return top
