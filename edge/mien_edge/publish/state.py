"""The state message: what the device sees and how it is, for people's dashboards."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from mien_edge.errors import SourceError
from mien_edge.labels import NONE
from mien_edge.log.minutes import MinuteSummary
from mien_edge.status.status_file import Status, read_status
from mien_edge.status.summary import NotRunning, find_problems

_MACHINE = re.compile(r"[0-9a-f]{8}")


def read_service(runtime: Path) -> Status | NotRunning:
    """Read the status of the camera's service in its runtime folder, or why there is none."""
    try:
        return read_status(runtime)
    except SourceError as problem:
        return NotRunning(str(problem))


def device_state(
    service: Status | NotRunning, minute: MinuteSummary | None, notices: list[str], now: float
) -> dict[str, object]:
    """Return the state message as values for JSON.

    service: the status of the camera's service, or why there is none.
    minute: the sums that stand for the present where single readings must not be published; None
        where they may be.
    notices: what is wrong with the publisher, one line each.
    now: seconds since 1970.

    'emotion' is the dominant one of the running model's labels or 'none', 'faces' how many there
    are, 'fps' frames per second, 'temperature' degrees Celsius or None, 'problems' one line each;
    then 'model' and 'camera'.
    """
    if isinstance(service, NotRunning):
        return {
            "emotion": NONE,
            "faces": 0,
            "fps": 0,
            "temperature": None,
            "problems": [service.why, *notices],
            "model": "",
        }
    if minute is None:
        emotion = _dominant_label(service)
        faces = len(service.faces)
    else:
        emotion = _longest_label(minute, service.labels)
        faces = minute.faces
    return {
        "emotion": emotion,
        "faces": faces,
        "fps": service.fps,
        "temperature": service.health.temperature,
        "model": service.model,
        "camera": service.camera,
        "problems": [*find_problems(service, None, now), *notices],
    }


def _dominant_label(service: Status) -> str:
    """The label of most faces in the last frame."""
    counts = Counter(face.label for face in service.faces if face.label)
    shown = _of_model(counts, service.labels)
    return max(shown, key=lambda label: counts[label], default=NONE)


def _longest_label(minute: MinuteSummary, labels: tuple[str, ...]) -> str:
    """The label with most face-seconds."""
    shown = _of_model(minute.seconds, (*labels, NONE) if labels else ())
    return max(shown, key=lambda label: minute.seconds[label], default=NONE)


def _of_model(seen: Iterable[str], labels: tuple[str, ...]) -> list[str]:
    """What was seen without the labels of a model that ran until now; all where an earlier mien
    does not say which labels the running one has.
    """
    return [label for label in seen if not labels or label in labels]


def read_machine(payload: bytes) -> str:
    """Return which machine published a state message; empty where it doesn't say.

    Anybody who may write to the topic may have written it: what is no machine's id is nothing.
    """
    try:
        machine = str(json.loads(payload)["machine"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return machine if _MACHINE.fullmatch(machine) else ""
