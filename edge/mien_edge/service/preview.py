"""The live picture, for the page alone: a local socket that gives JPEGs while somebody looks. Nothing is stored.

Each picture comes as its length, four bytes with the greatest first, then the JPEG with boxes and labels drawn.
"""

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import cv2

from mien_edge.chain.annotate import draw_readings
from mien_edge.status.status_file import SOCKET
from mien_edge.values import Frame, Reading

_EVERY = 0.1  # seconds: ten pictures a second are enough to look at
_QUALITY = 75  # of JPEG
_WIDEST = 960  # pixels
_PATIENCE = 5.0  # seconds without taking anything after which a looker is let go
_MOST = 4  # lookers


class PreviewServer:
    """A watcher that shows what the chain sees to those who connect to `folder`/view.sock; it encodes for nobody else.

    It never waits: who does not take a picture in time misses the next. Whoever may enter the folder may look.
    """

    def __init__(self, folder: Path, steady: Callable[[], float] = time.monotonic) -> None:
        self.path, self._steady = folder / SOCKET, steady
        self.path.unlink(missing_ok=True)
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._door.bind(str(self.path))
        self.path.chmod(0o660)
        self._door.listen(_MOST)
        self._door.setblocking(False)
        self._lookers: list[_Client] = []
        self._shown = float("-inf")

    def __call__(self, frame: Frame, readings: tuple[Reading, ...]) -> None:
        """A frame has gone through the chain."""
        self._admit()
        now = self._steady()
        if not self._lookers or now - self._shown < _EVERY:
            return
        self._shown = now
        picture = None
        for looker in self._lookers:
            if looker.is_free():
                picture = picture or _encoded(frame, readings)
                looker.give(picture)
        self._lookers = [looker for looker in self._lookers if looker.stays(now)]

    @property
    def lookers(self) -> int:
        """How many look."""
        return len(self._lookers)

    def _admit(self) -> None:
        with suppress(OSError):  # BlockingIOError: nobody is at the door; whatever else, the chain goes on
            while True:
                channel, _ = self._door.accept()
                channel.setblocking(False)
                if len(self._lookers) < _MOST:
                    self._lookers.append(_Client(channel, self._steady()))
                else:
                    channel.close()

    def close(self) -> None:
        """Let all go."""
        for looker in self._lookers:
            looker.channel.close()
        self._door.close()
        self.path.unlink(missing_ok=True)


class _Client:
    def __init__(self, channel: socket.socket, now: float) -> None:
        self.channel, self._took = channel, now
        self._rest, self._gone, self._moved = b"", False, False

    def is_free(self) -> bool:
        """Whether all that was given has been taken."""
        self._push()
        return not self._rest and not self._gone

    def give(self, picture: bytes) -> None:
        """Send as much of a picture as goes at once."""
        self._rest = picture
        self._push()

    def _push(self) -> None:
        try:
            while self._rest:
                sent = self.channel.send(self._rest)
                self._rest, self._moved = self._rest[sent:], True
        except BlockingIOError:
            return
        except OSError:
            self._gone = True

    def stays(self, now: float) -> bool:
        """Whether it still looks; else its channel is closed."""
        if self._moved:
            self._took, self._moved = now, False
        if self._gone or now - self._took > _PATIENCE:
            self.channel.close()
            return False
        return True


def _encoded(frame: Frame, readings: tuple[Reading, ...]) -> bytes:
    picture = draw_readings(frame.image, readings)
    if picture.shape[1] > _WIDEST:
        size = _WIDEST, round(picture.shape[0] * _WIDEST / picture.shape[1])
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return len(data).to_bytes(4, "big") + data.tobytes()
