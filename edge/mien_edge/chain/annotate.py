"""Annotated pictures and videos: box, number, label, confidence, and every probability as a bar.

These hold pixels, so they are made only when a person asks for a file with --annotate.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2

from mien_edge.chain.encode import VIDEO_SUFFIXES, VideoFile, playable_path
from mien_edge.chain.panels import Size, free_corner, place_panels
from mien_edge.drawing import NO_LABEL, Colour, colours, save
from mien_edge.errors import SinkError
from mien_edge.values import Box, Emotion, Frame, Pixels, Reading

_MIN_SIDE = 480  # pixels; smaller pictures are enlarged, and all sizes are for this height
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_TITLE_SIZE = 0.55  # of the font
_TITLE_INK = (20, 20, 20)

_NAME_SIZE = 0.4  # of the font, for the names of the bars
_MIN_NAME_WIDTH = 64  # pixels
_BAR_WIDTH = 70
_ROW_HEIGHT = 16
_PAD = 5
_TITLE_PAD = 4
_GAP = 3  # pixels between a face and its panel
_SCALES = (1.0, 0.7, 0.5, 0.35)  # of a panel, where there is less room
_MIN_UNIT = 0.7  # smaller letters cannot be read
_PANEL_BRIGHTNESS = 0.3  # of the picture behind the bars
_WHITE = (255, 255, 255)

_log = logging.getLogger("mien.annotate")


def draw_readings(image: Pixels, readings: tuple[Reading, ...], may_grow: bool = True) -> Pixels:
    """Draw readings on a copy of the picture that they were made of.

    image: uint8, (height, width) gray or (height, width, 3) BGR; it is not changed.
    may_grow: whether a legend for which the picture has no room goes below it; else it is left
        out.

    Each face has a panel with its number, label, confidence and probabilities, as far as there is
    room next to it (panels.place_panels); in a crowd it has less, at last its number alone, and a
    line of the legend.
    Returns (height, width, 3) BGR uint8, enlarged to at least 480 pixels a side.
    """
    factor = max(1.0, _MIN_SIDE / min(image.shape[:2]))
    canvas = _Canvas(_enlarged_copy(image, factor))
    faces = [reading.box.scaled(factor, factor) for reading in readings]
    panels = [_panels(canvas, reading) for reading in readings]
    sizes = [[panel.size for panel in choices] for choices in panels]
    gap = canvas.unit * _GAP
    places = place_panels(faces, sizes, canvas.size, gap)
    for reading, face in zip(readings, faces, strict=True):
        canvas.outline(_Rectangle.around(face), _colour(reading))
    for choices, place in zip(panels, places, strict=True):
        choices[place.choice].draw(canvas, round(place.box.x), round(place.box.y))
    numbers = [
        reading
        for reading, choices, place in zip(readings, panels, places, strict=True)
        if isinstance(choices[place.choice], _Number)
    ]
    if numbers:
        obstacles = [*faces, *(place.box for place in places)]
        _draw_legend(canvas, numbers, obstacles, may_grow)
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
    """A BGR picture to draw on.

    unit: how many of its pixels are as much as one in a picture 480 pixels high.
    """

    def __init__(self, picture: Pixels) -> None:
        self.picture = picture
        self.height, self.width = picture.shape[:2]
        self.unit = max(self.height, _MIN_SIDE) / _MIN_SIDE

    @property
    def size(self) -> Size:
        return Size(self.width, self.height)

    def outline(self, area: _Rectangle, colour: Colour) -> None:
        thickness = _stroke(self.unit * 2)
        cv2.rectangle(self.picture, area[:2], area[2:], colour, thickness, cv2.LINE_AA)

    def fill(self, area: _Rectangle, colour: Colour) -> None:
        cv2.rectangle(self.picture, area[:2], area[2:], colour, cv2.FILLED)

    def darken(self, area: _Rectangle) -> None:
        part = self.picture[area.top : area.bottom + 1, area.left : area.right + 1]
        part[:] = (part * _PANEL_BRIGHTNESS).astype(part.dtype)

    def write(
        self, text: str, left: int, baseline: int, size: float, unit: float, colour: Colour
    ) -> None:
        origin = (left, baseline)
        scale = size * unit
        cv2.putText(self.picture, text, origin, _FONT, scale, colour, _stroke(unit), cv2.LINE_AA)

    def grow(self, height: int) -> None:
        """Add black rows at the lower edge."""
        self.picture = cv2.copyMakeBorder(  # type: ignore[assignment]
            self.picture, 0, height, 0, 0, cv2.BORDER_CONSTANT
        )


def _stroke(width: float) -> int:
    return max(round(width), 1)


def _text_size(text: str, size: float, unit: float) -> tuple[int, int, int]:
    """Width, height above the baseline, and depth below it, in pixels."""
    (width, height), depth = cv2.getTextSize(text, _FONT, size * unit, _stroke(unit))
    return width, height, depth


class _Title:
    """A line on the colour of the label: number, label and confidence.

    unit: pixels of the picture for one of a picture 480 pixels high.
    """

    def __init__(self, reading: Reading, unit: float) -> None:
        self.text = _title(reading)
        self.colour = _colour(reading)
        self.unit = unit
        width, self._ascent, depth = _text_size(self.text, _TITLE_SIZE, unit)
        self._pad = round(_TITLE_PAD * unit)
        self.size = Size(width + 2 * self._pad, self._ascent + depth + 2 * self._pad)

    def draw(self, canvas: _Canvas, left: int, top: int) -> None:
        self.draw_wide(canvas, left, top, self.size.width)

    def draw_wide(self, canvas: _Canvas, left: int, top: int, width: float) -> None:
        """Draw the line on an area of another width."""
        right = left + round(width) - 1
        bottom = top + round(self.size.height) - 1
        canvas.fill(_Rectangle(left, top, right, bottom), self.colour)
        baseline = top + self._ascent + self._pad
        canvas.write(self.text, left + self._pad, baseline, _TITLE_SIZE, self.unit, _TITLE_INK)


class _Number(_Title):
    """The face's number alone; the legend says the rest."""

    def __init__(self, reading: Reading, unit: float) -> None:
        numbered = replace(reading, quality="", label=None)
        super().__init__(numbered, unit)
        self.colour = _colour(reading)


