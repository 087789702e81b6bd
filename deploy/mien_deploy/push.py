"""Sending a bundle: a device verifies it, replays its golden vectors, and runs it on probation."""

from mien_edge.commands.models import NOT_JUDGED

from mien_deploy.fleet import OutcomeKind, Progress, Result
from mien_deploy.remote import Device


def receive_arguments(timeout: float, allow_downgrade: bool) -> list[str]:
    """Return the arguments of mien-edge on the device; the bundle comes on its standard input.

    timeout: seconds to wait for the end of probation.
    allow_downgrade: whether an older version than the newest that has run there is accepted.
    """
    arguments = ["receive", "--timeout", f"{timeout:g}"]
    if allow_downgrade:
        arguments.append("--allow-downgrade")
    return arguments


def push_bundle(
    device: Device,
    name: str,
    archive: bytes,
    timeout: float,
    allow_downgrade: bool,
    progress: Progress,
) -> Result:
    """Send a packed bundle to one device and follow it to the end of its probation.

    name: the bundle's name in messages.
    archive: the bundle as `mien_edge.update.archive.pack` returns it.
    timeout, allow_downgrade: as for `receive_arguments`.

    Returns DONE or, if the timeout was over before probation, NOT_JUDGED, with the device's last
    line. Raises DeployError with the device's reason; the device then keeps what it ran before.
    """
    progress(device.host, f"sending {name}, {len(archive) / 1e6:.1f} MB")
    process = device.stream(receive_arguments(timeout, allow_downgrade), archive, (0, NOT_JUDGED))
    last_line = ""
    for line in process:
        progress(device.host, line)
        last_line = line
    if process.exit_code == NOT_JUDGED:
        return Result(OutcomeKind.NOT_JUDGED, last_line)
    return Result(OutcomeKind.DONE, last_line)
