"""Measure a run's networks, or a bundle, on validation and PublicTest rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from mien_edge import files
from mien_edge.contract import Preprocess
from mien_edge.errors import DataError, RunError
from mien_edge.labels import match
from mien_edge.model import estimates, tflite
from mien_edge.model.bundle import Bundle
from mien_edge.model.interpreter import Classifier
from mien_edge.model.profile import profile_layers

from mien_train import metrics
from mien_train.arrays import Array, Floats, Indices, Labels, Mask, Pixels
from mien_train.data import faces
from mien_train.data.corruptions import CORRUPTIONS, corrupted_views
from mien_train.data.heads import (
    FER2013,
    FERPLUS,
    FERPLUS8,
    HEADS,
    Head,
    calibration_head,
    labels_head,
    published_majority,
)
from mien_train.data.read import PUBLIC_TEST, VOTES, Dataset
from mien_train.data.splits import is_fer2013, split_dataset, without_near_duplicates
from mien_train.metrics import McNemar
from mien_train.progress import progress
from mien_train.results.calibration import (
    MIN_PART_ROWS,
    VALIDATION_ROWS,
    CalibrationRows,
    MixedCalibration,
    calibrate,
)
from mien_train.results.evaluation import (
    PUBLISHED,
    BundleComparison,
    BundleEvaluation,
    DeviceMetrics,
    EvaluatedData,
    Evaluation,
    NetworkCost,
    NetworkEvaluation,
    PublishedScore,
    Scores,
    labels_as_text,
    write_evaluation,
)
from mien_train.training import fake_quant, fit, loop, quantize
from mien_train.training.run import OpenRun


@dataclass(frozen=True, eq=False)
class LabelledCrops:
    """Rows to measure a network on.

    crops: normalized (n, s, s) uint8.
    predicts: the head whose labels the network predicts.
    heads: those whose labels the rows have, and that share a label with it.
    labels: by the name of each of these, (n,) int8 indices of `predicts.labels`; -1 for a row
    without a label, or with one that the network has not.
    left_out: for each of them the latter rows, counted by label.
    is_unseen: (n,) whether a row has no near duplicate among the training rows, or None.
    """

    crops: Pixels
    predicts: Head
    heads: tuple[Head, ...]
    labels: dict[str, Labels]
    left_out: dict[str, dict[str, int]]
    is_unseen: Mask | None = None

    def __len__(self) -> int:
        return len(self.crops)

    @property
    def calibration_head(self) -> Head:
        """The head whose labels the confidence threshold goes by."""
        return calibration_head(self.heads)

    @property
    def reference_head(self) -> Head:
        """The head by whose labels a single figure is measured: the network's own, or what is of
        its kind.
        """
        return self.of_kind(self.predicts) or self.heads[0]

    def of_kind(self, head: Head) -> Head | None:
        """The head here that is made of votes, or of the data's labels, as that one is."""
        return next((own for own in self.heads if own.needs_votes == head.needs_votes), None)

    def labelled(self, head: str) -> tuple[Mask, Labels]:
        """Which rows have a label of that head, (n,), and those labels, (m,)."""
        labels = self.labels.get(head, np.full(len(self), -1, np.int8))
        has_label = labels >= 0
        return has_label, labels[has_label]

    def take(self, rows: Array) -> "LabelledCrops":
        """The rows of these numbers, or of this mask; without `is_unseen`."""
        labels = {head: labels[rows] for head, labels in self.labels.items()}
        crops = self.crops[rows]
        return LabelledCrops(crops, self.predicts, self.heads, labels, self.left_out)


class DeviceCrops(NamedTuple):
    """What a device crops of pictures: (m,) positions of those with a detected face, (m, s, s)
    normalized crops.
    """

    positions: Indices
    crops: Pixels


class CalibrationSamples(NamedTuple):
    """One part of what a calibration is fitted on, and what it is called."""

    name: str
    samples: LabelledCrops


class CalibrationRequest(NamedTuple):
    """How networks are calibrated.

    others: data beside the validation rows, by what they are called. target_accuracy: 0..1, share
    of the given labels that should be right; None for that of the labels that it goes by.
    """

    others: Mapping[str, Dataset] = MappingProxyType({})
    target_accuracy: float | None = None

    def provenance(self) -> dict[str, str]:
        """The sha256 of each of the other data, as a card's `origin` holds it."""
        return {name: dataset.sha256 for name, dataset in self.others.items()}


USUAL_CALIBRATION = CalibrationRequest()


