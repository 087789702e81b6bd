"""Writes the service's status file, once a second and at each change."""

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mien_edge.chain.pipeline import Timed
from mien_edge.events import EventKind
from mien_edge.formats import as_dict
from mien_edge.status import health
from mien_edge.status.status_file import NAME, write
from mien_edge.values import Frame, Reading

_EVERY, _SOONEST = 1.0, 0.2  # seconds: how often it is told, and how soon after the last time a change of labels is
_WINDOW = 10.0  # seconds over which the frame rate is taken
_SETTLED = 300.0  # seconds before writes are counted: the start writes more than a day does
_KEPT = 5  # events
_BAD = (EventKind.CAMERA_LOST, EventKind.THROTTLED, EventKind.FAILED)
_CAMERA = {
    EventKind.CAMERA_LOST: "lost",
    EventKind.CAMERA_BACK: "ok",
    EventKind.PAUSED: "paused",
    EventKind.RESUMED: "ok",
}


class StatusWriter:
    """A watcher that keeps `folder`/status.json; `event` is to be told what happens. `facts` do not change; `stages`
    tell their milliseconds; `state` is asked for what does change.
    """

    def __init__(
        self,
        folder: Path,
        facts: dict[str, Any],
        stages: Sequence[tuple[str, Timed]] = (),
        state: Callable[[], dict[str, Any]] = dict,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path, self.facts, self.stages, self.state = folder / NAME, facts, stages, state
        self._clock = clock
        self._started = time.time()
        self._frames = 0
        self._times: deque[float] = deque()
        self._events: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self._camera = "starting"
        self._labels: dict[int, str | None] = {}
        self._written = float("-inf")
        self._base: tuple[float, int] | None = None

    def __call__(self, frame: Frame, readings: tuple[Reading, ...]) -> None:
        """A frame has gone through the chain."""
        now = self._clock()
        self._frames += 1
        self._times.append(now)
        while self._times and now - self._times[0] > _WINDOW:
            self._times.popleft()
        if self._camera == "starting":
            self._camera = "ok"
        labels = {reading.track: reading.label for reading in readings}
        if now - self._written >= (_EVERY if labels == self._labels else _SOONEST):
            self._labels = labels
            self._write(now, [as_dict(reading) for reading in readings])

    def event(self, kind: EventKind, text: str) -> None:
        """Something happened; told at once."""
        self._camera = _CAMERA.get(kind, self._camera)
        if kind in _BAD:
            self._events.append({"time": time.time(), "kind": kind, "text": text})
        self._write(self._clock(), [])

    def _write(self, now: float, faces: list[dict[str, Any]]) -> None:
        self._written = now
        found = health.read()
        write(
            self.path.parent,
            {
                "time": time.time(), "started": self._started, "pid": os.getpid(), **self.facts,
                "camera": self._camera, "frames": self._frames, "fps": self._rate(), "faces": faces,
                "milliseconds": {name: round(stage.mean * 1000, 2) for name, stage in self.stages},
                "temperature": found.temperature, "limits": found.limits, "had": found.had, "memory": found.memory,
                "rss": health.resident_megabytes(), "written_per_day": self._written_per_day(now),
                "events": list(self._events), **self.state(),
            },
        )  # fmt: skip

    def _rate(self) -> float:
        if len(self._times) < 2:
            return 0.0
        return round((len(self._times) - 1) / max(self._times[-1] - self._times[0], 1e-6), 2)

    def _written_per_day(self, now: float) -> float | None:
        """Megabytes a day at the pace since five minutes after the start; None before."""
        count = health.written_bytes()
        if count is None or time.time() - self._started < _SETTLED:
            return None
        if self._base is None:
            self._base = now, count
            return None
        seconds = now - self._base[0]
        return round((count - self._base[1]) / seconds * 86400 / 1e6, 1) if seconds >= _SETTLED else None

    def close(self) -> None:
        """The service ends: nothing runs, so there is nothing to tell."""
        self.path.unlink(missing_ok=True)
