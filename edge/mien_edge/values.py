"""The values that flow through the chain. All are immutable; only `Frame` holds pixels."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from mien_edge.events import Quality

if TYPE_CHECKING:  # processes that see no pixels do without NumPy's twenty megabytes
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]
    """Pixels of a picture or a crop; the shape is said where it is used."""
    Floats = NDArray[np.floating[Any]]
else:
    Pixels = Floats = Any


class Box(NamedTuple):
    """An upright rectangle in pixels, which may reach outside of the picture.

    x, y: its upper left corner.
    """

    x: float
    y: float
    width: float
    height: float

    @property
    def area(self) -> float:
        """Area in square pixels; 0 for an empty box."""
        return max(self.width, 0.0) * max(self.height, 0.0)

    @property
    def centre(self) -> tuple[float, float]:
        """The centre, as (x, y)."""
        return self.x + self.width / 2, self.y + self.height / 2

    def intersection(self, other: "Box") -> "Box":
        """The part that both boxes cover; its area is 0 where they do not overlap."""
        x = max(self.x, other.x)
        y = max(self.y, other.y)
        right = min(self.x + self.width, other.x + other.width)
        bottom = min(self.y + self.height, other.y + other.height)
        return Box(x, y, max(right - x, 0.0), max(bottom - y, 0.0))

    def iou(self, other: "Box") -> float:
        """Intersection over union, 0..1; 0 if both boxes are empty."""
        shared = self.intersection(other).area
        union = self.area + other.area - shared
        return shared / union if union > 0 else 0.0

    def square(self, scale: float) -> "Box":
        """The square about the same centre whose side is `scale` times the longer side."""
        side = max(self.width, self.height) * scale
        half = side / 2
        x = self.x + self.width / 2 - half
        y = self.y + self.height / 2 - half
        return Box(x, y, side, side)

    def scaled(self, fx: float, fy: float) -> "Box":
        """The box in a picture that is `fx` times as wide and `fy` times as high."""
        return Box(self.x * fx, self.y * fy, self.width * fx, self.height * fy)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture of a source.

    image: uint8, (height, width) gray or (height, width, 3) BGR.
    index: counts the frames of a camera or video from 0, dropped ones included; a photograph's
        place among the files that are read.
    captured_at: seconds since 1970 (UTC): when a camera took it, or when it was read from a file.
    name: the file name of the photograph or video; empty for a camera.
    position: seconds from the first picture of a video file, by the file's own time stamps; None
        for cameras and photographs.
    """

    image: Pixels
    index: int
    captured_at: float
    name: str = ""
    position: float | None = None

    @property
    def source_time(self) -> float:
        """What tells how far two frames of one source are apart, in seconds: the position in a
        video file, else the time.
        """
        return self.captured_at if self.position is None else self.position


@dataclass(frozen=True, slots=True)
class Face:
    """A detected face.

    box: in pixels of the frame.
    score: the detector's, 0..1.
    landmarks: (x, y) in pixels of right eye, left eye, nose tip, right and left mouth corner, as
        the person has them; or empty.
    track: the face's number from 1 on, the same from frame to frame; 0 before it is tracked.
    """

    box: Box
    score: float
    landmarks: tuple[tuple[float, float], ...] = ()
    track: int = 0

    def with_track(self, number: int) -> "Face":
        """The same face with another number."""
        return Face(self.box, self.score, self.landmarks, number)


@dataclass(frozen=True, slots=True)
class Emotion:
    """Probabilities of one face.

    scores: one per label, in the order of `labels`, 0..1; they sum to 1.
    """

    labels: tuple[str, ...]
    scores: tuple[float, ...]

    @property
    def label(self) -> str:
        """The most probable label; the first of equals."""
        return self.labels[self.scores.index(max(self.scores))]

    @property
    def confidence(self) -> float:
        """The probability of `label`."""
        return max(self.scores)


@dataclass(frozen=True, slots=True)
class Reading:
    """The result for one face in one frame. It holds no pixels.

    time: of the frame, seconds since 1970 (UTC): when a camera took it, or when it was read from a
        file.
    frame: the frame's index in its source.
    track: the face's number, from 1 on.
    box: where the face is, in pixels of the frame.
    emotion: the smoothed distribution; None if the face was not classified in this frame.
    label: the settled label after smoothing; None while there is none.
    quality: 'good', or why there is no label: see events.Quality.
    model: NAME-VERSION of the bundle.
    source: the file name of the photograph or video; empty for a camera.
    position: seconds from the first picture of a video file, by the file's own time stamps; None
        for cameras and photographs.
    """

    time: float
    frame: int
    track: int
    box: Box
    emotion: Emotion | None
    label: str | None
    quality: str
    model: str
    source: str = ""
    position: float | None = None

    @property
    def source_time(self) -> float:
        """What tells how far two readings of one source are apart, in seconds: the position in a
        video file, else the time.
        """
        return self.time if self.position is None else self.position

    @classmethod
    def no_face(cls, frame: Frame, model: str) -> "Reading":
        """What is written of a photograph in which no face was detected: its track is 0."""
        nothing = Box(0, 0, 0, 0)
        quality = Quality.NO_FACE
        return cls(
            frame.captured_at, frame.index, 0, nothing, None, None, quality, model, frame.name
        )
