"""The command `mien-deploy`."""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from mien_edge import __version__
from mien_edge.commands.common import add_command, guarded, renamed_option
from mien_edge.commands.models import NOT_JUDGED
from mien_edge.model.bundle import load_bundle
from mien_edge.update import signing
from mien_edge.update.archive import pack

from mien_deploy import fleet, push
from mien_deploy.fleet import Outcome, Printer, Say
from mien_deploy.remote import Device

PROGRAM = "sudo /opt/mien/venv/bin/mien-edge"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 for success, 1 if any device failed (one line each), 2 for usage."""
    return guarded("mien-deploy", parser(), arguments)


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    top = argparse.ArgumentParser(
        prog="mien-deploy", description="Set up and update devices from this workstation, over SSH."
    )
    top.add_argument("--version", action="version", version=f"mien-deploy {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_sign(commands)
    _add_setup(commands)
    _add_push(commands)
    for name, text in (
        ("status", "show the status of the services on devices"),
        ("doctor", "look for problems of devices and show their fixes"),
        ("check", "replay the golden vectors of the current bundle on devices"),
        ("models", "list the bundles on devices"),
        ("rollback", "return to the bundle that was committed before"),
    ):
        _hosts(add_command(commands, name, text, partial(_ask, *_ANSWERS[name])))
    logs = add_command(commands, "logs", "read the logs of devices", _logs)
    _hosts(logs)
    logs.add_argument(
        "--since", metavar="TIME", help="only entries since 15m, 1h or 7d ago, or since an ISO date or time"
    )
    logs.add_argument(
        "--follow", action="store_true", help="keep running and print new entries of all devices as they are committed"
    )
    logs.add_argument("--summary", action="store_true", help="print the emotion shares of each hour")
    logs.add_argument("--json", action="store_true", help="print JSON")
    view = add_command(commands, "view", "open the web page of a device, through an SSH tunnel", _view)
    _host(view)
    view.add_argument("--port", type=int, default=8765, metavar="N", help="port on this workstation (default: 8765)")
    view.add_argument("--no-browser", action="store_true", help="print the address and open no browser")
    return top


def _hosts(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "hosts", nargs="+", metavar="HOST", help="a host as ssh knows it, a group of the inventory, or all"
    )
    command.add_argument("--inventory", type=Path, metavar="FILE", help="TOML file with groups of hosts")
    _ssh_options(command)


def _host(command: argparse.ArgumentParser) -> None:
    command.add_argument("hosts", nargs=1, metavar="HOST", help="a host as ssh knows it: name, user@name or alias")
    command.set_defaults(inventory=None)
    _ssh_options(command)


def _ssh_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--program", default=PROGRAM, help=f"how to call mien-edge on the device (default: {PROGRAM})")
    command.add_argument(
        "-o", "--ssh-option", action="append", default=[], metavar="OPTION", help="option that is passed to ssh with -o"
    )


def _devices(options: argparse.Namespace) -> list[Device]:
    extra = tuple(word for option in options.ssh_option for word in ("-o", option))
    return [Device(host, options.program, extra) for host in fleet.hosts(options.hosts, options.inventory)]


def _printer(devices: Sequence[Device]) -> Printer:
    return Printer([device.host for device in devices], _whole, sys.stdout.isatty())


def _whole(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _quiet(host: str, line: str) -> None:
    """Says nothing."""


_ANSWERS: dict[str, tuple[list[str], list[int]]] = {
    "status": (["status"], [0, 1]),
    "doctor": (["doctor", "--settings", "/etc/mien/mien.toml"], [0, 1, 2]),
    "check": (["check"], [0]),
    "models": (["models", "list"], [0]),
    "rollback": (["models", "rollback"], [0]),
}
"""What is called on the device, and the exit codes that are an answer and no failure."""


def _ask(words: list[str], good: list[int], options: argparse.Namespace) -> int:
    return _tell_each(options, lambda device: device.run(words, good=good))


def _tell_each(options: argparse.Namespace, ask: Callable[[Device], str]) -> int:
    """Ask all at once; print each answer behind its device's name, and each failure as an error."""
    devices = _devices(options)
    outcomes = fleet.on_each(devices, lambda device, _: ("done", ask(device)), _quiet)
    printer = _printer(devices)
    for outcome in outcomes:
        if outcome.kind == "done":
            for line in outcome.text.splitlines():
                printer(outcome.host, line)
        else:
            sys.stderr.write(f"mien-deploy: error: {outcome.host}: {outcome.text}\n")
    return int(any(outcome.kind != "done" for outcome in outcomes))


def _add_sign(commands: argparse._SubParsersAction) -> None:
    sign = add_command(commands, "sign", "sign a bundle with an SSH key, so that devices accept it", _sign)
    sign.add_argument("bundle", type=Path, help="folder of the bundle")
    sign.add_argument(
        "--key", type=Path, default=Path("~/.ssh/id_ed25519"), metavar="FILE",
        help="private key, or the .pub file of one that your agent or security key holds (default: ~/.ssh/id_ed25519)",
    )  # fmt: skip
    principal = "principal in allowed_signers: the name of the signer (default: mien)"
    sign.add_argument("--principal", default="mien", metavar="NAME", help=principal)
    renamed_option(sign, "--who", "--principal")


