"""A device that got another name takes the retained messages of its old one away."""

import json

from mien_edge.publish.identity import Identity, IdentityFile
from mien_edge.publish.state import read_machine
from mien_edge.publish.timer import Clock, Timer

LOOK_SECONDS = 10.0
"""Seconds in which the broker may show what is retained under an old name."""


class Retirement:
    """Clears the topics of this device's earlier identities, on one connection.

    identities: the current one and the earlier ones, which are forgotten when they are cleared.
    machine: of this device; topics that another machine publishes to by now are left alone.
    clock: seconds that only grow.
    """

    def __init__(self, identities: IdentityFile, machine: str, clock: Clock) -> None:
        self._identities = identities
        self._machine = machine
        self._foreign: set[str] = set()
        self._to_clear: dict[str, Identity] = {}
        self._timer = Timer(LOOK_SECONDS, clock)
        self._timer.restart()
        self._is_looking = True

    def subscriptions(self) -> list[str]:
        """The topics that show whose the old names are now."""
        states = [f"{identity.topic}/state" for identity in self._identities.retired]
        discoveries = [identity.discovery for identity in self._identities.retired]
        current = self._identities.current.retained
        topics = dict.fromkeys([*states, *discoveries])
        return [topic for topic in topics if topic and topic not in current]

    def on_message(self, topic: str, payload: bytes) -> None:
        """Look at what is retained, and leave alone what is another device's."""
        for identity in self._identities.retired:
            if topic == f"{identity.topic}/state":
                is_foreign = read_machine(payload) not in ("", self._machine)
                if is_foreign:
                    self._foreign.update(identity.retained)
            elif topic == identity.discovery and _device_name(payload) not in ("", identity.device):
                self._foreign.add(topic)

    def due(self) -> list[str]:
        """Return the topics to clear, once, when it is time."""
        if not self._is_looking or not self._timer.due():
            return []
        self._is_looking = False
        current = self._identities.current.retained
        for identity in list(self._identities.retired):
            topics = set(identity.retained) - set(current) - self._foreign
            for topic in sorted(topics):
                self._to_clear[topic] = identity
            if not topics:
                self._identities.forget(identity)
        return list(self._to_clear)

    def on_cleared(self, topic: str) -> None:
        """The broker has taken a topic's last message away."""
        identity = self._to_clear.pop(topic, None)
        if identity is not None and identity not in self._to_clear.values():
            self._identities.forget(identity)


def _device_name(discovery: bytes) -> str:
    """The device's name in a discovery message; empty where there is none."""
    try:
        return str(json.loads(discovery)["dev"]["name"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
