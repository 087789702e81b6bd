"""One connection to an MQTT broker, through paho-mqtt 2, without threads: it works while it is told to."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho

from mien_edge import paths
from mien_edge.errors import PublishError
from mien_edge.settings import PublishSettings

_KEEPALIVE = 30  # seconds without a word after which the broker tells the last will
_CONNECTING = 10.0  # seconds
WINDOW = 20  # entries on their way
_OTHERS = 4  # messages beside them: status, state, discovery
_FOR_NOW = (0x80, 0x83, 0x97)  # unspecified, implementation specific, quota exceeded: worth another try
_FAILED = 0x80  # reason codes from here on are failures (MQTT 5, 2.4)


class Connection:
    """Opened when made; at its end it is of no more use. `problem` says why it ended, else it is empty.

    on_ready: called when the broker has accepted; on_sent: called with the number of each message that it has, and
    why it refused it, if it did; on_message: called with topic and payload. Raises PublishError if it cannot be opened.
    """

    def __init__(
        self,
        settings: PublishSettings,
        device: str,
        will: tuple[str, str],
        on_ready: Callable[[], None],
        on_sent: Callable[[int, str], None],
        on_message: Callable[[str, bytes], None],
    ) -> None:
        self.name, self.problem, self.ready = f"{settings.host}:{settings.port}", "", False
        self.window = WINDOW
        self._on_ready, self._on_sent, self._on_message = on_ready, on_sent, on_message
        new = settings.protocol == "5"
        self._client = client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=f"mien-{device}-{_machine()}",
            clean_session=None if new else True,
            protocol=paho.MQTTv5 if new else paho.MQTTv311,
        )
        client.connect_timeout = _CONNECTING
        client.max_inflight_messages_set(WINDOW + _OTHERS)
        client.on_connect, client.on_disconnect = self._connected, self._disconnected
        client.on_publish, client.on_message = self._published, self._received
        client.will_set(*will, qos=1, retain=True)
        if settings.username:
            client.username_pw_set(settings.username, _password(settings))
        try:
            if settings.tls:
                client.tls_set(settings.ca or None, tls_version=ssl.PROTOCOL_TLS_CLIENT)
            client.connect(settings.host, settings.port, _KEEPALIVE)
        except (OSError, ValueError) as problem:
            raise PublishError(f"{self.name}: {problem}; check publish.host, publish.port and publish.tls") from None

    def publish(self, topic: str, text: str, retain: bool = False) -> int:
        """Send one message with QoS 1; returns its number."""
        return self._client.publish(topic, text, qos=1, retain=retain).mid

    def subscribe(self, topic: str) -> None:
        """Ask for a topic's messages."""
        self._client.subscribe(topic, qos=0)

    def work(self, seconds: float) -> None:
        """Send and receive for at most so long; returns early when something came."""
        code = self._client.loop(seconds)
        if code != paho.MQTT_ERR_SUCCESS and not self.problem:
            self._end(paho.error_string(code))

    def close(self) -> None:
        """Say goodbye, so that the broker does not tell the last will by itself."""
        if not self.problem:
            self._client.disconnect()

    def drop(self) -> None:
        """Let go without a word."""
        self._end(self.problem or "dropped")

    def _end(self, problem: str) -> None:
        self.ready, self.problem = False, self.problem or problem
        socket = self._client.socket()
        if socket is not None:
            socket.close()

    def _connected(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.value >= _FAILED:
            self._end(f"it refuses: {reason}; check publish.username and the password")
            return
        most = getattr(properties, "ReceiveMaximum", None) or WINDOW + _OTHERS
        self.window = max(min(WINDOW, most - _OTHERS), 1)
        self.ready = True
        self._on_ready()

    def _disconnected(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._end("the connection was lost" if reason.value == _FAILED else str(reason))

    def _published(self, client: Any, data: Any, number: int, reason: Any, properties: Any) -> None:
        if reason.value in _FOR_NOW:
            self._end(f"it refuses for now: {reason}")
        else:
            self._on_sent(number, str(reason) if reason.value >= _FAILED else "")

    def _received(self, client: Any, data: Any, message: Any) -> None:
        self._on_message(message.topic, message.payload)


def _machine() -> str:
    """Eight digits that tell devices of the same name apart, which a broker would else take for one."""
    try:
        return Path("/etc/machine-id").read_text().strip()[:8] or "0"
    except OSError:
        return "0"


def _password(settings: PublishSettings) -> str:
    folder = paths.systemd_directory("CREDENTIALS_DIRECTORY")
    path = Path(settings.password_file) if settings.password_file else folder and folder / "mqtt-password"
    if path is None:
        raise PublishError(
            "publish.username has no password; give the unit the credential mqtt-password, or set publish.password_file"
        )
    try:
        return path.read_text(encoding="utf-8").strip("\n")
    except OSError as problem:
        raise PublishError(f"{path}: cannot be read ({problem.strerror}); it holds the broker's password") from None
