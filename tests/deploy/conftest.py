"""A small service in a process of its own, with the settings that the tests of its deployment need."""

import ipaddress
import itertools
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recbole_signed.convert import convert

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = """
allow_hosts: [ratings.example]
limits: {body_bytes: 1048576, requests_per_second: 0.01}   # a second request of an address is refused
schedule: {refresh: 1, refit: 1, snapshot: 1}
"""
_CALLERS = map(str, map(ipaddress.ip_address, itertools.count(int(ipaddress.ip_address("127.1.0.0")))))


def new_caller() -> str:
    """An address of this machine that has not asked yet."""
    return next(_CALLERS)


@pytest.fixture
def deploy() -> Path:
    """The folder of the deployment."""
    return ROOT / "deploy"


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service without keys over the toy set."""
    folder = tmp_path_factory.mktemp("service")
    convert("toy", None, folder / "atomic_files")
    (folder / "service.yaml").write_text(SETTINGS, encoding="utf-8")
    command = [sys.executable, "-W", "ignore", "-m", "recbole_signed", "serve", "--init", "SSF", "-d", "toy-signed"]
    words = ["--state", "state", "--port", "0", "--config", "service.yaml", "auto=False", "rank=8"]
    process = subprocess.Popen(
        [*command, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith("Serving on "):
                break
        else:
            pytest.fail("".join(lines))
        yield line.split()[2]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.fixture(name="new_caller")
def _new_caller() -> Callable[[], str]:
    return new_caller


@pytest.fixture
def ask() -> Callable[..., tuple[int, str]]:
    """Send a request of a new address, as a proxy on this machine tells it; returns status and body."""

    def send(url: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(
            url, body, {"Content-Type": "application/json", "X-Forwarded-For": new_caller(), **given}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    return send
