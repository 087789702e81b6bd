"""`mien-train robustness`: what accuracy is left when pictures get worse, in eight ways at five
strengths each.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mien_edge import files, schema
from mien_edge.errors import RunError
from mien_edge.model.bundle import Bundle

from mien_train import plots
from mien_train.arrays import Labels, Pixels
from mien_train.data.corruptions import CORRUPTIONS, Corruption, corrupt
from mien_train.data.read import Dataset
from mien_train.data.splits import require_test, split_dataset
from mien_train.progress import Progress
from mien_train.results.evaluate import bundle_crops, int8_logits
from mien_train.results.result_file import read_result
from mien_train.training.run import OpenRun


@dataclass(frozen=True)
class CorruptionResult:
    """Accuracy, 0..1, at each strength of one corruption, and the unit of the strengths."""

    unit: str
    strengths: tuple[float, ...]
    accuracy: tuple[float, ...]


@dataclass(frozen=True)
class RobustnessResult:
    """One bundle's accuracy, 0..1, on the test rows, by the labels of its head or their kind.

    model: NAME-VERSION. rows: how many were measured. clean: on the pictures as they are. mean:
    over all corruptions and strengths.
    """

    model: str
    head: str
    rows: int
    clean: float
    mean: float
    corruptions: dict[str, CorruptionResult]

    def to_json(self) -> dict[str, Any]:
        """JSON's values, as robustness.json and `--json` hold them."""
        return schema.to_dict(self)

    def as_text(self) -> str:
        """A line for each corruption, for a terminal."""
        lines = [
            f"{self.model}, {self.head} labels, {self.rows} test rows: clean {self.clean:.1%}",
            *(_line(name, result) for name, result in self.corruptions.items()),
            f"mean over all {self.mean:.1%}",
        ]
        return "\n".join(lines)


def measure(bundle: Bundle, dataset: Dataset, split_name: str) -> RobustnessResult:
    """Measure a bundle on the test rows: clean, and under each corruption at each strength.

    split_name: one of splits.SPLITS. Raises DataError where the split has no test rows.
    """
    rows = require_test(split_dataset(dataset, split_name)).test
    samples = bundle_crops(bundle, dataset, rows)
    head = samples.reference_head.name
    has_label, labels = samples.labelled(head)
    images = dataset.images[rows[has_label]]
    corruptions = {}
    count = sum(len(corruption.strengths) for corruption in CORRUPTIONS)
    with Progress(f"corrupting for {bundle.card.id}", "strengths", count) as shown:
        for corruption in CORRUPTIONS:
            result = _measure_corruption(bundle, images, labels, corruption, shown)
            corruptions[corruption.name] = result
    return RobustnessResult(
        model=bundle.card.id,
        head=head,
        rows=len(labels),
        clean=_accuracy(bundle, images, labels),
        mean=float(np.mean([result.accuracy for result in corruptions.values()])),
        corruptions=corruptions,
    )


def measure_run(run: OpenRun, bundles: Sequence[Bundle]) -> list[RobustnessResult]:
    """Measure a run's bundles and write robustness.json into its folder; those it holds are not
    measured again.

    Empty for a split without test rows.
    """
    if not len(run.split.test):
        return []
    measured = {result.model: result for result in read_robustness(run.folder)}
    results: list[RobustnessResult] = []
    for bundle in bundles:
        result = measured.get(bundle.card.id)
        if result is None:
            result = measure(bundle, run.dataset, run.record["split"])
        results.append(result)
        text = json.dumps([result.to_json() for result in results], indent=1)
        files.write_text(_path(run.folder), text + "\n")
    return results


def read_robustness(folder: Path) -> list[RobustnessResult]:
    """The results in robustness.json of a run's folder; empty where there is no such file.

    Raises RunError where it is damaged.
    """
    path = _path(folder)
    values = read_result(path) or []
    return [schema.from_dict(RobustnessResult, value, str(path), RunError) for value in values]


def draw(results: Sequence[RobustnessResult]) -> bytes:
    """A PNG of the bundles' accuracies, one panel per corruption."""
    return plots.robustness([_curves(result) for result in results])


def _measure_corruption(
    bundle: Bundle,
    images: Pixels,
    labels: Labels,
    corruption: Corruption,
    shown: Progress,
) -> CorruptionResult:
    accuracies = []
    for strength in corruption.strengths:
        corrupted = corrupt(images, corruption, strength)
        accuracies.append(_accuracy(bundle, corrupted, labels))
        shown.update()
    return CorruptionResult(corruption.unit, corruption.strengths, tuple(accuracies))


def _accuracy(bundle: Bundle, images: Pixels, labels: Labels) -> float:
    logits = int8_logits(bundle.model, bundle.card.preprocess.normalize(images))
    return float((logits.argmax(axis=1) == labels).mean())


def _path(folder: Path) -> Path:
    return folder / "robustness.json"


def _curves(result: RobustnessResult) -> plots.RobustnessCurves:
    corruptions = {
        name: plots.CorruptionAccuracy(corruption.unit, corruption.strengths, corruption.accuracy)
        for name, corruption in result.corruptions.items()
    }
    return plots.RobustnessCurves(result.model, result.clean, corruptions)


def _line(name: str, result: CorruptionResult) -> str:
    """'blur   0.5: 80.1%   0.8: …   (pixels)'."""
    cells = ""
    for strength, accuracy in zip(result.strengths, result.accuracy, strict=True):
        cell = f"{strength:g}: {accuracy:.1%}"
        cells += f"{cell:>14}"
    return f"{name:<10}{cells}   ({result.unit})"
