"""Hours as people count them: those of the local clock, in any zone and when it changes."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import groupby

from mien_edge.log.minutes import MinuteSummary

QUARTER = 900
"""Seconds. The offset from UTC of every zone in use is a multiple of it (tz database, 2026)."""

_HOUR = 3600  # seconds
_MINUTE = 60


def hour_start(time: float) -> int:
    """Return when the local hour that holds `time` began; both are seconds since 1970.

    An hour that a change of the clock has cut in two begins at the change.
    """
    local = datetime.fromtimestamp(time)
    start = int(time) - local.minute * _MINUTE - local.second
    offset = _utc_offset(time)
    while _utc_offset(start) != offset:
        start += QUARTER
    return start


def _utc_offset(time: float) -> timedelta | None:
    return datetime.fromtimestamp(time).astimezone().utcoffset()


def local_hours(first: float, last: float) -> Iterator[int]:
    """Yield the starts of all local hours from the one that holds `first` to that of `last`."""
    start = hour_start(first)
    while start <= last:
        yield start
        start = hour_start(start + _HOUR)


def by_local_hour(quarters: Iterable[MinuteSummary]) -> Iterator[MinuteSummary]:
    """Add up quarters of an hour, oldest first, to local hours."""
    for start, parts in groupby(quarters, key=lambda quarter: hour_start(quarter.time)):
        yield _sum(start, list(parts))


def _sum(start: int, parts: list[MinuteSummary]) -> MinuteSummary:
    seconds: dict[str, float] = {}
    for part in parts:
        for label, value in part.seconds.items():
            seconds[label] = seconds.get(label, 0.0) + value
    return MinuteSummary(start, seconds, max(part.faces for part in parts))
