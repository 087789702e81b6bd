"""Fakes for trying and testing a chain without hardware.

They are part of the product: use them for the tests of your own sources, stages and sinks.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from mien_edge.chain.camera import Device
from mien_edge.contract import LABELS
from mien_edge.errors import SourceError
from mien_edge.values import Box, Emotion, Frame, Pixels, Reading


def emotion(
    label: str = "happy", confidence: float = 0.9, labels: tuple[str, ...] = LABELS
) -> Emotion:
    """An emotion with `label` at `confidence`, 0..1, and the rest shared evenly by the others.

    labels: of the model, among them `label`.

    For a test of a stage that works on probabilities: `emotion("sad", 0.4)`.
    """
    other = (1 - confidence) / (len(labels) - 1)
    return Emotion(labels, tuple(confidence if name == label else other for name in labels))


def reading(
    label: str | None = "happy",
    time: float = 0.0,
    track: int = 1,
    confidence: float = 0.9,
    quality: str = "good",
    labels: tuple[str, ...] = LABELS,
) -> Reading:
    """A reading as the chain makes them, at `time` seconds and 15 frames per second.

    For a test of a sink: `sink((reading("happy", 0.0), reading(None, 0.0, track=2)))`. With label
    None it has no emotion; say then in `quality` why. labels: of the model.
    """
    distribution = emotion(label, confidence, labels) if label else None
    box = Box(10, 20, 60, 80)
    return Reading(time, int(time * 15), track, box, distribution, label, quality, "fake-1")


class Capture:
    """A sink that remembers every frame's readings in `frames`, a list with one tuple per frame.

    For a test of a chain: pass it to `pipeline.run` as a sink, then look at `capture.frames`.
    """

    def __init__(self) -> None:
        self.frames: list[tuple[Reading, ...]] = []
        self.closed = False

    def __call__(self, readings: tuple[Reading, ...]) -> None:
        """Append the readings of one frame to `frames`."""
        self.frames.append(readings)

    def close(self) -> None:
        """Set `closed`."""
        self.closed = True


def frames(images: Iterable[Pixels], fps: float = 15.0) -> Iterator[Frame]:
    """A source that yields the pictures as frames, `fps` to a second, from time 0 on.

    For a test of a chain or of one stage: `pipeline.run(frames([picture] * 9), chain, [sink])`.
    """
    for index, image in enumerate(images):
        yield Frame(image, index, index / fps)


class FakeCamera:
    """A `camera.Device` that plays a script.

    script: what each `read` does. A picture is returned, an exception is raised, and
        `FakeCamera.HANG` blocks for ever, as a driver may. After the end the last picture is
        repeated; without one, SourceError is raised.
    pause: seconds before each step.

    For a test of a service's behaviour when its camera fails:
    `LiveCamera(openers(FakeCamera([picture, FakeCamera.HANG])), settings, stop)`.
    """

    HANG = "hang"

    def __init__(self, script: Iterable[Pixels | Exception | str], pause: float = 0.001) -> None:
        self.script = list(script)
        self.pause = pause
        self.closed = False
        self._last_picture: Pixels | None = None
        self._wait = threading.Event()

    def read(self) -> Pixels:
        """Play the next step of the script."""
        self._wait.wait(self.pause)
        step = self.script.pop(0) if self.script else self._last_picture
        while isinstance(step, str):  # HANG
            self._wait.wait()
        if step is None:
            raise SourceError("fake camera: pulled out; plug it in again")
        if isinstance(step, Exception):
            raise step
        self._last_picture = step
        return step

    def close(self) -> None:
        """Set `closed`."""
        self.closed = True


def openers(*cameras: Device | Exception) -> Callable[[], Device]:
    """A function that opens one camera after the other, and the last one again and again.

    cameras: each is returned by one call; an exception is raised instead.

    For a test of a camera that is lost and comes back: pass it to LiveCamera as its `opener`.
    """
    remaining = list(cameras)

    def opener() -> Device:
        camera = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        if isinstance(camera, Exception):
            raise camera
        return camera

    return opener


class FakePicamera2:
    """What devices.PiCamera uses of picamera2 0.3.38's Picamera2.

    Its planes have a stride wider than the picture.

    For a test without a Raspberry Pi: put a module `picamera2` that holds it as `Picamera2` into
    `sys.modules`, and open the source `picamera`. It has one camera; `calls` lists what was called.
    Its signatures are compared with the real package's by tests/edge/chain/test_camera.py.
    """

    stride_padding = 32
    """Pixels that each row of the planes is longer than the picture."""

    def __init__(self, camera_num: int = 0) -> None:
        if camera_num > 0:
            raise IndexError("list index out of range")
        self.calls: list[str] = []
        self.configuration: dict[str, Any] = {}

    def create_video_configuration(
        self, main: Any = None, lores: Any = None, buffer_count: int = 6, controls: Any = None
    ) -> dict[str, Any]:
        """The configuration that the arguments describe, its sizes rounded down to even numbers."""
        width, height = lores["size"]
        aligned = {**lores, "size": (width & ~1, height & ~1)}
        return {"main": main, "lores": aligned, "controls": controls}

    def configure(self, camera_config: dict[str, Any]) -> None:
        """Remember the configuration; `wait` goes by its sizes."""
        self.configuration = camera_config

    def start(self) -> None:
        """Note the call in `calls`."""
        self.calls.append("start")

    def capture_array(self, name: str = "main", wait: bool | None = None) -> str:
        """A job for `wait`: the stream's name. The argument `wait` must be False."""
        assert wait is False  # noqa: S101 - the fake's own contract
        return name

    def wait(self, job: str, timeout: float | None = None) -> Pixels:
        """YUV420 planes of the job's stream, (height * 3 / 2, width + stride_padding) uint8.

        Gray values rise from left to right in Y; the chroma rows and the padding are 128.
        """
        width, height = self.configuration[job]["size"]
        planes = np.full((height * 3 // 2, width + self.stride_padding), 128, np.uint8)
        planes[:height, :width] = np.arange(width, dtype=np.uint8)
        return planes

    def cancel_all_and_flush(self) -> None:
        """Note the call in `calls`."""
        self.calls.append("cancel_all_and_flush")

    def stop(self) -> None:
        """Note the call in `calls`."""
        self.calls.append("stop")

    def close(self) -> None:
        """Note the call in `calls`."""
        self.calls.append("close")
