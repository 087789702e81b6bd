"""How the device is: temperature, throttling and voltage as a Raspberry Pi's kernel reports them,
memory, disk.

Sources: /sys/class/thermal (kernel documentation), the firmware's get_throttled (bits as for
`vcgencmd get_throttled`, raspberrypi.com/documentation/computers/os.html), and the rpi_volt
sensor where there is no such file (Raspberry Pi 5). What a machine does not report is None."""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

_UNDER_VOLTAGE = "under-voltage"
THROTTLED = "throttled"

_ROOT = Path("/")
_LIMITS = {0: _UNDER_VOLTAGE, 1: "frequency capped", 2: THROTTLED, 3: "soft temperature limit"}
_SINCE_BOOT = 16  # the same bits, shifted, are set once the limit has been active since boot
_GET_THROTTLED = (
    "sys/devices/platform/soc/soc:firmware/get_throttled",
    "sys/devices/platform/soc@*/*firmware*/get_throttled",
    "sys/devices/platform/*firmware*/get_throttled",
)


@dataclass(frozen=True, slots=True)
class Health:
    """The device's health; each field is None where the machine does not report it.

    temperature: of the SoC, degrees Celsius.
    throttled_now: the limits that are active, of 'under-voltage', 'frequency capped', 'throttled'
    and 'soft temperature limit'.
    throttled_since_boot: the limits that have been active since boot.
    available_megabytes: memory that is available.
    """

    temperature: float | None = None
    throttled_now: tuple[str, ...] | None = field(default=None, metadata={"key": "limits"})
    throttled_since_boot: tuple[str, ...] | None = field(default=None, metadata={"key": "had"})
    available_megabytes: float | None = field(default=None, metadata={"key": "memory"})


def read(root: Path = _ROOT) -> Health:
    """Return the device's health now; `root` is the folder that holds sys/ and proc/."""
    throttled_now, throttled_since_boot = _throttled(root)
    return Health(
        temperature=temperature(root),
        throttled_now=throttled_now,
        throttled_since_boot=throttled_since_boot,
        available_megabytes=_available_megabytes(root),
    )


def temperature(root: Path = _ROOT) -> float | None:
    """Return the temperature of the SoC in degrees Celsius; None where it is not reported."""
    text = _text(root / "sys/class/thermal/thermal_zone0/temp") or ""
    try:
        millidegrees = int(text)
    except ValueError:
        return None
    return round(millidegrees / 1000, 1)


def _throttled(root: Path) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """The limits that are active now, and those since boot."""
    bits = _throttled_bits(root)
    if bits is not None:
        return _limits(bits), _limits(bits >> _SINCE_BOOT)
    for name in root.glob("sys/class/hwmon/hwmon*/name"):
        if _text(name) == "rpi_volt":
            has_alarm = _text(name.with_name("in0_lcrit_alarm")) == "1"
            return _limits(int(has_alarm)), None
    return None, None


def _throttled_bits(root: Path) -> int | None:
    for pattern in _GET_THROTTLED:
        for path in root.glob(pattern):
            try:
                return int(_text(path) or "", 16)
            except ValueError:
                continue
    return None


def _limits(bits: int) -> tuple[str, ...]:
    return tuple(name for bit, name in _LIMITS.items() if bits >> bit & 1)


def _available_megabytes(root: Path) -> float | None:
    kilobytes = _value(root / "proc/meminfo", "MemAvailable:")
    if kilobytes is None:
        return None
    return round(kilobytes * 1024 / 1e6, 1)


def free_megabytes(folder: Path) -> float | None:
    """Return the free space of the file system that `folder` is, or would be, on; None if that
    cannot be said.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return round(shutil.disk_usage(folder).free / 1e6, 1)
    except OSError:
        return None


def written_bytes(root: Path = _ROOT) -> int | None:
    """Return the bytes that this process has caused to be written to disks since its start
    (write_bytes of proc(5)); None where that is not counted."""
    return _value(root / "proc/self/io", "write_bytes:")


def resident_megabytes(root: Path = _ROOT) -> float:
    """Return the memory in use by this process (resident set size); 0 where it is not reported."""
    text = _text(root / "proc/self/statm") or "0 0"
    pages = int(text.split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def _value(path: Path, key: str) -> int | None:
    """The number after a key at the beginning of a line."""
    for line in (_text(path) or "").splitlines():
        if line.startswith(key):
            return int(line.split()[1])
    return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
