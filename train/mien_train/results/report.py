"""report.html of a run: what was trained, on what, how good it is and where it errs."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from mien_edge import files
from mien_edge.contract import LABELS, softmax
from mien_edge.model import estimates, tflite
from mien_edge.model.profile import profile_layers

from mien_train import html, metrics, plots
from mien_train.arrays import Array, Floats, Labels, Pixels
from mien_train.data.heads import HEADS, find_head
from mien_train.results import robustness
from mien_train.results.crop import read_crop
from mien_train.results.evaluate import LabelledCrops, labelled_crops, read_test_logits
from mien_train.results.evaluation import Evaluation, read_evaluation
from mien_train.training import ensemble, loop
from mien_train.training.run import OpenRun

_MAX_MISTAKES = 40


def report(run: OpenRun) -> Path:
    """Write report.html and the curve pictures into the run's folder; return the page's path.

    Raises RunError where a head was not exported and measured yet.
    """
    parts = [html.pre(f"$ {run.record['command']}")]
    for head in run.recipe.heads:
        evaluation = read_evaluation(run.folder, head)
        parts.append(html.heading(f"Predicts {find_head(head).title}"))
        parts += _summary(evaluation)
        parts += _quality(run, evaluation)
    for section in (_robustness, _layers, _teacher, _curves, _crop, _recipe_and_data):
        parts += section(run)
    path = run.folder / "report.html"
    files.write_text(path, html.page(f"mien: {run.recipe.name}", parts))
    return path


def _summary(evaluation: Evaluation) -> Iterator[str]:
    """The figures of all networks side by side."""
    cost = evaluation.cost
    yield html.table(["accuracy", *evaluation.networks], _score_rows(evaluation))
    yield html.note(
        f"int8 file: {cost.bytes:,} bytes, {cost.parameters:,} parameters, {cost.macs / 1e6:.1f} M "
        "multiply-accumulates. Temperature and threshold are fitted on validation rows only. "
        "'Unseen' are the test rows without a near duplicate among the training rows."
    )
    if evaluation.device is not None:
        yield html.note(evaluation.device.as_text())
    yield html.note("Agreement between networks (same top label)")
    agreement = [[pair, f"{share:.2%}"] for pair, share in evaluation.agreement.items()]
    yield html.table(["pair", "share"], agreement)
    yield html.note("Operators of the int8 file")
    yield html.table(["operator", "count"], list(cost.operators.items()))


def _score_rows(evaluation: Evaluation) -> Iterator[list[str]]:
    """Rows of a table with a column for each network."""
    networks = list(evaluation.networks.values())
    parts = {
        "validation": [network.validation for network in networks],
        evaluation.test_name: [network.test for network in networks],
    }
    for part, scores_of_networks in parts.items():
        for labels in scores_of_networks[0]:
            name = f"{part}, {labels}"
            scores = [scores_of_network[labels] for scores_of_network in scores_of_networks]
            yield [name, *(f"{score.accuracy:.2%}" for score in scores)]
            yield [f"{name}, macro-F1", *(f"{score.macro_f1:.2%}" for score in scores)]
    own = [network.reported[evaluation.head] for network in networks]
    yield ["calibration error", *(f"{score.calibration_error:.2%}" for score in own)]
    yield ["temperature", *(f"{network.temperature:.3f}" for network in networks)]


def _quality(run: OpenRun, evaluation: Evaluation) -> Iterator[str]:
    """What the int8 network does on the test rows, beside the float one."""
    int8 = evaluation.networks["int8"]
    if not int8.test:
        yield html.note("This split has no test rows: its figures are chosen on what they report.")
        return
    samples = labelled_crops(run.dataset, run.split.test, run.recipe.preprocess)
    logits = read_test_logits(run, evaluation.head, "int8")
    has_label, labels = samples.labelled(evaluation.head)
    images = run.dataset.images[run.split.test][has_label]
    probabilities = softmax(logits[has_label], int8.temperature)
    yield from _confusion_and_recall(evaluation)
    yield _reliability(logits[has_label], labels, int8.temperature)
    yield from _coverage(samples, logits, evaluation)
    yield _worst_mistakes(images, probabilities, labels)


def _confusion_and_recall(evaluation: Evaluation) -> Iterator[str]:
    scores = {name: evaluation.networks[name].test[evaluation.head] for name in ("float", "int8")}
    test = evaluation.test_name
    matrices = {f"{name} on {test}": score.confusion for name, score in scores.items()}
    title = find_head(evaluation.head).title
    yield html.picture(plots.confusion(matrices), f"Confusion matrices, {title}, rows in per cent")
    recalls = {name: list(score.recall.values()) for name, score in scores.items()}
    picture = plots.bars(recalls, LABELS, "recall")
    yield html.picture(picture, "Recall per class, float against int8")


def _reliability(logits: Floats, labels: Labels, temperature: float) -> str:
    bins = {
        "before": metrics.reliability(softmax(logits), labels),
        f"temperature {temperature:.2f}": metrics.reliability(softmax(logits, temperature), labels),
    }
    return html.picture(plots.reliability(bins), "Reliability of the int8 network")


def _coverage(samples: LabelledCrops, logits: Floats, evaluation: Evaluation) -> Iterator[str]:
    """Risk-coverage on the test rows, as a table and drawn, by each kind of labels."""
    int8 = evaluation.networks["int8"]
    curves = {}
    rows = []
    for head in HEADS.values():
        has_label, labels = samples.labelled(head.name)
        if has_label.any():
            probabilities = softmax(logits[has_label], int8.temperature)
            curves[head.title] = metrics.risk_coverage(probabilities, labels)
            shares = int8.test[head.name].coverage.values()
            rows.append([head.title, *map(metrics.coverage_as_text, shares)])
    targets = [f"{target:.0%} right" for target in metrics.TARGET_ACCURACIES]
    yield html.table(["faces that get a label, by", *targets], rows)
    yield html.picture(
        plots.coverage(curves, metrics.TARGET_ACCURACIES),
        f"Risk-coverage of the int8 network; {evaluation.threshold_as_text()}.",
    )


def _worst_mistakes(images: Pixels, probabilities: Array, labels: Labels) -> str:
    """The pictures that were most confidently given a wrong label."""
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    mistakes_first = np.where(predicted != labels, -confidence, 1)
    rows = np.argsort(mistakes_first, kind="stable")[:_MAX_MISTAKES]
    titles = [
        f"{LABELS[labels[row]]}\n→ {LABELS[predicted[row]]} {confidence[row]:.0%}" for row in rows
    ]
    caption = "Worst mistakes: label → prediction, and its confidence"
    return html.picture(plots.faces(images[rows], titles), caption)


def _robustness(run: OpenRun) -> Iterator[str]:
    results = robustness.read_robustness(run.folder)
    if not results:
        return
    means = [
        f"{result.model} {result.clean:.1%} clean, {result.mean:.1%} over all" for result in results
    ]
    caption = (
        "Accuracy on the test rows under eight corruptions, by the labels that each predicts: "
        f"{', '.join(means)}"
    )
    yield html.heading("When pictures get worse")
    yield html.picture(robustness.draw(results), caption)


def _layers(run: OpenRun) -> Iterator[str]:
    """Of the first head's file: they differ in the last layer only."""
    model = run.stage_folder("export") / run.recipe.heads[0] / "qat.tflite"
    rows = [
        [layer.operator, layer.shape, f"{layer.macs / 1e6:.2f}", f"{layer.milliseconds:.4f}"]
        for layer in profile_layers(model)
    ]
    header = ["operator", "output", "M multiply-accumulates", "ms on this machine, one thread"]
    yield html.heading("Layer by layer")
    yield html.table(header, rows)
    for estimate in estimates.estimate(tflite.operators(model.read_bytes())):
        yield html.note(estimate.as_text())


