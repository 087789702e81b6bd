"""What people name to be read: photographs, videos, folders of them, and globs.

A folder is read with its sub-folders, in the order of the names. In it every picture counts, by its
content, and every video, by its suffix; a file that has a picture's suffix and holds none is
skipped and counted. Left out without a word: hidden files and folders (.DS_Store, and ._a.jpg, the
AppleDouble half of a.jpg), labels.csv, Thumbs.db, desktop.ini, and the folders __MACOSX and @eaDir.
Other files, pipes, sockets and devices are left out, and named in one line; so they are where
several paths are named, for a shell makes such of photos/*. A link to a file is followed, one to a
folder inside of a folder is not, for it may lead back.
"""

import glob
import logging
import os
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mien_edge.addresses import mask_address
from mien_edge.chain.photos import PICTURE_SUFFIXES, is_picture, picture_count, read_photo
from mien_edge.chain.video import Video
from mien_edge.errors import SourceError
from mien_edge.text import file_name
from mien_edge.values import Frame

_VIDEO_SUFFIXES = frozenset([
    ".3gp", ".avi", ".flv", ".h264", ".h265", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov",
    ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv",
])  # fmt: skip
_SILENT_FILES = {"labels.csv", "thumbs.db", "desktop.ini"}
_SILENT_FOLDERS = {"__macosx", "@eadir"}
_MAX_NAMED = 3  # files that are left out, in the line that says so
_NOT_FILES = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

_log = logging.getLogger("mien.source")


@dataclass(frozen=True, slots=True)
class MediaFile:
    """A photograph or a video.

    name: what readings call it: its path from the folder that was named, or from the nearest
        folder that holds all that was named.
    """

    path: Path
    name: str
    is_video: bool


class Files:
    """Photographs and videos, one after the other; see find_media for which, and their names.

    names: paths and globs, one or more.
    paths: the files and folders that were named.
    skipped: photographs and videos that could not be read.
    failed_reads: the places where videos are damaged.

    A photograph is one frame, whose index is its place among all files; a video's frames count from
    0. A file that cannot be read is logged and skipped. Raises SourceError if there is no file, and
    at the end if none could be read.
    """

    live = False

    def __init__(self, names: Sequence[str]) -> None:
        self.paths = tuple(path for name in names for path in _expand(name))
        self.files = find_media(self.paths)
        self.skipped = 0
        self.failed_reads = 0
        self._video: Video | None = None  # that is being read

    @property
    def fps(self) -> float:
        """Frames per second of the video that is being read (Video.fps); 0 before the first."""
        return self._video.fps if self._video else 0.0

    def __iter__(self) -> Iterator[Frame]:
        problems = []
        for index, file in enumerate(self.files):
            try:
                if file.is_video:
                    yield from self._read_video(file)
                else:
                    yield self._read_photo(file, index)
            except SourceError as problem:
                problems.append(problem)
                self.skipped += 1
                if len(self.files) > 1:
                    _log.warning("skipped: %s", problem)
        if len(problems) == 1 == len(self.files):
            raise problems[0]
        if len(problems) == len(self.files):
            count = len(problems)
            raise SourceError(f"none of {count} files could be read; see the lines above")

    def _read_photo(self, file: MediaFile, index: int) -> Frame:
        image = read_photo(file.path)
        count = picture_count(file.path)
        if count > 1:
            fix = "for all of them make a video of it"
            _log.warning("%s: the first of %d pictures is read; %s", file.path, count, fix)
        return Frame(image, index, time.time(), file_name(file.name))

    def _read_video(self, file: MediaFile) -> Iterator[Frame]:
        _refuse_unreadable(file.path)
        video = Video(file.path)
        self._video = video
        for frame in video:
            yield replace(frame, name=file.name)
        self.failed_reads += video.failed_reads


