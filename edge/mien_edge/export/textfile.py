"""Text files that readings are appended to line by line: one that only grows, for a run by hand,
and one of bounded size, for the service.
"""

import errno
import fcntl
import logging
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mien_edge import files
from mien_edge.errors import SinkError
from mien_edge.events import EventKind, OnEvent, ignore_event

_MAX_LINE_BYTES = 65536  # a reading takes some 400

_log = logging.getLogger("mien.export")


class Existing(StrEnum):
    """What is done with a file that is there already and not empty."""

    REFUSE = "refuse"
    APPEND = "append"
    OVERWRITE = "overwrite"


@dataclass(frozen=True, slots=True)
class LineFormat:
    """How a file of one format is told from a foreign one.

    header: its first line with the line break; empty for a format without.
    is_line: whether a line, without its break, can be one of this format.
    is_sibling: whether a first line, without its break, is the header of such a file with other
        columns.
    """

    header: str
    is_line: Callable[[str], bool]
    is_sibling: Callable[[str], bool] = lambda line: False


@dataclass(frozen=True, slots=True)
class Rotation:
    """The bounds of a rotated file.

    max_bytes: of one file.
    max_files: files that are kept, the current one included; 0 for all.
    """

    max_bytes: int
    max_files: int


def has_content(path: Path) -> bool:
    """Whether a plain file with content is at `path`. Raises SinkError for a folder, and where
    nothing can be written.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        _check_folder(path)
        return False
    except OSError as problem:
        raise not_writable(path, problem) from None
    if stat.S_ISDIR(status.st_mode):
        raise SinkError(f"{path}: a folder; name a file")
    if not os.access(path, os.W_OK):
        raise SinkError(f"{path}: you may not write it; choose another file")
    return stat.S_ISREG(status.st_mode) and status.st_size > 0


def _check_folder(path: Path) -> None:
    """Raise SinkError unless a file can be made at `path`, with its folders."""
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise SinkError(f"{path}: {folder} is no folder; choose another file")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SinkError(f"{path}: you may not write in {folder}; choose another file")


def check_existing(path: Path, line_format: LineFormat, existing: Existing) -> None:
    """Raise SinkError unless a file at `path` may be written as `existing` says."""
    if not has_content(path) or existing is Existing.OVERWRITE:
        return
    if existing is Existing.REFUSE:
        hint = "add --append or --overwrite, or name another file"
        raise SinkError(f"{path}: is there already; {hint}")
    try:
        problem = _mismatch(path, line_format)
        if not problem and _partial_bytes(path):
            problem = "its last line has no end; complete or remove that line"
    except OSError as error:
        raise SinkError(f"{path}: cannot be read ({error.strerror}); choose another file") from None
    if problem:
        hint = "name another file, or replace it with --overwrite"
        raise SinkError(f"{path}: nothing is appended, for {problem}; {hint}")


def check_new(path: Path, existing: Existing) -> None:
    """Raise SinkError unless a file that cannot be appended to may be written as a whole."""
    if not has_content(path) or existing is Existing.OVERWRITE:
        return
    problem = "is there already"
    if existing is Existing.APPEND:
        problem = "a file of this format cannot be continued"
    raise SinkError(f"{path}: {problem}; name another file, or replace it with --overwrite")


def _mismatch(path: Path, line_format: LineFormat) -> str:
    """Why a file is none of this format; '' if it is one. Raises OSError."""
    first = first_line(path)
    if line_format.header and first != line_format.header:
        columns = line_format.header.rstrip("\n")
        return f"its first line is not: {columns}"
    last = _last_line(path)
    is_header = bool(line_format.header) and last == line_format.header.rstrip("\n")
    is_first = line_format.header or line_format.is_line(first.rstrip("\n"))
    if is_first and (is_header or line_format.is_line(last)):
        return ""
    return "its lines are not those of this version's readings"


def first_line(path: Path) -> str:
    """Return the first line of a file with its break; '' for an empty one. Raises OSError."""
    with path.open("rb") as file:
        return file.readline(_MAX_LINE_BYTES).decode(errors="replace")


def _last_line(path: Path) -> str:
    """The last whole line without its break. Raises OSError."""
    tail = _tail(path)
    end = tail.rfind(b"\n")
    begin = tail.rfind(b"\n", 0, max(end, 0)) + 1
    return tail[begin : max(end, 0)].decode(errors="replace")


def _partial_bytes(path: Path) -> int:
    """The length of what stands behind the last line break. Raises OSError."""
    tail = _tail(path)
    return len(tail) - (tail.rfind(b"\n") + 1)


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 2 * _MAX_LINE_BYTES, 0))
        return file.read()


def not_writable(path: Path, problem: OSError) -> SinkError:
    """Return the error of a file that cannot be written, which says why."""
    reason = os.strerror(problem.errno) if problem.errno else str(problem)
    hint = "free some space" if problem.errno == errno.ENOSPC else "choose another file"
    return SinkError(f"{path}: cannot be written ({reason}); {hint}")


def lock(descriptor: int, path: Path) -> None:
    """Keep other runs from writing a file or folder until its descriptor is closed.

    Raises SinkError if another run does so already.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        hint = "wait for its end, or name another file"
        raise SinkError(f"{path}: another run writes it; {hint}") from None
    except OSError as problem:  # a network's file system may have no locks
        _log.debug("%s: not locked (%s)", path, problem)


