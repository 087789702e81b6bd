"""The command `mien-deploy`."""

import argparse
import json
import math
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from mien_edge import __version__
from mien_edge.commands.common import (
    Commands,
    MaskingParser,
    add_command,
    guarded,
    json_option,
    renamed_option,
)
from mien_edge.commands.purpose import purpose_options, use_from
from mien_edge.errors import DeployError
from mien_edge.model.bundle import load_bundle
from mien_edge.update import signing
from mien_edge.update.archive import pack

from mien_deploy import fleet
from mien_deploy.fleet import Outcome, OutcomeKind, Printer, Progress, Result
from mien_deploy.kit import STEP_SECONDS, DeviceSetup, Task, read_setup, run_in_subprocess
from mien_deploy.process import Limits
from mien_deploy.push import push_bundle, receive_arguments
from mien_deploy.remote import Device
from mien_deploy.view import view_page

PROGRAM = "sudo /opt/mien/venv/bin/mien-edge"
"""How to call mien-edge on a device that `setup` made."""

_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)

DEFAULT_KEY = Path("~/.ssh/id_ed25519")

_LOG_SECONDS = 120
_LOG_TOTAL_SECONDS = 3600.0
_LOG_BYTES = 1_000_000_000  # more than a log of a million readings


@dataclass(frozen=True, slots=True)
class RemoteCommand:
    """A command here that runs one of mien-edge on each device and prints the answers.

    name, help: of the command here.
    arguments: of mien-edge on the device.
    timeout: seconds that a device may take, unless the user says otherwise.
    accepted_exit_codes: the exit codes of mien-edge that are an answer; any other is a failure.
    """

    name: str
    help: str
    arguments: tuple[str, ...]
    timeout: float
    accepted_exit_codes: tuple[int, ...] = (0,)


