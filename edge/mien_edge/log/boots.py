"""Which entries of the log were written between one start of the machine and the next, and how old
they are at least.

The order of ids is the order of writing, whatever a clock showed. So an entry's age has two lower
bounds, and it is removed for its age only if one of them exceeds the limit:

- the time that the machine has run since the entry was written, added up over all later boots;
- where a time server has set the clock, in the entry's boot and in this one: what the wall clock
  says. An entry of a boot that never learnt the time is at least as old as the next one that did.

So a clock that is wrong, in the past or in the future, removes nothing.
"""

import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import accumulate

from mien_edge.log.damage import damage

SCHEMA = """
CREATE TABLE IF NOT EXISTS boots (
  boot INTEGER PRIMARY KEY,
  kernel_id TEXT NOT NULL,
  last_reading INTEGER NOT NULL,
  last_event INTEGER NOT NULL,
  last_run INTEGER NOT NULL,
  clock_offset REAL NOT NULL,
  synchronized INTEGER NOT NULL,
  first_seen REAL NOT NULL,
  last_seen REAL NOT NULL
);
"""

_MAX_BOOTS = 1000  # older ones are forgotten: their entries count as older than the oldest boot
_INSERT = "INSERT OR REPLACE INTO boots VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Boot:
    """A row of the table `boots`: the time from one start of the machine to the next.

    number: from 1 on.
    kernel_id: the kernel's boot id.
    last_reading, last_event: the greatest ids before this boot.
    last_run: the greatest run of `minutes` before this boot.
    clock_offset: the wall clock minus `since_boot`, in seconds.
    synchronized: whether a time server has set the clock in this boot.
    first_seen, last_seen: seconds of `since_boot` when the log was first opened and last known to
        be open.
    """

    number: int
    kernel_id: str
    last_reading: int
    last_event: int
    last_run: int
    clock_offset: float
    synchronized: bool
    first_seen: float
    last_seen: float


def read_boots(connection: sqlite3.Connection) -> list[Boot]:
    """Return all boots, the oldest first. Raises sqlite3.Error, also for values that are none of a
    boot's."""
    rows = connection.execute("SELECT * FROM boots ORDER BY boot").fetchall()
    for number, kernel_id, *values in rows:
        are_numbers = all(isinstance(value, int | float) for value in (number, *values))
        if not (are_numbers and isinstance(kernel_id, str)):
            raise damage("the boots are none")
    boots = [Boot(*row) for row in rows]
    return [replace(boot, synchronized=bool(boot.synchronized)) for boot in boots]


def write_boot(connection: sqlite3.Connection, boot: Boot) -> None:
    """Write a boot, and forget the oldest above 1000. Raises sqlite3.Error."""
    connection.execute(_INSERT, astuple(boot))
    connection.execute("DELETE FROM boots WHERE boot <= ?", (boot.number - _MAX_BOOTS,))


class Ages:
    """Lower bounds of the ages of entries, in seconds.

    boots: all boots, the oldest first, the last one the present one.
    now: the wall clock, seconds since 1970; monotonic: seconds of `since_boot`.
    is_clock_trusted: whether the wall clock is right now.
    """

    def __init__(
        self, boots: Sequence[Boot], now: float, monotonic: float, is_clock_trusted: bool
    ) -> None:
        self._now = now
        self._is_clock_trusted = is_clock_trusted
        present = replace(boots[-1], last_seen=monotonic)
        self._boots = [*boots[:-1], present]
        self._age_at_end = self._ages_at_end()
        self._readings = _Numbers(boot.last_reading for boot in boots)
        self._events = _Numbers(boot.last_event for boot in boots)
        self._runs = _Numbers(boot.last_run for boot in boots)

    def _ages_at_end(self) -> list[float]:
        """For each boot the least time since its end; the last one, of the present boot, is 0."""
        age = 0.0
        ages = [age]
        for boot in reversed(self._boots[1:]):
            age += max(boot.last_seen - boot.first_seen, 0.0)
            if self._is_clock_trusted and boot.synchronized:
                start = boot.first_seen + boot.clock_offset
                age = max(age, self._now - start)
            ages.append(age)
        ages.reverse()
        return ages

    def of_reading(self, number: int, time: float, monotonic: float) -> float:
        """The least age of a reading.

        number: its id; time, monotonic: when it was captured and when it was taken for the log.
        """
        return self._of_entry(self._readings.boot_index(number), time, monotonic)

    def of_event(self, number: int, time: float, monotonic: float) -> float:
        """The least age of an event; as for `of_reading`."""
        return self._of_entry(self._events.boot_index(number), time, monotonic)

    def of_minute(self, run: int, minute: float) -> float:
        """The least age of a minute's sums, which have no time of `since_boot`.

        minute: its start, seconds since 1970.
        """
        index = self._runs.boot_index(run)
        if index < 0:
            return self._of_entry(index, minute, 0.0)
        boot = self._boots[index]
        monotonic = max(minute - boot.clock_offset, boot.first_seen)
        return self._of_entry(index, minute, monotonic)

    def _of_entry(self, index: int, time: float, monotonic: float) -> float:
        if index < 0:  # before the first boot that is known
            first = self._boots[0]
            return self._age_at_end[0] + max(first.last_seen - first.first_seen, 0.0)
        boot = self._boots[index]
        # By both clocks: what an earlier mien or a copy of the log brought in has not been written
        # in the boot that it seems to belong to.
        by_wall = boot.last_seen + boot.clock_offset - time
        age_then = min(boot.last_seen - monotonic, by_wall)
        age = self._age_at_end[index] + max(age_then, 0.0)
        if self._is_clock_trusted and boot.synchronized:
            age = max(age, self._now - time)
        return age


class _Numbers:
    """The ids, or runs, with which the boots began; hundreds of entries are looked up at once.

    last_before: the greatest number before each boot, the oldest boot first.
    """

    def __init__(self, last_before: Iterable[int]) -> None:
        # Runs begin anew where all minutes are gone; the least from each boot on only grows.
        least_from_here = list(accumulate(reversed(list(last_before)), min))
        least_from_here.reverse()
        self._least_from_here = least_from_here

    def boot_index(self, number: int) -> int:
        """Return the last boot that began before an entry; -1 if it is older than all."""
        return bisect_left(self._least_from_here, number) - 1
