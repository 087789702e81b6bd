"""Messages on their way to the broker, and which of them it never takes."""

from collections import deque
from typing import NamedTuple

from mien_edge.publish.outbox import Message

CAREFUL_AFTER = 3
"""Connections that ended before the same message; from then on one message is sent at a time."""

CULPRIT_AFTER = 6
"""Connections that ended before the same message; it is set aside then."""

_CAREFUL_MESSAGES = 10  # acknowledged in one connection, after which there is no more need for care


class Outgoing(NamedTuple):
    """A message to send.

    entry: the log's entry that it is; None for a retained message.
    skipped: whether it is not sent.
    """

    topic: str
    text: str
    entry: Message | None = None
    skipped: bool = False

    @property
    def key(self) -> tuple[str, int]:
        """What is the same when it is sent again."""
        return self.topic, self.entry.number if self.entry is not None else 0


class _Sent(NamedTuple):
    number: int
    time: float
    outgoing: Outgoing


class Inflight:
    """Messages that were sent and are not acknowledged, in the order sent.

    `acknowledged` counts those that were since the last `clear`.
    """

    def __init__(self) -> None:
        self.acknowledged = 0
        self._sent: deque[_Sent] = deque()
        self._open: dict[int, Outgoing] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, number: int, outgoing: Outgoing, now: float) -> None:
        """A message was sent with this number, at `now` seconds of the publisher's clock."""
        self._sent.append(_Sent(number, now, outgoing))
        self._open[number] = outgoing

    def skip(self, outgoing: Outgoing) -> None:
        """A message is not sent; it counts as acknowledged when all before it are."""
        self._sent.append(_Sent(0, 0.0, outgoing._replace(skipped=True)))

    def has_topic(self, topic: str) -> bool:
        """Whether a message of this topic is not acknowledged."""
        return any(outgoing.topic == topic for outgoing in self._open.values())

    def first(self) -> Outgoing | None:
        """The oldest message that is not acknowledged."""
        return next(iter(self._open.values()), None)

    def waited(self, now: float) -> float:
        """Seconds at `now` since the oldest unacknowledged message was sent; 0 for none."""
        times = [sent.time for sent in self._sent if sent.number in self._open]
        return now - times[0] if times else 0.0

    def acknowledge(self, number: int) -> Outgoing | None:
        """The broker has this message; None for a number that is not in flight."""
        outgoing = self._open.pop(number, None)
        if outgoing is not None:
            self.acknowledged += 1
        return outgoing

    def pop_acknowledged(self) -> list[Outgoing]:
        """Remove and return the acknowledged messages before the first that isn't acknowledged."""
        messages = []
        while self._sent and self._sent[0].number not in self._open:
            messages.append(self._sent.popleft().outgoing)
        return messages

    def clear(self) -> None:
        """Forget all: the connection was lost."""
        self._sent.clear()
        self._open.clear()
        self.acknowledged = 0


class Suspects:
    """Finds the message for which a broker ends connection after connection without a reason.

    That is what brokers do with a packet that is too large for them, always in MQTT 3.1.1. The
    oldest message without acknowledgement is suspected; when connections have ended before the
    same one CAREFUL_AFTER times, messages are sent one at a time (`is_careful`), so that there is
    no doubt which it is. It is a culprit only if the broker took other messages of the same
    connection.
    """

    def __init__(self) -> None:
        self.is_careful = False
        self._key: tuple[str, int] | None = None
        self._ends = 0
        self._acknowledged = 0
        self._culprits: set[tuple[str, int]] = set()

    def on_acknowledged(self, outgoing: Outgoing) -> None:
        """The broker took a message."""
        if outgoing.key == self._key:
            self._key = None
            self._ends = 0
        self._acknowledged += 1
        if self._acknowledged >= _CAREFUL_MESSAGES:
            self.is_careful = False

    def on_end(self, inflight: Inflight) -> Outgoing | None:
        """The broker ended a connection; return the message that is set aside from now on."""
        self._acknowledged = 0
        suspect = inflight.first()
        if suspect is None:
            return None
        if suspect.key != self._key:
            self._key = suspect.key
            self._ends = 0
        self._ends += 1
        is_certain = self.is_careful and inflight.acknowledged > 0
        self.is_careful |= self._ends >= CAREFUL_AFTER
        if self._ends < CULPRIT_AFTER or not is_certain:
            return None
        self._culprits = {key for key in self._culprits if key[0] != suspect.topic}
        self._culprits.add(suspect.key)
        self.is_careful = False
        self._key = None
        return suspect

    def is_culprit(self, outgoing: Outgoing) -> bool:
        """Whether a message is set aside."""
        return outgoing.key in self._culprits
