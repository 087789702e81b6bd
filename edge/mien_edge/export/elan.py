"""Annotation tiers for ELAN (Max Planck Institute for Psycholinguistics): EAF 3.0.

The elements and their order are those of the schema http://www.mpi.nl/tools/elan/EAFv3.0.xsd.
"""

import html
import mimetypes
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from mien_edge import __version__
from mien_edge.export.spans import FrameTime, Span, Spans, Timeline, verdict
from mien_edge.export.textfile import not_writable
from mien_edge.files import atomic_write
from mien_edge.values import Reading

_SAVE_INTERVAL = 30.0  # seconds
_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"


class ElanTiers:
    """Writes a tier per face, with an annotation from each change of its label to the next.

    path: written anew every half minute and at the end, each time whole.
    media: the video that the tiers belong to; None for a camera.
    per_frame: an annotation for each frame instead.
    monotonic: the clock of the half minutes, in seconds.

    All annotations are in memory, some hundred bytes for each.
    """

    def __init__(
        self,
        path: Path,
        media: Path | None,
        per_frame: bool,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._media = media
        self._per_frame = per_frame
        self._monotonic = monotonic
        self._saved_at = monotonic()
        self._timeline = Timeline()
        self._spans: dict[int, Spans] = {}
        self._tiers: dict[int, list[Span]] = {}

    def __call__(self, frame: FrameTime, readings: tuple[Reading, ...]) -> None:
        """Take the readings of a frame. Raises SinkError."""
        end_before, begin = self._timeline.advance(frame)
        if end_before < begin:
            self._end_all(end_before)
        states = {reading.track: verdict(reading) for reading in readings}
        for track in states.keys() | self._spans.keys():
            self._change(track, begin, states.get(track, ""))
        if self._monotonic() - self._saved_at >= _SAVE_INTERVAL:
            self._save()

    def _end_all(self, seconds: float) -> None:
        for track in list(self._spans):
            self._change(track, seconds, "")

    def _change(self, track: int, seconds: float, text: str) -> None:
        spans = self._spans.setdefault(track, Spans(self._per_frame))
        span = spans.change(seconds, text)
        if span:
            self._tiers.setdefault(track, []).append(span)
        if not text:
            del self._spans[track]

    def _save(self) -> None:
        try:
            with atomic_write(self._path) as temporary:
                self._write_lines(temporary)
        except OSError as problem:
            raise not_writable(self._path, problem) from None
        self._saved_at = self._monotonic()

    def _write_lines(self, path: Path) -> None:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        yield '<?xml version="1.0" encoding="UTF-8"?>'
        yield (
            f'<ANNOTATION_DOCUMENT AUTHOR="mien {__version__}" DATE="{now}" FORMAT="3.0" '
            f'VERSION="3.0" xmlns:xsi="{_INSTANCE}" xsi:noNamespaceSchemaLocation="{_SCHEMA}">'
        )
        yield '<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">'
        yield from self._media_lines()
        yield "</HEADER>"
        yield from self._time_lines()
        yield from self._tier_lines()
        yield '<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="expression" TIME_ALIGNABLE="true"/>'
        yield "</ANNOTATION_DOCUMENT>"

    def _media_lines(self) -> Iterator[str]:
        if self._media is None:
            return
        url = _quoted(self._media.absolute().as_uri())
        kind = mimetypes.guess_type(self._media.name)[0] or "unknown"
        relative = os.path.relpath(self._media.absolute(), self._path.absolute().parent)
        relative_url = _quoted("./" + quote(os.fsencode(relative)))
        yield (
            f'<MEDIA_DESCRIPTOR MEDIA_URL={url} MIME_TYPE="{kind}" '
            f"RELATIVE_MEDIA_URL={relative_url}/>"
        )

    def _time_lines(self) -> Iterator[str]:
        """Two slots for each annotation, in the order of time."""
        slots = []
        for number, span in enumerate(self._all_spans(), 1):
            slots += [(span.start, f"ts{2 * number - 1}"), (span.end, f"ts{2 * number}")]
        yield "<TIME_ORDER>"
        for moment, name in sorted(slots):
            yield f'<TIME_SLOT TIME_SLOT_ID="{name}" TIME_VALUE="{moment}"/>'
        yield "</TIME_ORDER>"

    def _all_spans(self) -> Iterator[Span]:
        for track in sorted(self._tiers):
            yield from self._tiers[track]

    def _tier_lines(self) -> Iterator[str]:
        number = 0
        for track in sorted(self._tiers):
            yield f'<TIER LINGUISTIC_TYPE_REF="expression" TIER_ID="face {track}">'
            for span in self._tiers[track]:
                number += 1
                yield (
                    f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{number}" '
                    f'TIME_SLOT_REF1="ts{2 * number - 1}" TIME_SLOT_REF2="ts{2 * number}">'
                    f"<ANNOTATION_VALUE>{html.escape(span.text, quote=False)}</ANNOTATION_VALUE>"
                    "</ALIGNABLE_ANNOTATION></ANNOTATION>"
                )
            yield "</TIER>"

    def close(self) -> None:
        """End all annotations and write the file. Raises SinkError."""
        self._end_all(self._timeline.end)
        self._save()


def _quoted(value: str) -> str:
    """An attribute's value in XML; xml.sax.saxutils would load the HTTP client and ssl."""
    return f'"{html.escape(value)}"'
