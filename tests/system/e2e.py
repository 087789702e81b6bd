"""An emulated Raspberry Pi: set up, run, updated, its power cut at random moments. Run by e2e.sh; prints a transcript.

The machine is arm64 Debian 13 with its own kernel, systemd and sshd (qemu, Cortex-A72); its disk is a file. Its camera
is libcamera's virtual one, read through picamera2; it shows the demo's pictures.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, collapsed, pin_again
from mien_edge.model.bundle import load_bundle
from mien_edge.model.interpreter import Classifier
from mien_edge.update import signing

VM = ROOT / "tests" / "system" / "arm" / "vm.sh"
IMAGE = Path(os.environ["MIEN_IMAGE"])
PORT = 22322
CUTS = int(os.environ.get("CUTS", "20"))
EDGE = "sudo /opt/mien/venv/bin/mien-edge"
CURRENT = load_bundle(ROOT / "models" / "current").card
KEYS = Path(tempfile.mkdtemp(prefix="mien-keys-"))
SETTINGS = """
[use]
purpose = "research"
[source]
uri = "picamera"
fps = 5.0
[update]
probation = 10.0
min_faces = 10
"""


def say(*lines):
    print("   ", *lines, sep="\n    ", flush=True)  # noqa: T201 - the transcript


def vm(action, *words, check=True):
    result = subprocess.run(
        [VM, action, IMAGE, *words], capture_output=True, text=True, timeout=900
    )
    if check and result.returncode:
        raise AssertionError(f"{action} {words}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}")
    return result.stdout


def inside(command, check=True):
    return vm("ssh", command, check=check)


def options(port=PORT):
    ssh_options = (
        f"Port={port}",
        f"IdentityFile={IMAGE}/login",
        "IdentitiesOnly=yes",
        f"UserKnownHostsFile={IMAGE}/known",
        "GlobalKnownHostsFile=none",
    )
    return [word for option in ssh_options for word in ("-o", option)]


def deploy(*words, check=True):
    command = [sys.executable, "-P", "-m", "mien_deploy", *words, *options()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    if check and result.returncode:
        raise AssertionError(
            f"{words}\n{result.stdout[-3000:]}\n{result.stderr[-2000:]}\n{journal()}"
        )
    return (result.stdout + result.stderr).replace(f"{KEYS}/", "")


def setup(*more):
    kit = ["--wheel", os.environ["MIEN_WHEEL"], "--offline", "--settings", str(KEYS / "mien.toml")]
    return deploy("setup", *kit, "--signers", str(KEYS / "allowed"), *more, "pi@127.0.0.1")


def journal():
    return inside("journalctl --no-pager -o cat -u mien -n 20", check=False)


def state():
    return json.loads(inside(f"{EDGE} models list --json"))


def status():
    text = inside(f"{EDGE} status --json", check=False)
    return json.loads(text)["service"] if text.startswith("{") else {"runs": False}


def until(condition, seconds=240):
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, journal()
        time.sleep(1)
    return time.monotonic() - start


def bundle_id(version):
    return f"{CURRENT.name}-{version}"


def signed_bundle(version, spoil=None):
    """The shipped bundle as a higher version, signed."""
    folder = KEYS / bundle_id(version)
    shutil.copytree(ROOT / "models" / "current", folder)
    if spoil:
        spoil(folder)
    pin_again(folder, version=version)
    signing.sign(folder, KEYS / "signer")
    return str(folder)


@pytest.fixture(scope="session", autouse=True)
def machine():
    """Booted; and set up over SSH from nothing."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "e2e", "-f", KEYS / "signer"],
        check=True,
    )
    (KEYS / "allowed").write_text(signing.allowed_signers_line("tester", KEYS / "signer.pub"))
    (KEYS / "mien.toml").write_text(SETTINGS)
    start = time.monotonic()
    vm("start", str(PORT))
    with (IMAGE / "known").open("a") as known:
        known.write(f"[localhost]:{PORT} {inside('cat /etc/ssh/ssh_host_ed25519_key.pub')}")
    say(f"booted in {time.monotonic() - start:.0f} s: {inside('uname -srm').strip()}")
    yield
    start = time.monotonic()
    vm("stop")
    say(f"off in {time.monotonic() - start:.0f} s")
    shutil.rmtree(KEYS)


