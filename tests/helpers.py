"""Places and environments that tests share."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


def environment(name):
    """The Python of one of the Makefile's environments; skips where it is not built."""
    python = ROOT / name / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{name} is not built; run make {name}/ready")
    return python


def clean_environment():
    """The environment variables of a subprocess, with only the device's room on its path."""
    return {**os.environ, "PYTHONPATH": str(ROOT / "edge")}
