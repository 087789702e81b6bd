"""Colours of the labels, and pictures written whole or not at all."""

from pathlib import Path

import cv2

from mien_edge import files
from mien_edge.errors import SinkError
from mien_edge.values import Pixels

COLOURS = {
    "angry": (60, 60, 230), "disgust": (60, 150, 60), "fear": (200, 80, 170), "happy": (40, 190, 250),
    "sad": (220, 140, 50), "surprise": (200, 200, 60), "neutral": (190, 190, 190),
}  # fmt: skip
NO_LABEL = (140, 140, 140)


def save(path: Path, picture: Pixels) -> None:
    """Write a picture, completely or not at all.

    path: ends in .png or .jpg; its folder is created.
    picture: (height, width) gray or (height, width, 3) BGR, uint8.

    Raises SinkError if it cannot be written, or if OpenCV does not know the suffix.
    """
    try:
        with files.atomic_write(path) as temporary:
            if not cv2.imwrite(str(temporary), picture):
                raise OSError(f"OpenCV cannot write {path.suffix} files")
    except (OSError, cv2.error) as problem:
        reason = getattr(problem, "strerror", None) or "OpenCV refuses it"
        raise SinkError(f"{path}: cannot be written ({reason}); name a .png or .jpg file") from None
