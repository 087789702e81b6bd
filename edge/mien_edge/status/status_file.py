"""The status file: what a running process says of itself, one small JSON file in a folder in
memory, replaced each second. It holds readings and health, no pixels.

The camera's service writes a `Status`, the publisher a `PublisherStatus`. `mien-edge status`, the
page, MQTT and Prometheus read them: nothing else of the service can be queried, for it has no
network.

A file of another version is read as far as it goes: keys that this version does not know are
ignored, and a key that is missing takes its field's default. Only a value of another type is an
error."""

import fcntl
import json
import os
import signal
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mien_edge.errors import SourceError
from mien_edge.formats import ReadingRecord
from mien_edge.labels import LABELS
from mien_edge.schema import from_dict, to_dict
from mien_edge.status.health import Health

T = TypeVar("T")

NAME = "status.json"
LOCK_NAME = "service.lock"
_OWNER_ALONE = 0o600  # whoever could read the lock's file could lock it as well
STALE = 15.0  # seconds without a frame after which something is wrong

_FLAT = (
    "health",
    "throttle",
    "update",
)  # fields of Status whose keys stand in the file beside the others
_LOCK = struct.Struct("hhqqi4x")  # struct flock: type, whence, start, length, pid (fcntl(2))


@dataclass(frozen=True, slots=True)
class StatusEvent:
    """Something that went wrong lately.

    time: seconds since 1970; kind: one of EventKind; text: a sentence for people.
    """

    time: float = 0.0
    kind: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class ThrottleStatus:
    """How a live source is throttled, and what was lost of it since the start.

    target_fps: frames per second that are aimed at; idle: whether nothing moves; skipped: frames
    dropped for a newer one; failed_reads: frames that the camera failed to deliver, or that could
    not be decoded."""

    target_fps: float = 0.0
    idle: bool = False
    skipped: int = 0
    failed_reads: int = 0


@dataclass(frozen=True, slots=True)
class ProbationStatus:
    """How far a new model's probation is.

    seconds, faces: its time and its readings of faces until now; of_seconds, of_faces: how many
    it takes."""

    seconds: float = 0.0
    of_seconds: float = 0.0
    faces: int = 0
    of_faces: int = 0

    def __str__(self) -> str:
        return f"{self.faces} of {self.of_faces} readings of faces"


@dataclass(frozen=True, slots=True)
class ShadowStatus:
    """How a candidate compares with the current model on the same faces.

    bundle: the candidate's name.
    seconds, faces: how long, and on how many faces, both have been compared.
    agreement: share of faces with the same label, 0..1, of those to which both gave a label that
        both have; None without such a face.
    confusion: counts [label of the current model][label of the candidate], in the order of `labels`
        and `shadow_labels`.
    milliseconds: median time per face of the current model and of the candidate.
    degrees_warmer: degrees Celsius by which the SoC is warmer than at the start; None where it is
        not reported.
    problem: why the candidate failed; empty if it did not.
    labels, shadow_labels: those of the current model and of the candidate.
    """

    bundle: str = ""
    seconds: int = 0
    faces: int = 0
    agreement: float | None = None
    confusion: tuple[tuple[int, ...], ...] = ()
    milliseconds: tuple[float, ...] = (0.0, 0.0)
    degrees_warmer: float | None = None
    problem: str = ""
    labels: tuple[str, ...] = LABELS
    shadow_labels: tuple[str, ...] = LABELS


@dataclass(frozen=True, slots=True)
class UpdateStatus:
    """What is tried on a device that takes new models.

    probation: None while no model is on probation; shadow: None while no candidate is compared.
    """

    probation: ProbationStatus | None = None
    shadow: ShadowStatus | None = None


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """The model that runs.

    model: NAME-VERSION; bundle: its folder; update: None where the settings fix the model.
    labels: what it tells apart; unreliable_labels: those of them that cannot be told reliably.
    """

    model: str
    bundle: str = ""
    update: UpdateStatus | None = None
    labels: tuple[str, ...] = ()
    unreliable_labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """How the camera's service is.

    time, started: when this was written, and when the service started (seconds since 1970).
    pid: its process id.
    model: NAME-VERSION of the model that runs; bundle: its folder; labels: what it tells apart,
        empty where an older version of mien wrote this.
    source: the source's address, without a password.
    camera: 'starting', 'ok', 'lost' or 'paused'; 'ended' for a file that is shown on.
    frames: frames since the start; fps: frame rate of the last ten seconds.
    faces: readings of the last frame; empty with minutes_only.
    stage_milliseconds: mean time per frame, by the stage's name.
    health: of the device.
    resident_megabytes: memory in use by the service.
    written_per_day: megabytes a day written to disks; None until that can be said.
    events: what went wrong last, the newest at the end.
    throttle: None where the source is not throttled; update: None where the settings fix the model.
    minutes_only: whether nothing of a single face is shown, kept or published.
    unreliable_labels: those of the labels that the model's card says cannot be told reliably.
    """

    time: float = 0.0
    started: float = 0.0
    pid: int = 0
    model: str = ""
    bundle: str = ""
    source: str = ""
    camera: str = ""
    frames: int = 0
    fps: float = 0.0
    faces: tuple[ReadingRecord, ...] = ()
    stage_milliseconds: dict[str, float] = field(
        default_factory=dict, metadata={"key": "milliseconds"}
    )
    health: Health = field(default_factory=Health)
    resident_megabytes: float = field(default=0.0, metadata={"key": "rss"})
    written_per_day: float | None = None
    events: tuple[StatusEvent, ...] = ()
    throttle: ThrottleStatus | None = None
    update: UpdateStatus | None = None
    minutes_only: bool = False
    labels: tuple[str, ...] = ()
    unreliable_labels: tuple[str, ...] = ()

    @property
    def probation(self) -> ProbationStatus | None:
        """The probation of the model that runs; None if it is not on probation."""
        return self.update.probation if self.update else None

    @property
    def shadow(self) -> ShadowStatus | None:
        """The candidate that is compared; None if there is none."""
        return self.update.shadow if self.update else None

    def to_json(self) -> dict[str, Any]:
        """Return what the file holds: one flat table."""
        content: dict[str, Any] = {}
        for key, value in to_dict(self).items():
            if key in _FLAT:
                content.update(value or {})
            else:
                content[key] = value
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Status":
        """Read what `to_json` returned, also in another version.

        Raises SourceError for a value of another type.
        """
        fields = {**content, "health": content, "throttle": None, "update": None}
        if "target_fps" in content:
            fields["throttle"] = content
        if "probation" in content or "shadow" in content:
            fields["update"] = content
        return from_dict(cls, fields, "status", SourceError, ignore_unknown=True)


