"""Settings: one TOML file into one frozen dataclass per table.

Every field carries its own documentation, unit and range; `as_toml` writes the commented file from
them, so the file in systemd/ and these classes cannot drift apart (a test compares them).
"""

import dataclasses
import inspect
import json
import tomllib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from mien_edge import schema, textfiles
from mien_edge.addresses import mask_text
from mien_edge.errors import SettingsError
from mien_edge.text import encodable

_MAX_TOPIC_BYTES = 128  # in UTF-8; a topic may have 65,535, but brokers and tools take fewer
_MAX_TEXT = 4096  # characters of an address, a user's name or a path
_SHOWN_TEXT = 40  # characters that a message repeats

MIN_GROUP = 5
"""Faces in one frame of a minute that is kept for the purpose public, unless another number is set.
"""

MINUTES_ONLY = "with use.purpose = public no reading of a single face is kept"
"""Why files of readings are refused where UseSettings.minutes_only."""

_Value = TypeVar("_Value")


def _setting(
    default: _Value, text: str, low: float | None = None, high: float | None = None
) -> _Value:
    """Declare a field with its default, its description for the settings file, and its range."""
    return field(default=default, metadata={"text": text, "low": low, "high": high})


@dataclass(frozen=True, slots=True)
class _Section:
    def __post_init__(self) -> None:
        for setting in dataclasses.fields(self):
            value = getattr(self, setting.name)
            low = setting.metadata["low"]
            high = setting.metadata["high"]
            too_low = low is not None and value < low
            too_high = high is not None and value > high
            if too_low or too_high:
                raise ValueError(f"{setting.name} must be {low} to {high}, not {value}; change it")


@dataclass(frozen=True, slots=True)
class UseSettings(_Section):
    """What the device is used for, and what its notice says (mien-edge init, mien-edge notice).

    With the purpose public no reading of a single face is kept or leaves the device: minutes only,
    with publish.min_faces faces in a frame, in the log as well; no live picture. Readings that the
    log holds from before are deleted when the service starts.
    """

    purpose: Literal["", "private", "research", "public", "medical-safety"] = _setting(
        "", "private, research, public or medical-safety; empty: not stated"
    )
    operator: str = _setting("", "who is responsible for the device: the controller, in the GDPR")
    contact: str = _setting("", "where people can ask, object, and have what is theirs deleted")
    legal_basis: str = _setting("", "legal basis in the GDPR, such as consent, Article 6(1)(a)")
    recipients: str = _setting("", "who else receives what is published (publish.host)")

    @property
    def minutes_only(self) -> bool:
        """Whether no reading of a single face may be kept or leave the device."""
        return self.purpose == "public"


@dataclass(frozen=True, slots=True)
class SourceSettings(_Section):
    """Where the frames come from."""

    uri: str = _setting(
        "picamera",
        "picamera, v4l2:0, rtsp://…, a video file, a photo, a folder of photos, demo, demo:forever",
    )
    password_file: str = _setting(
        "",
        "file with USER:PASSWORD of an rtsp:// or http:// camera, or with the password alone if "
        "source.uri has the user; for use without the systemd credential camera-password",
    )
    width: int = _setting(640, "pixels; width that is requested from a camera", 64, 4096)
    height: int = _setting(480, "pixels; height that is requested from a camera", 64, 4096)
    fps: float = _setting(
        15.0,
        "frames per second; rate that is requested from a camera, and the rate of demo",
        0.1,
        120,
    )
    field_of_view: float = _setting(
        66.0,
        "degrees that the longer side of the picture shows: 66 for Raspberry Pi's Camera Module 3, "
        "102 for its wide version, 62 for Module 2, 54 for Module 1; see the camera's data sheet",
        5,
        170,
    )
    frame_timeout: float = _setting(
        10.0, "seconds; a camera that delivers no frame for this long is opened again", 0.2, 600
    )
    max_retry_delay: float = _setting(
        30.0,
        "seconds; a lost camera is tried again after 1, 2, 4 … seconds, up to this delay",
        0.1,
        3600,
    )


