"""report.html of a run: what was trained, on what, how good it is and where it errs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from mien_edge import files
from mien_edge.contract import LABELS, softmax
from mien_edge.errors import RunError

from mien_train import evaluate, loop, metrics, page, plots
from mien_train.runs import Run

_WORST = 40
_COLUMNS = (("validation", "fer2013"), ("test", "fer2013"), ("test", "fer2013-unseen"), ("test", "ferplus"))


def report(run: Run) -> Path:
    """Write report.html and the curve pictures; return the page's path. Raises RunError before `export`."""
    path = run.folder / "evaluation.json"
    if not path.exists():
        raise RunError(f"{path}: nothing measured yet; run: mien-train export {run.folder}")
    found = json.loads(path.read_text())
    parts = [
        page.pre(f"$ {run.record['command']}"),
        *_summary(run, found),
        *_curves(run),
        *_quality(run, found),
        *_crop(run),
        *_facts(run),
    ]
    target = run.folder / "report.html"
    files.write_text(target, page.page(f"mien: {run.recipe.name}", parts))
    return target


def _summary(run: Run, found: dict[str, Any]) -> list[str]:
    network = found["network"]
    rows = []
    for name, each in found["networks"].items():
        cells = [name]
        for part, labels in _COLUMNS:
            figures = each[part].get(labels)
            cells += [f"{figures['accuracy']:.2%}", f"{figures['macro_f1']:.2%}"] if figures else ["–", "–"]
        figures = each["test"].get("fer2013") or each["validation"]["fer2013"]
        rows.append([*cells, f"{figures['calibration_error']:.2%}", f"{each['temperature']:.3f}"])
    test = found["test"]
    header = [
        "network", "validation", "macro-F1", test, "macro-F1", f"{test} unseen", "macro-F1",
        f"{test} FER+", "macro-F1", "calibration error", "temperature",
    ]  # fmt: skip
    text = (
        f"int8 file: {network['bytes']:,} bytes, {network['parameters']:,} parameters, {network['macs'] / 1e6:.1f} M "
        "multiply-accumulates. Temperature and threshold are fitted on validation rows only. 'Unseen' are the test "
        "rows without a near duplicate among the training rows."
    )
    agreement = [[pair, f"{share:.2%}"] for pair, share in found["agreement"].items()]
    operators = list(network["operators"].items())
    return [
        page.heading("Figures"), page.table(header, rows), page.note(text),
        page.heading("Agreement between networks (same top label)"), page.table(["pair", "share"], agreement),
        page.heading("Operators of the int8 file"), page.table(["operator", "count"], operators),
    ]  # fmt: skip


def _curves(run: Run) -> list[str]:
    parts = [page.heading("Training")]
    for stage in ("fit", "quantize"):
        history = json.loads((run.stage(stage) / "history.json").read_text())
        picture = plots.curves(history, loop.plateau(history), stage)
        files.write_bytes(run.stage(stage) / "curves.png", picture)
        seconds = sum(entry["seconds"] for entry in history)
        parts.append(page.picture(picture, f"{stage}: {len(history)} epochs, {seconds:,.0f} s"))
    return parts


def _quality(run: Run, found: dict[str, Any]) -> list[str]:
    if not found["networks"]["int8"]["test"]:
        return [page.note("This split has no test rows: its validation figures are chosen on what they report.")]
    tables = {
        f"{name} on {found['test']}": found["networks"][name]["test"]["fer2013"]["confusion"]
        for name in ("float", "int8")
    }
    dataset = run.dataset()
    chosen = run.split(dataset).test
    labels, images = dataset.labels[chosen], dataset.images[chosen]
    logits = evaluate.test_logits(run, "int8")
    temperature = found["networks"]["int8"]["temperature"]
    calibrated = softmax(logits, temperature)
    points = {
        "before": metrics.reliability(softmax(logits), labels),
        f"temperature {temperature:.2f}": metrics.reliability(calibrated, labels),
    }
    recalls = {name: list(found["networks"][name]["test"]["fer2013"]["recall"].values()) for name in ("float", "int8")}
    told, confidence = calibrated.argmax(axis=1), calibrated.max(axis=1)
    worst = np.argsort(np.where(told != labels, -confidence, 1), kind="stable")[:_WORST]
    titles = [f"{LABELS[labels[i]]}\n→ {LABELS[told[i]]} {confidence[i]:.0%}" for i in worst]
    return [
        page.heading("Where it errs"),
        page.picture(plots.confusion(tables), "Confusion matrices, FER2013 labels, rows in per cent"),
        page.picture(plots.bars(recalls, LABELS, "recall"), "Recall per class, float against int8"),
        page.picture(plots.reliability(points), "Reliability of the int8 network"),
        page.picture(plots.faces(images[worst], titles), "Worst mistakes: label → what it told, and how sure it was"),
    ]


def _crop(run: Run) -> list[str]:
    path = run.folder / "crop.json"
    if not path.exists():
        return []
    found = json.loads(path.read_text())
    text = (
        f"On {found['pictures']} FER2013 validation pictures the detector's longer side is {found['median']:.3f} of "
        f"the picture's in the median, which gives a margin of {found['margin']:.3f}."
    )
    picture = (run.folder / "crop.png").read_bytes()
    return [
        page.heading("The crop"),
        page.note(text),
        page.picture(picture, "Photographs: accuracy against the margin"),
    ]


def _facts(run: Run) -> list[str]:
    source = run.record["data"]
    text = (
        f"Data: {source['rows']:,} rows, {source['skipped']} bad rows left out, sha256 {source['sha256']}, "
        f"split {run.record['split']}."
    )
    return [
        page.heading("Recipe and data"),
        page.note(text),
        page.pre(json.dumps(run.record["recipe"], indent=1)),
        page.pre(json.dumps(run.record["versions"], indent=1)),
    ]