class _Bars:
    """A title, and below it the probabilities on a darkened area: names and bars."""

    def __init__(self, reading: Reading, emotion: Emotion, unit: float) -> None:
        self.title = _Title(reading, unit)
        self.emotion = emotion
        self.unit = unit
        self._pad = self._pixels(_PAD)
        self._name_width = max(self._pixels(_MIN_NAME_WIDTH), *map(self._width, emotion.labels))
        rows_width = self._name_width + self._pixels(_BAR_WIDTH) + 3 * self._pad
        rows_height = self._pixels(_ROW_HEIGHT) * len(emotion.labels) + 2 * self._pad
        width = max(rows_width, self.title.size.width)
        self.size = Size(width, self.title.size.height + rows_height)

    def _pixels(self, size: float) -> int:
        return round(size * self.unit)

    def _width(self, label: str) -> int:
        width, _, _ = _text_size(label, _NAME_SIZE, self.unit)
        return width

    def draw(self, canvas: _Canvas, left: int, top: int) -> None:
        right = left + round(self.size.width) - 1
        bottom = top + round(self.size.height) - 1
        canvas.darken(_Rectangle(left, top, right, bottom))
        self.title.draw_wide(canvas, left, top, self.size.width)
        row_top = top + round(self.title.size.height) + self._pad
        for label, score in zip(self.emotion.labels, self.emotion.scores, strict=True):
            self._draw_row(canvas, label, score, left + self._pad, row_top)
            row_top += self._pixels(_ROW_HEIGHT)

    def _draw_row(self, canvas: _Canvas, label: str, score: float, left: int, top: int) -> None:
        """The label's name, and a bar as long as its probability."""
        baseline = top + self._pixels(11)
        canvas.write(label, left, baseline, _NAME_SIZE, self.unit, _WHITE)
        bar_left = left + self._name_width + self._pad
        bar_width = max(round(self._pixels(_BAR_WIDTH) * score), 1)
        bar_top = top + self._pixels(2)
        bar_bottom = top + self._pixels(_ROW_HEIGHT) - self._pixels(4)
        bar = _Rectangle(bar_left, bar_top, bar_left + bar_width, bar_bottom)
        canvas.fill(bar, colours(self.emotion.labels)[label])


def _panels(canvas: _Canvas, reading: Reading) -> list["_Bars | _Title"]:
    """The panels that a face may have, from the richest to the poorest."""
    units = [canvas.unit * scale for scale in _SCALES if canvas.unit * scale >= _MIN_UNIT]
    panels: list[_Bars | _Title] = []
    if reading.emotion is not None:
        panels += [_Bars(reading, reading.emotion, unit) for unit in units]
    panels += [_Title(reading, unit) for unit in units]
    panels.append(_Number(reading, units[-1]))
    return panels


