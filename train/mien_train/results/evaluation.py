"""What `mien-train evaluate` measures, as values; evaluation-HEAD.json, cards and `--json` hold
them as JSON.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mien_edge import files, schema
from mien_edge.contract import LABELS, Calibration
from mien_edge.errors import RunError
from mien_edge.model import estimates, profile
from mien_edge.model.profile import LayerProfile

from mien_train.data.heads import LABELS_HEAD, Head, find_head, labels_head, measuring_head
from mien_train.metrics import ClassificationMetrics, McNemar, coverage_as_text
from mien_train.results.calibration import VALIDATION_ROWS, MixedCalibration
from mien_train.results.crossvalidation import CrossValidation

Scores = dict[str, ClassificationMetrics]
"""Metrics by the labels that they are measured against: a head's name, or 'fer2013-unseen' and
'labels-unseen' for the data's labels of the test rows without a near duplicate among the training
rows.
"""


PUBLISHED = "ferplus-published"
"""What results call FER+'s published protocol, beside the heads' names."""


@dataclass(frozen=True)
class NetworkEvaluation:
    """One network: its calibration, and its metrics.

    temperature, confidence_threshold: see contract.Calibration; the threshold's key in JSON is
    `uncertain`.
    coverage: 0..1, share of the validation rows, as they are, at or above the threshold; all labels
    count equally where the evaluation has a `calibration`.
    threshold_accuracy: 0..1, share of these that are right; None in cards of earlier versions.
    validation, test: metrics on the rows of either; `test` is empty where the split has no test
    rows.
    """

    temperature: float
    confidence_threshold: float = field(metadata={"key": "uncertain"})
    coverage: float
    validation: Scores
    test: Scores
    threshold_accuracy: float | None = None

    @property
    def calibration(self) -> Calibration:
        """Temperature and threshold as a card holds them."""
        return Calibration(self.temperature, self.confidence_threshold)

    @property
    def reported(self) -> Scores:
        """The metrics on test rows, or on validation rows where there are no test rows."""
        return self.test or self.validation


@dataclass(frozen=True)
class NetworkCost:
    """What a .tflite costs.

    bytes: of the file. parameters: weights and biases. macs: multiply-accumulates of one inference.
    operators: how many of each name. estimates: `estimates.to_json`'s, by the name of the core;
    empty in cards of earlier versions.
    """

    bytes: int
    parameters: int
    macs: int
    operators: dict[str, int]
    estimates: dict[str, dict[str, Any]] = field(default_factory=dict)

    def as_text(self) -> str:
        """Size, cost and operators in a line, then the estimates."""
        operators = ", ".join(f"{count} {name}" for name, count in self.operators.items())
        lines = [
            f"{self.bytes:,} bytes, {self.parameters:,} parameters, {self.macs / 1e6:.2f} M "
            f"multiply-accumulates; operators, all integer: {operators}"
        ]
        lines += [estimate.as_text() for estimate in estimates.from_json(self.estimates)]
        return "\n".join(lines)


@dataclass(frozen=True)
class DeviceMetrics:
    """What the device's crop costs, on the test rows that its detector finds a face in.

    faces, missed: rows with and without a detected face. own_crops: accuracy, 0..1, on the data's
    own crops of the former, by kind of labels; its key in JSON is `whole`. device: on the device's
    crops of them. cost: the difference.
    """

    faces: int
    missed: int
    own_crops: dict[str, float] = field(metadata={"key": "whole"})
    device: dict[str, float]
    cost: dict[str, float]

    def as_text(self) -> str:
        """The faces and the accuracies in a line."""
        accuracies = [
            f"{labels} {accuracy:.2%} (the data's own crops {self.own_crops[labels]:.2%})"
            for labels, accuracy in self.device.items()
        ]
        return (
            f"through the detector: {self.faces} faces found, {self.missed} missed; "
            f"on its crops {', '.join(accuracies)}"
        )


@dataclass(frozen=True)
class EvaluatedData:
    """The data that was measured on: its rows, the sha256 of its file, the name of its split."""

    rows: int
    sha256: str
    split: str


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One head of a run.

    head, labels: whose labels the networks predict, and their names. test_name: the usage of the
    test rows, key `test`.
    networks: 'float', 'qat' (fake-quantised), 'int8' and 'int8-ptq' (post-training quantised).
    cost: of the int8 file, key `network`.
    agreement: 0..1, share of rows for which two networks predict the same label, by 'float/int8' …
    device: None where there are no test rows.
    target_accuracy: what the confidence threshold is set for, by the head whose labels it goes by;
    key `trust`. crossvalidation: of a bundle that was fine-tuned, in its card only; without what
    concerns data that are not its own. calibrated_on: the rows that temperature and threshold are
    fitted on, as they are and corrupted. calibration: that of the int8 network, on each part of
    its data; None in cards of earlier versions, whose rows were not corrupted. fairness: a
    FairnessResult's JSON, where `mien-train fairness --write` put one into the card.
    """

    head: str
    test_name: str = field(metadata={"key": "test"})
    networks: dict[str, NetworkEvaluation]
    cost: NetworkCost = field(metadata={"key": "network"})
    agreement: dict[str, float]
    device: DeviceMetrics | None = None
    target_accuracy: dict[str, float] = field(metadata={"key": "trust"})
    data: EvaluatedData
    labels: tuple[str, ...] = LABELS
    crossvalidation: CrossValidation | None = None
    calibrated_on: str = VALIDATION_ROWS
    calibration: MixedCalibration | None = None
    fairness: dict[str, Any] = field(default_factory=dict)

    @property
    def own_head(self) -> Head:
        """The head whose labels the networks predict."""
        return labels_head(self.labels) if self.head == LABELS_HEAD else find_head(self.head)

    def to_json(self) -> dict[str, Any]:
        """JSON's values, as evaluation-HEAD.json and a card's `figures` hold them."""
        values = schema.to_dict(self)
        for key in ("device", "crossvalidation", "calibration", "fairness"):
            if not values[key]:
                del values[key]
        return values

    @classmethod
    def from_json(cls, values: object, where: str) -> "Evaluation":
        """Read back what `to_json` gave. Raises RunError that names `where` and the key that does
        not fit.
        """
        return schema.from_dict(cls, values, where, RunError)

    @property
    def reported_name(self) -> str:
        """The name of the rows that the networks' `reported` is measured on."""
        return self.test_name if self.networks["int8"].test else "validation"

    def as_text(self) -> str:
        """Each network's metrics, how far the networks agree, and the int8 file's cost."""
        parts = [
            f"{name}, predicts {labels_as_text(self.head)}\n{scores_as_text(network.reported)}"
            for name, network in self.networks.items()
        ]
        agreement = "  ".join(f"{pair} {share:.2%}" for pair, share in self.agreement.items())
        parts += [self.threshold_as_text(), f"agreement: {agreement}", self.cost.as_text()]
        return "\n".join(parts)

    def threshold_as_text(self) -> str:
        """What the int8 network's confidence threshold is set for, and what it reaches on the rows
        that it was chosen on.
        """
        int8 = self.networks["int8"]
        [(head, target)] = self.target_accuracy.items()
        if self.calibration is not None:
            return self.calibration.scope
        text = (
            f"below a confidence of {int8.confidence_threshold:.0%} a device says 'uncertain': set "
            f"for {target:.0%} right by {labels_as_text(head)} on {self.calibrated_on}"
        )
        reached = int8.threshold_accuracy
        if reached is None:
            return f"{text}, where {int8.coverage:.1%} of the faces get a label"
        if reached < target:
            return f"{text}, which is never reached there; at most {reached:.1%} are right"
        return f"{text}, where {reached:.1%} of the {int8.coverage:.1%} that get a label are right"


