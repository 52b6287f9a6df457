"""Memory of the process: what it takes, and how the C library is to handle what is freed."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from collections.abc import Mapping
from pathlib import Path

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # parameters of `mallopt`, of glibc's `malloc.h`
LARGE = 1 << 20  # bytes from which on a block is mapped on its own, and given back to the system as soon as it is freed
SPARE = 4 << 20  # bytes that may be free at the end of an arena, so that small requests stay off the system
KEPT = 32 << 20  # bytes up to which a freed block is kept, and half of what may be free at the end of the heap
ARENAS = 1  # threads share so many arenas: what was freed in one is no use to another, and few of them allocate at once


def hold_memory_down() -> None:
    """Let glibc return large blocks as soon as they are freed; to be called once, before there are other threads."""
    _tell_glibc({_MMAP_THRESHOLD: LARGE, _TRIM_THRESHOLD: SPARE, _ARENA_MAX: ARENAS})


def keep_freed_memory() -> None:
    """Let glibc keep what a training step frees for the next, which saves up to a third of the time of small graphs."""
    _tell_glibc({_MMAP_THRESHOLD: KEPT, _TRIM_THRESHOLD: 2 * KEPT})


def _tell_glibc(parameters: Mapping[int, int]) -> None:
    with contextlib.suppress(OSError, AttributeError):  # another C library
        library = ctypes.CDLL(None)
        for parameter, value in parameters.items():
            library.mallopt(parameter, value)


def give_memory_back() -> None:
    """Give what was freed back to the system (glibc), which keeps it in one arena a thread otherwise."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def reset_peak_memory() -> None:
    """Let the peak count from now on, where the system allows it (Linux): another run may have gone before."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def memory_at_rest() -> int:
    """Give freed memory back to the system, and return the process' resident size then, in bytes."""
    gc.collect()
    give_memory_back()
    return memory_bytes()[0]


def memory_bytes() -> tuple[int, int]:
    """Return the process' resident size now and its largest so far, in bytes; off Linux, the latter for both."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        import resource  # Windows has none

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return peak, peak
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return (int(fields["VmRSS"].split()[0]) * 1024, int(fields["VmHWM"].split()[0]) * 1024)
