"""Live cameras: a thread reads, the newest frame wins, and a camera that goes silent is reopened.

This is the only place of the runtime with threads.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from mien_edge.addresses import mask_text
from mien_edge.errors import FrameError
from mien_edge.events import EventKind, OnEvent, ignore_event
from mien_edge.settings import SourceSettings
from mien_edge.values import Frame, Pixels

THREAD = "mien-camera"
"""The name of each reader thread."""

_TICK = 0.2  # seconds between two looks at whether the pause is over
_POLL = 0.1  # seconds between two looks at whether `stop` is set
_FIRST_DELAY = 1.0  # seconds from the loss of a camera to the first attempt to reopen it
_CLOSE_TIMEOUT = 2.0  # seconds
_FAILURE_PAUSE = 0.01  # seconds from a read that failed to the next

_log = logging.getLogger("mien.source")


class Device(Protocol):
    """An opened camera."""

    def read(self) -> Pixels:
        """Wait for one frame: uint8, (height, width) gray or (height, width, 3) BGR.

        Raises FrameError for one frame that failed, after which the next is read, and SourceError
        when the camera is gone; a driver may raise anything else.
        """
        ...

    def close(self) -> None:
        """Release the camera; also called after `read` has raised."""
        ...


class PauseControl(Protocol):
    """Says when the camera has to be off, and is informed when it goes on and off.

    `service.gpio.GpioSwitch` is one: a button and an LED.
    """

    @property
    def paused(self) -> bool:
        """Whether the camera has to be off."""
        ...

    def camera(self, on: bool) -> None:
        """Take note that the camera has just been opened (`on`), or is closed."""
        ...

    def on_tick(self) -> None:
        """Take note that the camera is still paused; called every 0.2 seconds of a pause."""
        ...


class NoPause:
    """A PauseControl that never pauses the camera."""

    paused = False

    def camera(self, on: bool) -> None:
        """Do nothing."""

    def on_tick(self) -> None:
        """Do nothing."""


class LiveCamera:
    """The frames of a live camera, until `stop` is set.

    opener: opens the camera. The first call must succeed, its error ends the iteration; later
        ones are repeated until one succeeds, with growing delays.
    settings: `frame_timeout` is how long the camera may be silent, `max_retry_delay` the longest
        delay between two attempts to reopen it; both in seconds.
    stop: ends the iteration, also while the camera is silent or paused.
    on_event: informed of CAMERA_LOST, CAMERA_BACK, PAUSED and RESUMED.
    pause_control: while it is paused, the device is closed and there are no frames.
    clock: seconds; it never goes back.

    `skipped` counts frames that were dropped because a newer one came before the chain was ready,
    `failed_reads` those that failed (FrameError): a camera is lost only once `frame_timeout`
    seconds have passed without a good one.
    Each opening has a reader thread of its own; one that hangs in a driver is left behind, and its
    frames are ignored.
    """

    paths = ()
    live = True

    def __init__(
        self,
        opener: Callable[[], Device],
        settings: SourceSettings,
        stop: threading.Event,
        on_event: OnEvent = ignore_event,
        pause_control: PauseControl | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._opener = opener
        self._settings = settings
        self._stop = stop
        self._on_event = on_event
        self._pause_control = pause_control or NoPause()
        self._clock = clock
        self.skipped = 0
        self.failed_reads = 0
        self._next_index = 0

    def __iter__(self) -> Iterator[Frame]:
        reader = self._wait_for_resume(None) if self._pause_control.paused else self._open()
        try:
            while reader is not None and not self._stop.is_set():
                if self._pause_control.paused:
                    reader = self._wait_for_resume(reader)
                    continue
                frame = self._next_frame(reader)
                if frame is not None:
                    yield frame
                elif not self._pause_control.paused and not self._stop.is_set():
                    reader = self._reconnect(reader)
        finally:
            if reader is not None:
                reader.close()
            self._pause_control.camera(False)

    def _open(self) -> "_Reader":
        reader = _Reader(self._opener(), self._clock, self._count_failed_read)
        self._pause_control.camera(True)
        return reader

    def _count_failed_read(self) -> None:
        self.failed_reads += 1

    def _next_frame(self, reader: "_Reader") -> Frame | None:
        """The newest frame; None if the reader failed or timed out, or if `stop` was set."""
        deadline = self._clock() + self._settings.frame_timeout
        while self._clock() < deadline and not self._stop.is_set():
            capture = reader.take_newest(_POLL)
            if capture is not None:
                self.skipped += capture.dropped
                index = self._next_index + capture.dropped
                self._next_index = index + 1
                return Frame(capture.image, index, capture.captured_at)
            if reader.problem:
                return None
        return None

    def _wait_for_resume(self, reader: "_Reader | None") -> "_Reader | None":
        """Close the camera, and reopen it when the pause is over; None once `stop` is set."""
        if reader is not None:
            reader.close()
        self._pause_control.camera(False)
        self._emit(EventKind.PAUSED, "the camera is off: it was paused at the device")
        while self._pause_control.paused and not self._stop.wait(_TICK):
            self._pause_control.on_tick()
        if self._stop.is_set():
            return None
        reader = self._open_with_backoff(0.0)
        if reader is not None:
            self._emit(EventKind.RESUMED, "the camera is on again")
        return reader

    def _reconnect(self, reader: "_Reader") -> "_Reader | None":
        """Leave a reader that failed or is silent, and reopen; None once `stop` is set."""
        self._emit(EventKind.CAMERA_LOST, self._problem(reader))
        reader.abandon()
        self._pause_control.camera(False)
        delay = min(_FIRST_DELAY, self._settings.max_retry_delay)
        new_reader = self._open_with_backoff(delay)
        if new_reader is not None:
            self._emit(EventKind.CAMERA_BACK, "frames flow again")
        return new_reader

    def _problem(self, reader: "_Reader") -> str:
        """Why a reader has no frame, without the secrets of the camera's address."""
        problem = reader.problem
        if not problem:
            problem = f"no frame for {self._settings.frame_timeout:g} s"
            if reader.failure:
                problem = f"{problem}: {reader.failure}"
        return mask_text(problem, self._settings.uri)

    def _open_with_backoff(self, delay: float) -> "_Reader | None":
        """A reader that has a frame, after `delay`, 2, 4 … seconds; None once `stop` is set."""
        while not self._stop.wait(delay):
            if self._pause_control.paused:
                return self._wait_for_resume(None)
            try:
                reader = self._open()
            except Exception as problem:  # a driver may raise anything
                text = mask_text(str(problem), self._settings.uri)
                _log.warning("%s; trying again", text)
            else:
                if reader.wait_for_frame(self._settings.frame_timeout, self._stop):
                    return reader
                reader.abandon()
                self._pause_control.camera(False)
            delay = min(max(delay * 2, _FIRST_DELAY), self._settings.max_retry_delay)
        return None

    def _emit(self, kind: EventKind, text: str) -> None:
        _log.warning("%s: %s", kind, text)
        self._on_event(kind, text)