def evaluate_run(
    run: OpenRun,
    head: str,
    held_out: Sequence[CalibrationRows] = (),
    request: CalibrationRequest = USUAL_CALIBRATION,
) -> Evaluation:
    """Measure one head's float, fake-quantised, int8 and post-training-quantised networks.

    held_out: rows to calibrate the networks on in place of the validation rows: those of a
    cross-validation, each predicted by a network that has not seen it.

    Writes evaluation-HEAD.json and the logits on test rows into the run's folder. Raises RunError
    where the run has no .tflite files yet.
    """
    [predicts] = [own for own in run.heads if own.name == head]
    heads = measured_heads(predicts, run.dataset, is_own_data=True)
    preprocess = run.recipe.preprocess
    validation = labelled_crops(run.dataset, run.split.validation, preprocess, predicts, heads)
    is_unseen = without_near_duplicates(run.dataset, run.split)
    test = labelled_crops(run.dataset, run.split.test, preprocess, predicts, heads, is_unseen)
    parts = other_samples(predicts, preprocess, request.others)
    if not held_out:
        images = run.dataset.images[run.split.validation]
        parts[:0] = mixed_samples(validation, images, preprocess)
    target = validation.calibration_head
    target_accuracy = request.target_accuracy or target.target_accuracy
    measured = [validation, test, *(part.samples for part in parts)]
    crops = np.concatenate([samples.crops for samples in measured])
    ends = np.cumsum([len(samples) for samples in measured])[:-1]
    networks: dict[str, NetworkEvaluation] = {}
    predictions: dict[str, Indices] = {}
    calibrations: dict[str, MixedCalibration] = {}
    for name, logits in _network_logits(run, head, crops):
        validation_logits, test_logits, *part_logits = np.split(logits, ends)
        rows = [
            calibration_rows(part, logits_of_part)
            for part, logits_of_part in zip(parts, part_logits, strict=True)
        ]
        calibration = calibrate(
            [*held_out, *rows], predicts.labels, target_accuracy, labels_as_text(target.name)
        )
        networks[name] = evaluate_network(
            calibration, validation, validation_logits, test, test_logits
        )
        calibrations[name] = calibration
        predictions[name] = np.concatenate([validation_logits, test_logits]).argmax(axis=1)
        _write_test_logits(run, head, name, test_logits)
    evaluation = Evaluation(
        head=head,
        test_name=run.split.test_name,
        networks=networks,
        cost=network_cost(_int8_path(run, head).read_bytes()),
        agreement=_agreement(predictions),
        device=_device_metrics_of_run(run, head, test, networks["int8"].temperature),
        target_accuracy={target.name: target_accuracy},
        data=EvaluatedData(len(run.dataset), run.dataset.sha256, run.record["split"]),
        labels=predicts.labels,
        calibrated_on=held_out[0].name if held_out else VALIDATION_ROWS,
        calibration=calibrations["int8"],
    )
    write_evaluation(run.folder, evaluation)
    return evaluation


def mixed_samples(
    samples: LabelledCrops, images: Pixels, preprocess: Preprocess, name: str = VALIDATION_ROWS
) -> list[CalibrationSamples]:
    """The samples as they are, under that name, and under each corruption, under its own.

    images: (n, s, s), what the samples' crops are made of.
    """
    corrupted = [
        CalibrationSamples(corruption, replace(samples, crops=preprocess.normalize(view)))
        for corruption, view in corrupted_views(images)
    ]
    return [CalibrationSamples(name, samples), *corrupted]


def other_samples(
    predicts: Head, preprocess: Preprocess, datasets: Mapping[str, Dataset]
) -> list[CalibrationSamples]:
    """All rows of other data sets with a label that the network has, by what they are called.

    Raises DataError where one has none, or too few, or is called as a part that `mixed_samples`
    makes.
    """
    own_names = {VALIDATION_ROWS, *(corruption.name for corruption in CORRUPTIONS)}
    parts = []
    for name, dataset in datasets.items():
        if name in own_names:
            raise DataError(f"{name}: calibration has a part of that name; rename your data")
        heads = measured_heads(predicts, dataset, is_own_data=False)
        rows = np.arange(len(dataset))
        samples = labelled_crops(dataset, rows, preprocess, predicts, heads)
        if not samples.heads:
            raise DataError(
                f"{name}: none of its labels is one of {', '.join(predicts.labels)}; name other "
                "--calibration-data"
            )
        labelled = int((samples.labels[samples.calibration_head.name] >= 0).sum())
        if labelled < MIN_PART_ROWS:
            raise DataError(
                f"{name}: {labelled} faces with a label are too few to fit a threshold on; give at "
                f"least {MIN_PART_ROWS}"
            )
        parts.append(CalibrationSamples(name, samples))
    return parts


