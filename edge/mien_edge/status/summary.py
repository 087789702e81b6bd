"""`mien-edge status`: how the service on this device is, from its status file, its log and the
publisher's status.
"""

import sqlite3
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from mien_edge.errors import SinkError, SourceError
from mien_edge.events import TROUBLES, Event
from mien_edge.formats import local_time
from mien_edge.log import reader
from mien_edge.schema import to_dict
from mien_edge.status import health, status_file
from mien_edge.status.status_file import ProbationStatus, PublisherStatus, ShadowStatus, Status
from mien_edge.text import encodable, file_name, printable

_DAY = 86400.0
_MAX_ERRORS = 5
_NOT_REPORTED = "not reported here"


@dataclass(frozen=True, slots=True)
class NotRunning:
    """Why there is no status of the camera's service."""

    why: str


@dataclass(frozen=True, slots=True)
class LogSummary:
    """What the log holds.

    path: of the log; megabytes: its files' size; free_megabytes: free space beside it, None without
        a folder.
    readings: how many it holds; newest_reading: seconds since 1970, None where there is none.
    errors: warnings and errors of the last day, the last five, oldest first.
    """

    path: str
    megabytes: float
    free_megabytes: float | None
    readings: int
    newest_reading: float | None
    errors: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class NoLog:
    """Why the log cannot be read; free_megabytes: free space where it would be, None without a
    folder.
    """

    path: str
    why: str
    free_megabytes: float | None


