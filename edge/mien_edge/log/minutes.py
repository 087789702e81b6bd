"""Face-seconds per label and minute: what is kept when single readings are gone."""

from collections import Counter
from collections.abc import Iterable

from mien_edge.values import Reading

ALL = ""  # the row of a minute over all labels
NONE = "none"  # the label of a face that has none

Row = tuple[int, str, float, int]
"""Start of the minute (seconds since 1970), label, seconds, the most faces with it in one frame."""

_LONGEST = 12.0  # seconds between two frames of a chain that rests at its slowest
_NOMINAL = 0.1  # seconds that a frame counts whose predecessor had no face


class Minutes:
    """A sink that adds up how long faces were seen with each label, by the time of capture.

    A frame counts for the time since the frame before, if that had a face; seconds of several faces add up. Faces are
    counted in one frame, not by their numbers: one person who is lost and found again is one person.
    """

    def __init__(self) -> None:
        self._seconds: dict[tuple[int, str], float] = {}
        self._faces: dict[tuple[int, str], int] = {}
        self._then = float("-inf")

    def __call__(self, readings: tuple[Reading, ...]) -> None:
        """Add the readings of one frame."""
        if not readings:
            self._then = float("-inf")
            return
        now = readings[0].time
        gap = now - self._then
        self._then = now
        counts = Counter(reading.label or NONE for reading in readings)
        for label, count in [*counts.items(), (ALL, len(readings))]:
            key = int(now // 60) * 60, label
            spent = gap if 0 < gap <= _LONGEST else _NOMINAL
            self._seconds[key] = self._seconds.get(key, 0.0) + spent * count
            self._faces[key] = max(self._faces.get(key, 0), count)

    def over(self, now: float) -> list[Row]:
        """The minutes that are over at `now` (seconds since 1970)."""
        return [
            (*key, round(seconds, 3), self._faces[key]) for key, seconds in self._seconds.items() if key[0] + 60 <= now
        ]

    def forget(self, rows: Iterable[Row]) -> None:
        """Drop minutes that have been kept elsewhere."""
        for minute, label, *_ in rows:
            del self._seconds[minute, label], self._faces[minute, label]

    def move(self, step: float, now: float) -> None:
        """The clock was set by `step` seconds and says `now`: shift what was added before."""
        whole = round(step / 60) * 60

        def moved(key: tuple[int, str]) -> tuple[int, str]:
            return (key[0] + whole if abs(key[0] + step - now) < abs(key[0] - now) else key[0], key[1])

        seconds, faces = self._seconds, self._faces
        self._seconds, self._faces = {}, {}
        for key, value in seconds.items():
            self._seconds[moved(key)] = self._seconds.get(moved(key), 0.0) + value
            self._faces[moved(key)] = max(self._faces.get(moved(key), 0), faces[key])
