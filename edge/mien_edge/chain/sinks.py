"""The terminal as a sink: it takes the readings of each frame, never pixels, and is closed once."""

import sys
from typing import TextIO

from mien_edge.formats import line
from mien_edge.values import Reading

_REPEAT_SECONDS = 1.0  # after which the console prints a face again


class Console:
    """Prints a line when a face's label or quality changes, once a second for a face that stays,
    and when no face is left.

    out: a text stream; None for standard output.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._printed: dict[tuple[str, int], tuple[float, str]] = {}
        self._was_empty = False

    def __call__(self, readings: tuple[Reading, ...]) -> None:
        """Print what has changed."""
        if not readings and not self._was_empty:
            self._print("no face")
        self._was_empty = not readings
        for reading in readings:
            self._print_reading(reading)

    def _print_reading(self, reading: Reading) -> None:
        verdict = reading.label or f"({reading.quality})"
        face = (reading.source, reading.track)
        printed_at, printed_verdict = self._printed.get(face, (float("-inf"), ""))
        is_due = abs(reading.source_time - printed_at) >= _REPEAT_SECONDS
        if verdict != printed_verdict or is_due:
            self._printed[face] = (reading.source_time, verdict)
            self._print(line(reading))

    def _print(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()

    def close(self) -> None:
        """Do nothing: the stream is not the console's own."""


class StandardOutput:
    """Standard output, flushed at each write: what follows readings in a pipe gets them at once."""

    def write(self, text: str) -> None:
        """Print whole lines."""
        sys.stdout.write(text)
        sys.stdout.flush()

    def close(self) -> None:
        """Do nothing: the stream is not ours."""