def calibration_rows(part: CalibrationSamples, logits: Floats) -> CalibrationRows:
    """The (n, outputs) logits of a part, with the labels that the network learnt, or their kind,
    and those that the threshold goes by.
    """
    samples = part.samples
    labels = samples.labels[samples.reference_head.name]
    target_labels = samples.labels[samples.calibration_head.name]
    return CalibrationRows(part.name, logits, labels, target_labels)


def evaluate_bundle(
    bundle: Bundle, dataset: Dataset, split_name: str, against: Bundle | None = None
) -> BundleEvaluation:
    """Measure a bundle's int8 network on the `measured_rows`.

    Rows whose label the bundle has not are left out, and counted. split_name: one of splits.SPLITS.
    against: another bundle to compare with, by McNemar's test on the rows whose labels both have.

    Raises DataError where the bundle's labels and the data's have no name in common.
    """
    rows, test_name, is_unseen = measured_rows(bundle, dataset, split_name)
    samples = bundle_crops(bundle, dataset, rows, is_unseen)
    logits = int8_logits(bundle.model, samples.crops)
    temperature = bundle.card.calibration.temperature
    detected = device_crops(dataset, rows, bundle.card.preprocess)
    device_logits = int8_logits(bundle.model, detected.crops)
    published = _published_rows(dataset, rows, samples.predicts)
    comparison = None
    if against is not None:
        other_samples = bundle_crops(against, dataset, rows)
        other_published = _published_rows(dataset, rows, other_samples.predicts)
        comparison = _compare(
            _Measured(samples, logits, published),
            _Measured(
                other_samples, int8_logits(against.model, other_samples.crops), other_published
            ),
            against.card.id,
        )
    return BundleEvaluation(
        model=bundle.card.id,
        head=samples.predicts.name,
        labels=samples.predicts.labels,
        test_name=test_name,
        scores=measure(samples, logits, temperature),
        device=device_metrics(samples, logits, detected.positions, device_logits, temperature),
        cost=network_cost(bundle.model.read_bytes()),
        layers=profile_layers(bundle.model),
        comparison=comparison,
        left_out=samples.left_out,
        published=_published_score(published, logits),
    )


class MeasuredRows(NamedTuple):
    """Which rows of a data set a bundle is measured on.

    rows: (n,) row numbers. name: what they are called. is_unseen: (n,) whether a row has no near
    duplicate among the training rows, or None.
    """

    rows: Indices
    name: str
    is_unseen: Mask | None = None


def measured_rows(bundle: Bundle, dataset: Dataset, split_name: str) -> MeasuredRows:
    """The test rows of data that the bundle was trained on, or that name test rows of their own, or
    the validation rows where the split has none; of other data all. split_name: one of
    splits.SPLITS.
    """
    names_test = (dataset.usages == PUBLIC_TEST).any()
    if not names_test and not is_own_data(bundle, dataset):
        return MeasuredRows(np.arange(len(dataset)), "all rows")
    split = split_dataset(dataset, split_name)
    if not len(split.test):
        return MeasuredRows(split.validation, "validation")
    return MeasuredRows(split.test, split.test_name, without_near_duplicates(dataset, split))


def bundle_head(bundle: Bundle) -> Head:
    """The head whose labels the bundle predicts; cards of before there were two heads do not say,
    and mean FER2013's.
    """
    labels = bundle.card.labels
    head = HEADS.get(bundle.card.provenance.get("head", FER2013.name))
    return head if head is not None and head.labels == labels else labels_head(labels)


def bundle_crops(
    bundle: Bundle, dataset: Dataset, rows: Array, is_unseen: Mask | None = None
) -> LabelledCrops:
    """The crops of `rows` as a bundle takes them, with the labels that it shares with the data.

    Raises DataError where it shares none.
    """
    predicts = bundle_head(bundle)
    heads = measured_heads(predicts, dataset, is_own_data(bundle, dataset))
    if not heads:
        raise DataError(
            f"{bundle.card.id} tells apart {', '.join(predicts.labels)}; the data's labels are "
            f"{', '.join(dataset.label_names)}; name data with labels that it has"
        )
    return labelled_crops(dataset, rows, bundle.card.preprocess, predicts, heads, is_unseen)


def is_own_data(bundle: Bundle, dataset: Dataset) -> bool:
    """Whether the bundle was trained on that data set, as its card says."""
    data = bundle.card.provenance.get("data")
    return isinstance(data, dict) and data.get("sha256") == dataset.sha256


