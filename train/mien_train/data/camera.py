"""A photograph of a face as a camera would see it: placed into a frame, lit, out of focus, and with
the sensor's noise.

The sensor is a model of a small camera's: light adds up linearly, photons and read-out bring noise,
and where light lacks the camera amplifies what it has, noise included. Its figures are of that kind
of camera, not of one that was measured.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from mien_edge.settings import SourceSettings
from mien_edge.values import Box

from mien_train.arrays import Floats, Pixels

FRAME = (SourceSettings().width, SourceSettings().height)
"""(width, height) of a frame in pixels, as a device requests it from its camera by default."""

_GAMMA = 2.2
_ELECTRONS = 4000.0  # at white, in a well-lit room
_READ_NOISE = 3.0  # electrons
_MAX_GAIN = 16.0
_WALL = (110, 110, 110)  # BGR; repeated edge pixels, which make streaks, hide small faces
_DEVELOPED = 4096  # steps in which light becomes gray levels
_WINDOW = 0.9  # of white, what is behind a face in back light
_FLARE = 0.03  # of a frame's mean light, which a lens scatters over all of it
_HEAD = (0.5, 0.62)  # semi-axes of an ellipse around a face's head, in heights of the face
_HEAD_EDGE = 0.04  # softness of its edge, in heights of the face
_NOISE_MARGIN = 64  # pixels that the noise field is larger than a frame

_MOTION_SIDEWAYS = 0.1  # of the frame's width, to either side
_MOTION_UPWARDS = 0.03  # of the frame's height, up and down
_MOTION_TILT = 10.0  # degrees, to either shoulder
_MOTION_SCALE = 1.1  # how many times as large or small the face becomes


@dataclass(frozen=True)
class View:
    """How a camera sees a face.

    face_height: of the detector's box, in pixels of the frame. degrees: by which the head is tilted
    to a shoulder, counter-clockwise. x, y: the middle of the face, as shares of the frame's width
    and height. light: share of that of a well-lit room, above 0. face_light: share of it on the
    face, before a bright window; 1 for no window. exposure: factor, above 1 for too long a one.
    defocus: radius in pixels of the disc that a point becomes. path: (x, y) pixels by which the
    face moves while a frame is exposed.
    """

    face_height: float = 160.0
    degrees: float = 0.0
    x: float = 0.5
    y: float = 0.5
    light: float = 1.0
    face_light: float = 1.0
    exposure: float = 1.0
    defocus: float = 0.0
    path: tuple[float, float] = (0.0, 0.0)

    def face_box(self, box: Box) -> Box:
        """Where the face, whose box in the photograph this is, comes to lie in the frame; upright,
        however the head is tilted.
        """
        width, height = FRAME
        scale = self.face_height / box.height
        face_width = box.width * scale
        left = self.x * width - face_width / 2
        top = self.y * height - self.face_height / 2
        return Box(left, top, face_width, self.face_height)


@dataclass(frozen=True)
class CameraCorruption:
    """A way in which a camera sees a face less well.

    unit: of the five strengths, from the mildest. view(strength, rng): what is seen at one of them.
    """

    name: str
    unit: str
    strengths: tuple[float, ...]
    view: Callable[[float, np.random.Generator], View]


def _low_light(stops: float, rng: np.random.Generator) -> View:
    return View(light=2.0**-stops)


def _back_light(stops: float, rng: np.random.Generator) -> View:
    return View(face_light=2.0**-stops)


def _over_exposure(stops: float, rng: np.random.Generator) -> View:
    return View(exposure=2.0**stops)


def _defocus(radius: float, rng: np.random.Generator) -> View:
    return View(defocus=radius)


def _motion_blur(length: float, rng: np.random.Generator) -> View:
    direction = rng.uniform(0, np.pi)
    return View(path=(length * np.cos(direction), length * np.sin(direction)))


def _tilt(degrees: float, rng: np.random.Generator) -> View:
    return View(degrees=rng.choice([-degrees, degrees]))


def _distance(face_height: float, rng: np.random.Generator) -> View:
    return View(face_height=face_height)


CAMERA_CORRUPTIONS = (
    CameraCorruption("low light", "stops less light", (2, 4, 6, 8, 9), _low_light),
    CameraCorruption("back light", "stops below the window", (1, 2, 3, 4, 5), _back_light),
    CameraCorruption("over-exposure", "stops too much", (0.5, 1, 1.5, 2, 3), _over_exposure),
    CameraCorruption("defocus", "pixels, radius", (1, 2, 4, 6, 8), _defocus),
    CameraCorruption("motion blur", "pixels", (4, 8, 16, 24, 32), _motion_blur),
    CameraCorruption("tilt", "degrees", (10, 20, 30, 40, 50), _tilt),
    CameraCorruption("distance", "pixels of face height", (240, 112, 80, 64, 48), _distance),
)


def render(image: Pixels, box: Box, view: View, rng: np.random.Generator) -> Pixels:
    """The frame, (height, width, 3) BGR uint8 of the size FRAME, in which a camera sees the face of
    a photograph, which hangs on a plain wall.

    image: (h, w, 3) BGR uint8. box: the face's in its pixels. rng: draws the sensor's noise.
    """
    light = _to_light(_place(image, box, view))
    light = _through_lens(light, view)
    if view.face_light < 1:
        light = _before_window(light, view)
    light = light * np.float32(view.light * view.exposure)
    return _develop(light, view.light, rng)


def _place(image: Pixels, box: Box, view: View) -> Pixels:
    scale = view.face_height / box.height
    if scale < 1:
        height, width = image.shape[:2]
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        box = box.scaled(size[0] / width, size[1] / height)
    x, y = box.centre
    frame_width, frame_height = FRAME
    remaining_scale = view.face_height / box.height
    matrix = cv2.getRotationMatrix2D((x - 0.5, y - 0.5), view.degrees, remaining_scale)
    matrix[:, 2] += np.array((frame_width * view.x - x, frame_height * view.y - y))
    return cv2.warpAffine(  # type: ignore[return-value]
        image,
        matrix,
        FRAME,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=_WALL,
    )


@cache
def _light_of_levels() -> Floats:
    """(256,) the light of each gray level, 0..1."""
    return ((np.arange(256) / 255) ** _GAMMA).astype(np.float32)


def _to_light(frame: Pixels) -> Floats:
    return _light_of_levels()[frame]


def _through_lens(light: Floats, view: View) -> Floats:
    if view.defocus > 0:
        light = cv2.filter2D(light, -1, _disc(view.defocus))  # type: ignore[assignment]
    if any(view.path):
        light = cv2.filter2D(light, -1, _line(view.path))  # type: ignore[assignment]
    return light


def _disc(radius: float) -> Floats:
    """A kernel of the sum 1: a disc with an edge one pixel soft."""
    reach = int(np.ceil(radius + 0.5))
    offsets = np.arange(-reach, reach + 1)
    distances = np.hypot(offsets[:, None], offsets)
    kernel = np.clip(radius + 0.5 - distances, 0, 1)
    return (kernel / kernel.sum()).astype(np.float32)


def _line(path: tuple[float, float]) -> Floats:
    """A kernel of the sum 1: a line one pixel wide."""
    x, y = path
    length = np.hypot(x, y)
    reach = int(np.ceil(length / 2 + 1))
    offsets = np.arange(-reach, reach + 1)
    along = (offsets * x + offsets[:, None] * y) / length
    across = (offsets * y - offsets[:, None] * x) / length
    kernel = np.clip(length / 2 + 0.5 - np.abs(along), 0, 1)
    kernel *= np.clip(1 - np.abs(across), 0, 1)
    return (kernel / kernel.sum()).astype(np.float32)


def _before_window(light: Floats, view: View) -> Floats:
    """The head, darker, before an even bright area; the lens scatters some of that."""
    head = _head_mask(view)
    seen = head * light * view.face_light + (1 - head) * _WINDOW
    return seen + _FLARE * seen.mean(dtype=np.float64)  # type: ignore[no-any-return]


def _head_mask(view: View) -> Floats:
    """(height, width, 1), 1 on the head and 0 behind it."""
    width, height = FRAME
    mask = np.zeros((height, width), np.float32)
    centre = (round(view.x * width), round(view.y * height))
    axes = tuple(round(axis * view.face_height) for axis in _HEAD)
    cv2.ellipse(mask, centre, axes, -view.degrees, 0, 360, 1.0, cv2.FILLED)
    softness = _HEAD_EDGE * view.face_height
    soft_mask = cv2.GaussianBlur(mask, (0, 0), softness)
    return soft_mask[:, :, None].astype(np.float32, copy=False)


def _develop(light: Floats, room_light: float, rng: np.random.Generator) -> Pixels:
    """What the sensor makes of the light: electrons, noise, gain, gray levels."""
    values = light * np.float32(_ELECTRONS)
    noise = np.sqrt(values + np.float32(_READ_NOISE**2))
    noise *= _noise(rng)
    values += noise
    gain = min(1 / room_light, _MAX_GAIN)
    values *= np.float32(gain * (_DEVELOPED - 1) / _ELECTRONS)
    np.clip(values, 0, _DEVELOPED - 1, out=values)
    return _levels_of_light()[values.astype(np.uint16)]


@cache
def _levels_of_light() -> Pixels:
    """(_DEVELOPED,) the gray level of each step of light."""
    light = np.linspace(0, 1, _DEVELOPED)
    return np.rint(light ** (1 / _GAMMA) * 255).astype(np.uint8)


@cache
def _noise_field() -> Floats:
    width, height = FRAME
    shape = (height + _NOISE_MARGIN, width + _NOISE_MARGIN, 3)
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _noise(rng: np.random.Generator) -> Floats:
    """(height, width, 3) normal noise, cut from one field: to draw it anew takes longer than all
    else.
    """
    width, height = FRAME
    top, left = rng.integers(0, _NOISE_MARGIN, 2)
    return _noise_field()[top : top + height, left : left + width]


def motion(frames: int) -> Iterator[View]:
    """Yield the views of a face that moves slowly, one for each frame, from rest back to rest.

    It moves to either side and up and down, is tilted to either shoulder, and comes nearer and goes
    farther, each at a pace of its own.
    """
    still = View()
    for index in range(frames):
        angle = 2 * np.pi * index / frames
        yield View(
            face_height=still.face_height * _MOTION_SCALE ** np.sin(2 * angle),
            degrees=_MOTION_TILT * np.sin(angle),
            x=still.x + _MOTION_SIDEWAYS * np.sin(angle),
            y=still.y + _MOTION_UPWARDS * np.sin(3 * angle),
        )
