"""Memory of the process: what it takes, and how the C library is to handle what is freed."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Numbers of parameters of glibc's ``mallopt``, from its ``malloc.h``."""
LARGE = 1 << 20
"""Bytes from which on a block is mapped on its own, and given back to the system as soon as it is freed."""
SPARE = 4 << 20
"""Bytes that may be free at the end of an arena; what a request takes and frees should not go through the system."""
ARENAS = 1
"""Threads share so many arenas: what was freed in one is no use to another, and few of them allocate at once."""


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:  # other systems tell the peak alone, macOS in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def hold_memory_down() -> None:
    """Let glibc return large blocks as soon as they are freed; to be called once, before there are other threads.

    By default it maps blocks on their own from 128 KB on, and doubles that, up to 32 MB, whenever such a block is
    freed. Copies of the edges then leave holes in the arenas that stay resident.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        library = ctypes.CDLL(None)
        for parameter, value in ((_MMAP_THRESHOLD, LARGE), (_TRIM_THRESHOLD, SPARE), (_ARENA_MAX, ARENAS)):
            library.mallopt(parameter, value)


def give_memory_back() -> None:
    """Give what was freed back to the system (glibc), which keeps it in one arena a thread otherwise."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
