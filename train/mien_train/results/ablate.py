"""`mien-train ablate`: what each part of the recipe is worth, measured one after the other on the
same rows.

Each row is a run folder of its own, trained for the same number of epochs, so the command resumes
after a kill. A short training favours what learns fast; augmentation, averaging and distillation
pay more the longer it is.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mien_edge import files
from mien_edge.formats import csv_line

from mien_train import html, plots
from mien_train.arrays import Floats, Indices, Pixels
from mien_train.data.heads import FER2013, FERPLUS
from mien_train.data.splits import require_test
from mien_train.data.strengths import OFF
from mien_train.progress import progress
from mien_train.results.evaluate import int8_logits, labelled_crops
from mien_train.training import fit, loop, quantize
from mien_train.training.recipes import EDGE_CUT, EDGE_FRESH, SEED, Recipe
from mien_train.training.run import OpenRun

_PLAIN = replace(
    EDGE_FRESH.fit,
    augment=replace(OFF, flip=0.5),
    ema_decay=0,
    distillation_weight=0,
    label_smoothing=0,
)
_AUGMENTED = replace(_PLAIN, augment=EDGE_FRESH.fit.augment)
_AVERAGED = replace(_AUGMENTED, ema_decay=EDGE_FRESH.fit.ema_decay)
# These rows do not depend on the teacher, so their runs don't either.
_UNDISTILLED = replace(EDGE_FRESH, quantize=replace(EDGE_FRESH.quantize, distillation_weight=0))
_ONE_HEAD = replace(_UNDISTILLED, heads=(FER2013.name,), fit=_PLAIN)

ROWS: tuple[tuple[str, Recipe], ...] = (
    ("seed network", replace(SEED, name="ablation-seed")),
    ("edge-fresh network, plain", replace(_ONE_HEAD, name="ablation-plain")),
    ("+ augmentation", replace(_ONE_HEAD, name="ablation-augmented", fit=_AUGMENTED)),
    ("+ averaged weights", replace(_ONE_HEAD, name="ablation-averaged", fit=_AVERAGED)),
    ("+ FER+ votes", replace(_UNDISTILLED, name="ablation-votes", fit=_AVERAGED)),
    ("+ distillation", replace(EDGE_FRESH, name="ablation-taught")),
    ("edge network, fresh", replace(EDGE_CUT, name="ablation-mobile", initial_weights="random")),
    ("+ cut out of a teacher", replace(EDGE_CUT, name="ablation-cut")),
)
"""Title and recipe of each float network. From the second on, which has mirror images as the first,
each adds one thing to the one before, but for the edge network, which comes with its own settings.
The last is quantised, too.
"""

_HEADER = ("network", "validation", "test FER2013", "test FER+", "seconds")
_FIT_FILES = ("best.npz", "state.npz", "history.json")

_Predict = Callable[[str, Pixels], Floats]
"""(n, 7) logits of a head, by its name, for normalized (n, s, s) crops."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    validation, fer2013: accuracy, 0..1, on validation and test rows by FER2013's labels. ferplus:
    on test rows by FER+ majorities, None where the network has no such head. seconds: of training
    this network, teachers aside.
    """

    title: str
    validation: float
    fer2013: float
    ferplus: float | None
    seconds: float


def ablate(
    rows: Sequence[tuple[str, Recipe]],
    begin: Callable[[Recipe], OpenRun],
    epochs: int,
    qat_epochs: int,
    folder: Path,
) -> list[Row]:
    """Train what is missing of `rows`, such as ROWS, measure all, and write ablation.csv, .png and
    .html.

    begin: opens the run of a recipe. epochs, qat_epochs: of each run's float and quantization-aware
    training. folder: where the three files are written. Raises DataError for a split without test
    rows.
    """
    runs = [(title, begin(_shorten(recipe, epochs, qat_epochs))) for title, recipe in rows]
    results = []
    for title, run in progress(runs, "ablation", "networks"):
        fit.fit(run)
        results.append(_measure(title, run, ("fit",), partial(_float_logits, run)))
    _, last_run = runs[-1]
    results += _quantize(last_run, begin)
    lengths = f"{epochs} epochs each, {qat_epochs} of quantisation-aware training"
    _write(results, f"Accuracy on the test rows; {lengths}", folder)
    return results


def as_text(rows: Sequence[Row]) -> str:
    """The table for a terminal."""
    lines = []
    for title, *cells in (_HEADER, *map(_cells, rows)):
        lines.append(f"{title:<28}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def _shorten(recipe: Recipe, epochs: int, qat_epochs: int) -> Recipe:
    return replace(
        recipe,
        fit=replace(recipe.fit, epochs=epochs, patience=epochs),
        quantize=replace(recipe.quantize, epochs=qat_epochs, patience=qat_epochs),
    )


def _quantize(distilled: OpenRun, begin: Callable[[Recipe], OpenRun]) -> Iterator[Row]:
    """Quantise the float network of a run in three ways, and measure each."""
    undistilled = _copy_without_distillation(distilled, begin)
    quantize.quantize(distilled)
    quantize.quantize(undistilled)
    distilled_models = _Models(distilled)
    undistilled_models = _Models(undistilled)
    both_stages = ("fit", "quantize")
    yield _measure("int8, PTQ", distilled, ("fit",), distilled_models.ptq_logits)
    yield _measure("int8, QAT", undistilled, both_stages, undistilled_models.qat_logits)
    yield _measure("int8, QAT + distillation", distilled, both_stages, distilled_models.qat_logits)


def _copy_without_distillation(run: OpenRun, begin: Callable[[Recipe], OpenRun]) -> OpenRun:
    """Begin a run whose float network is that of `run`, and whose quantization-aware training has
    no teacher.
    """
    stage = replace(run.recipe.quantize, distillation_weight=0.0)
    copy = begin(replace(run.recipe, name="ablation-quantized", quantize=stage))
    for name in _FIT_FILES:
        content = (run.stage_folder("fit") / name).read_bytes()
        files.write_bytes(copy.stage_folder("fit") / name, content)
    return copy


class _Models:
    """The .tflite files of all heads of a run, converted once, for converting takes longer than
    measuring.
    """

    def __init__(self, run: OpenRun) -> None:
        self._qat: dict[str, Path] = {}
        self._ptq: dict[str, Path] = {}
        for head in run.recipe.heads:
            self._qat[head], self._ptq[head] = quantize.write_models(run, head)

    def qat_logits(self, head: str, crops: Pixels) -> Floats:
        """Logits after quantization-aware training."""
        return int8_logits(self._qat[head], crops)

    def ptq_logits(self, head: str, crops: Pixels) -> Floats:
        """Logits after post-training quantisation."""
        return int8_logits(self._ptq[head], crops)


def _float_logits(run: OpenRun, head: str, crops: Pixels) -> Floats:
    return loop.predict(fit.float_network(run, head), crops)


def _measure(title: str, run: OpenRun, stages: Sequence[str], predict: _Predict) -> Row:
    """Measure one network of a run. stages: those that it was trained in, for the seconds."""
    split = require_test(run.split)
    ferplus = None
    if FERPLUS.name in run.recipe.heads:
        ferplus = _accuracy(run, split.test, FERPLUS.name, predict)
    return Row(
        title=title,
        validation=_accuracy(run, split.validation, FER2013.name, predict),
        fer2013=_accuracy(run, split.test, FER2013.name, predict),
        ferplus=ferplus,
        seconds=sum(entry["seconds"] for stage in stages for entry in run.history(stage)),
    )


def _accuracy(run: OpenRun, rows: Indices, head: str, predict: _Predict) -> float:
    [own] = [each for each in run.heads if each.name == head]
    samples = labelled_crops(run.dataset, rows, run.recipe.preprocess, own, [own])
    has_label, labels = samples.labelled(head)
    logits = predict(head, samples.crops[has_label])
    return float((logits.argmax(axis=1) == labels).mean())


def _cells(row: Row) -> tuple[str, ...]:
    ferplus = "" if row.ferplus is None else f"{row.ferplus:.2%}"
    return (
        row.title,
        f"{row.validation:.2%}",
        f"{row.fer2013:.2%}",
        ferplus,
        f"{row.seconds:,.0f}",
    )


def _write(rows: Sequence[Row], caption: str, folder: Path) -> None:
    table = [_cells(row) for row in rows]
    text = "".join(csv_line(cells) for cells in (_HEADER, *table))
    files.write_text(folder / "ablation.csv", text)
    accuracies: Mapping[str, Sequence[float]] = {
        "FER2013": [row.fer2013 for row in rows],
        "FER+": [row.ferplus or 0.0 for row in rows],
    }
    picture = plots.steps(accuracies, [row.title for row in rows])
    files.write_bytes(folder / "ablation.png", picture)
    parts = [html.picture(picture, caption), html.table(_HEADER, table)]
    files.write_text(folder / "ablation.html", html.page("mien: ablation", parts))
