"""Where a device keeps things: what systemd gives the service, or where the service would have them."""

import os
from importlib.util import find_spec
from pathlib import Path

STATE = Path("/var/lib/mien")
RUNTIME = Path("/run/mien")
SETTINGS = Path("/etc/mien/mien.toml")
LOG_NAME = "readings.db"


def package_file(package: str, file: str) -> Path | None:
    """Where an installed `package` has `file`, without importing it; None without the package.

    importlib.metadata would take four megabytes of memory for the same.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / file


def systemd_directory(variable: str) -> Path | None:
    """The first folder of a variable that systemd sets for a unit, such as STATE_DIRECTORY; None outside of one."""
    folder = os.environ.get(variable, "").split(":")[0]
    return Path(folder) if folder else None


def state() -> Path:
    """The folder that outlives a restart."""
    return systemd_directory("STATE_DIRECTORY") or STATE


def runtime() -> Path:
    """The folder in memory that a restart empties."""
    return systemd_directory("RUNTIME_DIRECTORY") or RUNTIME


def log(named: str) -> Path:
    """The on-device log: the setting's, or readings.db in the state folder."""
    return Path(named) if named else state() / LOG_NAME
