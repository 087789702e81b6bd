"""Frame sources: iterables of frames, each chosen by one URI-like setting.

What happens to bad input: a photograph that is truncated, unreadable or no picture is skipped and
counted; gray, RGBA and 16-bit pictures become 8-bit; of a damaged video (chain/video.py) what can
be decoded is read; a camera or stream that yields no frame for `frame_timeout` seconds is closed
and opened again, with growing delays, for as long as the process lives.
"""

import itertools
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Event
from typing import Protocol

import cv2
import numpy as np

from mien_edge.addresses import mask_address
from mien_edge.chain import devices
from mien_edge.chain.camera import Device, LiveCamera, PauseControl
from mien_edge.chain.photos import Photos, is_photo, read_photo
from mien_edge.chain.video import Video
from mien_edge.errors import RuntimeMissingError, SourceError
from mien_edge.events import OnEvent, ignore_event
from mien_edge.paths import package_file
from mien_edge.settings import SourceSettings
from mien_edge.textfiles import is_hidden
from mien_edge.values import Frame, Pixels

_log = logging.getLogger("mien.source")


class Source(Protocol):
    """An iterable of frames.

    still: whether its frames are unrelated photographs.
    live: whether its frames come by themselves, in real time.
    skipped: how many frames it could not read, or dropped because a newer one had come.
    """

    still: bool
    live: bool
    skipped: int

    def __iter__(self) -> Iterator[Frame]: ...


def open_source(
    settings: SourceSettings,
    stop: Event,
    on_event: OnEvent = ignore_event,
    pause_control: PauseControl | None = None,
) -> Source:
    """The source that `settings.uri` names.

    uri: demo, demo:forever, demo:faults, picamera, picamera:1, v4l2:0, a URL, or the path of a
        photograph, of a folder of photographs or of a video.
    stop: ends a camera and the demo when set.
    on_event: informed when a camera is lost, comes back, is paused or resumed.
    pause_control: may pause a camera; other sources ignore it.

    Raises SourceError if a path does not exist or is nothing that can be read, and
    RuntimeMissingError if the demo's photograph is not installed. A camera is opened when the
    iteration begins: that raises the errors of its driver.
    """
    uri = settings.uri
    if uri in ("demo", "demo:forever"):
        return Demo(settings.fps, stop, forever=uri == "demo:forever")
    driver = _camera_driver(uri)
    if driver is None:
        return _open_path(uri)
    return LiveCamera(partial(driver, settings), settings, stop, on_event, pause_control)


def _camera_driver(uri: str) -> Callable[[SourceSettings], Device] | None:
    """What opens the camera that `uri` names; None if it names no camera."""
    if uri == "demo:faults":
        return FaultyDemo
    if uri == "picamera" or uri.startswith("picamera:"):
        return devices.PiCamera
    if uri.startswith("v4l2:"):
        return devices.V4l2
    if "://" in uri:
        return devices.Stream
    return None


def _open_path(uri: str) -> "Photos | Video":
    path = Path(uri)
    if os.path.isdir(path):  # Path.is_dir raises OSError for a name that is too long
        names = (file.relative_to(path) for file in path.iterdir() if is_photo(file))
        photos = sorted(path / name for name in names if not is_hidden(name))
        return Photos(photos, path)
    if not os.path.exists(path):
        hint = "name a photo, a folder, a video, demo, picamera, v4l2:0 or rtsp://…"
        raise SourceError(f"{mask_address(uri)}: no such source; {hint}")
    if is_photo(path):
        return Photos([path], path)
    return Video(path)


class Demo:
    """A real photograph moved, scaled and dimmed over 16 seconds; for two of them nobody is there.

    fps: frames per second, above 0.
    stop: ends it when set.
    forever: begin again after 16 seconds, until `stop` is set.
    paced: wait until each frame is due, as a camera does; else frames come as fast as they are
        asked for, and only their times tell the frame rate.

    The photograph is the astronaut Eileen Collins (NASA, public domain) that scikit-image ships.
    Raises RuntimeMissingError if it is not installed.
    """

    still = False
    seconds = 16.0
    size = (480, 640)
    """(height, width) in pixels."""

    def __init__(
        self,
        fps: float,
        stop: Event | None = None,
        forever: bool = False,
        paced: bool = True,
    ) -> None:
        self.fps = fps
        self.stop = stop or Event()
        self.forever = forever
        self.live = paced
        self.skipped = 0
        self._photo = read_photo(astronaut())

    def __iter__(self) -> Iterator[Frame]:
        start = time.time()
        total = math.inf if self.forever else round(self.seconds * self.fps)
        index = 0
        while index < total and not self.stop.is_set():
            moment = index / self.fps
            if self.live:
                self.stop.wait(max(start + moment - time.time(), 0))
            yield Frame(self.picture(moment % self.seconds), index, start + moment)
            index += 1

    def picture(self, moment: float) -> Pixels:
        """The (480, 640, 3) BGR uint8 picture at `moment` seconds, 0 to 16."""
        height, width = self.size
        angle = 2 * math.pi * moment / self.seconds
        scale = 0.85 + 0.3 * math.sin(2 * angle)
        x = 60 + 70 * math.sin(3 * angle) + width * _absence(moment)
        y = 20 + 25 * math.sin(2 * angle)
        light = 0.65 + 0.35 * math.cos(angle)
        matrix = np.array([[scale, 0, x], [0, scale, y]])
        image = cv2.warpAffine(
            self._photo,
            matrix,
            (width, height),
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(70, 70, 70),
        )
        return cv2.convertScaleAbs(image, alpha=light)  # type: ignore[return-value]


def _absence(moment: float) -> float:
    """How far the person is out of the demo's picture: 0 to 1, 1 from 10.1 to 11.9 seconds."""
    since_start = moment - 8.5
    until_end = 13.5 - moment
    seconds = 1.6  # that it takes to leave, and to come back
    return float(np.clip(min(since_start, until_end) / seconds, 0, 1))


class FaultyDemo:
    """The demo as a camera driver that fails after a minute, each time in another way.

    In turn it hangs for longer than `frame_timeout`, is pulled out, and raises what a driver
    should not. For trying what a service makes of it.
    """

    minute = 60.0
    _faults = itertools.cycle(("hang", "pulled out", "driver"))

    def __init__(self, settings: SourceSettings) -> None:
        self._demo = Demo(settings.fps)
        self._interval = 1 / settings.fps
        self._frame_timeout = settings.frame_timeout
        self._start = time.monotonic()

    def read(self) -> Pixels:
        """The next (480, 640, 3) BGR uint8 picture.

        Raises SourceError or RuntimeError when the minute is over.
        """
        time.sleep(self._interval)
        moment = time.monotonic() - self._start
        if moment > self.minute:
            self._fail()
        return self._demo.picture(moment % self._demo.seconds)

    def _fail(self) -> None:
        fault = next(self._faults)
        if fault == "hang":
            time.sleep(self._frame_timeout + 5)
        if fault == "driver":
            raise RuntimeError("demo: the driver says no")
        raise SourceError("demo: pulled out; plug it in again")

    def close(self) -> None:
        """Do nothing: there is no device."""


def astronaut() -> Path:
    """The demo's photograph. Raises RuntimeMissingError if scikit-image is not installed."""
    path = package_file("skimage", "data/astronaut.png")
    if path is None:
        raise RuntimeMissingError("the demo's photograph is missing; pip install scikit-image")
    return path
