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
- the publisher never ran before: it begins with the next entry;
- the log can't be read: that is told, and what follows once it can be;
- the broker says that it takes no such message, or ends connection after connection for one: the
  message is set aside, counted and told;
- what the broker sends is too large: nothing is subscribed to any more until the next start;
- another client has the same name: that is told, and the pauses grow;
- the device gets another name: its old retained messages are cleared.
"""

import json
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from mien_edge.errors import PublishError
from mien_edge.log.minutes import MinuteSummary
from mien_edge.publish import homeassistant, identity
from mien_edge.publish.identity import Identity, IdentityFile
from mien_edge.publish.inflight import Inflight, Outgoing, Suspects
from mien_edge.publish.mqtt import (
    MESSAGE_REFUSALS,
    QOS_UNSUPPORTED,
    RETAIN_UNSUPPORTED,
    TAKEN_OVER,
    Connection,
    Will,
    check_files,
)
from mien_edge.publish.notices import Notices
from mien_edge.publish.outbox import (
    BATCH_SIZE,
    UNREADABLE,
    Cursor,
    Message,
    MinuteSums,
    Mode,
    Outbox,
    SingleReadings,
    unreadable_text,
)
from mien_edge.publish.reporter import (
    Reporter,
    publishable_minute,
    read_service_status,
    running_labels,
)
from mien_edge.publish.retirement import Retirement
from mien_edge.publish.state import device_state, read_machine, read_service
from mien_edge.publish.timer import Backoff, Clock, Timer
from mien_edge.settings import PublishSettings
from mien_edge.status import status_file
from mien_edge.status.status_file import PublisherStatus, Status
from mien_edge.status.summary import NotRunning
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

STEADY_SECONDS = 2 * MAX_RETRY_SECONDS
"""A connection that has stood for longer was no take-over: its end is followed by a short pause."""

ACK_SECONDS = 60.0
"""Seconds that the broker may take to acknowledge a message."""

INTRODUCTION_SECONDS = 10.0
"""Seconds between two answers to Home Assistant, which anybody may ask for at the broker."""

_MANY_LOSSES = 3  # connections lost one after the other
_STATUS_SECONDS = 1.0  # between two writings of the publisher's own status
_CLOSE_SECONDS = 2.0  # to wait for the broker's answers at the end
_SHORT_LOOP = 0.05  # seconds in the network loop while there is more to send
_NOT_TRIED = "not tried yet"
_RENAME_ONE = "give one of the devices another publish.device"

_log = logging.getLogger("mien.publish")


class Publisher:
    """The publisher, without threads: call `step` again and again, and `close` at the end.

    settings: of publishing.
    log: path of the on-device log.
    runtime: runtime folder of the camera's service, with its status.
    state: folder for the cursor and the identity, which outlive a restart.
    clock: seconds that only grow; wall_clock: seconds since 1970.

    `problem` is why the broker is not connected, else empty; `notices` say what else is wrong.
    `published`, `refused` and `set_aside` count messages that the broker has acknowledged,
    has refused, and will never take; `reconnects` counts connections after a failure. Raises
    PublishError for settings that can't be used.
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
        self.settings = settings
        self.runtime = runtime
        self.identity = Identity.of(settings)
        self.machine = identity.machine()
        self.base_topic = self.identity.topic
        self.cursor_path = state / "cursor.json"
        self.outbox = Outbox(log, _mode(settings), Cursor.read(self.cursor_path), wall_clock)
        earlier = None
        if self.outbox.done.log:
            earlier = self.identity.before_upgrade(settings.discovery)
        self._identities = IdentityFile(state / "identity.json", self.identity, earlier)
        self.problem = _NOT_TRIED
        self.notices = Notices()
        self.published = 0
        self.refused = 0
        self.set_aside = 0
        self.reconnects = 0
        self._clock = clock
        self._wall_clock = wall_clock
        self._client_id = identity.client_id(self.identity.device)
        self._will = Will(f"{self.base_topic}/status", "offline")
        self._connection: Connection | None = None
        self._retained: dict[str, str] = {}
        self._queue: deque[Message] = deque()
        self._has_more = False
        self._inflight = Inflight()
        self._suspects = Suspects()
        self._retirement: Retirement | None = None
        self._connected_at = 0.0
        self._early_losses = 0
        self._wants_introduction = False
        self._introduced_labels: tuple[str, ...] = ()
        self._is_flooded = False
        self._told_problem = ""
        self._saved_cursor = self.outbox.done
        self._poll_timer = Timer(POLL_SECONDS, clock)
        self._state_timer = Timer(settings.state_interval, clock)
        self._introduction_timer = Timer(INTRODUCTION_SECONDS, clock)
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
            connection.loop(_SHORT_LOOP)
            connection.close()
            self._acknowledge()
        self._save()

    def state(self) -> dict[str, object]:
        """Return the state message as values for JSON; see `device_state`."""
        return self._state_of(read_service(self.runtime))

    def _state_of(self, service: Status | NotRunning) -> dict[str, object]:
        minute = self._publishable_minute() if self.settings.aggregate else None
        notices = self.notices.lines()
        content = device_state(service, minute, notices, self._wall_clock())
        return {**content, "machine": self.machine}

    def report(self) -> PublisherStatus:
        """Return how the publisher is, for `mien-edge status` and Prometheus."""
        minute = self._publishable_minute()
        return PublisherStatus(
            time=self._wall_clock(),
            broker=f"{self.settings.host}:{self.settings.port}",
            connected=self.connected,
            problem="; ".join(self.problems()),
            published=self.published,
            refused=self.refused,
            set_aside=self.set_aside,
            reconnects=self.reconnects,
            waiting=self.outbox.waiting,
            faces=minute.faces,
            shares=minute.shares(self._labels()) if minute.faces else {},
        )

    def _labels(self) -> tuple[str, ...]:
        return running_labels(self.service_status(), self.outbox)

    def problems(self) -> list[str]:
        """Return what is wrong, one line each: with the broker first, then all else."""
        problems = self.notices.lines()
        return [self.problem, *problems] if self.problem else problems

    def service_status(self) -> Status | None:
        """Return the status of the camera's service; None if it does not run."""
        return read_service_status(self.runtime)

    @property
    def counts(self) -> str:
        """How much is published, and how much waits, in a few words."""
        return f"{self.published} published, {self.outbox.waiting} waiting"

    def _publishable_minute(self) -> MinuteSummary:
        """The sums of the last full minute; empty ones if it had too few faces to be published."""
        return publishable_minute(self.outbox.last_minute, self.settings)

    def _refill(self) -> None:
        """Look at the log when it is time, and at once after a full batch.

        Entries are taken only while there is a broker and none are left to send: what waits stays
        in the log, not in memory.
        """
        can_take = self.connected and not self._queue
        is_due = self._poll_timer.due()
        if not is_due and not (can_take and self._has_more):
            return
        if is_due:
            self._poll_timer.restart()
        try:
            if can_take:
                self._queue.extend(self.outbox.take(counts=is_due))
                self._has_more = len(self._queue) >= BATCH_SIZE
            else:
                self.outbox.look()
        except UNREADABLE as problem:
            self.outbox.waiting = 0
            self._has_more = False
            text = unreadable_text(self.outbox.log, problem)
            self.notices.tell("log", f"{text}; until then nothing is published")
        else:
            self.notices.end("log", f"{self.outbox.log}: can be read again")
            if self.outbox.done.log != self._saved_cursor.log:
                self._save()  # where it begins with a log is known from now on

    def _connect(self, seconds: float) -> None:
        """Try the broker, or wait for at most `seconds` until it may be tried again."""
        pause = self._backoff.remaining()
        if pause:
            time.sleep(min(seconds, pause))
            return
        try:
            self._connection = Connection(
                self.settings,
                self._client_id,
                self._will,
                self._on_connect,
                self._on_sent,
                self._on_message,
            )
        except PublishError as problem:
            self._on_disconnect(str(problem))

    def _exchange(self, connection: Connection, seconds: float) -> None:
        """Send what is due, and receive the broker's answers for at most `seconds`."""
        if connection.ready:
            self._offer_retained()
            self._send(connection)
            if self._inflight.waited(self._clock()) > ACK_SECONDS:
                connection.abort("the broker acknowledges nothing; look at its log")
        connection.loop(_SHORT_LOOP if self._queue else seconds)
        self._acknowledge()
        if connection.problem:
            connection.abort()
            self._connection = None
            self._on_end(connection)
            self._on_disconnect(connection.problem)
        elif self._is_steady():
            self._early_losses = 0
            self._told_problem = ""

    def _is_steady(self) -> bool:
        """Whether the connection has stood for longer than another client of this name would
        pause, and something has been published on it.
        """
        has_published = self._inflight.acknowledged > 0
        return has_published and self._clock() - self._connected_at >= STEADY_SECONDS

    def _on_end(self, connection: Connection) -> None:
        """Learn from the end of a connection that had been opened."""
        self._is_flooded |= connection.is_flooded
        if connection.reason == RETAIN_UNSUPPORTED:
            self._will = self._will._replace(retain=False)
        elif connection.reason == QOS_UNSUPPORTED:
            self._will = self._will._replace(qos=0)
        elif connection.reason == TAKEN_OVER:
            self._early_losses = 0
            connection.problem = _taken_over(self.identity.device)
        elif self._is_steady():
            self._backoff.succeeded()
        elif connection.is_cut and self._inflight.acknowledged:
            self._early_losses += 1
            if self._early_losses >= _MANY_LOSSES:
                cause = _taken_over(self.identity.device)
                connection.problem = f"the connection is lost again and again; perhaps {cause}"
        if connection.is_cut or connection.reason in MESSAGE_REFUSALS:
            self._look_for_culprit(connection)

    def _look_for_culprit(self, connection: Connection) -> None:
        """Set a message aside that has ended connection after connection."""
        culprit = self._suspects.on_end(self._inflight)
        if culprit is not None:
            reason = connection.problem if connection.reason else "it ends the connection"
            self._tell_set_aside(culprit, f"the broker never takes it ({reason})")

    def _on_disconnect(self, problem: str) -> None:
        """Begin a pause, after which what was not acknowledged is sent again."""
        if problem != self._told_problem:
            _log.warning("%s; trying again", problem)
        self.problem = problem
        self._told_problem = problem
        self._backoff.failed()
        self._retained.clear()
        self._queue.clear()
        self._inflight.clear()
        self._retirement = None
        self.outbox.rewind()
        self._poll_timer.expire()
        self._save()

    def _on_connect(self, connection: Connection) -> None:
        """Publish that the device is there, and what it is."""
        _log.info("connected to %s", connection.address)
        if self.problem != _NOT_TRIED:
            self.reconnects += 1
        self.problem = ""
        self._connected_at = self._clock()
        self._note_limits(connection)
        self._offer(f"{self.base_topic}/status", "online")
        self._introduce()
        if self._is_flooded:
            return
        connection.subscribe(f"{self.base_topic}/state")
        if self.settings.discovery:
            connection.subscribe(f"{self.settings.discovery}/status")
        if self._identities.retired and connection.limits.retain:
            self._retirement = Retirement(self._identities, self.machine, self._clock)
            for topic in self._retirement.subscriptions():
                connection.subscribe(topic)

    def _note_limits(self, connection: Connection) -> None:
        """Tell what the broker can't do, and connect as it can the next time."""
        retain = connection.limits.retain
        qos = connection.limits.qos
        self._will = self._will._replace(retain=retain, qos=qos)
        self.notices.withdraw("name", "retain", "qos")
        if not retain:
            fix = "switch retained messages on at the broker"
            problem = "the broker keeps no retained messages"
            consequence = "whoever connects later gets no state and no discovery"
            self.notices.tell("retain", f"{problem}: {consequence}; {fix}")
        if qos == 0:
            problem = "the broker takes QoS 0 only"
            consequence = "what is lost on the way is not sent again"
            self.notices.tell("qos", f"{problem}: {consequence}; allow QoS 1 there")

    def _on_message(
        self, connection: Connection, topic: str, payload: bytes, retained: bool
    ) -> None:
        """Introduce the device again when Home Assistant has started; look whose a topic is."""
        if self.settings.discovery and topic == f"{self.settings.discovery}/status":
            self._wants_introduction |= payload == b"online"
        elif topic == f"{self.base_topic}/state":
            other = read_machine(payload)
            # A retained one may be from before this card was put into this machine.
            is_present = not retained or self._early_losses > 0
            is_first = "name" not in self.notices
            if other not in ("", self.machine) and is_present and is_first:
                self.notices.tell("name", _same_name(self.identity.device, other))
        elif self._retirement is not None:
            self._retirement.on_message(topic, payload)

    def _on_sent(self, number: int, refusal: str) -> None:
        sent = self._inflight.acknowledge(number)
        if refusal:
            self.refused += 1
            user = self.settings.username or "everybody"
            fix = f"check what {user} may write at the broker"
            topic = sent.topic if sent else "a message"
            self.notices.tell("refused", f"the broker refuses {topic} ({refusal}); {fix}")
        elif sent is not None:
            self._suspects.on_acknowledged(sent)

    def _introduce(self) -> None:
        """Offer Home Assistant's discovery message, if it is wanted, and then the state."""
        self._wants_introduction = False
        self._introduction_timer.restart()
        self._state_timer.expire()
        self._offer_discovery()

    def _offer_discovery(self) -> None:
        if self.identity.discovery:
            device = self.identity.device
            labels = self._introduced_labels
            message = homeassistant.discovery_message(self.base_topic, device, labels)
            self._offer(self.identity.discovery, message)

    def _offer_state(self) -> None:
        """Offer the state, after a new introduction where the model has other labels than it
        named."""
        service = read_service(self.runtime)
        labels = self._introduced_labels or self.outbox.labels
        if isinstance(service, Status) and service.labels:
            labels = service.labels
        if labels != self._introduced_labels:
            self._introduced_labels = labels
            self._offer_discovery()
        self._offer(f"{self.base_topic}/state", json.dumps(self._state_of(service)))

    def _offer_retained(self) -> None:
        """Offer the retained messages that are due."""
        if self._wants_introduction and self._introduction_timer.due():
            self._introduce()
        if self._state_timer.due():
            self._state_timer.restart()
            self._offer_state()
        if self._retirement is not None:
            for topic in self._retirement.due():
                self._offer(topic, "")

    def _offer(self, topic: str, text: str) -> None:
        """Send a retained message as soon as there is room, not an older one of its topic."""
        self._retained.pop(topic, None)
        self._retained[topic] = text

    def _send(self, connection: Connection) -> None:
        """Send messages up to the limit of messages in flight, so that memory stays flat."""
        limits = connection.limits
        max_inflight = 1 if self._suspects.is_careful else limits.max_inflight
        while len(self._inflight) < max_inflight and not connection.problem:
            outgoing = self._next()
            if outgoing is None:
                return
            if self._suspects.is_culprit(outgoing):
                self._inflight.skip(outgoing)
                continue
            size = connection.packet_bytes(outgoing.topic, outgoing.text)
            if size > limits.max_packet:
                limit = f"the broker takes at most {limits.max_packet}"
                reason = f"it has {size} bytes, {limit}; raise that limit at the broker"
                self._tell_set_aside(outgoing, reason)
                self._inflight.skip(outgoing)
                continue
            is_retained = outgoing.entry is None
            number = connection.publish(outgoing.topic, outgoing.text, is_retained)
            self._inflight.add(number, outgoing, self._clock())

    def _next(self) -> Outgoing | None:
        """The next message: retained ones in their order, one of a topic at a time, else an
        entry."""
        topic = next(iter(self._retained), None)
        if topic is not None and not self._inflight.has_topic(topic):
            return Outgoing(topic, self._retained.pop(topic))
        if not self._queue:
            return None
        entry = self._queue.popleft()
        return Outgoing(f"{self.base_topic}/{entry.kind}", entry.text, entry)

    def _tell_set_aside(self, outgoing: Outgoing, reason: str) -> None:
        """Count a message that is not sent, and tell the first of its topic."""
        text = f"a message for {outgoing.topic} was set aside: {reason}"
        is_first = self.notices.tell("set aside", text, key=outgoing.topic)
        if is_first or outgoing.entry is not None:
            self.set_aside += 1

    def _acknowledge(self) -> None:
        """Move the cursor past what the broker has, or will never take."""
        for outgoing in self._inflight.pop_acknowledged():
            if outgoing.entry is not None:
                self.outbox.acknowledge(outgoing.entry)
                if outgoing.entry.kind == "minute":
                    self._save_timer.expire()  # a minute may be written anew after a power cut
                self.published += not outgoing.skipped
            elif self._retirement is not None and not outgoing.text:
                self._retirement.on_cleared(outgoing.topic)

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