@dataclass(frozen=True, slots=True)
class StatusSummary:
    """All that `mien-edge status` shows; problems: what is wrong, one line each, empty when all is
    well.
    """

    service: Status | NotRunning
    log: LogSummary | NoLog
    publisher: PublisherStatus | None
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what `mien-edge status --json` prints."""
        if isinstance(self.service, Status):
            service = {"runs": True, **self.service.to_json()}
        else:
            service = {"runs": False, "why": self.service.why}
        return {
            "service": service,
            "log": to_dict(self.log),
            "publisher": self.publisher.to_json() if self.publisher else None,
            "problems": list(self.problems),
        }


def collect(runtime: Path, log: Path) -> StatusSummary:
    """Read the status in the service's runtime folder, the publisher's beside it, and the log."""
    now = time.time()
    publisher = read_publisher(runtime)
    service: Status | NotRunning
    try:
        service = status_file.read_status(runtime)
        problems = find_problems(service, publisher, now)
    except SourceError as problem:
        service = NotRunning(str(problem))
        problems = [service.why, *publisher_problems(publisher)]
    return StatusSummary(service, _summarize_log(log, now), publisher, tuple(problems))


def read_publisher(runtime: Path) -> PublisherStatus | None:
    """Return the publisher's status, from the folder beside the service's runtime folder; None if
    it does not run.
    """
    try:
        return status_file.read_publisher(runtime.with_name(f"{runtime.name}-publish"))
    except SourceError:
        return None


def _summarize_log(path: Path, now: float) -> LogSummary | NoLog:
    free_megabytes = health.free_megabytes(path.parent)
    try:
        connection = reader.open_to_read(path)
    except SinkError as problem:
        return NoLog(file_name(path), encodable(str(problem)), free_megabytes)
    files = path.parent.glob(f"{path.name}*")
    size = sum(file.stat().st_size for file in files)
    try:
        return LogSummary(
            path=file_name(path),
            megabytes=round(size / 1e6, 2),
            free_megabytes=free_megabytes,
            readings=connection.execute("SELECT COUNT(*) FROM readings").fetchone()[0],
            newest_reading=connection.execute("SELECT MAX(time) FROM readings").fetchone()[0],
            errors=_recent_errors(connection, now),
        )
    finally:
        connection.close()


def _recent_errors(connection: sqlite3.Connection, now: float) -> tuple[Event, ...]:
    return tuple(reader.newest_events(connection, now - _DAY, _MAX_ERRORS, TROUBLES))


def find_problems(service: Status, publisher: PublisherStatus | None, now: float) -> list[str]:
    """Return what is wrong with a running service at `now` (seconds since 1970), one line each."""
    problems = []
    silence = now - service.time
    if service.camera == "lost":
        problems.append("the camera is lost; check its cable, then: journalctl -u mien -e")
    elif silence > status_file.STALE and service.camera not in ("paused", "ended"):
        problems.append(f"no frame for {silence:.0f} s; see: journalctl -u mien -e")
    for limit in service.health.throttled_now or ():
        problems.append(f"the device has {limit} now; see: mien-edge doctor")
    return problems + publisher_problems(publisher)


def publisher_problems(publisher: PublisherStatus | None) -> list[str]:
    """Return what is wrong with the publisher, one line each; None where it does not run."""
    if publisher is None or not publisher.problem:
        return []
    if publisher.connected or not publisher.broker:
        return [f"publishing: {publisher.problem}"]
    return [f"the broker {publisher.broker} is not reached: {publisher.problem}"]


def as_text(summary: StatusSummary) -> str:
    """Return the summary as lines for people."""
    service = summary.service
    rows: list[tuple[str, str]] = []
    if isinstance(service, Status):
        rows += _service_rows(service)
    else:
        rows.append(("service", service.why))
    rows.append(("log", _log_line(summary.log)))
    if summary.publisher and summary.publisher.broker:
        rows.append(("broker", _broker_line(summary.publisher)))
    if isinstance(summary.log, LogSummary):
        rows += [("error", _event_line(event)) for event in summary.log.errors]
    if isinstance(service, Status):
        rows += [("problem", problem) for problem in summary.problems]
    return "\n".join(f"{name:<12} {printable(text)}" for name, text in rows)


def _service_rows(service: Status) -> list[tuple[str, str]]:
    running_time = timedelta(seconds=round(service.time - service.started))
    stages = [f"{name} {mean:g}" for name, mean in service.stage_milliseconds.items()]
    return [
        ("service", f"runs for {running_time}"),
        ("model", service.model + _probation(service.probation) + _shadow(service.shadow)),
        ("labels", _labels_line(service)),
        ("camera", f"{service.source}: {service.camera}"),
        ("frames", _frames_line(service)),
        ("ms a frame", "  ".join(stages)),
        ("faces", _faces_line(service)),
        ("heat", _heat_line(service.health)),
        ("memory", _memory_line(service)),
        ("writes", _writes_line(service)),
    ]


def _labels_line(service: Status) -> str:
    labels = ", ".join(service.labels) or _NOT_REPORTED
    unreliable = ", ".join(service.unreliable_labels)
    return f"{labels}; cannot be told reliably: {unreliable}" if unreliable else labels


def _probation(probation: ProbationStatus | None) -> str:
    if probation is None:
        return ""
    seconds = f"{probation.seconds:.0f} of {probation.of_seconds:g} s"
    return f", on probation: {seconds}, {probation}"


def _shadow(shadow: ShadowStatus | None) -> str:
    if shadow is None:
        return ""
    return f", compared with {shadow.bundle}"


def _frames_line(service: Status) -> str:
    target = "?"
    if service.throttle:
        target = str(service.throttle.target_fps)
        if service.throttle.idle:
            target += ", idle"
    failed = service.throttle.failed_reads if service.throttle else 0
    failed_reads = f", {failed} failed reads" if failed else ""
    return f"{service.fps:g} a second of {target}, {service.frames} in all{failed_reads}"


def _faces_line(service: Status) -> str:
    if service.minutes_only:
        return "minutes only (use.purpose = public)"
    faces = [f"{face.label or face.quality} (face {face.track})" for face in service.faces]
    return ", ".join([f"{len(faces)} now", *faces])


def _heat_line(device: health.Health) -> str:
    heat = _NOT_REPORTED
    if device.temperature is not None:
        heat = f"{device.temperature} °C"
    limits = _NOT_REPORTED
    if device.throttled_now is not None:
        limits = ", ".join(device.throttled_now) or "none"
    line = f"{heat}; limits now: {limits}"
    if device.throttled_since_boot:
        line += f"; since the start: {', '.join(device.throttled_since_boot)}"
    return line


def _memory_line(service: Status) -> str:
    available = _NOT_REPORTED
    if service.health.available_megabytes is not None:
        available = f"{service.health.available_megabytes:g} MB left on the device"
    return f"{service.resident_megabytes:g} MB in use, {available}"


def _writes_line(service: Status) -> str:
    if service.written_per_day is None:
        return "counted ten minutes after the start"
    return f"{service.written_per_day:g} MB a day"


def _event_line(event: Event) -> str:
    return f"{_clock(event.time)} {event.kind}: {event.text}"


def _log_line(log: LogSummary | NoLog) -> str:
    free = "no folder"
    if log.free_megabytes is not None:
        free = f"{log.free_megabytes:g} MB free"
    if isinstance(log, NoLog):
        return f"{log.why} ({free})"
    newest = "none yet"
    if log.newest_reading:
        newest = _clock(log.newest_reading)
    return f"{log.path}: {log.megabytes:g} MB, {log.readings} readings, newest {newest}; {free}"


def _broker_line(publisher: PublisherStatus) -> str:
    waiting = publisher.waiting
    if not publisher.connected:
        return f"{publisher.broker}: not reached ({publisher.problem}), {waiting} entries wait"
    line = f"{publisher.broker}: connected, {publisher.published} published, {waiting} wait"
    if publisher.set_aside:
        line += f", {publisher.set_aside} set aside"
    return line


def _clock(seconds: float) -> str:
    return local_time(seconds)
