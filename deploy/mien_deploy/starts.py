"""Connections are begun a few at a time, and an aborted one is tried again.

An sshd drops connections that have not logged in yet once there are many of them: from the tenth on
by default (MaxStartups 10:30:100, sshd_config(5)). A jump host meets those of the whole fleet.
"""

import random
import threading
import time
from collections.abc import Callable

from mien_deploy import process

MAX_STARTS = 8
"""How many connections are begun at the same time: fewer than sshd's default of 10."""

ATTEMPTS = 6
"""How often a connection is begun that sshd drops before the login."""

_START_SECONDS = 10.0
_FIRST_DELAY = 0.5  # seconds
_CHECK_SECONDS = 0.5

_DROPPED = ("kex_exchange_identification", "ssh_exchange_identification", "Exceeded MaxStartups")
_FINAL = (
    "stdio forwarding failed",
    "Permission denied",
    "Could not resolve",
    "verification failed",
    "Connection refused",
    "No route to host",
    "timed out",
)


def is_dropped(errors: str) -> bool:
    """Return whether sshd, or a jump host's, dropped the connection before the login.

    errors: what ssh printed. What would fail again the same way does not count.
    """
    if any(word in errors for word in _FINAL):
        return False
    return any(word in errors for word in _DROPPED)


def delay(attempt: int) -> float:
    """Return the seconds to wait after an attempt (from 1) that was dropped, with jitter."""
    return _FIRST_DELAY * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)  # noqa: S311


class Starts:
    """A bound on the connections that have begun and not logged in.

    One that takes longer than ten seconds does not count any more: devices that hang hold up
    nobody else.
    """

    def __init__(
        self, maximum: int = MAX_STARTS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._maximum = maximum
        self._clock = clock
        self._condition = threading.Condition()
        self._start_times: dict[object, float] = {}

    def begin(self) -> object:
        """Wait for a free place and take it; returns the place. Raises DeployError if stopped."""
        place = object()
        with self._condition:
            while self._count() >= self._maximum:
                self._condition.wait(_CHECK_SECONDS)
                process.pause(0)
            self._start_times[place] = self._clock()
        return place

    def end(self, place: object) -> None:
        """Free a place, if it is not free already."""
        with self._condition:
            if self._start_times.pop(place, None) is not None:
                self._condition.notify()

    def _count(self) -> int:
        oldest = self._clock() - _START_SECONDS
        return sum(start > oldest for start in self._start_times.values())


STARTS = Starts()
"""Of all connections of this program."""
