"""The log's summary as a chart: face-minutes per hour, stacked by label, with local times below.

It is computed here as plain values in pixels and drawn by mien_edge.drawing, so that no module of
the log needs OpenCV.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from mien_edge.errors import SinkError
from mien_edge.labels import NONE, ordered
from mien_edge.log.hours import local_hours
from mien_edge.log.show import HourSummary

_HEIGHT = 480  # pixels
_LEFT = 70  # margins about the plot, in pixels
_MIN_RIGHT = 150
_TOP = 40
_BOTTOM = 60
_MIN_PLOT_WIDTH = 400
_TARGET_PLOT_WIDTH = 900
_MIN_BAR_STEP = 3  # pixels from one hour to the next
_MAX_BAR_STEP = 40
_BAR_GAP = 2
_MIN_BAR_WIDTH = 2
_GRID_LINES = 4  # above the base line
_TICK_LENGTH = 5
_TICK_SPACING = 34  # pixels at least between two hours that are written out
_TICK_HOURS = (1, 2, 3, 6, 12, 24)
_LEGEND_ROW = 26
_LEGEND_BOX = 14
_LEGEND_LEFT = 24  # from the plot
_LETTER_WIDTH = 9
_AXIS_TITLE = "face-minutes per hour"
_HOUR = 3600  # seconds
_MAX_HOURS = 24 * 14  # a longer time is drawn from its end

_BASE = _HEIGHT - _BOTTOM  # y of the base line


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line from (x1, y1) to (x2, y2), one pixel wide."""

    x1: int
    y1: int
    x2: int
    y2: int


@dataclass(frozen=True, slots=True)
class Bar:
    """A filled rectangle in the colour of a label, NONE for faces without one. All four edges
    belong to it."""

    label: str
    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, slots=True)
class Text:
    """A text whose base line begins at (x, y)."""

    text: str
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart in pixels, x to the right and y downwards. It is drawn in the order of its fields, on
    white.

    grid: the horizontal lines of the scale.
    bars: the parts of the stacks.
    ticks: marks on the time axis.
    legend: a box per label.
    texts: scale, times and the legend's labels.
    """

    width: int
    height: int
    grid: tuple[Line, ...]
    bars: tuple[Bar, ...]
    ticks: tuple[Line, ...]
    legend: tuple[Bar, ...]
    texts: tuple[Text, ...]


@dataclass(frozen=True, slots=True)
class _Axes:
    """Where the hours and their face-minutes lie.

    hours: the starts of all local hours that are drawn, seconds since 1970.
    step: pixels from one hour to the next.
    top_value: face-minutes at the upper end of the scale.
    """

    hours: tuple[int, ...]
    step: int
    top_value: float

    @property
    def right(self) -> int:
        """The right end of the plot."""
        return _LEFT + max(len(self.hours) * self.step, _MIN_PLOT_WIDTH)

    @property
    def pixels_per_minute(self) -> float:
        return (_BASE - _TOP) / self.top_value

    def x(self, index: int) -> int:
        """The left edge of the hour at `index`, counted from the first."""
        return _LEFT + index * self.step


def chart(summary: Iterable[HourSummary]) -> Chart:
    """Lay out the hours of show.summary, oldest first, as a chart.

    Hours without a face are gaps, for time runs evenly. Only the last two weeks are drawn.
    Raises SinkError if there are no hours.
    """
    hours = list(deque(summary, maxlen=_MAX_HOURS))
    if not hours:
        hint = "ask for a longer one: --since 7d"
        raise SinkError(f"nothing to draw: the log has no minute in that time; {hint}")
    axes = _axes(hours)
    grid, scale = _scale(axes)
    ticks, times = _time_axis(axes)
    labels = _labels(hours)
    legend, names = _legend(labels, axes.right)
    return Chart(
        width=axes.right + _right_margin(names),
        height=max(_HEIGHT, _TOP + (len(labels) + 1) * _LEGEND_ROW),
        grid=grid,
        bars=_bars(hours, labels, axes),
        ticks=ticks,
        legend=legend,
        texts=scale + times + names,
    )


def _labels(hours: list[HourSummary]) -> tuple[str, ...]:
    """All labels of the hours, then NONE."""
    labels = (label for hour in hours for label in hour.shares if label != NONE)
    return (*ordered(labels), NONE)


def _right_margin(names: tuple[Text, ...]) -> int:
    longest = max(len(name.text) for name in names)
    return max(_MIN_RIGHT, _LEGEND_LEFT + 22 + longest * _LETTER_WIDTH)


def _axes(hours: list[HourSummary]) -> _Axes:
    newest = hours[-1].start.timestamp()
    first = max(hours[0].start.timestamp(), newest - (_MAX_HOURS - 1) * _HOUR)
    drawn = tuple(local_hours(first, newest))
    step = max(min(_MAX_BAR_STEP, _TARGET_PLOT_WIDTH // len(drawn)), _MIN_BAR_STEP)
    greatest = max(hour.face_minutes for hour in hours)
    return _Axes(drawn, step, _scale_end(greatest))


def _scale_end(greatest: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below the greatest value."""
    ends = (factor * 10**power for power in range(-2, 6) for factor in (1, 2, 5))
    return next(end for end in ends if end >= greatest)