@dataclass(frozen=True)
class BundleComparison:
    """McNemar's test of a bundle against another one, `model` (NAME-VERSION), by kind of labels;
    PUBLISHED for FER+'s published protocol.
    """

    model: str
    tests: dict[str, McNemar]

    def to_json(self) -> dict[str, Any]:
        """JSON's values: the model, and each test under the name of its labels."""
        return {"model": self.model} | {head: test._asdict() for head, test in self.tests.items()}

    def as_text(self) -> str:
        """A line for each kind of labels."""
        lines = [
            f"against {self.model}, {head}: {test.gained} rows gained, {test.lost} lost, McNemar's "
            f"p = {test.p:.2g}"
            for head, test in self.tests.items()
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class PublishedScore:
    """Accuracy by FER+'s published protocol (heads.published_majority).

    rows: that it leaves in. accuracy: 0..1, of these. unknown_rows: of these the ones with a
    majority that the network cannot say, contempt, which count as wrong.
    """

    rows: int
    accuracy: float
    unknown_rows: int

    def as_text(self) -> str:
        """The accuracy in a line."""
        wrong = f", {self.unknown_rows} of contempt counted as wrong" if self.unknown_rows else ""
        return (
            f"by FER+'s published protocol (single votes dropped, more than half of the others) "
            f"{self.rows} rows{wrong}: accuracy {self.accuracy:.2%}"
        )


@dataclass(frozen=True, kw_only=True)
class BundleEvaluation:
    """A bundle's int8 network on a data set.

    model: NAME-VERSION. head, labels: whose labels it predicts, and their names. test_name: the
    usage of the rows, or 'validation' where there are no test rows. comparison: with another bundle
    on the same rows, or None. left_out: rows by label, of labels that the bundle has not, for each
    kind of labels that has such rows. published: by FER+'s published protocol; None where there are
    no votes, or where the bundle lacks one of the seven labels.
    """

    model: str
    head: str
    labels: tuple[str, ...]
    test_name: str
    scores: Scores
    device: DeviceMetrics
    cost: NetworkCost
    layers: Sequence[LayerProfile]
    comparison: BundleComparison | None = None
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)
    published: PublishedScore | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON's values, as `mien-train evaluate --json` prints them."""
        values: dict[str, Any] = {
            "model": self.model,
            "head": self.head,
            "labels": list(self.labels),
            "test": self.test_name,
            "figures": {labels: scores.to_json() for labels, scores in self.scores.items()},
            "device": schema.to_dict(self.device),
            "network": schema.to_dict(self.cost),
            "layers": [layer.to_json() for layer in self.layers],
            "left_out": self.left_out,
        }
        if self.published is not None:
            values["published"] = schema.to_dict(self.published)
        if self.comparison is not None:
            values["against"] = self.comparison.to_json()
        return values

    def as_text(self) -> str:
        """Everything, for a terminal."""
        parts = [
            f"{self.model} on {self.test_name}, predicts {labels_as_text(self.head)}: "
            f"{', '.join(self.labels)}",
            *self._left_out_as_text(),
            scores_as_text(self.scores),
            *([self.published.as_text()] if self.published else []),
            self.device.as_text(),
            self.cost.as_text(),
            profile.layers_as_text(self.layers),
        ]
        if self.comparison is not None:
            parts.append(self.comparison.as_text())
        return "\n".join(parts)

    def _left_out_as_text(self) -> Iterator[str]:
        for kind, rows_of_label in self.left_out.items():
            labels = ", ".join(f"{label} ({rows})" for label, rows in rows_of_label.items())
            yield (
                f"left out, by {labels_as_text(kind)}: {sum(rows_of_label.values())} rows whose "
                f"label it has not: {labels}"
            )


