"""The environment that a systemd unit gives its program, for commands that measure in it."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from mien_edge.commands.service_access import assignments
from mien_edge.errors import SettingsError

SERVICE_VARIABLES = {
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "67108864",
}
"""What mien.service sets, as it ships (a test compares), for machines where it is not installed."""

SERVICE = "mien.service"
_KEPT = ("PATH", "HOME", "LANG", "PYTHONPATH")


def unit_variables(unit: str) -> dict[str, str]:
    """Return the variables that a unit sets (Environment= of systemd.exec(5)).

    unit: name of an installed unit, with its drop-ins, or path of a unit's file.

    Raises SettingsError if there is no such unit.
    """
    variables: dict[str, str] = {}
    for key, value in assignments(_unit_text(unit)):
        if key != "Environment":
            continue
        if not value:
            variables.clear()  # as an empty assignment does in systemd
        for assignment in shlex.split(value):
            name, _, content = assignment.partition("=")
            variables[name] = content
    return variables


def service_variables() -> dict[str, str]:
    """Return the variables of the service: of the installed unit, or of the one that ships."""
    try:
        return unit_variables(SERVICE)
    except SettingsError:
        return SERVICE_VARIABLES


def run_in_environment(variables: dict[str, str], arguments: list[str]) -> dict[str, str]:
    """Return `variables`, once this process has them.

    A process that has not is replaced by `mien-edge` with these arguments and the variables, in
    which little of the shell's is left: glibc reads its variables at the start.
    """
    if all(os.environ.get(name) == value for name, value in variables.items()):
        return variables
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    command = [sys.executable, "-P", "-m", "mien_edge", *arguments]
    os.execve(sys.executable, command, environment | variables)  # noqa: S606 - no shell


def _unit_text(unit: str) -> str:
    path = Path(unit)
    try:
        if path.is_file():
            return path.read_text(encoding="utf-8")
        command = ["systemctl", "cat", "--no-pager", "--", unit]
        result = subprocess.run(command, capture_output=True, text=True)
    except (OSError, UnicodeDecodeError) as problem:
        raise SettingsError(f"{unit}: cannot be read ({problem}); name a unit's file") from None
    if result.returncode:
        raise SettingsError(f"{unit}: no such unit is installed here; name a unit's file")
    return result.stdout