@dataclass(frozen=True, slots=True)
class ModelSettings(_Section):
    """Which model runs, and how."""

    bundle: str = _setting(
        "",
        "folder of the model bundle; empty: the installed bundle, or the one that comes with mien",
    )
    threads: int = _setting(
        1,
        "threads of the interpreter; with more than one, the latency varies on a busy device",
        1,
        8,
    )


@dataclass(frozen=True, slots=True)
class DetectSettings(_Section):
    """Face detection."""

    method: Literal["yunet", "haar"] = _setting(
        "yunet", "yunet (more accurate) or haar (needs no weights file)"
    )
    size: int = _setting(
        320,
        "pixels; larger frames are scaled down for the detector until the longer side has this "
        "length; multiples of 32 waste nothing (240 costs as much as 256)",
        64,
        2048,
    )
    max_distance: float = _setting(
        0.0,
        "metres; the detector takes the smallest size that finds adults' faces this far away, by "
        "source.field_of_view; 0: the size above (mien-edge doctor says how far each reaches)",
        0,
        50,
    )
    min_score: float = _setting(
        0.7, "detector score; faces with a lower score are ignored", 0.05, 0.99
    )
    interval: float = _setting(
        0.5,
        "seconds between two searches of the whole picture, and so until a new face is seen; "
        "faces are followed in between, lost ones are searched for at once; 0: search every frame",
        0,
        2,
    )
    blur: bool = _setting(
        True, "apply a 3x3 blur before detection; it finds more faces in noisy frames"
    )
    threads: int = _setting(
        1,
        "threads of OpenCV; on a Raspberry Pi 4 four make the detector 1.8 times as fast, for 2.2 "
        "times the CPU time",
        1,
        8,
    )


@dataclass(frozen=True, slots=True)
class QualitySettings(_Section):
    """Which faces are good enough to get a label."""

    min_face_pixels: float = _setting(
        32.0, "pixels; a face whose longer side is shorter than this is 'too small'", 8, 1000
    )
    min_sharpness: float = _setting(
        0.05, "edge energy of the face crop; with less, a face is 'blurred'; 0 for no check", 0, 10
    )
    max_yaw: float = _setting(
        0.55,
        "eye distances between nose tip and midline of the eyes; "
        "with more, a face is 'turned away'; 9 for no check",
        0.1,
        9,
    )
    align: bool = _setting(False, "rotate each face crop so that the eyes are level")


@dataclass(frozen=True, slots=True)
class TrackSettings(_Section):
    """Face tracking: a face keeps its number from frame to frame."""

    min_iou: float = _setting(
        0.2,
        "intersection over union; a box that overlaps a face's last box by less is a new face",
        0.05,
        0.95,
    )
    max_age: float = _setting(
        1.0, "seconds; a face that is not detected keeps its number for this long", 0, 60
    )


@dataclass(frozen=True, slots=True)
class SmoothSettings(_Section):
    """Smoothing of the labels over time."""

    time_constant: float = _setting(
        0.6,
        "seconds; time constant of the moving average of each face's probabilities; 0 turns it off",
        0,
        60,
    )
    margin: float = _setting(
        0.08,
        "probability; another label replaces the current one only if it leads by this margin",
        0,
        0.9,
    )
    min_frames: int = _setting(
        3, "frames; the other label must lead in this many frames in a row", 1, 100
    )


@dataclass(frozen=True, slots=True)
class ThrottleSettings(_Section):
    """Lower frame rates of a live camera, when the device is hot and when nothing moves."""

    hot: float = _setting(
        75.0,
        "degrees Celsius; at or above this the frame rate is lowered (a Raspberry Pi throttles at "
        "80)",
        30,
        100,
    )
    cool: float = _setting(
        68.0, "degrees Celsius; at or below this the frame rate is raised again", 20, 100
    )
    min_fps: float = _setting(
        2.0, "frames per second; heat never lowers the frame rate below this", 0.1, 120
    )
    idle_after: float = _setting(
        30.0, "seconds without motion until the service idles; 0 turns idling off", 0, 86400
    )
    idle_fps: float = _setting(
        1.0, "frames per second while idle; motion ends it at once", 0.1, 120
    )


