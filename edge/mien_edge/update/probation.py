"""Whether a new model is as good as the one before.

Its frame rate is compared with the last hour's; its latency and its labels with those of the model
before, which sees the same faces while the probation lasts.
"""

from collections import Counter, deque
from dataclasses import dataclass

from mien_edge.settings import UpdateSettings
from mien_edge.update.compare import ModelComparison
from mien_edge.update.record import ProbationProgress

_MINUTES = 60  # of the hour that a new model's frame rate is compared with
_MIN_FRAMES = 100  # frames before their rate means anything
_MIN_FACES = 10  # faces before their latency means anything, and before any verdict
_LATENCY_SLACK = 0.002
"""Seconds per face; a smaller slowdown is no fault: a short hiccup on a fast device."""


@dataclass(slots=True)
class FrameRate:
    """Frames that came and frames that were expected; idle time does not count.

    frames: how many came.
    expected: how many the target rate called for.
    """

    frames: int = 0
    expected: float = 0.0

    def add(self, expected: float) -> None:
        """Count one frame.

        expected: frames that the target rate called for since the one before; 0 while the chain
        idles.
        """
        if expected > 0:
            self.frames += 1
            self.expected += expected

    @property
    def ratio(self) -> float:
        """Frames per expected frame; 1 where none was expected."""
        return self.frames / self.expected if self.expected else 1.0


