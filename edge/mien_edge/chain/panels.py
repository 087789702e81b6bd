"""Where a face's panel goes: next to its face, on no other face and on no other panel.

Plain arithmetic on boxes, so that a picture in a file and the page can place them alike.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mien_edge.values import Box

_MAX_OWN_SHARE = 0.125
"""Of its own face a panel covers at most this share, and only where there is no room outside."""

_MAX_OWN_SHARE_FLAT = 0.25
"""The share for a flat panel, which lies over the hair and leaves the eyes free."""

_ROUNDING = 1e-6


class Size(NamedTuple):
    """Width and height of a panel in pixels, above 0."""

    width: float
    height: float


class Place(NamedTuple):
    """Where a panel goes.

    choice: which of the face's sizes it has, as an index.
    box: in pixels of the picture.
    """

    choice: int
    box: Box


def place_panels(
    faces: Sequence[Box],
    sizes: Sequence[Sequence[Size]],
    picture: Size,
    gap: float,
) -> list[Place]:
    """Give each face's panel a place, as large as there is room for.

    faces: in pixels of the picture; they may reach outside of it.
    sizes: of each face's panel, one or more, from the richest to the poorest.
    picture: width and height of the picture.
    gap: between a face and its panel, in pixels.

    At first each panel has its poorest size; then all in turn are made richer, step by step, so
    that no face gets its richest panel before all that have room got a poorer one.

    Returns a place for each face. A panel lies inside of the picture and covers neither another
    face nor another panel; if even the poorest size has no such place, it lies where it covers
    the least of them.
    """
    places: list[Place | None] = [None] * len(faces)
    steps = max((len(choices) for choices in sizes), default=0)
    for step in range(1, steps + 1):
        for index, (face, choices) in enumerate(zip(faces, sizes, strict=True)):
            if step > len(choices):
                continue
            choice = len(choices) - step
            panels = [place.box for place in _others(places, index)]
            obstacles = [*faces[:index], *faces[index + 1 :], *panels]
            box = _free_box(face, choices[choice], picture, gap, obstacles)
            if box is None and step == 1:
                box = _least_covering(face, choices[choice], picture, gap, obstacles)
            if box is not None:
                places[index] = Place(choice, box)
    return [place for place in places if place is not None]


def free_corner(size: Size, picture: Size, obstacles: Sequence[Box]) -> Box | None:
    """The first corner of the picture in which a panel covers no obstacle; None if there is none.

    The lower corners come first, the left one before the right one.
    """
    right = picture.width - size.width
    bottom = picture.height - size.height
    for x, y in ((0.0, bottom), (right, bottom), (0.0, 0.0), (right, 0.0)):
        box = Box(x, y, *size)
        if _is_inside(box, Box(0, 0, *picture)) and _is_free(box, obstacles):
            return box
    return None


def _others(places: Sequence[Place | None], index: int) -> Iterator[Place]:
    for number, place in enumerate(places):
        if place is not None and number != index:
            yield place


def _free_box(
    face: Box, size: Size, picture: Size, gap: float, obstacles: Sequence[Box]
) -> Box | None:
    for box in _outside(face, size, picture, gap):
        is_free = _is_free(box, [*obstacles, face])
        if is_free and _is_inside(box, Box(0, 0, *picture)):
            return box
    visible = face.intersection(Box(0, 0, *picture))
    share = _MAX_OWN_SHARE_FLAT if _is_flat(size) else _MAX_OWN_SHARE
    for box in _corners(visible, size):
        is_small = box.area <= visible.area * share
        is_free = _is_free(box, obstacles)
        if is_small and is_free and _is_inside(box, visible):
            return box
    return None


def _outside(face: Box, size: Size, picture: Size, gap: float) -> Iterator[Box]:
    """The places around a face: a flat panel is first tried above, a tall one at the right."""
    lefts = _alignments(face.x, face.width, size.width)
    tops = _alignments(face.y, face.height, size.height)
    xs = [_clamp(x, picture.width - size.width) for x in lefts]
    ys = [_clamp(y, picture.height - size.height) for y in tops]
    above = [Box(x, face.y - gap - size.height, *size) for x in xs]
    below = [Box(x, face.y + face.height + gap, *size) for x in xs]
    right = [Box(face.x + face.width + gap, y, *size) for y in ys]
    left = [Box(face.x - gap - size.width, y, *size) for y in ys]
    if _is_flat(size):
        yield from (*above, *below, *right, *left)
    else:
        yield from (*right, *left, *below, *above)


def _is_flat(size: Size) -> bool:
    return size.width > 2 * size.height


def _alignments(start: float, length: float, panel: float) -> tuple[float, float, float]:
    """Where a panel begins that is flush with a face's begin, with its end, or centred."""
    return start, start + length - panel, start + (length - panel) / 2


def _corners(area: Box, size: Size) -> Iterator[Box]:
    right = area.x + area.width - size.width
    bottom = area.y + area.height - size.height
    for y in (area.y, bottom):
        for x in (area.x, right):
            yield Box(x, y, *size)


def _least_covering(
    face: Box, size: Size, picture: Size, gap: float, obstacles: Sequence[Box]
) -> Box:
    candidates = (*_outside(face, size, picture, gap), *_corners(face, size))
    return min(
        (_moved_inside(box, picture) for box in candidates),
        key=lambda box: _covered(box, obstacles),
    )


def _moved_inside(box: Box, picture: Size) -> Box:
    x = _clamp(box.x, picture.width - box.width)
    y = _clamp(box.y, picture.height - box.height)
    return Box(x, y, box.width, box.height)


def _is_inside(box: Box, area: Box) -> bool:
    return box.area - box.intersection(area).area <= _ROUNDING * box.area


def _is_free(box: Box, obstacles: Sequence[Box]) -> bool:
    right = box.x + box.width
    bottom = box.y + box.height
    for x, y, width, height in obstacles:
        if x < right and y < bottom and box.x < x + width and box.y < y + height:
            return False
    return True


def _covered(box: Box, obstacles: Sequence[Box]) -> float:
    """Square pixels of the obstacles that a box covers."""
    return sum(box.intersection(obstacle).area for obstacle in obstacles)


def _clamp(value: float, high: float) -> float:
    """The nearest number to `value` from 0 to `high`; 0 where `high` is negative."""
    return max(min(value, high), 0.0)
