"""The systemd files: valid, hardened, and in step with the program."""

import re
import shutil
import subprocess

import pytest
from helpers import ROOT

UNITS = ROOT / "systemd"


@pytest.fixture
def analyze():
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    return lambda *words: subprocess.run(["systemd-analyze", *map(str, words)], capture_output=True, text=True)


def test_the_unit_is_valid(analyze, tmp_path):
    program = tmp_path / "mien-edge"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "mien.service"
    unit.write_text((UNITS / "mien.service").read_text().replace("/opt/mien/venv/bin/mien-edge", str(program)))
    done = analyze("verify", "--man=no", unit)
    complaints = [line for line in done.stderr.splitlines() if "mien" in line]
    assert complaints == []
    assert done.returncode == 0


def test_the_unit_is_exposed_by_at_most_1_0_of_10(analyze):
    done = analyze("security", "--offline=true", "--threshold=10", "--no-pager", UNITS / "mien.service")
    score = re.search(r"Overall exposure level for mien.service: ([\d.]+)", done.stdout)
    assert score, done.stderr
    assert float(score[1]) <= 1.0


def test_the_process_that_sees_pictures_has_no_network():
    unit = (UNITS / "mien.service").read_text()
    assert "PrivateNetwork=yes" in unit
    assert "AF_INET" not in unit


def test_the_unit_calls_the_program_without_a_shell():
    (command,) = re.findall(r"^ExecStart=(.*)$", (UNITS / "mien.service").read_text(), re.M)
    assert command.split()[:2] == ["/opt/mien/venv/bin/mien-edge", "run"]
    assert not set(command) & set("|;&$`")
