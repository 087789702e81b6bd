"""`mien-train calibrate BUNDLE`: another temperature and threshold for a bundle, without training.

It becomes a new version of the bundle; the one that it is made from stays as it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from mien_edge import files, schema
from mien_edge.contract import Calibration, Card
from mien_edge.errors import DataError
from mien_edge.model.bundle import Bundle, load_bundle
from mien_edge.text import encodable

from mien_train.arrays import Floats
from mien_train.data.read import Dataset
from mien_train.data.splits import Split, split_dataset, without_near_duplicates
from mien_train.results.calibration import (
    VALIDATION_ROWS,
    CalibrationRows,
    PartCalibration,
    assess,
    calibrate,
)
from mien_train.results.evaluate import (
    USUAL_CALIBRATION,
    CalibrationRequest,
    CalibrationSamples,
    LabelledCrops,
    bundle_crops,
    bundle_head,
    calibration_rows,
    evaluate_network,
    int8_logits,
    mixed_samples,
    other_samples,
)
from mien_train.results.evaluation import Evaluation, labels_as_text
from mien_train.results.export import (
    CALIBRATION_BEGINNINGS,
    calibration_limitations,
    next_version,
    staged_bundle,
)


@dataclass(frozen=True)
class Recalibration:
    """A bundle with another calibration, and what this does on each part of its data, and on the
    test rows where there are any, beside the calibration before.
    """

    bundle: Bundle
    before: dict[str, PartCalibration]
    after: dict[str, PartCalibration]

    def to_json(self) -> dict[str, Any]:
        """JSON's values, as `--json` prints them."""
        return {
            "model": self.bundle.card.id,
            "bundle": str(self.bundle.folder),
            "calibration": schema.to_dict(self.bundle.card.calibration),
            "scope": self.bundle.card.calibration_scope,
            "unreliable": list(self.bundle.card.unreliable_labels),
            "before": {name: schema.to_dict(part) for name, part in self.before.items()},
            "after": {name: schema.to_dict(part) for name, part in self.after.items()},
        }

    def as_text(self) -> str:
        """A line for each part, and the card's sentence."""
        lines = ["all labels counting equally: given a label, of these right, calibration error"]
        for name, after in self.after.items():
            before = self.before[name]
            figures = f"{_figures(before)}   now {_figures(after)}"
            lines.append(f"{name:<16} {after.rows:>5} rows   before {figures}")
        lines.append(self.bundle.card.calibration_scope)
        unreliable = ", ".join(self.bundle.card.unreliable_labels) or "none"
        lines.append(f"cannot be told reliably: {unreliable}")
        return "\n".join(lines)


def _figures(part: PartCalibration) -> str:
    return f"{part.coverage:6.1%} {part.accuracy:6.1%} {part.calibration_error:6.1%}"


def recalibrate(
    bundle: Bundle,
    dataset: Dataset,
    split_name: str,
    models: Path,
    request: CalibrationRequest = USUAL_CALIBRATION,
    command: str = "",
) -> Recalibration:
    """Write the next version of a bundle into the folder `models`: the same network, its
    calibration fitted anew on the dataset's validation rows and the data that `request` names, and
    the figures that depend on it measured again.

    split_name: one of splits.SPLITS. command: the line that the user typed. Raises DataError where
    no validation row has a label that the bundle has, and RunError for a card without figures.
    """
    card = bundle.card
    figures = Evaluation.from_json(card.metrics, str(bundle.folder / "card.json"))
    split = split_dataset(dataset, split_name)
    rows = _measured_rows(bundle, dataset, split, request)
    target = rows.validation.calibration_head
    target_accuracy = request.target_accuracy or target.target_accuracy
    judged_by = labels_as_text(target.name)
    calibration = calibrate(rows.parts, card.labels, target_accuracy, judged_by)
    int8 = evaluate_network(
        calibration, rows.validation, rows.parts[0].logits, rows.test, rows.test_logits
    )
    evaluation = replace(
        figures,
        networks={**figures.networks, "int8": int8},
        target_accuracy={target.name: target_accuracy},
        calibrated_on=VALIDATION_ROWS,
        calibration=calibration,
        fairness={},  # of the temperature before
    )
    version = max(next_version(models, card.name), card.version + 1)
    path = models / f"{card.name}-{version}"
    with staged_bundle(path) as staged:
        for name in card.files:
            files.write_bytes(staged / name, (bundle.folder / name).read_bytes())
        files.write_text(
            staged / "card.json", _card(bundle, version, evaluation, request, command).to_json()
        )
    measured = [*rows.parts, *rows.test_rows(split.test_name)]
    before = card.calibration
    return Recalibration(
        load_bundle(path),
        before=assess(measured, before.temperature, before.confidence_threshold),
        after=assess(measured, calibration.temperature, calibration.threshold),
    )


class _MeasuredRows(NamedTuple):
    """What a bundle is calibrated on, and measured on afterwards.

    parts: the first is of the validation rows as they are. test: without rows for a split without.
    """

    validation: LabelledCrops
    parts: list[CalibrationRows]
    test: LabelledCrops
    test_logits: Floats

    def test_rows(self, name: str) -> Iterator[CalibrationRows]:
        """Yield the test rows as a part of that name, if there are any."""
        if self.test.heads:
            yield calibration_rows(CalibrationSamples(name, self.test), self.test_logits)


def _measured_rows(
    bundle: Bundle, dataset: Dataset, split: Split, request: CalibrationRequest
) -> _MeasuredRows:
    preprocess = bundle.card.preprocess
    validation = _validation(bundle, dataset, split)
    samples = mixed_samples(validation, dataset.images[split.validation], preprocess)
    samples += other_samples(validation.predicts, preprocess, request.others)
    parts = [
        calibration_rows(part, int8_logits(bundle.model, part.samples.crops)) for part in samples
    ]
    is_unseen = without_near_duplicates(dataset, split)
    test = bundle_crops(bundle, dataset, split.test, is_unseen)
    return _MeasuredRows(validation, parts, test, int8_logits(bundle.model, test.crops))


def _validation(bundle: Bundle, dataset: Dataset, split: Split) -> LabelledCrops:
    if bundle_head(bundle).needs_votes and dataset.votes is None:
        raise DataError(
            f"{bundle.card.id} predicts FER+ votes; put fer2013new.csv next to the data, or name "
            "it with --ferplus"
        )
    samples = bundle_crops(bundle, dataset, split.validation)
    if not samples.heads:
        raise DataError(
            "no validation row has a label that the bundle has; name other --data, or more of it"
        )
    return samples


def _card(
    bundle: Bundle,
    version: int,
    evaluation: Evaluation,
    request: CalibrationRequest,
    command: str,
) -> Card:
    before = bundle.card
    origin = {
        "bundle": before.id,
        "card": files.sha256(bundle.folder / "card.json"),
        "command": encodable(command),
        "calibration_data": request.provenance(),
    }
    int8 = evaluation.networks["int8"]
    return replace(
        before,
        version=version,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        calibration=Calibration(int8.temperature, int8.confidence_threshold),
        provenance={**before.provenance, "recalibrated": origin},
        metrics=evaluation.to_json(),
        limitations=tuple(_limitations(before, evaluation)),
    )


def _limitations(before: Card, evaluation: Evaluation) -> Iterator[str]:
    """Yield the card's sentences, with new ones where it spoke of the calibration."""
    is_said = False
    for sentence in before.limitations:
        if not sentence.startswith(CALIBRATION_BEGINNINGS):
            yield sentence
        elif not is_said:
            yield from calibration_limitations(evaluation)
            is_said = True
    if not is_said:
        yield from calibration_limitations(evaluation)