def test_setup_from_nothing_and_again():
    start = time.monotonic()
    output = setup()
    say(
        f"mien-deploy setup --offline, {time.monotonic() - start:.0f} s:", *output.splitlines()[-6:]
    )
    until(lambda: status().get("frames", 0) > 5)
    say("mien-edge status:", *inside(f"{EDGE} status", check=False).splitlines())
    findings = inside(f"{EDGE} doctor", check=False).splitlines()
    say("mien-edge doctor:", *(line for line in findings if "picamera2" in line))
    output = setup()
    say("mien-deploy setup again:", *output.splitlines())
    assert "nothing to change" in output


def test_it_computes_what_the_workstation_computes():
    """Bit for bit, with the same kernel family on both."""
    report = json.loads(inside(f"{EDGE} check --json"))
    keys = ("machine", "cpu", "runtime", "vectors", "difference_steps")
    say("mien-edge check:", *(f"{key} {report[key]}" for key in keys))
    assert report["machine"] == "aarch64"
    code = (
        "import numpy as np; from mien_edge.model.bundle import find_bundle, load_bundle;"
        "from mien_edge.model.interpreter import Classifier;"
        "b = load_bundle(find_bundle()); g = np.load(b.folder / 'golden.npz')['inputs'];"
        "c = Classifier(b.model); o = np.stack([c(x) for x in g]); print(o.tolist())"
    )
    device_outputs = np.array(
        json.loads(inside(f'/opt/mien/venv/bin/python -c "{code}" 2>/dev/null'))
    )
    bundle = load_bundle(ROOT / "models" / "current")
    classifier = Classifier(bundle.model)
    with np.load(bundle.folder / "golden.npz") as golden:
        outputs = np.stack([classifier(crop) for crop in golden["inputs"]]).astype(int)
    differences = np.abs(outputs - device_outputs)
    say(
        f"int8 outputs on {len(outputs)} golden vectors, x86-64 against aarch64, both XNNPACK: "
        f"{(differences > 0).mean():.2%} differ, by {differences.max()} steps at most; "
        f"the card allows {CURRENT.golden.tolerance}"
    )
    assert differences.max() <= CURRENT.golden.tolerance


def test_a_good_bundle_stays():
    start = time.monotonic()
    output = deploy("push", signed_bundle(21), "pi@127.0.0.1")
    say(f"push of a good bundle, {time.monotonic() - start:.0f} s:", *output.splitlines())
    assert f"{bundle_id(21)} is committed" in output


def test_a_bad_bundle_goes():
    output = deploy(
        "push",
        signed_bundle(22, lambda folder: collapsed(folder, "disgust")),
        "pi@127.0.0.1",
        check=False,
    )
    say("push of a network that sees disgust everywhere:", *output.splitlines())
    assert "was rolled back" in output
    until(lambda: status().get("model") == bundle_id(21))


def test_one_device_that_is_down():
    """Three devices: this one by two names, and one where nobody listens."""
    output = deploy(
        "push", signed_bundle(23), "pi@127.0.0.1", "pi@127.9.9.9", "pi@localhost", check=False
    )
    say("push to three devices, one of which is down:", *output.splitlines()[-4:])
    assert "pi@127.9.9.9     1  unreachable" in output
    assert output.count("1  done") == 2


def test_a_power_cut_at_any_moment_leaves_a_whole_bundle():
    """While bundles are pushed; then it boots, and what runs is whole and committed, and the next push works."""
    for number in range(1, CUTS + 1):
        version = 30 + number
        previous = state()["record"]["committed"][0]
        words = ["push", signed_bundle(version), "pi@127.0.0.1"]
        push = subprocess.Popen(
            [sys.executable, "-P", "-m", "mien_deploy", *words, *options()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        wait = random.uniform(0.5, 60)  # noqa: S311 - no secret
        time.sleep(wait)
        vm("cut")
        output = push.communicate(timeout=120)[0]
        vm("start", str(PORT))
        until(lambda: status().get("frames", 0) > 2)
        after = state()
        current = after["current"]
        assert current in (previous, bundle_id(version)), (current, previous)
        assert current in after["record"]["committed"], after
        assert json.loads(inside(f"{EDGE} check --json"))["model"] == current
        if "is committed" in output:
            assert current == bundle_id(version), "what was acknowledged is durable"
        last_line = [line for line in output.splitlines() if bundle_id(version) in line][-1]
        text = last_line.split("  ")[-1]
        say(f"cut {number:2d} after {wait:4.1f} s: {current} runs; the last line was: {text}")
    output = deploy("push", signed_bundle(90), "pi@127.0.0.1")
    say(f"after {CUTS} cuts, the next push:", output.splitlines()[-1])
    assert f"{bundle_id(90)} is committed" in output
