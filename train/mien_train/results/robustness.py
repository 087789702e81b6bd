"""`mien-train robustness`: what accuracy is left when pictures get worse, in eight ways at five strengths each.

After ImageNet-C (Hendrycks & Dietterich 2019), with what cameras, detectors and people do to a face of 48 pixels. All
randomness comes from a fixed seed.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from mien_edge import files
from mien_edge.model.bundle import Bundle
from numpy.typing import NDArray

from mien_train.data import augment, read, splits
from mien_train.results import evaluate
from mien_train.training.run import OpenRun

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Corruption:
    """A way in which pictures get worse: its five strengths, their unit, and what it does to one picture."""

    name: str
    unit: str
    strengths: tuple[float, ...]
    apply: Callable[[Picture, float, np.random.Generator], Picture]


def _noise(image: Picture, deviation: float, rng: np.random.Generator) -> Picture:
    noisy = image + rng.standard_normal(image.shape, np.float32) * deviation
    return np.rint(noisy.clip(0, 255)).astype(np.uint8)


def _low_light(image: Picture, share: float, rng: np.random.Generator) -> Picture:
    """A sensor's picture with that share of the light: Poisson noise of 255 electrons at white, then stretched back."""
    electrons = rng.poisson(image * share)
    return np.rint((electrons / share).clip(0, 255)).astype(np.uint8)


def _shift(image: Picture, pixels: float, rng: np.random.Generator) -> Picture:
    angle = rng.uniform(0, 2 * np.pi)
    return augment.turn(image, 0, 1, (pixels * np.cos(angle), pixels * np.sin(angle)))


def _scale(image: Picture, share: float, rng: np.random.Generator) -> Picture:
    return augment.turn(image, 0, rng.choice([1 / (1 + share), 1 + share]))


def _rotate(image: Picture, degrees: float, rng: np.random.Generator) -> Picture:
    return augment.turn(image, rng.choice([-degrees, degrees]), 1)


def _occlude(image: Picture, side: float, rng: np.random.Generator) -> Picture:
    """A gray square of that side somewhere on the face."""
    covered, pixels = image.copy(), int(side)
    top, left = rng.integers(0, image.shape[0] - pixels + 1, 2)
    covered[top : top + pixels, left : left + pixels] = 128
    return covered


CORRUPTIONS = (
    Corruption("blur", "pixels, Gaussian", (0.5, 0.8, 1.1, 1.5, 2.0), lambda i, s, _: cv2.GaussianBlur(i, (0, 0), s)),  # type: ignore[arg-type, return-value]
    Corruption("noise", "gray levels", (5, 10, 15, 20, 30), _noise),
    Corruption("low light", "share of the light", (0.5, 0.25, 0.12, 0.06, 0.03), _low_light),
    Corruption("JPEG", "quality", (60, 40, 25, 15, 8), lambda i, s, _: augment.compress(i, int(s))),
    Corruption("shift", "pixels", (2, 4, 6, 8, 10), _shift),
    Corruption("scale", "share larger or smaller", (0.1, 0.2, 0.3, 0.4, 0.5), _scale),
    Corruption("rotation", "degrees", (5, 10, 15, 20, 30), _rotate),
    Corruption("occlusion", "pixels of a square", (8, 12, 16, 20, 24), _occlude),
)


def corrupted(images: Picture, corruption: Corruption, strength: float) -> Picture:
    """(n, s, s) pictures made worse; the same for the same arguments."""
    rng = np.random.default_rng(0)
    return np.stack([corruption.apply(image, strength, rng) for image in images])


def measure(bundle: Bundle, dataset: read.Dataset, split: str) -> dict[str, Any]:
    """Accuracy on the test rows, by the labels that the bundle tells: clean, and for each corruption and strength."""
    head = evaluate.head_of(bundle)
    chosen = splits.with_test(splits.split(dataset, split)).test
    known, labels = evaluate.rows(dataset, chosen, bundle.card.preprocess).known(head)
    images = dataset.images[chosen[known]]

    def accuracy(pictures: Picture) -> float:
        logits = evaluate.int8_logits(bundle.model, bundle.card.preprocess.normalize(pictures))
        return float((logits.argmax(axis=1) == labels).mean())

    found = {
        each.name: {"unit": each.unit, "strengths": list(each.strengths), "accuracy": [
            accuracy(corrupted(images, each, strength)) for strength in each.strengths
        ]}
        for each in CORRUPTIONS
    }  # fmt: skip
    mean = float(np.mean([each["accuracy"] for each in found.values()]))
    return {
        "model": bundle.card.id, "head": head, "rows": len(labels), "clean": accuracy(images), "mean": mean,
        "corruptions": found,
    }  # fmt: skip


def of_run(run: OpenRun, bundles: Sequence[Bundle]) -> list[dict[str, Any]]:
    """`measure` of a run's bundles, kept in its robustness.json; those that are there are not measured again. Empty for
    a split without test rows.
    """
    path = run.folder / "robustness.json"
    if not len(run.split.test):
        return []
    known = {each["model"]: each for each in json.loads(path.read_text())} if path.exists() else {}
    found = []
    for each in bundles:
        found.append(known.get(each.card.id) or measure(each, run.dataset, run.record["split"]))
        files.write_text(path, json.dumps(found, indent=1) + "\n")
    return found


def as_text(found: dict[str, Any]) -> str:
    """The table."""
    lines = [f"{found['model']}, {found['head']} labels, {found['rows']} test rows: clean {found['clean']:.1%}"]
    for name, each in found["corruptions"].items():
        cells = [
            f"{strength:g}: {accuracy:.1%}"
            for strength, accuracy in zip(each["strengths"], each["accuracy"], strict=True)
        ]
        lines.append(f"{name:<10}{''.join(f'{cell:>14}' for cell in cells)}   ({each['unit']})")
    return "\n".join([*lines, f"mean over all {found['mean']:.1%}"])
