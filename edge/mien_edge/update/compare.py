"""Two models on the same faces: how far they agree, and what each costs. One of them is told, the other is not."""

import time
from collections import Counter, deque
from collections.abc import Callable

import numpy as np

from mien_edge.labels import LABELS
from mien_edge.status import health
from mien_edge.status.status_file import ShadowStatus
from mien_edge.values import Face, Frame, Reading

_TIMES = 1000  # frames with faces that the latency is taken of

Stage = Callable[[Frame, tuple[Face, ...]], tuple[Reading, ...]]


class TimedModel:
    """A classify stage with a count of what it said and how long it took; after a failure it is not asked again."""

    def __init__(self, stage: Stage, clock: Callable[[], float]) -> None:
        self.stage, self.problem = stage, ""
        self._clock = clock
        self.labels: Counter[str] = Counter()
        self.times: deque[float] = deque(maxlen=_TIMES)

    def __call__(self, frame: Frame, faces: tuple[Face, ...]) -> tuple[Reading, ...] | None:
        """Its readings; None if it failed, now or before."""
        if self.problem:
            return None
        start = self._clock()
        try:
            return self.stage(frame, faces)
        except Exception as problem:
            self.problem = f"it failed on a face: {type(problem).__name__}: {problem}"
            return None
        finally:
            self.times.append((self._clock() - start) / len(faces))

    @property
    def latency(self) -> float:
        """Seconds per face, the median, for a device does other things as well; 0 without faces."""
        return float(np.median(self.times)) if self.times else 0.0


class ModelComparison:
    """A classify stage that gives the first model's readings, and counts what the second would have said. If the first
    fails, the second speaks, so that no frame is lost.
    """

    def __init__(
        self, first: Stage, second: Stage, name: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.first, self.second, self.name = TimedModel(first, clock), TimedModel(second, clock), name
        self._clock = clock
        self.pairs: Counter[tuple[str, str]] = Counter()
        self._warm = health.read().temperature
        self._began, self._turn = clock(), False

    def __call__(self, frame: Frame, faces: tuple[Face, ...]) -> tuple[Reading, ...]:
        """Readings, one per face."""
        if not faces:
            return self.first.stage(frame, faces)
        self._turn = not self._turn  # for who comes right after the detector finds the caches cold
        if self._turn:
            other, told = self.second(frame, faces), self.first(frame, faces)
        else:
            told, other = self.first(frame, faces), self.second(frame, faces)
        for mine, its in zip(told or (), other or (), strict=False):
            if mine.emotion and its.emotion:
                self.pairs[mine.emotion.label, its.emotion.label] += 1
                self.first.labels[mine.emotion.label] += 1
                self.second.labels[its.emotion.label] += 1
        if told is None and other is None:
            raise RuntimeError(f"neither model reads this face: {self.first.problem}; {self.second.problem}")
        return told if told is not None else other or ()

    @property
    def faces(self) -> int:
        """Faces that both have read."""
        return sum(self.pairs.values())

    @property
    def seconds(self) -> float:
        """How long they have been compared."""
        return self._clock() - self._began

    def report(self) -> ShadowStatus:
        """How the second compares with the first until now."""
        faces, warm = self.faces, health.read().temperature
        agreed = sum(count for (a, b), count in self.pairs.items() if a == b)
        return ShadowStatus(
            bundle=self.name,
            seconds=round(self.seconds),
            faces=faces,
            agreement=round(agreed / faces, 4) if faces else None,
            confusion=tuple(tuple(self.pairs[a, b] for b in LABELS) for a in LABELS),
            milliseconds=tuple(round(1000 * voice.latency, 2) for voice in (self.first, self.second)),
            degrees_warmer=None if warm is None or self._warm is None else round(warm - self._warm, 1),
            problem=self.second.problem,
        )


def as_text(report: ShadowStatus) -> str:
    """The report for people: a sentence, and the confusion of both as a table."""
    problem = f"; {report.problem}" if report.problem else ""
    if not report.faces or report.agreement is None:
        return f"{report.bundle}: no face compared yet, {report.seconds} s{problem}"
    first, second = report.milliseconds
    head = (
        f"{report.bundle} agrees on {100 * report.agreement:.1f} % of {report.faces} faces in "
        f"{report.seconds} s; {second:g} ms a face, the current one {first:g}"
    )
    if report.degrees_warmer is not None:
        head += f"; {report.degrees_warmer:+g} °C since"
    rows = ["", "rows: the current one; columns: the shadow", " " * 9 + "".join(f"{label[:8]:>9}" for label in LABELS)]
    for label, row in zip(LABELS, report.confusion, strict=True):
        rows.append(f"{label:<9}" + "".join(f"{count:>9}" for count in row))
    return "\n".join([head + problem, *rows])
