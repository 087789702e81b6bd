"""Devices behind a real sshd on loopback: 127.0.0.1, 127.0.0.2 … each with a store, and a service if wished."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import clean_environment
from mien_deploy import cli, remote

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
CONFIG = """
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/id.pub
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
MaxStartups 100
PermitRootLogin prohibit-password
PidFile none
"""
# The address that was called tells which device is meant.
PROGRAM = """#!/bin/sh
set -- "$(echo $SSH_CONNECTION | cut -d' ' -f3)" "$@"
place={folder}/$1; shift
export MIEN_MODELS=$place/state/models STATE_DIRECTORY=$place/state RUNTIME_DIRECTORY=$place/run PYTHONPATH={path}
command=$1; shift
case $command in
receive) exec {python} -P -m mien_edge receive --settings {folder}/mien.toml "$@" ;;
models) action=$1; shift; exec {python} -P -m mien_edge models $action --settings {folder}/mien.toml "$@" ;;
*) exec {python} -P -m mien_edge $command "$@" ;;
esac
"""
SETTINGS = """
[source]
uri = "demo:forever"
fps = 10.0
[update]
unsigned = true
probation = 2.0
min_faces = 10
max_probation = 30.0
max_latency_ratio = 100.0
min_fps_ratio = 0.0
"""


class Devices:
    """`count` devices; a context in which their sshd runs, and services that were started end."""

    def __init__(self, folder, count=1):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder, self.hosts = folder, [f"127.0.0.{number}" for number in range(1, count + 1)]
        for key in ("host", "id", "other"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key, "-f", folder / key]
            subprocess.run(command, check=True)
        self.pin("host")
        listen = "".join(f"ListenAddress {host}\n" for host in self.hosts)
        (folder / "config").write_text(listen + CONFIG.format(port=self.port, folder=folder))
        (folder / "mien.toml").write_text(SETTINGS)
        path = clean_environment()["PYTHONPATH"]
        (folder / "program").write_text(PROGRAM.format(folder=folder, python=sys.executable, path=path))
        (folder / "program").chmod(0o755)
        for host in self.hosts:
            (folder / host / "run").mkdir(parents=True)
            (folder / host / "state").mkdir()
        self._services = {}

    def pin(self, key):
        public = (self.folder / f"{key}.pub").read_text()
        (self.folder / "known").write_text(f"[127.0.0.*]:{self.port} {public}")

    def __enter__(self):
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self._log = (self.folder / "log").open("w")
        self._process = subprocess.Popen([SSHD, "-D", "-e", "-f", self.folder / "config"], stderr=self._log)
        until(lambda: _listens(self.hosts[0], self.port))
        return self

    def __exit__(self, *_):
        for process in (*self._services.values(), self._process):
            process.terminate()
        for process in (*self._services.values(), self._process):
            process.wait()
        self._log.close()

    def models(self, host="127.0.0.1"):
        """The device's store."""
        return self.folder / host / "state" / "models"

    def serve(self, host="127.0.0.1"):
        """Start the device's service and wait for its first frame."""
        place = self.folder / host
        variables = {"MIEN_MODELS": str(self.models(host)), "STATE_DIRECTORY": str(place / "state")}
        variables |= {"RUNTIME_DIRECTORY": str(place / "run"), **clean_environment(), "OPENBLAS_NUM_THREADS": "1"}
        variables["MIEN_MODELS"] = str(self.models(host))
        command = [sys.executable, "-P", "-m", "mien_edge", "run", "--quiet", "--settings", self.folder / "mien.toml"]
        with (place / "log").open("w") as said:
            self._services[host] = subprocess.Popen(command, env=variables, stdout=said, stderr=said)
        until(lambda: (place / "run" / "status.json").exists(), 60)

    def options(self, key="id"):
        return (
            f"Port={self.port}", f"IdentityFile={self.folder / key}", "IdentitiesOnly=yes",
            f"UserKnownHostsFile={self.folder / 'known'}", "GlobalKnownHostsFile=none",
        )  # fmt: skip

    def device(self, key="id"):
        options = tuple(word for option in self.options(key) for word in ("-o", option))
        return remote.Device("127.0.0.1", str(self.folder / "program"), options, 5)

    def call(self, command, *words, hosts=("127.0.0.1",), key="id"):
        """mien-deploy's exit code."""
        options = [word for option in self.options(key) for word in ("-o", option)]
        return cli.main([command, *words, *hosts, "--program", str(self.folder / "program"), *options])


def until(condition, seconds=60.0):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it took too long"
        time.sleep(0.05)


def _listens(host, port):
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def needs_sshd():
    if SSHD is None:
        pytest.skip("sshd is not installed; sudo apt install openssh-server")
