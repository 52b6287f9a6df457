"""A service that is asked for more than it can answer goes on answering probes and new clients."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from service_process import pids, served
from small_recommender import begin_large

pytestmark = pytest.mark.slow
LIST = "/v1/users/u7/recommendations?k=20"


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """A service of the size of MovieLens 100K in a process of its own."""
    begin_large(tmp_path / "state", 100_000, 1_000, 1_700)
    with served(tmp_path) as port:
        yield port


def closed_loop(port: int, connections: int, seconds: float) -> subprocess.Popen[str]:
    """Return a process that asks for lists on so many connections."""
    words = [port, connections, seconds, LIST]
    script = Path(__file__).with_name("closed_loop.py")
    process = subprocess.Popen([sys.executable, script, *map(str, words)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "connected\n"
    return process


def ask(port: int, path: str, found: list[tuple[str, int, float]]) -> None:
    """Note the status of an answer on a new connection, and its time; status 0 where there is none."""
    began, status = time.monotonic(), 0
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as made:
            made.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            status = int(made.recv(65_536)[9:12] or 0)
    except OSError:
        pass
    found.append((path, status, time.monotonic() - began))


@pytest.mark.parametrize("connections", [200, 500, 1500])
def test_new_clients_are_answered_under_saturation(port: int, connections: int) -> None:
    load = closed_loop(port, connections, 12)
    time.sleep(2)
    found: list[tuple[str, int, float]] = []
    for _ in range(3):
        threads = [threading.Thread(target=ask, args=(port, path, found)) for path in ["/healthz", LIST] * 10]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    told = json.loads(load.communicate()[0])
    lists = [each for each in found if each[0] == LIST]
    probes = [each for each in found if each[0] != LIST]
    slowest = [max(seconds for _, _, seconds in each) for each in (lists, probes)]
    print(f"\n{connections} connections: {told}; lists within {slowest[0]:.2f} s, probes within {slowest[1]:.2f} s")
    assert len(found) == 60
    assert {status for _, status, _ in lists} <= {200, 503}
    assert {status for _, status, _ in probes} == {200}
    assert slowest[0] < 2.5
    assert slowest[1] < 0.5
    assert told["200"] > 100


@pytest.mark.parametrize("repeated", [b"X-A: b\r\n", b"a" * 8_000], ids=["many headers", "one header"])
def test_headers_without_an_end_take_no_memory(port: int, repeated: bytes) -> None:
    found: list[tuple[str, int, float]] = []
    (pid,) = pids(port).values()

    def resident() -> float:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6

    ask(port, LIST, found)
    before, until, sent = resident(), time.monotonic() + 5, 0
    while time.monotonic() < until:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as made, contextlib.suppress(ConnectionError):
            made.sendall(b"GET / HTTP/1.1\r\nX-B: ")
            while time.monotonic() < until:
                sent += made.send(repeated * 100)
    ask(port, LIST, found)
    print(f"\n{sent / 1e6:.0f} MB were sent; {before:.0f} MB before, {resident():.0f} MB after")
    assert resident() < before + 30
    assert [status for _, status, _ in found] == [200, 200]
    assert found[-1][2] < 1