def _expand(name: str) -> list[Path]:
    """The path, or what a glob matches, in the order of the names."""
    if os.path.exists(name):  # Path.exists raises OSError for a name that is too long
        return [Path(name)]
    if not glob.has_magic(name):
        hint = "name a photo, a folder, a video, demo, picamera, v4l2:0 or rtsp://…"
        raise SourceError(f"{mask_address(name)}: no such source; {hint}")
    matches = sorted(glob.glob(name, recursive=True))
    if not matches:
        raise SourceError(f"{mask_address(name)}: matches no file; check the pattern")
    return [Path(match) for match in matches]


def find_media(paths: Sequence[Path]) -> list[MediaFile]:
    """The photographs and videos among `paths`, and in those of them that are folders.

    Each file once, in the order in which it was named; a folder's in the order of their names. A
    file that is named alone is a video if it is no picture. What is left out is logged in one line.

    Raises SourceError if nothing is left, and for a pipe, a socket or a device that is named alone.
    """
    root = _root(paths)
    is_alone = len(paths) == 1 and not paths[0].is_dir()
    if is_alone:
        _refuse_special(paths[0])
        _refuse_unreadable(paths[0])
    media: dict[str, MediaFile] = {}
    others: list[Path] = []
    for file in _files(paths):
        kind = _kind(file)
        if kind == "other" and not is_alone:
            others.append(file)
            continue
        absolute = os.path.abspath(file)
        name = file_name(os.path.relpath(absolute, root))
        media.setdefault(absolute, MediaFile(file, name, kind != "photo"))
    if others:
        _log_others(others)
    if not media:
        where = str(paths[0]) if len(paths) == 1 else "what was named"
        reason = "no photograph and no video, in sub-folders neither"
        raise SourceError(f"{where}: {reason}; name another folder or file")
    return list(media.values())


def _root(paths: Sequence[Path]) -> str:
    if len(paths) == 1 and paths[0].is_dir():
        return os.path.abspath(paths[0])
    return os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """The files among `paths`, and those of the folders; without what is silent."""
    for path in paths:
        if path.is_dir():
            yield from _folder_files(path)
        elif not (len(paths) > 1 and _is_silent(path.name, _SILENT_FILES)):
            yield path


def _folder_files(folder: Path) -> list[Path]:
    """What a folder and its sub-folders hold, in the order of the paths; not what is silent."""
    files: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=_log_folder):
        folders[:] = [name for name in folders if not _is_silent(name, _SILENT_FOLDERS)]
        files += [Path(place, name) for name in names if not _is_silent(name, _SILENT_FILES)]
    return sorted(files)


def _is_silent(name: str, silent: set[str]) -> bool:
    return name.startswith(".") or name.lower() in silent


def _log_folder(problem: OSError) -> None:
    _log.warning("%s: cannot be read (%s); left out", problem.filename, problem.strerror)


def _kind(path: Path) -> Literal["photo", "video", "other"]:
    """What a file is; a link that leads nowhere is what its name promises."""
    suffix = path.suffix.lower()
    if path.exists() and not path.is_file():
        return "other"
    if suffix in _VIDEO_SUFFIXES:
        return "video"
    if suffix in PICTURE_SUFFIXES or is_picture(path):
        return "photo"
    return "other"


def _refuse_special(path: Path) -> None:
    """Refuse what is no regular file: to open a pipe would wait for its other end."""
    kind = _NOT_FILES.get(stat.S_IFMT(path.stat().st_mode))
    if kind is None:
        return
    hint = "name a file, or a camera as v4l2:/dev/video0"
    raise SourceError(f"{path}: {kind}, not a file; {hint}")


def _refuse_unreadable(path: Path) -> None:
    """Say why a file cannot be opened, which OpenCV does not."""
    try:
        path.open("rb").close()
    except OSError as problem:
        raise SourceError(f"{path}: cannot be read ({problem.strerror}); check the file") from None


def _log_others(others: Sequence[Path]) -> None:
    names = ", ".join(str(path) for path in others[:_MAX_NAMED])
    more = ", …" if len(others) > _MAX_NAMED else ""
    text = "left out, neither picture nor video: %d (%s%s)"
    _log.warning(text, len(others), names, more)
