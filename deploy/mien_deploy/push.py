"""Sending a bundle: a device verifies it, replays its golden vectors, and runs it on probation."""

from mien_edge.commands.models import NOT_JUDGED

from mien_deploy.fleet import OutcomeKind, Progress, Result
from mien_deploy.process import Limits
from mien_deploy.remote import ANSWER_BYTES, Device

_INSTALL_SECONDS = 120.0
"""How long a device may take to verify a bundle and replay its golden data."""

_SEND_SECONDS = 600.0


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
    silence = timeout + _INSTALL_SECONDS
    limits = Limits(silence=silence, total=silence + _SEND_SECONDS, size=ANSWER_BYTES)
    # A key that may submit only runs the command that the device has for it.
    process = device.stream(
        receive_arguments(timeout, allow_downgrade),
        limits,
        archive,
        accepted_exit_codes=(0, NOT_JUDGED),
        accept_unmarked=True,
    )
    last_line = ""
    for line in process:
        progress(device.host, line)
        last_line = line or last_line
    if process.exit_code == NOT_JUDGED:
        return Result(OutcomeKind.NOT_JUDGED, last_line)
    return Result(OutcomeKind.DONE, last_line)
