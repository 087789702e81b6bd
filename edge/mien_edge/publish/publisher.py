"""`mien-edge publish`: from the on-device log to an MQTT broker, from a saved cursor: at least once, in order.

Topics below mien/DEVICE: `reading`, `event` (each entry with an id that is the same if it comes twice), `minute`
(shares, instead of single readings where only those may be told), `state` (retained: faces, emotion, health), `status`
(retained: online or offline, the latter as last will). Whoever receives drops ids that are not above the last one.

What can happen: the broker is away, then it is tried again after 1, 2, 4 … 60 s and nothing is lost as long as the log
keeps it; the publisher is killed, then up to a minute of entries comes twice; the log is begun anew, then its entries
follow those of the old one; it was never run before, then it begins with what comes from now on.
"""

import json
import logging
import socket
import sqlite3
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mien_edge.errors import MienError, PublishError, SinkError, SourceError
from mien_edge.log.minutes import NONE
from mien_edge.publish import homeassistant, mqtt
from mien_edge.publish.outbox import BATCH_SIZE, Cursor, Message, Outbox
from mien_edge.settings import PublishSettings
from mien_edge.status import status_file
from mien_edge.status.status_file import PublisherStatus, Status

_LOOK = 0.5  # seconds between looks for new entries
_SAVE = 60.0  # seconds between two savings of the cursor: a card is not written to for every message
_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds between two attempts to reach the broker
_GOODBYE = 2.0  # seconds

_log = logging.getLogger("mien.publish")


class Publisher:
    """The whole of the process, one `step` at a time; it has no thread. `runtime` is the folder of the camera's
    service, `state` this one's own, for the cursor.
    """

    def __init__(self, settings: PublishSettings, log: Path, runtime: Path, state: Path) -> None:
        if not settings.host:
            raise PublishError("publish.host is empty; name the broker in the settings file, or stop mien-publish")
        for name, value in (("topic", settings.topic), ("device", settings.device)):
            if set(value) & set("+#"):
                raise PublishError(f"publish.{name} is {value!r}; + and # have a meaning in MQTT, leave them out")
        self.settings, self.runtime, self.cursor = settings, runtime, state / "cursor.json"
        self.device = settings.device or socket.gethostname()
        self.base = f"{settings.topic}/{self.device}"
        min_faces = settings.min_faces if settings.aggregate else 0
        self.outbox = Outbox(log, min_faces, Cursor.read(self.cursor))
        self.problem, self.published, self.refused, self.reconnects = "not tried yet", 0, 0, 0
        self._saved_cursor, self._saved = self.outbox.done, time.monotonic()
        self._link: mqtt.Connection | None = None
        self._entries: deque[Message] = deque()
        self._flying: deque[tuple[int, Message]] = deque()
        self._arrived: set[int] = set()
        self._pause, self._retry = _PAUSE, 0.0
        self._looked = self._told = float("-inf")
        self._has_more = False

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted."""
        return self._link is not None and self._link.ready

    def step(self, seconds: float = _LOOK) -> None:
        """Do what is to be done now, and wait for the broker's answers for at most so long."""
        now = time.monotonic()
        self._refill(now)
        if self._link is None:
            self._open(now, seconds)
            return
        if self._link.ready:
            self._send()
            if now - self._told >= self.settings.state_interval:
                self._tell_state(now)
        self._link.work(seconds if not self._entries else 0.05)
        self._settle()
        if self._link.problem:
            self._lose(self._link.problem)
        if now - self._saved >= _SAVE:
            self._save()

    def _open(self, now: float, seconds: float) -> None:
        if now < self._retry:
            time.sleep(min(seconds, self._retry - now))
            return
        try:
            will = f"{self.base}/status", "offline"
            self._link = mqtt.Connection(self.settings, self.device, will, self._greet, self._sent, self._heard)
        except PublishError as problem:
            self._lose(str(problem))

    def _lose(self, problem: str) -> None:
        """The broker is away: begin anew with what it has not acknowledged."""
        if problem != self.problem:
            _log.warning("%s; tried again", problem)
        self.problem, self._retry = problem, time.monotonic() + self._pause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        if self._link is not None:
            self._link.drop()
        self._link = None
        self._entries.clear()
        self._flying.clear()
        self._arrived.clear()
        self.outbox.rewind()
        self._looked = float("-inf")
        self._save()

    def _greet(self) -> None:
        """The broker has accepted: say that the device is there, and what it is."""
        assert self._link is not None  # noqa: S101 - it is the one that calls
        _log.info("connected to %s", self._link.name)
        self.reconnects += self.problem != "not tried yet"
        self.problem, self._pause = "", _PAUSE
        self._link.publish(f"{self.base}/status", "online", retain=True)
        self._introduce()
        if self.settings.discovery:
            self._link.subscribe(f"{self.settings.discovery}/status")

    def _introduce(self) -> None:
        self._told = float("-inf")
        if self.settings.discovery and self._link is not None:
            topic = homeassistant.topic(self.settings.discovery, self.device)
            self._link.publish(topic, homeassistant.message(self.base, self.device), retain=True)

    def _heard(self, topic: str, payload: bytes) -> None:
        """Home Assistant was started: it wants to hear again who is there."""
        if payload == b"online":
            self._introduce()

    def _refill(self, now: float) -> None:
        """Look for entries now and then; take them only when there is somebody to tell: what waits stays in the log.
        After a full batch the next one is taken as soon as there is room.
        """
        takes = self.connected and not self._entries
        if now - self._looked < _LOOK and not (takes and self._has_more):
            return
        self._looked = now
        try:
            if takes:
                self._entries.extend(self.outbox.take())
                self._has_more = len(self._entries) >= BATCH_SIZE
            else:
                self.outbox.look()
        except (SinkError, sqlite3.Error) as problem:
            self.outbox.waiting, self._has_more = 0, False
            _log.debug("%s", problem)

    def _send(self) -> None:
        """Keep a window of messages on their way, no more: memory stays flat whatever waits."""
        assert self._link is not None  # noqa: S101 - step has looked
        while self._entries and len(self._flying) < self._link.window and not self._link.problem:
            message = self._entries.popleft()
            self._flying.append((self._link.publish(f"{self.base}/{message.kind}", message.text), message))

    def _sent(self, number: int, refusal: str) -> None:
        self._arrived.add(number)
        if refusal:
            self.refused += 1
            _log.warning("the broker refuses a message (%s); check what %s may write", refusal, self.settings.username)

    def _settle(self) -> None:
        """What has arrived in an unbroken row from the oldest on is done."""
        while self._flying and self._flying[0][0] in self._arrived:
            number, message = self._flying.popleft()
            self._arrived.discard(number)
            self.outbox.acknowledged(message)
            self.published += 1
        self._arrived &= {number for number, _ in self._flying}

    def _tell_state(self, now: float) -> None:
        assert self._link is not None  # noqa: S101 - step has looked
        self._told = now
        self._link.publish(f"{self.base}/state", json.dumps(self.state()), retain=True)

    def state(self) -> dict[str, Any]:
        """What the device is to be seen by: emotion, faces, fps, temperature, problems, model."""
        try:
            service = status_file.read_status(self.runtime)
        except SourceError as problem:
            return {"emotion": NONE, "faces": 0, "fps": 0, "temperature": None, "problems": [str(problem)], "model": ""}
        from mien_edge.status.summary import find_problems

        emotion, faces = self._now(service)
        return {
            "emotion": emotion,
            "faces": faces,
            "fps": service.fps,
            "temperature": service.health.temperature,
            "model": service.model,
            "camera": service.camera,
            "problems": find_problems(service, None, time.time()),
        }

    def _now(self, service: Status) -> tuple[str, int]:
        """The dominant emotion and the number of faces: of this moment, or of the last minute where only sums may be
        told, and then of enough faces only.
        """
        if self.settings.aggregate:
            minute = self.outbox.minute
            if minute.faces < self.settings.min_faces:
                return NONE, 0
            return max(minute.seconds, key=lambda label: minute.seconds[label]), minute.faces
        labels = Counter(face.label for face in service.faces if face.label)
        return (labels.most_common(1)[0][0] if labels else NONE), len(service.faces)

    def report(self) -> PublisherStatus:
        """How the publisher is, for `mien-edge status` and Prometheus."""
        minute = self.outbox.minute
        enough = minute.faces >= max(self.outbox.min_faces, 1)
        return PublisherStatus(
            time=time.time(),
            broker=f"{self.settings.host}:{self.settings.port}",
            connected=self.connected,
            problem=self.problem,
            published=self.published,
            refused=self.refused,
            reconnects=self.reconnects,
            waiting=self.outbox.waiting,
            faces=minute.faces if enough else 0,
            shares=minute.shares() if enough else {},
        )

    def _save(self) -> None:
        self._saved = time.monotonic()
        if self.outbox.done == self._saved_cursor:
            return
        try:
            self.outbox.done.save(self.cursor)
            self._saved_cursor = self.outbox.done
        except OSError as problem:
            _log.warning("%s: cannot be written (%s); entries may come twice", self.cursor, problem)

    def close(self) -> None:
        """Say that the device goes, wait a moment for the broker's answers, and save the cursor."""
        if self._link is not None and self._link.ready:
            self._link.publish(f"{self.base}/status", "offline", retain=True)
            end = time.monotonic() + _GOODBYE
            while self._flying and time.monotonic() < end and not self._link.problem:
                self._link.work(0.05)
                self._settle()
            self._link.work(0.05)
            self._link.close()
        self._save()


