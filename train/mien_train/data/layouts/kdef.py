"""KDEF, the Karolinska Directed Emotional Faces (Lundqvist, Flykt & Öhman 1998,
https://www.kdef.se/home/aboutKDEF.html).

A picture's name says everything, as AF01ANS.JPG: session (A, B), gender (F, M), number of the
person, expression and angle. Expressions: AF afraid, AN angry, DI disgusted, HA happy, NE neutral,
SA sad, SU surprised; angles: FL and FR full, HL and HR half left and right profile, S straight. The
codes are those of https://www.kdef.se/home/about%20akdef.html.
"""

import re
from pathlib import Path

from mien_train.data.layouts.picture import Picture, matching_files

_LABELS = {
    "AF": "afraid",
    "AN": "angry",
    "DI": "disgusted",
    "HA": "happy",
    "NE": "neutral",
    "SA": "sad",
    "SU": "surprised",
}
_NAME = re.compile(r"[AB]([FM]\d\d)(AF|AN|DI|HA|NE|SA|SU)(FL|HL|S|HR|FR)\.jpe?g", re.IGNORECASE)


def read(folder: Path) -> list[Picture] | None:
    """The pictures of KDEF in `folder`, or None where it is another data set. A person's pictures
    of both sessions are a group.
    """
    pictures = [
        Picture(path, _LABELS[match[2].upper()], group=match[1].upper())
        for path, match in matching_files(folder, _NAME)
    ]
    return pictures or None
