"""A picture of the log's summary: face-minutes per hour, stacked by label. Drawn by OpenCV, a device has no more."""

from datetime import datetime
from pathlib import Path

import cv2
import numpy as np

from mien_edge import drawing
from mien_edge.contract import LABELS
from mien_edge.drawing import COLOURS, NO_LABEL
from mien_edge.errors import SinkError
from mien_edge.log.minutes import NONE
from mien_edge.log.show import HourSummary
from mien_edge.values import Pixels

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 480, 70, 150, 40, 60  # pixels
_INK, _GRID = (60, 60, 60), (225, 225, 225)
_HOUR = 3600
_MOST = 24 * 14  # hours; a longer time is drawn from its end


def save(path: Path, rows: list[HourSummary]) -> None:
    """Draw logview.summary's rows to a .png or .jpg. Raises SinkError if it cannot be written, or there is nothing."""
    if not rows:
        raise SinkError(
            f"{path}: nothing to draw, the log has no minute in that time; ask for a longer one: --since 7d"
        )
    drawing.save(path, picture(rows))


def picture(rows: list[HourSummary]) -> Pixels:
    """A BGR picture of the rows; hours without a face are gaps, for time runs evenly."""
    starts = [row.start for row in rows]
    first = max(starts[0].timestamp(), starts[-1].timestamp() - (_MOST - 1) * _HOUR)
    hours = int((starts[-1].timestamp() - first) // _HOUR) + 1
    step = max(min(40, 900 // hours), 3)
    canvas = np.full((_HEIGHT, _LEFT + max(hours * step, 400) + _RIGHT, 3), 255, np.uint8)
    scale = _axes(canvas, max(row.face_minutes for row in rows))
    for row, start in zip(rows, starts, strict=True):
        place = int((start.timestamp() - first) // _HOUR)
        if place >= 0:
            _stack(canvas, row, _LEFT + place * step, max(step - 2, 2), scale)
    _times(canvas, first, hours, step)
    _legend(canvas)
    return canvas


def _axes(canvas: Pixels, most: float) -> float:
    """Draw grid and scale; returns pixels per face-minute."""
    top = next(value * 10**power for power in range(-2, 6) for value in (1, 2, 5) if value * 10**power >= most)
    scale = (_HEIGHT - _TOP - _BOTTOM) / top
    for part in range(5):
        y = round(_HEIGHT - _BOTTOM - part / 4 * top * scale)
        cv2.line(canvas, (_LEFT, y), (canvas.shape[1] - _RIGHT + 10, y), _GRID, 1)
        _text(canvas, f"{part / 4 * top:g}", (12, y + 5))
    _text(canvas, "face-minutes per hour", (12, 22))
    return float(scale)


def _stack(canvas: Pixels, row: HourSummary, x: int, width: int, scale: float) -> None:
    height = 0.0
    for label in (*LABELS, NONE):
        part = row.shares[label] * row.face_minutes * scale
        if part > 0:
            upper, lower = round(_HEIGHT - _BOTTOM - height - part), round(_HEIGHT - _BOTTOM - height) - 1
            cv2.rectangle(canvas, (x, upper), (x + width - 1, max(lower, upper)), _colour(label), cv2.FILLED)
        height += part


def _times(canvas: Pixels, first: float, hours: int, step: int) -> None:
    """Local hours, and the date where a day begins, as densely as there is room."""
    apart = next(each for each in (1, 2, 3, 6, 12, 24, 48) if each * step >= 34 or each == 48)
    dated = False
    for place in range(hours):
        local = datetime.fromtimestamp(first + place * _HOUR)
        x = _LEFT + place * step
        if local.hour % min(apart, 24) == 0:
            cv2.line(canvas, (x, _HEIGHT - _BOTTOM), (x, _HEIGHT - _BOTTOM + 5), _INK, 1)
            _text(canvas, f"{local.hour:02d}h", (x, _HEIGHT - _BOTTOM + 20))
        if local.hour == 0 or not dated:
            _text(canvas, f"{local:%m-%d}", (x, _HEIGHT - _BOTTOM + 42))
            dated = True


def _legend(canvas: Pixels) -> None:
    x = canvas.shape[1] - _RIGHT + 24
    for i, label in enumerate((*LABELS, NONE)):
        y = _TOP + i * 26
        cv2.rectangle(canvas, (x, y), (x + 14, y + 14), _colour(label), cv2.FILLED)
        _text(canvas, "no label" if label == NONE else label, (x + 22, y + 12))


def _colour(label: str) -> tuple[int, int, int]:
    return COLOURS.get(label, NO_LABEL)


def _text(canvas: Pixels, text: str, place: tuple[int, int]) -> None:
    cv2.putText(canvas, text, place, _FONT, 0.45, _INK, 1, cv2.LINE_AA)
