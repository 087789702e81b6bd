"""Annotated pictures and videos: box, number, label, confidence, and every probability as a bar.

These hold pixels, so they are made only when a person asks for a file with --annotate.
"""

from pathlib import Path

import cv2

from mien_edge import files
from mien_edge.drawing import COLOURS, NO_LABEL, save
from mien_edge.errors import SinkError
from mien_edge.values import Box, Frame, Pixels, Reading

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_VIDEOS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}


def drawn(image: Pixels, readings: tuple[Reading, ...]) -> Pixels:
    """A BGR copy of `image` (gray or BGR), enlarged to at least 480 pixels a side, with the readings drawn on it."""
    picture = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image.copy()
    factor = max(1.0, 480 / min(picture.shape[:2]))
    if factor > 1:
        picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    unit = max(picture.shape[0], 480) / 480
    for reading in readings:
        _draw(picture, reading, factor, unit)  # type: ignore[arg-type]
    return picture  # type: ignore[return-value]


def _draw(picture: Pixels, reading: Reading, factor: float, unit: float) -> None:
    box = reading.box.scaled(factor, factor)
    left, top, right, bottom = round(box.x), round(box.y), round(box.x + box.width), round(box.y + box.height)
    colour = COLOURS.get(reading.label or "", NO_LABEL)
    cv2.rectangle(picture, (left, top), (right, bottom), colour, max(round(2 * unit), 1), cv2.LINE_AA)
    confidence = f" {reading.emotion.confidence:.0%}" if reading.emotion and reading.label else ""
    title = f"#{reading.track} {reading.label or reading.quality}{confidence}"
    _title(picture, title, (left, top), colour, unit)
    if reading.emotion:
        _bars(picture, reading, (left, right, top), unit)


def _title(picture: Pixels, title: str, corner: tuple[int, int], colour: tuple[int, int, int], unit: float) -> None:
    (width, height), below = cv2.getTextSize(title, _FONT, 0.55 * unit, max(round(unit), 1))
    pad = round(4 * unit)
    left = min(max(corner[0], 0), max(picture.shape[1] - width - 2 * pad, 0))
    top = max(corner[1] - height - below - 2 * pad, 0)
    cv2.rectangle(picture, (left, top), (left + width + 2 * pad, top + height + below + 2 * pad), colour, cv2.FILLED)
    place = left + pad, top + height + pad
    cv2.putText(picture, title, place, _FONT, 0.55 * unit, (20, 20, 20), max(round(unit), 1), cv2.LINE_AA)


def _bars(picture: Pixels, reading: Reading, sides: tuple[int, int, int], unit: float) -> None:
    """The probabilities in a dark panel beside the face, on the side that has room."""
    assert reading.emotion is not None  # noqa: S101 - the caller looked; this tells mypy
    left, right, top = sides
    row, name, bar, pad = round(16 * unit), round(64 * unit), round(70 * unit), round(5 * unit)
    width, height = name + bar + 3 * pad, row * len(reading.emotion.labels) + 2 * pad
    x = right + pad if right + pad + width <= picture.shape[1] else max(left - pad - width, 0)
    y = min(max(top, 0), max(picture.shape[0] - height, 0))
    panel = picture[y : y + height, x : x + width]
    panel[:] = (panel * 0.3).astype(panel.dtype)
    for i, (label, score) in enumerate(zip(reading.emotion.labels, reading.emotion.scores, strict=True)):
        base = y + pad + i * row
        place = x + pad, base + round(11 * unit)
        cv2.putText(picture, label, place, _FONT, 0.4 * unit, (255, 255, 255), max(round(unit), 1), cv2.LINE_AA)
        start = x + 2 * pad + name
        corner = start + max(round(bar * score), 1), base + row - round(4 * unit)
        cv2.rectangle(picture, (start, base + round(2 * unit)), corner, COLOURS.get(label, NO_LABEL), cv2.FILLED)


class Picture:
    """Keeps the frame with the most settled labels, then the largest whole faces; writes it to `path` at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._best: tuple[tuple[int, float], Frame, tuple[Reading, ...]] | None = None

    def __call__(self, frame: Frame, readings: tuple[Reading, ...]) -> None:
        """Look at a frame."""
        height, width = frame.image.shape[:2]
        labelled = [reading.box for reading in readings if reading.label]
        whole = [box.area for box in labelled if box.intersection(Box(0, 0, width, height)) == box]
        rank = len(labelled), sum(whole)
        if self._best is None or rank > self._best[0]:
            self._best = rank, frame, readings

    def close(self) -> None:
        """Write the picture. Raises SinkError if that fails."""
        if self._best is not None:
            _, frame, readings = self._best
            save(self.path, drawn(frame.image, readings))


class Folder:
    """Writes each photograph, annotated, to a folder: a.jpg becomes a.jpg.png."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, frame: Frame, readings: tuple[Reading, ...]) -> None:
        """Write one photograph."""
        single = Picture(self.path / f"{frame.name or frame.index}.png")
        single(frame, readings)
        single.close()

    def close(self) -> None:
        """Nothing is open."""


class Video:
    """Writes every annotated frame to a video file, which appears whole at the end."""

    def __init__(self, path: Path, fps: float) -> None:
        self.path, self.fps = path, fps
        path.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = path.with_name(f".{path.stem}{path.suffix}")
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def __call__(self, frame: Frame, readings: tuple[Reading, ...]) -> None:
        """Append one frame. Raises SinkError if OpenCV cannot write the format."""
        picture = drawn(frame.image, readings)
        if self._writer is None:
            self._size = picture.shape[1::-1]
            code = cv2.VideoWriter.fourcc(*_VIDEOS[self.path.suffix.lower()])
            self._writer = cv2.VideoWriter(str(self._temporary), code, self.fps, self._size)
            if not self._writer.isOpened():
                self._writer = None
                raise SinkError(f"{self.path}: OpenCV cannot write this video; name an .avi file")
        if picture.shape[1::-1] != self._size:
            picture = cv2.resize(picture, self._size)  # type: ignore[assignment]
        self._writer.write(picture)

    def close(self) -> None:
        """Finish the video."""
        if self._writer is not None:
            self._writer.release()
            files.sync(self._temporary)
            self._temporary.replace(self.path)


def annotator(path: Path, fps: float, many: bool, source: Path) -> Picture | Folder | Video:
    """What writes `path`: a video by its suffix, a folder for many photographs, else a single picture.

    Raises SinkError for a name without format, and for one that would overwrite `source` or lies in it.
    """
    if source.exists() and source.resolve() in (path.resolve(), path.resolve().parent):
        raise SinkError(f"{path}: would overwrite what is read; name a place outside of {source}")
    if path.suffix.lower() in _VIDEOS:
        return Video(path, fps)
    if many and not path.suffix:
        return Folder(path)
    if not path.suffix:
        raise SinkError(f"{path}: name a .png or .jpg picture, or a .mp4 or .avi video")
    return Picture(path)
