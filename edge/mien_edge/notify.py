"""Telling systemd that the service is ready and alive (sd_notify(3))."""

import os
import socket
import time
from contextlib import suppress

from mien_edge.values import Frame, Reading


class Notifier:
    """A watcher: READY=1 after the first frame has gone through the chain, then WATCHDOG=1 with each, at most once a
    second. Does nothing when systemd did not set NOTIFY_SOCKET.
    """

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        self._ready, self._fed = False, 0.0

    def __call__(self, frame: Frame, readings: tuple[Reading, ...]) -> None:
        """One frame has gone through."""
        if not self._ready:
            self._ready = True
            self._send("READY=1")
        if time.monotonic() - self._fed >= 1:
            self._fed = time.monotonic()
            self._send(f"WATCHDOG=1\nSTATUS=frame {frame.index}, {len(readings)} faces")

    def close(self) -> None:
        """The service stops."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, suppress(OSError):
            channel.sendto(message.encode(), address)
