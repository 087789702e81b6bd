"""What this device is called at the broker and in Home Assistant, and which machine it is.

Ids are stable: a device's name in plain letters, digits, '-' and '_' is its id. Other names get an
id that is readable and still belongs to them alone.
"""

import hashlib
import json
import logging
import re
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from mien_edge import files
from mien_edge.errors import PublishError
from mien_edge.publish import homeassistant
from mien_edge.settings import PublishSettings, check_topic

_HASH_DIGITS = 8
_MAX_RETIRED = 20  # identities that are remembered until their topics are cleared

_log = logging.getLogger("mien.publish")


@dataclass(frozen=True, slots=True)
class Identity:
    """Where this device publishes.

    topic: the beginning of its topics, as in mien/DEVICE.
    device: its name.
    discovery: topic of Home Assistant's discovery message; empty for none.
    """

    topic: str
    device: str
    discovery: str = ""

    @classmethod
    def of(cls, settings: PublishSettings) -> "Identity":
        """Return the identity of these settings. Raises PublishError for a host name that can't be
        a topic.
        """
        device = settings.device or socket.gethostname()
        try:
            check_topic("device", device)
        except ValueError as problem:
            raise PublishError(f"the host name names this device, but {problem}") from None
        discovery = ""
        if settings.discovery:
            discovery = homeassistant.discovery_topic(settings.discovery, device)
        return cls(f"{settings.topic}/{device}", device, discovery)

    @property
    def retained(self) -> tuple[str, ...]:
        """The topics whose last message a broker keeps."""
        topics = (f"{self.topic}/status", f"{self.topic}/state", self.discovery)
        return tuple(topic for topic in topics if topic)

    def before_upgrade(self, discovery_prefix: str) -> "Identity | None":
        """Return the identity that earlier versions gave this device; None if it is the same."""
        if not discovery_prefix:
            return None
        node = re.sub(r"[^A-Za-z0-9_-]", "_", self.device)
        earlier = Identity(self.topic, self.device, f"{discovery_prefix}/device/{node}/config")
        return None if earlier == self else earlier


class IdentityFile:
    """The identity of the last run, and those before it whose retained messages may still be at the
    broker.

    path: of the file; it need not exist.
    current: the identity of this run.
    earlier: the identity to clear where there is no file yet, else None.

    `retired` are the identities whose topics are to be cleared.
    """

    def __init__(self, path: Path, current: Identity, earlier: Identity | None = None) -> None:
        self.path = path
        self.current = current
        self.retired: list[Identity] = []
        known = self._read()
        if not known and earlier is not None:
            known = [earlier]
        for identity in known:
            is_other = set(identity.retained) - set(current.retained)
            if is_other and identity not in self.retired:
                self.retired.append(identity)
        self.retired = self.retired[-_MAX_RETIRED:]
        if known != [current]:
            self.save()

    def _read(self) -> list[Identity]:
        """Read all identities, the last run's last; none if there is no file, or a damaged one."""
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            return [
                Identity(str(item["topic"]), str(item["device"]), str(item["discovery"]))
                for item in content
            ]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as problem:
            _log.warning("%s: damaged (%s); a new one is written", self.path, problem)
            return []

    def forget(self, identity: Identity) -> None:
        """The topics of a retired identity have been cleared."""
        self.retired.remove(identity)
        self.save()

    def save(self) -> None:
        """Write the file, atomically and durably."""
        content = [asdict(identity) for identity in (*self.retired, self.current)]
        try:
            files.write_text(self.path, json.dumps(content, ensure_ascii=False) + "\n")
        except OSError as problem:
            consequence = "after a renaming, old topics stay at the broker"
            _log.warning("%s: cannot be written (%s); %s", self.path, problem, consequence)


def machine(root: Path = Path("/")) -> str:
    """Return eight digits that tell this machine from every other, also from one with a copy of its
    card.

    root: folder with etc/ and sys/. They are a hash of the machine's id and its hardware: the
    serial number of a Raspberry Pi, else the address of its first network card.
    """
    parts = (_machine_id(root), _hardware(root))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:_HASH_DIGITS]


def client_id(device: str, root: Path = Path("/")) -> str:
    """Return the MQTT client id of the device with this name.

    root: folder with etc/. A card that was copied has the same one, so that the broker says so.
    """
    return f"mien-{device}-{_machine_id(root)[:_HASH_DIGITS] or '0'}"


def _machine_id(root: Path) -> str:
    return _read_text(root / "etc/machine-id")


def _hardware(root: Path) -> str:
    serial_number = _read_text(root / "sys/firmware/devicetree/base/serial-number")
    if serial_number:
        return serial_number
    cards = sorted(path.parent for path in (root / "sys/class/net").glob("*/device"))
    addresses = (_read_text(card / "address") for card in cards)
    return next((address for address in addresses if address), "")


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("ascii", "replace").strip("\0\n ")
    except OSError:
        return ""
