"""Devices behind a real sshd on loopback: 127.0.0.1, 127.0.0.2 … each with a store, and a service if a test starts it.

Nothing depends on how fast this machine is: the settings let no model fail for its speed, and limits of time only end a
test that would wait for ever.
"""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import clean_environment, until
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
# max_latency_ratio has its highest value, min_fps_ratio its lowest: a busy machine rolls no model back. Probation ends
# after ten faces, however long they take.
SETTINGS = """
[source]
uri = "demo:forever"
fps = 10.0
[update]
unsigned = true
probation = 2.0
min_faces = 10
max_probation = 600.0
max_latency_ratio = 100.0
min_fps_ratio = 0.0
"""
PATIENCE = 240.0  # seconds that a test waits for what has to happen


class Devices:
    """`count` devices; a context in which their sshd runs, and services that were started end.

    behaviours: from a device's address to lines of sshd_config for it alone.
    """

    def __init__(self, folder, count=1, behaviours=None):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder = folder
        self.hosts = [f"127.0.0.{number}" for number in range(1, count + 1)]
        for key in ("host", "id", "other"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key, "-f", folder / key]
            subprocess.run(command, check=True)
        self.pin("host")
        listen = "".join(f"ListenAddress {host}\n" for host in self.hosts)
        config = listen + CONFIG.format(port=self.port, folder=folder)
        for host, lines in (behaviours or {}).items():
            config += f"Match LocalAddress {host}\n{lines}\n"
        (folder / "config").write_text(config)
        (folder / "mien.toml").write_text(SETTINGS)
        path = clean_environment()["PYTHONPATH"]
        program = PROGRAM.format(folder=folder, python=sys.executable, path=path)
        (folder / "program").write_text(program)
        (folder / "program").chmod(0o755)
        for host in self.hosts:
            (folder / host / "run").mkdir(parents=True)
            (folder / host / "state").mkdir()
        self._services = {}

    def pin(self, key):
        """Make `key` the host key that ssh expects of all devices."""
        public_key = (self.folder / f"{key}.pub").read_text()
        names = ",".join(f"[{host}]:{self.port}" for host in self.hosts)
        (self.folder / "known").write_text(f"{names} {public_key}")

    def __enter__(self):
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self._log = (self.folder / "log").open("w")
        self._process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", self.folder / "config"], stderr=self._log
        )
        until(lambda: _listens(self.hosts[0], self.port), PATIENCE)
        return self

    def __exit__(self, *_):
        processes = [*self._services.values(), self._process]
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
        self._log.close()

    def models(self, host="127.0.0.1"):
        """The device's store."""
        return self.folder / host / "state" / "models"

    def serve(self, host="127.0.0.1"):
        """Start the device's service and wait for its first frame."""
        folder = self.folder / host
        environment = clean_environment()
        environment["MIEN_MODELS"] = str(self.models(host))
        environment["STATE_DIRECTORY"] = str(folder / "state")
        environment["RUNTIME_DIRECTORY"] = str(folder / "run")
        environment["OPENBLAS_NUM_THREADS"] = "1"
        command = [
            sys.executable,
            "-P",
            "-m",
            "mien_edge",
            "run",
            "--quiet",
            "--settings",
            self.folder / "mien.toml",
        ]
        with (folder / "log").open("w") as log:
            self._services[host] = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log
            )
        until(lambda: (folder / "run" / "status.json").exists(), PATIENCE)

    def options(self, key="id"):
        """The values of ssh's -o that lead to the devices."""
        return (
            f"Port={self.port}",
            f"IdentityFile={self.folder / key}",
            "IdentitiesOnly=yes",
            f"UserKnownHostsFile={self.folder / 'known'}",
            "GlobalKnownHostsFile=none",
        )

    def arguments(self, key="id"):
        """The options of mien-deploy that lead to the devices."""
        arguments = ["--program", str(self.folder / "program")]
        for option in self.options(key):
            arguments += ["-o", option]
        return arguments

    def device(self, key="id"):
        """The first device."""
        options = tuple(word for option in self.options(key) for word in ("-o", option))
        return remote.Device("127.0.0.1", str(self.folder / "program"), options, int(PATIENCE))

    def call(self, command, *words, hosts=("127.0.0.1",), key="id"):
        """mien-deploy's exit code."""
        return cli.main([command, *words, *hosts, *self.arguments(key)])


def _listens(host, port):
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def needs_sshd():
    """Skip the test where there is no sshd."""
    if SSHD is None:
        pytest.skip("sshd is not installed; sudo apt install openssh-server")
