"""The files that a run by hand writes: which format each has, and whether it may be written."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from mien_edge.errors import SinkError
from mien_edge.export.elan import ElanTiers
from mien_edge.export.lines import JSON_LINES, Csv, JsonLines, csv_format, csv_format_of
from mien_edge.export.parquet import Parquet, check_parquet
from mien_edge.export.spans import FrameTime
from mien_edge.export.subtitles import SRT, VTT, Subtitles
from mien_edge.export.textfile import (
    Existing,
    LineFile,
    check_existing,
    check_new,
    has_content,
    not_writable,
)
from mien_edge.labels import LABELS
from mien_edge.values import Reading

SUFFIXES = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".vtt": "vtt",
    ".srt": "srt",
    ".eaf": "eaf",
}
"""The format of a file by its suffix, in lower case."""


TIMED = frozenset({"vtt", "srt", "eaf"})
"""The formats of what lasts: their exporters are called with each frame's time."""


class Exporter(Protocol):
    """A sink that writes a file: called with the readings of each frame, closed at the end."""

    def __call__(self, readings: tuple[Reading, ...]) -> None: ...

    def close(self) -> None: ...


class TimedExporter(Protocol):
    """As Exporter, called with each frame's time as well, also where it has no face."""

    def __call__(self, frame: FrameTime, readings: tuple[Reading, ...]) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Export:
    """A file to write.

    format: one of the values of SUFFIXES.
    """

    path: Path
    format: str

    @property
    def is_timed(self) -> bool:
        """Whether it is opened by `open_timed` and not by `open_export`."""
        return self.format in TIMED

    @classmethod
    def by_suffix(cls, path: Path) -> "Export":
        """Return the export whose format the file's suffix names. Raises SinkError for others."""
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            raise SinkError(f"{path}: no format to export; name a file in {', '.join(SUFFIXES)}")
        return cls(path, SUFFIXES[suffix])


def _check_csv(path: Path, existing: Existing) -> None:
    """Raise SinkError unless a CSV file of any labels may be written: which is not known yet."""
    line_format = csv_format()
    if has_content(path) and existing is Existing.APPEND:
        try:
            line_format = csv_format_of(path)
        except OSError as problem:
            raise not_writable(path, problem) from None
    check_existing(path, line_format, existing)


_CHECKS: dict[str, Callable[..., None]] = {
    "csv": _check_csv,
    "jsonl": partial(check_existing, line_format=JSON_LINES),
    "parquet": check_parquet,
    "vtt": check_new,
    "srt": check_new,
    "eaf": check_new,
}


def check(exports: Sequence[Export], existing: Existing, inputs: Iterable[Path] = ()) -> None:
    """Raise SinkError unless all files may be written.

    existing: what is done with files that are there.
    inputs: what the run reads; an export over one of them is refused.
    """
    seen = {_identity(path): path for path in inputs}
    for export in exports:
        other = seen.get(_identity(export.path))
        if other is not None:
            raise SinkError(f"{export.path}: named twice, or read by this run; name another file")
        seen[_identity(export.path)] = export.path
        _CHECKS[export.format](export.path, existing=existing)


def _identity(path: Path) -> Path | tuple[int, int]:
    """Equal for two names of one file."""
    try:
        status = path.stat()
    except OSError:
        return path.absolute()
    return status.st_dev, status.st_ino


def open_export(export: Export, existing: Existing, labels: tuple[str, ...] = LABELS) -> Exporter:
    """Open a table to write. Raises SinkError if it may not be written, or cannot be.

    labels: of the readings, which get columns.
    """
    if export.format == "parquet":
        return Parquet(export.path, existing, labels=labels)
    if export.format == "csv":
        return Csv(LineFile(export.path, csv_format(labels), existing), labels)
    return JsonLines(LineFile(export.path, JSON_LINES, existing))


def open_timed(
    export: Export,
    existing: Existing,
    media: Path | None = None,
    per_frame: bool = False,
) -> TimedExporter:
    """Open subtitles or annotation tiers to write.

    media: the video that they belong to; None for a camera.
    per_frame: what is written lasts for one frame each, and not from change to change.

    Raises SinkError if the file may not be written, or cannot be.
    """
    check_new(export.path, existing)
    if export.format == "eaf":
        return ElanTiers(export.path, media, per_frame)
    subtitle_format = VTT if export.format == "vtt" else SRT
    file = LineFile(export.path, subtitle_format.lines, existing)
    return Subtitles(file, subtitle_format, per_frame)
