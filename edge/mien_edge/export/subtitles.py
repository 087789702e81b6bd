"""Subtitles: WebVTT (W3C, WebVTT: The Web Video Text Tracks Format) and SubRip (.srt)."""

from collections.abc import Callable
from dataclasses import dataclass

from mien_edge.export.spans import FrameTime, Span, Spans, Timeline, verdict
from mien_edge.export.textfile import LineFile, LineFormat
from mien_edge.values import Reading


@dataclass(frozen=True, slots=True)
class SubtitleFormat:
    """A format of subtitles.

    lines: its header.
    cue: writes one; called with its number from 1 on and what it shows when.
    """

    lines: LineFormat
    cue: Callable[[int, Span], str]


def _vtt_cue(number: int, span: Span) -> str:
    return f"{_clock(span.start, '.')} --> {_clock(span.end, '.')}\n{span.text}\n\n"


def _srt_cue(number: int, span: Span) -> str:
    return f"{number}\n{_clock(span.start, ',')} --> {_clock(span.end, ',')}\n{span.text}\n\n"


def _clock(milliseconds: int, separator: str) -> str:
    """Return 01:02:03.004."""
    seconds, thousandths = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{separator}{thousandths:03d}"


VTT = SubtitleFormat(LineFormat("WEBVTT\n\n", bool), _vtt_cue)
SRT = SubtitleFormat(LineFormat("", bool), _srt_cue)


class Subtitles:
    """Writes a cue with a line per face, from one change of any face to the next.

    file: where cues go, each whole as soon as it has ended; closed at the end.
    per_frame: a cue for each frame instead.

    Cues follow each other and never overlap, so that each player shows them.
    """

    def __init__(self, file: LineFile, subtitle_format: SubtitleFormat, per_frame: bool) -> None:
        self._file = file
        self._cue = subtitle_format.cue
        self._timeline = Timeline()
        self._spans = Spans(per_frame)
        self._cues = 0

    def __call__(self, frame: FrameTime, readings: tuple[Reading, ...]) -> None:
        """Take the readings of a frame. Raises SinkError."""
        end_before, begin = self._timeline.advance(frame)
        if end_before < begin:
            self._write(self._spans.change(end_before, ""))
        lines = [f"face {reading.track}: {verdict(reading)}" for reading in readings]
        self._write(self._spans.change(begin, "\n".join(lines)))

    def _write(self, span: Span | None) -> None:
        if span:
            self._cues += 1
            self._file.write(self._cue(self._cues, span))

    def close(self) -> None:
        """Write the last cue and close the file. Raises SinkError."""
        try:
            self._write(self._spans.change(self._timeline.end, ""))
        finally:
            self._file.close()
