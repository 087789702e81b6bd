"""`mien-train crop`: which margin makes a detector's crop look like FER2013's, measured and not
guessed.

The margin comes from FER2013 alone: the detector is shown validation pictures, and the margin is
chosen so that the crop's side is the picture's side in the median. Labelled photographs only
confirm it: their accuracy is drawn against the margin, and with and without aligned eyes, but
chooses nothing.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mien_edge import files, schema
from mien_edge.chain.classify import Classify
from mien_edge.chain.detect import detector
from mien_edge.chain.folders import Files
from mien_edge.chain.score import Score, read_labels
from mien_edge.errors import DataError, RunError
from mien_edge.model.bundle import Bundle, load_bundle
from mien_edge.model.interpreter import Classifier
from mien_edge.settings import DetectSettings, QualitySettings
from mien_edge.values import Face, Frame

from mien_train import plots
from mien_train.arrays import Doubles
from mien_train.data.faces import cached_boxes
from mien_train.progress import progress
from mien_train.results.result_file import read_result
from mien_train.training.run import OpenRun

MARGINS = (-0.3, -0.25, -0.2, -0.15, -0.1, -0.05, 0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
_MAX_PICTURES = 1500


@dataclass(frozen=True)
class CropResult:
    """What the detector's boxes say of the margin.

    pictures, missed: validation pictures with and without a detected face. median: of the boxes'
    longer side, as a share of the picture's. margin: what makes the crop's side the picture's.
    used: the bundle's margin.
    accuracy: of labelled photographs at each of MARGINS, 0..1, 'upright' and 'levelled' (eyes
    aligned); None without photographs.
    """

    pictures: int
    missed: int
    median: float
    margin: float
    used: float
    accuracy: dict[str, tuple[float, ...]] | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON's values, as crop.json holds them; `accuracy` is left out where it is None."""
        values = schema.to_dict(self)
        if self.accuracy is None:
            del values["accuracy"]
        return values


class _DetectedPhotograph(NamedTuple):
    """A photograph, and its largest face or none."""

    frame: Frame
    faces: tuple[Face, ...]


def crop(run: OpenRun, bundle_folder: Path, photographs: Path | None) -> CropResult:
    """Measure the margin, and write crop.json into the run's folder; with photographs crop.png,
    too.

    photographs: a folder of .jpg files and their labels.csv. Raises BundleError for what is no
    whole bundle, and DataError where no face is detected or labels.csv names none of the
    photographs.
    """
    bundle = load_bundle(bundle_folder)
    rows = run.split.validation[:_MAX_PICTURES]
    sides = longer_sides(cached_boxes(run.dataset, rows))
    if not len(sides):
        raise DataError(
            f"{run.folder}: no face is detected in its validation pictures; use FER2013"
        )
    median = float(np.median(sides))
    result = CropResult(
        pictures=len(sides),
        missed=len(rows) - len(sides),
        median=median,
        margin=round(1 / median - 1, 3),
        used=bundle.card.preprocess.margin,
    )
    if photographs:
        accuracy = photograph_accuracies(bundle, photographs)
        result = dataclasses.replace(result, accuracy=accuracy)
        ylabel = "accuracy on photographs"
        picture = plots.lines(MARGINS, accuracy, "margin", ylabel, mark=result.used)
        files.write_bytes(run.folder / "crop.png", picture)
    files.write_text(run.folder / "crop.json", json.dumps(result.to_json(), indent=1) + "\n")
    return result


def read_crop(folder: Path) -> CropResult | None:
    """Read crop.json of a run's folder; None where there is no such file. Raises RunError where it
    is damaged.
    """
    path = folder / "crop.json"
    values = read_result(path, f"run: mien-train crop {folder}")
    return None if values is None else schema.from_dict(CropResult, values, str(path), RunError)


def longer_sides(boxes: Doubles) -> Doubles:
    """The longer side of each of the (n, 4) boxes that is not NaN: (m,), in the boxes' unit."""
    longer = boxes[:, 2:].max(axis=1)
    return longer[np.isfinite(longer)]


def photograph_accuracies(bundle: Bundle, folder: Path) -> dict[str, tuple[float, ...]]:
    """Accuracy, 0..1, over labelled photographs at each of MARGINS: 'upright', and 'levelled' with
    the eyes aligned.

    Raises DataError where labels.csv names none of the folder's photographs.
    """
    labels = read_labels(folder / "labels.csv", bundle.card.labels)
    photographs = _detect_faces(folder, labels)
    classifier = Classifier(bundle.model)
    accuracies = {}
    for name, align in (("upright", False), ("levelled", True)):
        settings = QualitySettings(align=align)
        classifiers = [
            Classify(_with_margin(bundle, margin), classifier, settings) for margin in MARGINS
        ]
        accuracies[name] = tuple(
            _accuracy(classify, photographs, labels) for classify in classifiers
        )
    return accuracies


def _detect_faces(folder: Path, labels: dict[str, str]) -> list[_DetectedPhotograph]:
    photographs = Files([str(folder)])
    frames = [frame for frame in photographs if frame.name in labels]
    if not frames:
        raise DataError(f"{folder}: none of labels.csv's photographs is here; give their folder")
    detect = detector(DetectSettings())
    shown = progress(frames, "finding faces", "photographs")
    return [_DetectedPhotograph(frame, detect(frame)[:1]) for frame in shown]


def _with_margin(bundle: Bundle, margin: float) -> Bundle:
    preprocess = dataclasses.replace(bundle.card.preprocess, margin=margin)
    card = dataclasses.replace(bundle.card, preprocess=preprocess)
    return dataclasses.replace(bundle, card=card)


def _accuracy(
    classify: Classify,
    photographs: list[_DetectedPhotograph],
    labels: dict[str, str],
) -> float:
    score = Score(labels, classify.card.labels)
    for photograph in photographs:
        frame = photograph.frame
        score(frame, classify(frame, photograph.faces))
    return float(score.result()["accuracy"])
