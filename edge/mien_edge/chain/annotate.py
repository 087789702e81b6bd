"""Annotated pictures and videos: box, number, label, confidence, and every probability as a bar.

These hold pixels, so they are made only when a person asks for a file with --annotate.
"""

from pathlib import Path
from typing import NamedTuple

import cv2

from mien_edge import files
from mien_edge.drawing import COLOURS, NO_LABEL, save
from mien_edge.errors import SinkError
from mien_edge.values import Box, Emotion, Frame, Pixels, Reading

Colour = tuple[int, int, int]
"""Blue, green and red, 0 to 255."""

_MIN_SIDE = 480  # pixels; smaller pictures are enlarged, and all sizes are for this height
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_TITLE_SIZE = 0.55  # of the font
_TITLE_INK = (20, 20, 20)

_NAME_SIZE = 0.4  # of the font, for the names of the bars
_NAME_WIDTH = 64  # pixels
_BAR_WIDTH = 70
_ROW_HEIGHT = 16
_PAD = 5
_PANEL_BRIGHTNESS = 0.3  # of the picture behind the bars
_WHITE = (255, 255, 255)

_CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}


def draw_readings(image: Pixels, readings: tuple[Reading, ...]) -> Pixels:
    """Draw readings on a copy of the picture that they were made of.

    image: uint8, (height, width) gray or (height, width, 3) BGR; it is not changed.
    Returns (height, width, 3) BGR uint8, enlarged to at least 480 pixels a side.
    """
    factor = max(1.0, _MIN_SIDE / min(image.shape[:2]))
    canvas = _Canvas(_enlarged_copy(image, factor))
    for reading in readings:
        face = _Rectangle.around(reading.box.scaled(factor, factor))
        canvas.outline(face, _colour(reading.label))
        _draw_title(canvas, reading, face)
        if reading.emotion is not None:
            _draw_bars(canvas, reading.emotion, face)
    return canvas.picture


def _enlarged_copy(image: Pixels, factor: float) -> Pixels:
    """A BGR copy of a gray or BGR picture, `factor` (1 or more) times as wide and as high."""
    picture = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image.copy()
    if factor > 1:
        picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    return picture  # type: ignore[return-value]


class _Rectangle(NamedTuple):
    """Whole pixels of a picture; the right and lower edges belong to it."""

    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def around(cls, box: Box) -> "_Rectangle":
        right = box.x + box.width
        bottom = box.y + box.height
        return cls(round(box.x), round(box.y), round(right), round(bottom))


class _Canvas:
    """A BGR picture to draw on, whose lines, letters and gaps grow with its height."""

    def __init__(self, picture: Pixels) -> None:
        self.picture = picture
        self.height, self.width = picture.shape[:2]
        self.unit = max(self.height, _MIN_SIDE) / _MIN_SIDE

    def pixels(self, size: float) -> int:
        """How many pixels are as much here as `size` pixels in a picture 480 pixels high."""
        return round(size * self.unit)

    def outline(self, area: _Rectangle, colour: Colour) -> None:
        thickness = max(self.pixels(2), 1)
        cv2.rectangle(self.picture, area[:2], area[2:], colour, thickness, cv2.LINE_AA)

    def fill(self, area: _Rectangle, colour: Colour) -> None:
        cv2.rectangle(self.picture, area[:2], area[2:], colour, cv2.FILLED)

    def darken(self, left: int, top: int, width: int, height: int) -> None:
        panel = self.picture[top : top + height, left : left + width]
        panel[:] = (panel * _PANEL_BRIGHTNESS).astype(panel.dtype)

    def write(self, text: str, left: int, baseline: int, size: float, colour: Colour) -> None:
        origin = (left, baseline)
        scale = size * self.unit
        cv2.putText(self.picture, text, origin, _FONT, scale, colour, self._stroke, cv2.LINE_AA)

    def text_size(self, text: str, size: float) -> tuple[int, int, int]:
        """Width, height above the baseline, and depth below it, in pixels."""
        (width, height), depth = cv2.getTextSize(text, _FONT, size * self.unit, self._stroke)
        return width, height, depth

    @property
    def _stroke(self) -> int:
        return max(self.pixels(1), 1)


def _draw_title(canvas: _Canvas, reading: Reading, face: _Rectangle) -> None:
    """Number, label and confidence on the upper edge of the face, inside of the picture."""
    title = _title(reading)
    text_width, text_height, text_depth = canvas.text_size(title, _TITLE_SIZE)
    pad = canvas.pixels(4)
    width = text_width + 2 * pad
    height = text_height + text_depth + 2 * pad
    left = _clamp(face.left, canvas.width - width)
    top = max(face.top - height, 0)
    label = _Rectangle(left, top, left + width, top + height)
    canvas.fill(label, _colour(reading.label))
    baseline = top + text_height + pad
    canvas.write(title, left + pad, baseline, _TITLE_SIZE, _TITLE_INK)


def _title(reading: Reading) -> str:
    if reading.label is None:
        return f"#{reading.track} {reading.quality}"
    if reading.emotion is None:
        return f"#{reading.track} {reading.label}"
    return f"#{reading.track} {reading.label} {reading.emotion.confidence:.0%}"