def _taken_over(device: str) -> str:
    """What a take-over is, for people."""
    return f"another client with the same name {device} takes over this connection; {_RENAME_ONE}"


def _same_name(device: str, machine: str) -> str:
    return f"another device (machine {machine}) publishes as {device} as well; {_RENAME_ONE}"


def run(
    settings: PublishSettings,
    log: Path,
    runtime: Path,
    state: Path,
    own_runtime: Path | None,
    is_stopped: Callable[[], bool],
) -> str:
    """Publish until `is_stopped` returns True; where no broker is named, serve metrics alone.
    Returns what was done, in a few words.

    settings, log, runtime, state: as for Publisher.
    own_runtime: folder in memory for the publisher's own status file; None to write none.

    Raises PublishError for settings that can't be used.
    """
    publisher = _open(settings, log, runtime, state)
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
            publisher.step(POLL_SECONDS)
            notifier.ping_watchdog("; ".join([*publisher.problems(), publisher.counts]))
            if own_runtime is not None and status_timer.due():
                status_timer.restart()
                status_file.write(own_runtime, publisher.report())
    return publisher.counts


def _open(
    settings: PublishSettings, log: Path, runtime: Path, state: Path
) -> "Publisher | Reporter":
    if settings.host:
        publisher = Publisher(settings, log, runtime, state)
        check_files(settings)
        return publisher
    if settings.metrics_port:
        return Reporter(settings, log, runtime, _mode(settings))
    fix = "name a broker, or set publish.metrics_port for Prometheus alone, or stop mien-publish"
    raise PublishError(f"publish.host is empty; {fix}")


def _serve_metrics(publisher: "Publisher | Reporter") -> "MetricsServer":
    # Here, because prometheus_client takes megabytes that most devices do without.
    from mien_edge.publish.prometheus import Collector, MetricsServer

    collector = Collector(publisher.service_status, publisher.report)
    return MetricsServer(publisher.settings.metrics_port, collector)


def _mode(settings: PublishSettings) -> Mode:
    return MinuteSums(settings.min_faces) if settings.aggregate else SingleReadings()
