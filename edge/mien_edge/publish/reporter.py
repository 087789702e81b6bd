"""What Prometheus is told on a device that publishes to no broker: the status of the service, and
the last minute of the log.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from mien_edge.errors import SourceError
from mien_edge.log.minutes import MinuteSummary
from mien_edge.publish.notices import Notices
from mien_edge.publish.outbox import UNREADABLE, Cursor, Mode, Outbox, unreadable_text
from mien_edge.publish.timer import Clock, Timer
from mien_edge.settings import PublishSettings
from mien_edge.status import status_file
from mien_edge.status.status_file import PublisherStatus, Status

_POLL_SECONDS = 10.0  # between two looks at the log; a minute's sums change once a minute

_log = logging.getLogger("mien.publish")


class Reporter:
    """Reads what metrics are made of, without a network; call `step` again and again.

    settings: of publishing.
    log: path of the on-device log.
    runtime: runtime folder of the camera's service, with its status.
    mode: which minutes may leave the device.
    clock: seconds that only grow; wall_clock: seconds since 1970.
    """

    def __init__(
        self,
        settings: PublishSettings,
        log: Path,
        runtime: Path,
        mode: Mode,
        clock: Clock = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.runtime = runtime
        self.outbox = Outbox(log, mode, Cursor(), wall_clock)
        self.notices = Notices()
        self._wall_clock = wall_clock
        self._poll_timer = Timer(_POLL_SECONDS, clock)

    @property
    def counts(self) -> str:
        """What it does, in a few words."""
        return f"no broker; metrics on 127.0.0.1:{self.settings.metrics_port}"

    def step(self, seconds: float) -> None:
        """Look at the log when it is time, and rest for `seconds`."""
        if self._poll_timer.due():
            self._poll_timer.restart()
            self._look()
        time.sleep(seconds)

    def report(self) -> PublisherStatus:
        """Return the last minute for Prometheus, and what is wrong."""
        minute = publishable_minute(self.outbox.last_minute, self.settings)
        return PublisherStatus(
            time=self._wall_clock(),
            problem="; ".join(self.problems()),
            faces=minute.faces,
            shares=minute.shares(self._labels()) if minute.faces else {},
        )

    def problems(self) -> list[str]:
        """Return what is wrong, one line each."""
        return self.notices.lines()

    def service_status(self) -> Status | None:
        """Return the status of the camera's service; None if it does not run."""
        return read_service_status(self.runtime)

    def _labels(self) -> tuple[str, ...]:
        return running_labels(self.service_status(), self.outbox)

    def close(self) -> None:
        """Do nothing: nothing is open, and nothing waits to be sent."""

    def _look(self) -> None:
        try:
            self.outbox.look()
        except UNREADABLE as problem:
            text = unreadable_text(self.outbox.log, problem)
            self.notices.tell("log", f"{text}; until then there are no emotions in the metrics")
        else:
            self.notices.end("log", f"{self.outbox.log}: can be read again")


def publishable_minute(minute: MinuteSummary, settings: PublishSettings) -> MinuteSummary:
    """A minute's sums; empty ones if it had too few faces to leave the device."""
    min_faces = settings.min_faces if settings.aggregate else 1
    return minute if minute.faces >= min_faces else MinuteSummary()


def running_labels(service: Status | None, outbox: Outbox) -> tuple[str, ...]:
    """The labels of the running model; those of the log while it does not say."""
    return service.labels if service is not None and service.labels else outbox.labels


def read_service_status(runtime: Path) -> Status | None:
    """Read the status of the camera's service in its runtime folder; None if it does not run."""
    try:
        return status_file.read_status(runtime)
    except SourceError:
        return None
