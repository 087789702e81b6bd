"""Writes the service's status file, once a second and at each change."""

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from mien_edge.chain.pipeline import Timed
from mien_edge.events import EventKind
from mien_edge.formats import ReadingRecord, reading_record
from mien_edge.status import health, status_file
from mien_edge.status.status_file import (
    ModelStatus,
    Status,
    StatusEvent,
    ThrottleStatus,
    UpdateStatus,
)
from mien_edge.values import Frame, Reading

_INTERVAL = 1.0  # seconds between two writings
_MIN_INTERVAL = 0.2  # seconds, also where a label has changed
_FPS_WINDOW = 10.0  # seconds over which the frame rate is measured
_SETTLED = 300.0  # seconds before writes are counted: the start writes more than a day does
_MAX_EVENTS = 5
_TROUBLES = (EventKind.CAMERA_LOST, EventKind.THROTTLED, EventKind.FAILED)
_CAMERA_STATES = {
    EventKind.CAMERA_LOST: "lost",
    EventKind.CAMERA_BACK: "ok",
    EventKind.PAUSED: "paused",
    EventKind.RESUMED: "ok",
}


class StatusWriter:
    """A watcher that keeps the status file of a folder; add its method `event` to the run's
    listeners.

    folder: the service's runtime folder.
    source: the source's address, without a password.
    model: returns the model that runs.
    stages: names and stages of the chain, whose times are reported.
    throttle: returns how the source is throttled; None where it is not.
    monotonic_clock: returns seconds that nobody can set.
    minutes_only: whether nothing of a single face may be written, the labels that two models
        gave included: their counts differ by one face from one writing to the next.
    """

    def __init__(
        self,
        folder: Path,
        source: str,
        model: Callable[[], ModelStatus],
        stages: Sequence[tuple[str, Timed]] = (),
        throttle: Callable[[], ThrottleStatus] | None = None,
        monotonic_clock: Callable[[], float] = time.monotonic,
        minutes_only: bool = False,
    ) -> None:
        self.folder = folder
        self.source = source
        self.stages = stages
        self._model = model
        self._throttle = throttle
        self._monotonic_clock = monotonic_clock
        self._minutes_only = minutes_only
        self._lock = status_file.ServiceLock(folder)
        self._started = time.time()
        self._frames = 0
        self._frame_times: deque[float] = deque()
        self._events: deque[StatusEvent] = deque(maxlen=_MAX_EVENTS)
        self._camera = "starting"
        self._labels: dict[int, str | None] = {}
        self._faces: tuple[ReadingRecord, ...] = ()
        self._written_at = float("-inf")
        self._first_count: tuple[float, int] | None = (
            None  # monotonic seconds, bytes written until then
        )

    def __call__(self, frame: Frame, readings: tuple[Reading, ...]) -> None:
        """Count a frame that has gone through the chain, and write the status if it is time to."""
        now = self._monotonic_clock()
        self._frames += 1
        self._frame_times.append(now)
        while now - self._frame_times[0] > _FPS_WINDOW:
            self._frame_times.popleft()
        if self._camera == "starting":
            self._camera = "ok"
        if self._minutes_only:
            readings = ()
        labels = {reading.track: reading.label for reading in readings}
        self._faces = tuple(reading_record(reading) for reading in readings)
        interval = _INTERVAL if labels == self._labels else _MIN_INTERVAL
        if now - self._written_at >= interval:
            self._labels = labels
            self._write(now, self._faces)

    def event(self, kind: EventKind, text: str) -> None:
        """Write the status at once: something has happened."""
        self._camera = _CAMERA_STATES.get(kind, self._camera)
        if kind in _TROUBLES:
            self._events.append(StatusEvent(time.time(), kind, text))
        self._write(self._monotonic_clock(), ())

    def ended(self) -> None:
        """Write that the source has ended, with the faces of its last frame."""
        self._camera = "ended"
        self._write(self._monotonic_clock(), self._faces)

    def _write(self, now: float, faces: tuple[ReadingRecord, ...]) -> None:
        self._written_at = now
        status_file.write(self.folder, self._status(now, faces))

    def _status(self, now: float, faces: tuple[ReadingRecord, ...]) -> Status:
        model = self._model()
        return Status(
            time=time.time(),
            started=self._started,
            pid=os.getpid(),
            model=model.model,
            bundle=model.bundle,
            source=self.source,
            camera=self._camera,
            frames=self._frames,
            fps=self._fps(),
            faces=faces,
            stage_milliseconds={name: round(stage.mean * 1000, 2) for name, stage in self.stages},
            health=health.read(),
            resident_megabytes=health.resident_megabytes(),
            written_per_day=self._written_per_day(now),
            events=tuple(self._events),
            throttle=self._throttle() if self._throttle else None,
            update=self._without_counts(model.update) if self._minutes_only else model.update,
            minutes_only=self._minutes_only,
            labels=model.labels,
            unreliable_labels=model.unreliable_labels,
        )

    def _without_counts(self, update: UpdateStatus | None) -> UpdateStatus | None:
        """What is tried, without what it has seen until now: the event at its end says that."""
        if update is None or update.shadow is None:
            return update
        shadow = replace(update.shadow, agreement=None, confusion=())
        return replace(update, shadow=shadow)

    def _fps(self) -> float:
        if len(self._frame_times) < 2:
            return 0.0
        seconds = self._frame_times[-1] - self._frame_times[0]
        return round((len(self._frame_times) - 1) / max(seconds, 1e-6), 2)

    def _written_per_day(self, now: float) -> float | None:
        """Megabytes a day at the rate since five minutes after the start; None before that can be
        said.
        """
        count = health.written_bytes()
        if count is None or time.time() - self._started < _SETTLED:
            return None
        if self._first_count is None:
            self._first_count = now, count
            return None
        first_time, first_bytes = self._first_count
        seconds = now - first_time
        if seconds < _SETTLED:
            return None
        bytes_per_day = (count - first_bytes) / seconds * 86400
        return round(bytes_per_day / 1e6, 1)

    def close(self) -> None:
        """Remove the status file: the service ends, and a reader is to see that nothing runs."""
        self._lock.close()
        (self.folder / status_file.NAME).unlink(missing_ok=True)
