"""The device's clocks, and whether the one that can be set may be trusted.

A Raspberry Pi without a battery starts with the time of its last shutdown, or with 1970, and learns
the time from the network some seconds later, or never.
"""

import ctypes
import time
from pathlib import Path

TIMESYNCD_MARK = Path("/run/systemd/timesync/synchronized")
"""A file that systemd-timesyncd makes once it has set the clock."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

# linux/timex.h: struct timex is 208 bytes on 64-bit machines, 128 on 32-bit ones
_TIMEX_BYTES = 256
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronized


def since_boot() -> float:
    """Return the seconds since the machine started, sleep included; nobody can set this clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Return the kernel's name for the time since the machine started; '' where it has none."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def is_synchronized() -> bool:
    """Whether a time server keeps the wall clock right.

    The kernel knows (adjtimex(2), called with nothing to change). Where a sandbox forbids that
    call, as the service's does, systemd-timesyncd says so by a file; of chrony or ntpd there is no
    such sign, and the answer is no.
    """
    state = _kernel_state()
    if state is None:
        return TIMESYNCD_MARK.exists()
    return state != _TIME_ERROR


def _kernel_state() -> int | None:
    """The kernel's clock state of adjtimex(2); None where it may not be asked."""
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)  # all zero: modes = 0 only asks
    state = int(ctypes.CDLL(None).adjtimex(buffer))
    return None if state == -1 else state
