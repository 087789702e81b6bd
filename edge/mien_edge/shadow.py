"""A second model on the same faces, whose answers nobody is told: how far it agrees, and what it costs."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from mien_edge import health
from mien_edge.labels import LABELS
from mien_edge.values import Face, Frame, Reading

Classify = Callable[[Frame, tuple[Face, ...]], tuple[Reading, ...]]


class Compared:
    """A classify stage that gives the first model's readings and counts what the second would have said."""

    def __init__(self, first: Classify, second: Classify, name: str) -> None:
        self.first, self.second, self.name = first, second, name
        self.pairs: Counter[tuple[str, str]] = Counter()
        self.problem = ""
        self._spent = [0.0, 0.0]
        self._warm = health.read().temperature
        self._began = time.monotonic()

    def __call__(self, frame: Frame, faces: tuple[Face, ...]) -> tuple[Reading, ...]:
        """As the first; the second can neither change it nor stop it."""
        start = time.perf_counter()
        readings = self.first(frame, faces)
        between = time.perf_counter()
        if faces and not self.problem:
            try:
                others = self.second(frame, faces)
            except Exception as problem:
                self.problem = f"{type(problem).__name__}: {problem}"
                return readings
            pairs = zip(readings, others, strict=True)
            self.pairs.update((a.emotion.label, b.emotion.label) for a, b in pairs if a.emotion and b.emotion)
            self._spent[0] += between - start
            self._spent[1] += time.perf_counter() - between
        return readings

    @property
    def seconds(self) -> float:
        """How long it has been compared."""
        return time.monotonic() - self._began

    def report(self) -> dict[str, Any]:
        """Faces, share of agreement, confusion[first][second], milliseconds a face of both, degrees warmer."""
        faces, warm = sum(self.pairs.values()), health.read().temperature
        agreed = sum(count for (a, b), count in self.pairs.items() if a == b)
        return {
            "bundle": self.name,
            "seconds": round(self.seconds),
            "faces": faces,
            "agreement": round(agreed / faces, 4) if faces else None,
            "confusion": [[self.pairs[a, b] for b in LABELS] for a in LABELS],
            "milliseconds": [round(1000 * spent / faces, 2) if faces else None for spent in self._spent],
            "degrees_warmer": None if warm is None or self._warm is None else round(warm - self._warm, 1),
            "problem": self.problem,
        }


def as_text(report: dict[str, Any]) -> str:
    """The report for people: a sentence, and the confusion of both as a table."""
    if not report["faces"]:
        return f"{report['bundle']}: no face compared yet, {report['seconds']} s" + _problem(report)
    first, second = report["milliseconds"]
    head = (
        f"{report['bundle']} agrees on {100 * report['agreement']:.1f} % of {report['faces']} faces in "
        f"{report['seconds']} s; {second:g} ms a face, the current one {first:g}"
    )
    if report["degrees_warmer"] is not None:
        head += f"; {report['degrees_warmer']:+g} °C since"
    rows = ["", "rows: the current one; columns: the shadow", " " * 9 + "".join(f"{label[:8]:>9}" for label in LABELS)]
    rows += [
        f"{label:<9}" + "".join(f"{n:>9}" for n in row) for label, row in zip(LABELS, report["confusion"], strict=True)
    ]
    return "\n".join([head + _problem(report), *rows])


def _problem(report: dict[str, Any]) -> str:
    return f"; it failed: {report['problem']}" if report["problem"] else ""
