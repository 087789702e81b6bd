"""Video files that browsers play, written frame by frame.

.mp4 and .mkv hold H.264, by the program ffmpeg: OpenCV's own wheels have no encoder for it. .webm
holds VP8 and .avi Motion JPEG, by OpenCV. A picture stays until the next one's time, so that a
variable frame rate plays at the right speed.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Protocol

import cv2

from mien_edge import files
from mien_edge.values import Pixels

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi")

_H264_SUFFIXES = (".mp4", ".mkv")
_CODECS = {".webm": "VP80", ".avi": "MJPG"}
_MAX_FPS = 120.0
_PROBE_BYTES = 65536  # OpenCV does not say when a disk is full; writing its buffer twice does
_PROBE_INTERVAL = 100  # frames


@cache
def has_h264() -> bool:
    """Whether ffmpeg is installed here, with its H.264 encoder libx264."""
    program = shutil.which("ffmpeg")
    if program is None:
        return False
    command = [program, "-hide_banner", "-encoders"]
    answer = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    return " libx264 " in answer.stdout


def playable_path(path: Path) -> Path:
    """Where a video that was asked for as `path` is written: beside it as .webm, if it should
    become an .mp4 or .mkv and there is no H.264 encoder here.
    """
    if path.suffix.lower() in _H264_SUFFIXES and not has_h264():
        return path.with_suffix(".webm")
    return path


class _Encoder(Protocol):
    """Takes pictures of one size; `close` ends the file. Both raise OSError."""

    def write(self, picture: Pixels) -> None: ...

    def close(self) -> None: ...


class _OpenCv:
    def __init__(self, path: Path, fps: float, width: int, height: int) -> None:
        codec = cv2.VideoWriter.fourcc(*_CODECS[path.suffix.lower()])
        self._path = path
        self._count = 0
        with files.utf8_path(path) as name, _silent_stderr():
            self._writer = cv2.VideoWriter(name, codec, fps, (width, height))
        if not self._writer.isOpened():
            raise OSError(None, f"this OpenCV has no encoder for {path.suffix}")

    def write(self, picture: Pixels) -> None:
        self._writer.write(picture)
        self._count += 1
        if self._count % _PROBE_INTERVAL == 0:
            _probe_space(self._path)

    def close(self) -> None:
        self._writer.release()
        _probe_space(self._path)


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drop what OpenCV prints of a codec's name (WebM has other names than it) past its own log."""
    stderr = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(null)
        os.close(stderr)


class _Ffmpeg:
    def __init__(self, path: Path, fps: float, width: int, height: int) -> None:
        self._path = path
        self._errors = TemporaryFile()  # noqa: SIM115 - for a pipe that nobody reads would stop it
        command = ["ffmpeg", "-y", "-loglevel", "error"]
        command += ["-f", "rawvideo", "-pix_fmt", "bgr24", "-video_size", f"{width}x{height}"]
        command += ["-framerate", repr(fps), "-i", "pipe:0"]
        command += ["-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p"]
        command += ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-movflags", "+faststart"]
        # A group of its own: ctrl-C ends the run, which then ends the file.
        self._process = subprocess.Popen(
            [*command, f"file:{path.absolute()}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            process_group=0,
        )

    def write(self, picture: Pixels) -> None:
        assert self._process.stdin  # noqa: S101 - it is a pipe
        try:
            self._process.stdin.write(picture.tobytes())
        except BrokenPipeError:
            self._end()

    def close(self) -> None:
        self._end()

    def _end(self) -> None:
        """Wait for the program. Raises OSError with its reason if it failed."""
        self._process.communicate()
        if self._process.returncode:
            _probe_space(self._path)
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").strip().splitlines()
            reason = lines[-1] if lines else f"exit code {self._process.returncode}"
            raise OSError(None, f"ffmpeg: {reason}")


def _probe_space(path: Path) -> None:
    """Raise OSError, with the reason, where the folder of `path` takes no more bytes."""
    probe = path.with_name(f"{path.name}.space")
    try:
        with probe.open("wb") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    finally:
        probe.unlink(missing_ok=True)


class VideoFile:
    """A video file of a constant rate; it appears, whole, when it is closed.

    path: ends in one of VIDEO_SUFFIXES, in any case; its folder is created.
    fps: frames per second of the file, above 0, at most 120.

    All pictures get the size of the first. Raises SinkError if the file cannot be written; what was
    written of it is then removed.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path = path
        self.fps = min(fps, _MAX_FPS)
        self._temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
        self._encoder: _Encoder | None = None
        self._size = (0, 0)
        self._start = 0.0
        self._pending: Pixels | None = None
        self._count = 0

    def write(self, picture: Pixels, position: float | None) -> None:
        """Append a (height, width, 3) BGR uint8 picture.

        position: seconds from any start, not falling; None for one that follows in the next frame.
            It stays until the next picture's position; one that is followed by another within half
            a frame is left out.
        """
        try:
            self._write(picture, position)
        except OSError as problem:
            self._give_up()
            raise files.write_error(self.path, problem) from None

    def _write(self, picture: Pixels, position: float | None) -> None:
        if self._encoder is None:
            height, width = picture.shape[:2]
            self._size = (width, height)
            self._start = position or 0.0
            self._encoder = self._open()
        if picture.shape[1::-1] != self._size:
            picture = cv2.resize(picture, self._size)  # type: ignore[assignment]
        self._write_pending(position)
        self._pending = picture

    def _write_pending(self, position: float | None) -> None:
        """Write the picture before, as often as it takes until `position`."""
        if self._pending is None or self._encoder is None:
            return
        due = self._count + 1
        if position is not None:
            due = round((position - self._start) * self.fps)
        while self._count < due:
            self._encoder.write(self._pending)
            self._count += 1

    def _open(self) -> _Encoder:
        files.make_folder(self.path.parent)
        self._temporary.touch()  # says why, where the folder takes no file
        width, height = self._size
        is_h264 = self.path.suffix.lower() in _H264_SUFFIXES
        encoder = _Ffmpeg if is_h264 else _OpenCv
        return encoder(self._temporary, self.fps, width, height)

    def close(self) -> None:
        """Finish the file, if there was a picture and all went well. Raises SinkError."""
        if self._encoder is None:
            return
        try:
            self._write_pending(None)
            self._encoder.close()
            files.sync(self._temporary)
            self._temporary.replace(self.path)
        except OSError as problem:
            raise files.write_error(self.path, problem) from None
        finally:
            self._give_up()

    def _give_up(self) -> None:
        """Write no more, and remove what is not whole."""
        self._encoder = None
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)
