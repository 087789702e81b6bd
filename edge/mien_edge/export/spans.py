"""How long a state lasts in a video, from its frames: for subtitles and annotation tiers."""

from dataclasses import dataclass
from typing import Protocol

from mien_edge.values import Reading

_FIRST_INTERVAL = 0.04  # seconds that a frame lasts where no other tells
_MAX_CAMERA_GAP = 12.0  # seconds between two frames of a chain that idles at its slowest


class FrameTime(Protocol):
    """What is needed of a values.Frame here: its time, not its pixels."""

    @property
    def position(self) -> float | None: ...

    @property
    def source_time(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Span:
    """A state and how long it lasted.

    start, end: whole milliseconds from the begin of the source; end is after start.
    text: the state.
    """

    start: int
    end: int
    text: str


def verdict(reading: Reading) -> str:
    """Return a reading's label, or in brackets why it has none."""
    return reading.label or f"({reading.quality})"


class Timeline:
    """Places the frames of one source: a video's by the file's own positions, a camera's from its
    first frame on.
    """

    def __init__(self) -> None:
        self._origin: float | None = None
        self._position = 0.0
        self._interval = _FIRST_INTERVAL

    @property
    def end(self) -> float:
        """When the newest frame ends, in seconds: it lasts as long as the one before it."""
        return self._position + self._interval

    def advance(self, frame: FrameTime) -> tuple[float, float]:
        """Take the next frame. Return where the one before it ends and where it begins, in seconds.

        They differ where a camera has paused.
        """
        if self._origin is None:
            self._origin = 0.0 if frame.position is not None else frame.source_time
            self._position = frame.source_time - self._origin
            return self._position, self._position
        begin = max(frame.source_time - self._origin, self._position)
        gap = begin - self._position
        end_before = begin
        if frame.position is None and gap > _MAX_CAMERA_GAP:
            end_before = self.end
        elif gap > 0:
            self._interval = gap
        self._position = begin
        return end_before, begin


class Spans:
    """Joins the states of successive frames to spans.

    per_frame: end a span at each frame, also where the state stays.
    """

    def __init__(self, per_frame: bool) -> None:
        self._per_frame = per_frame
        self._start = 0
        self._text = ""

    def change(self, seconds: float, text: str) -> Span | None:
        """Take the state from `seconds` on, '' for none; return the span that ends there, if any.

        A state that lasted less than a millisecond is left out.
        """
        if text == self._text and not self._per_frame:
            return None
        moment = round(seconds * 1000)
        span = None
        if self._text and moment > self._start:
            span = Span(self._start, moment, self._text)
        self._start = moment
        self._text = text
        return span
