"""What setup puts on devices; and setup or removal of one device, in a process of its own (see machine.py)."""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mien_edge.errors import DeployError
from mien_edge.settings import Settings, SourceSettings, as_toml, parse_settings

from mien_deploy import wheels
from mien_deploy.fleet import Say
from mien_deploy.remote import Device, UnreachableError


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
        uri = parse_settings(self.settings or self.fresh).source.uri
        return "edge" if uri.startswith("demo") else "device"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"wheel": str(self.wheel)}

    @classmethod
    def of(cls, options: argparse.Namespace) -> "Kit":
        """From the command line. Raises DeployError for a file that cannot be read."""
        given = _text(options.settings) if options.settings else None
        if given is not None:
            parse_settings(given, str(options.settings))
        key = _text(options.submit_key).strip() if options.submit_key else ""
        if key and len(key.split()) < 2:
            raise DeployError(f"{options.submit_key}: not a public SSH key; name the .pub file")
        fresh = as_toml(replace(Settings(), source=SourceSettings(uri=options.source)))
        signers = _text(options.signers) if options.signers else ""
        return cls(options.wheel or wheels.own_wheel(), options.offline, given, fresh, signers, key)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise DeployError(f"{path}: cannot be read ({problem}); name another file") from None


def carry_out(task: dict[str, Any], device: Device, say: Say) -> tuple[str, str]:
    """Do what `task` says on one device: pyinfra's own state is one for a process, so each device has a process.

    Raises DeployError with the reason.
    """
    words = [sys.executable, "-P", "-m", "mien_deploy.provision"]
    asked = json.dumps(task | {"device": asdict(device)})
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as one:
        assert one.stdin is not None  # noqa: S101 - asked for above
        assert one.stdout is not None  # noqa: S101
        assert one.stderr is not None  # noqa: S101
        with one.stdin:
            one.stdin.write(asked)
        ending: dict[str, Any] = {}
        for line in one.stdout:
            told = json.loads(line)
            if "say" in told:
                say(device.host, told["say"])
            else:
                ending = told
        problem = one.stderr.read()
    if not ending:
        reason = (problem.strip().splitlines() or [f"it ended with code {one.returncode}"])[-1]
        raise DeployError(f"{device.host}: {reason}")
    if ending["kind"] != "done":
        raise (UnreachableError if ending["kind"] == "unreachable" else DeployError)(ending["text"])
    return "done", ending["text"]
