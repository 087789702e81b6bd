"""calibration_transfer.py BUNDLE FER2013 [FACES.npz]: does a calibration hold where it was not fitted?

For each corruption: temperature and threshold are fitted on the validation rows as they are and
under the others, and tried on this one; once so that the threshold holds on the hardest part, as
`mien-train calibrate` does, and once on the parts' mean. The same for faces of others, where a file
of imported ones is given: fitted on all parts, tried on these. FER+ votes lie next to the data.
It asserts nothing.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mien_edge.contract import softmax
from mien_edge.model.bundle import Bundle, load_bundle
from mien_train import metrics
from mien_train.data.balance import loss_weights
from mien_train.data.source import DataSource
from mien_train.data.splits import split_dataset
from mien_train.results.calibration import CalibrationRows, assess, calibrate
from mien_train.results.evaluate import (
    CalibrationSamples,
    bundle_crops,
    calibration_rows,
    int8_logits,
    mixed_samples,
    other_samples,
)


class Fitted(NamedTuple):
    """A temperature, and the thresholds that hold on the hardest part and on the parts' mean."""

    temperature: float
    hardest: float
    mean: float


def main(bundle: Bundle, fer2013: Path, faces: Path | None) -> None:
    """Measure and print."""
    dataset = DataSource(fer2013, fer2013.with_name("fer2013new.csv")).dataset
    rows = split_dataset(dataset, "official").validation
    validation = bundle_crops(bundle, dataset, rows)
    preprocess = bundle.card.preprocess
    samples = mixed_samples(validation, dataset.images[rows], preprocess)
    parts = [rows_of(bundle, each) for each in samples]
    target = validation.calibration_head.target_accuracy
    print(f"{bundle.card.id}, set for {target:.0%}: right of those given a label, and their share")  # noqa: T201
    for left_out in parts[1:]:
        others = [part for part in parts if part is not left_out]
        show(left_out, fit(others, bundle.card.labels, target))
    if faces is not None:
        named = {faces.name: DataSource(faces).dataset}
        [wild] = other_samples(validation.predicts, preprocess, named)
        show(rows_of(bundle, wild), fit(parts, bundle.card.labels, target))


def rows_of(bundle: Bundle, part: CalibrationSamples) -> CalibrationRows:
    """A part with the bundle's logits."""
    return calibration_rows(part, int8_logits(bundle.model, part.samples.crops))


def fit(parts: list[CalibrationRows], names: tuple[str, ...], target: float) -> Fitted:
    """Fit on the parts, both ways."""
    fitted = calibrate(parts, names, target, "")
    logits = np.concatenate([part.logits for part in parts])
    labels = np.concatenate([part.target_labels for part in parts])
    has_label = labels >= 0
    probabilities = softmax(logits[has_label], fitted.temperature)
    weights = loss_weights(labels[has_label])
    curve = metrics.risk_coverage(probabilities, labels[has_label], weights)
    mean = metrics.threshold_for_accuracy([curve], target)
    return Fitted(fitted.temperature, fitted.threshold, mean)


def show(part: CalibrationRows, fitted: Fitted) -> None:
    """Print how both thresholds do on a part, all labels counting equally."""
    [hardest] = assess([part], fitted.temperature, fitted.hardest).values()
    [mean] = assess([part], fitted.temperature, fitted.mean).values()
    print(  # noqa: T201
        f"{part.name:<12} hardest {hardest.accuracy:6.1%} of {hardest.coverage:6.1%}"
        f"   mean {mean.accuracy:6.1%} of {mean.coverage:6.1%}"
        f"   calibration error {hardest.calibration_error:5.1%}"
    )


if __name__ == "__main__":
    others = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    main(load_bundle(Path(sys.argv[1])), Path(sys.argv[2]), others)
