"""`mien-edge status`: how the service on this device is."""

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from mien_edge.errors import SinkError, SourceError
from mien_edge.events import TROUBLES
from mien_edge.log import reader
from mien_edge.log.reader import Filter
from mien_edge.status import health, status_file

_DAY = 86400.0


def collect(runtime: Path, log: Path) -> dict[str, Any]:
    """What the service tells, what stands in its log, and what is wrong ('problems', empty when all is well)."""
    now = time.time()
    found: dict[str, Any] = {"service": _service(runtime), "log": _log(log, now), "publisher": publisher(runtime)}
    return found | {"problems": problems(found, now)}


def _service(runtime: Path) -> dict[str, Any]:
    try:
        return {"runs": True, **status_file.read(runtime)}
    except SourceError as problem:
        return {"runs": False, "why": str(problem)}


def publisher(runtime: Path) -> dict[str, Any] | None:
    """What the publisher tells, in a folder beside the service's; None where there is none."""
    try:
        return status_file.read(runtime.with_name(f"{runtime.name}-publish"))
    except SourceError:
        return None


def _log(path: Path, now: float) -> dict[str, Any]:
    free = health.free_megabytes(path.parent)
    try:
        connection = reader.open_to_read(path)
    except SinkError as problem:
        return {"path": str(path), "why": str(problem), "free_megabytes": free}
    found = {
        "path": str(path),
        "megabytes": round(sum(each.stat().st_size for each in path.parent.glob(f"{path.name}*")) / 1e6, 2),
        "free_megabytes": free,
        "readings": connection.execute("SELECT COUNT(*) FROM readings").fetchone()[0],
        "newest_reading": connection.execute("SELECT MAX(time) FROM readings").fetchone()[0],
        "errors": [e for e in reader.events(connection, Filter(since=now - _DAY)) if e["kind"] in TROUBLES][-5:],
    }
    connection.close()
    return found


def problems(found: dict[str, Any], now: float) -> list[str]:
    """What is wrong, each in one line."""
    service, publisher = found["service"], found["publisher"]
    if not service["runs"]:
        return [service["why"]]
    wrong = []
    if service["camera"] == "lost":
        wrong.append("the camera is lost; check its cable, then: journalctl -u mien -e")
    elif now - service["time"] > status_file.STALE and service["camera"] != "paused":
        wrong.append(f"no frame for {now - service['time']:.0f} s; see: journalctl -u mien -e")
    wrong += [f"the device has {limit} now; see: mien-edge doctor" for limit in service["limits"] or ()]
    if publisher and not publisher["connected"]:
        wrong.append(f"the broker {publisher['broker']} is not reached: {publisher['problem']}")
    return wrong


def as_text(found: dict[str, Any]) -> str:
    """The status as lines for people."""
    service, log = found["service"], found["log"]
    rows = [*(_service_rows(service) if service["runs"] else [("service", service["why"])]), *_log_rows(log)]
    if found["publisher"]:
        rows.append(("broker", _broker(found["publisher"])))
    rows += [("error", f"{_clock(event['time'])} {event['kind']}: {event['text']}") for event in log.get("errors", [])]
    rows += [("problem", problem) for problem in found["problems"] if service["runs"]]
    return "\n".join(f"{name:<12} {text}" for name, text in rows)


def _probation(trial: dict[str, Any] | None) -> str:
    if not trial:
        return ""
    return (
        f", on probation: {trial['seconds']:.0f} of {trial['of_seconds']:g} s, "
        f"{trial['faces']} of {trial['of_faces']} readings of faces"
    )


def _shadow(report: dict[str, Any] | None) -> str:
    return f", compared with {report['bundle']}" if report else ""


def _service_rows(service: dict[str, Any]) -> list[tuple[str, str]]:
    spent = "  ".join(f"{name} {value:g}" for name, value in service["milliseconds"].items())
    faces = ", ".join(f"{face['track']}: {face['label'] or face['quality']}" for face in service["faces"]) or "none"
    heat = "not reported here" if service["temperature"] is None else f"{service['temperature']} °C"
    limits = ", ".join(service["limits"] or ()) or ("none" if service["limits"] is not None else "not reported here")
    had = ", ".join(service["had"] or ())
    a_day = service["written_per_day"]
    rest = ", resting" if service.get("idle") else ""
    return [
        ("service", f"runs for {timedelta(seconds=round(service['time'] - service['started']))}"),
        ("model", service["model"] + _probation(service.get("probation")) + _shadow(service.get("shadow"))),
        ("camera", f"{service['source']}: {service['camera']}"),
        (
            "frames",
            f"{service['fps']:g} a second of {service.get('target_fps', '?')}{rest}, {service['frames']} in all",
        ),
        ("ms a frame", spent),
        ("faces", faces),
        ("heat", f"{heat}; limits now: {limits}" + (f"; since the start: {had}" if had else "")),
        ("memory", f"{service['rss']:g} MB in use, {service['memory']:g} MB left on the device"),
        ("writes", "counted ten minutes after the start" if a_day is None else f"{a_day:g} MB a day"),
    ]


def _log_rows(log: dict[str, Any]) -> list[tuple[str, str]]:
    free = f"{log['free_megabytes']:g} MB free" if log["free_megabytes"] is not None else "no folder"
    if "why" in log:
        return [("log", f"{log['why']} ({free})")]
    newest = _clock(log["newest_reading"]) if log["newest_reading"] else "none yet"
    return [("log", f"{log['path']}: {log['megabytes']:g} MB, {log['readings']} readings, newest {newest}; {free}")]


def _broker(publisher: dict[str, Any]) -> str:
    if not publisher["connected"]:
        return f"{publisher['broker']}: not reached ({publisher['problem']}), {publisher['waiting']} entries wait"
    return f"{publisher['broker']}: connected, {publisher['published']} published, {publisher['waiting']} wait"


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
