"""No more work than is needed and than the device bears: slower when hot, almost at rest when nothing moves."""

import logging
import time
from collections.abc import Callable, Iterator

from mien_edge.chain import camera, motion
from mien_edge.chain.sources import Source
from mien_edge.events import EventKind, OnEvent
from mien_edge.settings import ThrottleSettings
from mien_edge.status import health
from mien_edge.status.health import Health
from mien_edge.status.status_file import ThrottleStatus
from mien_edge.values import Frame

_LOOK_EVERY = 5.0  # seconds between looks at the temperature
_UNLIMITED = 60.0  # seconds without throttling before the rate rises again
_TELL_EVERY = 600.0  # seconds between two events: a weak power supply, going to and fro, must not fill the log
_STEP = 0.8  # of the frame rate, each time
_STALE = 10.0  # seconds after which a still picture is compared with a newer one: daylight moves too
_LATE = 0.25  # of a frame at the highest rate, for a camera does not come to the millisecond

_log = logging.getLogger("mien.load")


class Governor:
    """The frame rate that the device bears: a step down each 5 s while it is hot or throttled, a step up while cool.

    Between `cool` and `hot` it stays, so that it does not swing. `fps` is the rate now, `most` the highest.
    """

    def __init__(
        self,
        settings: ThrottleSettings,
        most: float,
        on_event: OnEvent = camera.silent,
        read: Callable[[], Health] = health.read,
    ) -> None:
        self.settings, self.most, self.fps = settings, most, most
        self._on_event, self._read = on_event, read
        self._looked = self._limited = self._told = float("-inf")
        self._is_told = False

    def __call__(self, now: float) -> float:
        """The rate at time `now` (steady seconds), in frames per second."""
        if now - self._looked >= _LOOK_EVERY:
            self._looked = now
            self._decide(self._read(), now)
        return self.fps

    def _decide(self, found: Health, now: float) -> None:
        warm, limits = found.temperature, found.throttled_now or ()
        if "throttled" in limits:
            self._limited = now
        if (warm is not None and warm >= self.settings.hot) or self._limited == now:
            self._set(max(self.fps * _STEP, min(self.settings.min_fps, self.most)), found)
        elif (warm is None or warm <= self.settings.cool) and now - self._limited >= _UNLIMITED:
            self._set(min(self.fps / _STEP, self.most), found)

    def _set(self, fps: float, found: Health) -> None:
        was, self.fps = self.fps, fps
        state = f"{found.temperature} °C" + "".join(f", {limit}" for limit in found.throttled_now or ())
        if was == self.most and fps < was and self._looked - self._told >= _TELL_EVERY:
            self._told, self._is_told = self._looked, True
            self._tell(EventKind.THROTTLED, f"{state}: fewer frames than {was:g} a second until that is over")
        elif fps == self.most and was < fps and self._is_told:
            self._is_told = False
            self._tell(EventKind.COOLED, f"{state}: {fps:g} frames a second again")

    def _tell(self, kind: EventKind, text: str) -> None:
        _log.warning("%s: %s", kind, text)
        self._on_event(kind, text)


class ThrottledSource:
    """A live source with frames left out: those above the governor's rate, and all but `idle_fps` a second once nothing
    has moved for `idle_after` seconds. Any movement ends that at once. `idle` tells whether it rests now.
    """

    def __init__(
        self,
        source: Source,
        settings: ThrottleSettings,
        governor: Governor,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source, self.settings, self.governor = source, settings, governor
        self.idle = False
        self._steady = steady
        self._seen: motion.Thumbnail | None = None
        self._seen_at = self._moved_at = self._due = float("-inf")

    def state(self) -> ThrottleStatus:
        """For the status: the rate aimed at, whether it rests, and how many frames were dropped for a newer one."""
        return ThrottleStatus(round(self.governor.fps, 2), self.idle, self.source.skipped)

    def __iter__(self) -> Iterator[Frame]:
        for frame in self.source:
            now = self._steady()
            rate, rested = self.governor(now), self.idle
            self.idle = self._rests(frame, now)
            if self.idle:
                rate = min(rate, self.settings.idle_fps)
            elif rested:
                self._due = now
            if now >= self._due - _LATE / self.governor.most:
                self._due = max(self._due, now - 1 / rate) + 1 / rate
                yield frame

    def _rests(self, frame: Frame, now: float) -> bool:
        if not self.settings.idle_after:
            return False
        small = motion.thumbnail(frame.image)
        stirs = motion.moved(self._seen, small)
        if stirs:
            self._moved_at = now
        if stirs or now - self._seen_at > _STALE:
            self._seen, self._seen_at = small, now
        return now - self._moved_at > self.settings.idle_after
