"""A file on the page beside a run by hand: shown from its first picture on, at its own pace."""

import threading
import time
from collections.abc import Callable

from mien_edge.service.preview import PreviewServer
from mien_edge.values import Frame, Reading

_TICK = 0.1  # seconds between two looks at who looks
_FIRST_LOOK = 30.0  # seconds to wait until somebody opens the page
_PHOTOGRAPH = 2.0  # seconds for each


class FileShow:
    """A watcher that shows a file's frames to whoever looks.

    It waits half a minute for somebody to open the page, then plays a video at its own pace, and
    shows each photograph for two seconds; `end` keeps the last picture there as long as somebody
    looks. A chain that is slower than the video is not waited for.

    preview: what shows a picture.
    on_end: called when the last picture is on the page.
    stop: ends every wait.
    monotonic: the clock, in seconds.
    """

    def __init__(
        self,
        preview: PreviewServer,
        on_end: Callable[[], None],
        stop: threading.Event,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._preview = preview
        self._on_end = on_end
        self._stop = stop
        self._monotonic = monotonic
        self._is_first = True
        self._video: str | None = None  # that is being shown
        self._begun_at = 0.0
        self._last: tuple[Frame, tuple[Reading, ...]] | None = None

    def __call__(self, frame: Frame, readings: tuple[Reading, ...]) -> None:
        """Show a frame when it is its time, or `stop` is set."""
        self._last = frame, readings
        if self._is_first:
            self._is_first = False
            deadline = self._monotonic() + _FIRST_LOOK
            self._show_while(lambda: not self._preview.clients and self._monotonic() < deadline)
        if frame.position is None:
            self._show_photograph()
        else:
            self._wait_for(frame.name, frame.position)
            self._preview(frame, readings)

    def _show_photograph(self) -> None:
        deadline = self._monotonic() + _PHOTOGRAPH
        self._show_while(lambda: self._monotonic() < deadline)

    def _wait_for(self, video: str, position: float) -> None:
        """Wait until it is time for a frame: its position in seconds after the video's first."""
        now = self._monotonic()
        if video != self._video:
            self._video = video
            self._begun_at = now - position
        early = self._begun_at + position - now
        if early > 0:
            self._stop.wait(early)

    def end(self) -> None:
        """Keep the last picture on the page until nobody looks, or `stop` is set."""
        self._on_end()
        self._show_while(lambda: self._preview.clients > 0)

    def _show_while(self, condition: Callable[[], bool]) -> None:
        """Show the last frame again and again, to those who come, too."""
        if self._last is None:
            return
        self._preview(*self._last)
        while condition() and not self._stop.wait(_TICK):
            self._preview(*self._last)
