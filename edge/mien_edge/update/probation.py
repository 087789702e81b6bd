"""Whether a new model is as good a tenant as the one before: pace against the last hour; speed and labels against the
model before, which sees the same faces while the probation lasts.
"""

from collections import deque
from dataclasses import dataclass

from mien_edge.settings import UpdateSettings
from mien_edge.update.compare import ModelComparison

_MINUTES = 60  # of the hour that a new model is compared with
_ENOUGH = 100  # frames before their rate means anything
_SLACK = 0.002  # seconds per face that are never too slow: a short hiccup on a fast device is no fault


@dataclass(slots=True)
class FrameRate:
    """Frames that came, and frames that were due. Frames while the chain rests do not count, for none are due."""

    frames: int = 0
    due: float = 0.0

    def add(self, due: float) -> None:
        """One frame; `due` frames were due since the one before, 0 while the chain rests."""
        if due > 0:
            self.frames += 1
            self.due += due

    @property
    def ratio(self) -> float:
        """Frames per frame that was due."""
        return self.frames / self.due if self.due else 1.0


class LastHour:
    """The pace of the last sixty minutes, to the minute."""

    def __init__(self) -> None:
        self._minutes: deque[tuple[int, FrameRate]] = deque(maxlen=_MINUTES)

    def add(self, now: float, due: float) -> None:
        """One frame at `now` (steady seconds)."""
        minute = int(now // 60)
        if not self._minutes or self._minutes[-1][0] != minute:
            self._minutes.append((minute, FrameRate()))
        self._minutes[-1][1].add(due)

    def pace(self, now: float) -> FrameRate:
        """All of them together."""
        recent = [pace for minute, pace in self._minutes if minute > now // 60 - _MINUTES]
        return FrameRate(sum(pace.frames for pace in recent), sum(pace.due for pace in recent))


class Probation:
    """A model on trial. `seen` runs it with the model before beside it; `hour` is the pace before."""

    def __init__(self, settings: UpdateSettings, seen: ModelComparison, hour: FrameRate) -> None:
        self.settings, self.seen, self.hour = settings, seen, hour
        self.pace, self.seconds = FrameRate(), 0.0

    def add(self, seconds: float, due: float) -> None:
        """One frame, `seconds` after the one before; a time without frames is to be left out."""
        self.seconds += seconds
        self.pace.add(due)

    @property
    def is_over(self) -> bool:
        """Whether there is enough to judge by, or `max_probation` is over."""
        enough = self.seconds >= self.settings.probation and self.seen.faces >= self.settings.min_faces
        return enough or self.seconds >= max(self.settings.max_probation, self.settings.probation)

    def fault(self) -> str:
        """What is wrong; '' for nothing. A failure counts at once, a slow one soon, its labels when it is over."""
        return self.seen.first.problem or self._slow() or (self._collapsed() if self.is_over else "")

    def _slow(self) -> str:
        if (
            min(self.pace.due, self.hour.due) >= _ENOUGH
            and self.pace.ratio < self.settings.min_fps_ratio * self.hour.ratio
        ):
            return f"the frame rate fell to {100 * self.pace.ratio / self.hour.ratio:.0f} % of the last hour's"
        now, before = self.seen.first.latency, self.seen.second.latency
        enough = self.seen.faces >= min(_ENOUGH, max(self.settings.min_faces, 10))
        if enough and before and now > max(self.settings.max_latency_ratio * before, before + _SLACK):
            return f"a face takes {1000 * now:.1f} ms where the model before takes {1000 * before:.1f}"
        return ""

    def _collapsed(self) -> str:
        faces = self.seen.faces
        if not faces:
            return ""
        (label, count), *_ = self.seen.first.labels.most_common(1)
        had = self.seen.second.labels[label] / faces
        if count / faces >= self.settings.max_label_share and had < self.settings.max_label_share / 2:
            return (
                f"{100 * count / faces:.0f} % of all faces are '{label}' to it, {100 * had:.0f} % to the model before"
            )
        return ""

    def praise(self) -> str:
        """What it did well, for the log."""
        few = "" if self.seen.faces >= self.settings.min_faces else ", fewer than update.min_faces"
        return (
            f"{self.pace.frames} frames and {self.seen.faces} readings of faces{few} in {self.seconds:.0f} s, "
            f"{1000 * self.seen.first.latency:.1f} ms a face"
        )