REMOTE_COMMANDS = (
    RemoteCommand(
        "status",
        "show the status of the services on devices",
        ("status",),
        timeout=60,
        accepted_exit_codes=(0, 1),
    ),
    RemoteCommand(
        "doctor",
        "look for problems of devices and show their fixes",
        ("doctor", "--settings", "/etc/mien/mien.toml"),
        timeout=180,
        accepted_exit_codes=(0, 1, 2),
    ),
    RemoteCommand(
        "check",
        "replay the golden vectors of the current bundle on devices",
        ("check",),
        timeout=300,
    ),
    RemoteCommand(
        "models",
        "list the bundles on devices",
        ("models", "list"),
        timeout=60,
    ),
    RemoteCommand(
        "rollback",
        "return to the bundle that was committed before",
        ("models", "rollback"),
        timeout=120,
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    arguments: the words after `mien-deploy`; None for those of this process.

    Returns the exit code: 0 for success, 1 if any device failed (one line each), 3 if a push ended
    before probation. Raises SystemExit with 2 for wrong usage, and with 0 after --help.
    """
    earlier = {number: signal.signal(number, _interrupt) for number in _ENDING_SIGNALS}
    try:
        return guarded("mien-deploy", parser, arguments)
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: object) -> None:
    """End as after Ctrl-C: with every program that was started. A signal handler."""
    raise KeyboardInterrupt


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands and options."""
    top = MaskingParser(
        prog="mien-deploy",
        description="Set up and update devices from this workstation, over SSH.",
    )
    top.add_argument("--version", action="version", version=f"mien-deploy {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_sign(commands)
    _add_setup(commands)
    _add_remove(commands)
    _add_push(commands)
    for command in REMOTE_COMMANDS:
        remote = add_command(commands, command.name, command.help, partial(_ask, command))
        _add_hosts(remote)
        _add_timeout(remote, command.timeout, "a device may take")
    _add_logs(commands)
    _add_view(commands)
    return top


# --- options and values that commands share -----------------------------------------------------


def _add_hosts(parser: argparse.ArgumentParser) -> None:
    """Add the hosts of a command for several devices."""
    help_text = "a host as ssh knows it, a group of the inventory, or all"
    parser.add_argument("hosts", nargs="+", metavar="HOST", help=help_text)
    parser.add_argument(
        "--inventory",
        type=Path,
        metavar="FILE",
        help="TOML file with groups of hosts",
    )
    _add_ssh_options(parser)


def _add_host(parser: argparse.ArgumentParser) -> None:
    """Add the host of a command for one device."""
    help_text = "a host as ssh knows it: name, user@name or alias"
    parser.add_argument("hosts", nargs=1, metavar="HOST", help=help_text)
    parser.set_defaults(inventory=None)
    _add_ssh_options(parser)


def _add_ssh_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--program",
        default=PROGRAM,
        help=f"how to call mien-edge on the device (default: {PROGRAM})",
    )
    parser.add_argument(
        "-o",
        "--ssh-option",
        action="append",
        default=[],
        metavar="OPTION",
        help="option that is passed to ssh with -o",
    )


def _add_timeout(parser: argparse.ArgumentParser, default: float, what: str) -> None:
    """Add --timeout.

    what: a phrase that begins with what has the time.
    """
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=default,
        metavar="SECONDS",
        help=f"how long {what} (default: {default:g})",
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0; write 60")
    return seconds


def _add_dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="print the commands and run none")


def _devices(options: argparse.Namespace) -> list[Device]:
    """Return the devices that `_add_hosts` or `_add_host` took. Raises DeployError."""
    ssh_options: list[str] = []
    for option in options.ssh_option:
        ssh_options += ["-o", option]
    hosts = fleet.hosts(options.hosts, options.inventory)
    return [Device(host, options.program, tuple(ssh_options)) for host in hosts]


def _printer(devices: Sequence[Device]) -> Printer:
    hosts = [device.host for device in devices]
    return Printer(hosts, _write, coloured=sys.stdout.isatty())


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _print_error(host: str, text: str) -> None:
    sys.stderr.write(f"mien-deploy: error: {host}: {text}\n")
    sys.stderr.flush()


def _no_progress(host: str, line: str) -> None:
    """Print nothing. A Progress."""


def _print_table(outcomes: Sequence[Outcome]) -> None:
    print(f"\n{fleet.table(outcomes)}")  # noqa: T201


# --- status, doctor, check, models, rollback ----------------------------------------------------


def _ask(command: RemoteCommand, options: argparse.Namespace) -> int:
    """Run mien-edge on all devices in parallel; print each answer when it is there, as a whole and
    behind its device's name.

    A failure is printed to stderr as an error. Returns the exit code.
    """
    devices = _devices(options)
    printer = _printer(devices)

    def work(device: Device, progress: Progress) -> Result:
        answer = device.run(
            command.arguments,
            accepted_exit_codes=command.accepted_exit_codes,
            seconds=options.timeout,
        )
        return Result(OutcomeKind.DONE, answer)

    def report(outcome: Outcome) -> None:
        if outcome.kind == OutcomeKind.DONE:
            for line in outcome.text.split("\n"):
                printer(outcome.host, line)
        else:
            _print_error(outcome.host, outcome.text)

    outcomes = fleet.on_each(devices, work, _no_progress, report=report)
    return fleet.exit_code(outcomes)


# --- sign ---------------------------------------------------------------------------------------


def _add_sign(commands: Commands) -> None:
    help_text = "sign a bundle with an SSH key, so that devices accept it"
    parser = add_command(commands, "sign", help_text, _sign)
    parser.add_argument("bundle", type=Path, help="folder of the bundle")
    key_help = "private key, or the .pub file of one that your agent or security key holds"
    parser.add_argument(
        "--key",
        type=Path,
        default=DEFAULT_KEY,
        metavar="FILE",
        help=f"{key_help} (default: {DEFAULT_KEY})",
    )
    parser.add_argument(
        "--principal",
        default="mien",
        metavar="NAME",
        help="principal in allowed_signers: the name of the signer (default: mien)",
    )
    renamed_option(parser, "--who", "--principal")


def _sign(options: argparse.Namespace) -> None:
    signing.check_principal(options.principal)
    bundle = load_bundle(options.bundle)
    key = options.key.expanduser()
    signature = signing.sign(bundle.folder, key)
    public_key = key if key.suffix == ".pub" else Path(f"{key}.pub")
    line = signing.verified_signers_line(bundle.folder, options.principal, public_key)
    advice = "a device accepts it with this line (setup --signers FILE):"
    sys.stderr.write(f"{signature}: {bundle.card.id} is signed; {advice}\n")
    print(line, end="")  # noqa: T201


# --- push ---------------------------------------------------------------------------------------


def _add_push(commands: Commands) -> None:
    help_text = "send a bundle to devices; each verifies it and runs it on probation"
    parser = add_command(commands, "push", help_text, _push)
    parser.add_argument("bundle", type=Path, help="folder of the bundle")
    _add_hosts(parser)
    parser.add_argument(
        "--waves",
        default="100%",
        metavar="PLAN",
        help="send in waves, such as 1,10%%,100%%, and stop when one fails (default: 100%%)",
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=300,
        metavar="SECONDS",
        help="wait up to this long for the end of probation (default: 300)",
    )
    renamed_option(parser, "--wait", "--timeout")
    parser.add_argument(
        "--allow-downgrade",
        action="store_true",
        help="send an older version than the newest that has run there",
    )
    _add_dry_run(parser)
    parser.add_argument(
        "--json",
        action="store_true",
        help="print only the outcomes, as JSON, at the end",
    )


def _push(options: argparse.Namespace) -> int:
    bundle = load_bundle(options.bundle)
    devices = _devices(options)
    if not options.json:
        sys.stderr.write(f"{bundle.card.id}: labels {', '.join(bundle.card.labels)}\n")
    if options.dry_run:
        arguments = receive_arguments(options.timeout, options.allow_downgrade)
        _print_plan(devices, options.waves, arguments, bundle.card.id)
        return 0
    archive = pack(bundle.folder)

    def work(device: Device, progress: Progress) -> Result:
        return push_bundle(
            device,
            bundle.card.id,
            archive,
            options.timeout,
            options.allow_downgrade,
            progress,
        )

    progress = _no_progress if options.json else _printer(devices)
    outcomes = fleet.roll_out(devices, work, options.waves, progress)
    if options.json:
        print(json.dumps([asdict(outcome) for outcome in outcomes]))  # noqa: T201
    else:
        _print_table(outcomes)
    return fleet.exit_code(outcomes)


def _print_plan(
    devices: Sequence[Device],
    waves: str,
    arguments: Sequence[str],
    bundle: str,
) -> None:
    """Print the waves and the command for each device."""
    for wave, reached in enumerate(fleet.waves(waves, len(devices)), start=1):
        print(f"# wave {wave}: up to device {reached} of {len(devices)}")  # noqa: T201
    for device in devices:
        command = shlex.join(device.command(arguments))
        print(f"{command} < {bundle}.tar")  # noqa: T201


# --- logs ---------------------------------------------------------------------------------------


def _add_logs(commands: Commands) -> None:
    parser = add_command(commands, "logs", "read the logs of devices", _logs)
    _add_hosts(parser)
    parser.add_argument(
        "--since",
        metavar="TIME",
        help="only entries since 15m, 1h or 7d ago, or since an ISO date or time",
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="keep running and print new entries of all devices as they are committed",
    )
    _add_timeout(parser, _LOG_SECONDS, "a device may say nothing; with --follow, until it answers")
    parser.add_argument(
        "--summary",
        action="store_true",
        help="print the emotion shares of each hour",
    )
    json_option(parser)


def _logs(options: argparse.Namespace) -> int:
    arguments = ["logs"]
    if options.since:
        arguments += ["--since", options.since]
    if options.follow:
        arguments.append("--follow")
    if options.summary:
        arguments.append("--summary")
    if options.json:
        arguments.append("--json")
    devices = _devices(options)
    if options.follow:
        limits = Limits(start=options.timeout)
        return _print_lines(devices, arguments, limits, _max_followed(devices))
    limits = Limits(
        start=options.timeout,
        silence=options.timeout,
        total=max(options.timeout, _LOG_TOTAL_SECONDS),
        size=_LOG_BYTES,
    )
    return _print_lines(devices, arguments, limits, fleet.MAX_PARALLEL)


def _max_followed(devices: Sequence[Device]) -> int:
    """Return how many devices are followed: all. Raises DeployError for too many."""
    if len(devices) > fleet.MAX_FOLLOWED:
        problem = (
            f"{len(devices)} devices are more than the {fleet.MAX_FOLLOWED} that it can follow"
        )
        raise DeployError(f"logs --follow: {problem}; name a group, or leave out --follow")
    return len(devices)


def _print_lines(
    devices: Sequence[Device], arguments: Sequence[str], limits: Limits, max_parallel: int
) -> int:
    """Print the lines of all devices as they come; returns the exit code when all have ended.

    A failure is printed to stderr as an error, as soon as it is there.
    """

    def work(device: Device, progress: Progress) -> Result:
        for line in device.stream(arguments, limits):
            progress(device.host, line)
        return Result(OutcomeKind.DONE, "it ended")

    def report(outcome: Outcome) -> None:
        if outcome.kind != OutcomeKind.DONE:
            _print_error(outcome.host, outcome.text)

    printer = _printer(devices)
    outcomes = fleet.on_each(devices, work, printer, report=report, max_parallel=max_parallel)
    return fleet.exit_code(outcomes)


# --- view ---------------------------------------------------------------------------------------


def _add_view(commands: Commands) -> None:
    help_text = "open the web page of a device, through an SSH tunnel"
    parser = add_command(commands, "view", help_text, _view)
    _add_host(parser)
    parser.add_argument(
        "--port",
        type=_port,
        default=0,
        metavar="N",
        help="port on this workstation (default: a free one)",
    )
    parser.add_argument(
        "--no-browser",
        action="store_true",
        help="print the address and open no browser",
    )


def _port(text: str) -> int:
    if not text.isdecimal() or int(text[:6]) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; write one from 1 to 65535")
    return int(text)


def _view(options: argparse.Namespace) -> int:
    (device,) = _devices(options)
    return view_page(device, options.port, not options.no_browser, _write)


# --- setup, remove ------------------------------------------------------------------------------


def _add_setup(commands: Commands) -> None:
    help_text = "install mien on a fresh Raspberry Pi OS; a second run changes nothing"
    parser = add_command(commands, "setup", help_text, _setup)
    _add_provision_options(parser)
    parser.add_argument(
        "--wheel",
        type=Path,
        metavar="FILE",
        help="wheel of mien (default: built from this checkout)",
    )
    parser.add_argument(
        "--offline",
        action="store_true",
        help="send all packages along, for a device without internet",
    )
    parser.add_argument(
        "--settings",
        type=Path,
        metavar="FILE",
        help="mien.toml to install (default: the device's own, else built-in settings)",
    )
    purpose_options(parser)
    parser.add_argument(
        "--source",
        default="picamera",
        metavar="URI",
        help="source.uri of new settings (default: picamera)",
    )
    parser.add_argument(
        "--signers",
        type=Path,
        metavar="FILE",
        help="allowed_signers file: whose bundles the device accepts",
    )
    parser.add_argument(
        "--submit-key",
        type=Path,
        metavar="FILE",
        help="public SSH key that may send bundles and do nothing else",
    )


def _add_remove(commands: Commands) -> None:
    help_text = "remove mien from devices; log, models and settings stay, unless --purge is given"
    parser = add_command(commands, "remove", help_text, _remove)
    _add_provision_options(parser)
    parser.add_argument("--purge", action="store_true", help="also remove log, models and settings")


def _add_provision_options(parser: argparse.ArgumentParser) -> None:
    _add_hosts(parser)
    _add_dry_run(parser)
    parser.add_argument(
        "--no-sudo",
        action="store_true",
        help="do not use sudo; the SSH user is root",
    )
    _add_timeout(parser, STEP_SECONDS, "one step may take")


def _setup(options: argparse.Namespace) -> int:
    setup = read_setup(
        wheel=options.wheel,
        offline=options.offline,
        settings=options.settings,
        use=None if options.settings else use_from(options),
        source=options.source,
        signers=options.signers,
        submit_key=options.submit_key,
    )
    return _provision(options, setup)


def _remove(options: argparse.Namespace) -> int:
    return _provision(options, setup=None, purge=options.purge)


def _provision(options: argparse.Namespace, setup: DeviceSetup | None, purge: bool = False) -> int:
    """Set up all devices in parallel, or remove mien from them; returns the exit code."""

    def work(device: Device, progress: Progress) -> Result:
        task = Task(
            device,
            setup,
            purge,
            sudo=not options.no_sudo,
            dry_run=options.dry_run,
            timeout=options.timeout,
        )
        return run_in_subprocess(task, progress)

    devices = _devices(options)
    outcomes = fleet.on_each(devices, work, _printer(devices))
    _print_table(outcomes)
    return fleet.exit_code(outcomes)
