"""A device's software, through pyinfra 3: facts in, commands out.

What is as it should be yields no command. pyinfra connects with Paramiko, which reads ~/.ssh/config
and known_hosts; a host key that is not there is an error.

This module runs as a process per device (kit.run_in_subprocess), for pyinfra has one state per
process. It reads a task as JSON from standard input and prints lines of JSON: {"progress": …} for
each step, then {"kind": …, "text": …}.
"""

import json
import logging
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import TypeAlias

from mien_edge import files as edge_files
from mien_edge.addresses import is_network_address, mask_address
from mien_edge.credentials import GROUP
from mien_edge.errors import DeployError, SettingsError
from mien_edge.settings import Settings, UseSettings, parse_settings
from mien_edge.text import printable
from paramiko import SSHException
from pyinfra import host
from pyinfra.api.config import Config
from pyinfra.api.deploy import add_deploy
from pyinfra.api.exceptions import ConnectError, PyinfraError
from pyinfra.api.host import Host
from pyinfra.api.inventory import Inventory
from pyinfra.api.operation import OperationMeta
from pyinfra.api.operations import run_ops
from pyinfra.api.state import BaseStateCallback, State
from pyinfra.context import ctx_host, ctx_state
from pyinfra.facts.deb import DebPackages
from pyinfra.facts.server import Command
from pyinfra.operations import apt, files, server

from mien_deploy import starts, wheels
from mien_deploy.fleet import OutcomeKind
from mien_deploy.kit import DeviceSetup, Task
from mien_deploy.marks import MarkedConnection
from mien_deploy.remote import SUDO_ADVICE, Device, UnreachableError, sudo_asks, without_noise
from mien_deploy.text import brief

VENV = "/opt/mien/venv"
INSTALLED_MARKER = "/opt/mien/installed"
"""A file with the digest of the wheel that is installed."""

