"""The engine: source -> detect -> track -> classify -> smooth -> sinks, one loop over callables."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mien_edge.values import Face, Frame, Reading

STAGES = ("detect", "track", "classify", "smooth")
"""The names of a chain's stages, in order."""

_MEAN_WEIGHT = 0.01  # of the last call in `Timed.mean`: about a hundred calls count


Clock = Callable[[], float]
"""Seconds that only grow."""


class Sink(Protocol):
    """A callable that takes the readings of each frame, an empty tuple for a frame without a face,
    and is closed at the end of the run.
    """

    def __call__(self, readings: tuple[Reading, ...]) -> None: ...

    def close(self) -> None: ...


Watcher = Callable[[Frame, tuple[Reading, ...]], None]
"""A callable that takes each frame with its pixels, and its readings.

It is for pictures that a person asked for, never for what leaves the device."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The stages between source and sinks."""

    detect: Callable[[Frame], tuple[Face, ...]]
    track: Callable[[Frame, tuple[Face, ...]], tuple[Face, ...]]
    classify: Callable[[Frame, tuple[Face, ...]], tuple[Reading, ...]]
    smooth: Callable[[tuple[Reading, ...]], tuple[Reading, ...]]

    def __call__(self, frame: Frame) -> tuple[Reading, ...]:
        """Return the smoothed readings of one frame."""
        return self.smooth(self.classify(frame, self.track(frame, self.detect(frame))))


class Timed:
    """A stage that measures its calls, in seconds.

    stage: the callable; may be replaced between two frames.
    clock: seconds that only grow: the wall's, or the processor time of this process.
    last: seconds of the last call.
    mean: exponential moving average, in which the last hundred calls count most.
    """

    def __init__(self, stage: Callable[..., Any], clock: Clock = time.perf_counter) -> None:
        self.stage = stage
        self.clock = clock
        self.last = 0.0
        self.mean = 0.0

    def __call__(self, *arguments: Any) -> Any:
        """Call the stage and return what it returns; its errors pass through."""
        start = self.clock()
        try:
            return self.stage(*arguments)
        finally:
            self.last = self.clock() - start
            weight = _MEAN_WEIGHT if self.mean else 1.0
            self.mean += (self.last - self.mean) * weight


def timed(chain: Chain, clock: Clock = time.perf_counter) -> tuple[Chain, list[tuple[str, Timed]]]:
    """Return the chain with each stage timed by `clock`, and the timed stages with their names, in
    order.
    """
    stages = [(name, Timed(getattr(chain, name), clock)) for name in STAGES]
    return Chain(**dict(stages)), stages


def _never() -> bool:
    return False


def run(
    source: Iterable[Frame],
    chain: Callable[[Frame], tuple[Reading, ...]],
    sinks: Sequence[Sink],
    watchers: Sequence[Watcher] = (),
    is_stopped: Callable[[], bool] = _never,
) -> int:
    """Pass each frame of `source` through `chain`, and its readings to all sinks and watchers.

    Ends with the source, or after the frame at which `is_stopped` returns True. Returns the number
    of frames.
    """
    frames = 0
    for frame in source:
        readings = chain(frame)
        frames += 1
        for sink in sinks:
            sink(readings)
        for watcher in watchers:
            watcher(frame, readings)
        if is_stopped():
            break
    return frames
