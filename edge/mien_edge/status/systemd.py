"""Notifications to systemd that a service is ready and alive (sd_notify(3))."""

import os
import socket
import time
from contextlib import suppress

from mien_edge.values import Frame, Reading

_WATCHDOG_INTERVAL = 1.0  # seconds


class Notifier:
    """Send READY=1 with the first sign of life, then WATCHDOG=1 with each, at most once a second.

    Outside of a unit, where NOTIFY_SOCKET is not set, it sends nothing. As a watcher it takes each
    frame that has gone through the chain for a sign of life.
    """

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        if address.startswith("@"):
            address = "\0" + address[1:]  # a socket in the abstract namespace
        self._address = address
        # Opened once: a process that has run out of file descriptors still beats.
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        self._is_ready = False
        self._pinged_at = float("-inf")

    def __call__(self, frame: Frame, readings: tuple[Reading, ...]) -> None:
        """Ping the watchdog: one frame has gone through the chain."""
        self.ping_watchdog(f"frame {frame.index}, {len(readings)} faces")

    def ping_watchdog(self, status: str) -> None:
        """Tell systemd that work goes on; `status` is the line that systemctl shows."""
        if not self._is_ready:
            self._is_ready = True
            self._send("READY=1")
        now = time.monotonic()
        if now - self._pinged_at >= _WATCHDOG_INTERVAL:
            self._pinged_at = now
            self._send(f"WATCHDOG=1\nSTATUS={status}")

    def _send(self, message: str) -> None:
        if self._channel is not None:
            with suppress(OSError):
                self._channel.sendto(message.encode(), self._address)

    def close(self) -> None:
        """Tell systemd that the service stops."""
        self._send("STOPPING=1")
        if self._channel is not None:
            self._channel.close()
            self._channel = None
