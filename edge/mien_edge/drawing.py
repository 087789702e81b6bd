"""Colours of the labels, charts as pixels, and pictures written whole or not at all."""

from pathlib import Path

import cv2
import numpy as np

from mien_edge import files
from mien_edge.errors import SinkError
from mien_edge.log.plot import Bar, Chart, Line
from mien_edge.values import Pixels

COLOURS = {
    "angry": (60, 60, 230),
    "disgust": (60, 150, 60),
    "fear": (200, 80, 170),
    "happy": (40, 190, 250),
    "sad": (220, 140, 50),
    "surprise": (200, 200, 60),
    "neutral": (190, 190, 190),
}
"""Blue, green, red of each label."""

NO_LABEL = (140, 140, 140)
"""Blue, green, red of a face without a label."""

_WHITE = 255
_INK = (60, 60, 60)
_GRID = (225, 225, 225)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_SCALE = 0.45


def save(path: Path, picture: Pixels) -> None:
    """Write a picture, completely or not at all.

    path: ends in .png or .jpg; its folder is created.
    picture: (height, width) gray or (height, width, 3) BGR, uint8.

    Raises SinkError if it cannot be written, or if OpenCV does not know the suffix.
    """
    try:
        with files.atomic_write(path) as temporary, files.utf8_path(temporary) as name:
            if not cv2.imwrite(name, picture):
                raise OSError(f"OpenCV cannot write {path.suffix} files")
    except (OSError, cv2.error) as problem:
        reason = getattr(problem, "strerror", None) or "OpenCV refuses it"
        raise SinkError(f"{path}: cannot be written ({reason}); name a .png or .jpg file") from None


def save_chart(path: Path, chart: Chart) -> None:
    """Draw a chart to a .png or .jpg file. Raises SinkError if it cannot be written."""
    save(path, draw_chart(chart))


def draw_chart(chart: Chart) -> Pixels:
    """Return a chart as a BGR picture, uint8, (height, width, 3)."""
    picture = np.full((chart.height, chart.width, 3), _WHITE, np.uint8)
    for line in chart.grid:
        _draw_line(picture, line, _GRID)
    for bar in chart.bars:
        _draw_bar(picture, bar)
    for line in chart.ticks:
        _draw_line(picture, line, _INK)
    for box in chart.legend:
        _draw_bar(picture, box)
    for text in chart.texts:
        cv2.putText(picture, text.text, (text.x, text.y), _FONT, _FONT_SCALE, _INK, 1, cv2.LINE_AA)
    return picture


def _draw_line(picture: Pixels, line: Line, colour: tuple[int, int, int]) -> None:
    cv2.line(picture, (line.x1, line.y1), (line.x2, line.y2), colour, 1)


def _draw_bar(picture: Pixels, bar: Bar) -> None:
    colour = COLOURS.get(bar.label, NO_LABEL)
    cv2.rectangle(picture, (bar.left, bar.top), (bar.right, bar.bottom), colour, cv2.FILLED)
