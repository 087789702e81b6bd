"""From a trained run to a bundle: model.tflite, golden.npz and card.json in models/NAME-VERSION."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from mien_edge import contract, files
from mien_edge.contract import Calibration, Card, File, Golden
from mien_edge.errors import RunError
from mien_edge.model.bundle import Bundle, load_bundle
from mien_edge.model.interpreter import Classifier
from numpy.typing import NDArray
from scipy import ndimage

from mien_train.results import evaluate
from mien_train.training import ensemble, quantize
from mien_train.training.run import Run

GOLDEN_VECTORS = 64

INTENDED = (
    "Research and teaching about facial expression recognition on small devices.",
    "Installations, games and assistive tools whose users know of it and have agreed.",
)
FORBIDDEN = (
    "Inferring emotions of people at work or in education, medical and safety reasons aside (EU AI Act, Art. 5(1)(f)).",
    "Decisions about people: hiring, credit, policing, border control, insurance, health.",
    "Watching people who have not been informed (EU AI Act, Article 50(3)).",
)
_TELLS = {
    "fer2013": "It predicts what an expression looks like to FER2013's labellers, not what a person feels.",
    "ferplus": "It predicts what an expression looks like to most of ten FER+ labellers, not what a person feels.",
}
LIMITS = (
    "FER2013 was collected by web search; ages, skin tones and cultures are unevenly represented and not annotated.",
    "Its labels are noisy: people reach about 65 % on them (Goodfellow et al. 2013). Disgust is rare (1.5 %).",
    "Frontal faces of 48 pixels and more; turned, covered, blurred and badly lit faces are less certain.",
)


def export(run: Run, models: Path, head: str, name: str = "", version: int = 0) -> Bundle:
    """Convert one head, measure it, and write its bundle; `name` defaults to the recipe's, with the head's where there
    are several, `version` to the next free one.

    The bundle's folder appears whole. Raises RunError if it exists already.
    """
    name = (name or run.recipe.name) + (f"-{head}" if len(run.recipe.heads) > 1 else "")
    version = version or next_version(models, name)
    target = models / f"{name}-{version}"
    if target.exists():
        raise RunError(f"{target} exists; choose another --version")
    content = quantize.write_models(run, head)[0].read_bytes()
    figures = evaluate.evaluate_run(run, head)
    models.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=models) as folder:
        staged = Path(folder) / target.name
        staged.mkdir()
        files.write_bytes(staged / "model.tflite", content)
        tolerance = write_golden(staged, run.recipe.seed)
        card = _card(run, name, version, staged, figures, tolerance)
        files.write_text(staged / "card.json", card.to_json())
        staged.chmod(0o755)
        load_bundle(staged)
        staged.rename(target)
    files.sync(models)
    return load_bundle(target)


def next_version(models: Path, name: str) -> int:
    """One more than the highest version of that name."""
    endings = [path.name.removeprefix(f"{name}-") for path in models.glob(f"{name}-*")]
    return 1 + max([int(ending) for ending in endings if ending.isdigit()], default=0)


def golden_inputs(size: int, count: int, seed: int) -> NDArray[np.uint8]:
    """(count, size, size) uint8 pictures made of smoothed noise at several scales: nobody's faces, yet they drive
    every layer.
    """
    rng = np.random.default_rng(seed)
    pictures = []
    for index in range(count):
        noise = ndimage.gaussian_filter(rng.standard_normal((size, size)), (0.5, 1, 2, 4, 8)[index % 5], mode="wrap")
        low, high = np.sort(rng.integers(0, 256, 2))
        scaled = (noise - noise.min()) / np.ptp(noise) * (high - low) + low
        pictures.append(np.rint(scaled).astype(np.uint8))
    return np.stack(pictures)


def write_golden(folder: Path, seed: int) -> int:
    """Write golden.npz with the reference kernels' outputs; return the tolerance in steps: two more than the greatest
    difference of this machine's fast kernels, for other processors and interpreters round otherwise again
    (tflite-runtime 2.14 was seen one step further off). A wrong network is off by tens.
    """
    reference = Classifier(folder / "model.tflite", reference=True)
    inputs = _spread(reference, golden_inputs(reference.size, 16 * GOLDEN_VECTORS, seed))
    outputs = np.stack([reference(crop) for crop in inputs])
    fast = Classifier(folder / "model.tflite")
    difference = int(np.abs(np.stack([fast(crop) for crop in inputs]).astype(int) - outputs.astype(int)).max())
    with files.atomic_write(folder / "golden.npz") as temporary:
        np.savez_compressed(temporary, inputs=inputs, outputs=outputs)
    return difference + 2


def _spread(classifier: Classifier, inputs: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """GOLDEN_VECTORS of the inputs, as evenly over the told labels as they allow, clear ones first."""
    outputs = np.stack([classifier(crop) for crop in inputs]).astype(int)
    ordered = np.sort(outputs, axis=1)
    clear = ordered[:, -1] - ordered[:, -2]
    told = outputs.argmax(axis=1)
    rank = np.zeros(len(inputs), int)
    for label in np.unique(told):
        members = np.flatnonzero(told == label)
        rank[members[np.argsort(-clear[members], kind="stable")]] = np.arange(len(members))
    return inputs[np.sort(np.argsort(rank, kind="stable")[:GOLDEN_VECTORS])]


def _card(run: Run, name: str, version: int, folder: Path, figures: dict[str, Any], tolerance: int) -> Card:
    pinned = {
        file: File(files.sha256(folder / file), (folder / file).stat().st_size)
        for file in ("model.tflite", "golden.npz")
    }
    int8 = figures["networks"]["int8"]
    return Card(
        contract=contract.VERSION,
        name=name,
        version=version,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        labels=contract.LABELS,
        preprocess=run.recipe.preprocess,
        calibration=Calibration(int8["temperature"], int8["uncertain"]),
        golden=Golden(tolerance),
        files=pinned,
        provenance={"head": figures["head"], **_origin(run)},
        metrics=figures,
        intended_use=INTENDED,
        out_of_scope_use=FORBIDDEN,
        limitations=(_TELLS[figures["head"]], *LIMITS),
    )


def _origin(run: Run) -> dict[str, Any]:
    """Where a run's weights come from, and who taught it."""
    record = run.record
    epochs = {stage: len(run.history(stage)) for stage in ("fit", "quantize")}
    return {
        "recipe": record["recipe"],
        "start": run.began,
        "command": record["command"],
        "epochs": {stage: count for stage, count in epochs.items() if count},
        "data": {key: record["data"][key] for key in ("sha256", "plus_sha256", "rows", "skipped")}
        | {"split": record["split"], "held rows": ensemble.of_run(run)["held rows"]},
        "versions": record["versions"],
        "teacher": ensemble.origin(teacher) if (teacher := run.teacher()) else None,
    }
