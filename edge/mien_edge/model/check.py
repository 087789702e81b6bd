"""`mien-edge check`: does this device compute what the workstation computed, and with what."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mien_edge import __version__
from mien_edge.model import bundle as bundles
from mien_edge.model.interpreter import Classifier

_TELLING = (
    "neon", "asimd", "asimddp", "i8mm", "fphp", "sve", "avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8",
)  # fmt: skip


def check(folder: Path, threads: int = 1) -> dict[str, Any]:
    """Verify and replay a bundle. Raises BundleError or ContractError if it must not run here."""
    bundle = bundles.load(folder)
    classifier = Classifier(bundle.model, threads)
    replay = bundles.replay(bundle, classifier)
    return {
        "model": bundle.card.id,
        "bundle": str(bundle.folder),
        "vectors": replay.vectors,
        "difference_steps": replay.difference,
        "allowed_steps": bundle.card.golden.tolerance,
        "labels_differing": replay.labels_differing,
        "runtime": str(classifier.runtime),
        "mien": __version__,
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "opencv": version("opencv-python-headless"),
        "machine": platform.machine(),
        "cpu": cpu_features(),
    }


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """The processor features that integer networks profit from, as Linux names them; empty if it does not tell."""
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return []
    words = {word for line in lines if line.lower().startswith(("flags", "features")) for word in line.split()}
    return [feature for feature in _TELLING if feature in words]
