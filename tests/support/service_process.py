"""A service in a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import recbole_signed

ROOT = Path(recbole_signed.__file__).resolve().parents[1]


def begun(folder: Path, *options: str) -> tuple[subprocess.Popen[str], int]:
    """Serve the state ``folder / "state"``; return the process and its port."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "recbole_signed", "serve", "--state", "state", "--port", "0", *options],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    told: list[str] = []
    for line in process.stderr:
        told.append(line)
        if line.startswith("Serving on "):
            return process, int(line.split()[2].rsplit(":", 1)[1])
    raise AssertionError("".join(told))


@contextmanager
def served(folder: Path, *options: str) -> Iterator[int]:
    """Serve the state ``folder / "state"`` and yield the port; the process has to obey SIGTERM, and to end well."""
    process, port = begun(folder, *options)
    try:
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(60)
    assert status == 0
