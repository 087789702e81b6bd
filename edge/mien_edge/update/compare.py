"""Two models on the same faces: how far they agree and what each costs."""

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

import numpy as np

from mien_edge.labels import LABELS
from mien_edge.status import health
from mien_edge.status.status_file import ShadowStatus
from mien_edge.values import Face, Frame, Reading

_MIN_COLUMN = 8  # characters of a column of the confusion
_MAX_TIMES = 1000  # frames with faces that the latency is the median of

Stage = Callable[[Frame, tuple[Face, ...]], tuple[Reading, ...]]
"""A classify stage: one reading for each face."""


class TimedModel:
    """A classify stage that is timed; after an exception it is not called again.

    problem: why it is not called any more; '' while it is.
    """

    def __init__(self, stage: Stage, clock: Callable[[], float] = time.monotonic) -> None:
        self.stage = stage
        self.problem = ""
        self.times: deque[float] = deque(maxlen=_MAX_TIMES)
        self._clock = clock

    def __call__(self, frame: Frame, faces: tuple[Face, ...]) -> tuple[Reading, ...] | None:
        """Return one reading for each face; None if it raised an exception, now or before."""
        if self.problem:
            return None
        start = self._clock()
        try:
            return self.stage(frame, faces)
        except Exception as error:
            self.problem = f"it failed on a face: {type(error).__name__}: {error}"
            return None
        finally:
            self.times.append((self._clock() - start) / len(faces))

    @property
    def latency(self) -> float:
        """The median of seconds per face, for a device does other things; 0 before a face."""
        return float(np.median(self.times)) if self.times else 0.0


class ModelComparison:
    """A classify stage that runs two models and returns the first one's readings.

    If the first model fails, the second one's readings are returned, so that no frame is lost.

    name: the second model, NAME-VERSION.
    clock: seconds of a monotonic clock.
    labels: of the first and of the second model.

    pairs: faces by (label of the first model, label of the second).
    """

    def __init__(
        self,
        first: Stage,
        second: Stage,
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
        labels: tuple[Sequence[str], Sequence[str]] = (LABELS, LABELS),
    ) -> None:
        self.first = TimedModel(first, clock)
        self.second = TimedModel(second, clock)
        self.name = name
        self.labels, self.second_labels = labels
        self.pairs: Counter[tuple[str, str]] = Counter()
        self._clock = clock
        self._started_at = clock()
        self._start_temperature = health.read().temperature
        self._second_goes_first = False

    def __call__(self, frame: Frame, faces: tuple[Face, ...]) -> tuple[Reading, ...]:
        """Return one reading for each face. Raises RuntimeError if both models fail."""
        if not faces:
            return self.first.stage(frame, faces)
        # They take turns, because the one that runs right after the detector finds the caches cold.
        self._second_goes_first = not self._second_goes_first
        if self._second_goes_first:
            second = self.second(frame, faces)
            first = self.first(frame, faces)
        else:
            first = self.first(frame, faces)
            second = self.second(frame, faces)
        if first is not None and second is not None:
            self._count(first, second)
        if first is not None:
            return first
        if second is not None:
            return second
        raise RuntimeError(
            f"neither model reads this face: {self.first.problem}; {self.second.problem}",
        )

    def add(self, first_label: str, second_label: str, count: int = 1) -> None:
        """Count faces that the models gave these labels."""
        self.pairs[first_label, second_label] += count

    def _count(self, first: tuple[Reading, ...], second: tuple[Reading, ...]) -> None:
        for first_reading, second_reading in zip(first, second, strict=False):
            if first_reading.emotion and second_reading.emotion:
                self.add(first_reading.emotion.label, second_reading.emotion.label)

    @property
    def faces(self) -> int:
        """Faces that both models have read."""
        return sum(self.pairs.values())

    @property
    def shared_labels(self) -> tuple[str, ...]:
        """The labels that both models have; only by these can they be compared."""
        return tuple(label for label in self.labels if label in self.second_labels)

    @property
    def seconds(self) -> float:
        """How long the models have been compared."""
        return self._clock() - self._started_at

    def report(self) -> ShadowStatus:
        """What has been measured so far."""
        both_shared = sum(
            count for pair, count in self.pairs.items() if set(pair) <= set(self.shared_labels)
        )
        agreed = sum(count for (first, second), count in self.pairs.items() if first == second)
        models = (self.first, self.second)
        return ShadowStatus(
            bundle=self.name,
            seconds=round(self.seconds),
            faces=self.faces,
            agreement=round(agreed / both_shared, 4) if both_shared else None,
            confusion=tuple(
                tuple(self.pairs[row, column] for column in self.second_labels)
                for row in self.labels
            ),
            milliseconds=tuple(round(1000 * model.latency, 2) for model in models),
            degrees_warmer=self._degrees_warmer(),
            problem=self.second.problem,
            labels=tuple(self.labels),
            shadow_labels=tuple(self.second_labels),
        )

    def _degrees_warmer(self) -> float | None:
        temperature = health.read().temperature
        if temperature is None or self._start_temperature is None:
            return None
        return round(temperature - self._start_temperature, 1)


def as_sentence(report: ShadowStatus) -> str:
    """The report of a comparison in one sentence for people."""
    problem = f"; {report.problem}" if report.problem else ""
    if not report.faces or not report.confusion:
        faces = f"{report.faces} faces" if report.faces else "no face"
        return f"{report.bundle}: {faces} compared yet, {report.seconds} s{problem}"
    first, second = report.milliseconds
    latency = f"{second:g} ms a face, the current one {first:g}"
    warmer = ""
    if report.degrees_warmer is not None:
        warmer = f"; {report.degrees_warmer:+g} °C since"
    return f"{report.bundle} {_agreement_as_text(report)}; {latency}{warmer}{problem}"


def _agreement_as_text(report: ShadowStatus) -> str:
    """How far the models agree, of the faces that can be compared by their labels."""
    faces = f"{report.faces} faces in {report.seconds} s"
    shared = [label for label in report.labels if label in report.shadow_labels]
    if not shared:
        return f"has no label of the current one's, so that only time is compared; {faces}"
    both_shared = sum(
        count
        for label, counts in zip(report.labels, report.confusion, strict=True)
        for shadow_label, count in zip(report.shadow_labels, counts, strict=True)
        if label in shared and shadow_label in shared
    )
    if both_shared < report.faces:
        faces = f"{both_shared} faces to which both gave {', '.join(shared)}; {faces} in all"
    if report.agreement is None:
        return f"cannot be compared yet, with {faces}"
    return f"agrees on {100 * report.agreement:.1f} % of {faces}"


def as_text(report: ShadowStatus) -> str:
    """The report of a comparison for people: a sentence, and the confusion as a table."""
    if not report.faces or not report.confusion:
        return as_sentence(report)
    margin = max(_MIN_COLUMN, *map(len, report.labels)) + 1
    widths = [max(_MIN_COLUMN, len(label)) + 1 for label in report.shadow_labels]
    lines = [as_sentence(report), "", "rows: the current one; columns: the shadow"]
    lines.append(_row("", report.shadow_labels, margin, widths))
    for label, counts in zip(report.labels, report.confusion, strict=True):
        lines.append(_row(label, counts, margin, widths))
    return "\n".join(lines)


def _row(name: str, cells: Sequence[object], margin: int, widths: Sequence[int]) -> str:
    columns = (f"{cell!s:>{width}}" for cell, width in zip(cells, widths, strict=True))
    return f"{name:<{margin}}{''.join(columns)}"
