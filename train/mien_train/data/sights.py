"""What the device's detector sees in a photograph: the face, cropped as the device crops it.

A face is kept as the device's crop of it and as much around it again, so that turned, shifted and
smaller augmented views show what was there. The middle of the larger picture is the crop, to the
pixel.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from mien_edge.chain import detect
from mien_edge.chain.photos import read_photo
from mien_edge.contract import Preprocess
from mien_edge.errors import SourceError
from mien_edge.settings import DetectSettings
from mien_edge.values import Box, Face, Frame

from mien_train.arrays import Pixels
from mien_train.data.read import SIZE

CROP = Preprocess(size=SIZE, margin=-0.03, normalization="none")
"""The device's crop as all recipes and bundles have it, before it is normalized."""

SIDE = 2 * SIZE
"""Pixels of the side of a crop with its surroundings."""

MIDDLE = slice(SIZE // 2, SIZE // 2 + SIZE)
"""Where the crop lies in it, along both axes."""

THUMBNAIL = 240
"""Pixels of a thumbnail's longer side."""

_TAKEN = (60, 200, 60)  # BGR
_OTHERS = (150, 150, 150)
_REGION = 2.5  # sides of a known box: of the square that the detector looks at
_MIN_OVERLAP = 0.2  # intersection over union of a known box and the detector's
_ENLARGED = 192  # pixels of a tight picture's longer side, as in faces.frame_of
_BORDER = 1 / 3  # of a tight picture's longer side, repeated edge pixels around it


@dataclass(frozen=True, eq=False)
class Sight:
    """What was seen in one picture.

    faces: how many; 0 where there is none, or where the picture could not be read. box: of the face
    that is taken, in pixels of the picture. score: the detector's for it, 0..1. picture: (SIDE,
    SIDE) uint8, the crop with its surroundings, or (SIZE, SIZE) where the whole picture is a crop;
    None where no face is taken. problem: why the picture could not be read, or empty.
    """

    faces: int = 0
    box: Box | None = None
    score: float = 0.0
    picture: Pixels | None = None
    problem: str = ""


def look(path: Path, known_box: Box | None = None) -> Sight:
    """Find the largest face of a picture, or the one that a data set's box marks.

    A gray picture of (SIZE, SIZE) is a crop already, and is taken as it is. Where no face is seen,
    the picture may be as tight as one: then it is looked at once more, with its edges repeated
    around it. Never raises for a picture that cannot be read.
    """
    try:
        image = read_photo(path)
    except SourceError as problem:
        return Sight(problem=str(problem).removeprefix(f"{path}: "))
    if image.shape[:2] == (SIZE, SIZE):
        return Sight(faces=1, picture=_gray_as_stored(path))
    gray = detect.gray(image)
    faces = _marked_faces(image, known_box) if known_box else _all_faces(image)
    if not faces:
        return Sight()
    box = faces[0].box
    return Sight(len(faces), box, faces[0].score, with_surroundings(gray, box))


def with_surroundings(gray: Pixels, box: Box) -> Pixels:
    """The (SIDE, SIZE) crop of a face with as much around it again; beyond the picture its edge
    pixels repeat.

    gray: (height, width) uint8. box: the face's, in its pixels.
    """
    square = box.square(1 + CROP.margin)
    larger = Preprocess(size=SIDE, margin=CROP.margin, normalization="none")
    picture = larger.cropped(gray, square.square(SIDE / SIZE))
    picture[MIDDLE, MIDDLE] = CROP(gray, box)
    return picture


def around_crop(crop: Pixels) -> Pixels:
    """A (SIZE, SIZE) crop of which nothing else is known, as (SIDE, SIDE): its edges repeat."""
    width = SIZE // 2
    bordered = cv2.copyMakeBorder(crop, width, width, width, width, cv2.BORDER_REPLICATE)
    return bordered  # type: ignore[return-value]


def thumbnail(path: Path) -> bytes | None:
    """A picture as PNG, its longer side at most THUMBNAIL pixels: the face that `look` takes in
    green, others in gray. None where it cannot be read.
    """
    try:
        image = read_photo(path)
    except SourceError:
        return None
    faces = _all_faces(image)
    scale = min(THUMBNAIL / max(image.shape[:2]), 1.0)
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    for index, face in enumerate(faces):
        box = face.box.scaled(scale, scale)
        corner = (round(box.x), round(box.y))
        end = (round(box.x + box.width), round(box.y + box.height))
        cv2.rectangle(small, corner, end, _TAKEN if index == 0 else _OTHERS, 2)
    return cv2.imencode(".png", small)[1].tobytes()


def setup() -> str:
    """What a sight depends on beside the picture and the known box, as text."""
    settings = DetectSettings()
    return f"{settings} {CROP} {SIDE} {_REGION} {_MIN_OVERLAP} {_ENLARGED} {_BORDER:.3f}"


@cache
def _detector() -> detect.Detector:
    cv2.setNumThreads(1)
    return detect.detector(DetectSettings())


def _gray_as_stored(path: Path) -> Pixels:
    """A picture that is known to be readable, as (height, width) uint8; a JPEG's own gray values,
    which a way round colours would change by one.
    """
    content = np.fromfile(path, np.uint8)
    return cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)  # type: ignore[return-value]


def _all_faces(image: Pixels) -> tuple[Face, ...]:
    """The faces of a picture, largest first."""
    faces = _detector()(Frame(image, 0, 0.0))
    return faces or _faces_of_tight(image)


def _faces_of_tight(image: Pixels) -> tuple[Face, ...]:
    """The faces of a picture that may hold nothing but one: small ones enlarged, all with their
    edges repeated around, as a camera would show more.
    """
    longer = max(image.shape[:2])
    scale = max(_ENLARGED / longer, 1.0)
    if scale > 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)  # type: ignore[assignment]
    border = round(longer * scale * _BORDER)
    kind = cv2.BORDER_REPLICATE
    bordered = cv2.copyMakeBorder(image, border, border, border, border, kind)
    faces = _detector()(Frame(bordered, 0, 0.0))  # type: ignore[arg-type]
    return tuple(_moved(face, -border, 1 / scale) for face in faces)


def _marked_faces(image: Pixels, known_box: Box) -> tuple[Face, ...]:
    """The face that the known box marks, or none: the detector looks at the box's surroundings, as
    if the person were near.
    """
    height, width = image.shape[:2]
    region = known_box.square(_REGION).intersection(Box(0, 0, width, height))
    left, top = round(region.x), round(region.y)
    part = image[top : top + round(region.height), left : left + round(region.width)]
    if not part.size:
        return ()
    seen = _all_faces(part)
    faces = [Face(_shifted(face.box, left, top), face.score) for face in seen]
    best = max(faces, key=lambda face: face.box.iou(known_box), default=None)
    return (best,) if best and best.box.iou(known_box) >= _MIN_OVERLAP else ()


def _moved(face: Face, offset: float, scale: float) -> Face:
    box = _shifted(face.box, offset, offset)
    return Face(box.scaled(scale, scale), face.score)


def _shifted(box: Box, x: float, y: float) -> Box:
    return box._replace(x=box.x + x, y=box.y + y)
