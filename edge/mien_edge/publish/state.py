"""The state message: what the device sees and how it is, for people's dashboards."""

import json
import re
from collections import Counter
from pathlib import Path

from mien_edge.errors import SourceError
from mien_edge.log.minutes import NONE, MinuteSummary
from mien_edge.status.status_file import Status, read_status
from mien_edge.status.summary import find_problems

_MACHINE = re.compile(r"[0-9a-f]{8}")


def device_state(
    runtime: Path, minute: MinuteSummary | None, notices: list[str], now: float
) -> dict[str, object]:
    """Return the state message as values for JSON.

    runtime: runtime folder of the camera's service.
    minute: the sums that stand for the present where single readings must not be published; None
        where they may be.
    notices: what is wrong with the publisher, one line each.
    now: seconds since 1970.

    'emotion' is the dominant label or 'none', 'faces' how many there are, 'fps' frames per second,
    'temperature' degrees Celsius or None, 'problems' one line each; then 'model' and 'camera'.
    """
    try:
        service = read_status(runtime)
    except SourceError as problem:
        return {
            "emotion": NONE,
            "faces": 0,
            "fps": 0,
            "temperature": None,
            "problems": [str(problem), *notices],
            "model": "",
        }
    if minute is None:
        emotion = _dominant_label(service)
        faces = len(service.faces)
    else:
        emotion = _longest_label(minute)
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
    return max(counts, key=lambda label: counts[label], default=NONE)


def _longest_label(minute: MinuteSummary) -> str:
    """The label with most face-seconds."""
    return max(minute.seconds, key=lambda label: minute.seconds[label], default=NONE)


def read_machine(payload: bytes) -> str:
    """Return which machine published a state message; empty where it doesn't say.

    Anybody who may write to the topic may have written it: what is no machine's id is nothing.
    """
    try:
        machine = str(json.loads(payload)["machine"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return machine if _MACHINE.fullmatch(machine) else ""
