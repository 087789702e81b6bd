"""Face-seconds per label and minute: what is kept when single readings are gone."""

from collections.abc import Iterable

from mien_edge.values import Reading

ALL = ""  # the row of a minute over all labels
NONE = "none"  # the label of a face that has none

Row = tuple[int, str, float, int]
"""Start of the minute (seconds since 1970), label, seconds, how many different faces."""

_NOMINAL = 0.1  # seconds that a frame counts whose predecessor is not of the last second


class Minutes:
    """A sink that adds up how long faces were seen with each label, by the time of capture.

    A frame counts for the time since the last frame with a face; seconds of several faces add up.
    """

    def __init__(self) -> None:
        self._seconds: dict[tuple[int, str], float] = {}
        self._faces: dict[tuple[int, str], set[int]] = {}
        self._then = 0.0

    def __call__(self, readings: tuple[Reading, ...]) -> None:
        """Add the readings of one frame."""
        if not readings:
            return
        now = readings[0].time
        gap = now - self._then
        self._then = now
        for reading in readings:
            for label in (reading.label or NONE, ALL):
                key = int(now // 60) * 60, label
                self._seconds[key] = self._seconds.get(key, 0.0) + (gap if 0 < gap <= 1 else _NOMINAL)
                self._faces.setdefault(key, set()).add(reading.track)

    def over(self, now: float) -> list[Row]:
        """The minutes that are over at `now` (seconds since 1970)."""
        return [
            (*key, round(seconds, 3), len(self._faces[key]))
            for key, seconds in self._seconds.items()
            if key[0] + 60 <= now
        ]

    def forget(self, rows: Iterable[Row]) -> None:
        """Drop minutes that have been kept elsewhere."""
        for minute, label, *_ in rows:
            del self._seconds[minute, label], self._faces[minute, label]

    def move(self, step: float) -> None:
        """The clock was wrong by `step` seconds: shift what was added under it."""
        now, whole = self._then, round(step / 60) * 60

        def moved(key: tuple[int, str]) -> tuple[int, str]:
            return (key[0] + whole if abs(key[0] + step - now) < abs(key[0] - now) else key[0], key[1])

        self._seconds = {moved(key): seconds for key, seconds in self._seconds.items()}
        self._faces = {moved(key): faces for key, faces in self._faces.items()}