@dataclass(frozen=True, slots=True)
class GpioSettings(_Section):
    """An LED and a button on the device's GPIO pins, through gpiozero."""

    led: int = _setting(
        0, "BCM pin number of an LED that is on while the camera is on; 0 for none", 0, 27
    )
    button: int = _setting(
        0,
        "BCM pin number of a button to ground that pauses and resumes the camera; 0 for none",
        0,
        27,
    )


@dataclass(frozen=True, slots=True)
class LogSettings(_Section):
    """The log on the device (SQLite)."""

    path: str = _setting(
        "", "file; empty: $STATE_DIRECTORY/readings.db in the service, otherwise no log"
    )
    heartbeat_interval: float = _setting(
        60.0,
        "seconds; a face whose label does not change is written again after this time",
        0,
        3600,
    )
    commit_interval: float = _setting(
        5.0,
        "seconds between two commits; a crash loses at most the readings of this time",
        0.1,
        300,
    )
    sync_interval: float = _setting(
        60.0,
        "seconds between two syncs to the disk; "
        "a power cut loses at most the readings of this time",
        0.1,
        3600,
    )
    max_days: float = _setting(30.0, "days; older readings and events are deleted", 0.01, 3650)
    max_summary_days: float = _setting(
        400.0, "days; older minute summaries are deleted", 0.01, 36500
    )
    max_rows: int = _setting(
        1_000_000, "readings; above this number the oldest are deleted", 100, 100_000_000
    )
    max_megabytes: float = _setting(
        200.0, "megabytes; above this file size the oldest readings are deleted", 1, 100_000
    )


@dataclass(frozen=True, slots=True)
class SinkSettings(_Section):
    """Files that mien.service also writes readings to. It can write only below /var/lib/mien.

    A full FILE becomes FILE.1, FILE.1 becomes FILE.2 and so on; when the oldest is deleted, an
    event and a warning say so. A run whose options name a source or a file writes none of these.
    """

    jsonl: str = _setting(
        "", "file for JSON lines, such as /var/lib/mien/readings.jsonl; empty: none"
    )
    csv: str = _setting("", "file for CSV, such as /var/lib/mien/readings.csv; empty: none")
    max_megabytes: float = _setting(
        10.0, "megabytes; a file that would grow above this is rotated", 0.01, 100_000
    )
    max_files: int = _setting(
        5,
        "files of each kind that are kept, the current one included; above this number the oldest "
        "is deleted; 0 keeps all",
        0,
        10_000,
    )

    def __post_init__(self) -> None:
        _Section.__post_init__(self)
        if self.jsonl and self.jsonl == self.csv:
            raise ValueError(f"jsonl and csv are both {self.csv}; name two files")


def check_topic(key: str, value: str) -> None:
    """Check what becomes one or more levels of an MQTT topic.

    key: its name in messages.

    Raises ValueError for what no broker takes as a topic's name (MQTT 5, 1.5.4 and 4.7), for levels
    without a name, and for more than 128 bytes of UTF-8.
    """
    _check_characters(key, value)
    shown = _shorten(value)
    if "+" in value or "#" in value:
        raise ValueError(f"{key} is {shown}; + and # have a meaning in MQTT, leave them out")
    if not all(value.split("/")):
        raise ValueError(f"{key} is {shown}; no part between the / may be empty, name each")
    if value.startswith("$"):
        raise ValueError(f"{key} is {shown}; $ is for the broker's own, begin with a letter")
    length = len(value.encode())
    if length > _MAX_TOPIC_BYTES:
        limit = f"at most {_MAX_TOPIC_BYTES} may be used"
        raise ValueError(f"{key} is {shown}, {length} bytes long; {limit}, shorten it")


