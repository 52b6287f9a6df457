"""A service in a process of its own."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

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


def metric(service: int | str, name: str) -> dict[str, float]:
    """Values of a metric of a service, by port or address: by process, whose name is empty where there is but one."""
    address = f"http://127.0.0.1:{service}" if isinstance(service, int) else service
    with urllib.request.urlopen(f"{address}/metrics", timeout=30) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    samples = (each for family in families for each in family.samples if each.name == f"recbole_signed_{name}")
    return {each.labels.get("process", ""): each.value for each in samples}


def pids(service: int | str) -> dict[str, int]:
    """Numbers of the processes of a service, by their names."""
    return {process: int(value) for process, value in metric(service, "process_pid").items()}