@dataclass(frozen=True, slots=True)
class PublisherStatus:
    """How the publisher is.

    time: when this was written (seconds since 1970).
    broker: HOST:PORT, empty where metrics alone are served; connected: whether it has accepted.
    problem: why it has not, and what else is wrong with the log or the broker; empty for nothing.
    published, refused, set_aside: messages that the broker acknowledged, refused, and will never
    take, since the start.
    reconnects: how often the connection was lost and restored.
    waiting: entries of the log that are not acknowledged yet.
    faces, shares: the most faces in one frame, and the shares of the labels, of the last minute
    that may be published."""

    time: float = 0.0
    broker: str = ""
    connected: bool = False
    problem: str = ""
    published: int = 0
    refused: int = 0
    reconnects: int = 0
    waiting: int = 0
    faces: int = 0
    shares: dict[str, float] = field(default_factory=dict)
    set_aside: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return what the file holds."""
        return to_dict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "PublisherStatus":
        """Read what `to_json` returned, also in another version.

        Raises SourceError for a value of another type.
        """
        return from_dict(cls, content, "status", SourceError, ignore_unknown=True)


def write(folder: Path, status: Status | PublisherStatus) -> None:
    """Replace the folder's status file.

    Not synced, for it is in memory; renamed, so that a reader never sees half a file. A folder
    that cannot be written is ignored: a status is no reason to stop.
    """
    path = folder / NAME
    temporary = path.with_suffix(".new")
    with suppress(OSError):
        temporary.write_text(json.dumps(status.to_json()) + "\n")
        temporary.replace(path)


def read_status(folder: Path) -> Status:
    """Return what the camera's service wrote last. Raises SourceError if it does not run."""
    return _read(folder, Status.from_json)


def read_publisher(folder: Path) -> PublisherStatus:
    """Return what the publisher wrote last. Raises SourceError if it does not run."""
    return _read(folder, PublisherStatus.from_json)


def _read(folder: Path, from_json: Callable[[Mapping[str, Any]], T]) -> T:
    path = folder / NAME
    content = _read_json(path)
    try:
        return from_json(content)
    except SourceError as problem:
        raise SourceError(
            f"{path}: written by another version of mien ({problem}); restart the service"
        ) from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        raise SourceError(
            f"{path}: the service does not run here; start it with: sudo systemctl start mien"
        ) from None
    except (OSError, ValueError, TypeError) as problem:
        raise SourceError(
            f"{path}: cannot be read ({problem}); run it as root or as the user mien"
        ) from None


class ServiceLock:
    """Held by the camera's service while it takes reload signals; says which process that is.

    The kernel keeps the lock's owner and lets go of it when the process ends, however it does.

    folder: the service's runtime folder. A folder that cannot be written is ignored, as by `write`.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_NAME
        self._file: int | None = None
        with suppress(OSError):
            self._file = _open_locked(self._path)

    def close(self) -> None:
        """Let go of the lock."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None


def _open_locked(path: Path) -> int:
    """Return the open file of a lock; raises OSError if another process has it."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, _OWNER_ALONE)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise
    return file


def service_pid(folder: Path) -> int | None:
    """Return the process that holds the folder's ServiceLock; None if no other process does."""
    with suppress(OSError), (folder / LOCK_NAME).open("rb") as file:
        question = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = _LOCK.unpack(fcntl.fcntl(file, fcntl.F_GETLK, question))
        if kind != fcntl.F_UNLCK and pid > 0:
            return int(pid)
    return None


def send_reload_signal(folder: Path) -> bool:
    """Send the service SIGHUP, so that it looks for another model.

    folder: the service's runtime folder. Returns whether a service was there to receive it.
    """
    pid = service_pid(folder)  # who holds the lock, and not a number that stands in a file
    if pid is None:
        return False
    with suppress(OSError):
        os.kill(pid, signal.SIGHUP)
        return True
    return False
