"""A device's page in the browser here, through an SSH tunnel.

Nothing listens on the device's network. One connection starts the service, forwards the port and
says when both are done: ssh has bound the port before the device's shell is asked for anything.
"""

import http.client
import socket
import webbrowser
from collections.abc import Callable

from mien_edge.errors import DeployError

from mien_deploy import process
from mien_deploy.process import Limits
from mien_deploy.remote import Device, RemoteProcess, marked

_DEVICE_PORT = 8765
_START_SECONDS = 60.0
_PAGE_SECONDS = 10.0
_PAGE_BYTES = 100_000
_ATTEMPTS = 40
_ATTEMPT_SECONDS = 0.25
_SIGNS = (b"<title>mien</title>", b"?token=\xe2\x80\xa6 with the device's token")
"""In the page, and in its answer to who has no token."""

_READY = "the page is ready"
_START_VIEW = (
    "sudo -n systemctl start mien-view || systemctl --no-ask-password start mien-view || exit 1; "
    f"echo '{_READY}'; exec cat >/dev/null"
)


def view_page(device: Device, port: int, open_browser: bool, write: Callable[[str], None]) -> int:
    """Start mien-view on the device, open a tunnel to it, and keep it open until Ctrl-C.

    port: on this machine's 127.0.0.1; 0 for a free one.
    open_browser: whether to open the page in a browser, too.
    write: called with the line that tells the page's address.

    Returns 0 after Ctrl-C. Raises DeployError if the service cannot be started, the tunnel cannot
    be opened or ends, or what answers is not the device's page.
    """
    local_port = port or _free_port()
    is_ready = False
    try:
        for line in _tunnel(device, local_port):
            if line == _READY:
                is_ready = True
                _check_page(device, local_port)
                address = f"http://127.0.0.1:{local_port}/"
                write(f"{device.host}: {address} until you press Ctrl-C\n")
                if open_browser:
                    webbrowser.open(address)
    except KeyboardInterrupt:
        return 0
    except DeployError as problem:
        if is_ready:
            raise
        advice = f"see: mien-deploy doctor {device.host}; a port in use: choose another with --port"
        reason = f"the page cannot be opened ({device.without_name(problem)})"
        raise DeployError(f"{device.host}: {reason}; {advice}") from None
    raise DeployError(f"{device.host}: the tunnel has ended; run the command again")


def _tunnel(device: Device, port: int) -> RemoteProcess:
    forward = f"127.0.0.1:{port}:127.0.0.1:{_DEVICE_PORT}"
    # Of its own: a connection that is shared would keep the port after this command.
    options = ["-o", "ControlPath=none", "-o", "ExitOnForwardFailure=yes", "-L", forward]
    command = device.ssh(options, marked(_START_VIEW))
    return RemoteProcess(device, command, Limits(start=_START_SECONDS), keep_stdin=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _check_page(device: Device, port: int) -> None:
    """Raise DeployError unless mien's page answers, or asks for its token."""
    for attempt in range(_ATTEMPTS):
        content = _get(port)
        if content or attempt == _ATTEMPTS - 1:
            break
        process.pause(_ATTEMPT_SECONDS)
    if not content:
        advice = f"see: mien-deploy doctor {device.host}"
        problem = f"no page answers there on port {_DEVICE_PORT}"
        raise DeployError(f"{device.host}: {problem}; {advice}")
    if not any(sign in content for sign in _SIGNS):
        problem = f"what answers there on port {_DEVICE_PORT} is not mien's page"
        raise DeployError(f"{device.host}: {problem}; see what listens there: ss -ltnp")


def _get(port: int) -> bytes:
    """Return the beginning of the page; b'' if none is sent."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PAGE_SECONDS)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read(_PAGE_BYTES)
    except (OSError, http.client.HTTPException):
        return b""
    finally:
        connection.close()
