"""`mien-train ablate`: what each part of the recipe is worth, measured one after the other on the same rows.

Each row is a run folder of its own, trained for the same number of epochs, so the command resumes after a kill. A short
training favours what learns fast; augmentation, averaging and distillation pay more the longer it is.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mien_edge import files
from mien_edge.formats import csv_line
from numpy.typing import NDArray
from tqdm import tqdm

from mien_train import html, plots
from mien_train.data import splits
from mien_train.data.augment import OFF
from mien_train.data.heads import FER2013, FERPLUS
from mien_train.results import evaluate
from mien_train.training import fit, loop, quantize
from mien_train.training.recipes import EDGE_CUT, EDGE_FRESH, SEED, Recipe
from mien_train.training.run import OpenRun

_PLAIN = replace(EDGE_FRESH.fit, augment=replace(OFF, flip=0.5), ema_decay=0, distillation_weight=0, label_smoothing=0)
_AUGMENTED = replace(_PLAIN, augment=EDGE_FRESH.fit.augment)
_AVERAGED = replace(_AUGMENTED, ema_decay=EDGE_FRESH.fit.ema_decay)
# These rows do not depend on the teacher, so their runs don't either.
_UNTAUGHT = replace(EDGE_FRESH, quantize=replace(EDGE_FRESH.quantize, distillation_weight=0))
_ONE_HEAD = replace(_UNTAUGHT, heads=(FER2013.name,), fit=_PLAIN)

ROWS: tuple[tuple[str, Recipe], ...] = (
    ("seed network", replace(SEED, name="ablation-seed")),
    ("edge-fresh network, plain", replace(_ONE_HEAD, name="ablation-plain")),
    ("+ augmentation", replace(_ONE_HEAD, name="ablation-augmented", fit=_AUGMENTED)),
    ("+ averaged weights", replace(_ONE_HEAD, name="ablation-averaged", fit=_AVERAGED)),
    ("+ FER+ votes", replace(_UNTAUGHT, name="ablation-votes", fit=_AVERAGED)),
    ("+ distillation", replace(EDGE_FRESH, name="ablation-taught")),
    ("edge network, fresh", replace(EDGE_CUT, name="ablation-mobile", initial_weights="random")),
    ("+ cut out of a teacher", replace(EDGE_CUT, name="ablation-cut")),
)
"""Title and recipe of each float network. From the second on, which has mirror images as the first, each adds one thing
to the one before, but for the edge network, which comes with its own settings. The last is quantised, too."""


@dataclass(frozen=True)
class Row:
    """One line of the table: accuracies on validation rows by FER2013's labels, on test rows by those and by FER+
    majorities (None where the network has no such head), and seconds of training this network, teachers aside.
    """

    title: str
    validation: float
    fer2013: float
    ferplus: float | None
    seconds: float


def ablate(
    rows: Sequence[tuple[str, Recipe]], begin: Callable[[Recipe], OpenRun], epochs: int, aware_epochs: int, folder: Path
) -> list[Row]:
    """Train what is missing of `rows`, such as ROWS, measure all, and write ablation.csv, .png and .html into `folder`.
    `begin` opens the run of a recipe.
    """
    found = []
    begun = [(title, begin(_shortened(recipe, epochs, aware_epochs))) for title, recipe in rows]
    for title, run in tqdm(begun, desc="ablation", unit=" networks", disable=None):
        fit.fit(run)
        found.append(_row(title, run, "fit", partial(_float_logits, run)))
    found += _quantized(run, begin)
    _write(found, epochs, aware_epochs, folder)
    return found


def _shortened(recipe: Recipe, epochs: int, aware_epochs: int) -> Recipe:
    return replace(
        recipe,
        fit=replace(recipe.fit, epochs=epochs, patience=epochs),
        quantize=replace(recipe.quantize, epochs=aware_epochs, patience=aware_epochs),
    )


def _quantized(last: OpenRun, begin: Callable[[Recipe], OpenRun]) -> Iterator[Row]:
    """The last float network as int8, in three ways."""
    undistilled = replace(last.recipe.quantize, distillation_weight=0.0)
    alone = begin(replace(last.recipe, name="ablation-quantized", quantize=undistilled))
    for file in ("best.npz", "state.npz", "history.json"):
        files.write_bytes(alone.stage_folder("fit") / file, (last.stage_folder("fit") / file).read_bytes())
    for run in (last, alone):
        quantize.quantize(run)
    # Converting takes longer than measuring: once for each run, and both of its ways to int8 are there.
    paths = {run.folder: {head: quantize.write_models(run, head) for head in run.recipe.heads} for run in (last, alone)}
    for title, run, way in (
        ("int8, PTQ", last, 1),
        ("int8, QAT", alone, 0),
        ("int8, QAT + distillation", last, 0),
    ):
        models = {head: both[way] for head, both in paths[run.folder].items()}
        stage = "fit" if way else "quantize"
        yield _row(title, run, stage, partial(_int8_logits, models))


def _float_logits(run: OpenRun, head: str, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    return loop.predict(fit.float_network(run, head), crops)


def _int8_logits(models: dict[str, Path], head: str, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    return evaluate.int8_logits(models[head], crops)


def _row(title: str, run: OpenRun, stage: str, logits: Callable[[str, NDArray[np.uint8]], NDArray[Any]]) -> Row:
    dataset = run.dataset
    parts = splits.with_test(run.split)

    def accuracy(chosen: NDArray[np.int64], head: str) -> float:
        on = evaluate.rows(dataset, chosen, run.recipe.preprocess)
        known, labels = on.known(head)
        return float((logits(head, on.crops[known]).argmax(axis=1) == labels).mean())

    ferplus = accuracy(parts.test, FERPLUS.name) if FERPLUS.name in run.recipe.heads else None
    seconds = sum(entry["seconds"] for each in {"fit", stage} for entry in run.history(each))
    validation = accuracy(parts.validation, FER2013.name)
    return Row(title, validation, accuracy(parts.test, FER2013.name), ferplus, seconds)


def as_text(rows: list[Row]) -> str:
    """The table."""
    return "\n".join(
        "".join(f"{cell:<28}" if not i else f"{cell:>16}" for i, cell in enumerate(row)) for row in _table(rows)
    )


def _table(rows: list[Row]) -> list[list[str]]:
    cells = [
        [
            row.title, f"{row.validation:.2%}", f"{row.fer2013:.2%}",
            "" if row.ferplus is None else f"{row.ferplus:.2%}", f"{row.seconds:,.0f}",
        ]
        for row in rows
    ]  # fmt: skip
    return [["network", "validation", "test FER2013", "test FER+", "seconds"], *cells]


def _write(rows: list[Row], epochs: int, aware_epochs: int, folder: Path) -> None:
    header, *cells = _table(rows)
    files.write_text(folder / "ablation.csv", "".join(map(csv_line, [header, *cells])))
    values = {"FER2013": [row.fer2013 for row in rows], "FER+": [row.ferplus or 0.0 for row in rows]}
    picture = plots.steps(values, [row.title for row in rows])
    files.write_bytes(folder / "ablation.png", picture)
    caption = f"Accuracy on the test rows; {epochs} epochs each, {aware_epochs} of quantisation-aware training"
    parts = [html.picture(picture, caption), html.table(header, cells)]
    files.write_text(folder / "ablation.html", html.page("mien: ablation", parts))
