"""A file on the page beside a run by hand: shown from its first picture on, at its own pace."""

import threading
import time
from collections.abc import Callable

from mien_edge.chain.sources import Source
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
    source: of the frames.
    stop: ends every wait.
    monotonic: the clock, in seconds.
    """

    def __init__(
        self,
        preview: PreviewServer,
        on_end: Callable[[], None],
        source: Source,
        stop: threading.Event,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._preview = preview
        self._on_end = on_end
        self._is_still = source.still
        self._stop = stop
        self._monotonic = monotonic
        self._started_at: float | None = None
        self._last: tuple[Frame, tuple[Reading, ...]] | None = None

    def __call__(self, frame: Frame, readings: tuple[Reading, ...]) -> None:
        """Show a frame when it is its time, or `stop` is set."""
        self._last = frame, readings
        if self._started_at is None:
            deadline = self._monotonic() + _FIRST_LOOK
            self._show_while(lambda: not self._preview.clients and self._monotonic() < deadline)
            self._started_at = self._monotonic()
        if self._is_still:
            deadline = self._monotonic() + _PHOTOGRAPH
            self._show_while(lambda: self._monotonic() < deadline)
            return
        early = self._started_at + (frame.position or 0.0) - self._monotonic()
        if early > 0:
            self._stop.wait(early)
        self._preview(frame, readings)

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
