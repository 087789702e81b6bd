"""One connection to an MQTT broker, through paho-mqtt 2 without its thread.

It sends and receives only inside `Connection.loop`; every callback is called from there.
"""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from mien_edge.credentials import read_secret
from mien_edge.errors import PublishError
from mien_edge.settings import PublishSettings

MAX_INFLIGHT = 20
"""Log entries that may be sent and not yet acknowledged."""

RETRYABLE = (0x80, 0x83, 0x97)
"""Reason codes worth another try (MQTT 5, 2.4): unspecified, implementation specific, quota."""

_KEEPALIVE = 30  # seconds of silence after which the broker publishes the last will
_CONNECT_TIMEOUT = 10.0  # seconds
_RESERVED_INFLIGHT = 4  # places beside the log entries: status, state, discovery
_FIRST_FAILURE = 0x80  # reason codes from here on are failures (MQTT 5, 2.4)


class Will(NamedTuple):
    """The last will: what the broker publishes, retained, when the connection breaks."""

    topic: str
    payload: str


class Connection:
    """A connection that is opened when it is created, and used once: after its end, create another.

    settings: address, protocol, TLS and user of the broker.
    device: name of this device, part of the client id.
    will: the last will.
    on_ready: called with this connection when the broker has accepted it.
    on_sent: called with the number of each message that the broker has acknowledged, and its reason
        for a refusal, else an empty string.
    on_message: called with this connection, topic and payload of each message received.

    `ready` is whether the broker has accepted; `problem` is why the connection ended, else empty;
    `max_inflight` is how many log entries this broker takes at once. Raises PublishError if the
    connection can't be opened.
    """

    def __init__(
        self,
        settings: PublishSettings,
        device: str,
        will: Will,
        on_ready: Callable[["Connection"], None],
        on_sent: Callable[[int, str], None],
        on_message: Callable[["Connection", str, bytes], None],
    ) -> None:
        self.address = f"{settings.host}:{settings.port}"
        self.ready = False
        self.problem = ""
        self.max_inflight = MAX_INFLIGHT
        self._on_ready = on_ready
        self._on_sent = on_sent
        self._on_message = on_message
        self._client = _new_client(settings, device)
        self._client.will_set(will.topic, will.payload, qos=1, retain=True)
        self._client.on_connect = self._on_client_connect
        self._client.on_disconnect = self._on_client_disconnect
        self._client.on_publish = self._on_client_publish
        self._client.on_message = self._on_client_message
        self._open(settings)

    def _open(self, settings: PublishSettings) -> None:
        try:
            if settings.tls:
                self._client.tls_set(settings.ca or None, tls_version=ssl.PROTOCOL_TLS_CLIENT)
            self._client.connect(settings.host, settings.port, _KEEPALIVE)
        except (OSError, ValueError) as problem:
            fix = "check publish.host, publish.port and publish.tls"
            raise PublishError(f"{self.address}: {problem}; {fix}") from None

    def publish(self, topic: str, text: str, retain: bool = False) -> int:
        """Send one message with QoS 1 and return its number, which `on_sent` is called with."""
        return self._client.publish(topic, text, qos=1, retain=retain).mid

    def subscribe(self, topic: str) -> None:
        """Receive a topic's messages, with QoS 0."""
        self._client.subscribe(topic, qos=0)

    def loop(self, seconds: float) -> None:
        """Send and receive for at most `seconds`; return earlier when something was received."""
        code = self._client.loop(seconds)
        if code != paho.MQTT_ERR_SUCCESS:
            self._end(paho.error_string(code))

    def close(self) -> None:
        """Disconnect in good order, so that the broker doesn't publish the last will."""
        if not self.problem:
            self._client.disconnect()

    def abort(self) -> None:
        """Close the socket without DISCONNECT, so that the broker publishes the last will."""
        self._end("aborted")

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
            self._end(f"it refuses: {reason}; check publish.username and the password")
            return
        receive_maximum = getattr(properties, "ReceiveMaximum", None)
        if receive_maximum:
            self.max_inflight = max(min(MAX_INFLIGHT, receive_maximum - _RESERVED_INFLIGHT), 1)
        self.ready = True
        self._on_ready(self)

    def _on_client_disconnect(
        self,
        client: paho.Client,
        userdata: object,
        flags: paho.DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.value == _FIRST_FAILURE:
            self._end("the connection was lost")
        else:
            self._end(str(reason))

    def _on_client_publish(
        self,
        client: paho.Client,
        userdata: object,
        number: int,
        reason: ReasonCode,
        properties: Properties,
    ) -> None:
        if reason.value in RETRYABLE:
            self._end(f"it refuses for now: {reason}")
        elif reason.value >= _FIRST_FAILURE:
            self._on_sent(number, str(reason))
        else:
            self._on_sent(number, "")

    def _on_client_message(
        self,
        client: paho.Client,
        userdata: object,
        message: paho.MQTTMessage,
    ) -> None:
        self._on_message(self, message.topic, bytes(message.payload))


def _new_client(settings: PublishSettings, device: str) -> paho.Client:
    """A client for the protocol of the settings, with the user's name and password."""
    is_mqtt5 = settings.protocol == "5"
    client = paho.Client(
        paho.CallbackAPIVersion.VERSION2,
        client_id=f"mien-{device}-{_machine_id()}",
        clean_session=None if is_mqtt5 else True,
        protocol=paho.MQTTv5 if is_mqtt5 else paho.MQTTv311,
    )
    client.connect_timeout = _CONNECT_TIMEOUT
    client.max_inflight_messages_set(MAX_INFLIGHT + _RESERVED_INFLIGHT)
    if settings.username:
        client.username_pw_set(settings.username, _read_password(settings))
    return client


def _machine_id() -> str:
    """Eight digits that keep the client ids of devices of the same name apart."""
    try:
        return Path("/etc/machine-id").read_text().strip()[:8] or "0"
    except OSError:
        return "0"


def _read_password(settings: PublishSettings) -> str:
    """The password of `publish.password_file`, else of the unit's credential mqtt-password."""
    holds = "the broker's password"
    password = read_secret(settings.password_file, "mqtt-password", holds, PublishError)
    if password is None:
        fix = "give the unit the credential mqtt-password, or set publish.password_file"
        raise PublishError(f"publish.username has no password; {fix}")
    return password
