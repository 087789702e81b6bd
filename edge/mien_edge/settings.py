"""Settings: one TOML file into one frozen dataclass per stage.

Every field carries its own documentation, unit and range; `as_toml` writes the commented file from them, so the
file in systemd/ and these classes cannot drift apart (a test compares them).
"""

import dataclasses
import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mien_edge import schema
from mien_edge.errors import SettingsError


def _setting(default: Any, text: str, low: float | None = None, high: float | None = None) -> Any:
    return field(default=default, metadata={"text": text, "low": low, "high": high})


@dataclass(frozen=True, slots=True)
class _Stage:
    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            value, low, high = getattr(self, each.name), each.metadata["low"], each.metadata["high"]
            if (low is not None and value < low) or (high is not None and value > high):
                raise ValueError(f"{each.name} must be {low} to {high}, not {value}; change it")


@dataclass(frozen=True, slots=True)
class Source(_Stage):
    """Where frames come from."""

    uri: str = _setting(
        "picamera", "picamera, v4l2:0, rtsp://…, a video file, a photo, a folder of photos, demo, demo:forever"
    )
    width: int = _setting(640, "pixels; what a camera is asked for", 64, 4096)
    height: int = _setting(480, "pixels; what a camera is asked for", 64, 4096)
    fps: float = _setting(15.0, "frames per second; what a camera is asked for, and the pace of demo", 0.1, 120)
    patience: float = _setting(10.0, "seconds without a frame after which a camera is opened anew", 0.2, 600)
    longest_pause: float = _setting(30.0, "seconds; opening anew is tried after 1, 2, 4 … up to this many", 0.1, 3600)


@dataclass(frozen=True, slots=True)
class Model(_Stage):
    """Which model runs, and how."""

    bundle: str = _setting("", "folder of the bundle; empty: the installed one, else the one that came with mien")
    threads: int = _setting(1, "threads of the interpreter; more than one is unsteady on a busy device", 1, 8)


@dataclass(frozen=True, slots=True)
class Detect(_Stage):
    """Finding faces."""

    method: Literal["yunet", "haar"] = _setting("yunet", "yunet (better), or haar (needs no weights file)")
    size: int = _setting(320, "pixels; longer side of the picture that the detector sees, never enlarged", 64, 2048)
    threshold: float = _setting(0.7, "least score of a face", 0.05, 0.99)
    every: int = _setting(5, "frames; a picture in which nothing moves is searched every so-manieth frame", 1, 60)
    blur: bool = _setting(True, "3x3 blur before detection: finds more faces in noisy pictures")


@dataclass(frozen=True, slots=True)
class Quality(_Stage):
    """When a face is not worth a label."""

    smallest: float = _setting(32.0, "pixels; a face with a shorter longer side is 'too small'", 8, 1000)
    sharpness: float = _setting(
        0.05, "a face crop with less edge energy (see quality.sharpness) is 'blurred'; 0 for never", 0, 10
    )
    turn: float = _setting(
        0.55, "eye distances; a nose tip further from the eyes' middle line is 'turned away'; 9 for never", 0.1, 9
    )
    level: bool = _setting(False, "turn the crop until the eyes are level")


@dataclass(frozen=True, slots=True)
class Track(_Stage):
    """Keeping a face's number from frame to frame."""

    overlap: float = _setting(0.2, "least intersection over union with the face's last place", 0.05, 0.95)
    memory: float = _setting(1.0, "seconds; how long a face that is gone keeps its number", 0, 60)


@dataclass(frozen=True, slots=True)
class Smooth(_Stage):
    """Steady labels."""

    seconds: float = _setting(0.6, "time constant of the average over a face's probabilities; 0 for none", 0, 60)
    lead: float = _setting(0.08, "probability by which another label must lead before it takes over", 0, 0.9)
    frames: int = _setting(3, "frames in a row in which it must lead", 1, 100)


@dataclass(frozen=True, slots=True)
class Load(_Stage):
    """Heat and rest, of live cameras."""

    hot: float = _setting(75.0, "degrees Celsius; from here on there are fewer frames (a Pi throttles at 80)", 30, 100)
    cool: float = _setting(68.0, "degrees Celsius; up to here there are more again", 20, 100)
    slowest: float = _setting(2.0, "frames per second; never fewer for heat", 0.1, 120)
    idle_after: float = _setting(30.0, "seconds without any movement before the chain rests; 0 for never", 0, 86400)
    idle_fps: float = _setting(1.0, "frames per second while it rests; movement wakes it at once", 0.1, 120)


@dataclass(frozen=True, slots=True)
class Panel(_Stage):
    """A light and a button at the device, through gpiozero."""

    led: int = _setting(0, "pin (Broadcom's number) of a light that is on whenever the camera is; 0 for none", 0, 27)
    button: int = _setting(0, "pin of a button to ground that pauses the camera, and resumes it; 0 for none", 0, 27)


@dataclass(frozen=True, slots=True)
class Log(_Stage):
    """The on-device log."""

    path: str = _setting("", "file; empty: $STATE_DIRECTORY/readings.db in the service, none elsewhere")
    interval: float = _setting(60.0, "seconds; an unchanged face is written at most this often", 0, 3600)
    commit: float = _setting(5.0, "seconds; readings are committed this often; a crash loses at most so much", 0.1, 300)
    sync: float = _setting(60.0, "seconds; the disk is synced this often; a power cut loses at most so much", 0.1, 3600)
    days: float = _setting(30.0, "days; older readings and events are removed", 0.01, 3650)
    summary_days: float = _setting(400.0, "days; older summaries of minutes are removed", 0.01, 36500)
    rows: int = _setting(1_000_000, "readings; beyond that the oldest are removed", 100, 100_000_000)
    megabytes: float = _setting(200.0, "megabytes; a larger file loses its oldest readings", 1, 100_000)


