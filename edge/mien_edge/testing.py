"""Fakes for trying and testing a chain without hardware. They are part of the product: use them for your own tests."""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from mien_edge.contract import LABELS
from mien_edge.errors import SourceError
from mien_edge.values import Box, Emotion, Frame, Pixels, Reading


def emotion(label: str = "happy", confidence: float = 0.9) -> Emotion:
    """An emotion with `label` at `confidence` and the rest spread evenly over the others."""
    rest = (1 - confidence) / (len(LABELS) - 1)
    return Emotion(LABELS, tuple(confidence if name == label else rest for name in LABELS))


def reading(
    label: str | None = "happy", time: float = 0.0, track: int = 1, confidence: float = 0.9, quality: str = "good"
) -> Reading:
    """A reading; with label None it has no emotion."""
    found = emotion(label, confidence) if label else None
    return Reading(time, int(time * 15), track, Box(10, 20, 60, 80), found, label, quality, "fake-1")


class Capture:
    """A sink that keeps what it is given, as a list with one tuple per frame."""

    def __init__(self) -> None:
        self.frames: list[tuple[Reading, ...]] = []
        self.closed = False

    def __call__(self, readings: tuple[Reading, ...]) -> None:
        """Keep one frame's readings."""
        self.frames.append(readings)

    def close(self) -> None:
        """Remember it."""
        self.closed = True


def frames(images: Iterable[Pixels], fps: float = 15.0) -> Iterator[Frame]:
    """Frames of the given pictures, from time 0 on."""
    for index, image in enumerate(images):
        yield Frame(image, index, index / fps)


class FakeCamera:
    """A camera.Device that plays a script: a picture is returned, an exception raised, and HANG blocks for ever.

    After the script it repeats its last picture, or fails if there was none. `pause` seconds lie between frames.
    """

    HANG = "hang"

    def __init__(self, script: Iterable[Any], pause: float = 0.001) -> None:
        self.script, self.pause = list(script), pause
        self.closed = False
        self._last: Pixels | None = None
        self._wait = threading.Event()

    def read(self) -> Pixels:
        """The next of the script."""
        self._wait.wait(self.pause)
        step = self.script.pop(0) if self.script else self._last
        if isinstance(step, str):
            self._wait.wait()
        if step is None:
            raise SourceError("fake camera: pulled out; plug it in again")
        if isinstance(step, Exception):
            raise step
        self._last = step
        return step

    def close(self) -> None:
        """Remember it."""
        self.closed = True


def openers(*cameras: Any) -> Callable[[], Any]:
    """An opener that gives one camera after the other, the last one again and again; an exception is raised."""
    left = list(cameras)

    def opener() -> Any:
        chosen = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(chosen, Exception):
            raise chosen
        return chosen

    return opener


class FakePicamera2:
    """What camera.PiCamera uses of picamera2 0.3.38's Picamera2, with a stride wider than the picture.

    Its signatures are compared with the real package's by tests/edge/chain/test_camera.py.
    """

    stride_padding = 32

    def __init__(self, camera_num: int = 0) -> None:
        if camera_num > 0:
            raise IndexError("list index out of range")
        self.calls: list[str] = []
        self.configuration: dict[str, Any] = {}

    def create_video_configuration(
        self, main: Any = None, lores: Any = None, buffer_count: int = 6, controls: Any = None
    ) -> dict[str, Any]:
        """A configuration as asked for, its sizes aligned to even numbers."""
        width, height = lores["size"]
        return {"main": main, "lores": {**lores, "size": (width & ~1, height & ~1)}, "controls": controls}

    def configure(self, camera_config: dict[str, Any]) -> None:
        """Take a configuration."""
        self.configuration = camera_config

    def start(self) -> None:
        """Begin."""
        self.calls.append("start")

    def capture_array(self, name: str = "main", wait: bool | None = None) -> str:
        """A job; `wait` must be False."""
        assert wait is False  # noqa: S101 - the fake's own contract
        return name

    def wait(self, job: str, timeout: float | None = None) -> Pixels:
        """YUV420 planes of the stream: rising gray values in Y, 128 in the chroma rows and the padding."""
        width, height = self.configuration[job]["size"]
        planes = np.full((height * 3 // 2, width + self.stride_padding), 128, np.uint8)
        planes[:height, :width] = np.arange(width, dtype=np.uint8)
        return planes

    def cancel_all_and_flush(self) -> None:
        """Drop unfinished jobs."""
        self.calls.append("cancel_all_and_flush")

    def stop(self) -> None:
        """End."""
        self.calls.append("stop")

    def close(self) -> None:
        """Release."""
        self.calls.append("close")
