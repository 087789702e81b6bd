"""Drivers of live cameras: picamera2, V4L2 and network streams. Each is a `camera.Device`.

A driver is called with the SourceSettings and opens the camera that `uri` names, at `width`,
`height` (pixels) and `fps` where the camera can be asked for that.
"""

import os
import socket
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2

from mien_edge import files
from mien_edge.addresses import (
    host_of,
    is_network_address,
    mask_address,
    mask_text,
    with_credentials,
)
from mien_edge.credentials import CAMERA, read_secret
from mien_edge.errors import FrameError, RuntimeMissingError, SourceError
from mien_edge.settings import SourceSettings
from mien_edge.text import encodable
from mien_edge.values import Pixels

_CHECK_CAMERA = "see whether rpicam-hello --list-cameras finds it and no other program uses it"
_FFMPEG_QUIET = "-8"  # AV_LOG_QUIET of libavutil/log.h
_OPENCV_SILENT = 0  # LOG_LEVEL_SILENT of opencv2/core/utils/logger.defines.hpp
_MAX_FAILURES = 250
"""Failed reads in a row after which a stream has ended: FFmpeg does not tell the end from a frame
that it cannot decode, but reads fail at once there."""


class PiCamera:
    """A Raspberry Pi camera through picamera2 0.3: `picamera`, or `picamera:1` for the second one.

    The lores stream's Y plane is the gray picture, so nothing is converted.

    Raises RuntimeMissingError if picamera2 does not load, and SourceError if `uri` has no camera
    number, or the camera is absent or in use.
    """

    def __init__(self, settings: SourceSettings) -> None:
        picamera2_class = _import_picamera2()
        number = _camera_number(settings.uri)
        self._name = mask_address(settings.uri)
        self._size = (settings.width, settings.height)
        self._timeout = settings.frame_timeout
        try:
            self._camera = picamera2_class(number)
        except Exception as problem:  # libcamera raises IndexError, RuntimeError and others
            raise SourceError(f"{self._name}: {mask_text(str(problem))}; {_CHECK_CAMERA}") from None
        try:
            self._start(settings.fps)
        except Exception as problem:
            self._camera.close()
            raise SourceError(f"{self._name}: {mask_text(str(problem))}; {_CHECK_CAMERA}") from None

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

        Raises TimeoutError if no frame comes within `frame_timeout` seconds, and FrameError if
        this one failed.
        """
        try:
            job = self._camera.capture_array("lores", wait=False)
            planes = self._camera.wait(job, timeout=self._timeout)
        except TimeoutError:
            raise
        except Exception as problem:  # of one request; a camera that is gone times out
            raise FrameError(f"{self._name}: {problem}; {_CHECK_CAMERA}") from None
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
        raise SourceError(f"{mask_address(uri)}: not a camera number; write picamera or picamera:1")
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

        Raises FrameError if no frame comes, or one that cannot be decoded.
        """
        ok, image = self._capture.read()
        if not ok or image is None or not image.size:
            raise FrameError(f"{self._name}: yields no frame; check its cable or network")
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
        self._device = Path(f"/dev/video{name}" if name.isdigit() else name)
        self._refuse_absence()
        with files.utf8_path(self._device) as path:
            capture = cv2.VideoCapture(path, cv2.CAP_V4L2)
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, settings.width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, settings.height)
        capture.set(cv2.CAP_PROP_FPS, settings.fps)
        hint = "is it in use, and are you in the group video?"
        super().__init__(capture, str(self._device), hint)

    def read(self) -> Pixels:
        """As _OpenCvCapture; raises SourceError once the device file is gone."""
        try:
            return super().read()
        except FrameError:
            self._refuse_absence()
            raise

    def _refuse_absence(self) -> None:
        if not self._device.exists():
            hint = "plug it in, or list cameras with v4l2-ctl --list-devices"
            raise SourceError(f"{self._device}: no such camera; {hint}")


