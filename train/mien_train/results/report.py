"""report.html of a run: what was trained, on what, how good it is and where it errs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from mien_edge import files
from mien_edge.contract import LABELS, softmax
from mien_edge.errors import RunError
from mien_edge.model import estimates, profile, tflite

from mien_train import html, metrics, plots
from mien_train.results import evaluate
from mien_train.training import ensemble, loop
from mien_train.training.run import Run

_WORST = 40
_COLUMNS = (
    ("validation", "fer2013"), ("validation", "ferplus"),
    ("test", "fer2013"), ("test", "fer2013-unseen"), ("test", "ferplus"),
)  # fmt: skip
_NAMES = {"fer2013": "FER2013 labels", "ferplus": "FER+ majorities"}


def report(run: Run) -> Path:
    """Write report.html and the curve pictures; return the page's path. Raises RunError before `export`."""
    parts = [html.pre(f"$ {run.record['command']}")]
    for head in run.recipe.heads:
        path = run.folder / f"evaluation-{head}.json"
        if not path.exists():
            raise RunError(f"{path}: nothing measured yet; run: mien-train export {run.folder}")
        found = json.loads(path.read_text())
        parts += [html.heading(f"Tells {_NAMES[head]}"), *_summary(found), *_quality(run, found)]
    parts += [*_robustness(run), *_layers(run), *_teacher(run), *_curves(run), *_crop(run), *_facts(run)]
    target = run.folder / "report.html"
    files.write_text(target, html.page(f"mien: {run.recipe.name}", parts))
    return target


def _summary(found: dict[str, Any]) -> list[str]:
    network = found["network"]
    networks = found["networks"].values()
    rows = []
    for part, labels in _COLUMNS:
        if labels in found["networks"]["float"][part]:
            name = f"{found['test'] if part == 'test' else part}, {labels}"
            figures = [each[part][labels] for each in networks]
            rows.append([name, *(f"{each['accuracy']:.2%}" for each in figures)])
            rows.append([f"{name}, macro-F1", *(f"{each['macro_f1']:.2%}" for each in figures)])
    figures = [(each["test"] or each["validation"])[found["head"]] for each in networks]
    rows.append(["calibration error", *(f"{each['calibration_error']:.2%}" for each in figures)])
    rows.append(["temperature", *(f"{each['temperature']:.3f}" for each in networks)])
    text = (
        f"int8 file: {network['bytes']:,} bytes, {network['parameters']:,} parameters, {network['macs'] / 1e6:.1f} M "
        "multiply-accumulates. Temperature and threshold are fitted on validation rows only. 'Unseen' are the test "
        "rows without a near duplicate among the training rows."
    )
    agreement = [[pair, f"{share:.2%}"] for pair, share in found["agreement"].items()]
    parts = [
        html.table(["accuracy", *found["networks"]], rows), html.note(text),
        *([html.note(evaluate.device_as_text(found["device"]))] if "device" in found else []),
        html.note("Agreement between networks (same top label)"), html.table(["pair", "share"], agreement),
        html.note("Operators of the int8 file"), html.table(["operator", "count"], list(network["operators"].items())),
    ]  # fmt: skip
    return parts


def _robustness(run: Run) -> list[str]:
    path = run.folder / "robustness.json"
    if not path.exists():
        return []
    found = json.loads(path.read_text())
    means = ", ".join(f"{each['model']} {each['clean']:.1%} clean, {each['mean']:.1%} over all" for each in found)
    caption = f"Accuracy on the test rows under eight corruptions, by the labels that each predicts: {means}"
    return [html.heading("When pictures get worse"), html.picture(plots.robustness(found), caption)]


def _layers(run: Run) -> list[str]:
    """Of the first head's file: they differ in the last layer only."""
    content = run.stage("export") / run.recipe.heads[0] / "qat.tflite"
    layers = profile.profile_layers(content)
    rows = [[layer.operator, layer.shape, f"{layer.macs / 1e6:.2f}", f"{layer.milliseconds:.4f}"] for layer in layers]
    operators = tflite.operators(content.read_bytes())
    return [
        html.heading("Layer by layer"),
        html.table(["operator", "output", "M multiply-accumulates", "ms on this machine, one thread"], rows),
        *(html.note(estimate.as_text()) for estimate in estimates.estimate(operators)),
    ]


