"""`mien-train calibrate BUNDLE`: another temperature and threshold for a bundle, without training.

It becomes a new version of the bundle; the one that it is made from stays as it is.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from mien_edge import files
from mien_edge.contract import Calibration, Card
from mien_edge.errors import DataError
from mien_edge.model.bundle import Bundle, load_bundle
from mien_edge.text import encodable

from mien_train.data.read import Dataset
from mien_train.data.splits import Split, split_dataset, without_near_duplicates
from mien_train.results.calibration import VALIDATION_ROWS, MixedCalibration, calibrate
from mien_train.results.evaluate import (
    USUAL_CALIBRATION,
    CalibrationRequest,
    LabelledCrops,
    bundle_crops,
    bundle_head,
    calibration_rows,
    int8_logits,
    measure,
    mixed_samples,
    other_samples,
)
from mien_train.results.evaluation import Evaluation, NetworkEvaluation, Scores, labels_as_text
from mien_train.results.export import (
    CALIBRATION_BEGINNINGS,
    calibration_limitations,
    next_version,
    staged_bundle,
)


def recalibrate(
    bundle: Bundle,
    dataset: Dataset,
    split_name: str,
    models: Path,
    request: CalibrationRequest = USUAL_CALIBRATION,
    command: str = "",
) -> Bundle:
    """Write the next version of a bundle into the folder `models`: the same network, its
    calibration fitted anew on the dataset's validation rows and the data that `request` names, and
    the figures that depend on it measured again.

    split_name: one of splits.SPLITS. command: the line that the user typed. Raises DataError where
    no validation row has a label that the bundle has, and RunError for a card without figures.
    """
    figures = Evaluation.from_json(bundle.card.metrics, str(bundle.folder / "card.json"))
    split = split_dataset(dataset, split_name)
    validation = _validation(bundle, dataset, split)
    evaluation = _evaluate(bundle, dataset, split, validation, request, figures)
    version = max(next_version(models, bundle.card.name), bundle.card.version + 1)
    target = models / f"{bundle.card.name}-{version}"
    card = _card(bundle, version, evaluation, command)
    with staged_bundle(target) as staged:
        for name in bundle.card.files:
            files.write_bytes(staged / name, (bundle.folder / name).read_bytes())
        files.write_text(staged / "card.json", card.to_json())
    return load_bundle(target)


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


def _evaluate(
    bundle: Bundle,
    dataset: Dataset,
    split: Split,
    validation: LabelledCrops,
    request: CalibrationRequest,
    figures: Evaluation,
) -> Evaluation:
    """The figures of the bundle's card with a new calibration."""
    preprocess = bundle.card.preprocess
    parts = mixed_samples(validation, dataset.images[split.validation], preprocess)
    parts += other_samples(validation.predicts, preprocess, request.others)
    rows = [calibration_rows(part, int8_logits(bundle.model, part.samples.crops)) for part in parts]
    target = validation.calibration_head
    target_accuracy = request.target_accuracy or target.target_accuracy
    judged_by = labels_as_text(target.name)
    calibration = calibrate(rows, bundle.card.labels, target_accuracy, judged_by)
    temperature = calibration.temperature
    test: Scores = {}
    if len(split.test):
        is_unseen = without_near_duplicates(dataset, split)
        samples = bundle_crops(bundle, dataset, split.test, is_unseen)
        test = measure(samples, int8_logits(bundle.model, samples.crops), temperature)
    int8 = _network(
        figures.networks["int8"],
        calibration,
        measure(validation, rows[0].logits, temperature),
        test,
    )
    return replace(
        figures,
        networks={**figures.networks, "int8": int8},
        target_accuracy={target.name: target_accuracy},
        calibrated_on=VALIDATION_ROWS,
        calibration=calibration,
        fairness={},  # of the temperature before
    )


def _network(
    before: NetworkEvaluation, calibration: MixedCalibration, validation: Scores, test: Scores
) -> NetworkEvaluation:
    """The network's figures with another calibration."""
    as_they_are = next(iter(calibration.parts.values()))
    return replace(
        before,
        temperature=calibration.temperature,
        confidence_threshold=calibration.threshold,
        coverage=as_they_are.coverage,
        threshold_accuracy=as_they_are.accuracy,
        validation=validation,
        test=test,
    )


def _card(bundle: Bundle, version: int, evaluation: Evaluation, command: str) -> Card:
    before = bundle.card
    origin = {
        "bundle": before.id,
        "card": files.sha256(bundle.folder / "card.json"),
        "command": encodable(command),
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
