"""Measure a run's networks, or a bundle, on validation and PublicTest rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mien_edge import files
from mien_edge.contract import LABELS, Calibration, Preprocess, softmax
from mien_edge.errors import RunError
from mien_edge.model import estimates, tflite
from mien_edge.model.bundle import Bundle
from mien_edge.model.interpreter import Classifier
from mien_edge.model.profile import profile_layers

from mien_train import metrics
from mien_train.arrays import Array, Floats, Indices, Labels, Mask, Pixels
from mien_train.data import faces
from mien_train.data.heads import FER2013, HEADS, Head, calibration_head, find_head
from mien_train.data.read import Dataset
from mien_train.data.splits import split_dataset, without_near_duplicates
from mien_train.metrics import McNemar
from mien_train.progress import progress
from mien_train.results.evaluation import (
    BundleComparison,
    BundleEvaluation,
    DeviceMetrics,
    EvaluatedData,
    Evaluation,
    NetworkCost,
    NetworkEvaluation,
    Scores,
    write_evaluation,
)
from mien_train.training import fit, loop, quantize
from mien_train.training.run import OpenRun


@dataclass(frozen=True, eq=False)
class LabelledCrops:
    """Rows to measure on.

    crops: normalized (n, s, s) uint8.
    labels: (n,) int8 by the name of each head that the data has labels for, -1 for a row without
    one.
    is_unseen: (n,) whether a row has no near duplicate among the training rows, or None.
    """

    crops: Pixels
    labels: dict[str, Labels]
    is_unseen: Mask | None = None

    def __len__(self) -> int:
        return len(self.crops)

    @property
    def heads(self) -> list[str]:
        """The heads that any of the rows has a label of."""
        return [head for head, labels in self.labels.items() if (labels >= 0).any()]

    @property
    def calibration_head(self) -> Head:
        """The head whose labels the confidence threshold goes by."""
        return calibration_head(map(find_head, self.heads))

    def labelled(self, head: str) -> tuple[Mask, Labels]:
        """Which rows have a label of that head, (n,), and those labels, (m,)."""
        labels = self.labels.get(head, np.full(len(self), -1, np.int8))
        has_label = labels >= 0
        return has_label, labels[has_label]

    def take(self, rows: Array) -> "LabelledCrops":
        """The rows of these numbers, or of this mask; without `is_unseen`."""
        labels = {head: labels[rows] for head, labels in self.labels.items()}
        return LabelledCrops(self.crops[rows], labels)


class DeviceCrops(NamedTuple):
    """What a device crops of pictures: (m,) positions of those with a detected face, (m, s, s)
    normalized crops.
    """

    positions: Indices
    crops: Pixels


class FittedCalibration(NamedTuple):
    """A calibration; of the rows that it was fitted on, the share that reaches its threshold, and
    the share of these that is right; both 0..1.
    """

    calibration: Calibration
    coverage: float
    accuracy: float


def evaluate_run(run: OpenRun, head: str) -> Evaluation:
    """Measure one head's float, fake-quantised, int8 and post-training-quantised networks.

    Writes evaluation-HEAD.json and the logits on test rows into the run's folder. Raises RunError
    where the run has no .tflite files yet.
    """
    validation = labelled_crops(run.dataset, run.split.validation, run.recipe.preprocess)
    test = _test_crops(run)
    crops = np.concatenate([validation.crops, test.crops])
    networks: dict[str, NetworkEvaluation] = {}
    predictions: dict[str, Indices] = {}
    for name, logits in _network_logits(run, head, crops):
        validation_logits, test_logits = np.split(logits, [len(validation)])
        networks[name] = _evaluate_network(head, validation, validation_logits, test, test_logits)
        predictions[name] = logits.argmax(axis=1)
        _write_test_logits(run, head, name, test_logits)
    target = validation.calibration_head
    evaluation = Evaluation(
        head=head,
        test_name=run.split.test_name,
        networks=networks,
        cost=network_cost(_int8_path(run, head).read_bytes()),
        agreement=_agreement(predictions),
        device=_device_metrics_of_run(run, head, test, networks["int8"].temperature),
        target_accuracy={target.name: target.target_accuracy},
        data=EvaluatedData(len(run.dataset), run.dataset.sha256, run.record["split"]),
    )
    write_evaluation(run.folder, evaluation)
    return evaluation


def evaluate_bundle(
    bundle: Bundle, dataset: Dataset, split_name: str, against: Bundle | None = None
) -> BundleEvaluation:
    """Measure a bundle's int8 network on the test rows, or on validation rows where the split has
    no test rows.

    split_name: one of splits.SPLITS. against: another bundle to compare with, by McNemar's test on
    the same rows.
    """
    split = split_dataset(dataset, split_name)
    rows = split.validation
    test_name = "validation"
    is_unseen = None
    if len(split.test):
        rows = split.test
        test_name = split.test_name
        is_unseen = without_near_duplicates(dataset, split)
    samples = labelled_crops(dataset, rows, bundle.card.preprocess, is_unseen)
    logits = int8_logits(bundle.model, samples.crops)
    temperature = bundle.card.calibration.temperature
    detected = device_crops(dataset, rows, bundle.card.preprocess)
    device_logits = int8_logits(bundle.model, detected.crops)
    comparison = None
    if against is not None:
        other_crops = labelled_crops(dataset, rows, against.card.preprocess).crops
        comparison = _compare(samples, logits, against, other_crops)
    return BundleEvaluation(
        model=bundle.card.id,
        head=bundle_head(bundle),
        test_name=test_name,
        scores=measure(samples, logits, temperature),
        device=device_metrics(samples, logits, detected.positions, device_logits, temperature),
        cost=network_cost(bundle.model.read_bytes()),
        layers=profile_layers(bundle.model),
        comparison=comparison,
    )


def bundle_head(bundle: Bundle) -> str:
    """The head whose labels the bundle predicts; cards of before there were two heads do not say,
    and mean FER2013's.
    """
    return bundle.card.provenance.get("head", FER2013.name)


def labelled_crops(
    dataset: Dataset,
    rows: Array,
    preprocess: Preprocess,
    is_unseen: Mask | None = None,
) -> LabelledCrops:
    """The crops of `rows` as a network takes them, with the labels of every head that has any."""
    part = dataset.take(rows)
    labels = {
        head.name: head.label_indices(part)
        for head in HEADS.values()
        if head.labels == LABELS and head.has_labels(part)
    }
    return LabelledCrops(preprocess.normalize(part.images), labels, is_unseen)


def device_crops(dataset: Dataset, rows: Array, preprocess: Preprocess) -> DeviceCrops:
    """Crop pictures as a device does when a camera shows them: through its detector and the card's
    own crop.

    rows: (n,) row numbers of the dataset; the positions that are returned index it.
    """
    boxes = faces.cached_boxes(dataset, rows)
    positions = np.flatnonzero(np.isfinite(boxes[:, 0]))
    crops = np.zeros((len(positions), preprocess.size, preprocess.size), np.uint8)
    for index, position in enumerate(positions):
        frame = faces.frame_of(dataset.images[rows[position]])
        crops[index] = preprocess(frame, faces.box_in_frame(boxes[position]))
    return DeviceCrops(positions, crops)


def int8_logits(model: Path, crops: Pixels) -> Floats:
    """(n, 7) logits of a .tflite for normalized (n, s, s) crops, through the device's own
    interpreter class.
    """
    classifier = Classifier(model, threads=1)
    shown = progress(crops, f"measuring {model.stem}", "crops")
    logits = [classifier.logits(crop) for crop in shown]
    return np.array(logits, np.float32).reshape(-1, len(LABELS))


def read_test_logits(run: OpenRun, head: str, network: str) -> Floats:
    """The (n, 7) logits on test rows that `evaluate_run` stored for a network, such as 'int8'."""
    with np.load(_logits_path(run, head, network)) as stored:
        return stored["logits"]


def measure(samples: LabelledCrops, logits: Array, temperature: float) -> Scores:
    """Metrics of (n, 7) logits against the labels of each head; against FER2013's on unseen rows
    only, too.
    """
    scores: Scores = {}
    for head in samples.heads:
        has_label, labels = samples.labelled(head)
        scores[head] = metrics.classification_metrics(logits[has_label], labels, temperature)
        is_unseen = samples.is_unseen
        if head == FER2013.name and is_unseen is not None and is_unseen.any():
            scores[f"{head}-unseen"] = metrics.classification_metrics(
                logits[is_unseen], samples.labels[head][is_unseen], temperature
            )
    return scores


def calibrate(samples: LabelledCrops, logits: Array, head: str) -> FittedCalibration:
    """Fit temperature and confidence threshold on (n, 7) logits of validation rows.

    The temperature goes by the labels of `head`, which the network learnt; the threshold by those
    of `samples.calibration_head`, whose target accuracy it is set for.
    """
    has_label, labels = samples.labelled(head)
    temperature = metrics.fit_temperature(logits[has_label], labels)
    target = samples.calibration_head
    has_label, labels = samples.labelled(target.name)
    probabilities = softmax(logits[has_label], temperature)
    fitted = metrics.threshold_for_accuracy(probabilities, labels, target.target_accuracy)
    calibration = Calibration(temperature, fitted.threshold)
    return FittedCalibration(calibration, fitted.coverage, fitted.accuracy)


def network_cost(content: bytes) -> NetworkCost:
    """Size, multiply-accumulates and operators of a .tflite's bytes, with estimates for a Raspberry
    Pi.
    """
    operators = tflite.operators(content)
    names = [operator.name for operator in operators]
    return NetworkCost(
        bytes=len(content),
        parameters=tflite.parameters(content),
        macs=sum(operator.macs for operator in operators),
        operators={name: names.count(name) for name in sorted(set(names))},
        estimates=estimates.to_json(estimates.estimate(operators)),
    )


def device_metrics(
    samples: LabelledCrops,
    logits: Array,
    positions: Indices,
    device_logits: Array,
    temperature: float,
) -> DeviceMetrics:
    """Accuracy on the device's crops of faces beside that on FER2013's crops of the same faces.

    logits: (n, 7) of the samples. positions: (m,) samples with a detected face. device_logits: (m,
    7) of the device's crops of them.
    """
    detected = samples.take(positions)
    fer2013_crops: dict[str, float] = {}
    device: dict[str, float] = {}
    if len(positions):
        fer2013_crops = _accuracies(measure(detected, logits[positions], temperature))
        device = _accuracies(measure(detected, device_logits, temperature))
    return DeviceMetrics(
        faces=len(positions),
        missed=len(samples) - len(positions),
        fer2013_crops=fer2013_crops,
        device=device,
        cost={labels: accuracy - device[labels] for labels, accuracy in fer2013_crops.items()},
    )


def _test_crops(run: OpenRun) -> LabelledCrops:
    is_unseen = without_near_duplicates(run.dataset, run.split)
    return labelled_crops(run.dataset, run.split.test, run.recipe.preprocess, is_unseen)


def _network_logits(run: OpenRun, head: str, crops: Pixels) -> Iterator[tuple[str, Floats]]:
    """Yield the name of each of a head's networks, and its (n, 7) logits."""
    yield "float", loop.predict(fit.float_network(run, head), crops)
    yield "qat", loop.predict(quantize.quantized_network(run, head), crops)
    yield "int8", int8_logits(_int8_path(run, head), crops)
    yield "int8-ptq", int8_logits(_converted(run, head, "ptq.tflite"), crops)


