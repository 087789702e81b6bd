"""The engine: source -> detect -> track -> classify -> smooth -> sinks, one loop over callables."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mien_edge.values import Face, Frame, Reading


class Sink(Protocol):
    """Takes the readings of each frame; an empty tuple where there is no face."""

    def __call__(self, readings: tuple[Reading, ...]) -> None: ...

    def close(self) -> None: ...


Watcher = Callable[[Frame, tuple[Reading, ...]], None]
"""Sees a frame's pixels as well; for annotated pictures that a person asked for, never for what leaves the device."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The stages between source and sinks."""

    detect: Callable[[Frame], tuple[Face, ...]]
    track: Callable[[Frame, tuple[Face, ...]], tuple[Face, ...]]
    classify: Callable[[Frame, tuple[Face, ...]], tuple[Reading, ...]]
    smooth: Callable[[tuple[Reading, ...]], tuple[Reading, ...]]

    def __call__(self, frame: Frame) -> tuple[Reading, ...]:
        """The settled readings of one frame."""
        return self.smooth(self.classify(frame, self.track(frame, self.detect(frame))))


class Timed:
    """A stage that tells how many seconds it takes: `last`, and `mean`, in which the last hundred calls count most."""

    def __init__(self, stage: Callable[..., Any]) -> None:
        self.stage = stage
        self.last = self.mean = 0.0

    def __call__(self, *given: Any) -> Any:
        """As the stage."""
        start = time.perf_counter()
        try:
            return self.stage(*given)
        finally:
            self.last = time.perf_counter() - start
            self.mean += (self.last - self.mean) * (0.01 if self.mean else 1.0)


STAGES = ("detect", "track", "classify", "smooth")


def timed(chain: Chain) -> tuple[Chain, list[tuple[str, Timed]]]:
    """The chain with each stage timed, and the stages by name."""
    stages = [(name, Timed(getattr(chain, name))) for name in STAGES]
    return Chain(**dict(stages)), stages


def run(
    source: Iterable[Frame],
    chain: Callable[[Frame], tuple[Reading, ...]],
    sinks: Sequence[Sink],
    watchers: Sequence[Watcher] = (),
    stopped: Callable[[], Any] = lambda: False,
) -> int:
    """Pass every frame of `source` through `chain` to all `sinks` and `watchers` until the source ends or `stopped`
    is true; return the number of frames.
    """
    frames = 0
    for frame in source:
        readings = chain(frame)
        frames += 1
        for sink in sinks:
            sink(readings)
        for watcher in watchers:
            watcher(frame, readings)
        if stopped():
            break
    return frames