class LastHour:
    """The frame rate of the last sixty minutes, minute by minute."""

    def __init__(self) -> None:
        self._minutes: deque[tuple[int, FrameRate]] = deque(maxlen=_MINUTES)

    def add(self, now: float, expected: float) -> None:
        """Count one frame.

        now: seconds of a monotonic clock.
        expected: as for FrameRate.add.
        """
        minute = int(now // 60)
        if not self._minutes or self._minutes[-1][0] != minute:
            self._minutes.append((minute, FrameRate()))
        _, rate = self._minutes[-1]
        rate.add(expected)

    def frame_rate(self, now: float) -> FrameRate:
        """The sum over the minutes that are less than an hour old at `now`."""
        oldest = now // 60 - _MINUTES
        total = FrameRate()
        for minute, rate in self._minutes:
            if minute > oldest:
                total.frames += rate.frames
                total.expected += rate.expected
        return total


class Probation:
    """The measurements by which a new model is committed or rolled back.

    comparison: runs the new model (its `first`) and the model before (its `second`) on the same
    faces.
    baseline: the frame rate of the hour before.
    progress: how far the probation was before the service was restarted; None for a new one.
    """

    def __init__(
        self,
        settings: UpdateSettings,
        comparison: ModelComparison,
        baseline: FrameRate,
        progress: ProbationProgress | None = None,
    ) -> None:
        self.settings = settings
        self.comparison = comparison
        self.baseline = baseline
        self.frame_rate = FrameRate()
        self.seconds = 0.0
        self._earlier_faces = 0
        if progress is not None:
            self._resume(progress)

    def _resume(self, progress: ProbationProgress) -> None:
        self.seconds = progress.seconds
        for labels, count in progress.labels.items():
            label, _, previous_label = labels.partition("/")
            self.comparison.add(label, previous_label, count)
        self._earlier_faces = progress.faces

    def progress(self, name: str) -> ProbationProgress:
        """What the next start of the service goes on with; `name` is the new model's."""
        labels = {"/".join(pair): count for pair, count in self.comparison.pairs.items()}
        return ProbationProgress(name, round(self.seconds, 1), labels)

    def add(self, seconds: float, expected: float) -> None:
        """Count one frame.

        seconds: time since the frame before, without time in which the camera delivered none.
        expected: as for FrameRate.add.
        """
        self.seconds += seconds
        self.frame_rate.add(expected)

    @property
    def is_over(self) -> bool:
        """Whether there is enough to judge by.

        After `max_probation` ten faces are enough, and never fewer: time alone proves nothing.
        """
        settings = self.settings
        needed_faces = settings.min_faces
        if self.seconds >= settings.max_probation:
            needed_faces = min(_MIN_FACES, needed_faces)
        return self.seconds >= settings.probation and self.comparison.faces >= needed_faces

    def failure_reason(self) -> str:
        """Why the model has to be rolled back; '' for no reason.

        An exception counts at once, slowness as soon as it is measurable, its labels when the
        probation is over.
        """
        reason = self.comparison.first.problem or self._frame_rate_fault() or self._latency_fault()
        if not reason and self.is_over:
            reason = self._label_fault()
        return reason

    def _frame_rate_fault(self) -> str:
        if min(self.frame_rate.expected, self.baseline.expected) < _MIN_FRAMES:
            return ""
        if self.frame_rate.ratio >= self.settings.min_fps_ratio * self.baseline.ratio:
            return ""
        share = self.frame_rate.ratio / self.baseline.ratio
        return f"the frame rate fell to {100 * share:.0f} % of the last hour's"

    def _latency_fault(self) -> str:
        needed_faces = min(_MIN_FRAMES, max(self.settings.min_faces, _MIN_FACES))
        if self.comparison.faces - self._earlier_faces < needed_faces:
            return ""
        latency = self.comparison.first.latency
        previous = self.comparison.second.latency
        limit = max(self.settings.max_latency_ratio * previous, previous + _LATENCY_SLACK)
        if not previous or latency <= limit:
            return ""
        previous_text = f"the model before takes {1000 * previous:.1f}"
        return f"a face takes {1000 * latency:.1f} ms where {previous_text}"

    def _label_fault(self) -> str:
        """Whether nearly all faces get one label, which the model before gave far less often.

        Only faces to which the model before gave a label that both have can tell: another one, the
        new model cannot give. For a label that the model before has not, its most frequent one
        stands: it may have that for it.
        """
        pairs = self._comparable_pairs()
        faces = sum(pairs.values())
        if not self._has_comparable_labels(faces):
            return ""
        labels: Counter[str] = Counter()
        previous_labels: Counter[str] = Counter()
        for (label, previous_label), count in pairs.items():
            labels[label] += count
            previous_labels[previous_label] += count
        (label, count), *_ = labels.most_common(1)
        share = count / faces
        if label in self.comparison.second_labels:
            previous_label = label
        else:
            (previous_label, _), *_ = previous_labels.most_common(1)
        previous_share = previous_labels[previous_label] / faces
        max_share = self.settings.max_label_share
        if share < max_share or previous_share >= max_share / 2:
            return ""
        which = "all faces" if faces == self.comparison.faces else "the faces that can be compared"
        percent = f"{100 * share:.0f} % of {which}"
        previous = f"{100 * previous_share:.0f} %"
        if previous_label != label:
            previous = f"none more often than {previous} '{previous_label}'"
        return f"{percent} are '{label}' to it, {previous} to the model before"

    def _comparable_pairs(self) -> dict[tuple[str, str], int]:
        """The faces to which the model before gave a label that both models have."""
        shared = self.comparison.shared_labels
        return {pair: count for pair, count in self.comparison.pairs.items() if pair[1] in shared}

    def _has_comparable_labels(self, faces: int) -> bool:
        """Whether so many comparable faces are enough for a verdict by labels."""
        return faces > 0 and faces >= min(_MIN_FACES, self.comparison.faces)

    def summary(self) -> str:
        """What was measured, in a sentence for the log."""
        comparison = self.comparison
        few = "" if comparison.faces >= self.settings.min_faces else ", fewer than update.min_faces"
        unjudged = ""
        if not comparison.shared_labels:
            unjudged = "; not judged by its labels, of which the model before has none"
        elif comparison.faces and not self._has_comparable_labels(
            sum(self._comparable_pairs().values())
        ):
            unjudged = "; not judged by its labels: too few faces had one that both models have"
        return (
            f"{self.frame_rate.frames} frames and {comparison.faces} readings of faces{few} in "
            f"{self.seconds:.0f} s, {1000 * comparison.first.latency:.1f} ms a face{unjudged}"
        )