def _int8_path(run: OpenRun, head: str) -> Path:
    return _converted(run, head, "qat.tflite")


def _converted(run: OpenRun, head: str, name: str) -> Path:
    path = run.stage_folder("export") / head / name
    if not path.exists():
        raise RunError(f"{path}: not converted yet; run: mien-train export {run.folder}")
    return path


def _evaluate_network(
    head: str,
    validation: LabelledCrops,
    validation_logits: Floats,
    test: LabelledCrops,
    test_logits: Floats,
) -> NetworkEvaluation:
    fitted = calibrate(validation, validation_logits, head)
    temperature = fitted.calibration.temperature
    return NetworkEvaluation(
        temperature=temperature,
        confidence_threshold=fitted.calibration.confidence_threshold,
        coverage=fitted.coverage,
        threshold_accuracy=fitted.accuracy,
        validation=measure(validation, validation_logits, temperature),
        test=measure(test, test_logits, temperature),
    )


def _agreement(predictions: dict[str, Indices]) -> dict[str, float]:
    """Share of rows for which two networks predict the same label, for each pair."""
    return {
        f"{first}/{second}": float((predictions[first] == predictions[second]).mean())
        for first, second in combinations(predictions, 2)
    }


def _device_metrics_of_run(
    run: OpenRun,
    head: str,
    test: LabelledCrops,
    temperature: float,
) -> DeviceMetrics | None:
    if not len(test):
        return None
    detected = device_crops(run.dataset, run.split.test, run.recipe.preprocess)
    device_logits = int8_logits(_int8_path(run, head), detected.crops)
    logits = read_test_logits(run, head, "int8")
    return device_metrics(test, logits, detected.positions, device_logits, temperature)


def _write_test_logits(run: OpenRun, head: str, network: str, logits: Floats) -> None:
    with files.atomic_write(_logits_path(run, head, network)) as temporary:
        np.savez(temporary, logits=logits)


def _logits_path(run: OpenRun, head: str, network: str) -> Path:
    return run.folder / "logits" / head / f"{network}.npz"


def _compare(
    samples: LabelledCrops, logits: Array, other: Bundle, other_crops: Pixels
) -> BundleComparison:
    """McNemar's test of (n, 7) logits against another bundle, by each head that the rows have
    labels of. other_crops: the samples' crops as the other bundle takes them.
    """
    other_logits = int8_logits(other.model, other_crops)
    tests: dict[str, McNemar] = {}
    for head in samples.heads:
        has_label, labels = samples.labelled(head)
        is_correct = logits[has_label].argmax(axis=1) == labels
        other_is_correct = other_logits[has_label].argmax(axis=1) == labels
        tests[head] = metrics.mcnemar(is_correct, other_is_correct)
    return BundleComparison(other.card.id, tests)


def _accuracies(scores: Scores) -> dict[str, float]:
    return {labels: score.accuracy for labels, score in scores.items()}
