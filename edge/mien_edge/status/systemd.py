"""Telling systemd that the service is ready and alive (sd_notify(3))."""

import os
import socket
import time
from contextlib import suppress

from mien_edge.values import Frame, Reading


def sd_notify(message: str) -> None:
    """Send one message to systemd; does nothing when it did not set NOTIFY_SOCKET."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    address = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, suppress(OSError):
        channel.sendto(message.encode(), address)


class Notifier:
    """READY=1 with the first sign of life, then WATCHDOG=1 with each, at most once a second. As a watcher it takes a
    frame that has gone through the chain for one.
    """

    def __init__(self) -> None:
        self._ready, self._fed = False, float("-inf")

    def __call__(self, frame: Frame, readings: tuple[Reading, ...]) -> None:
        """One frame has gone through."""
        self.ping_watchdog(f"frame {frame.index}, {len(readings)} faces")

    def ping_watchdog(self, status: str) -> None:
        """Work goes on; `status` is what systemctl shows."""
        if not self._ready:
            self._ready = True
            sd_notify("READY=1")
        if time.monotonic() - self._fed >= 1:
            self._fed = time.monotonic()
            sd_notify(f"WATCHDOG=1\nSTATUS={status}")

    def close(self) -> None:
        """The service stops."""
        sd_notify("STOPPING=1")
