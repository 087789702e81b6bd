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

VM, IMAGE, PORT = ROOT / "tests" / "system" / "arm" / "vm.sh", Path(os.environ["MIEN_IMAGE"]), 22322
CUTS = int(os.environ.get("CUTS", "20"))
EDGE = "sudo /opt/mien/venv/bin/mien-edge"
CURRENT = load_bundle(ROOT / "models" / "current").card
KEYS = Path(tempfile.mkdtemp(prefix="mien-keys-"))
SETTINGS = """
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
    done = subprocess.run([VM, action, IMAGE, *words], capture_output=True, text=True, timeout=900)
    if check and done.returncode:
        raise AssertionError(f"{action} {words}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def inside(command, check=True):
    return vm("ssh", command, check=check)


def options(port=PORT):
    known = f"UserKnownHostsFile={IMAGE}/known"
    found = (f"Port={port}", f"IdentityFile={IMAGE}/login", "IdentitiesOnly=yes", known, "GlobalKnownHostsFile=none")
    return [word for option in found for word in ("-o", option)]


def deploy(*words, check=True):
    called = [sys.executable, "-P", "-m", "mien_deploy", *words, *options()]
    done = subprocess.run(called, capture_output=True, text=True, timeout=1800)
    if check and done.returncode:
        raise AssertionError(f"{words}\n{done.stdout[-3000:]}\n{done.stderr[-2000:]}\n{journal()}")
    return (done.stdout + done.stderr).replace(f"{KEYS}/", "")


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
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, journal()
        time.sleep(1)
    return time.monotonic() - began


def named(version):
    return f"{CURRENT.name}-{version}"


def made(version, spoil=None):
    """The shipped bundle as a higher version, signed."""
    folder = KEYS / named(version)
    shutil.copytree(ROOT / "models" / "current", folder)
    if spoil:
        spoil(folder)
    pin_again(folder, version=version)
    signing.sign(folder, KEYS / "signer")
    return str(folder)


@pytest.fixture(scope="session", autouse=True)
def machine():
    """Booted; and set up over SSH from nothing."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "e2e", "-f", KEYS / "signer"], check=True)
    (KEYS / "allowed").write_text(signing.allowed_signers_line("tester", KEYS / "signer.pub"))
    (KEYS / "mien.toml").write_text(SETTINGS)
    began = time.monotonic()
    vm("start", str(PORT))
    with (IMAGE / "known").open("a") as known:
        known.write(f"[localhost]:{PORT} {inside('cat /etc/ssh/ssh_host_ed25519_key.pub')}")
    say(f"booted in {time.monotonic() - began:.0f} s: {inside('uname -srm').strip()}")
    yield
    began = time.monotonic()
    vm("stop")
    say(f"off in {time.monotonic() - began:.0f} s")
    shutil.rmtree(KEYS)


def test_setup_from_nothing_and_again():
    began = time.monotonic()
    said = setup()
    say(f"mien-deploy setup --offline, {time.monotonic() - began:.0f} s:", *said.splitlines()[-6:])
    until(lambda: status().get("frames", 0) > 5)
    say("mien-edge status:", *inside(f"{EDGE} status", check=False).splitlines())
    found = inside(f"{EDGE} doctor", check=False).splitlines()
    say("mien-edge doctor:", *(line for line in found if "picamera2" in line))
    said = setup()
    say("mien-deploy setup again:", *said.splitlines())
    assert "nothing to change" in said


def test_it_computes_what_the_workstation_computes():
    """Bit for bit, with the same kernel family on both."""
    found = json.loads(inside(f"{EDGE} check --json"))
    say(
        "mien-edge check:",
        *(f"{key} {found[key]}" for key in ("machine", "cpu", "runtime", "vectors", "difference_steps")),
    )
    assert found["machine"] == "aarch64"
    code = (
        "import numpy as np; from mien_edge.model.bundle import find_bundle, load_bundle;"
        "from mien_edge.model.interpreter import Classifier;"
        "b = load_bundle(find_bundle()); g = np.load(b.folder / 'golden.npz')['inputs'];"
        "c = Classifier(b.model); o = np.stack([c(x) for x in g]); print(o.tolist())"
    )
    theirs = json.loads(inside(f'/opt/mien/venv/bin/python -c "{code}" 2>/dev/null'))
    here = load_bundle(ROOT / "models" / "current")
    classifier = Classifier(here.model)
    with np.load(here.folder / "golden.npz") as golden:
        ours = np.stack([classifier(crop) for crop in golden["inputs"]]).astype(int)
    away = np.abs(ours - np.array(theirs))
    say(
        f"int8 outputs on {len(ours)} golden vectors, x86-64 against aarch64, both XNNPACK: "
        f"{(away > 0).mean():.2%} differ, by {away.max()} steps at most; the card allows {CURRENT.golden.tolerance}"
    )
    assert away.max() <= CURRENT.golden.tolerance


def test_a_good_bundle_stays():
    began = time.monotonic()
    said = deploy("push", made(21), "pi@127.0.0.1")
    say(f"push of a good bundle, {time.monotonic() - began:.0f} s:", *said.splitlines())
    assert f"{named(21)} is committed" in said


def test_a_bad_bundle_goes():
    said = deploy("push", made(22, lambda folder: collapsed(folder, "disgust")), "pi@127.0.0.1", check=False)
    say("push of a network that sees disgust everywhere:", *said.splitlines())
    assert "was rolled back" in said
    until(lambda: status().get("model") == named(21))


def test_one_device_that_is_down():
    """Three devices: this one by two names, and one where nobody listens."""
    said = deploy("push", made(23), "pi@127.0.0.1", "pi@127.9.9.9", "pi@localhost", check=False)
    say("push to three devices, one of which is down:", *said.splitlines()[-4:])
    assert "pi@127.9.9.9     1  unreachable" in said
    assert said.count("1  done") == 2


def test_a_power_cut_at_any_moment_leaves_a_whole_bundle():
    """While bundles are pushed; then it boots, and what runs is whole and committed, and the next push works."""
    version, moments = 30, []
    for number in range(CUTS):
        version += 1
        before = state()["record"]["committed"][0]
        pushing = subprocess.Popen(
            [sys.executable, "-P", "-m", "mien_deploy", "push", made(version), "pi@127.0.0.1", *options()],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        wait = random.uniform(0.5, 60)  # noqa: S311 - no secret
        time.sleep(wait)
        vm("cut")
        said = pushing.communicate(timeout=120)[0]
        vm("start", str(PORT))
        until(lambda: status().get("frames", 0) > 2)
        now = state()
        runs, last = now["current"], [line for line in said.splitlines() if named(version) in line][-1]
        assert runs in (before, named(version)), (runs, before)
        assert runs in now["record"]["committed"], now
        assert json.loads(inside(f"{EDGE} check --json"))["model"] == runs
        if "is committed" in said:
            assert runs == named(version), "what was acknowledged is durable"
        moments.append(
            f"cut {number + 1:2d} after {wait:4.1f} s: {runs} runs; the last word was: {last.split('  ')[-1]}"
        )
        say(moments[-1])
    said = deploy("push", made(90), "pi@127.0.0.1")
    say(f"after {CUTS} cuts, the next push:", said.splitlines()[-1])
    assert f"{named(90)} is committed" in said
