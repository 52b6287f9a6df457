"""Shorter time slices of the scheduler for a thread that waits for the disk.

One commit makes a thread wait two or three times in a row: for the pages, for what the file system notes about the
file (some file systems), and for the disk's own cache. Beside processes that compute, Linux lets a thread that wakes
wait until the slice of the one that runs has ended. From Linux 6.12 on a thread may ask for a slice of its own
(`sched_setattr(2)`, ``sched_runtime``): one whose slice is shorter than that of the thread that runs is let in before
that has ended. Its share of the processor stays the same (https://docs.kernel.org/scheduler/sched-eevdf.html).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import sys
from collections.abc import Iterator


class _Attributes(ctypes.Structure):
    """``struct sched_attr`` in its first version."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )


_CALLS = {"x86_64": (315, 314), "aarch64": (275, 274)}
"""Numbers of ``sched_getattr`` and ``sched_setattr``, which the GNU library has functions for since 2025 only."""
_known = sys.platform == "linux" and sys.maxsize > 2**32 and platform.machine() in _CALLS
_GET, _SET = _CALLS[platform.machine()] if _known else (0, 0)
# keeps the interpreter: where a call of some 0.2 microseconds gives it up, another thread may hold it for milliseconds
_syscall = ctypes.PyDLL(None).syscall if _known else None


@contextlib.contextmanager
def shorter_slices() -> Iterator[None]:
    """Halve the slice of the calling thread until the block ends; where there are no such slices, do nothing."""
    before = own_slice()
    asked = bool(before) and _ask(before // 2)
    try:
        yield
    finally:
        if asked:
            _ask(before)


def own_slice() -> int:
    """Return the slice of the calling thread in nanoseconds; 0 where the system has none for each thread."""
    found = _attributes()
    return 0 if found is None else int(found.runtime)


def _ask(length: int) -> bool:
    """Ask for a slice for the calling thread, leaving its other attributes; return whether it was given."""
    found = _attributes()
    if found is None:
        return False
    found.runtime = length
    return _call(_SET, found, 0)


def _attributes() -> _Attributes | None:
    """Return those of the calling thread; None under another policy, where a slice has another meaning or none."""
    found = _Attributes()
    read = _call(_GET, found, ctypes.sizeof(found), 0)
    return found if read and found.policy == os.SCHED_OTHER else None


def _call(number: int, attributes: _Attributes, *rest: int) -> bool:
    if _syscall is None:
        return False
    this_thread = ctypes.c_long(0)
    return _syscall(ctypes.c_long(number), this_thread, ctypes.byref(attributes), *map(ctypes.c_long, rest)) == 0
