"""Whether a new model is as good a tenant as the one before: pace, latency, and labels that are not all the same."""

from collections import Counter, deque
from dataclasses import dataclass, field

from mien_edge.settings import Update
from mien_edge.values import Reading

_MINUTES = 60  # of the hour that a new model is compared with
_ENOUGH = 100  # frames or readings before shares of them mean anything
_SLACK = 0.002  # seconds per face that are never too slow: a short hiccup on a fast device is no fault


@dataclass(slots=True)
class Tally:
    """What went by: frames, the frames there should have been, seconds of classifying so many faces, faces by label."""

    frames: int = 0
    expected: float = 0.0
    spent: float = 0.0
    timed: int = 0
    labels: Counter[str] = field(default_factory=Counter)

    def add(self, readings: tuple[Reading, ...], spent: float, expected: float) -> None:
        """One frame, `spent` seconds of which went into classifying; `expected` frames were due since the last one."""
        self.frames += 1
        self.expected += expected
        found = [reading.emotion.label for reading in readings if reading.emotion]
        if found:
            self.spent += spent
            self.timed += len(found)
            self.labels.update(found)

    @property
    def faces(self) -> int:
        """Readings with an emotion."""
        return sum(self.labels.values())

    @property
    def latency(self) -> float:
        """Seconds per face; 0 without faces."""
        return self.spent / self.timed if self.timed else 0.0

    @property
    def pace(self) -> float:
        """Frames per frame that was due."""
        return self.frames / self.expected if self.expected else 1.0

    def most(self) -> tuple[str, float]:
        """The commonest label and its share; without faces '' and 0."""
        (label, count), *_ = self.labels.most_common(1) or [("", 0)]
        return label, count / max(self.faces, 1)

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.frames + other.frames, self.expected + other.expected, self.spent + other.spent,
            self.timed + other.timed, self.labels + other.labels,
        )  # fmt: skip


class LastHour:
    """The tally of the last sixty minutes, to the minute."""

    def __init__(self) -> None:
        self._minutes: deque[tuple[int, Tally]] = deque(maxlen=_MINUTES)

    def add(self, now: float, readings: tuple[Reading, ...], spent: float, expected: float) -> None:
        """One frame at `now` (steady seconds)."""
        minute = int(now // 60)
        if not self._minutes or self._minutes[-1][0] != minute:
            self._minutes.append((minute, Tally()))
        self._minutes[-1][1].add(readings, spent, expected)

    def moved_in(self, now: float, seen: Tally) -> None:
        """Another model stays from now on, that has `seen` this: how long a face takes is its affair alone."""
        for _, tally in self._minutes:
            tally.spent, tally.timed = 0.0, 0
        self._minutes.append((int(now // 60), seen))

    def tally(self, now: float) -> Tally:
        """All of them together."""
        recent = [tally for minute, tally in self._minutes if minute > now // 60 - _MINUTES]
        return sum(recent, start=Tally())


class Probation:
    """A model on trial: compared with the tally `before`, from `now` (steady seconds) on."""

    def __init__(self, settings: Update, before: Tally, now: float) -> None:
        self.settings, self.before, self.began, self.now = settings, before, now, now
        self.seen = Tally()

    def add(self, now: float, readings: tuple[Reading, ...], spent: float, expected: float) -> None:
        """One frame at `now` (steady seconds)."""
        self.now = now
        self.seen.add(readings, spent, expected)

    @property
    def seconds(self) -> float:
        """How long it has lasted."""
        return self.now - self.began

    @property
    def is_over(self) -> bool:
        """Whether there is enough to judge by, or patience is at its end."""
        enough = self.seconds >= self.settings.probation and self.seen.faces >= self.settings.faces
        return enough or self.seconds >= max(self.settings.patience, self.settings.probation)

    def fault(self) -> str:
        """What is wrong so far; '' for nothing."""
        seen, before, asked = self.seen, self.before, self.settings
        if min(seen.expected, before.expected) >= _ENOUGH and seen.pace < asked.rate * before.pace:
            return f"the frame rate fell to {100 * seen.pace / before.pace:.0f} % of the last hour's"
        enough = min(_ENOUGH, asked.faces)
        if seen.faces >= enough > 0:
            if before.timed and seen.latency > max(asked.slower * before.latency, before.latency + _SLACK):
                return f"a face takes {1000 * seen.latency:.1f} ms where it took {1000 * before.latency:.1f}"
            label, share = seen.most()
            had = before.labels[label] / before.faces if before.faces else 0.0
            if share >= asked.one_label > had and before.faces >= enough:
                return f"{100 * share:.0f} % of all faces are '{label}', in the last hour {100 * had:.0f} % were"
        return ""

    def praise(self) -> str:
        """What it did well, for the log."""
        few = "" if self.seen.faces >= self.settings.faces else ", fewer than wished for"
        return (
            f"{self.seen.frames} frames and {self.seen.faces} readings of faces{few} in {self.seconds:.0f} s, "
            f"{1000 * self.seen.latency:.1f} ms a face"
        )
