"""A small service in a process of its own, with the settings that the tests of its deployment need."""

import ipaddress
import itertools
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from service_process import served

from recbole_signed.convert import convert

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = """
allow_hosts: [ratings.example]
limits: {body_bytes: 1048576, requests_per_second: 0.01}   # a second request of an address is refused
schedule: {refresh: 1, refit: 1, snapshot: 1}
"""
_CALLERS = map(str, map(ipaddress.ip_address, itertools.count(int(ipaddress.ip_address("127.1.0.0")))))


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
    with served(
        folder, "--init", "SSF", "-d", "toy-signed", "--config", "service.yaml", "auto=False", "rank=8"
    ) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def new_caller() -> Callable[[], str]:
    """Give an address of this machine that has not asked yet."""
    return lambda: next(_CALLERS)


@pytest.fixture
def ask(new_caller: Callable[[], str]) -> Callable[..., tuple[int, str]]:
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
