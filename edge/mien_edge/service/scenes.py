"""What bench looks at: the demo's photograph as a face that moves, one that stands, several, and a
room with nobody in it.

Every picture carries a sensor's noise: no camera delivers the same picture twice.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from mien_edge.chain import sources
from mien_edge.chain.photos import read_photo
from mien_edge.values import Pixels

Scene = Callable[[float], Pixels]
"""Called with a moment in seconds; returns a (480, 640, 3) BGR uint8 picture."""

Noise = NDArray[np.int8]
"""(480, 640, 3) gray levels that are added to a picture."""

SEVERAL_FACES = 4
"""Faces in the scene 'several faces'."""

_PRESENT_SECONDS = 8.0  # of the demo in which somebody is there
_GRAY = 90
_NOISE_LEVELS = 3.0  # standard deviation, in gray levels
_NOISE_PICTURES = 4
_HEAD = (slice(0, 250), slice(110, 330))  # rows and columns of the photograph
_HEAD_SCALE = 0.75
_SWING = 30.0  # pixels to each side
_SWING_SECONDS = 4.0


def scenes() -> Mapping[str, Scene]:
    """The scenes by their names.

    Raises RuntimeMissingError without the demo's photograph.
    """
    demo = sources.Demo(fps=1.0, paced=False)
    head = _head()

    def moving(moment: float) -> Pixels:
        """The demo to and fro, so that the face never leaves and the scene is never cut."""
        return demo.picture(abs(_PRESENT_SECONDS - moment % (2 * _PRESENT_SECONDS)))

    def still(_: float) -> Pixels:
        return demo.picture(1.0)

    def several(moment: float) -> Pixels:
        return _heads(head, demo.size, moment)

    def empty(_: float) -> Pixels:
        return np.full((*demo.size, 3), _GRAY, np.uint8)

    plain = {
        "moving face": moving,
        "still face": still,
        "several faces": several,
        "empty room": empty,
    }
    noise = _noise(demo.size)
    return {name: _Noisy(scene, noise) for name, scene in plain.items()}


class _Noisy:
    """A scene with a sensor's noise, the same at each run."""

    def __init__(self, scene: Scene, noise: Sequence[Noise]) -> None:
        self._scene = scene
        self._noise = itertools.cycle(noise)

    def __call__(self, moment: float) -> Pixels:
        picture = self._scene(moment)
        return cv2.add(picture, next(self._noise), dtype=cv2.CV_8U)  # type: ignore[return-value]


def _noise(size: tuple[int, int]) -> list[Noise]:
    random = np.random.default_rng(0)
    shape = (*size, 3)
    levels = np.float32(_NOISE_LEVELS)
    return [
        (random.standard_normal(shape, np.float32) * levels).astype(np.int8)
        for _ in range(_NOISE_PICTURES)
    ]


def _head() -> Pixels:
    photograph = read_photo(sources.astronaut())[_HEAD]
    size = (round(photograph.shape[1] * _HEAD_SCALE), round(photograph.shape[0] * _HEAD_SCALE))
    return cv2.resize(photograph, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _heads(head: Pixels, size: tuple[int, int], moment: float) -> Pixels:
    """A picture with SEVERAL_FACES heads in a square, each moving in a circle of its own."""
    picture = np.full((*size, 3), _GRAY, np.uint8)
    height, width = head.shape[:2]
    columns = round(math.sqrt(SEVERAL_FACES))
    cell_height = size[0] // columns
    cell_width = size[1] // columns
    for index in range(SEVERAL_FACES):
        angle = 2 * math.pi * (moment / _SWING_SECONDS + index / SEVERAL_FACES)
        row, column = divmod(index, columns)
        free_height = cell_height - height
        x = column * cell_width + (cell_width - width) // 2 + round(_SWING * math.cos(angle))
        y = row * cell_height + round(free_height / 2 * (1 + math.sin(angle)))
        picture[y : y + height, x : x + width] = head
    return picture