def _draw_bars(canvas: _Canvas, emotion: Emotion, face: _Rectangle) -> None:
    """The probabilities in a dark panel next to the face, on the side that has room."""
    row_height = canvas.pixels(_ROW_HEIGHT)
    pad = canvas.pixels(_PAD)
    width = canvas.pixels(_NAME_WIDTH) + canvas.pixels(_BAR_WIDTH) + 3 * pad
    height = row_height * len(emotion.labels) + 2 * pad
    left = face.right + pad
    if left + width > canvas.width:
        left = max(face.left - pad - width, 0)
    top = _clamp(face.top, canvas.height - height)
    canvas.darken(left, top, width, height)
    row_top = top + pad
    for label, score in zip(emotion.labels, emotion.scores, strict=True):
        _draw_bar(canvas, label, score, left + pad, row_top)
        row_top += row_height


def _draw_bar(canvas: _Canvas, label: str, score: float, left: int, top: int) -> None:
    """A row of the panel: the label's name, and a bar as long as its probability."""
    baseline = top + canvas.pixels(11)
    canvas.write(label, left, baseline, _NAME_SIZE, _WHITE)
    bar_left = left + canvas.pixels(_NAME_WIDTH) + canvas.pixels(_PAD)
    bar_width = max(round(canvas.pixels(_BAR_WIDTH) * score), 1)
    bar_top = top + canvas.pixels(2)
    bar_bottom = top + canvas.pixels(_ROW_HEIGHT) - canvas.pixels(4)
    bar = _Rectangle(bar_left, bar_top, bar_left + bar_width, bar_bottom)
    canvas.fill(bar, _colour(label))


def _clamp(value: int, high: int) -> int:
    """The nearest number to `value` from 0 to `high`; 0 where `high` is negative."""
    return max(min(value, high), 0)


def _colour(label: str | None) -> Colour:
    return COLOURS.get(label or "", NO_LABEL)


class Picture:
    """A watcher that writes the best frame of a run, annotated, to `path` when it is closed.

    The best has the most settled labels, then the largest faces that lie inside of the picture;
    the first of equals.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._best: _Candidate | None = None

    def __call__(self, frame: Frame, readings: tuple[Reading, ...]) -> None:
        """Remember the frame if it is the best so far."""
        rank = _rank(frame, readings)
        if self._best is None or rank > self._best.rank:
            self._best = _Candidate(rank, frame, readings)

    def close(self) -> None:
        """Write the picture, if there was a frame. Raises SinkError if that fails."""
        if self._best is not None:
            save(self.path, draw_readings(self._best.frame.image, self._best.readings))


class _Candidate(NamedTuple):
    rank: tuple[int, float]
    frame: Frame
    readings: tuple[Reading, ...]


def _rank(frame: Frame, readings: tuple[Reading, ...]) -> tuple[int, float]:
    """How many faces have a label, and the area of those of them that lie inside of the frame."""
    height, width = frame.image.shape[:2]
    picture = Box(0, 0, width, height)
    boxes = [reading.box for reading in readings if reading.label]
    area = sum(box.area for box in boxes if box.intersection(picture) == box)
    return len(boxes), area


class Folder:
    """A watcher that writes each photograph, annotated, to a folder: a.jpg becomes a.jpg.png."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, frame: Frame, readings: tuple[Reading, ...]) -> None:
        """Write one photograph. Raises SinkError if that fails."""
        name = frame.name or str(frame.index)
        save(self.path / f"{name}.png", draw_readings(frame.image, readings))

    def close(self) -> None:
        """Do nothing: each photograph is complete."""


class Video:
    """A watcher that writes every annotated frame to a video file; it appears when it is closed.

    path: ends in .mp4, .avi or .mkv, in any case.
    fps: frames per second of the file.

    All frames get the size of the first.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path = path
        self.fps = fps
        path.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = path.with_name(f".{path.stem}{path.suffix}")
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def __call__(self, frame: Frame, readings: tuple[Reading, ...]) -> None:
        """Append one frame. Raises SinkError if OpenCV cannot write the format."""
        picture = draw_readings(frame.image, readings)
        height, width = picture.shape[:2]
        if self._writer is None:
            self._size = (width, height)
            self._writer = self._open_writer()
        if (width, height) != self._size:
            picture = cv2.resize(picture, self._size)  # type: ignore[assignment]
        self._writer.write(picture)

    def _open_writer(self) -> cv2.VideoWriter:
        codec = cv2.VideoWriter.fourcc(*_CODECS[self.path.suffix.lower()])
        writer = cv2.VideoWriter(str(self._temporary), codec, self.fps, self._size)
        if not writer.isOpened():
            raise SinkError(f"{self.path}: OpenCV cannot write this video; name an .avi file")
        return writer

    def close(self) -> None:
        """Finish the video, if there was a frame."""
        if self._writer is not None:
            self._writer.release()
            files.sync(self._temporary)
            self._temporary.replace(self.path)


def annotator(path: Path, fps: float, many: bool, source: Path) -> Picture | Folder | Video:
    """The watcher that writes `path`.

    A video by its suffix (.mp4, .avi, .mkv), else a picture; without a suffix a folder.
    fps: frames per second of a video.
    many: whether frames are photographs, each of which may get a picture in a folder.
    source: what is read; nothing may be written over it or into it.

    Raises SinkError for a name without a format, and for one that would overwrite `source`.
    """
    target = path.resolve()
    if source.exists() and source.resolve() in (target, target.parent):
        raise SinkError(f"{path}: would overwrite what is read; name a place outside of {source}")
    if path.suffix.lower() in _CODECS:
        return Video(path, fps)
    if many and not path.suffix:
        return Folder(path)
    if not path.suffix:
        raise SinkError(f"{path}: name a .png or .jpg picture, or a .mp4 or .avi video")
    return Picture(path)
