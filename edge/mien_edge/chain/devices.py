"""Drivers of live cameras: picamera2, V4L2 and network streams. Each is a `camera.Device`.

A driver is called with the SourceSettings and opens the camera that `uri` names, at `width`,
`height` (pixels) and `fps` where the camera can be asked for that.
"""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import cv2

from mien_edge.errors import RuntimeMissingError, SourceError
from mien_edge.settings import SourceSettings
from mien_edge.values import Pixels

_CHECK_CAMERA = "see whether rpicam-hello --list-cameras finds it and no other program uses it"


class PiCamera:
    """A Raspberry Pi camera through picamera2 0.3: `picamera`, or `picamera:1` for the second one.

    The lores stream's Y plane is the gray picture, so nothing is converted.

    Raises RuntimeMissingError if picamera2 does not load, and SourceError if `uri` has no camera
    number, or the camera is absent or in use.
    """

    def __init__(self, settings: SourceSettings) -> None:
        picamera2_class = _import_picamera2()
        number = _camera_number(settings.uri)
        self._size = (settings.width, settings.height)
        self._timeout = settings.frame_timeout
        try:
            self._camera = picamera2_class(number)
        except Exception as problem:  # libcamera raises IndexError, RuntimeError and others
            raise SourceError(f"{settings.uri}: {problem}; {_CHECK_CAMERA}") from None
        try:
            self._start(settings.fps)
        except Exception as problem:
            self._camera.close()
            raise SourceError(f"{settings.uri}: {problem}; {_CHECK_CAMERA}") from None

    def _start(self, fps: float) -> None:
        configuration = self._camera.create_video_configuration(
            main={"size": self._size, "format": "YUV420"},
            lores={"size": self._size, "format": "YUV420"},
            buffer_count=4,
            controls={"FrameRate": fps},
        )
        self._camera.configure(configuration)
        self._size = tuple(configuration["lores"]["size"])
        self._camera.start()

    def read(self) -> Pixels:
        """(height, width) gray uint8: the Y plane without the sensor's stride and without chroma.

        Raises TimeoutError if no frame comes within `frame_timeout` seconds.
        """
        job = self._camera.capture_array("lores", wait=False)
        planes = self._camera.wait(job, timeout=self._timeout)
        width, height = self._size
        return planes[:height, :width].copy()

    def close(self) -> None:
        """Stop and release the camera, also one that hangs."""
        self._camera.cancel_all_and_flush()  # an unfinished capture would block stop()
        self._camera.stop()
        self._camera.close()


def _import_picamera2() -> Any:
    """The class Picamera2, which comes without types."""
    try:
        from picamera2 import Picamera2
    except Exception as problem:  # a picamera2 built for another NumPy raises ValueError
        raise RuntimeMissingError(
            f"picamera2 does not load ({problem}); sudo apt install python3-picamera2, "
            "and make the venv with --system-site-packages"
        ) from None
    return Picamera2


def _camera_number(uri: str) -> int:
    number = uri.partition(":")[2] or "0"
    if not number.isdigit():
        raise SourceError(f"{uri}: not a camera number; write picamera or picamera:1")
    return int(number)


class _OpenCvCapture:
    """An opened cv2.VideoCapture. Raises SourceError with `name` and `hint` if it did not open."""

    def __init__(self, capture: cv2.VideoCapture, name: str, hint: str) -> None:
        if not capture.isOpened():
            raise SourceError(f"{name}: cannot be opened; {hint}")
        self._capture = capture
        self._name = name

    def read(self) -> Pixels:
        """(height, width, 3) BGR or (height, width) gray, uint8.

        Raises SourceError if no frame comes.
        """
        ok, image = self._capture.read()
        if not ok or image is None or not image.size:
            raise SourceError(f"{self._name}: yields no frame; check its cable or network")
        return image  # type: ignore[return-value]

    def close(self) -> None:
        """Release the device."""
        self._capture.release()


class V4l2(_OpenCvCapture):
    """A USB camera: `v4l2:0` is /dev/video0, `v4l2:/dev/video2` names the device file.

    Raises SourceError if the device file is absent or cannot be opened.
    """

    def __init__(self, settings: SourceSettings) -> None:
        name = settings.uri.partition(":")[2]
        device = Path(f"/dev/video{name}" if name.isdigit() else name)
        if not device.exists():
            hint = "plug it in, or list cameras with v4l2-ctl --list-devices"
            raise SourceError(f"{device}: no such camera; {hint}")
        capture = cv2.VideoCapture(str(device), cv2.CAP_V4L2)
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, settings.width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, settings.height)
        capture.set(cv2.CAP_PROP_FPS, settings.fps)
        super().__init__(capture, str(device), "is it in use, and are you in the group video?")


class Stream(_OpenCvCapture):
    """A network stream (rtsp://, http:// …) through OpenCV's FFmpeg.

    Size and frame rate are the stream's own. Opening and each read give up after `frame_timeout`
    seconds. Raises SourceError, which names the stream without its password.
    """

    def __init__(self, settings: SourceSettings) -> None:
        timeout = int(settings.frame_timeout * 1000)
        options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout]
        capture = cv2.VideoCapture(settings.uri, cv2.CAP_FFMPEG, options)
        name = without_password(settings.uri)
        super().__init__(capture, name, "check the address and that the camera is on")


def without_password(uri: str) -> str:
    """A source's URI as it may be printed and logged: without user name and password.

    `rtsp://user:secret@camera/x` becomes `rtsp://camera/x`; a URI without them, a path for
    instance, is returned as it is. A secret in the path or in the query stays.
    """
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=host))
