"""Which packages a device gets that has no internet."""

import tomllib
import zipfile

import pytest
from helpers import ROOT
from mien_deploy import wheels
from mien_edge.errors import DeployError
from packaging.requirements import Requirement


@pytest.fixture
def wheel(tmp_path):
    """A wheel that says what pyproject.toml says of the extra `device`."""
    device = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]["device"]
    requirements = [Requirement(line) for line in device]
    path = tmp_path / "mien-1-py3-none-any.whl"
    metadata = ["Name: mien", *map(requires_dist, requirements), "", ""]
    with zipfile.ZipFile(path, "w") as content:
        content.writestr("mien-1.dist-info/METADATA", "\n".join(metadata))
    return path


def requires_dist(requirement):
    """A requirement as a line of a wheel's metadata."""
    marker = "extra == 'device'"
    if requirement.marker:
        marker = f"({requirement.marker}) and {marker}"
    return f"Requires-Dist: {requirement.name}{requirement.specifier}; {marker}"


def numpy_and_opencv(wheel, python, machine):
    """What is required of the two packages whose versions differ."""
    requirements = wheels.requirements(wheel, python, machine, "device")
    return {line for line in requirements if line.startswith(("numpy", "opencv"))}


def test_the_devices_python_and_machine_count_not_this_ones(wheel):
    """Raspberry Pi OS 12 has a picamera2 for NumPy 1, the one after it for NumPy 2."""
    assert "numpy<2" in numpy_and_opencv(wheel, "3.11", "aarch64")
    assert "opencv-python-headless<4.12" in numpy_and_opencv(wheel, "3.11", "aarch64")
    assert "numpy<2" not in numpy_and_opencv(wheel, "3.13", "aarch64") | numpy_and_opencv(
        wheel, "3.11", "x86_64"
    )
    assert wheels.requirements(wheel, "3.13", "aarch64", "train") == []


def test_what_is_no_wheel_is_named(tmp_path):
    (tmp_path / "mien.whl").write_text("nothing")
    with pytest.raises(DeployError, match=r"mien\.whl: not a wheel"):
        wheels.requirements(tmp_path / "mien.whl", "3.13", "aarch64", "device")


def test_a_machine_without_wheels_is_refused(wheel):
    with pytest.raises(DeployError, match="armv7l; use a 64-bit"):
        wheels.wheelhouse(wheel, "3.11", "armv7l")