def labels_as_text(head: str) -> str:
    """How a sentence calls the labels that measure a head."""
    return "the data's labels" if head == LABELS_HEAD else f"{measuring_head(head)} labels"


def scores_as_text(scores: Scores) -> str:
    """Accuracy, macro-F1, calibration error and risk-coverage per kind of labels, then precision
    and recall per class.
    """
    lines: list[str] = []
    for labels, metrics in scores.items():
        shares = [
            f"{coverage_as_text(share)} at {target}" for target, share in metrics.coverage.items()
        ]
        lines.append(
            f"{labels:<14} {metrics.rows:>5} rows  accuracy {metrics.accuracy:.2%}  "
            f"macro-F1 {metrics.macro_f1:.2%}  calibration error {metrics.calibration_error:.2%}"
        )
        lines.append(f"    faces that get a label for an accuracy of: {', '.join(shares)}")
        for label, recall in metrics.recall.items():
            precision = metrics.precision[label]
            lines.append(f"    {label:<9} precision {precision:.1%}  recall {recall:.1%}")
    return "\n".join(lines)


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write evaluation-HEAD.json into a run's folder."""
    text = json.dumps(evaluation.to_json(), indent=1)
    files.write_text(_path(folder, evaluation.head), text + "\n")


def read_evaluation(folder: Path, head: str) -> Evaluation:
    """Read evaluation-HEAD.json of a run's folder. Raises RunError where it is missing or does not
    fit.
    """
    path = _path(folder, head)
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        raise RunError(f"{path}: nothing measured yet; run: mien-train export {folder}") from None
    except ValueError as problem:
        reason = f"{path} is damaged ({problem})"
        raise RunError(f"{reason}; run: mien-train evaluate {folder}") from None
    return Evaluation.from_json(values, str(path))


def _path(folder: Path, head: str) -> Path:
    return folder / f"evaluation-{head}.json"
