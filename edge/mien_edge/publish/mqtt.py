"""One connection to an MQTT broker, through paho-mqtt 2 without its thread.

It sends and receives only inside `Connection.loop`; every callback is called from there, after
paho has returned: whatever a server sends ends a connection at worst.
"""

import ssl
from collections.abc import Callable
from typing import NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from mien_edge.credentials import BROKER, read_secret
from mien_edge.errors import PublishError
from mien_edge.settings import PublishSettings

MAX_INFLIGHT = 20
"""Messages that may be sent and not yet acknowledged."""

MAX_INCOMING = 8192
"""Bytes of a packet that the broker may send; what is received here are short messages."""

RETRYABLE = (0x80, 0x83, 0x97)
"""Reason codes worth another try (MQTT 5, 2.4): unspecified, implementation specific, quota."""

TAKEN_OVER = 0x8E
RETAIN_UNSUPPORTED = 0x9A
QOS_UNSUPPORTED = 0x9B

MESSAGE_REFUSALS = (0x90, 0x95, 0x99)
"""Reason codes of a disconnection for a message: its topic, its size, its payload (MQTT 5, 2.4)."""

_KEEPALIVE = 30  # seconds of silence after which the broker publishes the last will
_CONNECT_TIMEOUT = 10.0  # seconds
_FIRST_FAILURE = 0x80  # reason codes from here on are failures (MQTT 5, 2.4)
_PACKET_TYPE = 0xF0
_CONNACK = 0x20
_UNLIMITED = 2**28  # bytes; no MQTT packet is larger
_HEADER_BYTES = 10  # of a PUBLISH: type, length (4), topic's length (2), number (2), properties

_FIXES = {
    0x84: "set publish.protocol to the version that it speaks, 5 or 3.1.1",
    0x85: "give the device a short, plain name: publish.device",
    0x86: "check publish.username and the password",
    0x87: "check publish.username, the password, and whom the broker lets in",
    0x88: "the broker is not ready; look at its log",
    0x89: "the broker has too much to do; look at its log",
    0x8A: "the broker has banned this client; look at its settings",
    0x8C: "publish knows only a user name and a password; allow them at the broker",
    0x90: "choose another publish.topic or publish.device",
    0x95: "raise the size of packets that the broker takes",
    0x97: "raise the broker's quota of this user",
    0x99: "the broker takes no JSON; look at its settings",
    RETAIN_UNSUPPORTED: "it goes on without retained messages",
    QOS_UNSUPPORTED: "it goes on without acknowledgements",
    0x9C: "set publish.host to the other server",
    0x9D: "set publish.host to the other server",
    0x9F: "raise the rate of connections that the broker takes",
}
"""What to do about a reason code (MQTT 5, 2.4)."""


class Will(NamedTuple):
    """The last will: what the broker publishes when the connection breaks."""

    topic: str
    payload: str
    qos: int = 1
    retain: bool = True


class BrokerLimits(NamedTuple):
    """What a broker says of itself when it accepts a connection (MQTT 5, 3.2.2.3).

    max_inflight: how many messages may wait for its acknowledgement.
    max_packet: bytes of one packet.
    retain: whether it keeps retained messages.
    qos: the highest quality of service, 0 or 1.
    """

    max_inflight: int = MAX_INFLIGHT
    max_packet: int = _UNLIMITED
    retain: bool = True
    qos: int = 1

    @classmethod
    def of(cls, properties: Properties | None) -> "BrokerLimits":
        """Read the properties of CONNACK; None and what is missing stand for no limit."""
        return cls(
            max_inflight=min(MAX_INFLIGHT, getattr(properties, "ReceiveMaximum", MAX_INFLIGHT)),
            max_packet=getattr(properties, "MaximumPacketSize", _UNLIMITED),
            retain=bool(getattr(properties, "RetainAvailable", 1)),
            qos=min(1, getattr(properties, "MaximumQoS", 1)),
        )


