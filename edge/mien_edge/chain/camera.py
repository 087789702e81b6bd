"""Live cameras: a thread reads, the newest frame wins, and a camera that goes silent is opened anew.

This is the only place of the runtime with threads.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from mien_edge.events import EventKind, OnEvent
from mien_edge.settings import SourceSettings
from mien_edge.values import Frame, Pixels

"""Called with a kind ('camera lost', 'camera back') and a text."""

THREAD = "mien-camera"
_CLOSING = 2.0  # seconds

_log = logging.getLogger("mien.source")


def silent(kind: EventKind, text: str) -> None:
    """An OnEvent that does nothing."""


class Device(Protocol):
    """An opened camera. `read` blocks for one frame and raises SourceError when the camera is gone."""

    def read(self) -> Pixels: ...

    def close(self) -> None: ...


class PauseControl(Protocol):
    """Who may pause the camera, and is told when it goes on and off; gpio.GpioSwitch is one."""

    @property
    def paused(self) -> bool: ...

    def camera(self, on: bool) -> None: ...

    def on_tick(self) -> None: ...


class NoPause:
    """A Switch that nobody touches."""

    paused = False

    def camera(self, on: bool) -> None:
        """Nobody looks."""

    def on_tick(self) -> None:
        """It never does."""


class LiveCamera:
    """Frames of a live camera, until `stop` is set; none while `switch` pauses it, and the device is closed then.

    Each opening has a reader thread of its own; one that hangs in a driver is left behind and its frames are
    ignored. The first opening must succeed; later ones are tried again and again. `skipped` counts frames that were
    dropped because a newer one came before the chain was ready.
    """

    still, live = False, True

    def __init__(
        self,
        opener: Callable[[], Device],
        settings: SourceSettings,
        stop: threading.Event,
        on_event: OnEvent = silent,
        switch: PauseControl | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._opener, self._settings, self._stop, self._on_event = opener, settings, stop, on_event
        self._clock = clock
        self._switch = switch or NoPause()
        self.skipped, self._index = 0, 0

    def __iter__(self) -> Iterator[Frame]:
        reader = self._resumed(None) if self._switch.paused else self._opened()
        try:
            while reader is not None and not self._stop.is_set():
                frame = None if self._switch.paused else self._wait(reader)
                if frame is not None:
                    yield frame
                elif self._switch.paused:
                    reader = self._resumed(reader)
                elif not self._stop.is_set():
                    reader = self._replaced(reader)
        finally:
            if reader is not None:
                reader.close()
            self._switch.camera(False)

    def _opened(self) -> "_Reader":
        reader = _Reader(self._opener())
        self._switch.camera(True)
        return reader

    def _resumed(self, reader: "_Reader | None") -> "_Reader | None":
        """Close the camera until nobody pauses it any more."""
        if reader is not None:
            reader.close()
        self._switch.camera(False)
        self._tell(EventKind.PAUSED, "the camera is off, as somebody at the device wants it")
        while self._switch.paused and not self._stop.wait(0.2):
            self._switch.on_tick()
        if self._stop.is_set():
            return None
        fresh = self._reopened(pause=0.0)
        if fresh is not None:
            self._tell(EventKind.RESUMED, "the camera is on again")
        return fresh

    def _replaced(self, lost: "_Reader") -> "_Reader | None":
        self._tell(EventKind.CAMERA_LOST, lost.problem or f"no frame for {self._settings.frame_timeout:g} s")
        lost.abandon()
        self._switch.camera(False)
        fresh = self._reopened(min(1.0, self._settings.max_retry_delay))
        if fresh is not None:
            self._tell(EventKind.CAMERA_BACK, "frames flow again")
        return fresh

    def _wait(self, reader: "_Reader") -> Frame | None:
        """The newest frame, or None when the reader failed, `frame_timeout` is over or `stop` was set."""
        deadline = self._clock() + self._settings.frame_timeout
        while self._clock() < deadline and not self._stop.is_set():
            image, captured_at, dropped = reader.newest(timeout=0.1)
            if image is not None:
                self.skipped += dropped
                self._index += dropped + 1
                return Frame(image, self._index - 1, captured_at)
            if reader.problem:
                return None
        return None

    def _reopened(self, pause: float) -> "_Reader | None":
        """A reader that has yielded a frame, tried with pauses of 1, 2, 4 … seconds; None once `stop` is set."""
        while not self._stop.wait(pause):
            if self._switch.paused:
                return self._resumed(None)
            try:
                reader = self._opened()
            except Exception as problem:  # a driver may raise anything
                _log.warning("%s; trying again", problem)
            else:
                if reader.arrived(self._settings.frame_timeout, self._stop, self._clock):
                    return reader
                reader.abandon()
                self._switch.camera(False)
            pause = min(max(pause * 2, 1.0), self._settings.max_retry_delay)
        return None

    def _tell(self, kind: EventKind, text: str) -> None:
        _log.warning("%s: %s", kind, text)
        self._on_event(kind, text)


class _Reader:
    def __init__(self, device: Device) -> None:
        self.problem = ""
        self._device = device
        self._condition = threading.Condition()
        self._image: Pixels | None = None
        self._captured_at, self._unread, self._ended = 0.0, 0, False
        self._thread = threading.Thread(target=self._work, name=THREAD, daemon=True)
        self._thread.start()

    def newest(self, timeout: float) -> tuple[Pixels | None, float, int]:
        """Take the newest frame, its time and how many older ones were dropped; None after `timeout` seconds."""
        with self._condition:
            self._condition.wait_for(lambda: self._image is not None or self.problem, timeout)
            image, dropped = self._image, max(self._unread - 1, 0)
            self._image, self._unread = None, 0
            return image, self._captured_at, dropped

    def arrived(self, timeout: float, stop: threading.Event, clock: Callable[[], float]) -> bool:
        """Whether a frame came within `timeout` seconds of `clock`; it stays to be taken."""
        deadline = clock() + timeout
        with self._condition:
            while self._image is None and not self.problem and clock() < deadline and not stop.is_set():
                self._condition.wait(0.1)
            return self._image is not None

    def abandon(self) -> None:
        """Tell the thread to close its device; do not wait, for it may hang in a driver."""
        with self._condition:
            self._ended = True

    def close(self) -> None:
        """Abandon the device and wait up to two seconds until it is closed."""
        self.abandon()
        self._thread.join(_CLOSING)

    def _work(self) -> None:
        try:
            while not self._ended:
                image = self._device.read()
                with self._condition:
                    self._image, self._captured_at = image, time.time()
                    self._unread += 1
                    self._condition.notify_all()
        except Exception as problem:  # a driver may raise anything; whatever it is, the camera is lost
            with self._condition:
                self.problem = str(problem) or type(problem).__name__
                self._condition.notify_all()
        finally:
            self._device.close()
