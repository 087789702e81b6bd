"""From which height on faces are found: recall by their height in a frame, per detector size.

    python tests/system/detector_reach.py PHOTOS [PHOTOS …]

PHOTOS are files and folders. A face counts if the detector finds it at one of several large sizes
with a score of 0.8 or more. The photograph is then reduced until the face has the height of the
row, and laid into a gray frame of 640 x 480 with that face in its middle. Found is what overlaps
the true box by half (intersection over union).

Photographs that are cropped to the face lack head and shoulders, and are found much later than
faces in whole photographs. FOUND_PIXELS in mien_edge/chain/reach.py rests on the six
photographs demo/sample*.jpg of `npm pack @vladmandic/face-api@1.7.15` (22 faces with their
surroundings).
"""

import sys
from dataclasses import dataclass

import cv2
import numpy as np
from mien_edge.chain import detect, photos
from mien_edge.chain.folders import Files
from mien_edge.settings import DetectSettings
from mien_edge.values import Box, Face, Frame, Pixels

FRAME_WIDTH = 640
FRAME_HEIGHT = 480
GRAY = 110
FACE_HEIGHTS = (16, 20, 24, 28, 32, 36, 40, 48, 56, 64, 80, 96, 128)
SIZES = (128, 160, 192, 256, 320, 384, 512, 640)
REFERENCE_SIZES = (320, 640, 1024, 1600)
REFERENCE_SCORE = 0.8
MIN_OVERLAP = 0.5


@dataclass(frozen=True, slots=True)
class Target:
    """A face that is to be found, in its photograph."""

    picture: Pixels
    box: Box


def targets(picture: Pixels) -> list[Target]:
    """The faces of a photograph, each by the first size that finds it."""
    margin = max(picture.shape[:2]) // 4
    bordered = cv2.copyMakeBorder(
        picture, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=(GRAY,) * 3
    )
    boxes: list[Box] = []
    for size in REFERENCE_SIZES:
        for face in find(DetectSettings(size=size, blur=False), bordered):
            is_new = all(box.iou(face.box) < MIN_OVERLAP for box in boxes)
            if face.score >= REFERENCE_SCORE and is_new:
                boxes.append(face.box)
    return [
        Target(picture, Box(box.x - margin, box.y - margin, box.width, box.height)) for box in boxes
    ]


def find(settings: DetectSettings, picture: Pixels) -> tuple[Face, ...]:
    """The faces that the detector finds in one picture."""
    return detect.YuNet(settings)(Frame(picture, 0, 0.0))


def in_frame(target: Target, height: float) -> tuple[Pixels, Box] | None:
    """A frame in whose middle the face is `height` pixels high, and its box there; None where it
    would have to be enlarged.
    """
    factor = height / target.box.height
    if factor > 1:
        return None
    picture = cv2.resize(target.picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    fx = picture.shape[1] / target.picture.shape[1]
    fy = picture.shape[0] / target.picture.shape[0]
    box = target.box.scaled(fx, fy)
    left = round(FRAME_WIDTH / 2 - box.x - box.width / 2)
    top = round(FRAME_HEIGHT / 2 - box.y - box.height / 2)
    matrix = np.array([[1.0, 0, left], [0, 1.0, top]])
    frame = cv2.warpAffine(
        picture,
        matrix,
        (FRAME_WIDTH, FRAME_HEIGHT),
        flags=cv2.INTER_NEAREST,
        borderValue=(GRAY,) * 3,
    )
    return frame, Box(box.x + left, box.y + top, box.width, box.height)


def main(names: list[str]) -> None:
    """Print the table."""
    pictures = [photos.read_photo(file.path) for file in Files(names).files if not file.is_video]
    faces = [target for picture in pictures for target in targets(picture)]
    print(f"{len(faces)} faces in {len(pictures)} photographs")  # noqa: T201
    detectors = {size: detect.YuNet(DetectSettings(size=size)) for size in SIZES}
    print("height" + "".join(f"{size:>7}" for size in SIZES) + "   faces")  # noqa: T201
    for height in FACE_HEIGHTS:
        views = [view for face in faces if (view := in_frame(face, height))]
        shares = []
        for detector in detectors.values():
            hits = [
                any(box.iou(face.box) >= MIN_OVERLAP for face in detector(Frame(frame, 0, 0.0)))
                for frame, box in views
            ]
            shares.append(sum(hits) / max(len(hits), 1))
        print(f"{height:<6}" + "".join(f"{share:>7.0%}" for share in shares) + f"{len(views):>8}")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