def _teacher(run: OpenRun) -> Iterator[str]:
    if run.teacher is None:
        return
    folder = run.teacher.folder
    record = json.loads((folder / "ensemble.json").read_text())
    picture = (folder / "ensemble.png").read_bytes()
    yield html.heading("The teacher")
    yield html.picture(picture, "Members and the ensemble, on the test rows")
    yield html.pre(ensemble.as_text(record))


def _curves(run: OpenRun) -> Iterator[str]:
    yield html.heading("Training")
    for stage in ("fit", "quantize"):
        history = run.history(stage)
        picture = plots.curves(history, loop.plateau(history), stage)
        files.write_bytes(run.stage_folder(stage) / "curves.png", picture)
        seconds = sum(entry["seconds"] for entry in history)
        yield html.picture(picture, f"{stage}: {len(history)} epochs, {seconds:,.0f} s")


def _crop(run: OpenRun) -> Iterator[str]:
    result = read_crop(run.folder)
    if result is None:
        return
    yield html.heading("The crop")
    yield html.note(
        f"On {result.pictures} FER2013 validation pictures the detector's longer side is "
        f"{result.median:.3f} of the picture's in the median, which gives a margin of "
        f"{result.margin:.3f}."
    )
    path = run.folder / "crop.png"
    if path.exists():
        yield html.picture(path.read_bytes(), "Photographs: accuracy against the margin")


def _recipe_and_data(run: OpenRun) -> Iterator[str]:
    data = run.record["data"]
    yield html.heading("Recipe and data")
    yield html.note(
        f"Data: {data['rows']:,} rows, {data['skipped']} bad rows left out, "
        f"sha256 {data['sha256']}, split {run.record['split']}."
    )
    yield html.pre(json.dumps(run.record["recipe"], indent=1))
    yield html.pre(json.dumps(run.record["versions"], indent=1))
