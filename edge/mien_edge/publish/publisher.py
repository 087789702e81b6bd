"""`mien-edge publish`: the log to an MQTT broker, from a saved cursor; at least once, in order.

Topics below mien/DEVICE:

- `reading` and `event`: one entry each, with an id that is the same if the entry is sent twice;
- `minute`: shares of the labels, instead of single readings where only sums may be published;
- `state`: retained; faces, emotion, health;
- `status`: retained; `online`, or `offline`, which is also the last will.

A receiver drops ids that are not above the last one. What can happen:

- the broker is away: it is tried again after 1, 2, 4 … 60 s; what the log keeps is not lost;
- the publisher is killed: up to a minute of entries is sent twice;
- the log is replaced: the new one's entries follow those of the old one;
- the publisher never ran before: it begins with the next entry.
"""

import json
import logging
import socket
import sqlite3
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from mien_edge.errors import PublishError, SinkError, SourceError
from mien_edge.log.minutes import MinuteSummary
from mien_edge.publish import homeassistant
from mien_edge.publish.mqtt import Connection, Will
from mien_edge.publish.outbox import (
    BATCH_SIZE,
    Cursor,
    Message,
    MinuteSums,
    Mode,
    Outbox,
    SingleReadings,
)
from mien_edge.publish.state import device_state
from mien_edge.publish.timer import Backoff, Clock, Timer
from mien_edge.settings import PublishSettings
from mien_edge.status import status_file
from mien_edge.status.status_file import PublisherStatus, Status
from mien_edge.status.systemd import Notifier

if TYPE_CHECKING:
    from mien_edge.publish.prometheus import MetricsServer

POLL_SECONDS = 0.5
"""Seconds between two looks at the log."""

SAVE_SECONDS = 60.0
"""Seconds between two savings of the cursor: an SD card is not written to for every message."""

FIRST_RETRY_SECONDS = 1.0
"""Seconds until the broker is tried again after the first failure; doubled with each failure."""

MAX_RETRY_SECONDS = 60.0
"""Seconds between two attempts to reach the broker, at most."""

_STATUS_SECONDS = 1.0  # between two writings of the publisher's own status
_CLOSE_SECONDS = 2.0  # to wait for the broker's answers at the end
_SHORT_LOOP = 0.05  # seconds in the network loop while there is more to send
_NOT_TRIED = "not tried yet"

_log = logging.getLogger("mien.publish")