def _check_characters(key: str, value: str) -> None:
    """Refuse what MQTT allows in no string (MQTT 5, 1.5.4)."""
    for character in value:
        is_control = unicodedata.category(character) in ("Cc", "Cs")
        is_no_character = ord(character) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(character) <= 0xFDEF
        if is_control or is_no_character:
            code = f"U+{ord(character):04X}"
            raise ValueError(f"{key} is {_shorten(value)}, with the character {code}; remove it")
    if len(value) > _MAX_TEXT:
        raise ValueError(f"{key} is {_shorten(value)}, {len(value)} characters long; shorten it")


def _shorten(value: str) -> str:
    return repr(value) if len(value) <= _SHOWN_TEXT else f"{value[:_SHOWN_TEXT]!r}…"


@dataclass(frozen=True, slots=True)
class PublishSettings(_Section):
    """Publishing to an MQTT broker and to Prometheus (mien-publish.service)."""

    host: str = _setting("", "host name or address of the MQTT broker; empty: do not publish")
    port: int = _setting(1883, "port of the broker; with TLS usually 8883", 1, 65535)
    protocol: Literal["5", "3.1.1"] = _setting("5", "MQTT version: 5 or 3.1.1")
    tls: bool = _setting(False, "encrypt the connection and verify the broker's certificate")
    ca: str = _setting(
        "", "file with the CA certificate of the broker; empty: the system's CA certificates"
    )
    username: str = _setting(
        "", "user name at the broker; its password is the systemd credential mqtt-password"
    )
    password_file: str = _setting(
        "", "file with the password, for use without the systemd credential"
    )
    topic: str = _setting("mien", "first part of all topics, as in mien/DEVICE/reading")
    device: str = _setting(
        "", "name in topics and messages, another one on each device; empty: its host name"
    )
    discovery: str = _setting(
        "homeassistant", "discovery prefix of Home Assistant; empty: no discovery"
    )
    aggregate: bool = _setting(
        False, "publish only the emotion shares of each minute, and no single readings"
    )
    min_faces: int = _setting(
        1,
        "faces in one frame; with aggregate: minutes in which no frame has this many are not "
        "published",
        1,
        1000,
    )
    state_interval: float = _setting(10.0, "seconds between two state messages", 1, 3600)
    metrics_port: int = _setting(
        0, "port on 127.0.0.1 for Prometheus, with or without a broker; 0 for none", 0, 65535
    )

    def __post_init__(self) -> None:
        _Section.__post_init__(self)
        check_topic("topic", self.topic)
        for key in ("device", "discovery"):
            value = getattr(self, key)
            if value:
                check_topic(key, value)
        for key in ("host", "username", "password_file", "ca"):
            _check_characters(key, getattr(self, key))


@dataclass(frozen=True, slots=True)
class ViewSettings(_Section):
    """The web page (mien-view.service).

    Open it through SSH: ssh -L 8765:127.0.0.1:8765 pi@DEVICE.
    """

    host: str = _setting(
        "127.0.0.1", "address to listen on; any address but a loopback address needs a token"
    )
    port: int = _setting(8765, "port to listen on", 1, 65535)
    allowed_hosts: str = _setting(
        "",
        "host names that browsers may use for this page in addition to localhost, separated by "
        "spaces",
    )
    token_file: str = _setting(
        "", "file with the token, for use without the systemd credential view-token"
    )
    show_picture: bool = _setting(True, "show the live picture on the page")


