"""The systemd files: valid, hardened, and in step with the program."""

import os
import re
import shutil
import stat
import subprocess

import pytest
from helpers import ROOT

UNITS = ROOT / "systemd"


SERVICES = {"mien.service": 0.8, "mien-publish.service": 1.4, "mien-view.service": 1.4}
"""The units of programs, and how exposed each may be by `systemd-analyze security` (0 to 10)."""

EVERY = sorted(
    path.name for path in UNITS.iterdir() if path.suffix in (".service", ".timer", ".socket")
)


@pytest.fixture
def analyze():
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    return lambda *words: subprocess.run(
        ["systemd-analyze", *map(str, words)], capture_output=True, text=True
    )


@pytest.mark.parametrize("name", EVERY)
def test_each_unit_is_valid(analyze, tmp_path, name):
    program = tmp_path / "mien-edge"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for each in EVERY:
        text = (UNITS / each).read_text().replace("/opt/mien/venv/bin/mien-edge", str(program))
        (tmp_path / each).write_text(text)
    done = analyze("verify", "--man=no", tmp_path / name)
    assert [line for line in done.stderr.splitlines() if "mien" in line] == []
    assert done.returncode == 0


@pytest.mark.parametrize("name", SERVICES)
def test_no_unit_is_more_exposed_than_its_goal(analyze, name):
    done = analyze("security", "--offline=true", "--threshold=10", "--no-pager", UNITS / name)
    score = re.search(rf"Overall exposure level for {name}: ([\d.]+)", done.stdout)
    assert score, done.stderr
    assert "Invalid" not in done.stderr
    assert float(score[1]) <= SERVICES[name]


@pytest.mark.parametrize("name", EVERY)
def test_every_line_has_a_reason_above_it(name):
    """A comment stands above each paragraph's lines or within it; only what names and describes goes without."""
    plain = (
        "Description",
        "Type",
        "WantedBy",
        "ExecStart",
        "RestartSec",
        "Restart",
        "After",
        "OnActiveSec",
    )
    for paragraph in re.split(r"\n\s*\n|\n(?=\[)", (UNITS / name).read_text()):
        lines = [line for line in paragraph.splitlines() if line and not line.startswith("[")]
        keys = [line.partition("=")[0] for line in lines if not line.startswith("#")]
        if set(keys) - set(plain):
            first = next(i for i, line in enumerate(lines) if line.partition("=")[0] not in plain)
            assert any(line.startswith("#") for line in lines[: first + 1]), paragraph


def test_the_process_that_sees_pictures_has_no_network():
    unit = (UNITS / "mien.service").read_text()
    assert "PrivateNetwork=yes" in unit
    assert "AF_INET" not in unit


@pytest.mark.parametrize("name", ["mien-publish.service", "mien-view.service"])
def test_the_processes_with_a_network_have_no_device(name):
    unit = (UNITS / name).read_text()
    assert "PrivateDevices=yes" in unit
    assert "DeviceAllow" not in unit


@pytest.mark.parametrize("name", SERVICES)
def test_each_unit_calls_the_program_without_a_shell(name):
    (command,) = re.findall(r"^ExecStart=(.*)$", (UNITS / name).read_text(), re.M)
    assert command.split()[0] == "/opt/mien/venv/bin/mien-edge"
    assert not set(command) & set("|;&$`")


@pytest.fixture
def tree(tmp_path):
    """A device's tree with its users and groups, in which tmpfiles can make what it makes."""
    if shutil.which("systemd-tmpfiles") is None or os.geteuid() != 0:
        pytest.skip("needs root and systemd-tmpfiles")
    (tmp_path / "etc" / "mien").mkdir(parents=True)
    (tmp_path / "etc" / "passwd").write_text("root:x:0:0::/:\nmien:x:64999:64999::/:\n")
    (tmp_path / "etc" / "group").write_text(
        "root:x:0:\nmien:x:64999:\nmien-preview:x:64998:mien-view\n"
    )
    return tmp_path


def create_files(tree):
    command = ["systemd-tmpfiles", f"--root={tree}", "--create", UNITS / "mien.tmpfiles"]
    subprocess.run(command, check=True, capture_output=True)


def test_what_the_service_puts_beside_the_preview_socket_belongs_to_the_pages_group(tree):
    """Also where an earlier folder was open to others."""
    folder = tree / "run" / "mien-preview"
    folder.mkdir(parents=True, mode=0o755)
    create_files(tree)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o2750
    assert (folder.stat().st_uid, folder.stat().st_gid) == (64999, 64998)
    socket_file = folder / "preview.sock"
    socket_file.touch()
    assert socket_file.stat().st_gid == 64998


def test_the_page_alone_is_in_the_group_that_may_see_the_picture():
    lines = (UNITS / "mien.sysusers").read_text().splitlines()
    assert [line for line in lines if line.endswith(" mien-preview")] == [
        "m mien-view mien-preview"
    ]
    for name in SERVICES:
        unit = (UNITS / name).read_text()
        assert "mien-preview" not in "".join(re.findall(r"^\w*Groups?=(.*)$", unit, re.M))


def test_tmpfiles_closes_the_settings_to_all_but_root_and_the_services(tree):
    """Also those that an earlier version, an editor or a shell has written."""
    folder = tree / "etc" / "mien"
    settings = folder / "mien.toml"
    settings.touch()
    settings.chmod(0o644)
    create_files(tree)
    assert stat.S_IMODE(settings.stat().st_mode) == 0o640
    assert (settings.stat().st_uid, settings.stat().st_gid) == (0, 64999)
    for name in ("camera-password", "mqtt-password", "view-token"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600


def test_each_credential_of_a_unit_has_an_empty_file_made_by_tmpfiles():
    made = (UNITS / "mien.tmpfiles").read_text()
    for name in SERVICES:
        for path in re.findall(r"^LoadCredential=[\w-]+:(\S+)", (UNITS / name).read_text(), re.M):
            assert f"f {path} 0600 root root -" in made
