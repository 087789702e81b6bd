"""`mien-edge check`: does this device compute what the workstation computed, and with what."""

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mien_edge import __version__, schema
from mien_edge.model.bundle import load_bundle, replay_golden
from mien_edge.model.interpreter import Classifier
from mien_edge.text import file_name

_CPU_FEATURES = (
    "neon", "asimd", "asimddp", "i8mm", "fphp", "sve",
    "avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8",
)  # fmt: skip
"""What integer networks profit from, as Linux names them."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A bundle that this device may run, how exactly it computes it, and with what.

    model: NAME-VERSION.
    bundle: its folder.
    labels: what it tells apart, in the order of the network's outputs.
    unreliable_labels: those of them that cannot be told reliably, as the card says.
    confidence_threshold: below it, 0 to 1, a face gets no label. confidence_scope: for which faces
    that holds, and what it costs; empty where the card does not say.
    vectors: how many golden vectors were replayed.
    difference_steps, allowed_steps: the greatest difference of an output in steps, and the card's
    tolerance.
    labels_differing: how many vectors have another most probable label.
    runtime: the interpreter's package and version; mien, python, numpy, opencv: other versions.
    machine, cpu: the processor's architecture and its features for integer networks.
    """

    model: str
    bundle: str
    labels: tuple[str, ...]
    unreliable_labels: tuple[str, ...]
    confidence_threshold: float
    confidence_scope: str
    vectors: int
    difference_steps: int
    allowed_steps: int
    labels_differing: int
    runtime: str
    mien: str
    python: str
    numpy: str
    opencv: str
    machine: str
    cpu: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The result as `mien-edge check --json` prints it."""
        return schema.to_dict(self)


def check(folder: Path, threads: int = 1) -> CheckResult:
    """Verify the bundle in `folder` and replay its golden vectors with `threads` threads.

    Raises BundleError or ContractError if it must not run on this device, and RuntimeMissingError
    without an interpreter.
    """
    bundle = load_bundle(folder)
    classifier = Classifier(bundle.model, threads)
    replay = replay_golden(bundle, classifier)
    return CheckResult(
        model=bundle.card.id,
        bundle=file_name(bundle.folder),
        labels=bundle.card.labels,
        unreliable_labels=bundle.card.unreliable_labels,
        confidence_threshold=bundle.card.calibration.confidence_threshold,
        confidence_scope=bundle.card.calibration_scope,
        vectors=replay.vectors,
        difference_steps=replay.difference,
        allowed_steps=bundle.card.golden.tolerance,
        labels_differing=replay.labels_differing,
        runtime=str(classifier.runtime),
        mien=__version__,
        python=platform.python_version(),
        numpy=version("numpy"),
        opencv=version("opencv-python-headless"),
        machine=platform.machine(),
        cpu=cpu_features(),
    )


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """Return the processor features that integer networks profit from, as Linux names them.

    Empty if the file `cpuinfo` cannot be read or names none.
    """
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return ()
    words: set[str] = set()
    for line in lines:
        if line.lower().startswith(("flags", "features")):
            words.update(line.split())
    return tuple(feature for feature in _CPU_FEATURES if feature in words)