class Connection:
    """A connection that is opened when it is created, and used once: after its end, create another.

    settings: address, protocol, TLS and user of the broker.
    client_id: of this client.
    will: the last will; None for none.
    on_ready: called with this connection when the broker has accepted it.
    on_sent: called with the number of each message that the broker has acknowledged, and its reason
        for a refusal, else an empty string.
    on_message: called with this connection, topic, payload, and whether it was retained, of each
        message received.

    `ready` is whether the broker has accepted; `problem` is why the connection ended, else empty;
    `reason` is its reason code, 0 for none; `is_cut` whether the server closed it without a word,
    `is_flooded` whether it sent more than MAX_INCOMING bytes at once.
    `limits` are the broker's. Raises PublishError if the connection can't be opened.
    """

    def __init__(
        self,
        settings: PublishSettings,
        client_id: str,
        will: Will | None,
        on_ready: Callable[["Connection"], None],
        on_sent: Callable[[int, str], None],
        on_message: Callable[["Connection", str, bytes, bool], None],
    ) -> None:
        self.address = f"{settings.host}:{settings.port}"
        self.ready = False
        self.problem = ""
        self.reason = 0
        self.is_cut = False
        self.is_flooded = False
        self.limits = BrokerLimits()
        self._on_ready = on_ready
        self._on_sent = on_sent
        self._on_message = on_message
        self._protocol = settings.protocol
        self._accepted = False
        self._acknowledged: list[tuple[int, str]] = []
        self._received: list[tuple[str, bytes, bool]] = []
        self._unconfirmed: list[int] = []
        self._client = _new_client(settings, client_id)
        if will is not None:
            self._client.will_set(will.topic, will.payload, will.qos, will.retain)
        self._client.on_connect = self._on_client_connect
        self._client.on_disconnect = self._on_client_disconnect
        self._client.on_publish = self._on_client_publish
        self._client.on_message = self._on_client_message
        self._open(settings)

    def _open(self, settings: PublishSettings) -> None:
        if settings.tls:
            self._client.tls_set_context(_tls_context(settings))
        properties = None
        if settings.protocol == "5":
            properties = Properties(PacketTypes.CONNECT)
            properties.MaximumPacketSize = MAX_INCOMING
        host, port = settings.host, settings.port
        try:
            self._client.connect(host, port, _KEEPALIVE, properties=properties)
        except (OSError, ValueError) as problem:
            fix = "check publish.host, publish.port and publish.tls"
            raise PublishError(f"{self.address}: {problem}; {fix}") from None

    def packet_bytes(self, topic: str, text: str) -> int:
        """Return how long the packet of a message is, at most."""
        return _HEADER_BYTES + len(topic.encode()) + len(text.encode())

    def publish(self, topic: str, text: str, retain: bool = False) -> int:
        """Send one message and return its number, which `on_sent` is called with.

        With QoS 1 that is when the broker has it; a broker that takes only QoS 0 acknowledges
        nothing, and it is when the message has left.
        """
        is_retained = retain and self.limits.retain
        sent = self._client.publish(topic, text, self.limits.qos, is_retained)
        if self.limits.qos == 0:
            self._unconfirmed.append(sent.mid)
        return sent.mid

    def subscribe(self, topic: str) -> None:
        """Receive a topic's messages, with QoS 0, but with MQTT 5 not this client's own."""
        if self._protocol == "5":
            options = SubscribeOptions(qos=0, noLocal=True)
            self._client.subscribe(topic, options=options)
        else:
            self._client.subscribe(topic, qos=0)

    def loop(self, seconds: float) -> None:
        """Send and receive for at most `seconds`; return earlier when something was received."""
        try:
            code = self._client.loop(seconds)
        except Exception as problem:  # paho raises whatever a malformed packet leads to
            self._end(f"it sends what is no MQTT ({problem})")
            code = paho.MQTT_ERR_SUCCESS
        self._check_incoming()
        self._dispatch()
        if code != paho.MQTT_ERR_SUCCESS:
            self.is_cut = code == paho.MQTT_ERR_CONN_LOST
            self._end(self._cause(code))

    def _check_incoming(self) -> None:
        """End the connection if what is being received is too large, or can't be of a broker.

        MQTT 3.1.1 has no way to tell the broker a limit, and paho none to set one.
        """
        packet = getattr(self._client, "_in_packet", {})
        is_connack = packet.get("command", 0) & _PACKET_TYPE in (0, _CONNACK)
        if not self.ready and not is_connack:
            self._end(self._not_a_broker())
        elif packet.get("remaining_length", 0) > MAX_INCOMING:
            self._end_flood()
        elif getattr(self._client, "_in_messages", None):
            self._end("it sends messages with QoS 2, where QoS 0 was subscribed to")

    def _end_flood(self) -> None:
        self.is_flooded = True
        self._end(f"it sends a message of more than {MAX_INCOMING} bytes")

    def _dispatch(self) -> None:
        """Call the callbacks with what paho has received."""
        is_new = self._accepted and self.ready
        self._accepted = False
        if is_new:
            self._on_ready(self)
        if self._unconfirmed and not self._client.want_write():
            self._acknowledged += [(number, "") for number in self._unconfirmed]
            self._unconfirmed.clear()
        while self._acknowledged:
            self._on_sent(*self._acknowledged.pop(0))
        while self._received:
            self._on_message(self, *self._received.pop(0))

    def _cause(self, code: paho.MQTTErrorCode) -> str:
        """Why paho ended the connection, for people."""
        if not self.ready:
            return self._not_a_broker()
        if code == paho.MQTT_ERR_CONN_LOST:
            return "the connection was lost"
        if code == paho.MQTT_ERR_PROTOCOL:
            return "it sends what is no MQTT (protocol error)"
        return paho.error_string(code)

    def _not_a_broker(self) -> str:
        where = f"{self.address} answers, but not as a broker of MQTT {self._protocol}"
        return f"{where}; check publish.port, publish.tls and publish.protocol"

    def close(self) -> None:
        """Disconnect in good order, so that the broker doesn't publish the last will."""
        if not self.problem:
            self._client.disconnect()

    def abort(self, problem: str = "aborted") -> None:
        """Close the socket without DISCONNECT, so that the broker publishes the last will."""
        self._end(problem)

    def _end(self, problem: str) -> None:
        """Close the socket; the first problem is the one that is kept."""
        self.ready = False
        self.problem = self.problem or problem
        socket = self._client.socket()
        if socket is not None:
            socket.close()

    def _on_client_connect(
        self,
        client: paho.Client,
        userdata: object,
        flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.value >= _FIRST_FAILURE:
            self.reason = reason.value
            fix = _FIXES.get(reason.value, "look at the broker's log")
            self._end(f"it refuses: {reason}; {fix}")
            return
        self.limits = BrokerLimits.of(properties)
        self.ready = True
        self._accepted = True

    def _on_client_disconnect(
        self,
        client: paho.Client,
        userdata: object,
        flags: paho.DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if not flags.is_disconnect_packet_from_server:
            return  # loop says why
        self.reason = reason.value
        fix = _FIXES.get(reason.value)
        self._end(f"it ends the connection: {reason}; {fix}" if fix else str(reason))

    def _on_client_publish(
        self,
        client: paho.Client,
        userdata: object,
        number: int,
        reason: ReasonCode,
        properties: Properties,
    ) -> None:
        if number in self._unconfirmed or self.limits.qos == 0:
            return
        if reason.value in RETRYABLE:
            self._end(f"it refuses for now: {reason}")
        elif reason.value >= _FIRST_FAILURE:
            self._acknowledged.append((number, str(reason)))
        else:
            self._acknowledged.append((number, ""))

    def _on_client_message(
        self,
        client: paho.Client,
        userdata: object,
        message: paho.MQTTMessage,
    ) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return  # nobody has subscribed to that
        if len(message.payload) > MAX_INCOMING:
            self._end_flood()
        else:
            self._received.append((topic, bytes(message.payload), message.retain))


def _new_client(settings: PublishSettings, client_id: str) -> paho.Client:
    """A client for the protocol of the settings, with the user's name and password."""
    is_mqtt5 = settings.protocol == "5"
    client = paho.Client(
        paho.CallbackAPIVersion.VERSION2,
        client_id=client_id,
        clean_session=None if is_mqtt5 else True,
        protocol=paho.MQTTv5 if is_mqtt5 else paho.MQTTv311,
        reconnect_on_failure=False,  # else it tries MQTT 3.1 by itself
    )
    client.connect_timeout = _CONNECT_TIMEOUT
    client.max_inflight_messages_set(MAX_INFLIGHT)
    client.max_queued_messages_set(2 * MAX_INFLIGHT)
    if settings.username:
        client.username_pw_set(settings.username, _read_password(settings))
    return client


def check_files(settings: PublishSettings) -> None:
    """Read the files that the settings name. Raises PublishError for one that is not what it should
    be.
    """
    if settings.tls:
        _tls_context(settings)
    if settings.username:
        _read_password(settings)


def _tls_context(settings: PublishSettings) -> ssl.SSLContext:
    """What verifies the broker's certificate and its host name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if settings.ca:
            context.load_verify_locations(settings.ca)
        else:
            context.load_default_certs()
    except ssl.SSLError:
        fix = "name a file with the CA's certificate in PEM form (-----BEGIN CERTIFICATE-----)"
        raise PublishError(f"publish.ca: {settings.ca} holds no certificate; {fix}") from None
    except OSError as problem:
        reason = f"{settings.ca} cannot be read ({problem.strerror})"
        raise PublishError(f"publish.ca: {reason}; check its path and owner") from None
    return context


def _read_password(settings: PublishSettings) -> str:
    """The password of `publish.password_file`, else of the unit's credential mqtt-password."""
    holds = "the broker's password"
    password = read_secret(settings.password_file, BROKER, holds, PublishError)
    if password is None:
        fix = f"give the unit the credential {BROKER}, or set publish.password_file"
        raise PublishError(f"publish.username has no password; {fix}")
    return password
