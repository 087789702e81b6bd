"""A device's software, through pyinfra 3: facts in, commands out. What is as it should be yields no command.

pyinfra connects with Paramiko, which reads ~/.ssh/config and known_hosts; a host key that is not there is an error.
It runs as a process for each device (kits.carry_out): pyinfra has one state for a process.
"""

import json
import logging
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

from mien_edge import files as edge_files
from mien_edge.errors import DeployError
from pyinfra import host
from pyinfra.api.config import Config
from pyinfra.api.deploy import add_deploy
from pyinfra.api.exceptions import ConnectError, PyinfraError
from pyinfra.api.inventory import Inventory
from pyinfra.api.operations import run_ops
from pyinfra.api.state import BaseStateCallback, State
from pyinfra.context import ctx_host, ctx_state
from pyinfra.facts.deb import DebPackages
from pyinfra.facts.server import Command
from pyinfra.operations import apt, files, server

from mien_deploy import wheels
from mien_deploy.kit import Kit
from mien_deploy.remote import Device, UnreachableError

HERE = Path(__file__).resolve().parent
VENV = "/opt/mien/venv"
MARK = "/opt/mien/installed"
UNITS = "/etc/systemd/system"
PLACES = {
    "mien.service": f"{UNITS}/mien.service",
    "mien-publish.service": f"{UNITS}/mien-publish.service",
    "mien-view.service": f"{UNITS}/mien-view.service",
    "mien-retry.timer": f"{UNITS}/mien-retry.timer",
    "mien-retry.service": f"{UNITS}/mien-retry.service",
    "mien-publish-retry.timer": f"{UNITS}/mien-publish-retry.timer",
    "mien-publish-retry.service": f"{UNITS}/mien-publish-retry.service",
    "mien.sysusers": "/usr/lib/sysusers.d/mien.conf",
    "mien.tmpfiles": "/usr/lib/tmpfiles.d/mien.conf",
    "journald-mien.conf": "/etc/systemd/journald.conf.d/mien.conf",
}
"""Where each file of systemd/ goes."""

_KEYS, _SSHD = "/etc/mien/submit_keys", "/etc/ssh/sshd_config.d/mien.conf"
_SSHD_TEXT = f"""# Keys in {_KEYS} may submit bundles, and nothing else.
Match User mien
    AuthorizedKeysFile {_KEYS}
    DisableForwarding yes
    PermitTTY no
    PasswordAuthentication no
Match all
"""
_PYTHON = "import sys, platform; print('%d.%d' % sys.version_info[:2], platform.machine())"
_OPTIONS = {
    "port": "ssh_port", "user": "ssh_user", "identityfile": "ssh_key", "userknownhostsfile": "ssh_known_hosts_file",
    "hostname": "ssh_hostname",
}  # fmt: skip
_IGNORED = ("identitiesonly", "globalknownhostsfile", "loglevel", "batchmode", "connecttimeout")

logging.getLogger("pyinfra").setLevel(logging.CRITICAL)  # what went wrong is told by the outcome


def setup(kit: Kit) -> Callable[[], None]:
    """From a fresh Raspberry Pi OS to a running device."""

    def plan() -> None:
        _packages()
        units = _put_files()
        installed = _install(kit)
        changed = _settings(kit)
        if kit.submit_key:
            _submit_key(kit.submit_key)
        if units:
            _shell("read the units", "systemctl daemon-reload")
        _run("mien", units or installed or changed)

    return plan


def remove(purge: bool) -> Callable[[], None]:
    """Take mien off a device."""

    def plan() -> None:
        names = " ".join(each for each in PLACES if each.endswith((".service", ".timer")))
        if _told(f"ls {UNITS}/mien.service 2>/dev/null || :"):
            _shell("stop the services", f"systemctl disable --quiet --now {names} 2>/dev/null || :")
        paths = [*PLACES.values(), _SSHD, "/opt/mien", f"{UNITS}/mien.service.d"]
        paths += ["/var/lib/mien", "/var/lib/mien-publish", "/etc/mien"] if purge else []
        there = _told(f"ls -d {' '.join(paths)} 2>/dev/null || :").split()
        if there:
            _shell("remove the files", f"rm -rf {' '.join(there)}", "systemctl daemon-reload")
        users = _told("getent passwd mien mien-publish mien-view | cut -d: -f1 || :").split()
        if purge and users:
            _shell("remove the users", *(f"userdel {user}" for user in users))

    return plan


