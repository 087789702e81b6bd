"""From a trained run to a bundle: model.tflite, golden.npz and card.json in models/NAME-VERSION."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from mien_edge import contract, files
from mien_edge.contract import Card, File, Golden
from mien_edge.errors import RunError
from mien_edge.model.bundle import Bundle, load_bundle
from mien_edge.model.interpreter import Classifier
from mien_edge.text import encodable
from scipy import ndimage

from mien_train.arrays import Labels, Pixels
from mien_train.data import splits
from mien_train.results import cross_validate
from mien_train.results.evaluate import USUAL_CALIBRATION, CalibrationRequest, evaluate_run
from mien_train.results.evaluation import Evaluation
from mien_train.training import ensemble, quantize
from mien_train.training.run import OpenRun

GOLDEN_VECTORS = 64

INTENDED_USE = (
    "Research and teaching about facial expression recognition on small devices.",
    "Installations, games and assistive tools whose users know of it and have agreed.",
)
OUT_OF_SCOPE_USE = (
    "Inferring emotions of people at work or in education, medical and safety reasons aside: "
    "forbidden in the EU since 2 February 2025 (Regulation (EU) 2024/1689, Art. 5(1)(f)).",
    "Decisions about people: hiring, credit, policing, border control, insurance, health.",
    "Watching people who have not been informed: in the EU a duty since 2 August 2026 (Regulation "
    "(EU) 2024/1689, Art. 50(3)).",
)
_FER2013_LIMITATIONS = (
    "FER2013 was collected by web search; ages, skin tones and cultures are unevenly represented "
    "and not annotated.",
    "Its labels are noisy: people reach about 65 % on them (Goodfellow et al. 2013). Disgust is "
    "rare (1.5 %).",
)
_GENERAL_LIMITATIONS = (
    "Frontal faces of 48 pixels and more; turned, covered, blurred and badly lit faces are less "
    "certain.",
)

_BLURS = (0.5, 1, 2, 4, 8)  # standard deviations in pixels of the golden inputs' noise
_CANDIDATES_PER_VECTOR = 16


def export(
    run: OpenRun,
    models: Path,
    head: str,
    name: str = "",
    version: int = 0,
    calibration: CalibrationRequest = USUAL_CALIBRATION,
) -> Bundle:
    """Convert one head of a quantized run, measure it, and write its bundle into the folder
    `models`.

    name: defaults to the recipe's, with the head's where there are several. version: defaults to
    the next free one. The bundle's folder appears complete or not at all. Raises RunError if it
    exists already, and DataError for data to calibrate on that share no label with the head.
    """
    bundle_name = _bundle_name(run, head, name)
    number = version or next_version(models, bundle_name)
    target = models / f"{bundle_name}-{number}"
    if target.exists():
        raise RunError(f"{target} exists; choose another --version")
    int8_path, _ = quantize.write_models(run, head)
    cross_validate.compare_on_earlier_data(run, int8_path)
    evaluation = replace(
        evaluate_run(run, head, cross_validate.held_out(run), calibration),
        crossvalidation=cross_validate.own_cross_validation(run.folder),
    )
    with staged_bundle(target) as staged:
        files.write_bytes(staged / "model.tflite", int8_path.read_bytes())
        tolerance = write_golden(staged, run.recipe.seed)
        card = _card(run, bundle_name, number, staged, evaluation, tolerance)
        others = calibration.provenance()
        if others:
            card = replace(card, provenance={**card.provenance, "calibration_data": others})
        files.write_text(staged / "card.json", card.to_json())
    return load_bundle(target)


@contextmanager
def staged_bundle(target: Path) -> Iterator[Path]:
    """Yield a folder to write a bundle's files into, which then becomes `target`: complete, or not
    at all. Raises BundleError for files that are no bundle.
    """
    models = target.parent
    models.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=models) as folder:
        staged = Path(folder) / target.name
        staged.mkdir()
        yield staged
        staged.chmod(0o755)
        load_bundle(staged)
        staged.rename(target)
    files.sync(models)


def next_version(models: Path, name: str) -> int:
    """One more than the highest version of that name in the folder `models`; 1 for the first."""
    endings = [path.name.removeprefix(f"{name}-") for path in models.glob(f"{name}-*")]
    versions = [int(ending) for ending in endings if ending.isdigit()]
    return 1 + max(versions, default=0)


def golden_inputs(size: int, count: int, seed: int) -> Pixels:
    """Make (count, size, size) uint8 pictures of smoothed noise at several scales: nobody's faces,
    yet they drive every layer. The same for the same seed.
    """
    rng = np.random.default_rng(seed)
    pictures = []
    for index in range(count):
        blur = _BLURS[index % len(_BLURS)]
        noise = ndimage.gaussian_filter(rng.standard_normal((size, size)), blur, mode="wrap")
        low, high = np.sort(rng.integers(0, 256, 2))
        scaled = (noise - noise.min()) / np.ptp(noise) * (high - low) + low
        pictures.append(np.rint(scaled).astype(np.uint8))
    return np.stack(pictures)


def write_golden(folder: Path, seed: int) -> int:
    """Write golden.npz of a folder's model.tflite with the reference kernels' outputs; return the
    tolerance in steps.

    The tolerance is two more than the greatest difference of this machine's fast kernels, for other
    processors and interpreters round differently again (tflite-runtime 2.14 was seen one step
    further off). A wrong network is off by tens.
    """
    model = folder / "model.tflite"
    reference = Classifier(model, reference=True)
    candidates = golden_inputs(reference.size, _CANDIDATES_PER_VECTOR * GOLDEN_VECTORS, seed)
    inputs = _select_inputs(reference, candidates)
    outputs = _outputs(reference, inputs)
    fast_outputs = _outputs(Classifier(model), inputs)
    difference = np.abs(fast_outputs.astype(int) - outputs.astype(int))
    with files.atomic_write(folder / "golden.npz") as temporary:
        np.savez_compressed(temporary, inputs=inputs, outputs=outputs)
    return int(difference.max()) + 2


def _bundle_name(run: OpenRun, head: str, name: str) -> str:
    name = name or run.recipe.name
    return f"{name}-{head}" if len(run.recipe.heads) > 1 else name


def _outputs(classifier: Classifier, crops: Pixels) -> Labels:
    """(n, outputs) raw outputs of the network."""
    return np.stack([classifier(crop) for crop in crops])


def _select_inputs(classifier: Classifier, candidates: Pixels) -> Pixels:
    """GOLDEN_VECTORS of the candidates, as evenly over the predicted labels as they allow, clear
    ones first.
    """
    outputs = _outputs(classifier, candidates).astype(int)
    ordered = np.sort(outputs, axis=1)
    margins = ordered[:, -1] - ordered[:, -2]
    predicted = outputs.argmax(axis=1)
    ranks = np.zeros(len(candidates), int)
    for label in np.unique(predicted):
        rows = np.flatnonzero(predicted == label)
        clearest_first = rows[np.argsort(-margins[rows], kind="stable")]
        ranks[clearest_first] = np.arange(len(rows))
    selected = np.argsort(ranks, kind="stable")[:GOLDEN_VECTORS]
    return candidates[np.sort(selected)]


def _card(
    run: OpenRun,
    name: str,
    version: int,
    folder: Path,
    evaluation: Evaluation,
    tolerance: int,
) -> Card:
    return Card(
        contract=contract.VERSION,
        name=name,
        version=version,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        labels=evaluation.labels,
        preprocess=run.recipe.preprocess,
        calibration=evaluation.networks["int8"].calibration,
        golden=Golden(tolerance),
        files={file: _pin(folder / file) for file in ("model.tflite", "golden.npz")},
        provenance={"head": evaluation.head, **_provenance(run)},
        metrics=evaluation.to_json(),
        intended_use=INTENDED_USE,
        out_of_scope_use=OUT_OF_SCOPE_USE,
        limitations=tuple(_limitations(run, evaluation)),
    )


def _limitations(run: OpenRun, evaluation: Evaluation) -> Iterator[str]:
    """Yield what a card says against its bundle; of FER2013 and its labellers only where it was
    trained on them.
    """
    if splits.is_fer2013(run.dataset):
        yield evaluation.own_head.card_sentence
        yield from _FER2013_LIMITATIONS
    else:
        data = f"{Path(run.record['data']['path']).name} ({len(run.dataset):,} pictures)"
        yield (
            f"It predicts what the labels of its training data, {data}, call an expression, not "
            "what a person feels."
        )
        yield (
            "Who labelled these pictures, how well they agree, and which ages, skin tones and "
            "cultures they show was not recorded; all figures are on rows of the same data."
        )
    if evaluation.crossvalidation is not None:
        yield evaluation.crossvalidation.summary()
        yield from map(_as_sentence, evaluation.crossvalidation.notes)
    yield from calibration_limitations(evaluation)
    yield from _GENERAL_LIMITATIONS


CALIBRATION_BEGINNINGS = ("Of its confidence: ", "It cannot tell reliably: ")
"""How the sentences that `calibration_limitations` yields begin."""


def calibration_limitations(evaluation: Evaluation) -> Iterator[str]:
    """Yield what a card says of the confidence, and of labels that cannot be told reliably."""
    yield (
        f"Of its confidence: {evaluation.threshold_as_text()}. Other pictures and cameras keep "
        "less of it; measure yours with: mien-edge run FOLDER --labels labels.csv"
    )
    calibration = evaluation.calibration
    if calibration is not None and calibration.unreliable:
        yield (
            f"It cannot tell reliably: {', '.join(calibration.unreliable)}. Of the faces of such a "
            "label it finds less than half, or less than half of what it gives that label is "
            "right, or they were too few to say."
        )


def _as_sentence(note: str) -> str:
    return f"{note[:1].upper()}{note[1:]}."


def _pin(path: Path) -> File:
    return File(files.sha256(path), path.stat().st_size)


def _provenance(run: OpenRun) -> dict[str, Any]:
    """Where a run's weights come from, and its teacher."""
    record = run.record
    epochs = {stage: len(run.history(stage)) for stage in ("fit", "quantize")}
    data = {key: record["data"][key] for key in ("sha256", "ferplus_sha256", "rows", "skipped")}
    data["split"] = record["split"]
    data["validation_rows"] = run.facts.validation_rows
    if run.bundle:
        data["start_card"] = record["bundle"]["sha256"]
        data["rehearsed"] = run.earlier and record["earlier_data"]["sha256"]
    return {
        "recipe": record["recipe"],
        "start": run.start,
        "command": encodable(record["command"]),
        "epochs": {stage: count for stage, count in epochs.items() if count},
        "data": data,
        "versions": record["versions"],
        "teacher": ensemble.provenance(run.teacher, run.recipe.heads) if run.teacher else None,
    }
