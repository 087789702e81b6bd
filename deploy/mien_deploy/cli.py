"""The command `mien-deploy`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mien_edge import __version__
from mien_edge import bundle as bundles
from mien_edge.cli import add_command, guarded
from mien_edge.errors import MienError

from mien_deploy import remote
from mien_deploy.remote import Device

_AT_ONCE = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 for success, 1 if any device failed (one line each), 2 for usage."""
    return guarded("mien-deploy", parser(), arguments)


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    top = argparse.ArgumentParser(prog="mien-deploy", description="From this workstation to devices, over SSH.")
    top.add_argument("--version", action="version", version=f"mien-deploy {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    push = add_command(commands, "push", "send a bundle to devices, which verify, replay and activate it", _push)
    push.add_argument("bundle", type=Path, help="folder of the bundle")
    _hosts(push)
    check = add_command(commands, "check", "replay the current bundle's golden vectors on devices", _check)
    _hosts(check)
    models = add_command(commands, "models", "list the bundles on devices", _models)
    _hosts(models)
    activate = add_command(commands, "activate", "go back, or on, to a bundle that is on the devices", _activate)
    activate.add_argument("name", help="NAME-VERSION as `models` prints it")
    _hosts(activate)
    logs = add_command(commands, "logs", "read a device's log", _logs)
    _hosts(logs)
    logs.add_argument("--since", metavar="TIME", help="from 15m, 1h, 7d ago, or an ISO date or time")
    logs.add_argument("--follow", action="store_true", help="print readings as they are committed (one device)")
    logs.add_argument("--summary", action="store_true", help="emotion shares per hour")
    logs.add_argument("--json", action="store_true", help="print JSON")
    return top


def _hosts(command: argparse.ArgumentParser) -> None:
    command.add_argument("hosts", nargs="+", metavar="HOST", help="as ssh knows it: name, user@name or alias")
    command.add_argument("--program", default="mien-edge", help="mien-edge on the device (default: mien-edge)")
    command.add_argument("-o", "--ssh-option", action="append", default=[], metavar="OPTION", help="for ssh, as its -o")


def _devices(options: argparse.Namespace) -> list[Device]:
    extra = tuple(word for option in options.ssh_option for word in ("-o", option))
    return [Device(host, options.program, extra) for host in options.hosts]


def _on_each(options: argparse.Namespace, work: Callable[[Device], str]) -> int:
    """Work on all devices at once; one that fails gets its own line and does not stop the others."""
    devices = _devices(options)

    def attempt(device: Device) -> tuple[str, bool]:
        try:
            return work(device), True
        except MienError as problem:
            return str(problem), False

    failed = False
    with ThreadPoolExecutor(min(len(devices), _AT_ONCE)) as pool:
        for device, (text, worked) in zip(devices, pool.map(attempt, devices), strict=True):
            if worked:
                print("\n".join(f"{device.host}: {line}" for line in text.splitlines()))  # noqa: T201
            else:
                sys.stderr.write(f"mien-deploy: error: {text}\n")
                failed = True
    return int(failed)


def _push(options: argparse.Namespace) -> int:
    bundle = bundles.load(options.bundle)
    return _on_each(options, lambda device: remote.push(bundle, device))


def _check(options: argparse.Namespace) -> int:
    return _on_each(options, lambda device: device.run(["check"]))


def _models(options: argparse.Namespace) -> int:
    return _on_each(options, lambda device: device.run(["models", "list"]))


def _activate(options: argparse.Namespace) -> int:
    return _on_each(options, lambda device: device.run(["models", "activate", options.name]))


def _logs(options: argparse.Namespace) -> int:
    arguments = ["logs"]
    arguments += ["--since", options.since] if options.since else []
    arguments += [f"--{name}" for name in ("follow", "summary", "json") if getattr(options, name)]
    if options.follow:
        for line in _devices(options)[0].stream(arguments):
            print(line, flush=True)  # noqa: T201
        return 0
    return _on_each(options, lambda device: device.run(arguments))