def _packages() -> None:
    wanted = ["python3-venv", "openssh-client"]
    if _told("apt-cache show python3-picamera2 >/dev/null 2>&1 && echo yes || echo no") == "yes":
        wanted.append("python3-picamera2")
    have = host.get_fact(DebPackages)
    missing = [name for name in wanted if name not in have]
    if missing:
        apt.packages(name=f"packages: {', '.join(missing)}", packages=missing, update=True, no_recommends=True)


def _put_files() -> bool:
    folder = next(each for each in (HERE.parents[1] / "systemd", HERE / "systemd") if each.is_dir())
    changed = [place for name, place in PLACES.items() if _put(place, (folder / name).read_text())]
    if any("sysusers" in place or "tmpfiles" in place for place in changed):
        _shell("users and folders", "systemd-sysusers", "systemd-tmpfiles --create /usr/lib/tmpfiles.d/mien.conf")
    if PLACES["journald-mien.conf"] in changed:
        _shell("keep the journal over a reboot", "systemctl restart systemd-journald")
    return bool(changed)


def _install(kit: Kit) -> bool:
    digest = f"{edge_files.sha256(kit.wheel)} {kit.wheel.name}"
    if not _told(f"ls {VENV}/bin/python 2>/dev/null || :"):
        _shell("a Python of its own", f"python3 -m venv --system-site-packages {VENV}")
    elif _told(f"cat {MARK} 2>/dev/null || :") == digest:
        return False
    extra, remote = kit.extra, f"/opt/mien/{kit.wheel.name}"
    files.put(name=f"the wheel {kit.wheel.name}", src=str(kit.wheel), dest=remote, mode="644")
    where, unpack = "", []
    if kit.offline:
        house = _wheelhouse(kit)
        files.put(
            name=f"packages for a device without internet: {house.name}", src=str(house), dest="/opt/mien/wheels.tar"
        )
        where = "--no-index --find-links /opt/mien/wheels "
        unpack = ["mkdir -p /opt/mien/wheels", "tar -xf /opt/mien/wheels.tar -C /opt/mien/wheels"]
    pip = f"{VENV}/bin/pip install --quiet --disable-pip-version-check"
    _shell(
        "install mien",
        *unpack,
        f"{pip} {where}'{remote}[{extra}]'",
        f"{pip} {where}--no-deps --force-reinstall {remote}",
        f"rm -rf /opt/mien/wheels /opt/mien/wheels.tar {remote}",
        f"echo '{digest}' > {MARK}.new && sync {MARK}.new && mv {MARK}.new {MARK}",
    )
    return True


def _wheelhouse(kit: Kit) -> Path:
    """All that the wheel needs on this device."""
    version, machine = _told(f"python3 -c {shlex.quote(_PYTHON)}").split()
    return wheels.house(kit.wheel, version, machine, kit.extra)


def _settings(kit: Kit) -> bool:
    changed = False
    if kit.settings is not None:
        changed = _put("/etc/mien/mien.toml", kit.settings)
    elif not _told("ls /etc/mien/mien.toml 2>/dev/null || :"):
        changed = _put("/etc/mien/mien.toml", kit.fresh)
    if kit.signers:
        _put("/etc/mien/allowed_signers", kit.signers)
    return changed


def _submit_key(key: str) -> None:
    line = f'restrict,command="{VENV}/bin/mien-edge receive --timeout 300" {key}\n'
    _put(_KEYS, line)
    if _told("getent passwd mien | cut -d: -f7 || :") != "/bin/sh":
        _shell("a shell for the restricted key's command", "usermod -s /bin/sh mien")
    if _put(_SSHD, _SSHD_TEXT):
        _shell("sshd reads it", "systemctl reload ssh")


def _run(unit: str, restart: bool) -> None:
    state = _told(f"systemctl is-enabled {unit} 2>/dev/null; systemctl is-active {unit} 2>/dev/null || :").split()
    if state != ["enabled", "active"]:
        _shell(
            f"start {unit}", f"systemctl reset-failed {unit} 2>/dev/null || :", f"systemctl enable --quiet --now {unit}"
        )
    elif restart:
        _shell(f"restart {unit}", f"systemctl restart {unit}")


