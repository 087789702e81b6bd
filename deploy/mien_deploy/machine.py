"""A device's software, through pyinfra 3: facts in, commands out. What is as it should be yields no command.

pyinfra connects with Paramiko, which reads ~/.ssh/config and known_hosts; a host key that is not there is an error.
Only the command line imports this module: gevent changes the standard library for the whole process.
"""

# ruff: noqa: E402
from gevent import monkey

monkey.patch_all()

import argparse
import logging
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

from mien_edge import files as edge_files
from mien_edge import settings as configuration
from mien_edge.errors import DeployError
from mien_edge.settings import Settings, Source
from pyinfra import host
from pyinfra.api.config import Config
from pyinfra.api.deploy import add_deploy
from pyinfra.api.exceptions import ConnectError, PyinfraError
from pyinfra.api.inventory import Inventory
from pyinfra.api.operations import run_ops
from pyinfra.api.state import BaseStateCallback, State
from pyinfra.facts.deb import DebPackages
from pyinfra.facts.server import Command
from pyinfra.operations import apt, files, server

from mien_deploy import fleet, wheels
from mien_deploy.fleet import Outcome, Say
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


@dataclass(frozen=True, slots=True)
class Kit:
    """What is put on a device. wheel: mien's; offline: carry its dependencies, too; settings: text of a mien.toml that
    replaces the device's, None to keep what is there; fresh: text for a device that has none; signers, submit_key:
    contents of files, or ''.
    """

    wheel: Path
    offline: bool
    settings: str | None
    fresh: str
    signers: str
    submit_key: str

    @property
    def extra(self) -> str:
        """mien's extra: with the demo's photograph where that is the source."""
        uri = configuration.parse(self.settings or self.fresh).source.uri
        return "edge" if uri.startswith("demo") else "device"

    @classmethod
    def of(cls, options: argparse.Namespace) -> "Kit":
        """From the command line. Raises DeployError for a file that cannot be read."""
        given = _text(options.settings) if options.settings else None
        if given is not None:
            configuration.parse(given, str(options.settings))
        key = _text(options.submit_key).strip() if options.submit_key else ""
        if key and len(key.split()) < 2:
            raise DeployError(f"{options.submit_key}: not a public SSH key; name the .pub file")
        fresh = configuration.as_toml(replace(Settings(), source=Source(uri=options.source)))
        signers = _text(options.signers) if options.signers else ""
        return cls(options.wheel or wheels.own_wheel(), options.offline, given, fresh, signers, key)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise DeployError(f"{path}: cannot be read ({problem}); name another file") from None


# --- plans: called by pyinfra for each device --------------------------------------------------------------------


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
    where = ""
    if kit.offline:
        for each in sorted(_wheelhouse(kit).glob("*.whl")):
            files.put(name=f"the wheel {each.name}", src=str(each), dest=f"/opt/mien/wheels/{each.name}", mode="644")
        where = "--no-index --find-links /opt/mien/wheels "
    pip = f"{VENV}/bin/pip install --quiet --disable-pip-version-check"
    _shell(
        "install mien",
        f"{pip} {where}'{remote}[{extra}]'",
        f"{pip} {where}--no-deps --force-reinstall {remote}",
        f"rm -rf /opt/mien/wheels {remote}",
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
    line = f'restrict,command="{VENV}/bin/mien-edge receive --wait 300" {key}\n'
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


# --- running them ------------------------------------------------------------------------------------------------


def run(devices: Sequence[Device], plan: Callable[[], None], sudo: bool, dry: bool, say: Say) -> list[Outcome]:
    """Carry the plan out on all devices at once, or print its commands; one that fails does not stop the others."""
    return fleet.on_each(devices, lambda device, told: _apply(device, plan, sudo, dry, told), say)


def _apply(device: Device, plan: Callable[[], None], sudo: bool, dry: bool, say: Say) -> tuple[str, str]:
    state = State(Inventory(([(device.host, _data(device))], {})), Config(SUDO=sudo, CONNECT_TIMEOUT=device.seconds))
    (machine,) = state.inventory
    try:
        machine.connect(raise_exceptions=True, show_errors=False)
    except ConnectError as problem:
        raise UnreachableError(
            f"{device.host}: cannot be reached ({problem}); check that 'ssh {device.host}' works"
        ) from None
    state.activate_host(machine)
    try:
        add_deploy(state, plan)
        order = state.get_op_order()
        if dry:
            return "done", _listed(state, machine, order, say)
        state.add_callback_handler(_progress(say))
        run_ops(state)
    except PyinfraError as problem:
        raise DeployError(f"{device.host}: {_reason(state, machine) or problem}") from None
    finally:
        machine.disconnect()
    changes = sum(state.get_op_data_for_host(machine, each).operation_meta.did_change() for each in order)
    return "done", f"{changes} changes" if changes else "nothing to change"


def _listed(state: Any, machine: Any, order: Sequence[str], say: Say) -> str:
    count = 0
    for each in order:
        for command in state.get_op_data_for_host(machine, each).command_generator():
            say(machine.name, str(command))
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


def _progress(say: Say) -> BaseStateCallback:
    class Progress(BaseStateCallback):
        @staticmethod
        def operation_host_start(state: Any, host: Any, op_hash: Any) -> None:
            if state.get_op_data_for_host(host, op_hash).operation_meta.will_change:
                say(host.name, ", ".join(state.get_op_meta(op_hash).names))

    return Progress()
