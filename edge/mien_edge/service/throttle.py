"""Lower frame rates of a live camera: when the device is hot, and when nothing moves."""

import logging
import time
from collections.abc import Callable, Iterator

from mien_edge.chain import motion
from mien_edge.chain.sources import Source
from mien_edge.events import EventKind, OnEvent, ignore_event
from mien_edge.settings import ThrottleSettings
from mien_edge.status import health
from mien_edge.status.health import Health
from mien_edge.status.status_file import ThrottleStatus
from mien_edge.values import Frame

_CHECK_INTERVAL = 5.0  # seconds between two readings of the temperature
_RECOVERY_SECONDS = 60.0  # without throttling by the SoC before the frame rate rises again
_EVENT_INTERVAL = 600.0  # seconds; a weak power supply must not fill the log with events
_STEP = 0.8  # factor by which the frame rate falls, and rises again
_MAX_THUMBNAIL_AGE = 10.0  # seconds; daylight changes a picture slowly, and that is no motion
_EARLY = 0.25  # of a frame at the highest rate; a camera's frames are not exactly on time

_log = logging.getLogger("mien.throttle")


class Governor:
    """The frame rate that the device's temperature allows.

    The rate falls by a step each 5 s while the device is hot or its SoC throttles, and rises by a
    step each 5 s while it is cool. Between `settings.cool` and `settings.hot` it stays as it is.

    max_fps: the rate of a cool device, in frames per second.
    on_event: told of 'throttled' and 'cooled'.
    read_health: reads the device's sensors.
    """

    def __init__(
        self,
        settings: ThrottleSettings,
        max_fps: float,
        on_event: OnEvent = ignore_event,
        read_health: Callable[[], Health] = health.read,
    ) -> None:
        self.settings = settings
        self.max_fps = max_fps
        self.fps = max_fps
        self._on_event = on_event
        self._read_health = read_health
        self._checked_at = float("-inf")
        self._throttled_at = float("-inf")
        self._event_at = float("-inf")
        self._needs_cooled_event = False

    def __call__(self, now: float) -> float:
        """Return the frame rate at time `now` (monotonic seconds), in frames per second."""
        if now - self._checked_at >= _CHECK_INTERVAL:
            self._checked_at = now
            self._adjust(self._read_health(), now)
        return self.fps

    def _adjust(self, device: Health, now: float) -> None:
        """Lower or raise the rate by a step, or leave it."""
        temperature = device.temperature
        is_throttled = health.THROTTLED in (device.throttled_now or ())
        is_hot = temperature is not None and temperature >= self.settings.hot
        is_cool = temperature is None or temperature <= self.settings.cool
        if is_throttled:
            self._throttled_at = now
        if is_hot or is_throttled:
            min_fps = min(self.settings.min_fps, self.max_fps)
            self._set_rate(max(self.fps * _STEP, min_fps), device)
        elif is_cool and now - self._throttled_at >= _RECOVERY_SECONDS:
            self._set_rate(min(self.fps / _STEP, self.max_fps), device)

    def _set_rate(self, fps: float, device: Health) -> None:
        """Set the rate; report when it leaves its maximum and when it is back there."""
        previous = self.fps
        self.fps = fps
        leaves_maximum = fps < previous == self.max_fps
        reaches_maximum = previous < fps == self.max_fps
        if leaves_maximum and self._checked_at - self._event_at >= _EVENT_INTERVAL:
            self._event_at = self._checked_at
            self._needs_cooled_event = True
            text = f"less than {previous:g} frames per second until that is over"
            self._report(EventKind.THROTTLED, device, text)
        elif reaches_maximum and self._needs_cooled_event:
            self._needs_cooled_event = False
            self._report(EventKind.COOLED, device, f"{fps:g} frames per second again")

    def _report(self, kind: EventKind, device: Health, text: str) -> None:
        conditions = list(device.throttled_now or ())
        if device.temperature is not None:
            conditions.insert(0, f"{device.temperature} °C")
        message = f"{', '.join(conditions)}: {text}" if conditions else text
        _log.warning("%s: %s", kind, message)
        self._on_event(kind, message)


class ThrottledSource:
    """A live source with frames left out.

    Frames above the governor's rate are left out, and while it idles all but `settings.idle_fps` a
    second.

    It idles after `settings.idle_after` seconds without motion; any motion ends that at once.
    `idle` tells whether it does now.

    monotonic: the clock, in seconds.
    """

    def __init__(
        self,
        source: Source,
        settings: ThrottleSettings,
        governor: Governor,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source = source
        self.settings = settings
        self.governor = governor
        self.idle = False
        self._monotonic = monotonic
        self._thumbnail: motion.Thumbnail | None = None
        self._thumbnail_at = float("-inf")
        self._moved_at = float("-inf")
        self._next_at = float("-inf")

    def state(self) -> ThrottleStatus:
        """Return what the status file says of it."""
        return ThrottleStatus(
            target_fps=round(self.governor.fps, 2),
            idle=self.idle,
            skipped=self.source.skipped,
            failed_reads=getattr(self.source, "failed_reads", 0),
        )

    def __iter__(self) -> Iterator[Frame]:
        tolerance = _EARLY / self.governor.max_fps
        for frame in self.source:
            now = self._monotonic()
            rate = self.governor(now)
            was_idle = self.idle
            self.idle = self._is_idle(frame, now)
            if self.idle:
                rate = min(rate, self.settings.idle_fps)
            elif was_idle:
                self._next_at = now
            if now >= self._next_at - tolerance:
                interval = 1 / rate
                self._next_at = max(self._next_at, now - interval) + interval
                yield frame

    def _is_idle(self, frame: Frame, now: float) -> bool:
        """Return whether nothing has moved for long enough, compared with an earlier frame."""
        if not self.settings.idle_after:
            return False
        thumbnail = motion.thumbnail(frame.image)
        has_moved = motion.moved(self._thumbnail, thumbnail)
        if has_moved:
            self._moved_at = now
        if has_moved or now - self._thumbnail_at > _MAX_THUMBNAIL_AGE:
            self._thumbnail = thumbnail
            self._thumbnail_at = now
        return now - self._moved_at > self.settings.idle_after