def measured_heads(predicts: Head, dataset: Dataset, is_own_data: bool) -> tuple[Head, ...]:
    """The heads by whose labels a network is measured: the data's labels, and FER+'s majority where
    there are votes; of these, what shares a label with the network.

    predicts: the head whose labels it predicts. is_own_data: whether it was trained on that data
    set, by whose names its labels go then; another set's labels are FER2013's only if it is.
    """
    by_label = labels_head(dataset.label_names)
    if is_own_data and not predicts.needs_votes:
        by_label = predicts
    elif is_own_data or is_fer2013(dataset):
        by_label = FER2013
    voted = [head for head in (predicts, FERPLUS, FERPLUS8) if head.needs_votes]
    by_votes = max(voted, key=lambda head: len(_shared(head, predicts)))
    heads = (by_label, by_votes)
    return tuple(head for head in heads if head.has_labels(dataset) and _shared(head, predicts))


def _shared(head: Head, predicts: Head) -> list[str]:
    """The labels of a head that the network has, perhaps by another word for the same."""
    return [name for name in head.labels if match(name, predicts.labels)]


def labelled_crops(
    dataset: Dataset,
    rows: Array,
    preprocess: Preprocess,
    predicts: Head,
    heads: Sequence[Head],
    is_unseen: Mask | None = None,
) -> LabelledCrops:
    """The crops of `rows` as a network takes them, with the labels of those of the heads that any
    row has a label of. predicts: the head whose labels the network predicts.
    """
    part = dataset.take(rows)
    labels: dict[str, Labels] = {}
    left_out: dict[str, dict[str, int]] = {}
    for head in heads:
        indices = head.label_indices(part)
        labels[head.name] = _indices_of(predicts.labels, head.labels, indices)
        counts = _count_others(predicts.labels, head.labels, indices)
        if counts:
            left_out[head.name] = counts
    labelled = tuple(head for head in heads if (labels[head.name] >= 0).any())
    crops = preprocess.normalize(part.images)
    return LabelledCrops(crops, predicts, labelled, labels, left_out, is_unseen)


def _indices_of(names: Sequence[str], other_names: Sequence[str], indices: Labels) -> Labels:
    """(n,) indices of `names` for (n,) indices of `other_names`, by name; -1 for none."""
    matches = [match(name, names) for name in other_names]
    own_index = [-1 if name is None else names.index(name) for name in matches]
    return np.array([*own_index, -1], np.int8)[indices]


def _count_others(
    names: Sequence[str], other_names: Sequence[str], indices: Labels
) -> dict[str, int]:
    """How many of the (n,) indices of `other_names` are of each name that is none of `names`."""
    counts = {
        name: int((indices == index).sum())
        for index, name in enumerate(other_names)
        if match(name, names) is None
    }
    return {name: count for name, count in counts.items() if count}


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
    """(n, outputs) logits of a .tflite for normalized (n, s, s) crops, through the device's own
    interpreter class.
    """
    classifier = Classifier(model, threads=1)
    shown = progress(crops, f"measuring {model.stem}", "crops")
    logits = [classifier.logits(crop) for crop in shown]
    return np.array(logits, np.float32).reshape(-1, classifier.outputs)


def read_test_logits(run: OpenRun, head: str, network: str) -> Floats:
    """The (n, outputs) logits on test rows that `evaluate_run` stored for a network, as 'int8'."""
    with np.load(_logits_path(run, head, network)) as stored:
        return stored["logits"]


def measure(samples: LabelledCrops, logits: Array, temperature: float) -> Scores:
    """Metrics of (n, outputs) logits against the labels of each head; against the data's on unseen
    rows only, too.
    """
    names = samples.predicts.labels
    scores: Scores = {}
    for head in samples.heads:
        labels = samples.labels[head.name]
        rows = labels >= 0
        scores[head.name] = metrics.classification_metrics(
            logits[rows], labels[rows], temperature, names
        )
        if head.needs_votes or samples.is_unseen is None:
            continue
        rows &= samples.is_unseen
        if rows.any():
            scores[f"{head.name}-unseen"] = metrics.classification_metrics(
                logits[rows], labels[rows], temperature, names
            )
    return scores


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
    """Accuracy on the device's crops of faces beside that on the data's own crops of them.

    logits: (n, outputs) of the samples. positions: (m,) samples with a detected face.
    device_logits: (m, outputs) of the device's crops of them.
    """
    detected = samples.take(positions)
    own_crops: dict[str, float] = {}
    device: dict[str, float] = {}
    if len(positions):
        own_crops = _accuracies(measure(detected, logits[positions], temperature))
        device = _accuracies(measure(detected, device_logits, temperature))
    return DeviceMetrics(
        faces=len(positions),
        missed=len(samples) - len(positions),
        own_crops=own_crops,
        device=device,
        cost={labels: accuracy - device[labels] for labels, accuracy in own_crops.items()},
    )