def _told(command: str) -> str:
    """What a command that changes nothing prints."""
    return str(host.get_fact(Command, command=command) or "").strip()


def _put(place: str, content: str) -> bool:
    """A file with this content; whether it is another one than before."""
    done = files.put(name=place, src=StringIO(content), dest=place, mode="644", user="root", group="root")
    return bool(done.will_change)


def _shell(name: str, *commands: str) -> None:
    server.shell(name=name, commands=list(commands))


def main() -> None:
    """Reads a task as JSON (see kits.carry_out); prints lines of JSON: what it does, and how it ended."""
    task = json.load(sys.stdin)
    device = Device(**task["device"])
    device = replace(device, options=tuple(device.options))
    try:
        if task["action"] == "setup":
            plan = setup(Kit(**(task["kit"] | {"wheel": Path(task["kit"]["wheel"])})))
        else:
            plan = remove(task["purge"])
        ending = {"kind": "done", "text": _apply(device, plan, task["sudo"], task["dry"])}
    except UnreachableError as problem:
        ending = {"kind": "unreachable", "text": str(problem)}
    except DeployError as problem:
        ending = {"kind": "failed", "text": str(problem)}
    _print(ending)


def _print(told: dict[str, str]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def _apply(device: Device, plan: Callable[[], None], sudo: bool, dry: bool) -> str:
    state = State(Inventory(([(device.host, _data(device))], {})), Config(SUDO=sudo, CONNECT_TIMEOUT=device.seconds))
    (machine,) = state.inventory
    try:
        machine.connect(raise_exceptions=True, show_errors=False)
    except ConnectError as problem:
        reason = f"{device.host}: cannot be reached ({problem}); check that 'ssh {device.host}' works"
        raise UnreachableError(reason) from None
    state.activate_host(machine)
    try:
        add_deploy(state, plan)
        order = state.get_op_order()
        if dry:
            return _listed(state, machine, order)
        state.add_callback_handler(_Progress())
        run_ops(state)
    except PyinfraError as problem:
        raise DeployError(f"{device.host}: {_reason(state, machine) or problem}") from None
    finally:
        machine.disconnect()
    changes = sum(state.get_op_data_for_host(machine, each).operation_meta.did_change() for each in order)
    return f"{changes} changes" if changes else "nothing to change"


def _listed(state: Any, machine: Any, order: Sequence[str]) -> str:
    count = 0
    with ctx_state.use(state), ctx_host.use(machine):
        for each in order:
            for command in state.get_op_data_for_host(machine, each).command_generator():
                _print({"say": str(command)})
                count += 1
    return f"{count} commands, none run" if count else "nothing to change"


def _reason(state: Any, machine: Any) -> str:
    """The name of the operation that failed and its last words."""
    for each in state.get_op_order():
        done = state.get_op_data_for_host(machine, each).operation_meta
        if done.is_complete() and not done.did_succeed():
            lines = [*done.stdout_lines, *done.stderr_lines]
            lines = [line for line in lines if line.strip() and not line.startswith("sudo: unable to resolve")]
            name = ", ".join(state.get_op_meta(each).names)
            return f"{name}: {lines[-1] if lines else 'it failed'}; look at the device, then run it again"
    return ""


def _data(device: Device) -> dict[str, Any]:
    """What ssh is told by name and options, as pyinfra's data."""
    user, _, name = device.host.rpartition("@")
    data: dict[str, Any] = {"ssh_hostname": name, "ssh_strict_host_key_checking": "yes"}
    if user:
        data["ssh_user"] = user
    for option in device.options[1::2]:
        key, _, value = option.partition("=")
        if key.lower() in _OPTIONS:
            data[_OPTIONS[key.lower()]] = int(value) if key.lower() == "port" else value
        elif key.lower() not in _IGNORED:
            raise DeployError(f"-o {option}: setup and remove do not know it; put it into ~/.ssh/config")
    return data


class _Progress(BaseStateCallback):
    @staticmethod
    def operation_host_start(state: Any, host: Any, op_hash: Any) -> None:
        if state.get_op_data_for_host(host, op_hash).operation_meta.will_change:
            _print({"say": ", ".join(state.get_op_meta(op_hash).names)})


if __name__ == "__main__":
    main()
