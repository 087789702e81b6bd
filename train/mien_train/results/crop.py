"""`mien-train crop`: which margin makes a detector's crop look like FER2013's, measured and not guessed.

The margin comes from FER2013 alone: the detector is shown validation pictures, and the margin is chosen so that the
crop's side is the picture's side in the median. Labelled photographs only confirm it: their accuracy is drawn against
the margin, and with and without levelled eyes, but chooses nothing.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mien_edge import files
from mien_edge.chain import detect, score, sources
from mien_edge.chain.classify import Classify
from mien_edge.errors import DataError
from mien_edge.model.bundle import Bundle, load_bundle
from mien_edge.model.interpreter import Classifier
from mien_edge.settings import DetectSettings, QualitySettings
from mien_edge.values import Face, Frame
from numpy.typing import NDArray
from tqdm import tqdm

from mien_train import plots
from mien_train.data import faces
from mien_train.training.run import Run

MARGINS = (-0.3, -0.25, -0.2, -0.15, -0.1, -0.05, 0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
_PICTURES = 1500


def crop(run: Run, bundle_folder: Path, photographs: Path | None) -> dict[str, Any]:
    """Measure and write crop.json and crop.png into the run folder."""
    bundle = load_bundle(bundle_folder)
    dataset = run.dataset()
    chosen = run.split(dataset).validation[:_PICTURES]
    sides = longer_sides(faces.known_boxes(dataset)[chosen])
    median = float(np.median(sides))
    result: dict[str, Any] = {
        "pictures": len(sides), "missed": len(chosen) - len(sides),
        "median": median, "margin": round(1 / median - 1, 3), "used": bundle.card.preprocess.margin,
    }  # fmt: skip
    if photographs:
        result["accuracy"] = accuracies(bundle, photographs)
        picture = plots.lines(
            MARGINS, result["accuracy"], "margin", "accuracy on photographs", bundle.card.preprocess.margin
        )
        files.write_bytes(run.folder / "crop.png", picture)
    files.write_text(run.folder / "crop.json", json.dumps(result, indent=1) + "\n")
    return result


def longer_sides(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The longer side of each box that is there."""
    longer = boxes[:, 2:].max(axis=1)
    return longer[np.isfinite(longer)]


def accuracies(bundle: Bundle, photographs: Path) -> dict[str, Sequence[float]]:
    """Accuracy over labelled photographs for each of MARGINS, upright and with levelled eyes."""
    labels = score.read_labels(photographs / "labels.csv")
    frames = [frame for frame in sources.Photos(sorted(photographs.glob("*.jpg")), photographs) if frame.name in labels]
    if not frames:
        raise DataError(f"{photographs}: none of labels.csv's photographs is here; give the folder that holds them")
    finder = detect.detector(DetectSettings())
    found = [(frame, finder(frame)[:1]) for frame in tqdm(frames, desc="photographs", leave=False, disable=None)]
    classifier = Classifier(bundle.model)
    return {
        name: [_accuracy(bundle, classifier, found, labels, margin, level) for margin in MARGINS]
        for name, level in (("upright", False), ("levelled", True))
    }


def _accuracy(
    bundle: Bundle, classifier: Classifier, found: list[tuple[Frame, tuple[Face, ...]]], labels: dict[str, str],
    margin: float, level: bool,
) -> float:  # fmt: skip
    preprocess = dataclasses.replace(bundle.card.preprocess, margin=margin)
    card = dataclasses.replace(bundle.card, preprocess=preprocess)
    classify = Classify(dataclasses.replace(bundle, card=card), classifier, QualitySettings(align=level))
    scored = score.Score(labels)
    for frame, seen in found:
        scored(classify(frame, seen))
    return float(scored.result()["accuracy"])
