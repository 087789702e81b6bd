"""FER+ as image folders (Barsoum et al. 2016, https://github.com/microsoft/FERPlus).

generate_training_data.py of that repository writes FER2013's pictures as FER2013Train/,
FER2013Valid/ and FER2013Test/fer0000000.png; label.csv in each has no header, and rows of the
picture's name, its box as '(0, 0, 48, 48)', which some copies lack, and the ten votes: neutral,
happiness, surprise, sadness, anger, disgust, fear, contempt, unknown, NF (no face).
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from mien_edge.errors import DataError
from mien_edge.textfiles import open_lines

from mien_train.data.layouts.picture import PRIVATE_TEST, TEST, TRAIN, Picture
from mien_train.data.read import VOTES

_FOLDERS = {"FER2013Train": TRAIN, "FER2013Valid": TEST, "FER2013Test": PRIVATE_TEST}


def read(folder: Path) -> list[Picture] | None:
    """The pictures of FER+'s folders in `folder` or its folder images/, or None where it is another
    data set. The label is what most people voted for, none where votes tie.

    Raises DataError that names the line for a malformed table.
    """
    pictures: list[Picture] = []
    for root in (folder, folder / "images", folder / "data"):
        for name, split in _FOLDERS.items():
            if (root / name / "label.csv").is_file():
                pictures += _pictures(root / name, split)
    return pictures or None


def _pictures(part: Path, split: str) -> Iterator[Picture]:
    table = part / "label.csv"
    with table.open("rb") as content:
        for number, cells in enumerate(csv.reader(open_lines(content)), 1):
            if not cells:
                continue
            try:
                votes = tuple(int(float(cell)) for cell in cells[-len(VOTES) :])
                picture = _picture(part / cells[0], split, votes)
            except ValueError as problem:
                text = f"{table}: line {number}: {problem}; copy FER+'s file again"
                raise DataError(text) from None
            yield picture


def _picture(path: Path, split: str, votes: tuple[int, ...]) -> Picture:
    """Raises ValueError that says what is wrong with the votes."""
    if len(votes) != len(VOTES) or min(votes) < 0:
        raise ValueError(f"not {len(VOTES)} votes")
    winners = [name for name, count in zip(VOTES, votes, strict=True) if count == max(votes)]
    if winners == ["NF"]:
        return Picture(path, "", split, votes=votes, doubt="no face, say most of FER+'s people")
    has_label = len(winners) == 1 and winners != ["unknown"]
    return Picture(path, winners[0] if has_label else "", split, votes=votes)