@dataclass(frozen=True, slots=True)
class Publish(_Stage):
    """Telling other machines, over MQTT and to Prometheus (mien-publish.service)."""

    host: str = _setting("", "the MQTT broker's name or address; empty for none")
    port: int = _setting(1883, "the broker's port; 8883 is usual with tls", 1, 65535)
    protocol: Literal["5", "3.1.1"] = _setting("5", "the version of MQTT: 5 or 3.1.1")
    tls: bool = _setting(False, "encrypt, and check the broker's certificate")
    ca: str = _setting("", "file with the authority that signed the broker's certificate; empty: the system's")
    user: str = _setting("", "user name at the broker; its password is the credential mqtt-password")
    password_file: str = _setting("", "file with the password, where systemd gives no credential")
    topic: str = _setting("mien", "the first part of all topics: mien/DEVICE/reading and others")
    device: str = _setting("", "the device's name in topics and messages; empty: its host name")
    discovery: str = _setting("homeassistant", "Home Assistant's discovery prefix; empty for none")
    aggregate: int = _setting(
        0, "faces; from 1 on only shares per minute are told, of minutes with at least so many faces", 0, 1000
    )
    every: float = _setting(10.0, "seconds between two messages of state", 1, 3600)
    metrics_port: int = _setting(0, "port on 127.0.0.1 for Prometheus; 0 for none", 0, 65535)


@dataclass(frozen=True, slots=True)
class View(_Stage):
    """The page (mien-view.service). Reach it through SSH: ssh -L 8765:127.0.0.1:8765 pi@DEVICE."""

    host: str = _setting("127.0.0.1", "address to listen on; any other than this one needs a token")
    port: int = _setting(8765, "port to listen on", 1, 65535)
    names: str = _setting("", "names, with spaces between, by which browsers may call it beside localhost")
    token_file: str = _setting("", "file with the token, where systemd gives no credential view-token")
    picture: bool = _setting(True, "whether the page may show the live picture")


@dataclass(frozen=True, slots=True)
class Update(_Stage):
    """New models: whose are taken, and how they prove themselves before they stay."""

    signers: str = _setting("/etc/mien/allowed_signers", "file with the keys whose bundles are taken (ssh-keygen -Y)")
    revoked: str = _setting("/etc/mien/revoked_signers", "file with keys that are not believed any more")
    unsigned: bool = _setting(False, "whether bundles without a signature are taken as well")
    probation: float = _setting(60.0, "seconds that a new model runs on probation at least", 1, 86400)
    faces: int = _setting(100, "readings of faces that it has to give in that time", 0, 1_000_000)
    patience: float = _setting(3600.0, "seconds after which it stays although fewer faces were seen", 1, 864000)
    slower: float = _setting(1.5, "times the latency per face of the model before; slower than that, it goes", 1, 100)
    rate: float = _setting(0.8, "of the frame rate of the hour before; with less than that, it goes", 0, 1)
    one_label: float = _setting(
        0.98, "share of one label that the model before gave less than half as often; with that much, it goes", 0.3, 1
    )
    shadow: float = _setting(3600.0, "seconds that a shadow is compared with the current model", 1, 8640000)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set."""

    source: Source = field(default_factory=Source)
    model: Model = field(default_factory=Model)
    detect: Detect = field(default_factory=Detect)
    quality: Quality = field(default_factory=Quality)
    track: Track = field(default_factory=Track)
    smooth: Smooth = field(default_factory=Smooth)
    load: Load = field(default_factory=Load)
    panel: Panel = field(default_factory=Panel)
    log: Log = field(default_factory=Log)
    publish: Publish = field(default_factory=Publish)
    view: View = field(default_factory=View)
    update: Update = field(default_factory=Update)


def parse(text: str, where: str = "mien.toml") -> Settings:
    """Settings from TOML text. Raises SettingsError naming the key, and the nearest known one for a misspelt key."""
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as problem:
        raise SettingsError(f"{where} is not valid TOML: {problem}; correct that line") from None
    return schema.read(Settings, content, where, SettingsError)


def load(path: Path | None) -> Settings:
    """Settings from a file, or the defaults for None."""
    if path is None:
        return Settings()
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as problem:
        raise SettingsError(
            f"{path}: cannot be read ({problem}); write one with: mien-edge settings > {path}"
        ) from None


def as_toml(settings: Settings) -> str:
    """The settings as a TOML file in which every key is explained; `parse` reads it back to equal settings."""
    lines = ["# mien's settings. Each line shows its value; delete what you do not change."]
    for stage in dataclasses.fields(settings):
        values = getattr(settings, stage.name)
        lines += ["", f"# {values.__doc__}", f"[{stage.name}]"]
        for each in dataclasses.fields(values):
            lines.append(f"# {each.metadata['text']}{_range(each)}")
            lines.append(f"{each.name} = {json.dumps(getattr(values, each.name), ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def _range(each: "dataclasses.Field[Any]") -> str:
    low, high = each.metadata["low"], each.metadata["high"]
    return "" if low is None else f" ({low:g} to {high:g})"
