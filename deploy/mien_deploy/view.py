"""A device's page in the browser here, through an SSH tunnel: nothing listens on the device's network."""

import socket
import subprocess
import time
import webbrowser
from collections.abc import Callable

from mien_edge.errors import DeployError

from mien_deploy.remote import Device

_PAGE = 8765  # the device's port
_SECONDS = 30


def view(device: Device, port: int, opens: bool, write: Callable[[str], None]) -> int:
    """Start mien-view on the device, forward `port` of this machine to it and open a browser; ends with Ctrl-C."""
    start = device.ssh([], "sudo -n systemctl start mien-view || systemctl start mien-view")
    done = subprocess.run(start, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise DeployError(
            f"{device.host}: mien-view cannot be started ({reason}); see: mien-deploy doctor {device.host}"
        )
    forward = f"127.0.0.1:{port}:127.0.0.1:{_PAGE}"
    tunnel = device.ssh(["-N", "-o", "ExitOnForwardFailure=yes", "-L", forward])
    with subprocess.Popen(tunnel, stdin=subprocess.DEVNULL) as process:
        try:
            _until_it_listens(process, device, port)
            address = f"http://127.0.0.1:{port}/"
            write(f"{device.host}: {address} until you press Ctrl-C\n")
            if opens:
                webbrowser.open(address)
            return process.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            process.terminate()


def _until_it_listens(process: "subprocess.Popen[bytes]", device: Device, port: int) -> None:
    began = time.monotonic()
    while time.monotonic() - began < _SECONDS:
        if process.poll() is not None:
            raise DeployError(f"{device.host}: no tunnel (ssh says why above); is port {port} here free? try --port")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise DeployError(f"{device.host}: the tunnel is not up after {_SECONDS} s; try again")