class Publisher:
    """The publisher, without threads: call `step` again and again, and `close` at the end.

    settings: of publishing.
    log: path of the on-device log.
    runtime: runtime folder of the camera's service, with its status.
    state: folder for the cursor, which outlives a restart.
    clock: seconds that only grow; wall_clock: seconds since 1970.

    `problem` is why the broker is not connected, else empty. `published` and `refused` count
    messages that the broker has acknowledged, and refused; `reconnects` counts connections after a
    failure. Raises PublishError for settings that can't be used.
    """

    def __init__(
        self,
        settings: PublishSettings,
        log: Path,
        runtime: Path,
        state: Path,
        clock: Clock = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        _check(settings)
        self.settings = settings
        self.runtime = runtime
        self.device = settings.device or socket.gethostname()
        self.base_topic = f"{settings.topic}/{self.device}"
        self.cursor_path = state / "cursor.json"
        self.outbox = Outbox(log, _mode(settings), Cursor.read(self.cursor_path), wall_clock)
        self.problem = _NOT_TRIED
        self.published = 0
        self.refused = 0
        self.reconnects = 0
        self._clock = clock
        self._wall_clock = wall_clock
        self._connection: Connection | None = None
        self._queue: deque[Message] = deque()
        self._has_more = False
        self._inflight = _Inflight()
        self._saved_cursor = self.outbox.done
        self._poll_timer = Timer(POLL_SECONDS, clock)
        self._state_timer = Timer(settings.state_interval, clock)
        self._save_timer = Timer(SAVE_SECONDS, clock)
        self._save_timer.restart()
        self._backoff = Backoff(FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS, clock)

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the connection."""
        return self._connection is not None and self._connection.ready

    def step(self, seconds: float = POLL_SECONDS) -> None:
        """Do what is due, and wait for the broker for at most `seconds`."""
        self._refill()
        if self._connection is None:
            self._connect(seconds)
        else:
            self._exchange(self._connection, seconds)
        if self._save_timer.due():
            self._save()

    def close(self) -> None:
        """Publish that the device goes, wait a moment for the broker, and save the cursor."""
        connection = self._connection
        if connection is not None and connection.ready:
            connection.publish(f"{self.base_topic}/status", "offline", retain=True)
            deadline = self._clock() + _CLOSE_SECONDS
            while self._inflight and not connection.problem and self._clock() < deadline:
                connection.loop(_SHORT_LOOP)
                self._acknowledge()
            connection.loop(_SHORT_LOOP)
            connection.close()
        self._save()

    def state(self) -> dict[str, object]:
        """Return the state message as values for JSON; see `device_state`."""
        minute = self._publishable_minute() if self.settings.aggregate else None
        return device_state(self.runtime, minute, self._wall_clock())

    def report(self) -> PublisherStatus:
        """Return how the publisher is, for `mien-edge status` and Prometheus."""
        minute = self._publishable_minute()
        return PublisherStatus(
            time=self._wall_clock(),
            broker=f"{self.settings.host}:{self.settings.port}",
            connected=self.connected,
            problem=self.problem,
            published=self.published,
            refused=self.refused,
            reconnects=self.reconnects,
            waiting=self.outbox.waiting,
            faces=minute.faces,
            shares=minute.shares() if minute.faces else {},
        )

    def service_status(self) -> Status | None:
        """Return the status of the camera's service; None if it does not run."""
        try:
            return status_file.read_status(self.runtime)
        except SourceError:
            return None

    def _publishable_minute(self) -> MinuteSummary:
        """The sums of the last full minute; empty ones if it had too few faces to be published."""
        minute = self.outbox.last_minute
        min_faces = self.settings.min_faces if self.settings.aggregate else 1
        return minute if minute.faces >= min_faces else MinuteSummary()

    def _refill(self) -> None:
        """Look at the log when it is time, and at once after a full batch.

        Entries are taken only while there is a broker and none are left to send: what waits stays
        in the log, not in memory.
        """
        can_take = self.connected and not self._queue
        if not self._poll_timer.due() and not (can_take and self._has_more):
            return
        self._poll_timer.restart()
        try:
            if can_take:
                self._queue.extend(self.outbox.take())
                self._has_more = len(self._queue) >= BATCH_SIZE
            else:
                self.outbox.look()
        except (SinkError, sqlite3.Error) as problem:
            self.outbox.waiting = 0
            self._has_more = False
            _log.debug("%s", problem)

    def _connect(self, seconds: float) -> None:
        """Try the broker, or wait for at most `seconds` until it may be tried again."""
        pause = self._backoff.remaining()
        if pause:
            time.sleep(min(seconds, pause))
            return
        try:
            self._connection = Connection(
                self.settings,
                self.device,
                Will(f"{self.base_topic}/status", "offline"),
                self._on_connect,
                self._on_sent,
                self._on_message,
            )
        except PublishError as problem:
            self._on_disconnect(str(problem))

    def _exchange(self, connection: Connection, seconds: float) -> None:
        """Send what is due, and receive the broker's answers for at most `seconds`."""
        if connection.ready:
            self._send_entries(connection)
            if self._state_timer.due():
                self._send_state(connection)
        connection.loop(_SHORT_LOOP if self._queue else seconds)
        self._acknowledge()
        if connection.problem:
            connection.abort()
            self._connection = None
            self._on_disconnect(connection.problem)

    def _on_disconnect(self, problem: str) -> None:
        """Begin a pause, after which what was not acknowledged is sent again."""
        if problem != self.problem:
            _log.warning("%s; trying again", problem)
        self.problem = problem
        self._backoff.failed()
        self._queue.clear()
        self._inflight.clear()
        self.outbox.rewind()
        self._poll_timer.expire()
        self._save()

    def _on_connect(self, connection: Connection) -> None:
        """Publish that the device is there, and what it is."""
        _log.info("connected to %s", connection.address)
        if self.problem != _NOT_TRIED:
            self.reconnects += 1
        self.problem = ""
        self._backoff.succeeded()
        connection.publish(f"{self.base_topic}/status", "online", retain=True)
        self._send_discovery(connection)
        if self.settings.discovery:
            connection.subscribe(f"{self.settings.discovery}/status")

    def _on_message(self, connection: Connection, topic: str, payload: bytes) -> None:
        """Introduce the device again when Home Assistant has started."""
        if payload == b"online":
            self._send_discovery(connection)

    def _on_sent(self, number: int, refusal: str) -> None:
        self._inflight.acknowledge(number)
        if refusal:
            self.refused += 1
            fix = f"check what {self.settings.username} may write"
            _log.warning("the broker refuses a message (%s); %s", refusal, fix)

    def _send_discovery(self, connection: Connection) -> None:
        """Send Home Assistant's discovery message, if it is wanted, and then the state."""
        self._state_timer.expire()
        prefix = self.settings.discovery
        if prefix:
            topic = homeassistant.discovery_topic(prefix, self.device)
            message = homeassistant.discovery_message(self.base_topic, self.device)
            connection.publish(topic, message, retain=True)

    def _send_entries(self, connection: Connection) -> None:
        """Send entries up to the limit of messages in flight, so that memory stays flat."""
        while self._queue and len(self._inflight) < connection.max_inflight:
            if connection.problem:
                return
            message = self._queue.popleft()
            number = connection.publish(f"{self.base_topic}/{message.kind}", message.text)
            self._inflight.add(number, message)

    def _send_state(self, connection: Connection) -> None:
        self._state_timer.restart()
        connection.publish(f"{self.base_topic}/state", json.dumps(self.state()), retain=True)

    def _acknowledge(self) -> None:
        """Move the cursor past what the broker has."""
        for message in self._inflight.pop_acknowledged():
            self.outbox.acknowledge(message)
            self.published += 1

    def _save(self) -> None:
        """Save the cursor if it has moved."""
        self._save_timer.restart()
        cursor = self.outbox.done
        if cursor == self._saved_cursor:
            return
        try:
            cursor.save(self.cursor_path)
            self._saved_cursor = cursor
        except OSError as problem:
            consequence = "entries may be sent twice"
            _log.warning("%s: cannot be written (%s); %s", self.cursor_path, problem, consequence)


class _Inflight:
    """Messages that were sent and are not acknowledged, in the order sent."""

    def __init__(self) -> None:
        self._messages: deque[tuple[int, Message]] = deque()
        self._acknowledged: set[int] = set()

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, number: int, message: Message) -> None:
        """A message was sent with this number."""
        self._messages.append((number, message))

    def acknowledge(self, number: int) -> None:
        """The broker has this message; numbers of other messages, as of states, are ignored."""
        if any(number == sent for sent, _ in self._messages):
            self._acknowledged.add(number)

    def pop_acknowledged(self) -> list[Message]:
        """Remove and return the acknowledged messages before the first that isn't acknowledged."""
        messages = []
        while self._messages and self._messages[0][0] in self._acknowledged:
            number, message = self._messages.popleft()
            self._acknowledged.discard(number)
            messages.append(message)
        return messages

    def clear(self) -> None:
        """Forget all: the connection was lost."""
        self._messages.clear()
        self._acknowledged.clear()