def run(
    settings: PublishSettings, log: Path, runtime: Path, state: Path, own: Path | None, stopped: Callable[[], bool]
) -> Publisher:
    """Publish until `stopped`; `own` is the folder in memory for the publisher's own status. Returns the publisher,
    closed. Raises PublishError for settings that cannot be.
    """
    from mien_edge.publish import prometheus
    from mien_edge.status import systemd

    publisher, notifier = Publisher(settings, log, runtime, state), systemd.Notifier()
    stop_serving = prometheus.serve(settings.metrics_port, _collector(publisher)) if settings.metrics_port else None
    written = float("-inf")
    try:
        while not stopped():
            publisher.step()
            notifier.ping_watchdog(_line(publisher))
            if own is not None and time.monotonic() - written >= 1:
                written = time.monotonic()
                status_file.write(own, publisher.report())
    finally:
        notifier.close()
        publisher.close()
        if stop_serving:
            stop_serving()
        if own is not None:
            (own / status_file.NAME).unlink(missing_ok=True)
    return publisher


def _collector(publisher: Publisher) -> Any:
    from mien_edge.publish import prometheus

    def ask() -> tuple[Status | None, PublisherStatus]:
        try:
            return status_file.read_status(publisher.runtime), publisher.report()
        except MienError:
            return None, publisher.report()

    return prometheus.Collector(ask)


def _line(publisher: Publisher) -> str:
    if not publisher.connected:
        return f"{publisher.problem}, {publisher.outbox.waiting} entries waiting"
    return f"{publisher.published} published, {publisher.outbox.waiting} waiting"