UNITS = "/etc/systemd/system"
DESTINATIONS = {
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

Operations: TypeAlias = Callable[[], None]
"""A function that adds pyinfra's operations for the current host."""

_PACKAGE = Path(__file__).resolve().parent
_SYSTEMD_FOLDERS = (
    _PACKAGE.parents[1] / "systemd",  # in a checkout
    _PACKAGE / "systemd",  # in a wheel
)

_SETTINGS = "/etc/mien/mien.toml"
_SIGNERS = "/etc/mien/allowed_signers"
_KEYS = "/etc/mien/submit_keys"
_RECEIVE = "mien-edge receive --timeout"
_EARLIER_RECEIVE = "mien-edge receive --wait"
_SSHD = "/etc/ssh/sshd_config.d/mien.conf"
_SSHD_TEXT = f"""# Keys in {_KEYS} may submit bundles, and nothing else.
Match User mien
    AuthorizedKeysFile {_KEYS}
    DisableForwarding yes
    PermitTTY no
    PasswordAuthentication no
Match all
"""
_WHEELHOUSE = "/opt/mien/wheels"
_PIP = f"{VENV}/bin/pip install --quiet --disable-pip-version-check"
_PYTHON_AND_MACHINE = (
    "import sys, platform; print('%d.%d' % sys.version_info[:2], platform.machine())"
)  # fmt: skip
_QUERY_SECONDS = 60.0
"""How long the device may say nothing when it is asked for what it has."""

_MAX_TEXT = 2000  # characters of a line that is printed
_DROPPED = re.compile(r"EOF|banner|reset by peer|closed", re.IGNORECASE)
"""What Paramiko says where sshd drops a connection before the login."""

_SSH_OPTIONS = {
    "port": "ssh_port",
    "user": "ssh_user",
    "identityfile": "ssh_key",
    "userknownhostsfile": "ssh_known_hosts_file",
    "hostname": "ssh_hostname",
}
"""pyinfra's names of ssh's options."""

_IGNORED_SSH_OPTIONS = (
    "identitiesonly",
    "globalknownhostsfile",
    "loglevel",
    "batchmode",
    "connecttimeout",
    "serveraliveinterval",
    "serveralivecountmax",
)

logging.getLogger("pyinfra").setLevel(logging.CRITICAL)  # the outcome says what went wrong


def setup_operations(setup: DeviceSetup) -> Operations:
    """Return the operations that lead from a fresh Raspberry Pi OS to a running device.

    They also lead there from any later state; a device that is as it should be needs none.
    """

    def add_operations() -> None:
        _refuse_settings(setup)
        _install_system_packages()
        units_changed = _put_unit_files()
        mien_changed = _install_mien(setup)
        settings_changed = _put_settings(setup)
        if setup.submit_key:
            _put_submit_key(setup.submit_key)
        else:
            _renew_submit_keys()
        if units_changed:
            _shell("read the units", "systemctl daemon-reload")
        changed = units_changed or mien_changed or settings_changed
        _start("mien", changed)
        if changed:
            _restart_running("mien-publish", "mien-view")

    return add_operations


def removal_operations(purge: bool) -> Operations:
    """Return the operations that remove mien from a device.

    purge: whether to remove log, models, settings and users as well.
    """

    def add_operations() -> None:
        _stop_services()
        _remove_files(purge)
        if purge:
            _remove_users()

    return add_operations


def _stop_services() -> None:
    if not _exists(f"{UNITS}/mien.service"):
        return
    units = [name for name in DESTINATIONS if name.endswith((".service", ".timer"))]
    command = f"systemctl disable --quiet --now {' '.join(units)} 2>/dev/null || :"
    _shell("stop the services", command)


def _remove_files(purge: bool) -> None:
    paths = [*DESTINATIONS.values(), _SSHD, "/opt/mien", f"{UNITS}/mien.service.d"]
    paths.append("/run/mien-preview")
    if purge:
        paths += ["/var/lib/mien", "/var/lib/mien-publish", "/etc/mien"]
    existing = _query(f"ls -d {' '.join(paths)} 2>/dev/null || :").split()
    if existing:
        _shell("remove the files", f"rm -rf {' '.join(existing)}", "systemctl daemon-reload")


def _remove_users() -> None:
    users = _query("getent passwd mien mien-publish mien-view | cut -d: -f1 || :").split()
    if users:
        _shell("remove the users", *(f"userdel {user}" for user in users))
    if _query("getent group mien-preview || :"):
        _shell("remove the group", "groupdel mien-preview")


def _install_system_packages() -> None:
    packages = ["python3-venv", "openssh-client"]
    if _query("apt-cache show python3-picamera2 >/dev/null 2>&1 && echo yes || :"):
        packages.append("python3-picamera2")
    installed = host.get_fact(DebPackages)
    missing = [name for name in packages if name not in installed]
    if missing:
        name = f"packages: {', '.join(missing)}"
        apt.packages(name=name, packages=missing, update=True, no_recommends=True)


def _put_unit_files() -> bool:
    """Put the files of systemd/ in place; returns whether any differs."""
    folder = next(folder for folder in _SYSTEMD_FOLDERS if folder.is_dir())
    changed = []
    for name, destination in DESTINATIONS.items():
        if _put(destination, (folder / name).read_text()):
            changed.append(destination)
    if any("sysusers" in path or "tmpfiles" in path for path in changed):
        create_folders = f"systemd-tmpfiles --create {DESTINATIONS['mien.tmpfiles']}"
        _shell("users and folders", "systemd-sysusers", create_folders)
    if DESTINATIONS["journald-mien.conf"] in changed:
        _shell("keep the journal over a reboot", "systemctl restart systemd-journald")
    return bool(changed)


def _install_mien(setup: DeviceSetup) -> bool:
    """Install the wheel unless it is installed already; returns whether it is not."""
    wheel = setup.wheel
    digest = f"{edge_files.sha256(wheel)} {wheel.name}"
    if not _exists(f"{VENV}/bin/python"):
        _shell("a Python of its own", f"python3 -m venv --system-site-packages {VENV}")
    elif _query(f"cat {INSTALLED_MARKER} 2>/dev/null || :") == digest:
        return False
    remote_wheel = f"/opt/mien/{wheel.name}"
    files.put(name=f"the wheel {wheel.name}", src=str(wheel), dest=remote_wheel, mode="644")
    index_options = ""
    commands = []
    if setup.offline:
        _put_wheelhouse(setup)
        index_options = f"--no-index --find-links {_WHEELHOUSE} "
        commands.append(f"mkdir -p {_WHEELHOUSE}")
        commands.append(f"tar -xf {_WHEELHOUSE}.tar -C {_WHEELHOUSE}")
    commands += [
        f"{_PIP} {index_options}'{remote_wheel}[{setup.extra}]'",
        f"{_PIP} {index_options}--no-deps --force-reinstall {remote_wheel}",
        f"rm -rf {_WHEELHOUSE} {_WHEELHOUSE}.tar {remote_wheel}",
        _write_marker_command(digest),
    ]
    _shell("install mien", *commands)
    return True


def _write_marker_command(digest: str) -> str:
    """Return the command that writes the marker as a whole or not at all."""
    temporary = f"{INSTALLED_MARKER}.new"
    return f"echo '{digest}' > {temporary} && sync {temporary} && mv {temporary} {INSTALLED_MARKER}"


def _put_wheelhouse(setup: DeviceSetup) -> None:
    answer = _query(f"python3 -c {shlex.quote(_PYTHON_AND_MACHINE)}").split()
    if len(answer) != 2:
        raise DeployError(f"python3 there does not say what it is ({' '.join(answer)}); see to it")
    python, machine = answer
    archive = wheels.wheelhouse(setup.wheel, python, machine, setup.extra, _print_progress)
    name = f"packages for a device without internet: {archive.name}"
    files.put(name=name, src=str(archive), dest=f"{_WHEELHOUSE}.tar")


def _refuse_settings(setup: DeviceSetup) -> None:
    """Raise DeployError for settings that the device's service could not run with.

    Nothing is changed then.
    """
    if setup.settings is not None:
        settings = parse_settings(setup.settings)
    elif _exists(_SETTINGS):
        settings = _read_settings()
        _refuse_purpose(settings.use.purpose, parse_settings(setup.new_settings).use)
    else:
        settings = parse_settings(setup.new_settings)
    uri = settings.source.uri
    if is_network_address(uri) and not _has_network():
        reason = "mien.service has no network, so that no picture leaves it"
        advice = "set source.uri to picamera or v4l2:0, for instance with --settings"
        raise DeployError(f"{host.name}: source.uri is {mask_address(uri)}: {reason}; {advice}")


def _refuse_purpose(current: str, use: UseSettings) -> None:
    """Raise DeployError if the device's own settings, which stay, are for another purpose.

    Settings of before that say none may stay, unless single readings would be kept against `use`.
    """
    if current == use.purpose or (not current and not use.minutes_only):
        return
    stated = f'use.purpose = "{current}"' if current else "no use.purpose"
    reason = f"its settings stay, and have {stated}, not {use.purpose!r}"
    advice = f"write it into {_SETTINGS} there, or give a whole file with --settings"
    raise DeployError(f"{host.name}: {reason}; {advice}")


def _read_settings() -> Settings:
    """Read the device's settings. Raises DeployError if they are not for this version."""
    content = _query(f"cat {_SETTINGS} 2>/dev/null || :")
    try:
        return parse_settings(content, f"{host.name}:{_SETTINGS}")
    except SettingsError as problem:
        raise DeployError(f"{problem}; or give a whole file with --settings") from None


def _has_network() -> bool:
    """Whether a drop-in of the device's owner gives the service the network."""
    drop_ins = f"{UNITS}/mien.service.d/*.conf"
    value = _query(f"grep -hs '^PrivateNetwork=' {drop_ins} | tail -n 1 || :")
    return value.partition("=")[2].strip().lower() in ("no", "false", "off", "0")


def _put_settings(setup: DeviceSetup) -> bool:
    """Put settings and signers in place; returns whether the settings differ."""
    changed = False
    if setup.settings is not None:
        changed = _put_private(_SETTINGS, setup.settings)
    elif not _exists(_SETTINGS):
        changed = _put_private(_SETTINGS, setup.new_settings)
    if setup.signers:
        _put(_SIGNERS, setup.signers)
    return changed


def _put_submit_key(key: str) -> None:
    command = f"{VENV}/bin/{_RECEIVE} 300"
    _put(_KEYS, f'restrict,command="{command}" {key}\n')
    if _query("getent passwd mien | cut -d: -f7 || :") != "/bin/sh":
        _shell("a shell for the restricted key's command", "usermod -s /bin/sh mien")
    if _put(_SSHD, _SSHD_TEXT):
        _shell("sshd reads it", "systemctl reload ssh")


def _renew_submit_keys() -> None:
    """Give the commands of keys that an earlier version put there today's option."""
    content = _query(f"cat {_KEYS} 2>/dev/null || :")
    if _EARLIER_RECEIVE in content:
        _put(_KEYS, content.replace(_EARLIER_RECEIVE, _RECEIVE) + "\n")


def _start(unit: str, restart: bool) -> None:
    """Enable and start a unit that is not running; else restart it if `restart`."""
    is_enabled = _query(f"systemctl is-enabled {unit} 2>/dev/null || :")
    is_active = _query(f"systemctl is-active {unit} 2>/dev/null || :")
    if (is_enabled, is_active) != ("enabled", "active"):
        _shell(
            f"start {unit}",
            f"systemctl reset-failed {unit} 2>/dev/null || :",
            f"systemctl enable --quiet --now {unit}",
        )
    elif restart:
        _shell(f"restart {unit}", f"systemctl restart {unit}")


def _restart_running(*units: str) -> None:
    """Restart those of the units that run: the others may be off because nobody wants them."""
    states = _query(f"systemctl is-active {' '.join(units)} 2>/dev/null || :").split()
    running = [unit for unit, state in zip(units, states, strict=False) if state == "active"]
    if running:
        _shell(f"restart {', '.join(running)}", f"systemctl restart {' '.join(running)}")


def _query(command: str) -> str:
    """Return what a shell command that changes nothing prints on the device."""
    output = host.get_fact(Command, command=command)
    return str(output or "").strip()


def _exists(path: str) -> bool:
    return bool(_query(f"ls {path} 2>/dev/null || :"))


def _put(path: str, content: str, mode: str = "644", group: str = "root") -> bool:
    """Put a file of root's with this content in place; returns whether it differs."""
    operation = files.put(
        name=path,
        src=StringIO(content),
        dest=path,
        mode=mode,
        user="root",
        group=group,
    )
    return bool(operation.will_change)


def _put_private(path: str, content: str) -> bool:
    """Put a file that root and the services alone may read; returns whether it differs."""
    return _put(path, content, mode="640", group=GROUP)


def _shell(name: str, *commands: str) -> None:
    server.shell(name=name, commands=list(commands))


def main() -> None:
    """Do the task on standard input; print progress and outcome as lines of JSON."""
    task = Task.from_json(sys.stdin.read())
    try:
        text = _run(task)
    except UnreachableError as problem:
        _print_outcome(OutcomeKind.UNREACHABLE, str(problem))
    except DeployError as problem:
        _print_outcome(OutcomeKind.FAILED, str(problem))
    else:
        _print_outcome(OutcomeKind.DONE, text)


def _print_outcome(kind: OutcomeKind, text: str) -> None:
    _print({"kind": kind, "text": text})


def _print_progress(line: str) -> None:
    _print({"progress": line})


def _print(message: dict[str, str]) -> None:
    texts = {key: brief(printable(text), _MAX_TEXT) for key, text in message.items()}
    sys.stdout.write(json.dumps(texts) + "\n")
    sys.stdout.flush()


def _run(task: Task) -> str:
    """Do the task; returns how it ended.

    Raises UnreachableError and DeployError with the reason.
    """
    device = task.device
    inventory = Inventory(([(device.host, _ssh_data(device))], {}))
    state = State(inventory, Config(SUDO=task.sudo, CONNECT_TIMEOUT=device.seconds))
    (pyinfra_host,) = state.inventory
    _connect(pyinfra_host, device)
    connection = MarkedConnection(
        pyinfra_host.connector.client,  # type: ignore[attr-defined]
        _QUERY_SECONDS,
    )
    _print({"connected": device.host})
    state.activate_host(pyinfra_host)
    try:
        return _carry_out(task, state, pyinfra_host, connection)
    except (PyinfraError, SSHException, OSError, EOFError) as problem:
        connection.check()
        reason = _failure_reason(state, pyinfra_host) or problem or type(problem).__name__
        raise DeployError(f"{device.host}: {device.without_name(reason)}") from None
    finally:
        pyinfra_host.disconnect()


def _carry_out(task: Task, state: State, pyinfra_host: Host, connection: MarkedConnection) -> str:
    """Do the task over a connection; returns how it ended. Raises also what pyinfra raises."""
    if task.sudo:
        _refuse_sudo_that_asks(connection)
    add_deploy(state, _operations(task))
    connection.check()
    if task.dry_run:
        return _print_commands(state, pyinfra_host)
    state.add_callback_handler(_ProgressPrinter())
    connection.seconds = task.timeout
    run_ops(state)
    connection.check()
    changes = sum(result.did_change() for _, result in _results(state, pyinfra_host))
    return f"{changes} changes" if changes else "nothing to change"


def _operations(task: Task) -> Operations:
    if task.setup is None:
        return removal_operations(task.purge)
    return setup_operations(task.setup)


def _connect(pyinfra_host: Host, device: Device) -> None:
    """Connect, again if sshd drops the connection before the login. Raises UnreachableError."""
    for attempt in range(1, starts.ATTEMPTS + 1):
        try:
            pyinfra_host.connect(raise_exceptions=True, show_errors=False)
            return
        except ConnectError as problem:
            if attempt == starts.ATTEMPTS or not _DROPPED.search(str(problem)):
                advice = f"check that 'ssh {device.host}' works"
                text = f"{device.host}: cannot be reached ({problem}); {advice}"
                raise UnreachableError(text) from None
        time.sleep(starts.delay(attempt))


def _refuse_sudo_that_asks(connection: MarkedConnection) -> None:
    """Raise DeployError unless sudo works without a password."""
    exit_code, errors = connection.run("sudo -n true")
    if exit_code and sudo_asks(errors):
        raise DeployError(f"{SUDO_ADVICE} with --no-sudo")


def _print_commands(state: State, pyinfra_host: Host) -> str:
    """Print the commands of all operations; returns how many there are."""
    count = 0
    with ctx_state.use(state), ctx_host.use(pyinfra_host):
        for operation in state.get_op_order():
            for command in state.get_op_data_for_host(pyinfra_host, operation).command_generator():
                for line in str(command).split("\n"):
                    _print_progress(line)
                count += 1
    return f"{count} commands, none run" if count else "nothing to change"


def _results(state: State, pyinfra_host: Host) -> Iterator[tuple[str, OperationMeta]]:
    """Yield the name and the result of each operation, in order."""
    for operation in state.get_op_order():
        result = state.get_op_data_for_host(pyinfra_host, operation).operation_meta
        yield _operation_name(state, operation), result


def _operation_name(state: State, operation: str) -> str:
    return ", ".join(state.get_op_meta(operation).names)


def _failure_reason(state: State, pyinfra_host: Host) -> str:
    """Return the name and the last line of the operation that failed; '' if none did."""
    for name, result in _results(state, pyinfra_host):
        if result.is_complete() and not result.did_succeed():
            output = [*result.stdout_lines, *result.stderr_lines]
            lines = [line for line in without_noise(output) if line.strip()]
            last_line = lines[-1] if lines else "it failed"
            return f"{name}: {brief(last_line)}; look at the device, then run the command again"
    return ""


def _ssh_data(device: Device) -> dict[str, str | int]:
    """Return pyinfra's data for the device's host and ssh options.

    Raises DeployError for an option that pyinfra has no word for.
    """
    user, _, name = device.host.rpartition("@")
    data: dict[str, str | int] = {"ssh_hostname": name, "ssh_strict_host_key_checking": "yes"}
    if user:
        data["ssh_user"] = user
    for option in device.options[1::2]:
        key, _, value = option.partition("=")
        key = key.lower()
        if key in _SSH_OPTIONS:
            data[_SSH_OPTIONS[key]] = int(value) if key == "port" else value
        elif key not in _IGNORED_SSH_OPTIONS:
            problem = "setup and remove do not support this option"
            raise DeployError(f"-o {option}: {problem}; put it into ~/.ssh/config")
    return data


class _ProgressPrinter(BaseStateCallback):
    """Print the name of each operation that changes something, when it starts."""

    @staticmethod
    def operation_host_start(state: State, host: Host, op_hash: str) -> None:
        operation = state.get_op_data_for_host(host, op_hash).operation_meta
        if operation.will_change:
            _print_progress(_operation_name(state, op_hash))


if __name__ == "__main__":
    main()