@dataclass(frozen=True, slots=True)
class UpdateSettings(_Section):
    """Model updates: whose bundles are accepted, and when a new model is kept or rolled back."""

    signers: str = _setting(
        "/etc/mien/allowed_signers",
        "file with the public keys whose bundles are accepted (allowed signers, ssh-keygen)",
    )
    revoked: str = _setting(
        "/etc/mien/revoked_signers", "file with public keys that are no longer accepted"
    )
    unsigned: bool = _setting(False, "also accept bundles without a signature")
    probation: float = _setting(60.0, "seconds; minimum probation of a new model", 1, 86400)
    min_faces: int = _setting(
        100,
        "face readings that a new model has to make before probation ends, however long that takes",
        0,
        1_000_000,
    )
    max_probation: float = _setting(
        3600.0, "seconds; after this time ten face readings are enough", 1, 864000
    )
    max_latency_ratio: float = _setting(
        1.5, "ratio to the previous model's latency per face; a slower model is rolled back", 1, 100
    )
    min_fps_ratio: float = _setting(
        0.8,
        "ratio to the frame rate of the hour before; "
        "a model with a lower frame rate is rolled back",
        0,
        1,
    )
    max_label_share: float = _setting(
        0.98,
        "share of one label; at or above it a model is rolled back if the previous model gave less "
        "than half of it",
        0.3,
        1,
    )
    shadow: float = _setting(
        3600.0, "seconds; how long a shadow model is compared with the current model", 1, 8_640_000
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set.

    With the purpose public `publish.aggregate` is true, `publish.min_faces` at least 2 (MIN_GROUP
    where it is not set) and `view.show_picture` false, whatever was written.

    Raises ValueError for files of single readings ([sinks]) with that purpose.
    """

    use: UseSettings = field(default_factory=UseSettings)
    source: SourceSettings = field(default_factory=SourceSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    detect: DetectSettings = field(default_factory=DetectSettings)
    quality: QualitySettings = field(default_factory=QualitySettings)
    track: TrackSettings = field(default_factory=TrackSettings)
    smooth: SmoothSettings = field(default_factory=SmoothSettings)
    throttle: ThrottleSettings = field(default_factory=ThrottleSettings)
    gpio: GpioSettings = field(default_factory=GpioSettings)
    log: LogSettings = field(default_factory=LogSettings)
    sinks: SinkSettings = field(default_factory=SinkSettings)
    publish: PublishSettings = field(default_factory=PublishSettings)
    view: ViewSettings = field(default_factory=ViewSettings)
    update: UpdateSettings = field(default_factory=UpdateSettings)

    def __post_init__(self) -> None:
        if not self.use.minutes_only:
            return
        for key in ("jsonl", "csv"):
            path = getattr(self.sinks, key)
            if path:
                advice = "empty it, delete the file"
                raise ValueError(f"sinks.{key} is {path!r}; {MINUTES_ONLY}; {advice}")
        min_faces = self.publish.min_faces if self.publish.min_faces > 1 else MIN_GROUP
        publish = dataclasses.replace(self.publish, aggregate=True, min_faces=min_faces)
        view = dataclasses.replace(self.view, show_picture=False)
        object.__setattr__(self, "publish", publish)
        object.__setattr__(self, "view", view)

    @property
    def min_group(self) -> int:
        """The faces in one frame of a minute that is kept and published; 0 where single readings
        are."""
        return self.publish.min_faces if self.use.minutes_only else 0


RENAMED = {
    "[load]": "[throttle]",
    "[panel]": "[gpio]",
    "source.patience": "source.frame_timeout",
    "source.longest_pause": "source.max_retry_delay",
    "detect.every": "detect.interval",
    "detect.interval_frames": "detect.interval",
    "detect.threshold": "detect.min_score",
    "quality.smallest": "quality.min_face_pixels",
    "quality.sharpness": "quality.min_sharpness",
    "quality.turn": "quality.max_yaw",
    "quality.level": "quality.align",
    "track.overlap": "track.min_iou",
    "track.memory": "track.max_age",
    "smooth.seconds": "smooth.time_constant",
    "smooth.lead": "smooth.margin",
    "smooth.frames": "smooth.min_frames",
    "load.slowest": "throttle.min_fps",
    "throttle.slowest": "throttle.min_fps",
    "log.interval": "log.heartbeat_interval",
    "log.commit": "log.commit_interval",
    "log.sync": "log.sync_interval",
    "log.rows": "log.max_rows",
    "log.days": "log.max_days",
    "log.summary_days": "log.max_summary_days",
    "log.megabytes": "log.max_megabytes",
    "publish.user": "publish.username",
    "publish.every": "publish.state_interval",
    "view.names": "view.allowed_hosts",
    "view.picture": "view.show_picture",
    "update.faces": "update.min_faces",
    "update.patience": "update.max_probation",
    "update.slower": "update.max_latency_ratio",
    "update.rate": "update.min_fps_ratio",
    "update.one_label": "update.max_label_share",
}
"""Tables and keys of earlier versions, and their names now."""

_NEW_UNITS = {"detect.interval": "in seconds"}
"""What the values of keys in RENAMED count now, where it is something else than before."""


def parse_settings(text: str, where: str = "mien.toml") -> Settings:
    """Read settings from TOML text.

    where: the file's name in messages.

    Raises SettingsError that names the key: the nearest known key for a misspelt one, and the new
    names of all keys of an earlier version (RENAMED).
    """
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as problem:
        raise SettingsError(f"{where} is not valid TOML: {problem}; correct that line") from None
    advice = [*_renamed_advice(content), *_aggregate_advice(content)]
    if advice:
        raise SettingsError(mask_text(f"{where}: {'; '.join(advice)}"))
    try:
        return schema.from_dict(Settings, content, where, SettingsError)
    except SettingsError as problem:
        raise SettingsError(mask_text(str(problem))) from None


def _renamed_advice(content: dict[str, Any]) -> Iterator[str]:
    """Say which tables and keys have new names, in a file that an earlier version wrote."""
    names = [f"[{table}]" for table in content]
    for table, keys in content.items():
        if isinstance(keys, dict):
            names += [f"{table}.{key}" for key in keys]
    renamed = [f"{name} is now {_new_name(name)}" for name in names if name in RENAMED]
    if renamed:
        pronoun = "it" if len(renamed) == 1 else "them"
        yield f"{', '.join(renamed)}; rename {pronoun}"


def _new_name(name: str) -> str:
    new_name = RENAMED[name]
    unit = _NEW_UNITS.get(new_name)
    return f"{new_name}, {unit}" if unit else new_name


def _aggregate_advice(content: dict[str, Any]) -> Iterator[str]:
    """Say what to write for a number of faces at publish.aggregate, as earlier versions had it."""
    publish = content.get("publish")
    if not isinstance(publish, dict):
        return
    aggregate = publish.get("aggregate")
    if type(aggregate) is not int:
        return
    replacement = "aggregate = false"
    if aggregate:
        replacement = f"aggregate = true and min_faces = {aggregate}"
    yield f"publish.aggregate is now true or false; write {replacement}"


def load_settings(path: Path | None) -> Settings:
    """Read settings from a file, or return the defaults for None.

    Raises SettingsError as `parse_settings`, and for a file that cannot be read.
    """
    if path is None:
        return Settings()
    advice = f"write one with: mien-edge settings > {path}"
    return parse_settings(textfiles.read_text(path, SettingsError, advice), str(path))


def as_toml(settings: Settings) -> str:
    """Write settings as a TOML file that explains every key.

    `parse_settings` reads it back to equal settings. Raises SettingsError for a value that is not
    UTF-8, such as a file's name, which TOML cannot hold.
    """
    lines = [_HEADER]
    for table in dataclasses.fields(settings):
        section = getattr(settings, table.name)
        lines.append("")
        lines += [f"# {line}" for line in inspect.cleandoc(section.__doc__).splitlines() if line]
        lines.append(f"[{table.name}]")
        for setting in dataclasses.fields(section):
            value = json.dumps(getattr(section, setting.name), ensure_ascii=False)
            if encodable(value) != value:
                name = f"{table.name}.{setting.name}"
                raise SettingsError(f"{name}: {value} is not UTF-8; rename the file that it names")
            lines.append(f"# {setting.metadata['text']}{_range(setting)}")
            lines.append(f"{setting.name} = {value}")
    return "\n".join(lines) + "\n"


_HEADER = (
    "# Settings of mien. Each key is shown with its value; "
    "you can delete the lines that you do not change."
)


def _range(setting: "dataclasses.Field[Any]") -> str:
    low = setting.metadata["low"]
    high = setting.metadata["high"]
    if low is None:
        return ""
    return f" ({low:.15g} to {high:.15g})"