class LineFile:
    """A text file that grows by whole lines, and of which nothing is ever removed.

    path: made with its folders; a pipe or a device will do.
    line_format: what an existing file must be to be appended to.
    existing: what is done with an existing file.

    A line that could not be written in full is cut off again. Raises SinkError if the file cannot
    be opened, is refused, or another process writes it.
    """

    def __init__(self, path: Path, line_format: LineFormat, existing: Existing) -> None:
        self.path = path
        self.header = line_format.header
        check_existing(path, line_format, existing)
        try:
            self._open()
            if existing is Existing.OVERWRITE and self._is_plain:
                self._file.truncate(0)
            self._begin()
        except OSError as problem:
            raise self._not_written(problem) from None

    def _open(self) -> None:
        files.make_folder(self.path.parent)
        self._file = self.path.open("ab", buffering=0)
        self._is_plain = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
        if self._is_plain:
            lock(self._file.fileno(), self.path)

    def _begin(self) -> None:
        if self.header and self._size() == 0:
            self._append(self.header.encode())

    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def write(self, text: str) -> None:
        """Append `text`, which ends with a line break. Raises SinkError, as on a full disk."""
        data = text.encode(errors="replace")
        try:
            self._make_room(len(data))
            self._append(data)
        except OSError as problem:
            raise self._not_written(problem) from None

    def _not_written(self, problem: OSError) -> SinkError:
        return problem if isinstance(problem, SinkError) else not_writable(self.path, problem)

    def begin_anew(self, line_format: LineFormat) -> None:
        """Raise SinkError: this file has one header, and what follows has other columns."""
        columns = line_format.header.rstrip("\n")
        raise SinkError(f"{self.path}: has no room for the columns {columns}; name another file")

    def _make_room(self, added_bytes: int) -> None:
        """Do nothing: this file only grows."""

    def _append(self, data: bytes) -> None:
        start = self._size()
        remaining = memoryview(data)
        try:
            while remaining:
                remaining = remaining[self._file.write(remaining) :]
        except OSError:
            if self._is_plain:
                self._file.truncate(start)
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class RotatingFile(LineFile):
    """A text file of bounded size that a service continues after a restart: a full FILE becomes
    FILE.1, FILE.1 becomes FILE.2, and so on.

    rotation: its bounds.
    on_event: informed, as the log is, when the oldest file is deleted or a foreign one moved.

    A file of another format that is in the way is renamed to FILE.old-N and never removed, one of
    this format with other columns becomes FILE.1; the part of a line that a power cut left at the
    end is cut off. Raises SinkError if the file cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        line_format: LineFormat,
        rotation: Rotation,
        on_event: OnEvent = ignore_event,
    ) -> None:
        self.path = path
        self.rotation = rotation
        self._on_event = on_event
        try:
            self._take_over(path, line_format)
        except SinkError:
            raise
        except OSError as problem:
            raise not_writable(path, problem) from None
        super().__init__(path, line_format, Existing.APPEND)

    def _take_over(self, path: Path, line_format: LineFormat) -> None:
        """Make a file that an earlier run left fit to be continued."""
        if not has_content(path):
            return
        is_sibling = line_format.is_sibling(first_line(path).rstrip("\n"))
        is_other = bool(_mismatch(path, line_format))
        if is_other and not is_sibling:
            self._move_aside(path)
            return
        partial_bytes = _partial_bytes(path)
        if partial_bytes:
            _log.warning("%s: its last line had no end and is cut off", path)
            os.truncate(path, path.stat().st_size - partial_bytes)
        if is_other:
            self._renumber()

    def _move_aside(self, path: Path) -> None:
        number = 1
        while path.with_name(f"{path.name}.old-{number}").exists():
            number += 1
        aside = path.with_name(f"{path.name}.old-{number}")
        path.rename(aside)
        text = f"{path} has other columns than this version writes: moved to {aside.name}"
        self._tell(EventKind.FILE_MOVED, text)

    def _tell(self, kind: EventKind, text: str) -> None:
        _log.warning("%s", text)
        self._on_event(kind, text)

    def _make_room(self, added_bytes: int) -> None:
        size = self._size()
        has_lines = size > len(self.header.encode())
        if has_lines and size + added_bytes > self.rotation.max_bytes:
            self._rotate()

    def begin_anew(self, line_format: LineFormat) -> None:
        """Go on in a new file with another header. Raises SinkError."""
        has_lines = self._size() > len(self.header.encode())
        self.header = line_format.header
        try:
            if has_lines:
                self._rotate()
            else:
                self._file.truncate(0)
                self._begin()
        except OSError as problem:
            raise self._not_written(problem) from None

    def _rotate(self) -> None:
        self._file.close()
        self._renumber()
        self._open()
        self._begin()

    def _renumber(self) -> None:
        """Give each file the next number, and delete what is too old."""
        numbers = self._numbers()
        for number in reversed(numbers):
            self._numbered(number).rename(self._numbered(number + 1))
        max_files = self.rotation.max_files
        excess = [number + 1 for number in numbers if number + 1 >= max_files > 0]
        for number in excess:
            self._numbered(number).unlink()
        if excess:
            files = "file" if len(excess) == 1 else f"{len(excess)} files"
            hint = "to keep more: sinks.max_files, sinks.max_megabytes"
            text = f"{self.path}: the oldest {files} of readings deleted to make room; {hint}"
            self._tell(EventKind.FILE_DELETED, text)

    def _numbers(self) -> list[int]:
        """The numbers of the files that are there, 0 for FILE itself."""
        prefix = f"{self.path.name}."
        names = [path.name for path in self.path.parent.iterdir() if path.name.startswith(prefix)]
        suffixes = [name.removeprefix(prefix) for name in names]
        numbers = [int(suffix) for suffix in suffixes if suffix.isascii() and suffix.isdigit()]
        plain = [number for number in numbers if self._numbered(number).is_file() and number > 0]
        return sorted({0, *plain})

    def _numbered(self, number: int) -> Path:
        """Return FILE for 0, and FILE.number for the older ones."""
        if number == 0:
            return self.path
        return self.path.with_name(f"{self.path.name}.{number}")
