"""Where a device keeps things: the folders that systemd sets for a unit, or the service's."""

import os
from importlib.util import find_spec
from pathlib import Path

STATE = Path("/var/lib/mien")
RUNTIME = Path("/run/mien")
SETTINGS = Path("/etc/mien/mien.toml")
LOG_NAME = "readings.db"


def package_file(package: str, file: str) -> Path | None:
    """Return the path of `file` in an installed package; None if there is no such package.

    The package is not imported, and the file need not exist. importlib.metadata would take four
    megabytes of memory for the same.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / file


def systemd_directory(variable: str) -> Path | None:
    """Return the first folder of a variable that systemd sets for a unit; None outside of one.

    variable: such as STATE_DIRECTORY.
    """
    folder = os.environ.get(variable, "").split(":")[0]
    return Path(folder) if folder else None


def state() -> Path:
    """Return the folder that outlives a restart."""
    return systemd_directory("STATE_DIRECTORY") or STATE


def runtime() -> Path:
    """Return the folder in memory that a restart empties."""
    return systemd_directory("RUNTIME_DIRECTORY") or RUNTIME


def preview(runtime_folder: Path) -> Path:
    """Return the socket that sends the live picture, in a folder of its own.

    runtime_folder: of the camera's service; who may read the status there may not see pictures, so
        the socket's folder stands beside it, with an owner and a group of its own.
    """
    return Path(f"{runtime_folder.absolute()}-preview") / "preview.sock"


def log(setting: str) -> Path:
    """Return the on-device log.

    setting: log.path; empty for LOG_NAME in the state folder.
    """
    return Path(setting) if setting else state() / LOG_NAME