def _teacher(run: Run) -> list[str]:
    folder = run.teacher()
    if folder is None:
        return []
    found = json.loads((folder / "ensemble.json").read_text())
    return [
        html.heading("The teacher"),
        html.picture((folder / "ensemble.png").read_bytes(), "Members and the whole, on the test rows"),
        html.pre(ensemble.as_text(found)),
    ]


def _curves(run: Run) -> list[str]:
    parts = [html.heading("Training")]
    for stage in ("fit", "quantize"):
        history = run.history(stage)
        picture = plots.curves(history, loop.plateau(history), stage)
        files.write_bytes(run.stage(stage) / "curves.png", picture)
        seconds = sum(entry["seconds"] for entry in history)
        parts.append(html.picture(picture, f"{stage}: {len(history)} epochs, {seconds:,.0f} s"))
    return parts


def _quality(run: Run, found: dict[str, Any]) -> list[str]:
    if not found["networks"]["int8"]["test"]:
        return [html.note("This split has no test rows: its validation figures are chosen on what they report.")]
    head, int8 = found["head"], found["networks"]["int8"]
    measured = {name: found["networks"][name]["test"][head] for name in ("float", "int8")}
    dataset = run.dataset()
    on = evaluate.rows(dataset, run.split(dataset).test, run.recipe.preprocess)
    known, labels = on.known(head)
    images = dataset.images[run.split(dataset).test][known]
    logits = evaluate.test_logits(run, head, "int8")
    calibrated = softmax(logits[known], int8["temperature"])
    points = {
        "before": metrics.reliability(softmax(logits[known]), labels),
        f"temperature {int8['temperature']:.2f}": metrics.reliability(calibrated, labels),
    }
    recalls = {name: list(each["recall"].values()) for name, each in measured.items()}
    told, confidence = calibrated.argmax(axis=1), calibrated.max(axis=1)
    worst = np.argsort(np.where(told != labels, -confidence, 1), kind="stable")[:_WORST]
    titles = [f"{LABELS[labels[i]]}\n→ {LABELS[told[i]]} {confidence[i]:.0%}" for i in worst]
    tables = {f"{name} on {found['test']}": each["confusion"] for name, each in measured.items()}
    return [
        html.picture(plots.confusion(tables), f"Confusion matrices, {_NAMES[head]}, rows in per cent"),
        html.picture(plots.bars(recalls, LABELS, "recall"), "Recall per class, float against int8"),
        html.picture(plots.reliability(points), "Reliability of the int8 network"),
        *_coverage(on, logits, int8),
        html.picture(plots.faces(images[worst], titles), "Worst mistakes: label → prediction, and its confidence"),
    ]


def _coverage(on: evaluate.Rows, logits: Any, int8: dict[str, Any]) -> list[str]:
    """Risk-coverage on the test rows, as a table and drawn, for each kind of labels."""
    series, rows = {}, []
    for head, name in _NAMES.items():
        known, labels = on.known(head)
        if known.any():
            probabilities = softmax(logits[known], int8["temperature"])
            series[name] = metrics.risk_coverage(probabilities, labels)
            rows.append([name, *(f"{share:.1%}" for share in int8["test"][head]["coverage"].values())])
    header = ["faces that get a label, by", *(f"{wanted:.0%} right" for wanted in metrics.WANTED)]
    text = f"Below a confidence of {int8['uncertain']:.0%}, a device says 'uncertain'; chosen on validation rows."
    picture = plots.coverage(series, metrics.WANTED)
    return [html.table(header, rows), html.picture(picture, f"Risk-coverage of the int8 network. {text}")]


def _crop(run: Run) -> list[str]:
    path = run.folder / "crop.json"
    if not path.exists():
        return []
    found = json.loads(path.read_text())
    text = (
        f"On {found['pictures']} FER2013 validation pictures the detector's longer side is {found['median']:.3f} of "
        f"the picture's in the median, which gives a margin of {found['margin']:.3f}."
    )
    drawn = run.folder / "crop.png"
    parts = [html.heading("The crop"), html.note(text)]
    if drawn.exists():
        parts.append(html.picture(drawn.read_bytes(), "Photographs: accuracy against the margin"))
    return parts


def _facts(run: Run) -> list[str]:
    source = run.record["data"]
    text = (
        f"Data: {source['rows']:,} rows, {source['skipped']} bad rows left out, sha256 {source['sha256']}, "
        f"split {run.record['split']}."
    )
    return [
        html.heading("Recipe and data"),
        html.note(text),
        html.pre(json.dumps(run.record["recipe"], indent=1)),
        html.pre(json.dumps(run.record["versions"], indent=1)),
    ]
