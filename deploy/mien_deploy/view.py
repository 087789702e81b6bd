"""A device's page in the browser here, through an SSH tunnel.

Nothing listens on the device's network.
"""

import socket
import subprocess
import time
import webbrowser
from collections.abc import Callable

from mien_edge.errors import DeployError

from mien_deploy.remote import Device

_DEVICE_PORT = 8765
_TUNNEL_SECONDS = 30
_START_VIEW = "sudo -n systemctl start mien-view || systemctl start mien-view"


def view_page(device: Device, port: int, open_browser: bool, write: Callable[[str], None]) -> int:
    """Start mien-view on the device, open a tunnel to it, and keep it open until Ctrl-C.

    port: on this machine's 127.0.0.1.
    open_browser: whether to open the page in a browser, too.
    write: called with the line that tells the page's address.

    Returns 0 after Ctrl-C, else the exit code of ssh. Raises DeployError if the service cannot be
    started or the tunnel cannot be opened.
    """
    _start_view(device)
    forward = f"127.0.0.1:{port}:127.0.0.1:{_DEVICE_PORT}"
    command = device.ssh(["-N", "-o", "ExitOnForwardFailure=yes", "-L", forward])
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as tunnel:
        try:
            _wait_until_open(tunnel, device, port)
            address = f"http://127.0.0.1:{port}/"
            write(f"{device.host}: {address} until you press Ctrl-C\n")
            if open_browser:
                webbrowser.open(address)
            return tunnel.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            tunnel.terminate()


def _start_view(device: Device) -> None:
    result = subprocess.run(device.ssh([], _START_VIEW), capture_output=True, text=True)
    if result.returncode:
        lines = result.stderr.strip().splitlines() or ["no reason given"]
        advice = f"see: mien-deploy doctor {device.host}"
        raise DeployError(f"{device.host}: mien-view cannot be started ({lines[-1]}); {advice}")


def _wait_until_open(tunnel: "subprocess.Popen[bytes]", device: Device, port: int) -> None:
    deadline = time.monotonic() + _TUNNEL_SECONDS
    while time.monotonic() < deadline:
        if tunnel.poll() is not None:
            advice = f"ssh says why above; if port {port} is in use, choose another with --port"
            raise DeployError(f"{device.host}: the tunnel cannot be opened ({advice})")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise DeployError(f"{device.host}: the tunnel is not open after {_TUNNEL_SECONDS} s; try again")
