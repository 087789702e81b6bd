"""Model bundles on disk: a folder with card.json, model.tflite and golden.npz."""

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien_edge import files
from mien_edge.contract import Card, File, parse_card
from mien_edge.errors import BundleError
from mien_edge.model.interpreter import Classifier
from mien_edge.values import Pixels

LARGEST = 32 * 1024 * 1024
"""Bytes; a larger file is refused without being read."""

_CARD = "card.json"
_MODEL = "model.tflite"
_GOLDEN = "golden.npz"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle: a folder whose files are those that its card pins."""

    folder: Path
    card: Card

    @property
    def model(self) -> Path:
        """The network's file."""
        return self.folder / _MODEL

    @property
    def golden(self) -> Path:
        """The file of the golden vectors."""
        return self.folder / _GOLDEN


@dataclass(frozen=True, slots=True)
class Replay:
    """The result of a replay of the golden vectors.

    vectors: how many were replayed.
    difference: the greatest difference of an output in steps.
    labels_differing: how many have another most probable label.
    """

    vectors: int
    difference: int
    labels_differing: int


def load_bundle(folder: Path) -> Bundle:
    """Read and verify the bundle in `folder`: its card, and presence, size and sha256 of each file.

    Raises BundleError for what is missing, unreadable or altered, and ContractError for a card that
    breaks the contract.
    """
    folder = folder.resolve()  # `current` may change while this bundle is in use
    return verify_files(folder, read_card(folder))


def read_card(folder: Path, shown_as: Path | None = None) -> Card:
    """Read the card in `folder`; the files that it pins are not looked at.

    shown_as: what messages call the folder, where it is a copy of another one.

    Raises BundleError for a card that cannot be read, and ContractError for one that breaks the
    contract.
    """
    path = folder / _CARD
    shown = (shown_as or folder) / _CARD
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise BundleError(f"{shown}: larger than {LARGEST} bytes; copy the bundle again")
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BundleError(
            f"{shown}: cannot be read ({reason}); name a folder with a model bundle",
        ) from None
    return parse_card(content, str(shown))


def verify_files(folder: Path, card: Card, shown_as: Path | None = None) -> Bundle:
    """Verify that the files in `folder` are those that `card`, which was read from it, pins.

    shown_as: what messages call the folder, where it is a copy of another one.

    Raises BundleError for a file that is missing, unreadable or altered.
    """
    shown = shown_as or folder
    check_sizes(folder, card, shown)
    for name, pinned in card.files.items():
        _verify_digest(folder / name, pinned, shown)
    return Bundle(folder, card)


def verify_file(folder: Path, name: str, pinned: File, shown_as: Path) -> None:
    """Verify that the file `name` in `folder` is the one that a card pins.

    shown_as: what messages call the folder.

    Raises BundleError for a file that is missing, unreadable or altered.
    """
    try:
        _check_size(folder / name, name, pinned.bytes, shown_as)
    except OSError as error:
        raise _unreadable(shown_as, error) from None
    _verify_digest(folder / name, pinned, shown_as)


def _verify_digest(path: Path, pinned: File, shown_as: Path) -> None:
    try:
        sha256 = files.sha256(path)
    except OSError as error:
        raise _unreadable(shown_as, error) from None
    if sha256 != pinned.sha256:
        raise BundleError(
            f"{shown_as / path.name}: its sha256 is not the card's; copy the bundle again",
        )


def check_sizes(folder: Path, card: Card, shown_as: Path | None = None) -> None:
    """Check that the files that `card` pins are in `folder`, plain and of the pinned sizes.

    shown_as: what messages call the folder, where it is a copy of another one.

    Raises BundleError for a file that is missing, of another size, or too large for a bundle.
    """
    shown = shown_as or folder
    for name in (_MODEL, _GOLDEN):
        if name not in card.files:
            raise BundleError(f"{shown / _CARD}: pins no {name}; export the bundle again")
    for name, pinned in card.files.items():
        try:
            _check_size(folder / name, name, pinned.bytes, shown)
        except OSError as error:
            raise _unreadable(shown, error) from None


