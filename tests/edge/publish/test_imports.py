"""The processes that see no pixels can't: they load neither NumPy nor OpenCV, chain or model."""

import subprocess
import sys

import pytest
from helpers import clean_environment

PROGRAM = """
import importlib, pkgutil, sys
room = importlib.import_module(sys.argv[1])
for module in pkgutil.iter_modules(room.__path__, sys.argv[1] + "."):
    importlib.import_module(module.name)
    print(module.name)
roots = ("numpy", "cv2", "mien_edge.chain", "mien_edge.model")
loaded = [name for name in sys.modules if name in roots or name.startswith(roots)]
sys.exit(", ".join(loaded) or 0)
"""


@pytest.mark.parametrize("room", ["mien_edge.publish", "mien_edge.view"])
def test_a_room_without_pixels_loads_nothing_that_could_read_them(room):
    command = [sys.executable, "-c", PROGRAM, room]
    result = subprocess.run(command, env=clean_environment(), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.split()) >= 2, "the modules of the room"
