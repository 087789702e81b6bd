"""Cross-validation of a run that fine-tunes a bundle: a network a fold, each trained and quantized
as the run's own will be, predicts the faces that it has not seen.

RUN/folds/N/ is a run folder as the run's own, with logits.npz of its fold; a killed call goes on
where it was. RUN/crossvalidation.json holds the result.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from mien_edge import files
from mien_edge.model.bundle import Bundle
from numpy.typing import NDArray

from mien_train import progress
from mien_train.arrays import Floats, Indices, Labels
from mien_train.data import folds
from mien_train.data.cache import cached
from mien_train.data.folds import GroupedRows
from mien_train.data.heads import Head, labels_head
from mien_train.data.read import PUBLIC_TEST, USAGES, Dataset
from mien_train.results import crossvalidation
from mien_train.results.calibration import CalibrationRows
from mien_train.results.crossvalidation import CrossValidation, compare
from mien_train.results.evaluate import (
    CalibrationSamples,
    bundle_head,
    calibration_rows,
    int8_logits,
    labelled_crops,
    measured_heads,
    mixed_samples,
)
from mien_train.results.result_file import read_result
from mien_train.training import fake_quant, fit, quantize
from mien_train.training.run import OpenRun

_HELD_OUT = "faces that it had not seen in cross-validation"


@dataclass(frozen=True, eq=False)
class Plan:
    """What is cross-validated, and how.

    part: its rows. folds: (n,) the fold of each. notes: what limits the figures.
    """

    part: GroupedRows
    folds: Indices
    notes: tuple[str, ...]

    @property
    def count(self) -> int:
        """The number of folds."""
        return int(self.folds.max()) + 1


def plan(dataset: Dataset, seed: int) -> Plan:
    """Return the plan for a data set. Raises DataError where it has too few pictures."""
    part = folds.grouped_rows(dataset)
    notes = crossvalidation.check_enough(part.labels, dataset.label_names, part.named_groups)
    count = folds.fold_count(part.groups)
    return Plan(part, folds.assign_folds(part.labels, part.groups, count, seed), notes)


def cross_validate(run: OpenRun) -> CrossValidation:
    """Cross-validate a run that fine-tunes a bundle, and write crossvalidation.json; or read what
    it holds already. Raises DataError where there are too few pictures.
    """
    result = read_cross_validation(run.folder)
    if result is not None:
        return result
    planned = plan(run.dataset, run.recipe.seed)
    result = _compare_with_start(run, planned, _held_out_logits(run, planned))
    _write(run.folder, result)
    return result


def compare_on_earlier_data(run: OpenRun, model: Path) -> None:
    """Add to crossvalidation.json how a run's int8 network and the bundle that it started from do
    on the test rows of the data that this was trained on, where these are at hand.

    The rows of labels that both predict count, and each chooses among these labels.
    """
    result = read_cross_validation(run.folder)
    if result is None or run.bundle is None or run.earlier is None:
        return
    (own,) = run.heads
    dataset = run.earlier.dataset
    test = dataset.take(dataset.usages == PUBLIC_TEST)
    head = _head_of_start(run.bundle, test)
    shared = [label for label in head.labels if label in own.labels]
    names = _names(head.labels, head.label_indices(test))
    is_shared = np.isin(names, shared)
    if not is_shared.any():
        return
    crops = run.recipe.preprocess.normalize(test.images[is_shared])
    before = _choose(run.bundle.card.labels, int8_logits(run.bundle.model, crops), shared)
    after = _choose(own.labels, int8_logits(model, crops), shared)
    names = names[is_shared]
    comparison = compare(before == names, after == names, np.arange(len(names)))
    name = f"{run.earlier.path.name}, {USAGES[PUBLIC_TEST]}, {head.title}"
    _write(run.folder, replace(result, earlier=comparison, earlier_name=name))


def read_cross_validation(folder: Path) -> CrossValidation | None:
    """Read crossvalidation.json of a run's folder; None where there is no such file. Raises
    RunError where it is damaged.
    """
    path = _path(folder)
    values = read_result(path)
    return None if values is None else CrossValidation.from_json(values, str(path))


def held_out(run: OpenRun) -> list[CalibrationRows]:
    """Return the cross-validated rows, as they are and corrupted, with the logits of the networks
    that have not seen them, to calibrate the run's network on; none for a run that was not
    cross-validated.
    """
    if read_cross_validation(run.folder) is None:
        return []
    planned = plan(run.dataset, run.recipe.seed)
    rows = planned.part.rows
    (head,) = run.heads
    preprocess = run.recipe.preprocess
    measured = measured_heads(head, run.dataset, is_own_data=True)
    samples = labelled_crops(run.dataset, rows, preprocess, head, measured)
    parts = mixed_samples(samples, run.dataset.images[rows], preprocess, _HELD_OUT)
    logits = [_held_out_logits(run, planned), *_corrupted_logits(run, planned, parts[1:])]
    return [calibration_rows(part, own) for part, own in zip(parts, logits, strict=True)]


def own_cross_validation(folder: Path) -> CrossValidation | None:
    """Read crossvalidation.json of a run's folder, as `read_cross_validation` does, without what it
    says of data that are not the run's own.
    """
    result = read_cross_validation(folder)
    return result and replace(result, earlier=None, earlier_name="")


def _held_out_logits(run: OpenRun, planned: Plan) -> Floats:
    """Return the (n, outputs) logits of the planned rows, each of a network that has not seen it;
    what was not finished is trained.
    """
    (head,) = run.heads
    logits = np.zeros((len(planned.part.rows), len(head.labels)), np.float32)
    for fold in range(planned.count):
        path = run.folder / "folds" / str(fold + 1) / "logits.npz"
        compute = partial(_fold_logits, run, planned, fold)
        logits[planned.folds == fold] = cached(path, compute)
    return logits


def _corrupted_logits(
    run: OpenRun, planned: Plan, parts: Sequence[CalibrationSamples]
) -> list[Floats]:
    """Return for each part the (n, outputs) logits of the planned rows, each of a network that has
    not seen it.
    """
    (head,) = run.heads
    logits = [np.zeros((len(part.samples), len(head.labels)), np.float32) for part in parts]
    for fold in range(planned.count):
        is_own = planned.folds == fold
        network = quantize.quantized_network(_fold_run(run, planned, fold), head.name)
        for part, own in zip(parts, logits, strict=True):
            own[is_own] = fake_quant.predict(network, part.samples.crops[is_own])
    return logits


def _fold_logits(run: OpenRun, planned: Plan, fold: int) -> Floats:
    """Train and quantize a network without the rows of one fold; return its (n, outputs) logits on
    these.
    """
    progress.write(f"cross-validation: fold {fold + 1} of {planned.count}")
    part = _fold_run(run, planned, fold)
    fit.fit(part)
    quantize.quantize(part)
    network = quantize.quantized_network(part, run.recipe.heads[0])
    crops = run.recipe.preprocess.normalize(run.dataset.images[part.split.test])
    return fake_quant.predict(network, crops)


def _fold_run(run: OpenRun, planned: Plan, fold: int) -> OpenRun:
    """The run of a network that learns without the rows of one fold, its test rows."""
    split = planned.part.split(planned.folds == fold, f"fold {fold + 1}", run.recipe.seed)
    return replace(run, folder=run.folder / "folds" / str(fold + 1), rows=split)


def _compare_with_start(run: OpenRun, planned: Plan, logits: Floats) -> CrossValidation:
    """Compare the folds' (n, outputs) logits of the planned rows with what the bundle says."""
    assert run.bundle is not None  # noqa: S101 - it fine-tunes one
    (own,) = run.heads
    start_labels = run.bundle.card.labels
    crops = run.recipe.preprocess.normalize(run.dataset.images[planned.part.rows])
    start_logits = int8_logits(run.bundle.model, crops)
    names = _names(run.dataset.label_names, planned.part.labels)
    before = _choose(start_labels, start_logits, start_labels) == names
    after = _choose(own.labels, logits, own.labels) == names
    known = None
    shared = [label for label in start_labels if label in own.labels]
    if len(shared) < max(len(start_labels), len(own.labels)):
        rows = np.flatnonzero(np.isin(names, shared))
        known = compare(
            _choose(start_labels, start_logits[rows], shared) == names[rows],
            _choose(own.labels, logits[rows], shared) == names[rows],
            planned.part.groups[rows],
        )
    by_label = {}
    for label in own.labels:
        is_label = names == label
        if is_label.any():
            by_label[label] = compare(
                before[is_label], after[is_label], planned.part.groups[is_label]
            )
    return CrossValidation(
        start=run.bundle.card.id,
        folds=planned.count,
        own=compare(before, after, planned.part.groups),
        known=known,
        by_label=by_label,
        notes=(*planned.notes, *_label_notes(start_labels, own.labels)),
    )