class _Capture(NamedTuple):
    """A picture that a device delivered.

    captured_at: seconds since 1970 (UTC).
    dropped: how many older pictures it replaced before anybody took them.
    """

    image: Pixels
    captured_at: float
    dropped: int


class _Reader:
    """A thread that reads a device until it fails or is abandoned, and holds the newest picture.

    `problem` is empty, or says why the device failed; `failure` is empty, or says why the last read
    failed, after which the next one is tried. `on_failed_read` is called for each of these.
    """

    def __init__(
        self,
        device: Device,
        clock: Callable[[], float],
        on_failed_read: Callable[[], None],
    ) -> None:
        self.problem = ""
        self.failure = ""
        self._on_failed_read = on_failed_read
        self._device = device
        self._clock = clock
        self._condition = threading.Condition()
        self._newest: _Capture | None = None
        self._abandoned = False
        self._thread = threading.Thread(target=self._read_all, name=THREAD, daemon=True)
        self._thread.start()

    def take_newest(self, timeout: float) -> _Capture | None:
        """Remove and return the newest picture; None if there is none within `timeout` seconds."""
        with self._condition:
            self._condition.wait_for(self._has_news, timeout)
            capture = self._newest
            self._newest = None
            return capture

    def wait_for_frame(self, timeout: float, stop: threading.Event) -> bool:
        """Whether a picture came within `timeout` seconds; it stays for `take_newest`."""
        deadline = self._clock() + timeout
        with self._condition:
            while not self._has_news() and self._clock() < deadline and not stop.is_set():
                self._condition.wait(_POLL)
            return self._newest is not None

    def abandon(self) -> None:
        """Let the thread close its device; do not wait, for it may hang in a driver."""
        with self._condition:
            self._abandoned = True
            self._condition.notify_all()

    def close(self) -> None:
        """Abandon the device and wait up to two seconds until it is closed."""
        self.abandon()
        self._thread.join(_CLOSE_TIMEOUT)

    def _has_news(self) -> bool:
        return self._newest is not None or self.problem != ""

    def _read_all(self) -> None:
        try:
            while not self._abandoned:
                self._read()
        except Exception as problem:  # a driver may raise anything: the camera is lost
            with self._condition:
                self.problem = str(problem) or type(problem).__name__
                self._condition.notify_all()
        finally:
            self._device.close()

    def _read(self) -> None:
        try:
            image = self._device.read()
        except FrameError as failure:
            self._skip(str(failure))
        else:
            self._put(image)

    def _skip(self, failure: str) -> None:
        """Count a read that failed, and wait a moment: a driver may fail at once each time."""
        with self._condition:
            if self._abandoned:
                return
            self.failure = failure
            self._on_failed_read()
            self._condition.wait(_FAILURE_PAUSE)

    def _put(self, image: Pixels) -> None:
        with self._condition:
            self.failure = ""
            dropped = 0 if self._newest is None else self._newest.dropped + 1
            self._newest = _Capture(image, time.time(), dropped)
            self._condition.notify_all()
