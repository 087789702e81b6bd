"""Frame sources: iterables of frames, each chosen by one URI-like setting.

What happens to bad input: a photograph that is truncated, unreadable or no picture is skipped and counted; gray, RGBA
and 16-bit pictures become 8-bit; a video ends where it can no longer be decoded; a camera or stream that yields no
frame for `frame_timeout` seconds is closed and opened again, with growing pauses, for as long as the process lives.
"""

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Event
from typing import Protocol

import cv2
import numpy as np

from mien_edge import paths as device_paths
from mien_edge.chain import camera, devices
from mien_edge.errors import RuntimeMissingError, SourceError
from mien_edge.events import OnEvent
from mien_edge.settings import SourceSettings
from mien_edge.values import Frame, Pixels

_PHOTOS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm")

_log = logging.getLogger("mien.source")


class Source(Protocol):
    """An iterable of frames. `still` tells that its frames are unrelated photographs, `live` that they come by
    themselves, in real time; `skipped` counts what it could not read, or dropped because a newer frame had come.
    """

    still: bool
    live: bool
    skipped: int

    def __iter__(self) -> Iterator[Frame]: ...


def open_source(
    settings: SourceSettings,
    stop: Event,
    on_event: OnEvent = camera.silent,
    switch: camera.PauseControl | None = None,
) -> Source:
    """The source that `settings.uri` names; `switch` may pause a camera. Raises SourceError if it does not exist."""
    uri = settings.uri
    if uri in ("demo", "demo:forever"):
        return Demo(settings.fps, stop, forever=uri.endswith("forever"))
    device = _device(uri)
    return (
        camera.LiveCamera(partial(device, settings), settings, stop, on_event, switch)
        if device
        else _from_path(Path(uri))
    )


def _device(uri: str) -> Callable[[SourceSettings], camera.Device] | None:
    if uri == "demo:faults":
        return FaultyDemo
    if uri == "picamera" or uri.startswith("picamera:"):
        return devices.PiCamera
    if uri.startswith("v4l2:"):
        return devices.V4l2
    return devices.Stream if "://" in uri else None


def _from_path(path: Path) -> Source:
    if path.is_dir():
        return Photos(sorted(each for each in path.iterdir() if each.suffix.lower() in _PHOTOS), path)
    if not path.exists():
        raise SourceError(
            f"{path}: no such source; name a photo, a folder, a video, demo, picamera, v4l2:0 or rtsp://…"
        )
    if path.suffix.lower() in _PHOTOS:
        return Photos([path], path)
    return Video(path)


class Photos:
    """Photographs, one frame each."""

    still, live = True, False

    def __init__(self, paths: list[Path], place: Path) -> None:
        if not paths:
            raise SourceError(f"{place}: no photograph in this folder; it needs files ending in {', '.join(_PHOTOS)}")
        self.paths, self.skipped = paths, 0

    def __iter__(self) -> Iterator[Frame]:
        for index, path in enumerate(self.paths):
            try:
                image = read_photo(path)
            except SourceError as problem:
                self.skipped += 1
                _log.warning("skipped: %s", problem)
            else:
                yield Frame(image, index, time.time(), path.name)


