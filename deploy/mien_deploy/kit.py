"""What `setup` and `remove` do with a device, in a process per device (see provision.py)."""

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from mien_edge import textfiles
from mien_edge.errors import DeployError, RuntimeMissingError
from mien_edge.settings import Settings, SourceSettings, as_toml, parse_settings

from mien_deploy import starts, wheels
from mien_deploy.fleet import OutcomeKind, Progress, Result
from mien_deploy.process import LimitError, Limits, LocalProcess
from mien_deploy.remote import Device, UnreachableError

STEP_SECONDS = 1800.0
"""How long a step of `setup` may take, such as installing packages on a small device."""


@dataclass(frozen=True, slots=True)
class DeviceSetup:
    """What is put on a device.

    wheel: mien's.
    offline: whether to send the wheel's requirements along.
    settings: text of a mien.toml that replaces the device's; None to keep that.
    new_settings: text of a mien.toml for a device that has none.
    signers: content of allowed_signers, or ''.
    submit_key: a public SSH key that may submit bundles, or ''.
    """

    wheel: Path
    offline: bool
    settings: str | None
    new_settings: str
    signers: str
    submit_key: str

    @property
    def extra(self) -> str:
        """mien's extra: `edge`, with the demo's photograph, for the source demo, else `device`."""
        uri = parse_settings(self.settings or self.new_settings).source.uri
        if uri.startswith("demo"):
            return "edge"
        return "device"


def read_setup(
    wheel: Path | None,
    offline: bool,
    settings: Path | None,
    source: str,
    signers: Path | None,
    submit_key: Path | None,
) -> DeviceSetup:
    """Read the files that the command line names.

    wheel: None to build mien's wheel from this checkout.
    source: source.uri of settings for a device that has none.
    settings, signers, submit_key: files; None for none.

    Raises SettingsError for settings that are not valid, and DeployError for a file that cannot be
    read or is not a public key.
    """
    settings_text = None
    if wheel and not wheel.is_file():
        raise DeployError(f"{wheel}: no such file; name mien's wheel, which ends in .whl")
    if settings:
        settings_text = _read(settings)
        parse_settings(settings_text, str(settings))
    key = _read_public_key(submit_key) if submit_key else ""
    new_settings = replace(Settings(), source=SourceSettings(uri=source))
    return DeviceSetup(
        wheel=wheel or wheels.build_wheel(),
        offline=offline,
        settings=settings_text,
        new_settings=as_toml(new_settings),
        signers=_read(signers) if signers else "",
        submit_key=key,
    )


def _read(path: Path) -> str:
    return textfiles.read_text(path, DeployError, "name another file")


def _read_public_key(path: Path) -> str:
    key = _read(path).strip()
    if key and len(key.split()) < 2:
        raise DeployError(f"{path}: not a public SSH key; name the .pub file")
    return key


@dataclass(frozen=True, slots=True)
class Task:
    """What provision does with one device.

    setup: what to install; None to remove mien.
    purge: with removal: also remove log, models and settings.
    sudo: whether to become root with sudo; else the SSH user is root.
    dry_run: whether to print the commands and run none.
    timeout: seconds that a step may take.
    """

    device: Device
    setup: DeviceSetup | None
    purge: bool = False
    sudo: bool = True
    dry_run: bool = False
    timeout: float = STEP_SECONDS

    def to_json(self) -> str:
        """Return the task as JSON."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> "Task":
        """Read what `to_json` wrote."""
        values = json.loads(text)
        device = values.pop("device")
        device["options"] = tuple(device["options"])
        setup = values.pop("setup")
        if setup is None:
            return cls(Device(**device), None, **values)
        setup["wheel"] = Path(setup["wheel"])
        return cls(Device(**device), DeviceSetup(**setup), **values)


def run_in_subprocess(task: Task, progress: Progress) -> Result:
    """Do a task in a process of its own, for pyinfra has one state per process.

    Raises UnreachableError if the device cannot be reached, else DeployError with the reason, and
    RuntimeMissingError without pyinfra.
    """
    if find_spec("pyinfra") is None:
        raise RuntimeMissingError("pyinfra is not installed; pip install 'mien[deploy]'")
    host = task.device.host
    command = [sys.executable, "-P", "-m", "mien_deploy.provision"]
    limits = Limits(silence=task.timeout)
    local = LocalProcess(command, task.to_json().encode(), limits)
    outcome: dict[str, str] = {}
    place = starts.STARTS.begin()
    try:
        for message in _messages(local.lines()):
            starts.STARTS.end(place)
            if "progress" in message:
                progress(host, message["progress"])
            elif "kind" in message:
                outcome = message
    except LimitError as problem:
        advice = f"look at the device, or allow a step more with --timeout (now {task.timeout:g} s)"
        raise DeployError(f"{host}: {problem}; {advice}") from None
    finally:
        starts.STARTS.end(place)
    if not outcome:
        reason = local.errors[-1] if local.errors else f"it ended with code {local.exit_code}"
        raise DeployError(f"{host}: {reason}")
    return _result(OutcomeKind(outcome["kind"]), outcome["text"])


def _result(kind: OutcomeKind, text: str) -> Result:
    """Return the result, or raise the error, that the process reports."""
    if kind == OutcomeKind.UNREACHABLE:
        raise UnreachableError(text)
    if kind == OutcomeKind.FAILED:
        raise DeployError(text)
    return Result(kind, text)


def _messages(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    """Yield what provision prints: `connected`, `progress` for each step, at the end `kind` and
    `text`.
    """
    for line in lines:
        yield json.loads(line)