def _check_size(path: Path, name: str, pinned_size: int, shown: Path) -> None:
    is_plain_name = Path(name).name == name
    if not is_plain_name or path.is_symlink() or not path.is_file():
        raise BundleError(f"{shown / name}: not a plain file of the bundle; copy the bundle again")
    size = path.stat().st_size
    if size != pinned_size or size > LARGEST:
        raise BundleError(
            f"{shown / name}: {size} bytes where the card pins {pinned_size}; "
            "copy the bundle again",
        )


def _unreadable(folder: Path, error: OSError) -> BundleError:
    return BundleError(f"{folder}: cannot be read ({error.strerror}); copy the bundle again")


def find_bundle(setting: str = "") -> Path:
    """Return the folder of the bundle to run.

    That is `setting`, the value of model.bundle; where it is empty, the installed bundle; where
    none is installed, the one that came with mien. Raises BundleError if there is none at all.
    """
    if setting:
        return Path(setting)
    installed = models_folder() / "current"
    return installed if _has_card(installed) else shipped_bundle()


def shipped_bundle() -> Path:
    """Return the folder of the bundle that came with mien. Raises BundleError if none did."""
    package = Path(__file__).resolve().parents[1]
    repository = package.parents[1]
    for root in (repository, package):
        folder = root / "models" / "current"
        if _has_card(folder):
            return folder
    raise BundleError(
        "no model bundle is installed; name one with --model, or: mien-edge models install BUNDLE",
    )


def _has_card(folder: Path) -> bool:
    try:
        return (folder / _CARD).is_file()
    except OSError as error:
        raise BundleError(
            f"{folder}: cannot be read ({error.strerror}); run it as the folder's owner",
        ) from None


def models_folder() -> Path:
    """Return the folder of the installed bundles: $MIEN_MODELS, else /var/lib/mien/models."""
    return Path(os.environ.get("MIEN_MODELS") or "/var/lib/mien/models")


def replay_golden(bundle: Bundle, classifier: Classifier) -> Replay:
    """Run the bundle's golden vectors through `classifier`, its network on this device.

    Raises BundleError if the network does not fit the card, if the vectors cannot be read, and if
    this device computes something else than the workstation did.
    """
    card = bundle.card
    if card.preprocess.size != classifier.size:
        raise BundleError(
            f"{bundle.folder}: the card's preprocess.size is {card.preprocess.size}, the network "
            "takes "
            f"{classifier.size}; export the bundle again",
        )
    if len(card.labels) != classifier.outputs:
        raise BundleError(
            f"{bundle.folder}: the card has {len(card.labels)} labels, the network "
            f"{classifier.outputs} outputs; export the bundle again",
        )
    crops, expected = _read_golden(bundle, classifier.size)
    outputs = np.stack([classifier(crop).astype(int) for crop in crops])
    difference = int(np.abs(outputs - expected).max())
    labels_differing = int((outputs.argmax(axis=1) != expected.argmax(axis=1)).sum())
    if difference > card.golden.tolerance:
        raise BundleError(
            f"{bundle.folder}: golden vectors differ by {difference} steps where "
            f"{card.golden.tolerance} are allowed, with {classifier.runtime}; "
            "this device must not run this bundle",
        )
    return Replay(len(crops), difference, labels_differing)


def _read_golden(bundle: Bundle, size: int) -> tuple[Pixels, NDArray[np.int_]]:
    """The golden crops, (n, size, size) uint8, and their outputs, (n, labels) int."""
    path = bundle.golden
    try:
        with np.load(path, allow_pickle=False) as golden:
            crops = golden["inputs"]
            outputs = golden["outputs"].astype(int)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path}: cannot be read ({error}); export the bundle again") from None
    crops_fit = crops.dtype == np.uint8 and crops.shape[1:] == (size, size) and len(crops) > 0
    if not crops_fit or outputs.shape != (len(crops), len(bundle.card.labels)):
        raise BundleError(
            f"{path}: {crops.dtype} {crops.shape} does not fit the network; "
            "export the bundle again",
        )
    return crops, outputs
