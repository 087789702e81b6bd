"""Steady labels: an average of probabilities per face, and a label that changes only for a lasting lead."""

import math
from dataclasses import dataclass, replace

from mien_edge.events import Quality
from mien_edge.settings import SmoothSettings
from mien_edge.values import Emotion, Reading

_FORGET = 10.0  # seconds after which a face that is gone is forgotten; trackers never reuse a number


@dataclass(frozen=True, slots=True)
class _State:
    emotion: Emotion
    time: float
    label: str | None
    rival: str | None
    lead: int


class Smoother:
    """Each track has a state of its own, so two faces never mix.

    The probabilities are averaged with a time constant, so the frame rate does not matter. Another label takes over
    only when it has led by `margin` for `min_frames` frames in a row; below the card's `uncertain` there is no label.
    """

    def __init__(self, settings: SmoothSettings, uncertain: float) -> None:
        self.settings, self.confidence_threshold = settings, uncertain
        self._states: dict[int, _State] = {}

    def __call__(self, readings: tuple[Reading, ...]) -> tuple[Reading, ...]:
        """The readings with smoothed emotion, settled label and quality."""
        for time in {reading.time for reading in readings}:
            self._states = {n: state for n, state in self._states.items() if abs(time - state.time) <= _FORGET}
        return tuple(self._settle(reading) for reading in readings)

    def _settle(self, reading: Reading) -> Reading:
        if reading.emotion is None:
            return reading
        old = self._states.get(reading.track)
        emotion = self._averaged(old, reading.emotion, reading.time)
        state = self._next(old, emotion, reading.time)
        self._states[reading.track] = state
        if state.label is None or emotion.scores[emotion.labels.index(state.label)] < self.confidence_threshold:
            return replace(reading, emotion=emotion, label=None, quality=Quality.UNCERTAIN)
        return replace(reading, emotion=emotion, label=state.label)

    def _averaged(self, old: _State | None, new: Emotion, time: float) -> Emotion:
        if old is None or self.settings.time_constant <= 0:
            return new
        weight = 1 - math.exp(-max(time - old.time, 0.0) / self.settings.time_constant)
        pairs = zip(old.emotion.scores, new.scores, strict=True)
        return Emotion(new.labels, tuple(a + weight * (b - a) for a, b in pairs))

    def _next(self, old: _State | None, emotion: Emotion, time: float) -> _State:
        if old is None or old.label is None:
            label = emotion.label if emotion.confidence >= self.confidence_threshold else None
            return _State(emotion, time, label, None, 0)
        current = emotion.scores[emotion.labels.index(old.label)]
        if emotion.label == old.label or emotion.confidence - current < self.settings.margin:
            return _State(emotion, time, old.label, None, 0)
        lead = old.lead + 1 if old.rival == emotion.label else 1
        if lead >= self.settings.min_frames:
            return _State(emotion, time, emotion.label, None, 0)
        return _State(emotion, time, old.label, emotion.label, lead)
