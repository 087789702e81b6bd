"""What happens to a device, as kinds of events, and what is made of a face, as quality verdicts.

The words are stored in the log and published over MQTT, where programs read them: they do not
change."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad an event is."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class EventKind(StrEnum):
    """Every kind of event that a log can hold."""

    START = "start"
    STOP = "stop"
    FAILED = "failed"
    UNCLEAN_END = "unclean end"
    CAMERA_LOST = "camera lost"
    CAMERA_BACK = "camera back"
    PAUSED = "paused"
    RESUMED = "resumed"
    THROTTLED = "throttled"
    COOLED = "cooled"
    CLOCK = "clock"
    LOG_BACK = "log back"
    FILE_DELETED = "file deleted"
    FILE_MOVED = "file moved"
    READINGS_DELETED = "readings deleted"
    MODEL_INSTALLED = "model installed"
    MODEL_DISCARDED = "model discarded"
    MODEL_CHANGED = "model changed"
    MODEL_REFUSED = "model refused"
    UPDATE_FAILED = "update failed"
    PROBATION = "probation"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    SHADOW = "shadow"
    SHADOW_ENDED = "shadow ended"

    @property
    def severity(self) -> Severity:
        """How bad it is: what `status` shows are warnings and errors."""
        return _SEVERITIES.get(self, Severity.INFO)


_SEVERITIES = {
    EventKind.FAILED: Severity.ERROR,
    EventKind.CAMERA_LOST: Severity.ERROR,
    EventKind.UNCLEAN_END: Severity.WARNING,
    EventKind.THROTTLED: Severity.WARNING,
    EventKind.CLOCK: Severity.WARNING,
    EventKind.LOG_BACK: Severity.WARNING,
    EventKind.FILE_MOVED: Severity.WARNING,
    EventKind.MODEL_REFUSED: Severity.WARNING,
    EventKind.ROLLED_BACK: Severity.WARNING,
}

RUN_ENDS = frozenset({EventKind.STOP, EventKind.FAILED})
"""The events that a run ends with; a log whose last run has none of them was cut off."""

TROUBLES = frozenset(_SEVERITIES)
"""The kinds that are warnings or errors."""

OnEvent = Callable[[EventKind, str], None]
"""Called with an event's kind and a sentence for people."""


def ignore_event(kind: EventKind, text: str) -> None:
    """Do nothing: the OnEvent of who has nobody to inform."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a log.

    id: its number in the log; grows.
    time: seconds since 1970.
    kind: one of EventKind; a log written by another version may hold others.
    text: a sentence for people.
    """

    id: int
    time: float
    kind: str
    text: str


class Quality(StrEnum):
    """Whether a face got a label, else why not: the `quality` of a reading.

    NO_FACE is a photograph without a face, in what a run prints and writes to files.
    """

    GOOD = "good"
    UNCERTAIN = "uncertain"
    TOO_SMALL = "too small"
    TURNED_AWAY = "turned away"
    BLURRED = "blurred"
    NO_FACE = "no face"