def _draw_legend(
    canvas: _Canvas, readings: Sequence[Reading], obstacles: Sequence[Box], may_grow: bool
) -> None:
    """The titles of faces that have only their number: in a free corner, else below the picture."""
    titles = [_Title(reading, canvas.unit * _SCALES[1]) for reading in readings]
    width = max(title.size.width for title in titles)
    height = max(title.size.height for title in titles)
    corner = free_corner(Size(width, height * len(titles)), canvas.size, obstacles)
    if corner is not None:
        for row, title in enumerate(titles):
            top = round(corner.y + row * height)
            title.draw_wide(canvas, round(corner.x), top, width)
    elif may_grow:
        columns = max(int(canvas.width // width), 1)
        rows = -(-len(titles) // columns)
        canvas.grow(round(rows * height))
        for number, title in enumerate(titles):
            left = round(number % columns * width)
            top = round(canvas.height + number // columns * height)
            title.draw(canvas, left, top)


def _title(reading: Reading) -> str:
    if reading.label is None:
        return f"#{reading.track} {reading.quality}".rstrip()
    if reading.emotion is None:
        return f"#{reading.track} {reading.label}"
    return f"#{reading.track} {reading.label} {reading.emotion.confidence:.0%}"


def _colour(reading: Reading) -> Colour:
    if reading.label is None:
        return NO_LABEL
    labels = reading.emotion.labels if reading.emotion else (reading.label,)
    return colours(labels).get(reading.label, NO_LABEL)


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
    """A watcher that writes each photograph and video, annotated, to a folder.

    a.jpg becomes a.jpg.png, and a.mov becomes a.mov.mp4; sub-folders stay sub-folders.

    frame_rate: returns the frames per second of the video that is being read.
    """

    def __init__(self, path: Path, frame_rate: Callable[[], float]) -> None:
        self.path = path
        self.frame_rate = frame_rate
        self._video: Video | None = None
        self._name = ""

    def __call__(self, frame: Frame, readings: tuple[Reading, ...]) -> None:
        """Write one photograph, or a frame of a video. Raises SinkError if that fails."""
        if frame.name != self._name:
            self.close()
            self._name = frame.name
        if frame.position is None:
            path = self.path / f"{frame.name}.png"
            save(path, draw_readings(frame.image, readings))
            return
        if self._video is None:
            self._video = Video(self.path / f"{frame.name}.mp4", self.frame_rate)
        self._video(frame, readings)

    def close(self) -> None:
        """Finish the video that is being written. Raises SinkError if that fails."""
        if self._video is not None:
            self._video.close()
            self._video = None


class Video:
    """A watcher that writes every annotated frame to a video file; it appears when it is closed.

    path: ends in one of encode.VIDEO_SUFFIXES, in any case; encode.playable_path says where it is
        written.
    frame_rate: returns the file's frames per second, when the first frame has come.

    All frames get the size of the first.
    """

    def __init__(self, path: Path, frame_rate: Callable[[], float]) -> None:
        self.path = playable_path(path)
        self.frame_rate = frame_rate
        self._file: VideoFile | None = None
        if self.path != path:
            text = "%s: H.264 needs the program ffmpeg (sudo apt install ffmpeg); written as %s"
            _log.warning(text, path, self.path)

    def __call__(self, frame: Frame, readings: tuple[Reading, ...]) -> None:
        """Append one frame. Raises SinkError if that fails."""
        if self._file is None:
            self._file = VideoFile(self.path, self.frame_rate())
        picture = draw_readings(frame.image, readings, may_grow=False)
        self._file.write(picture, frame.position)

    def close(self) -> None:
        """Finish the video, if there was a frame. Raises SinkError if that fails."""
        if self._file is not None:
            self._file.close()


def annotator(
    path: Path,
    frame_rate: Callable[[], float],
    sources: Sequence[Path],
) -> Picture | Folder | Video:
    """The watcher that writes `path`.

    A video by its suffix (encode.VIDEO_SUFFIXES), else a picture; without a suffix a folder.
    frame_rate: returns the frames per second of a video.
    sources: the files and folders that are read, each of which gets a picture or a video in a
        folder; nothing may be written over them or into them. None for a camera.

    Raises SinkError for a name without a format, and for one that would overwrite a source.
    """
    target = path.resolve()
    for source in sources:
        if target.is_relative_to(source.resolve()):
            hint = f"name a place outside of {source}"
            raise SinkError(f"{path}: would overwrite what is read; {hint}")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return Video(path, frame_rate)
    if sources and not path.suffix:
        return Folder(path, frame_rate)
    if not path.suffix:
        raise SinkError(f"{path}: name a .png or .jpg picture, or a .mp4 or .webm video")
    return Picture(path)
