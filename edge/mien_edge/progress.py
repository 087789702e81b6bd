"""How far something long is: a line on standard error now and then."""

import sys
import time
from collections.abc import Callable

_INTERVAL = 30.0  # seconds between two lines


class ProgressLines:
    """Says how far something is, at most every half a minute, and nothing where it is short.

    title: what it is, such as 'reading fer2013.csv'.
    unit: what is counted, in the plural.
    total: how many there are; None where nobody knows.
    done: how many are finished before the first step.
    monotonic: the clock, in seconds.
    write: called with each line, which ends in a line break; None for standard error.
    """

    def __init__(
        self,
        title: str,
        unit: str,
        total: int | None = None,
        done: int = 0,
        monotonic: Callable[[], float] = time.monotonic,
        write: Callable[[str], None] | None = None,
    ) -> None:
        self.title = title
        self.unit = unit
        self.total = total
        self.done = done
        self._monotonic = monotonic
        self._write = write or _write_to_stderr
        self._first = done
        self._started_at = monotonic()
        self._told_at = self._started_at

    def update(self, count: int = 1, note: str = "") -> None:
        """Count steps that are done; `note` follows in the line, if one is due."""
        self.done += count
        now = self._monotonic()
        if now - self._told_at >= _INTERVAL:
            self._told_at = now
            self._write(f"{self._line(now)}{f', {note}' if note else ''}\n")

    def _line(self, now: float) -> str:
        seconds = now - self._started_at
        steps = self.done - self._first
        if self.total is None:
            return f"{self.title}: {self.done:,} {self.unit} in {_duration(seconds)}"
        share = self.done / max(self.total, 1)
        line = f"{self.title}: {self.done:,} of {self.total:,} {self.unit} ({share:.0%})"
        if steps and self.done < self.total:
            left = seconds / steps * (self.total - self.done)
            line += f", about {_duration(left)} left"
        return line


def _write_to_stderr(line: str) -> None:
    sys.stderr.write(line)
    sys.stderr.flush()


def _duration(seconds: float) -> str:
    """Seconds as 1:02:03, or as 2:03 below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
