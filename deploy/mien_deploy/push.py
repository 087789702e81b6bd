"""Sending a bundle: each device verifies, replays and tries it, and tells how its probation ended."""

from mien_edge.commands.models import NOT_JUDGED

from mien_deploy.fleet import Say
from mien_deploy.remote import Device


def arguments(timeout: float, allow_downgrade: bool) -> list[str]:
    """What is called on the device, with the bundle on its standard input."""
    return ["receive", "--timeout", f"{timeout:g}", *(["--allow-downgrade"] if allow_downgrade else [])]


def push(name: str, content: bytes, device: Device, say: Say, timeout: float, allow_downgrade: bool) -> tuple[str, str]:
    """Send a packed bundle to one device and follow it to its verdict: the kind of outcome, and the device's last word.

    name: what the bundle is called, for people. content: as receive.packed made it. Raises DeployError with the
    device's reason; what it ran before then runs on.
    """
    last, kind = "", "done"
    say(device.host, f"sending {name}, {len(content) / 1e6:.1f} MB")

    def ended(code: int) -> None:
        nonlocal kind
        kind = "not judged" if code == NOT_JUDGED else kind

    for last in device.stream(arguments(timeout, allow_downgrade), content, good=[0, NOT_JUDGED], ended=ended):
        say(device.host, last)
    return kind, last
