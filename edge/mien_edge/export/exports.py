"""The files that a run by hand writes: which format each has, and whether it may be written."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mien_edge.errors import SinkError
from mien_edge.export.lines import CSV, JSON_LINES, Csv, JsonLines
from mien_edge.export.textfile import Existing, LineFile, check_existing
from mien_edge.values import Reading

SUFFIXES = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
"""The format of a file by its suffix, in lower case."""


class Exporter(Protocol):
    """A sink that writes a file: called with the readings of each frame, closed at the end."""

    def __call__(self, readings: tuple[Reading, ...]) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Export:
    """A file to write.

    format: one of the values of SUFFIXES.
    """

    path: Path
    format: str

    @classmethod
    def by_suffix(cls, path: Path) -> "Export":
        """Return the export whose format the file's suffix names. Raises SinkError for others."""
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            raise SinkError(f"{path}: no format to export; name a file in {', '.join(SUFFIXES)}")
        return cls(path, SUFFIXES[suffix])


_CHECKS: dict[str, Callable[[Path, Existing], None]] = {
    "csv": lambda path, existing: check_existing(path, CSV, existing),
    "jsonl": lambda path, existing: check_existing(path, JSON_LINES, existing),
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
        _CHECKS[export.format](export.path, existing)


def _identity(path: Path) -> Path | tuple[int, int]:
    """Equal for two names of one file."""
    try:
        status = path.stat()
    except OSError:
        return path.absolute()
    return status.st_dev, status.st_ino


def open_export(export: Export, existing: Existing) -> Exporter:
    """Open a file to write. Raises SinkError if it may not be written, or cannot be."""
    if export.format == "csv":
        return Csv(LineFile(export.path, CSV, existing))
    return JsonLines(LineFile(export.path, JSON_LINES, existing))
