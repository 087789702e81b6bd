"""Memory that a frame takes and frees: it stays for the next frame."""

import ctypes
import os
import sys

_M_TRIM_THRESHOLD = -1  # of glibc's malloc.h; mallopt(3) describes both
_M_MMAP_THRESHOLD = -3
_LARGEST_BLOCK = 32 << 20  # bytes, the most that glibc takes: a 4K frame has 24 MiB
_LARGEST_REST = 64 << 20
_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")


def keep_freed_memory() -> None:
    """Let malloc keep up to 64 MiB that are free, for this whole process.

    Otherwise it returns what a frame has freed to the kernel, which clears each page anew for the
    next frame: 600 of them for one of 640 x 480. Who
    has set one of glibc's variables for it in the environment has decided; another C library
    than glibc is left as it is.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _VARIABLES):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK)
        mallopt(_M_TRIM_THRESHOLD, _LARGEST_REST)
