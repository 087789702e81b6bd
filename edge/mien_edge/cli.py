"""The command `mien-edge`."""

import argparse
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from mien_edge import __version__
from mien_edge.commands.bench import add_bench
from mien_edge.commands.check import add_check, print_settings
from mien_edge.commands.common import add_command, guarded
from mien_edge.commands.doctor import add_doctor
from mien_edge.commands.logs import add_logs
from mien_edge.commands.models import add_models
from mien_edge.commands.purpose import add_init
from mien_edge.commands.run import add_run
from mien_edge.commands.services import add_publish, add_status, add_view


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 for success, 1 for an error (one line on stderr), 2 for usage."""
    # Before NumPy is loaded: its matrices here are tiny, and OpenBLAS' other threads would spin for 40 milliseconds
    # after each product, eight times what the whole chain takes.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    return guarded("mien-edge", parser(), arguments)


def script() -> None:
    """The console script: as `main`, and never held back at its end by a camera driver that hangs."""
    code = main()
    camera = sys.modules.get("mien_edge.chain.camera")
    if camera and any(thread.name == camera.THREAD for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    top = argparse.ArgumentParser(prog="mien-edge", description="Read facial expressions from a camera, on the device.")
    top.add_argument("--version", action="version", version=f"mien-edge {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    add_run(commands)
    add_check(commands)
    add_bench(commands)
    add_logs(commands)
    add_publish(commands)
    add_view(commands)
    add_status(commands)
    add_doctor(commands)
    add_models(commands)
    add_init(commands)
    show = add_command(commands, "settings", "print a settings file that explains every key", print_settings)
    show.add_argument(
        "--settings", type=Path, metavar="FILE", help="print the settings of this file (default: built-in settings)"
    )
    return top
