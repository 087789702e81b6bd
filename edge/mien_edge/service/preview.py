"""The live picture for the web page: a local socket that sends JPEGs while a client is connected.

Each picture is sent with what was read in it, so that the page draws both in the language and size
of whoever looks: the readings as JSON (a list of `PictureFace`), then the JPEG, each after its
length (four bytes, big-endian). Nothing is stored. Who may connect is a matter of the socket's
folder alone: systemd-tmpfiles makes it for the group mien-preview (systemd/mien.tmpfiles), which
the socket inherits.
"""

import json
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2

from mien_edge.formats import reading_record
from mien_edge.schema import to_dict
from mien_edge.values import Frame, Pixels, Reading

_INTERVAL = 0.1  # seconds between two pictures
_JPEG_QUALITY = 75
_MAX_WIDTH = 960  # pixels
_TIMEOUT = 5.0  # seconds in which a client reads nothing, after which it is disconnected
_MAX_CLIENTS = 4
_OWN_FOLDER = 0o700  # where nobody has made the folder: for this user alone
_OWNER_AND_GROUP = 0o660


@dataclass(frozen=True, slots=True)
class PictureFace:
    """A face of a picture.

    track, label, quality, confidence, scores: as in ReadingRecord.
    box: x, y, width and height as shares of the picture's width and height.
    """

    track: int
    label: str | None
    quality: str
    confidence: float | None
    scores: dict[str, float] | None
    box: tuple[float, ...]


class PreviewServer:
    """A watcher that sends each frame to the clients of a socket.

    Without clients it encodes nothing. It never blocks: a client that has not read a picture in
    time misses the next. Who may enter the socket's folder and is its owner or in its group may
    connect.

    path: the socket (paths.preview). A folder that is not there is made for this user alone, and
        removed at the end.
    monotonic: the clock, in seconds.

    Raises OSError if there can be no such socket.
    """

    def __init__(self, path: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._monotonic = monotonic
        self._clients: list[_Client] = []
        self._sent_at = float("-inf")
        self._owns_folder = not path.parent.exists()
        path.parent.mkdir(mode=_OWN_FOLDER, exist_ok=True)
        path.unlink(missing_ok=True)
        self._listener = _listen(path)

    def __call__(self, frame: Frame, readings: tuple[Reading, ...]) -> None:
        """Send the frame and its readings to every client that is ready for a picture."""
        self._accept()
        now = self._monotonic()
        if not self._clients or now - self._sent_at < _INTERVAL:
            return
        self._sent_at = now
        ready = [client for client in self._clients if client.is_ready()]
        if ready:
            message = _with_length(_faces(frame, readings)) + _with_length(_jpeg(frame.image))
            for client in ready:
                client.send(message)
        self._clients = [client for client in self._clients if client.is_alive(now)]

    @property
    def clients(self) -> int:
        """The number of connected clients."""
        return len(self._clients)

    def _accept(self) -> None:
        with suppress(OSError):  # BlockingIOError: nobody waits; no error may stop the chain
            while True:
                connection, _ = self._listener.accept()
                connection.setblocking(False)
                if len(self._clients) < _MAX_CLIENTS:
                    self._clients.append(_Client(connection, self._monotonic()))
                else:
                    connection.close()

    def close(self) -> None:
        """Disconnect all clients and remove the socket."""
        for client in self._clients:
            client.connection.close()
        self._listener.close()
        self.path.unlink(missing_ok=True)
        if self._owns_folder:
            with suppress(OSError):  # something else stands in it
                self.path.parent.rmdir()


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(_OWNER_AND_GROUP)
        listener.listen(_MAX_CLIENTS)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


class _Client:
    def __init__(self, connection: socket.socket, now: float) -> None:
        self.connection = connection
        self._unsent = b""
        self._is_closed = False
        self._has_read = False
        self._read_at = now

    def is_ready(self) -> bool:
        """Send what is left of the last picture; return whether the client has all of it."""
        self._flush()
        return not self._unsent and not self._is_closed

    def send(self, message: bytes) -> None:
        """Send as much of a message as the socket takes at once; the rest follows later."""
        self._unsent = message
        self._flush()

    def _flush(self) -> None:
        try:
            while self._unsent:
                count = self.connection.send(self._unsent)
                self._unsent = self._unsent[count:]
                self._has_read = True
        except BlockingIOError:
            return
        except OSError:
            self._is_closed = True

    def is_alive(self, now: float) -> bool:
        """Return whether the client still reads; close its connection otherwise."""
        if self._has_read:
            self._read_at = now
            self._has_read = False
        if self._is_closed or now - self._read_at > _TIMEOUT:
            self.connection.close()
            return False
        return True


def _with_length(content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + content


def _faces(frame: Frame, readings: tuple[Reading, ...]) -> bytes:
    """The readings of a frame as a JSON list of `PictureFace`."""
    height, width = frame.image.shape[:2]
    faces = [to_dict(_picture_face(reading, width, height)) for reading in readings]
    return json.dumps(faces).encode("ascii")


def _picture_face(reading: Reading, width: int, height: int) -> PictureFace:
    record = reading_record(reading)
    box = reading.box.scaled(1 / width, 1 / height)
    return PictureFace(
        track=record.track,
        label=record.label,
        quality=record.quality,
        confidence=record.confidence,
        scores=record.scores,
        box=tuple(round(value, 5) for value in box),
    )


def _jpeg(picture: Pixels) -> bytes:
    """Encode a gray or BGR picture, made smaller where it is very wide."""
    height, width = picture.shape[:2]
    if width > _MAX_WIDTH:
        size = (_MAX_WIDTH, round(height * _MAX_WIDTH / width))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return jpeg.tobytes()
