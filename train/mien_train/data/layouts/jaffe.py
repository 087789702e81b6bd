"""JAFFE, the Japanese Female Facial Expression data set (Lyons et al. 1998,
https://zenodo.org/records/3451524).

A picture's name says everything, as KA.AN1.39.tiff: the person's initials, the expression and which
one of it, and the picture's number. Expressions: AN anger, DI disgust, FE fear, HA happiness, NE
neutral, SA sadness, SU surprise (as in https://github.com/grgizem/matlab-pattern-matching,
read_jaffe.m).
"""

import re
from pathlib import Path

from mien_train.data.layouts.picture import Picture, matching_files

_LABELS = {
    "AN": "anger",
    "DI": "disgust",
    "FE": "fear",
    "HA": "happiness",
    "NE": "neutral",
    "SA": "sadness",
    "SU": "surprise",
}
_NAME = re.compile(r"([A-Z]{2})\.(AN|DI|FE|HA|NE|SA|SU)\d+\.\d+\.tiff?", re.IGNORECASE)


def read(folder: Path) -> list[Picture] | None:
    """The pictures of JAFFE in `folder`, or None where it is another data set. A person's pictures
    are a group.
    """
    pictures = [
        Picture(path, _LABELS[match[2].upper()], group=match[1].upper())
        for path, match in matching_files(folder, _NAME)
    ]
    return pictures or None
