"""report.html of a run: what was trained, on what, how good it is and where it errs."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mien_edge import files
from mien_edge.contract import softmax
from mien_edge.model import estimates, tflite
from mien_edge.model.profile import profile_layers

from mien_train import html, metrics, plots
from mien_train.arrays import Array, Floats, Labels, Pixels
from mien_train.results import fairness, robustness
from mien_train.results.crop import read_crop
from mien_train.results.cross_validate import read_cross_validation
from mien_train.results.evaluate import (
    LabelledCrops,
    labelled_crops,
    measured_heads,
    read_test_logits,
)
from mien_train.results.evaluation import Evaluation, read_evaluation
from mien_train.training import ensemble, loop
from mien_train.training.run import OpenRun

_MAX_MISTAKES = 40
_STAGES = ("fit", "quantize")
_NOTHING_LEARNT = 0.02  # above what the commonest label alone would have
_MUCH_LOST = 0.01  # of accuracy, from float to int8
_BADLY_CALIBRATED = 0.05


def report(run: OpenRun) -> Path:
    """Write report.html and the curve pictures into the run's folder; return the page's path.

    Raises RunError where a head was not exported and measured yet.
    """
    evaluations = [read_evaluation(run.folder, head) for head in run.recipe.heads]
    parts = list(_summary(run, evaluations))
    for evaluation in evaluations:
        parts.append(html.heading(f"Predicts {evaluation.own_head.title}"))
        parts += _networks(evaluation)
        parts += _quality(run, evaluation)
    for section in (
        _cross_validation,
        _robustness,
        _fairness,
        _layers,
        _teacher,
        _curves,
        _crop,
        _recipe_and_data,
    ):
        parts += section(run)
    path = run.folder / "report.html"
    files.write_text(path, html.page(f"mien: {run.recipe.name}", parts))
    return path


def _summary(run: OpenRun, evaluations: Sequence[Evaluation]) -> Iterator[str]:
    """What the run made, its best figures, and what they mean."""
    cost = evaluations[0].cost
    data = run.record["data"]
    heads = [evaluation.own_head.title for evaluation in evaluations]
    yield html.heading("Summary")
    yield html.facts(
        [
            ("what it is", f"recipe {run.recipe.name}, network {run.recipe.network}, int8"),
            ("predicts", "; ".join(heads)),
            ("trained on", f"{data['rows']:,} rows of {Path(data['path']).name}"),
            ("started from", run.record["start"]),
            ("size", f"{cost.bytes:,} bytes"),
            ("cost", f"{cost.macs / 1e6:.1f} M multiply-accumulates"),
        ]
    )
    header = ["int8, by its own labels", *heads]
    own = [evaluation.networks["int8"].reported[evaluation.head] for evaluation in evaluations]
    yield html.table(
        header,
        [
            ["measured on", *(evaluation.reported_name for evaluation in evaluations)],
            ["accuracy", *(f"{score.accuracy:.2%}" for score in own)],
            ["macro-F1", *(f"{score.macro_f1:.2%}" for score in own)],
            ["calibration error", *(f"{score.calibration_error:.2%}" for score in own)],
            ["float network's accuracy", *map(_float_accuracy, evaluations)],
        ],
    )
    yield html.subheading("Verdict")
    yield html.bullets(sentence for evaluation in evaluations for sentence in verdict(evaluation))


def _float_accuracy(evaluation: Evaluation) -> str:
    return f"{evaluation.networks['float'].reported[evaluation.head].accuracy:.2%}"


def verdict(evaluation: Evaluation) -> Iterator[str]:
    """Yield what the figures of one head mean, a sentence each."""
    title = evaluation.own_head.title
    score = evaluation.networks["int8"].reported[evaluation.head]
    floating = evaluation.networks["float"].reported[evaluation.head]
    rows_of_labels = [sum(row) for row in score.confusion]
    commonest = max(rows_of_labels) / max(sum(rows_of_labels), 1)
    if score.accuracy <= commonest + _NOTHING_LEARNT:
        yield (
            f"{title}: it has learnt next to nothing: {score.accuracy:.1%} are right, and the "
            f"commonest label alone would be right for {commonest:.1%}. Train longer, or look at "
            "the data."
        )
        return
    yield (
        f"{title}: {score.accuracy:.1%} are right where the commonest label alone would be right "
        f"for {commonest:.1%}."
    )
    lost = floating.accuracy - score.accuracy
    if lost > _MUCH_LOST:
        yield f"{title}: int8 loses {100 * lost:.1f} points to the float network."
    else:
        yield f"{title}: int8 keeps what the float network has ({-100 * lost:+.1f} points)."
    if score.calibration_error > _BADLY_CALIBRATED:
        yield (
            f"{title}: its confidences are off by {score.calibration_error:.1%} on average: do not "
            "take them for probabilities."
        )
    else:
        yield (
            f"{title}: its confidences are off by {score.calibration_error:.1%} on average, on "
            "rows like these."
        )
    weakest = min(score.recall, key=lambda label: score.recall[label])
    yield f"{title}: weakest for '{weakest}', of which it finds {score.recall[weakest]:.0%}."


def _networks(evaluation: Evaluation) -> Iterator[str]:
    """The figures of all networks side by side."""
    cost = evaluation.cost
    yield html.table(["accuracy", *evaluation.networks], _score_rows(evaluation))
    yield html.note(
        f"int8 file: {cost.bytes:,} bytes, {cost.parameters:,} parameters, {cost.macs / 1e6:.1f} M "
        "multiply-accumulates. Temperature and threshold are fitted on validation rows, as they "
        "are and corrupted, all labels counting equally. 'Unseen' are the test rows without a near "
        "duplicate among the training rows."
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
    predicts = evaluation.own_head
    heads = measured_heads(predicts, run.dataset, is_own_data=True)
    preprocess = run.recipe.preprocess
    samples = labelled_crops(run.dataset, run.split.test, preprocess, predicts, heads)
    logits = read_test_logits(run, evaluation.head, "int8")
    has_label, labels = samples.labelled(evaluation.head)
    images = run.dataset.images[run.split.test][has_label]
    probabilities = softmax(logits[has_label], int8.temperature)
    yield from _confusion_and_recall(evaluation)
    yield _reliability(logits[has_label], labels, int8.temperature)
    yield from _coverage(samples, logits, evaluation)
    yield _worst_mistakes(images, probabilities, labels, evaluation.labels)


def _confusion_and_recall(evaluation: Evaluation) -> Iterator[str]:
    scores = {name: evaluation.networks[name].test[evaluation.head] for name in ("float", "int8")}
    test = evaluation.test_name
    matrices = {f"{name} on {test}": score.confusion for name, score in scores.items()}
    title = evaluation.own_head.title
    drawing = plots.confusion(matrices, evaluation.labels)
    yield html.picture(drawing, f"Confusion matrices, {title}, rows in per cent")
    recalls = {name: list(score.recall.values()) for name, score in scores.items()}
    picture = plots.bars(recalls, list(scores["int8"].recall), "recall")
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
    for head in samples.heads:
        has_label, labels = samples.labelled(head.name)
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


def _worst_mistakes(
    images: Pixels, probabilities: Array, labels: Labels, names: Sequence[str]
) -> str:
    """The pictures that were most confidently given a wrong label."""
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    mistakes_first = np.where(predicted != labels, -confidence, 1)
    rows = np.argsort(mistakes_first, kind="stable")[:_MAX_MISTAKES]
    captions = [
        f"{names[labels[row]]}\n→ {names[predicted[row]]} {confidence[row]:.0%}" for row in rows
    ]
    title = html.subheading("Worst mistakes: label → prediction, and its confidence")
    pictures = [plots.face(image) for image in images[rows]]
    return title + html.gallery(zip(pictures, captions, strict=True))


def _cross_validation(run: OpenRun) -> Iterator[str]:
    result = read_cross_validation(run.folder)
    if result is None:
        return
    header, rows = result.table()
    yield html.heading(f"Against {result.start}, from which it was fine-tuned")
    yield html.note(result.summary())
    yield html.table(header, rows)
    yield html.picture(result.picture(), "Accuracy before and after, with 95 % intervals")
    yield html.note(
        "The intervals are of a paired bootstrap over groups: how far other faces of this kind "
        "could change a figure. Recall is what counts for one label."
    )
    if result.notes:
        yield html.bullets(result.notes)


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


def _fairness(run: OpenRun) -> Iterator[str]:
    results = fairness.read_fairness(run.folder)
    if results:
        yield html.heading("By groups of people")
    for result in results:
        yield from fairness.as_parts(result)


def _layers(run: OpenRun) -> Iterator[str]:
    """Of the first head's file: they differ in the last layer only."""
    model = run.stage_folder("export") / run.recipe.heads[0] / "qat.tflite"
    rows = [
        [layer.operator, layer.shape, f"{layer.macs / 1e6:.2f}", f"{layer.milliseconds:.4f}"]
        for layer in profile_layers(model)
    ]
    header = ["operator", "output", "M MACs", "ms"]
    yield html.heading("Layer by layer")
    yield html.note(
        "Millions of multiply-accumulates, and milliseconds on this machine with one thread."
    )
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
    for stage in _STAGES:
        history = run.history(stage)
        if not history:
            continue
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
    recipe = run.record["recipe"]
    yield html.facts(
        [
            ("command", run.record["command"]),
            ("data", data["path"]),
            ("sha256", data["sha256"]),
            ("rows", f"{data['rows']:,}, {data['skipped']:,} bad ones left out"),
            ("split", run.record["split"]),
        ]
    )
    plain = {key: value for key, value in recipe.items() if key not in _STAGES}
    yield html.subheading("The recipe")
    yield html.facts(_flat(plain))
    stages = [dict(_flat(recipe[stage])) for stage in _STAGES]
    names = dict.fromkeys(name for stage in stages for name in stage)
    rows = [[name, *(stage.get(name, "") for stage in stages)] for name in names]
    yield html.table(["stage", *_STAGES], rows)
    yield html.subheading("Made with")
    yield html.facts(run.record["versions"].items())
    yield html.details("All of run.json", html.pre(json.dumps(run.record, indent=1)))


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield names and values; a table in a table gives names of two words."""
    for key, value in values.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, dict):
            yield from _flat(value, f"{name}: ")
        elif isinstance(value, list):
            yield name, ", ".join(map(str, value))
        else:
            yield name, str(value)
