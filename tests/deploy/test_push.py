"""Pushing a bundle to a real sshd on loopback that plays the device."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import ROOT
from mien_deploy import cli, remote
from mien_edge import bundle as bundles
from mien_edge import store
from mien_edge.errors import DeployError

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
CONFIG = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/id.pub
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PermitRootLogin prohibit-password
PidFile none
"""


class Sshd:
    """A throw-away sshd and what a client needs to reach it."""

    def __init__(self, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder = folder
        for key in ("host", "id", "other"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key, "-f", folder / key]
            subprocess.run(command, check=True)
        self.pin("host")
        (folder / "config").write_text(CONFIG.format(port=self.port, folder=folder))
        (folder / "program").write_text(
            f'#!/bin/sh\nMIEN_MODELS={folder}/models exec {sys.executable} -m mien_edge "$@"\n'
        )
        (folder / "program").chmod(0o755)
        self.models = folder / "models"

    def pin(self, key):
        public = (self.folder / f"{key}.pub").read_text()
        (self.folder / "known").write_text(f"[127.0.0.1]:{self.port} {public}")

    def __enter__(self):
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self._log = (self.folder / "log").open("w")
        self._process = subprocess.Popen([SSHD, "-D", "-e", "-f", self.folder / "config"], stderr=self._log)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait()
        self._log.close()

    def options(self, key="id"):
        return (
            f"Port={self.port}", f"IdentityFile={self.folder / key}", "IdentitiesOnly=yes",
            f"UserKnownHostsFile={self.folder / 'known'}", "GlobalKnownHostsFile=none",
        )  # fmt: skip

    def device(self, key="id"):
        options = tuple(word for option in self.options(key) for word in ("-o", option))
        return remote.Device("127.0.0.1", str(self.folder / "program"), options, 5)

    def call(self, *arguments, hosts=("127.0.0.1",), key="id"):
        options = [word for option in self.options(key) for word in ("-o", option)]
        command, *rest = arguments
        return cli.main([command, *rest, *hosts, "--program", str(self.folder / "program"), *options])


@pytest.fixture
def sshd(tmp_path):
    if SSHD is None:
        pytest.skip("sshd is not installed; sudo apt install openssh-server")
    with Sshd(tmp_path) as running:
        yield running


def test_a_pushed_bundle_is_verified_replayed_and_current(sshd, bundle):
    said = remote.push(bundle, sshd.device())
    assert said.startswith(f"{bundle.card.id} is installed and current")
    assert store.installed(sshd.models) == [(bundle.card.id, True)]
    for name in ("card.json", *bundle.card.files):
        assert (sshd.models / "current" / name).read_bytes() == (bundle.folder / name).read_bytes()


def test_pushing_again_changes_nothing(sshd, bundle):
    remote.push(bundle, sshd.device())
    before = (sshd.models / bundle.card.id).stat().st_mtime_ns
    remote.push(bundle, sshd.device())
    assert (sshd.models / bundle.card.id).stat().st_mtime_ns == before


def test_a_bundle_altered_on_the_way_is_refused_by_the_device(sshd, bundle):
    content = bytearray(remote.packed(bundle))
    content[len(content) // 2] ^= 1
    with pytest.raises(DeployError, match=r"127.0.0.1: .*sha256"):
        sshd.device().run(["models", "install", "-"], bytes(content))
    assert store.installed(sshd.models) == []


def test_the_same_bundle_packs_to_the_same_bytes(bundle):
    assert remote.packed(bundle) == remote.packed(bundles.load(bundle.folder))


def test_a_wrong_key_and_an_unknown_host_are_refused_without_a_question(sshd, bundle):
    with pytest.raises(DeployError, match=r"cannot be reached .*Permission denied"):
        remote.push(bundle, sshd.device("other"))
    sshd.pin("other")
    with pytest.raises(DeployError, match=r"cannot be reached .*[Hh]ost key"):
        remote.push(bundle, sshd.device())


def test_one_device_that_is_down_does_not_stop_the_other(sshd, bundle, capsys):
    code = sshd.call("push", str(bundle.folder), hosts=("no-such-device.invalid", "127.0.0.1"))
    out, err = capsys.readouterr()
    assert code == 1
    assert f"127.0.0.1: {bundle.card.id} is installed" in out
    assert "no-such-device.invalid: cannot be reached" in err
    assert store.installed(sshd.models) == [(bundle.card.id, True)]


def test_check_models_activate_and_logs_work_from_afar(sshd, bundle, capsys):
    assert sshd.call("push", str(bundle.folder)) == 0
    assert sshd.call("check") == 0
    assert sshd.call("models") == 0
    assert sshd.call("activate", bundle.card.id) == 0
    out = capsys.readouterr().out
    assert "127.0.0.1: difference_steps" in out
    assert f"127.0.0.1: * {bundle.card.id}" in out
    assert sshd.call("activate", "other-9") == 1
    assert "other-9" in capsys.readouterr().err
    assert sshd.call("logs") == 1
    assert "no log here" in capsys.readouterr().err


def test_words_are_quoted_for_the_devices_shell():
    command = remote.Device("pi").command(["models", "activate", "a; reboot"])
    assert command[-1] == "mien-edge models activate 'a; reboot'"
    assert command[-2] == "pi"


def test_every_command_is_in_the_rooms_readme():
    text = (ROOT / "deploy" / "README.md").read_text()
    (actions,) = [a for a in cli.parser()._actions if isinstance(a, cli.argparse._SubParsersAction)]
    for name in actions.choices:
        assert f"mien-deploy {name}" in text
