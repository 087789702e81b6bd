"""AffectNet (Mollahosseini et al. 2017, https://arxiv.org/abs/1708.03985) in both of its layouts.

The first: Manually_Annotated_Images/ and training.csv and validation.csv with the columns
subDirectory_filePath, face_x, face_y, face_width, face_height, facial_landmarks, expression,
valence, arousal. The second: train_set/ and val_set/, each with images/0.jpg and
annotations/0_exp.npy. Both are described in https://github.com/sb-ai-lab/EmotiEffLib/issues/14;
expressions are 0 neutral, 1 happy, 2 sad, 3 surprise, 4 fear, 5 disgust, 6 anger, 7 contempt, 8
none, 9 uncertain, 10 no face (section 3 of the paper). Its test set was never given out, so its
validation rows are what results are reported on.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from mien_edge.errors import DataError
from mien_edge.textfiles import Row, Table, open_lines
from mien_edge.values import Box

from mien_train.data.layouts.picture import TEST, TRAIN, Picture, first_existing

_LABELS = (
    "neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt",
)  # fmt: skip
_DOUBTS = {8: "no expression, say its labellers", 9: "uncertain", 10: "no face, say its labellers"}
_TABLES = {"training.csv": TRAIN, "validation.csv": TEST}
_FOLDERS = {"train_set": TRAIN, "val_set": TEST}
_BOX = ("face_x", "face_y", "face_width", "face_height")
_COLUMNS = ("subDirectory_filePath", *_BOX, "expression")
_LISTS = ("", "Manually_Annotated_file_lists", "Manually_Annotated")
_IMAGES = ("Manually_Annotated_Images", "Manually_Annotated/Manually_Annotated_Images", "")


def read(folder: Path) -> list[Picture] | None:
    """The pictures of AffectNet in `folder`, or None where it is another data set.

    Raises DataError that names the file and line for a malformed table or annotation.
    """
    pictures: list[Picture] = []
    for name, split in _TABLES.items():
        table = first_existing([folder / place / name for place in _LISTS])
        if table is not None and _is_affectnet(table):
            pictures += _table_pictures(folder, table, split)
    for name, split in _FOLDERS.items():
        if (folder / name / "annotations").is_dir():
            pictures += _annotated_pictures(folder / name, split)
    return pictures or None


def _is_affectnet(table: Path) -> bool:
    with table.open("rb") as content:
        try:
            Table(open_lines(content), _COLUMNS)
        except ValueError:
            return False
    return True


def _table_pictures(folder: Path, table: Path, split: str) -> Iterator[Picture]:
    images = first_existing([folder / place for place in _IMAGES if place]) or folder
    with table.open("rb") as content:
        for row in Table(open_lines(content), _COLUMNS):
            try:
                yield _row_picture(images, row, split)
            except ValueError as problem:
                text = f"{table}: line {row.line}: {problem}; correct the line"
                raise DataError(text) from None


def _row_picture(images: Path, row: Row, split: str) -> Picture:
    """Raises ValueError that says what is wrong with the row."""
    x, y, width, height = (float(row[column]) for column in _BOX)
    box = Box(x, y, width, height) if width > 0 and height > 0 else None
    return _picture(images / row["subDirectory_filePath"], int(row["expression"]), split, box)


def _annotated_pictures(part: Path, split: str) -> Iterator[Picture]:
    for annotation in sorted((part / "annotations").glob("*_exp.npy")):
        stem = annotation.name.removesuffix("_exp.npy")
        try:
            # The files hold the digit as text; they are never unpickled, for that runs code.
            expression = int(np.load(annotation, allow_pickle=False).item())
            yield _picture(part / "images" / f"{stem}.jpg", expression, split, None)
        except (ValueError, EOFError) as problem:
            raise DataError(f"{annotation}: {problem}; copy the file again") from None


def _picture(path: Path, expression: int, split: str, box: Box | None) -> Picture:
    if expression in _DOUBTS:
        return Picture(path, "", split, box=box, doubt=_DOUBTS[expression])
    if not 0 <= expression < len(_LABELS):
        raise ValueError(f"expression {expression} is not 0 to 10")
    return Picture(path, _LABELS[expression], split, box=box)
