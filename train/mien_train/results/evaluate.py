"""What a run's networks, or a bundle, are worth: figures on validation and PublicTest rows."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mien_edge import files
from mien_edge.contract import LABELS, Calibration, Preprocess
from mien_edge.errors import RunError
from mien_edge.model import estimates, profile, tflite
from mien_edge.model.bundle import Bundle
from mien_edge.model.interpreter import Classifier
from numpy.typing import NDArray
from tqdm import tqdm

from mien_train import metrics
from mien_train.data import faces, read, splits
from mien_train.training import fit, loop, quantize
from mien_train.training.run import Run

TRUST = {"ferplus": 0.9, "fer2013": 0.75}
"""Share of right labels, on validation data, that the 'uncertain' threshold is set for: on FER+ majorities where there
are votes, for they are what people see, else on FER2013's labels."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows to measure on: toned crops, FER2013 labels; FER+ majorities (-1 for none, all -1 without votes); which rows
    have no near duplicate among the training rows where that was asked for.
    """

    crops: NDArray[np.uint8]
    labels: NDArray[np.int8]
    majority: NDArray[np.int8]
    unseen: NDArray[np.bool_] | None = None

    def known(self, head: str) -> tuple[NDArray[np.bool_], NDArray[np.int8]]:
        """Which rows have a label of that kind, and those labels."""
        labels = self.labels if head == "fer2013" else self.majority
        return labels >= 0, labels[labels >= 0]

    def take(self, rows: NDArray[Any]) -> "Rows":
        """Some of the rows."""
        return Rows(self.crops[rows], self.labels[rows], self.majority[rows])


def rows(
    dataset: read.Dataset, chosen: NDArray[Any], preprocess: Preprocess, unseen: NDArray[np.bool_] | None = None
) -> Rows:
    """The chosen rows of a dataset, ready for a network."""
    part = dataset.take(chosen)
    majority = np.full(len(part), -1, np.int8) if part.votes is None else part.majority()
    return Rows(preprocess.normalize(part.images), part.labels, majority, unseen)


def int8_logits(model: Path, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, 7) logits of a .tflite through the device's own interpreter class."""
    classifier = Classifier(model, threads=1)
    shown: Iterable[Any] = tqdm(crops, desc=model.stem, unit=" crops", leave=False, disable=None)
    return np.array([classifier.logits(crop) for crop in shown], np.float32).reshape(-1, len(LABELS))


def measure(logits: NDArray[Any], on: Rows, temperature: float) -> dict[str, Any]:
    """Figures against FER2013 labels; the same on unseen rows only; against FER+ majorities where there are votes."""
    found = {"fer2013": metrics.figures(logits, on.labels, temperature)}
    if on.unseen is not None and on.unseen.any():
        found["fer2013-unseen"] = metrics.figures(logits[on.unseen], on.labels[on.unseen], temperature)
    known, majority = on.known("ferplus")
    if known.any():
        found["ferplus"] = metrics.figures(logits[known], majority, temperature)
    return found


def calibrate(logits: NDArray[Any], on: Rows, head: str) -> tuple[Calibration, float]:
    """Temperature, by the labels that the head learnt, and 'uncertain' threshold (see TRUST) from validation logits;
    and the share of rows that gets a label.
    """
    known, labels = on.known(head)
    temperature = metrics.fit_temperature(logits[known], labels)
    judge = judged_by(on)
    known, labels = on.known(judge)
    threshold, coverage = metrics.trust_threshold(metrics.softmax(logits[known], temperature), labels, TRUST[judge])
    return Calibration(temperature, threshold), coverage


def judged_by(on: Rows) -> str:
    """Whose labels the threshold goes by."""
    return "ferplus" if (on.majority >= 0).any() else "fer2013"


def network_size(content: bytes) -> dict[str, Any]:
    """Bytes, parameters, multiply-accumulates and operators (name: count) of a .tflite."""
    found = tflite.operators(content)
    names = sorted({each.name for each in found})
    return {
        "bytes": len(content),
        "parameters": tflite.parameters(content),
        "macs": sum(each.macs for each in found),
        "operators": {name: sum(each.name == name for each in found) for name in names},
        "estimates": estimates.to_json(estimates.estimate(found)),
    }


