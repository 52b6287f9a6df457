"""A service in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import recbole_signed

ROOT = Path(recbole_signed.__file__).resolve().parents[1]


@contextmanager
def served(folder: Path, *options: str) -> Iterator[int]:
    """Serve the state ``folder / "state"`` and yield the port; the process has to obey SIGTERM, and to end well."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "recbole_signed", "serve", "--state", "state", "--port", "0", *options],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    try:
        yield int(next(line.split()[2] for line in process.stderr if line.startswith("Serving on ")).rsplit(":", 1)[1])
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(60)
    assert status == 0