def _sign(options: argparse.Namespace) -> None:
    bundle = load_bundle(options.bundle)
    key = options.key.expanduser()
    made = signing.sign(bundle.folder, key)
    public = key if key.suffix == ".pub" else Path(f"{key}.pub")
    sys.stderr.write(f"{made}: {bundle.card.id} is signed; a device takes it with this line (setup --signers FILE):\n")
    print(signing.allowed_signers_line(options.principal, public), end="")  # noqa: T201


def _add_push(commands: argparse._SubParsersAction) -> None:
    send = add_command(commands, "push", "send a bundle to devices; each verifies it and runs it on probation", _push)
    send.add_argument("bundle", type=Path, help="folder of the bundle")
    _hosts(send)
    send.add_argument(
        "--waves",
        default="100%",
        metavar="PLAN",
        help="send in waves, such as 1,10%%,100%%, and stop when one fails (default: 100%%)",
    )
    timeout = "wait up to this long for the end of probation (default: 300)"
    send.add_argument("--timeout", type=float, default=300, metavar="SECONDS", help=timeout)
    renamed_option(send, "--wait", "--timeout")
    send.add_argument(
        "--allow-downgrade", action="store_true", help="send an older version than the newest that has run there"
    )
    send.add_argument("--dry-run", action="store_true", help="print the commands and run none")
    send.add_argument("--json", action="store_true", help="print only the outcomes, as JSON, at the end")


def _push(options: argparse.Namespace) -> int:
    bundle, devices = load_bundle(options.bundle), _devices(options)
    if options.dry_run:
        words = push.arguments(options.timeout, options.allow_downgrade)
        for number, reached in enumerate(fleet.waves(options.waves, len(devices)), start=1):
            print(f"# wave {number}: up to device {reached} of {len(devices)}")  # noqa: T201
        for device in devices:
            print(f"{shlex.join(device.command(words))} < {bundle.card.id}.tar")  # noqa: T201
        return 0

    content = pack(bundle.folder)

    def work(device: Device, say: Say) -> tuple[str, str]:
        return push.push(bundle.card.id, content, device, say, options.timeout, options.allow_downgrade)

    said: Say = _quiet if options.json else _printer(devices)
    outcomes = fleet.roll_out(devices, work, options.waves, said)
    return _summary(outcomes, options.json)


def _summary(outcomes: Sequence[Outcome], as_json: bool) -> int:
    if as_json:
        print(json.dumps([asdict(outcome) for outcome in outcomes]))  # noqa: T201
    else:
        print(f"\n{fleet.table(outcomes)}")  # noqa: T201
    kinds = {outcome.kind for outcome in outcomes}
    return 0 if kinds <= {"done"} else NOT_JUDGED if kinds <= {"done", "not judged"} else 1


def _logs(options: argparse.Namespace) -> int:
    words = ["logs"]
    words += ["--since", options.since] if options.since else []
    words += [f"--{name}" for name in ("follow", "summary", "json") if getattr(options, name)]
    if not options.follow:
        return _tell_each(options, lambda device: device.run(words))
    devices = _devices(options)
    printer = _printer(devices)

    def follow(device: Device, say: Say) -> tuple[str, str]:
        for line in device.stream(words):
            printer(device.host, line)
        return "done", "it ended"

    outcomes = fleet.on_each(devices, follow, printer)
    return int(any(outcome.kind != "done" for outcome in outcomes))


def _view(options: argparse.Namespace) -> int:
    from mien_deploy import view

    (device,) = _devices(options)
    return view.view(device, options.port, not options.no_browser, _whole)


def _add_setup(commands: argparse._SubParsersAction) -> None:
    setup = add_command(
        commands, "setup", "install mien on a fresh Raspberry Pi OS; a second run changes nothing", _setup
    )
    _machine(setup)
    setup.add_argument("--wheel", type=Path, metavar="FILE", help="wheel of mien (default: built from this checkout)")
    setup.add_argument("--offline", action="store_true", help="send all packages along, for a device without internet")
    setup.add_argument(
        "--settings",
        type=Path,
        metavar="FILE",
        help="mien.toml to install (default: the device's own, else built-in settings)",
    )
    setup.add_argument(
        "--source", default="picamera", metavar="URI", help="source.uri of new settings (default: picamera)"
    )
    setup.add_argument(
        "--signers", type=Path, metavar="FILE", help="allowed_signers file: whose bundles the device accepts"
    )
    setup.add_argument(
        "--submit-key", type=Path, metavar="FILE", help="public SSH key that may send bundles and do nothing else"
    )
    remove = add_command(
        commands, "remove", "remove mien from devices; log, models and settings stay, unless --purge is given", _remove
    )
    _machine(remove)
    remove.add_argument("--purge", action="store_true", help="also remove log, models and settings")


def _machine(command: argparse.ArgumentParser) -> None:
    _hosts(command)
    command.add_argument("--dry-run", action="store_true", help="print the commands and run none")
    command.add_argument("--no-sudo", action="store_true", help="do not use sudo; the SSH user is root")


def _setup(options: argparse.Namespace) -> int:
    from mien_deploy import kit as setups

    kit = setups.Kit.of(options)
    return _on_machines(options, {"action": "setup", "kit": kit.as_dict()})


def _remove(options: argparse.Namespace) -> int:
    return _on_machines(options, {"action": "remove", "purge": options.purge})


def _on_machines(options: argparse.Namespace, task: dict[str, Any]) -> int:
    from mien_deploy import kit as setups

    devices, task = _devices(options), task | {"sudo": not options.no_sudo, "dry": options.dry_run}
    outcomes = fleet.on_each(devices, partial(setups.carry_out, task), _printer(devices))
    return _summary(outcomes, as_json=False)
