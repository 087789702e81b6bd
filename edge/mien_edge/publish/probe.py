"""A look at the broker, for `mien-edge doctor`: does it let this device in, and who else has its
name?
"""

import time
import uuid
from dataclasses import dataclass

from mien_edge.errors import PublishError
from mien_edge.publish import identity
from mien_edge.publish.identity import Identity
from mien_edge.publish.mqtt import Connection, check_files
from mien_edge.publish.state import read_machine
from mien_edge.publish.timer import Clock
from mien_edge.settings import PublishSettings

_LOOP = 0.1  # seconds


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at the broker gave.

    device: the name that was looked for.
    is_online: whether the retained status under that name says so.
    machine: which machine published the state under that name, empty for none or not known.
    is_own: whether that is this machine.
    """

    device: str
    is_online: bool = False
    machine: str = ""
    is_own: bool = True


def look(settings: PublishSettings, seconds: float = 5.0, clock: Clock = time.monotonic) -> Look:
    """Connect with a client id that nobody else has, and read what is under the device's name.

    seconds: how long to wait for the broker, and then for what it keeps, at most.

    Raises PublishError if a setting is wrong, or the broker doesn't let this device in.
    """
    check_files(settings)
    current = Identity.of(settings)
    visitor = _Visitor(current)
    client_id = f"mien-doctor-{uuid.uuid4().hex[:8]}"
    connection = Connection(
        settings,
        client_id,
        None,
        visitor.on_ready,
        visitor.on_sent,
        visitor.on_message,
    )
    deadline = clock() + seconds
    while not connection.problem and not visitor.has_all and clock() < deadline:
        connection.loop(_LOOP)
    _leave(connection)
    machine = visitor.machine
    return Look(current.device, visitor.is_online, machine, machine in ("", identity.machine()))


class _Visitor:
    """Reads what the broker keeps under a device's name."""

    def __init__(self, device: Identity) -> None:
        self._status_topic = f"{device.topic}/status"
        self._state_topic = f"{device.topic}/state"
        self._received: dict[str, bytes] = {}

    @property
    def has_all(self) -> bool:
        return {self._status_topic, self._state_topic} <= set(self._received)

    @property
    def is_online(self) -> bool:
        return self._received.get(self._status_topic) == b"online"

    @property
    def machine(self) -> str:
        return read_machine(self._received.get(self._state_topic, b""))

    def on_ready(self, connection: Connection) -> None:
        connection.subscribe(self._status_topic)
        connection.subscribe(self._state_topic)

    def on_message(
        self, connection: Connection, topic: str, payload: bytes, retained: bool
    ) -> None:
        self._received[topic] = payload

    def on_sent(self, number: int, refusal: str) -> None:
        """Nothing is sent."""


def _leave(connection: Connection) -> None:
    """End the connection. Raises PublishError if the broker has not let it in."""
    if connection.problem:
        raise PublishError(f"{connection.address}: {connection.problem}")
    if not connection.ready:
        connection.abort()
        fix = "check publish.host and publish.port"
        raise PublishError(f"{connection.address} takes connections, but answers nothing; {fix}")
    connection.close()
