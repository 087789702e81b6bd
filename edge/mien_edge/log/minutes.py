"""Face-seconds per label and minute: what the log keeps when single readings are gone."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from mien_edge.labels import NONE, ordered
from mien_edge.values import Reading

ALL = ""  # the label of the row that counts all faces of a minute

_MINUTE = 60  # seconds
_MAX_GAP = 12.0  # seconds between two frames of a chain that idles at its slowest
_FIRST_FRAME = 0.1  # seconds that a frame counts for whose predecessor had no face


@dataclass(frozen=True, slots=True)
class MinuteSummary:
    """Face-seconds of a span of time: a minute, or several minutes added up.

    time: its start, whole seconds since 1970.
    seconds: face-seconds per label, and under 'none' those without a label; absent where there were
        none.
    faces: the most faces in one frame.
    """

    time: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    faces: int = 0

    @property
    def face_seconds(self) -> float:
        """Face-seconds of all labels together."""
        return sum(self.seconds.values())

    def shares(self, labels: Iterable[str] = ()) -> dict[str, float]:
        """Return the share of each label and of 'none' in all face-seconds, to four digits.

        labels: they are there also where nobody showed them, with 0, as 'none' is.
        """
        total = self.face_seconds or 1.0
        seen = (label for label in self.seconds if label != NONE)
        names = (*ordered((*labels, *seen)), NONE)
        return {label: round(self.seconds.get(label, 0.0) / total, 4) for label in names}


class MinuteRow(NamedTuple):
    """A label's part in one minute, as the log stores it.

    minute: its start, whole seconds since 1970.
    label: a label, NONE or ALL.
    seconds: face-seconds.
    faces: the most faces with that label in one frame.
    source: the video file's name, else empty.
    """

    minute: int
    label: str
    seconds: float
    faces: int
    source: str = ""

    @property
    def key(self) -> "_Key":
        """What it was added up by."""
        return _Key(self.minute, self.label, self.source)


class _Key(NamedTuple):
    minute: int
    label: str
    source: str


class Minutes:
    """Add up how long faces were seen with each label.

    A frame counts for the time since the frame before of the same source, if that had a face, and
    in a video file for as long as it lasts there; the minute is that of the frame's `time`. Seconds
    of several faces add up. Faces are counted in one frame, not by their track: one person who is
    lost and detected again is one person."""

    def __init__(self) -> None:
        self._seconds: dict[_Key, float] = {}
        self._faces: dict[_Key, int] = {}
        self._last: Reading | None = None  # one of the frame before, if that had a face

    def __call__(self, readings: tuple[Reading, ...]) -> None:
        """Add the readings of one frame."""
        if not readings:
            self._last = None
            return
        reading = readings[0]
        duration = _seconds_between(self._last, reading)
        self._last = reading
        minute = int(reading.time // _MINUTE) * _MINUTE
        counts = Counter(reading.label or NONE for reading in readings)
        counts[ALL] = len(readings)
        source = reading.source if reading.position is not None else ""
        for label, count in counts.items():
            self._add(_Key(minute, label, source), duration * count, count)

    def _add(self, key: _Key, seconds: float, faces: int) -> None:
        self._seconds[key] = self._seconds.get(key, 0.0) + seconds
        self._faces[key] = max(self._faces.get(key, 0), faces)

    def completed(self, now: float) -> list[MinuteRow]:
        """Return the minutes that have ended at `now` (seconds since 1970)."""
        rows = []
        for key, seconds in self._seconds.items():
            if key.minute + _MINUTE <= now:
                faces = self._faces[key]
                rows.append(MinuteRow(key.minute, key.label, round(seconds, 3), faces, key.source))
        return rows

    def faces(self, row: MinuteRow) -> int:
        """Return the most faces, of any label, in one frame of the minute and source of a row."""
        return self._faces.get(row.key._replace(label=ALL), 0)

    def drop(self, rows: Iterable[MinuteRow]) -> None:
        """Forget minutes that are stored elsewhere now."""
        for row in rows:
            del self._seconds[row.key]
            del self._faces[row.key]

    def shift(self, step: float, now: float) -> None:
        """Move what was added before the clock was set.

        step: seconds by which the clock was set; now: what it shows since then (seconds since
        1970)."""
        old_seconds = self._seconds
        old_faces = self._faces
        self._seconds = {}
        self._faces = {}
        for key, seconds in old_seconds.items():
            shifted = key._replace(minute=_shifted(key.minute, step, now))
            self._add(shifted, seconds, old_faces[key])


def _seconds_between(previous: Reading | None, reading: Reading) -> float:
    """How long a frame counts: since the frame before, if that tells."""
    if previous is None or previous.source != reading.source:
        return _FIRST_FRAME
    gap = reading.source_time - previous.source_time
    # A camera may have stood still between two frames that are far apart; a file shows the first
    # of them all the while.
    is_known = gap <= _MAX_GAP or reading.position is not None
    return gap if gap > 0 and is_known else _FIRST_FRAME


def _shifted(minute: int, step: float, now: float) -> int:
    """The minute by the clock as it is set now; one that is nearer to `now` as it is was counted
    after the step.
    """
    is_nearer_shifted = abs(minute + step - now) < abs(minute - now)
    return minute + whole_minutes(step) if is_nearer_shifted else minute


def whole_minutes(step: float) -> int:
    """Return a step of the clock, in seconds, rounded to whole minutes."""
    return round(step / _MINUTE) * _MINUTE
