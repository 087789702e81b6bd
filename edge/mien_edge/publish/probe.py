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
    received: dict[str, bytes] = {}
    status_topic = f"{current.topic}/status"
    state_topic = f"{current.topic}/state"

    def on_ready(connection: Connection) -> None:
        connection.subscribe(status_topic)
        connection.subscribe(state_topic)

    def on_message(connection: Connection, topic: str, payload: bytes, retained: bool) -> None:
        received[topic] = payload

    def on_sent(number: int, refusal: str) -> None:
        """Nothing is sent."""

    client_id = f"mien-doctor-{uuid.uuid4().hex[:8]}"
    connection = Connection(settings, client_id, None, on_ready, on_sent, on_message)
    deadline = clock() + seconds
    while not connection.problem and len(received) < 2 and clock() < deadline:
        connection.loop(_LOOP)
    if connection.problem:
        raise PublishError(f"{connection.address}: {connection.problem}")
    if not connection.ready:
        connection.abort()
        fix = "check publish.host and publish.port"
        raise PublishError(f"{connection.address} takes connections, but answers nothing; {fix}")
    connection.close()
    is_online = received.get(status_topic) == b"online"
    machine = read_machine(received.get(state_topic, b""))
    return Look(current.device, is_online, machine, machine in ("", identity.machine()))