def read_photo(path: Path) -> Pixels:
    """A picture file as (height, width, 3) BGR uint8, turned upright by its EXIF note. Raises SourceError if it is
    damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise SourceError(f"{path}: cannot be read ({problem.strerror}); check the file") from None
    if content[:2] == b"\xff\xd8" and b"\xff\xd9" not in content[len(content) // 2 :]:
        raise SourceError(f"{path}: a JPEG without its end; copy the file again")
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    except cv2.error:
        image = None
    if image is None:
        raise SourceError(f"{path}: not a picture that OpenCV can read, or of over 100 megapixels; convert it to JPEG")
    return image  # type: ignore[return-value]


class Video:
    """A video file, every frame in order; time runs as in the video, from now on."""

    still = live = False

    def __init__(self, path: Path) -> None:
        self.path, self.skipped = path, 0
        capture = cv2.VideoCapture(str(path))
        self.fps, self._expected = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if not capture.isOpened():
            raise SourceError(f"{path}: not a video that OpenCV can read; convert it, e.g. with ffmpeg, to H.264 MP4")

    def __iter__(self) -> Iterator[Frame]:
        capture, start, index = cv2.VideoCapture(str(self.path)), time.time(), 0
        try:
            while True:
                arrived, image = capture.read()
                if not arrived:
                    break
                seconds = index / self.fps if self.fps > 0 else capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                yield Frame(image, index, start + seconds)  # type: ignore[arg-type]
                index += 1
        finally:
            capture.release()
        if index < self._expected:
            self.skipped = self._expected - index
            _log.warning("%s ends after %d of %d frames: it is damaged from there", self.path, index, self._expected)


class Demo:
    """A real photograph moved, scaled and dimmed over 16 seconds; for two of them nobody is there.

    The photograph is the astronaut Eileen Collins (NASA, public domain) that scikit-image ships.
    """

    still = False
    seconds = 16.0
    size = (480, 640)

    def __init__(self, fps: float, stop: Event | None = None, forever: bool = False, paced: bool = True) -> None:
        self.fps, self.stop, self.forever, self.live = fps, stop or Event(), forever, paced
        self.skipped = 0
        self._photo = read_photo(astronaut())

    def __iter__(self) -> Iterator[Frame]:
        start, index = time.time(), 0
        total = math.inf if self.forever else round(self.seconds * self.fps)
        while index < total and not self.stop.is_set():
            moment = index / self.fps
            if self.live:
                self.stop.wait(max(start + moment - time.time(), 0))
            yield Frame(self.picture(moment % self.seconds), index, start + moment)
            index += 1

    def picture(self, moment: float) -> Pixels:
        """The (480, 640, 3) BGR picture at `moment` seconds."""
        height, width = self.size
        turn = 2 * math.pi * moment / self.seconds
        scale = 0.85 + 0.3 * math.sin(2 * turn)
        away = 640 * _bump(moment, 8.5, 13.5)
        x = 60 + 70 * math.sin(3 * turn) + away
        y = 20 + 25 * math.sin(2 * turn)
        light = 0.65 + 0.35 * math.cos(turn)
        matrix = np.array([[scale, 0, x], [0, scale, y]])
        moved = cv2.warpAffine(
            self._photo, matrix, (width, height), borderMode=cv2.BORDER_CONSTANT, borderValue=(70, 70, 70)
        )
        return cv2.convertScaleAbs(moved, alpha=light)  # type: ignore[return-value]


class FaultyDemo:
    """The demo as a camera that fails after a minute, each time otherwise: it hangs for a while, it is pulled out, its
    driver raises what it likes. For trying what a service makes of it.
    """

    minute = 60.0
    _faults = itertools.cycle(("hang", "pulled out", "driver"))

    def __init__(self, settings: SourceSettings) -> None:
        self._demo, self._pause, self._patience = Demo(settings.fps), 1 / settings.fps, settings.frame_timeout
        self._start = time.monotonic()

    def read(self) -> Pixels:
        """The next picture, until the minute is over."""
        time.sleep(self._pause)
        moment = time.monotonic() - self._start
        if moment > self.minute:
            fault = next(self._faults)
            if fault == "hang":
                time.sleep(self._patience + 5)
            if fault == "driver":
                raise RuntimeError("demo: the driver says no")
            raise SourceError("demo: pulled out; plug it in again")
        return self._demo.picture(moment % self._demo.seconds)

    def close(self) -> None:
        """Nothing is held."""


def _bump(moment: float, start: float, end: float) -> float:
    """0 outside of start..end, rising to 1 and falling again at its ends within 1.6 seconds."""
    return float(np.clip(min(moment - start, end - moment) / 1.6, 0, 1))


def astronaut() -> Path:
    """The demo's photograph. Raises RuntimeMissingError if scikit-image is not installed."""
    path = device_paths.package_file("skimage", "data/astronaut.png")
    if path is None:
        raise RuntimeMissingError("the demo's photograph is missing; pip install scikit-image")
    return path
