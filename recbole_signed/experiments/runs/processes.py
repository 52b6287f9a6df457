"""Processes that compute for this one; whatever happens, none is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import site
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
_GRACE_SECONDS = 5.0


def start(command: Sequence[str], log: Path, threads: int, **streams: Any) -> subprocess.Popen[Any]:
    """Start a process.

    Args:
        command: its command line.
        log: the file that takes what it writes to standard error.
        threads: how many it may compute with.
        streams: what else ``Popen`` is to know of its input and output.
    """
    with log.open("wb") as stderr:
        return subprocess.Popen(
            command,
            stderr=stderr,
            env=environment(threads),
            start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the others
            **streams,
        )


class Process(Protocol):
    """What is needed of a process to end it: a part of ``subprocess.Popen``."""

    @property
    def pid(self) -> int:
        """Its number, and that of its group."""

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status when it has ended; TimeoutExpired after so many seconds."""


def end(processes: Iterable[Process], *, told: bool = False) -> None:
    """End processes with all that they started: by SIGTERM, and those that do not obey in time by SIGKILL.

    Args:
        processes: those that are to end.
        told: they know that they are to end, and get no SIGTERM.
    """
    processes = list(processes)
    for how in (None if told else signal.SIGTERM, signal.SIGKILL):
        alive = [each for each in processes if each.poll() is None]
        for each in alive if how else ():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(each.pid, how or 0)
        until = time.monotonic() + _GRACE_SECONDS
        for each in alive:
            with contextlib.suppress(subprocess.TimeoutExpired):
                each.wait(max(0.0, until - time.monotonic()))


def environment(threads: int) -> dict[str, str]:
    """Return the environment of a process that computes with so many threads and finds this package."""
    variables = dict(os.environ)
    # torch takes MKL's number for its own pool, so one variable's limit must hold for all of them
    limits = [variables[name] for name in THREAD_VARIABLES if variables.get(name, "").isdigit()]
    limit = min([threads, *(int(each) for each in limits if int(each))])
    variables.update(dict.fromkeys(THREAD_VARIABLES, str(limit)))
    # a checkout that is not installed is found from any current folder
    package_root = str(Path(__file__).resolve().parents[3])
    if package_root not in {
        str(Path(each).resolve()) for each in [*site.getsitepackages(), site.getusersitepackages()]
    }:
        paths = [package_root, *filter(None, [variables.get("PYTHONPATH")])]
        variables["PYTHONPATH"] = os.pathsep.join(paths)
    return variables


def reason_of_end(status: int, log: Path) -> str:
    """Return the signal that ended a process, or the last line of its log: of a traceback, that is the error."""
    if status < 0:
        name = signal.Signals(-status).name
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return f"the process was ended by {name}{hint}"
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"the process ended with status {status} and said nothing"