def _network_logits(run: OpenRun, head: str, crops: Pixels) -> Iterator[tuple[str, Floats]]:
    """Yield the name of each of a head's networks, and its (n, outputs) logits."""
    yield "float", loop.predict(fit.float_network(run, head), crops)
    yield "qat", fake_quant.predict(quantize.quantized_network(run, head), crops)
    yield "int8", int8_logits(_int8_path(run, head), crops)
    yield "int8-ptq", int8_logits(_converted(run, head, "ptq.tflite"), crops)


def _int8_path(run: OpenRun, head: str) -> Path:
    return _converted(run, head, "qat.tflite")


def _converted(run: OpenRun, head: str, name: str) -> Path:
    path = run.stage_folder("export") / head / name
    if not path.exists():
        raise RunError(f"{path}: not converted yet; run: mien-train export {run.folder}")
    return path


def evaluate_network(
    calibration: MixedCalibration,
    validation: LabelledCrops,
    validation_logits: Floats,
    test: LabelledCrops,
    test_logits: Floats,
) -> NetworkEvaluation:
    """The figures of a network with that calibration, of its (n, outputs) logits on both rows."""
    as_they_are = next(iter(calibration.parts.values()))
    temperature = calibration.temperature
    return NetworkEvaluation(
        temperature=temperature,
        confidence_threshold=calibration.threshold,
        coverage=as_they_are.coverage,
        threshold_accuracy=as_they_are.accuracy,
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


class _PublishedRows(NamedTuple):
    """Rows that FER+'s published protocol leaves in.

    is_counted: (n,) whether it leaves a row in. labels: (n,) int8 indices of the network's labels;
    -1 for those left out, and for contempt where the network has no such label.
    """

    is_counted: Mask
    labels: Labels


class _Measured(NamedTuple):
    """The rows as a bundle takes them, its (n, outputs) logits, and its labels by the protocol."""

    samples: LabelledCrops
    logits: Floats
    published: _PublishedRows | None


def _published_rows(dataset: Dataset, rows: Indices, predicts: Head) -> _PublishedRows | None:
    """None without votes, and for a head that lacks one of the seven labels."""
    if dataset.votes is None or len(_shared(FERPLUS, predicts)) < len(FERPLUS.labels):
        return None
    majorities = published_majority(dataset.votes[rows])
    return _PublishedRows(majorities >= 0, _indices_of(predicts.labels, VOTES, majorities))


def _published_score(published: _PublishedRows | None, logits: Floats) -> PublishedScore | None:
    """None where the protocol leaves no row in."""
    if published is None or not published.is_counted.any():
        return None
    labels = published.labels[published.is_counted]
    is_correct = logits[published.is_counted].argmax(axis=1) == labels
    return PublishedScore(len(labels), float(is_correct.mean()), int((labels < 0).sum()))


def _compare(own: _Measured, other: _Measured, other_name: str) -> BundleComparison:
    """McNemar's test of a bundle against another one, by each kind of labels, on the rows whose
    labels both bundles have; by FER+'s published protocol on all that it leaves in.
    """
    predicted = own.logits.argmax(axis=1)
    other_predicted = other.logits.argmax(axis=1)
    tests: dict[str, McNemar] = {}
    for head in own.samples.heads:
        other_head = other.samples.of_kind(head)
        if other_head is None:
            continue
        labels = own.samples.labels[head.name]
        other_labels = other.samples.labels[other_head.name]
        rows = (labels >= 0) & (other_labels >= 0)
        is_correct = predicted == labels
        other_is_correct = other_predicted == other_labels
        tests[head.name] = metrics.mcnemar(is_correct[rows], other_is_correct[rows])
    if own.published and other.published:
        rows = own.published.is_counted
        is_correct = predicted == own.published.labels
        other_is_correct = other_predicted == other.published.labels
        tests[PUBLISHED] = metrics.mcnemar(is_correct[rows], other_is_correct[rows])
    return BundleComparison(other_name, tests)


def _accuracies(scores: Scores) -> dict[str, float]:
    return {labels: score.accuracy for labels, score in scores.items()}
