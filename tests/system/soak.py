"""soak.py MINUTES OUT.png: the service on `demo:faults` at full speed, its camera failing each minute, with a broker,
a publisher and somebody who looks at the picture now and then. Draws memory, file handles, threads and the log's size,
and exits 1 unless they stay flat after the first minute.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from brokers import Broker
from helpers import ROOT, clean_environment
from matplotlib import pyplot as plt
from tqdm import tqdm

EDGE = [sys.executable, "-m", "mien_edge"]
EVERY = 2.0  # seconds
SETTINGS = """
[source]
uri = "demo:faults"
fps = 120.0
frame_timeout = 2.0
max_retry_delay = 1.0
[log]
heartbeat_interval = 0.0
commit_interval = 1.0
max_megabytes = 1.0
[publish]
host = "127.0.0.1"
port = {port}
state_interval = 1.0
"""
ALLOWED = {
    "memory of the service, MB": 4.0,
    "memory of the publisher, MB": 3.0,
    "file handles": 4,
    "threads": 2,
    "log, MB": 1.5,
}
"""By how much each may lie above its first minute, at most, in the mean of the last minute."""


def main(minutes: float, out: Path) -> int:
    with tempfile.TemporaryDirectory() as name:
        samples, summary = _run(Path(name), minutes)
    _draw(samples, out)
    rises = {key: _rise(np.array(samples[key]), np.array(samples["seconds"])) for key in ALLOWED if key in samples}
    for key, rise in rises.items():
        print(f"{key:<30} {rise:+.2f} over {minutes:g} minutes (allowed {ALLOWED[key]:+g})")  # noqa: T201
    print(summary, f"drawn: {out}", sep="\n")  # noqa: T201
    return int(any(rise > ALLOWED[key] for key, rise in rises.items()))


def _run(folder: Path, minutes: float) -> tuple[dict[str, list[float]], str]:
    broker = Broker(folder / "broker").start()
    (folder / "mien.toml").write_text(SETTINGS.format(port=broker.port))
    for name in ("run", "run-publish", "state", "cursor"):
        (folder / name).mkdir()
    environment = {**clean_environment(), **_unit_environment()}
    service_folders = {"STATE_DIRECTORY": f"{folder}/state", "RUNTIME_DIRECTORY": f"{folder}/run"}
    publisher_folders = {"STATE_DIRECTORY": f"{folder}/cursor", "RUNTIME_DIRECTORY": f"{folder}/run-publish"}
    service_environment = {**environment, **service_folders}
    publisher_environment = {**environment, **publisher_folders}
    service_command = [*EDGE, "run", "--quiet", "--settings", folder / "mien.toml"]
    log = folder / "state" / "readings.db"
    publisher_command = [*EDGE, "publish", "--settings", folder / "mien.toml", "--log", log]
    samples: dict[str, list[float]] = {}
    with (
        (folder / "errors").open("w") as errors,
        subprocess.Popen(service_command, env=service_environment, stderr=errors) as service,
        subprocess.Popen(publisher_command, env=publisher_environment, stderr=errors) as publisher,
    ):
        start = time.monotonic()
        end = start + minutes * 60
        bar = tqdm(total=round(minutes * 60), unit=" s", desc="soak", disable=None)
        while time.monotonic() < end:
            time.sleep(EVERY)
            if service.poll() is not None or publisher.poll() is not None:
                raise SystemExit(f"soak: error: a process has ended: {(folder / 'errors').read_text()[-500:]}")
            if len(samples.get("seconds", ())) % 30 < 5:
                _look(folder / "run" / "view.sock")
            _sample(samples, time.monotonic() - start, service.pid, publisher.pid, log)
            bar.update(round(time.monotonic() - start) - bar.n)
        status = json.loads((folder / "run" / "status.json").read_text())
        service.terminate()
        publisher.terminate()
    broker.stop()
    lost = (folder / "errors").read_text().count("camera lost")
    summary = f"{status['frames']} frames, {status['fps']:g} a second; the camera was lost {lost} times"
    return samples, summary


def _unit_environment() -> dict[str, str]:
    """The variables that the unit sets: malloc does with them what it does on a device."""
    lines = (ROOT / "systemd" / "mien.service").read_text().splitlines()
    variables = [line.removeprefix("Environment=") for line in lines if line.startswith("Environment=")]
    return dict(variable.split("=", 1) for variable in variables)


def _look(path: Path) -> None:
    """Take a picture or two, as the page does."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(0.5)
        channel.connect(str(path))
        channel.recv(65536)


def _sample(samples: dict[str, list[float]], seconds: float, service: int, publisher: int, log: Path) -> None:
    sample = {
        "seconds": seconds,
        "memory of the service, MB": _memory(service),
        "memory of the publisher, MB": _memory(publisher),
        "file handles": len(os.listdir(f"/proc/{service}/fd")),
        "threads": len(os.listdir(f"/proc/{service}/task")),
        "log, MB": sum(file.stat().st_size for file in log.parent.glob("readings.db*")) / 1e6,
    }
    for key, value in sample.items():
        samples.setdefault(key, []).append(value)


def _memory(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _rise(values: "np.ndarray", seconds: "np.ndarray") -> float:
    """The mean of the last minute less that of the second one."""
    second, last = (seconds > 60) & (seconds <= 120), seconds > seconds[-1] - 60
    return float(values[last].mean() - values[second].mean())


def _draw(samples: dict[str, list[float]], out: Path) -> None:
    figure, axes = plt.subplots(len(ALLOWED), 1, figsize=(9, 9), sharex=True)
    for axis, key in zip(axes, ALLOWED, strict=True):
        axis.plot(np.array(samples["seconds"]) / 60, samples[key], lw=1.2)
        axis.set_ylim(0, max(samples[key]) * 1.2)
        axis.set_title(key, loc="left", fontsize=10)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("minutes")
    figure.tight_layout()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=100)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), Path(sys.argv[2])))
