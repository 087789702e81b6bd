"""Which packages a device gets that has no internet."""

import errno
import io
import json
import tarfile
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


# --- the cache --------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The cache, filled by a pip that writes one wheel: `downloads` counts, `offline` fails."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fake = FakePip()
    monkeypatch.setattr(wheels, "_pip", fake)
    return fake


class FakePip:
    """Downloads one wheel, or has no network."""

    def __init__(self):
        self.downloads = 0
        self.offline = False

    def __call__(self, action, *arguments):
        if self.offline:
            raise DeployError("pip download failed (no network)")
        self.downloads += 1
        folder = arguments[arguments.index("--dest") + 1]
        with open(f"{folder}/numpy-{self.downloads}-py3-none-any.whl", "wb") as file:
            file.write(b"a wheel" * 1000)


def house(wheel, python="3.11", day=0.0, lines=None):
    """The packages of a device at a day."""
    progress = (lines if lines is not None else []).append
    now = 1_700_000_000 + day * 86400
    return wheels.wheelhouse(wheel, python, "aarch64", progress=progress, now=now)


def names(archive):
    with tarfile.open(archive) as tar:
        return tar.getnames()


def test_packages_are_downloaded_once_for_all_devices_of_a_kind(wheel, cache):
    lines = []
    assert house(wheel) == house(wheel, day=6, lines=lines)
    assert cache.downloads == 1
    assert ", 6 days old: " in lines[0]
    assert house(wheel, "3.13") != house(wheel)
    assert cache.downloads == 2


def test_old_packages_are_renewed(wheel, cache):
    house(wheel)
    archive = house(wheel, day=8)
    assert cache.downloads == 2
    assert names(archive) == ["numpy-2-py3-none-any.whl"]
    house(wheel, day=1)  # a clock that was ahead
    assert cache.downloads == 3


def test_without_a_network_old_packages_are_used_and_their_age_is_told(wheel, cache):
    archive = house(wheel)
    cache.offline = True
    lines = []
    assert house(wheel, day=40, lines=lines) == archive
    assert "40 days old and are used as they are: pip download failed (no network)" in lines[0]


def forge(archive):
    """Write another archive under the name, with the record left as it is."""
    with tarfile.open(archive, "w") as tar:
        member = tarfile.TarInfo("evil-1-py3-none-any.whl")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"evil"))


def change_record(archive, **changes):
    path = archive.with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda archive: archive.write_bytes(b"anything at all, from any year"),
        lambda archive: archive.write_bytes(archive.read_bytes()[:3000]),
        lambda archive: archive.write_bytes(b""),
        forge,
        lambda archive: archive.unlink(),
        lambda archive: archive.with_suffix(".json").unlink(),
        lambda archive: archive.with_suffix(".json").write_text("[1"),
        lambda archive: archive.with_suffix(".json").write_bytes(b"\xff"),
        lambda archive: archive.with_suffix(".json").write_text("[]"),
        lambda archive: archive.with_suffix(".json").write_text("[" * 100_000),
        lambda archive: change_record(archive, created="soon"),
        lambda archive: change_record(archive, created=float("nan")),
        lambda archive: change_record(archive, created=None),
        lambda archive: change_record(archive, requirements=["numpy"]),
        lambda archive: change_record(archive, wheels={}),
    ],
)
def test_a_cache_that_is_not_what_was_downloaded_is_never_used(wheel, cache, spoil):
    archive = house(wheel)
    spoil(archive)
    cache.offline = True
    with pytest.raises(DeployError, match="no network"):
        house(wheel)
    cache.offline = False
    assert names(house(wheel)) == ["numpy-2-py3-none-any.whl"]


def test_a_cache_on_a_full_disk_names_this_machine_and_keeps_nothing(wheel, cache, monkeypatch):
    def no_space(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(wheels.files, "atomic_write", no_space)
    with pytest.raises(
        DeployError, match=r"mien: the packages cannot be kept on this machine .*No"
    ):
        house(wheel)


def test_a_cache_that_others_can_write_to_is_refused(wheel, cache, tmp_path):
    house(wheel)
    (tmp_path / "mien").chmod(0o777)
    with pytest.raises(DeployError, match="others can write to it"):
        house(wheel)


def test_an_archive_without_a_record_as_earlier_versions_left_it_is_downloaded_anew(wheel, cache):
    archive = house(wheel)
    archive.with_suffix(".json").unlink()
    archive.write_bytes(b"anything at all, from any year")
    assert names(house(wheel)) == ["numpy-2-py3-none-any.whl"]