def device_rows(dataset: read.Dataset, chosen: NDArray[Any], preprocess: Preprocess) -> tuple[NDArray[Any], Any]:
    """What a device makes of the chosen pictures when a camera shows them: (which of them it finds a face in, the
    toned (n, s, s) crops of those), through the real detector and the card's own crop.
    """
    boxes = faces.known_boxes(dataset)[chosen]
    found = np.flatnonzero(np.isfinite(boxes[:, 0]))
    crops = [preprocess(faces.framed(dataset.images[chosen[i]]), faces.in_frame(boxes[i])) for i in found]
    return found, np.stack(crops) if crops else np.zeros((0, preprocess.size, preprocess.size), np.uint8)


def device_figures(
    logits: NDArray[Any], on: Rows, found: NDArray[Any], seen: NDArray[Any], temperature: float
) -> dict[str, Any]:
    """Accuracy on the device's crops of faces beside that on FER2013's crops of the same faces."""
    accuracy: dict[str, dict[str, float]] = {"whole": {}, "device": {}}
    for name, each in (("whole", logits[found]), ("device", seen)) if len(found) else ():
        measured = measure(each, on.take(found), temperature)
        accuracy[name] = {head: figures["accuracy"] for head, figures in measured.items()}
    cost = {head: value - accuracy["device"][head] for head, value in accuracy["whole"].items()}
    return {"faces": len(found), "missed": len(on.labels) - len(found), **accuracy, "cost": cost}


def evaluate_run(run: Run, head: str) -> dict[str, Any]:
    """Measure one head's float, fake-quantised, int8 and post-training-quantised networks; write and return
    evaluation-HEAD.json.
    """
    dataset = run.dataset()
    parts = run.split(dataset)
    preprocess = run.recipe.preprocess
    validation = rows(dataset, parts.validation, preprocess)
    test = rows(dataset, parts.test, preprocess, splits.unseen(dataset, parts))
    result: dict[str, Any] = {"head": head, "test": parts.test_name, "networks": {}, "network": {}}
    told = {}
    for name, both in _all_logits(run, head, np.concatenate([validation.crops, test.crops])):
        on_validation, on_test = both[: len(validation.labels)], both[len(validation.labels) :]
        calibration, coverage = calibrate(on_validation, validation, head)
        told[name] = both.argmax(axis=1)
        result["networks"][name] = {
            "temperature": calibration.temperature,
            "uncertain": calibration.confidence_threshold,
            "coverage": coverage,
            "validation": measure(on_validation, validation, calibration.temperature),
            "test": measure(on_test, test, calibration.temperature) if len(test.labels) else {},
        }
        _keep_logits(run, head, name, on_test)
    names = list(told)
    result["agreement"] = {
        f"{a}/{b}": float((told[a] == told[b]).mean()) for i, a in enumerate(names) for b in names[i + 1 :]
    }
    model = run.stage("export") / head / "qat.tflite"
    result["network"] = network_size(model.read_bytes())
    if len(test.labels):
        found, crops = device_rows(dataset, parts.test, preprocess)
        temperature = result["networks"]["int8"]["temperature"]
        seen = int8_logits(model, crops)
        result["device"] = device_figures(test_logits(run, head, "int8"), test, found, seen, temperature)
    result["trust"] = {judged_by(validation): TRUST[judged_by(validation)]}
    result["data"] = {"rows": len(dataset), "sha256": dataset.sha256, "split": run.record["split"]}
    files.write_text(run.folder / f"evaluation-{head}.json", json.dumps(result, indent=1) + "\n")
    return result


def _all_logits(run: Run, head: str, crops: NDArray[np.uint8]) -> Iterable[tuple[str, NDArray[np.float32]]]:
    yield "float", loop.predict(fit.fitted(run, head), crops)
    yield "qat", loop.predict(quantize.quantized(run, head), crops)
    for name, file in (("int8", "qat.tflite"), ("int8-ptq", "ptq.tflite")):
        path = run.stage("export") / head / file
        if not path.exists():
            raise RunError(f"{path}: not converted yet; run: mien-train export {run.folder}")
        yield name, int8_logits(path, crops)


def _keep_logits(run: Run, head: str, name: str, logits: NDArray[np.float32]) -> None:
    with files.atomic_write(run.folder / "logits" / head / f"{name}.npz") as temporary:
        np.savez(temporary, logits=logits)


def test_logits(run: Run, head: str, name: str) -> NDArray[np.float32]:
    """The test logits that `evaluate_run` kept."""
    with np.load(run.folder / "logits" / head / f"{name}.npz") as stored:
        return stored["logits"]


