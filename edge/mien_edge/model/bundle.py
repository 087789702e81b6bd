"""Model bundles on disk: a folder with card.json, model.tflite and golden.npz."""

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mien_edge import files
from mien_edge.contract import Card, parse_card
from mien_edge.errors import BundleError
from mien_edge.model.interpreter import Classifier

LARGEST = 32 * 1024 * 1024
"""Bytes; a larger file is refused unread."""

_NEEDED = ("model.tflite", "golden.npz")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A folder whose files are those that its card pins."""

    folder: Path
    card: Card

    @property
    def model(self) -> Path:
        """The network's file."""
        return self.folder / "model.tflite"


@dataclass(frozen=True, slots=True)
class Replay:
    """Golden vectors replayed: how many, the greatest difference in steps, and how many top labels differ."""

    vectors: int
    difference: int
    labels_differing: int


def load(folder: Path) -> Bundle:
    """Read and verify a bundle: card, presence, size and sha256 of each file. Raises BundleError or ContractError."""
    folder = folder.resolve()  # `current` may change while this bundle is in use
    card_path = folder / "card.json"
    try:
        if card_path.stat().st_size > LARGEST:
            raise BundleError(f"{card_path}: larger than {LARGEST} bytes; copy the bundle again")
        card = parse_card(card_path.read_text(encoding="utf-8"), str(card_path))
    except (OSError, UnicodeDecodeError) as problem:
        raise BundleError(f"{card_path}: cannot be read ({problem}); name a folder with a model bundle") from None
    for name in _NEEDED:
        if name not in card.files:
            raise BundleError(f"{card_path}: pins no {name}; export the bundle again")
    try:
        for name, pinned in card.files.items():
            _verify(folder, name, pinned.bytes, pinned.sha256)
    except OSError as problem:
        if isinstance(problem, BundleError):
            raise
        raise BundleError(f"{folder}: cannot be read ({problem.strerror}); copy the bundle again") from None
    return Bundle(folder, card)


def _verify(folder: Path, name: str, size: int, digest: str) -> None:
    path = folder / name
    if Path(name).name != name or path.is_symlink() or not path.is_file():
        raise BundleError(f"{path}: not a plain file of the bundle; copy the bundle again")
    found = path.stat().st_size
    if found != size or found > LARGEST:
        raise BundleError(f"{path}: {found} bytes where the card pins {size}; copy the bundle again")
    if files.sha256(path) != digest:
        raise BundleError(f"{path}: its sha256 is not the card's; copy the bundle again")


def find(named: str = "") -> Path:
    """The folder that settings name, else the installed bundle, else the one that came with mien."""
    if named:
        return Path(named)
    installed = models_folder() / "current"
    return installed if _has_card(installed) else shipped()


def shipped() -> Path:
    """The folder of the bundle that came with mien."""
    package = Path(__file__).resolve().parents[1]
    for candidate in (package.parents[1] / "models" / "current", package / "models" / "current"):
        if _has_card(candidate):
            return candidate
    raise BundleError("no model bundle is installed; name one with --model, or: mien-edge models install BUNDLE")


def _has_card(folder: Path) -> bool:
    try:
        return (folder / "card.json").is_file()
    except OSError as problem:
        raise BundleError(f"{folder}: cannot be read ({problem.strerror}); run it as the folder's owner") from None


def models_folder() -> Path:
    """Where installed bundles live: $MIEN_MODELS, else /var/lib/mien/models."""
    return Path(os.environ.get("MIEN_MODELS") or "/var/lib/mien/models")


def replay(bundle: Bundle, classifier: Classifier) -> Replay:
    """Run the golden vectors. Raises BundleError if this device computes something else than the workstation did."""
    path = bundle.folder / "golden.npz"
    if bundle.card.preprocess.size != classifier.size:
        raise BundleError(
            f"{bundle.folder}: the card's preprocess.size is {bundle.card.preprocess.size}, the network takes "
            f"{classifier.size}; export the bundle again"
        )
    try:
        with np.load(path, allow_pickle=False) as golden:
            inputs, expected = golden["inputs"], golden["outputs"].astype(int)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as problem:
        raise BundleError(f"{path}: cannot be read ({problem}); export the bundle again") from None
    fits = inputs.dtype == np.uint8 and inputs.shape[1:] == (classifier.size,) * 2 and len(inputs) > 0
    if not fits or expected.shape != (len(inputs), len(bundle.card.labels)):
        raise BundleError(f"{path}: {inputs.dtype} {inputs.shape} does not fit the network; export the bundle again")
    found = np.stack([classifier(crop).astype(int) for crop in inputs])
    difference = int(np.abs(found - expected).max())
    differing = int((found.argmax(axis=1) != expected.argmax(axis=1)).sum())
    if difference > bundle.card.golden.tolerance:
        raise BundleError(
            f"{bundle.folder}: golden vectors differ by {difference} steps where {bundle.card.golden.tolerance} are "
            "allowed, "
            f"with {classifier.runtime}; this device must not run this bundle"
        )
    return Replay(len(inputs), difference, differing)