def _scale(axes: _Axes) -> tuple[tuple[Line, ...], tuple[Text, ...]]:
    """The grid and its values."""
    lines = []
    texts = []
    for number in range(_GRID_LINES + 1):
        value = number / _GRID_LINES * axes.top_value
        y = round(_BASE - value * axes.pixels_per_minute)
        lines.append(Line(_LEFT, y, axes.right + 10, y))
        texts.append(Text(f"{value:g}", 12, y + 5))
    texts.append(Text(_AXIS_TITLE, 12, 22))
    return tuple(lines), tuple(texts)


def _bars(hours: list[HourSummary], labels: tuple[str, ...], axes: _Axes) -> tuple[Bar, ...]:
    bars: list[Bar] = []
    indices = {start: index for index, start in enumerate(axes.hours)}
    for hour in hours:
        index = indices.get(int(hour.start.timestamp()))
        if index is not None:
            bars += _stack(hour, labels, axes, axes.x(index))
    return tuple(bars)


def _stack(hour: HourSummary, labels: tuple[str, ...], axes: _Axes, left: int) -> Iterator[Bar]:
    """An hour's bars, one on the other."""
    right = left + max(axes.step - _BAR_GAP, _MIN_BAR_WIDTH) - 1
    bottom = 0.0  # pixels above the base line
    for label in labels:
        height = hour.shares.get(label, 0.0) * hour.face_minutes * axes.pixels_per_minute
        if height > 0:
            upper = round(_BASE - bottom - height)
            lower = round(_BASE - bottom) - 1
            yield Bar(label, left, upper, right, max(lower, upper))
        bottom += height


def _time_axis(axes: _Axes) -> tuple[tuple[Line, ...], tuple[Text, ...]]:
    """Local hours as densely as there is room, the date at the first hour and at midnight, and the
    offset from UTC where the clock was changed.
    """
    tick_hours = _tick_hours(axes.step)
    lines = []
    texts = []
    offset = _utc_offset(axes.hours[0])
    for index, start in enumerate(axes.hours):
        local = datetime.fromtimestamp(start)
        x = axes.x(index)
        if _utc_offset(start) != offset:
            offset = _utc_offset(start)
            texts.append(Text(f"UTC{offset}", x, _BASE + 57))
        if local.hour % tick_hours == 0:
            lines.append(Line(x, _BASE, x, _BASE + _TICK_LENGTH))
            texts.append(Text(f"{local.hour:02d}h", x, _BASE + 20))
        if index == 0 or local.date() != datetime.fromtimestamp(axes.hours[index - 1]).date():
            texts.append(Text(f"{local:%m-%d}", x, _BASE + 42))
    return tuple(lines), tuple(texts)


def _utc_offset(time: float) -> str:
    """The local offset from UTC, as '+01:00'."""
    return datetime.fromtimestamp(time).astimezone().isoformat(timespec="seconds")[-6:]


def _tick_hours(step: int) -> int:
    """Hours from one tick to the next, so that their texts have room."""
    return next((hours for hours in _TICK_HOURS if hours * step >= _TICK_SPACING), _TICK_HOURS[-1])


def _legend(labels: tuple[str, ...], right: int) -> tuple[tuple[Bar, ...], tuple[Text, ...]]:
    """A box and a name per label, right of the plot."""
    x = right + _LEGEND_LEFT
    boxes = []
    texts = []
    for row, label in enumerate(labels):
        y = _TOP + row * _LEGEND_ROW
        name = "no label" if label == NONE else label
        boxes.append(Bar(label, x, y, x + _LEGEND_BOX, y + _LEGEND_BOX))
        texts.append(Text(name, x + 22, y + 12))
    return tuple(boxes), tuple(texts)
