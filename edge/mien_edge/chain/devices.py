"""Camera drivers: picamera2, V4L2 and network streams, each read frame by frame."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import cv2

from mien_edge.errors import RuntimeMissingError, SourceError
from mien_edge.settings import SourceSettings
from mien_edge.values import Pixels


class PiCamera:
    """A Raspberry Pi camera through picamera2 0.3: the lores stream's Y plane is the gray picture, no conversion."""

    def __init__(self, settings: SourceSettings) -> None:
        try:
            from picamera2 import Picamera2
        except Exception as problem:  # a picamera2 built for another NumPy raises ValueError
            raise RuntimeMissingError(
                f"picamera2 does not load ({problem}); sudo apt install python3-picamera2, and make the venv with "
                "--system-site-packages"
            ) from None
        number = settings.uri.partition(":")[2] or "0"
        if not number.isdigit():
            raise SourceError(f"{settings.uri}: not a camera number; write picamera or picamera:1")
        self._size, self._patience = (settings.width, settings.height), settings.frame_timeout
        hint = "see whether rpicam-hello --list-cameras finds it, and whether another program uses it"
        try:
            self._camera = Picamera2(int(number))
        except Exception as problem:  # libcamera's errors come as IndexError, RuntimeError and others
            raise SourceError(f"{settings.uri}: {problem}; {hint}") from None
        try:
            self._configure(settings)
        except Exception as problem:
            self._camera.close()
            raise SourceError(f"{settings.uri}: {problem}; {hint}") from None

    def _configure(self, settings: SourceSettings) -> None:
        configuration = self._camera.create_video_configuration(
            main={"size": self._size, "format": "YUV420"},
            lores={"size": self._size, "format": "YUV420"},
            buffer_count=4,
            controls={"FrameRate": settings.fps},
        )
        self._camera.configure(configuration)
        self._size = tuple(configuration["lores"]["size"])
        self._camera.start()

    def read(self) -> Pixels:
        """(height, width) gray uint8; the sensor's stride and the chroma planes are cut off."""
        job = self._camera.capture_array("lores", wait=False)
        planes = self._camera.wait(job, timeout=self._patience)
        width, height = self._size
        return planes[:height, :width].copy()

    def close(self) -> None:
        """Stop and release the camera, also one that hangs: an unfinished capture would block stop() for ever."""
        self._camera.cancel_all_and_flush()
        self._camera.stop()
        self._camera.close()


class _OpenCv:
    def __init__(self, capture: Any, name: str, hint: str) -> None:
        self._capture, self._name = capture, name
        if not capture.isOpened():
            raise SourceError(f"{name}: cannot be opened; {hint}")

    def read(self) -> Pixels:
        """(height, width, 3) BGR or (height, width) gray uint8."""
        arrived, image = self._capture.read()
        if not arrived or image is None or not image.size:
            raise SourceError(f"{self._name}: yields no frame; check its cable or network")
        return image

    def close(self) -> None:
        """Release the device."""
        self._capture.release()


class V4l2(_OpenCv):
    """A USB camera: v4l2:0 or v4l2:/dev/video2."""

    def __init__(self, settings: SourceSettings) -> None:
        place = settings.uri.partition(":")[2]
        device = Path(f"/dev/video{place}" if place.isdigit() else place)
        if not device.exists():
            raise SourceError(f"{device}: no such camera; plug it in, or list cameras with v4l2-ctl --list-devices")
        capture = cv2.VideoCapture(str(device), cv2.CAP_V4L2)
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, settings.width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, settings.height)
        capture.set(cv2.CAP_PROP_FPS, settings.fps)
        super().__init__(capture, str(device), "is it in use, and are you in the group video?")


class Stream(_OpenCv):
    """A network stream (rtsp://, http://) through OpenCV's FFmpeg; it gives up a read after `frame_timeout` seconds."""

    def __init__(self, settings: SourceSettings) -> None:
        limit = int(settings.frame_timeout * 1000)
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit]
        capture = cv2.VideoCapture(settings.uri, cv2.CAP_FFMPEG, timeouts)
        super().__init__(capture, without_password(settings.uri), "check the address and that the camera is on")


def without_password(uri: str) -> str:
    """A source's URI as it may be printed and logged."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri
