"""Notifications to systemd that a service is ready and alive (sd_notify(3))."""

import os
import socket
import time
from contextlib import suppress

from mien_edge.values import Frame, Reading

_WATCHDOG_INTERVAL = 1.0  # seconds


def sd_notify(message: str) -> None:
    """Send one message to systemd; do nothing outside of a unit, where NOTIFY_SOCKET is not set."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # a socket in the abstract namespace
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, suppress(OSError):
        channel.sendto(message.encode(), address)


class Notifier:
    """Send READY=1 with the first sign of life, then WATCHDOG=1 with each, at most once a second.

    As a watcher it takes each frame that has gone through the chain for a sign of life.
    """

    def __init__(self) -> None:
        self._is_ready = False
        self._pinged_at = float("-inf")

    def __call__(self, frame: Frame, readings: tuple[Reading, ...]) -> None:
        """Ping the watchdog: one frame has gone through the chain."""
        self.ping_watchdog(f"frame {frame.index}, {len(readings)} faces")

    def ping_watchdog(self, status: str) -> None:
        """Tell systemd that work goes on; `status` is the line that systemctl shows."""
        if not self._is_ready:
            self._is_ready = True
            sd_notify("READY=1")
        now = time.monotonic()
        if now - self._pinged_at >= _WATCHDOG_INTERVAL:
            self._pinged_at = now
            sd_notify(f"WATCHDOG=1\nSTATUS={status}")

    def close(self) -> None:
        """Tell systemd that the service stops."""
        sd_notify("STOPPING=1")