def _label_notes(start_labels: Sequence[str], labels: Sequence[str]) -> Iterator[str]:
    """Yield what became of labels: those that are new, and those that are gone."""
    new = [label for label in labels if label not in start_labels]
    gone = [label for label in start_labels if label not in labels]
    if new:
        yield f"new labels, about which the bundle before is always wrong: {', '.join(new)}"
    if gone:
        listed = ", ".join(gone)
        yield f"labels without a picture, which the network does not predict any more: {listed}"


def _head_of_start(bundle: Bundle, dataset: Dataset) -> Head:
    """Return the head whose labels the bundle predicts, or that of the data's own labels where the
    data have none of that kind.
    """
    head = bundle_head(bundle)
    return head if head.has_labels(dataset) else labels_head(dataset.label_names)


def _names(label_names: Sequence[str], labels: Labels) -> NDArray[np.str_]:
    """Return the names of (n,) labels, '' for -1."""
    return np.array([*label_names, ""])[labels]


def _choose(
    labels: Sequence[str],
    logits: Floats,
    among: Sequence[str],
) -> NDArray[np.str_]:
    """Return the names of the largest of (n, len(labels)) logits, of those of some labels."""
    columns = [index for index, label in enumerate(labels) if label in among]
    return np.array(labels)[columns][logits[:, columns].argmax(axis=1)]


def _path(folder: Path) -> Path:
    return folder / "crossvalidation.json"


def _write(folder: Path, result: CrossValidation) -> None:
    files.write_text(_path(folder), json.dumps(result.to_json(), indent=1) + "\n")