class Stream(_OpenCvCapture):
    """A network stream (rtsp://, http:// …) through OpenCV's FFmpeg.

    Size and frame rate are the stream's own. Opening and each read give up after `frame_timeout`
    seconds. User and password come from `uri`, or from the file of `password_file` or the
    credential camera-password.

    Raises SourceError, which names the stream without its secrets, where this process has no
    network, for a stream that cannot be opened, and for one picture instead of a stream.
    """

    def __init__(self, settings: SourceSettings) -> None:
        name = mask_address(settings.uri)
        if encodable(settings.uri) != settings.uri:
            raise SourceError(f"{name}: an address in UTF-8 is needed; write %E9 for such a byte")
        refuse_without_network(settings.uri)
        timeout = int(settings.frame_timeout * 1000)
        options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout]
        silence_opencv()
        address = _address(settings)
        capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, options)
        if not capture.isOpened():
            from mien_edge.chain.refusal import explain_refusal  # loads ssl and http

            raise SourceError(f"{name}: {explain_refusal(address, settings.frame_timeout)}")
        super().__init__(capture, name, "")
        self._failures = 0
        self._first_frames: deque[Pixels] = deque()
        if settings.uri.strip().lower().startswith("http"):
            self._refuse_snapshot(settings.frame_timeout)

    def read(self) -> Pixels:
        """As _OpenCvCapture; raises SourceError once the stream has ended."""
        if self._first_frames:
            return self._first_frames.popleft()
        try:
            image = super().read()
        except FrameError:
            self._failures += 1
            if self._failures >= _MAX_FAILURES:
                raise SourceError(f"{self._name}: the stream has ended") from None
            raise
        self._failures = 0
        return image

    def _refuse_snapshot(self, frame_timeout: float) -> None:
        """Look for a second frame, for at most some seconds: an address of snapshots has none."""
        frames: list[Pixels] = []
        deadline = time.monotonic() + frame_timeout
        try:
            while len(frames) < 2 and time.monotonic() < deadline:
                with suppress(FrameError):
                    frames.append(self.read())
        except SourceError:
            self.close()
            if not frames:
                raise
            fix = "give the address of the camera's MJPEG or RTSP stream instead"
            raise SourceError(f"{self._name}: one picture (a snapshot), no stream; {fix}") from None
        self._first_frames.extend(frames)


def silence_opencv() -> None:
    """Keep OpenCV and its FFmpeg, which print addresses as they are, from writing to stderr.

    FFmpeg takes its level at its first use in a process. Whoever has set the levels in the
    environment wants to see them.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", _FFMPEG_QUIET)
    if "OPENCV_LOG_LEVEL" not in os.environ:
        _set_opencv_log_level(_OPENCV_SILENT)


def _set_opencv_log_level(level: int) -> None:
    # OpenCV 4.11, the last for aarch64 and Python 3.11, has it in another place than 4.14.
    module = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging
    module.setLogLevel(level)


def _address(settings: SourceSettings) -> str:
    """Return the address with the credentials of their file. It is never to be shown."""
    holds = "the camera's USER:PASSWORD"
    secret = read_secret(settings.password_file, CAMERA, holds, SourceError)
    if not secret:
        return settings.uri
    try:
        return with_credentials(settings.uri, secret)
    except ValueError:
        place = settings.password_file or CAMERA
        raise SourceError(
            f"{place}: a password without its user; write USER:PASSWORD, or the user into "
            "source.uri: rtsp://USER@…"
        ) from None


def refuse_without_network(uri: str) -> None:
    """Raise SourceError if `uri` is a network address and this process has no network.

    mien.service has none, so that pictures cannot leave it: sockets of the internet are forbidden
    there (RestrictAddressFamilies=), and lo is its only interface (PrivateNetwork=).
    """
    if not is_network_address(uri):
        return
    name = mask_address(uri)
    is_local = host_of(uri) in ("localhost", "::1") or host_of(uri).startswith("127.")
    if _may_open_sockets() and (is_local or _interfaces() - {"lo"}):
        return
    reason = "this process has no network; mien.service has none, so that no picture leaves it"
    fix = "use picamera or v4l2:0 there, or run this address by hand: mien-edge run"
    raise SourceError(f"{name}: {reason}; {fix}")


def _may_open_sockets() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()
    except OSError:
        return False
    return True


def _interfaces() -> set[str]:
    """Return the names of the network interfaces in this process's network namespace."""
    return {name for _, name in socket.if_nameindex()}
