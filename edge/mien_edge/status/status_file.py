"""What the running service tells of itself: one small file in memory, written anew each second.

It holds readings and health, no pixels. Whoever shows or publishes how things are reads this file; nothing else of the
service can be asked, for it has no network.
"""

import json
import os
import signal
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

from mien_edge.errors import SourceError

NAME, SOCKET = "status.json", "view.sock"
STALE = 15.0  # seconds without a frame after which something is wrong


def write(folder: Path, facts: dict[str, Any]) -> None:
    """Replace the folder's status. Not synced: it is memory; renamed, for a reader must never see half a file. A
    status that cannot be told is no reason to stop.
    """
    path = folder / NAME
    temporary = path.with_suffix(".new")
    with suppress(OSError):
        temporary.write_text(json.dumps(facts) + "\n")
        temporary.replace(path)


def send_reload_signal(folder: Path) -> bool:
    """Send the service SIGHUP, so that it looks for another model; whether there is one that could be told."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door, suppress(OSError):
        door.connect(str(folder / SOCKET))
        pid, _, _ = struct.unpack("3i", door.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
        os.kill(pid, signal.SIGHUP)  # who listens there, and not a number that stands in a file
        return True
    return False


def read(folder: Path) -> dict[str, Any]:
    """What the service told last. Raises SourceError if it does not run."""
    path = folder / NAME
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        raise SourceError(f"{path}: the service does not run here; start it with: sudo systemctl start mien") from None
    except (OSError, ValueError) as problem:
        raise SourceError(f"{path}: cannot be read ({problem}); run it as root or as the user mien") from None