def run(
    settings: PublishSettings,
    log: Path,
    runtime: Path,
    state: Path,
    own_runtime: Path | None,
    is_stopped: Callable[[], bool],
) -> Publisher:
    """Publish until `is_stopped` returns True, and return the publisher, closed.

    settings, log, runtime, state: as for Publisher.
    own_runtime: folder in memory for the publisher's own status file; None to write none.

    Raises PublishError for settings that can't be used.
    """
    publisher = Publisher(settings, log, runtime, state)
    notifier = Notifier()
    status_timer = Timer(_STATUS_SECONDS)
    with ExitStack() as exit_stack:  # closes in reverse order
        if own_runtime is not None:
            exit_stack.callback((own_runtime / status_file.NAME).unlink, missing_ok=True)
        if settings.metrics_port:
            exit_stack.callback(_serve_metrics(publisher).close)
        exit_stack.callback(publisher.close)
        exit_stack.callback(notifier.close)
        while not is_stopped():
            publisher.step()
            notifier.ping_watchdog(_summary(publisher))
            if own_runtime is not None and status_timer.due():
                status_timer.restart()
                status_file.write(own_runtime, publisher.report())
    return publisher


def _serve_metrics(publisher: Publisher) -> "MetricsServer":
    # Here, because prometheus_client takes megabytes that most devices do without.
    from mien_edge.publish.prometheus import Collector, MetricsServer

    collector = Collector(publisher.service_status, publisher.report)
    return MetricsServer(publisher.settings.metrics_port, collector)


def _summary(publisher: Publisher) -> str:
    """The line that systemctl shows."""
    waiting = publisher.outbox.waiting
    if not publisher.connected:
        return f"{publisher.problem}, {waiting} entries waiting"
    return f"{publisher.published} published, {waiting} waiting"


def _check(settings: PublishSettings) -> None:
    if not settings.host:
        fix = "name the broker in the settings file, or stop mien-publish"
        raise PublishError(f"publish.host is empty; {fix}")
    for key, value in (("topic", settings.topic), ("device", settings.device)):
        if "+" in value or "#" in value:
            fix = "+ and # have a meaning in MQTT, leave them out"
            raise PublishError(f"publish.{key} is {value!r}; {fix}")


def _mode(settings: PublishSettings) -> Mode:
    return MinuteSums(settings.min_faces) if settings.aggregate else SingleReadings()
