"""Labels that do not flicker: probabilities averaged per face, and a label with hysteresis."""

import math
from dataclasses import dataclass, replace

from mien_edge.events import Quality
from mien_edge.settings import SmoothSettings
from mien_edge.values import Emotion, Reading

_FORGET_AFTER = 10.0  # seconds without a face; trackers never reuse a number


@dataclass(frozen=True, slots=True)
class _State:
    """What is remembered of one track.

    label: the settled label, None before the first.
    challenger: another label that has led by the margin in the last `streak` frames.
    """

    emotion: Emotion
    time: float
    label: str | None
    challenger: str | None = None
    streak: int = 0


class Smoother:
    """Smooths the readings of each track for itself, so two faces never mix.

    settings: the probabilities are averaged with `time_constant` seconds, so the frame rate does
        not matter; another label takes over only when it has led by `margin` for `min_frames`
        frames in a row (hysteresis).
    confidence_threshold: the card's, 0 to 1; below it there is no label.

    Where another model steps in, with other labels, each track begins anew.
    """

    def __init__(self, settings: SmoothSettings, confidence_threshold: float) -> None:
        self.settings = settings
        self.confidence_threshold = confidence_threshold
        self._states: dict[int, _State] = {}

    def __call__(self, readings: tuple[Reading, ...]) -> tuple[Reading, ...]:
        """The readings of one frame with smoothed emotion, settled label and quality.

        A reading without an emotion is returned as it is.
        """
        for time in {reading.source_time for reading in readings}:
            self._forget(time)
        return tuple(self._settle(reading) for reading in readings)

    def _forget(self, now: float) -> None:
        """Forget the tracks that have had no emotion for a while."""
        states = self._states.items()
        self._states = {n: state for n, state in states if abs(now - state.time) <= _FORGET_AFTER}

    def _settle(self, reading: Reading) -> Reading:
        if reading.emotion is None:
            return reading
        previous = self._states.get(reading.track)
        if previous is not None and previous.emotion.labels != reading.emotion.labels:
            previous = None
        emotion = self._average(previous, reading.emotion, reading.source_time)
        state = self._next_state(previous, emotion, reading.source_time)
        self._states[reading.track] = state
        if state.label is None or _score(emotion, state.label) < self.confidence_threshold:
            return replace(reading, emotion=emotion, label=None, quality=Quality.UNCERTAIN)
        return replace(reading, emotion=emotion, label=state.label)

    def _average(self, previous: _State | None, emotion: Emotion, time: float) -> Emotion:
        if previous is None or self.settings.time_constant <= 0:
            return emotion
        elapsed = max(time - previous.time, 0.0)
        weight = 1 - math.exp(-elapsed / self.settings.time_constant)
        pairs = zip(previous.emotion.scores, emotion.scores, strict=True)
        scores = tuple(old + weight * (new - old) for old, new in pairs)
        return Emotion(emotion.labels, scores)

    def _next_state(self, previous: _State | None, emotion: Emotion, time: float) -> _State:
        if previous is None or previous.label is None:
            is_certain = emotion.confidence >= self.confidence_threshold
            return _State(emotion, time, emotion.label if is_certain else None)
        challenger = emotion.label
        lead = emotion.confidence - _score(emotion, previous.label)
        if challenger == previous.label or lead < self.settings.margin:
            return _State(emotion, time, previous.label)
        streak = previous.streak + 1 if previous.challenger == challenger else 1
        if streak >= self.settings.min_frames:
            return _State(emotion, time, challenger)
        return _State(emotion, time, previous.label, challenger, streak)


def _score(emotion: Emotion, label: str) -> float:
    return emotion.scores[emotion.labels.index(label)]
