"""How the device is: heat, throttling and voltage as a Raspberry Pi's kernel tells them, memory, disk.

Sources: /sys/class/thermal (kernel documentation), the firmware's get_throttled (bits as for `vcgencmd get_throttled`,
raspberrypi.com/documentation/computers/os.html), and the rpi_volt sensor where there is no such file (Raspberry Pi 5).
What a machine does not tell is None.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/")
_BITS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
_SINCE_BOOT = 16  # the same bits, shifted, tell what has been since the start
_THROTTLED = (
    "sys/devices/platform/soc/soc:firmware/get_throttled",
    "sys/devices/platform/soc@*/*firmware*/get_throttled",
    "sys/devices/platform/*firmware*/get_throttled",
)


@dataclass(frozen=True, slots=True)
class Health:
    """temperature: degrees Celsius. limits: what holds now, of 'under-voltage', 'frequency capped', 'throttled', 'soft
    temperature limit'; had: what has been since the start. memory: megabytes that are available.
    """

    temperature: float | None
    limits: tuple[str, ...] | None
    had: tuple[str, ...] | None
    memory: float | None


def read(root: Path = _ROOT) -> Health:
    """The device's health now; `root` holds sys/ and proc/."""
    now, had = _limits(root)
    return Health(temperature(root), now, had, _memory(root))


def temperature(root: Path = _ROOT) -> float | None:
    """Degrees Celsius of the SoC."""
    text = _text(root / "sys/class/thermal/thermal_zone0/temp")
    try:
        return None if text is None else round(int(text) / 1000, 1)
    except ValueError:
        return None


def _limits(root: Path) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    for pattern in _THROTTLED:
        for path in root.glob(pattern):
            try:
                bits = int(_text(path) or "", 16)
            except ValueError:
                continue
            return _names(bits), _names(bits >> _SINCE_BOOT)
    for name in root.glob("sys/class/hwmon/hwmon*/name"):
        if _text(name) == "rpi_volt":
            low = _text(name.with_name("in0_lcrit_alarm")) == "1"
            return (("under-voltage",) if low else ()), None
    return None, None


def _names(bits: int) -> tuple[str, ...]:
    return tuple(name for bit, name in _BITS.items() if bits >> bit & 1)


def _memory(root: Path) -> float | None:
    for line in (_text(root / "proc/meminfo") or "").splitlines():
        if line.startswith("MemAvailable:"):
            return round(int(line.split()[1]) * 1024 / 1e6, 1)
    return None


def free_megabytes(folder: Path) -> float | None:
    """Free space of the file system that `folder` is or would be on."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return round(shutil.disk_usage(folder).free / 1e6, 1)
    except OSError:
        return None


def written_bytes(root: Path = _ROOT) -> int | None:
    """Bytes that this process has caused to be written to disks since its start (write_bytes of proc(5))."""
    for line in (_text(root / "proc/self/io") or "").splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    return None


def resident_megabytes(root: Path = _ROOT) -> float:
    """Memory in use by this process."""
    pages = int((_text(root / "proc/self/statm") or "0 0").split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
