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
    device = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["device"]
    found = [Requirement(each) for each in device]
    lines = [
        f"Requires-Dist: {each.name}{each.specifier}; "
        + (f"({each.marker}) and extra == 'device'" if each.marker else "extra == 'device'")
        for each in found
    ]
    path = tmp_path / "mien-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("mien-1.dist-info/METADATA", "\n".join(["Name: mien", *lines, "", ""]))
    return path


def named(wheel, python, machine):
    return {each for each in wheels.needs(wheel, python, machine, "device") if each.startswith(("numpy", "opencv"))}


def test_the_devices_python_and_machine_count_not_this_ones(wheel):
    """Raspberry Pi OS 12 has a picamera2 for NumPy 1, the one after it for NumPy 2."""
    assert "numpy<2" in named(wheel, "3.11", "aarch64")
    assert "opencv-python-headless<4.12" in named(wheel, "3.11", "aarch64")
    assert "numpy<2" not in named(wheel, "3.13", "aarch64") | named(wheel, "3.11", "x86_64")
    assert wheels.needs(wheel, "3.13", "aarch64", "train") == []


def test_what_is_no_wheel_is_named(tmp_path):
    (tmp_path / "mien.whl").write_text("nothing")
    with pytest.raises(DeployError, match=r"mien\.whl: not a wheel"):
        wheels.needs(tmp_path / "mien.whl", "3.13", "aarch64", "device")


def test_a_machine_without_wheels_is_refused(wheel):
    with pytest.raises(DeployError, match="armv7l; use a 64-bit"):
        wheels.house(wheel, "3.11", "armv7l")
