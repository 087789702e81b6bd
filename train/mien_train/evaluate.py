"""What a run's networks, or a bundle, are worth: figures on validation and PublicTest rows."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mien_edge import files
from mien_edge.bundle import Bundle
from mien_edge.contract import Calibration, Preprocess
from mien_edge.interpreter import Classifier
from numpy.typing import NDArray
from tqdm import tqdm

from mien_train import data, fit, loop, metrics, quantize
from mien_train.runs import Run

TRUST = 0.75
"""Share of right labels, on validation data, that the 'uncertain' threshold is set for."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows to measure on: toned crops, FER2013 labels; FER+ majorities (-1 for none) where there are votes; which rows
    have no near duplicate among the training rows where that was asked for.
    """

    crops: NDArray[np.uint8]
    labels: NDArray[np.int8]
    majority: NDArray[np.int8] | None
    unseen: NDArray[np.bool_] | None = None


def rows(
    dataset: data.Dataset, chosen: NDArray[Any], preprocess: Preprocess, unseen: NDArray[np.bool_] | None = None
) -> Rows:
    """The chosen rows of a dataset, ready for a network."""
    part = dataset.take(chosen)
    majority = None if part.votes is None else part.majority()
    return Rows(preprocess.toned(part.images), part.labels, majority, unseen)


def int8_logits(model: Path, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, 7) logits of a .tflite through the device's own interpreter class."""
    classifier = Classifier(model, threads=1)
    shown: Iterable[Any] = tqdm(crops, desc=model.stem, unit=" crops", leave=False, disable=None)
    return np.array([classifier.logits(crop) for crop in shown], np.float32).reshape(len(crops), -1)


def measure(logits: NDArray[Any], on: Rows, temperature: float) -> dict[str, Any]:
    """Figures against FER2013 labels; the same on unseen rows only; against FER+ majorities where there are votes."""
    found = {"fer2013": metrics.figures(logits, on.labels, temperature)}
    if on.unseen is not None:
        found["fer2013-unseen"] = metrics.figures(logits[on.unseen], on.labels[on.unseen], temperature)
    if on.majority is not None:
        known = on.majority >= 0
        found["ferplus"] = metrics.figures(logits[known], on.majority[known], temperature)
    return found


def calibrate(logits: NDArray[Any], labels: NDArray[Any]) -> tuple[Calibration, float]:
    """Temperature and 'uncertain' threshold from validation logits, and the share of rows that gets a label."""
    temperature = metrics.fit_temperature(logits, labels)
    threshold, coverage = metrics.trust_threshold(metrics.softmax(logits, temperature), labels, TRUST)
    return Calibration(temperature, threshold), coverage


def network_size(content: bytes) -> dict[str, Any]:
    """Bytes, parameters, multiply-accumulates and operators (name: count) of a .tflite."""
    found = quantize.operators(content)
    names = sorted({each.name for each in found})
    return {
        "bytes": len(content),
        "parameters": quantize.parameters(content),
        "macs": sum(each.macs for each in found),
        "operators": {name: sum(each.name == name for each in found) for name in names},
    }


def evaluate_run(run: Run) -> dict[str, Any]:
    """Measure float, fake-quantised, int8 and post-training-quantised networks; write and return evaluation.json."""
    dataset = run.dataset()
    parts = run.split(dataset)
    preprocess = run.recipe.preprocess
    validation = rows(dataset, parts.validation, preprocess)
    test = rows(dataset, parts.test, preprocess, data.unseen(dataset, parts))
    result: dict[str, Any] = {"test": parts.test_name, "networks": {}, "network": {}}
    told = {}
    for name, both in _all_logits(run, np.concatenate([validation.crops, test.crops])):
        on_validation, on_test = both[: len(validation.labels)], both[len(validation.labels) :]
        calibration, coverage = calibrate(on_validation, validation.labels)
        told[name] = both.argmax(axis=1)
        result["networks"][name] = {
            "temperature": calibration.temperature,
            "uncertain": calibration.uncertain,
            "coverage": coverage,
            "validation": measure(on_validation, validation, calibration.temperature),
            "test": measure(on_test, test, calibration.temperature) if len(test.labels) else {},
        }
        _keep_logits(run, name, on_test)
    names = list(told)
    result["agreement"] = {
        f"{a}/{b}": float((told[a] == told[b]).mean()) for i, a in enumerate(names) for b in names[i + 1 :]
    }
    result["network"] = network_size((run.stage("export") / "qat.tflite").read_bytes())
    result["trust"] = TRUST
    result["data"] = {"rows": len(dataset), "sha256": dataset.sha256, "split": run.record["split"]}
    files.write_text(run.folder / "evaluation.json", json.dumps(result, indent=1) + "\n")
    return result


def _all_logits(run: Run, crops: NDArray[np.uint8]) -> Iterable[tuple[str, NDArray[np.float32]]]:
    yield "float", loop.predict(fit.fitted(run), crops)
    yield "qat", loop.predict(quantize.quantized(run), crops)
    for name, file in (("int8", "qat.tflite"), ("int8-ptq", "ptq.tflite")):
        yield name, int8_logits(run.stage("export") / file, crops)


def _keep_logits(run: Run, name: str, logits: NDArray[np.float32]) -> None:
    with files.appearing(run.folder / "logits" / f"{name}.npz") as temporary:
        np.savez(temporary, logits=logits)


def test_logits(run: Run, name: str) -> NDArray[np.float32]:
    """The test logits that `evaluate_run` kept."""
    with np.load(run.folder / "logits" / f"{name}.npz") as stored:
        return stored["logits"]


def evaluate_bundle(bundle: Bundle, dataset: data.Dataset, split: str, seed: int = 0) -> dict[str, Any]:
    """Figures of a bundle's int8 network on the test rows (on validation where the split has no test)."""
    parts = data.split(dataset, split, seed)
    chosen, name = (parts.test, parts.test_name) if len(parts.test) else (parts.validation, "validation")
    unseen = data.unseen(dataset, parts) if len(parts.test) else None
    on = rows(dataset, chosen, bundle.card.preprocess, unseen)
    logits = int8_logits(bundle.model, on.crops)
    return {
        "model": bundle.card.id,
        "test": name,
        "figures": measure(logits, on, bundle.card.calibration.temperature),
        "network": network_size(bundle.model.read_bytes()),
    }


def as_text(figures: dict[str, dict[str, Any]]) -> str:
    """Accuracy, macro-F1 and calibration error per set of labels, then precision and recall per class."""
    lines = []
    for labels, found in figures.items():
        lines.append(
            f"{labels:<14} {found['rows']:>5} rows  accuracy {found['accuracy']:.2%}  "
            f"macro-F1 {found['macro_f1']:.2%}  calibration error {found['calibration_error']:.2%}"
        )
        lines += [
            f"    {label:<9} precision {found['precision'][label]:.1%}  recall {found['recall'][label]:.1%}"
            for label in found["recall"]
        ]
    return "\n".join(lines)
