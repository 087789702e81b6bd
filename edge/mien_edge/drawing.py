"""Colours of the labels, charts as pixels, and pictures written whole or not at all."""

import functools
from pathlib import Path

import cv2
import numpy as np

from mien_edge import files, labels
from mien_edge.errors import SinkError
from mien_edge.log.plot import Bar, Chart, Line
from mien_edge.values import Pixels

Colour = tuple[int, int, int]
"""Blue, green and red, 0 to 255."""

NO_LABEL: Colour = (140, 140, 140)
"""The colour of a face without a label."""

_WHITE = 255
_INK = (60, 60, 60)
_GRID = (225, 225, 225)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_SCALE = 0.45


@functools.cache
def colours(names: tuple[str, ...]) -> dict[str, Colour]:
    """The colour of each of the labels `names`, which are all that a picture may show."""
    return {name: _from_hex(text) for name, text in labels.colours(names).items()}


def _from_hex(text: str) -> Colour:
    red, green, blue = bytes.fromhex(text.removeprefix("#"))
    return blue, green, red


def save(path: Path, picture: Pixels) -> None:
    """Write a picture, completely or not at all.

    path: ends in .png or .jpg; its folder is created.
    picture: (height, width) gray or (height, width, 3) BGR, uint8.

    Raises SinkError if it cannot be written, or if OpenCV does not know the suffix.
    """
    try:
        is_encoded, content = cv2.imencode(path.suffix, picture)
    except cv2.error:
        is_encoded = False
    if not is_encoded:
        reason = f"OpenCV writes no {path.suffix} picture of this size"
        raise SinkError(f"{path}: cannot be written ({reason}); name a .png or .jpg file")
    try:
        files.write_bytes(path, content.tobytes())
    except OSError as problem:
        raise files.write_error(path, problem) from None


def save_chart(path: Path, chart: Chart) -> None:
    """Draw a chart to a .png or .jpg file. Raises SinkError if it cannot be written."""
    save(path, draw_chart(chart))


def draw_chart(chart: Chart) -> Pixels:
    """Return a chart as a BGR picture, uint8, (height, width, 3)."""
    picture = np.full((chart.height, chart.width, 3), _WHITE, np.uint8)
    for line in chart.grid:
        _draw_line(picture, line, _GRID)
    colour_of = colours(tuple(box.label for box in chart.legend if box.label != labels.NONE))
    for bar in chart.bars:
        _draw_bar(picture, bar, colour_of.get(bar.label, NO_LABEL))
    for line in chart.ticks:
        _draw_line(picture, line, _INK)
    for box in chart.legend:
        _draw_bar(picture, box, colour_of.get(box.label, NO_LABEL))
    for text in chart.texts:
        cv2.putText(picture, text.text, (text.x, text.y), _FONT, _FONT_SCALE, _INK, 1, cv2.LINE_AA)
    return picture


def _draw_line(picture: Pixels, line: Line, colour: Colour) -> None:
    cv2.line(picture, (line.x1, line.y1), (line.x2, line.y2), colour, 1)


def _draw_bar(picture: Pixels, bar: Bar, colour: Colour) -> None:
    cv2.rectangle(picture, (bar.left, bar.top), (bar.right, bar.bottom), colour, cv2.FILLED)