def head_of(bundle: Bundle) -> str:
    """Which labels the bundle's network learnt to tell; bundles from before there were two tell FER2013's."""
    return bundle.card.provenance.get("head", "fer2013")


def evaluate_bundle(bundle: Bundle, dataset: read.Dataset, split: str, against: Bundle | None = None) -> dict[str, Any]:
    """Figures of a bundle's int8 network on the test rows (on validation where the split has no test), its cost layer
    by layer, and, with `against`, McNemar's test against another bundle on the same rows.
    """
    parts = splits.split(dataset, split)
    chosen, name = (parts.test, parts.test_name) if len(parts.test) else (parts.validation, "validation")
    unseen = splits.unseen(dataset, parts) if len(parts.test) else None
    on = rows(dataset, chosen, bundle.card.preprocess, unseen)
    logits = int8_logits(bundle.model, on.crops)
    temperature = bundle.card.calibration.temperature
    found, crops = device_rows(dataset, chosen, bundle.card.preprocess)
    result = {
        "model": bundle.card.id,
        "head": head_of(bundle),
        "test": name,
        "figures": measure(logits, on, temperature),
        "device": device_figures(logits, on, found, int8_logits(bundle.model, crops), temperature),
        "network": network_size(bundle.model.read_bytes()),
        "layers": [layer.to_json() for layer in profile.profile_layers(bundle.model)],
    }
    if against:
        other = int8_logits(against.model, rows(dataset, chosen, against.card.preprocess).crops)
        result["against"] = {"model": against.card.id} | _compare(logits, other, on)
    return result


def _compare(logits: NDArray[Any], other: NDArray[Any], on: Rows) -> dict[str, Any]:
    found = {}
    for head in ("fer2013", "ferplus"):
        known, labels = on.known(head)
        if known.any():
            right, others = (each[known].argmax(axis=1) == labels for each in (logits, other))
            gained, lost, p = metrics.mcnemar(right, others)
            found[head] = {"gained": gained, "lost": lost, "p": p}
    return found


def as_text(figures: dict[str, dict[str, Any]]) -> str:
    """Accuracy, macro-F1, calibration error, risk-coverage per set of labels, then precision and recall per class."""
    lines = []
    for labels, found in figures.items():
        coverage = ", ".join(f"{share:.1%} at {wanted}" for wanted, share in found["coverage"].items())
        lines.append(
            f"{labels:<14} {found['rows']:>5} rows  accuracy {found['accuracy']:.2%}  "
            f"macro-F1 {found['macro_f1']:.2%}  calibration error {found['calibration_error']:.2%}\n"
            f"    faces that get a label for an accuracy of: {coverage}"
        )
        lines += [
            f"    {label:<9} precision {found['precision'][label]:.1%}  recall {found['recall'][label]:.1%}"
            for label in found["recall"]
        ]
    return "\n".join(lines)


def bundle_as_text(found: dict[str, Any]) -> str:
    """Everything that `evaluate_bundle` found."""
    parts = [f"{found['model']} on {found['test']}, predicts {found['head']} labels", as_text(found["figures"])]
    parts += [
        device_as_text(found["device"]),
        network_as_text(found["network"]),
        profile.layers_as_text([profile.LayerProfile.from_json(layer) for layer in found["layers"]]),
    ]
    if "against" in found:
        other = found["against"]
        parts += [
            f"against {other['model']}, {head}: {each['gained']} rows gained, {each['lost']} lost, "
            f"McNemar's p = {each['p']:.2g}"
            for head, each in other.items()
            if head != "model"
        ]
    return "\n".join(parts)


def device_as_text(found: dict[str, Any]) -> str:
    """What the device's crop costs."""
    costs = ", ".join(
        f"{head} {found['device'][head]:.2%} (FER2013's own crops {found['whole'][head]:.2%})" for head in found["cost"]
    )
    return f"through the detector: {found['faces']} faces found, {found['missed']} missed; on its crops {costs}"


def network_as_text(found: dict[str, Any]) -> str:
    """Size, cost and operators."""
    operators = ", ".join(f"{count} {name}" for name, count in found["operators"].items())
    lines = [
        f"{found['bytes']:,} bytes, {found['parameters']:,} parameters, {found['macs'] / 1e6:.2f} M "
        f"multiply-accumulates; operators, all integer: {operators}"
    ]
    lines += [estimate.as_text() for estimate in estimates.from_json(found["estimates"])]
    return "\n".join(lines)
