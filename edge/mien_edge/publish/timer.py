"""When something is due: again and again, or after a failure."""

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds of a clock that nobody sets, as time.monotonic."""


class Timer:
    """Says when something that is repeated is due; it is due at once when it is new.

    interval: seconds from `restart` until it is due again.
    clock: seconds that only grow.
    """

    def __init__(self, interval: float, clock: Clock = time.monotonic) -> None:
        self.interval = interval
        self._clock = clock
        self._due_at = float("-inf")

    def due(self) -> bool:
        """Whether it is time."""
        return self._clock() >= self._due_at

    def restart(self) -> None:
        """Be due after `interval` seconds from now."""
        self._due_at = self._clock() + self.interval

    def expire(self) -> None:
        """Be due at once."""
        self._due_at = float("-inf")


class Backoff:
    """The pause before another attempt, which doubles with each failure.

    first: seconds after the first failure.
    longest: seconds that a pause never exceeds.
    clock: seconds that only grow.
    """

    def __init__(self, first: float, longest: float, clock: Clock = time.monotonic) -> None:
        self.first = first
        self.longest = longest
        self._clock = clock
        self._pause = first
        self._retry_at = float("-inf")

    def failed(self) -> None:
        """An attempt failed: begin a pause."""
        self._retry_at = self._clock() + self._pause
        self._pause = min(self._pause * 2, self.longest)

    def succeeded(self) -> None:
        """An attempt succeeded: the next pause is the first again."""
        self._pause = self.first

    def remaining(self) -> float:
        """Seconds until the next attempt; 0 if it may be made now."""
        return max(self._retry_at - self._clock(), 0.0)
