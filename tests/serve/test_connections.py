"""What a server does with connections that are too many, too slow, or send too much before a body."""

import contextlib
import json
import logging
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from service_calls import Make, answering

from recbole_signed.live.serve import connections

LIST = b"GET /v1/users/1/recommendations HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
Listen = Callable[[int], int]


@pytest.fixture
def running() -> Iterator[contextlib.ExitStack]:
    """The servers that run, which end with it."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def listen(serve: Make, running: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch) -> Listen:
    """Serve with so many connections at most; returns the port."""
    monkeypatch.setattr(connections, "PATIENCE", 0.5)

    def start(most: int) -> int:
        config = {"http": connections.bounded(most), "loop": "asyncio", "log_level": "error"}
        address = running.enter_context(answering(serve().app, timeout_graceful_shutdown=1, **config))
        return int(address.rpartition(":")[2].rstrip("/"))

    return start


def connected(port: int, sent: bytes = b"") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout=20)
    made.sendall(sent)
    return made


def answer(made: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Return the status, the headers and the body of the next answer; status 0 where the connection is closed."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (part := made.recv(65536)):
            return 0, {}, data
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    while len(body) < int(headers["content-length"]):
        body += made.recv(65536)
    return int(status.split()[1]), headers, body


def problem(made: socket.socket) -> tuple[int, str]:
    """Return the status and the detail of a problem, after which the connection has to be closed."""
    status, headers, body = answer(made)
    assert (headers["content-type"], headers["connection"]) == ("application/problem+json", "close")
    assert made.recv(10) == b""
    made.close()
    found = json.loads(body)
    assert found["status"] == status
    return status, found["detail"]


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 80_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        LIST + b"Cookie: " + b"a" * 80_000 + b"\r\n\r\n",
        LIST + b"".join(b"X-%d: %d\r\n" % (n, n) for n in range(8_000)) + b"\r\n",
        LIST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"".join(b"X-%d: %d\r\n" % (n, n) for n in range(8_000)),
    ],
    ids=["address", "header", "headers", "trailers"],
)
def test_a_head_beyond_64_kilobytes_is_refused(listen: Listen, head: bytes) -> None:
    port = listen(50)
    made = connected(port, head)
    assert problem(made) == (431, "The address and the headers of a request may have at most 65536 bytes.")
    made = connected(port, LIST + b"Cookie: " + b"a" * 60_000 + b"\r\n\r\n")
    assert answer(made)[0] == 200
    made.close()


@pytest.mark.parametrize(
    "begin",
    [
        b"GET /",
        LIST + b"Cookie: ",
        POST + b"Transfer-Encoding: chunked\r\n\r\n1;",
        POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: ",
    ],
    ids=["address", "header", "chunk extension", "trailer"],
)
def test_what_does_not_end_is_not_kept(listen: Listen, begin: bytes) -> None:
    made = connected(listen(50), begin)
    sent, until = 0, time.monotonic() + 20
    with contextlib.suppress(ConnectionError):  # it is closed, whatever is still sent
        while time.monotonic() < until:
            sent += made.send(b"a" * 65_536)
    assert sent < 10_000_000  # most of it in the buffers of the system
    made.close()


def test_requests_sent_ahead_and_no_http(listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    port = listen(50)
    made = connected(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 16)
    received = b""
    while received.count(b"HTTP/1.1 200") < 16:
        received += made.recv(65536)
    made.close()
    made = connected(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1_000)
    assert problem(made) == (400, "More than 16 requests wait on one connection.")
    made = connected(listen(50), b"\x00\r\n\r\n")
    assert problem(made) == (400, "The request is not valid HTTP.")


@pytest.mark.parametrize("sent", [b"", b"\r\n"], ids=["nothing", "an empty line"])
def test_a_connection_without_a_request_is_closed(listen: Listen, sent: bytes) -> None:
    made = connected(listen(50), sent)
    before = time.monotonic()
    with contextlib.suppress(ConnectionResetError):
        assert made.recv(10) == b"" or sent
    assert 0.3 < time.monotonic() - before < 10
    made.close()


@pytest.mark.parametrize("begin", [LIST + b"X-Slow: ", POST + b"Content-Length: 1000\r\n\r\n{"], ids=["head", "body"])
def test_a_request_that_comes_too_slowly_is_refused(listen: Listen, begin: bytes) -> None:
    made = connected(listen(50), begin)
    stop = time.monotonic() + 10

    def dribble() -> None:
        with contextlib.suppress(OSError):
            while time.monotonic() < stop:
                made.sendall(b" ")
                time.sleep(0.05)

    thread = threading.Thread(target=dribble)
    thread.start()
    before = time.monotonic()
    status, _, body = answer(made)
    assert (status, b"did not come to its end" in body) == (408, True)
    assert time.monotonic() - before < 5
    made.close()
    thread.join()


def test_an_answer_that_is_taken_slowly_is_sent_to_its_end(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not taken is dropped."""
    port = listen(50)
    ask = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    once = connected(port, ask)
    length = len(answer(once)[2])
    once.close()

    def asked() -> socket.socket:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.settimeout(20)
        made.connect(("127.0.0.1", port))
        made.sendall(10 * ask)
        return made

    slow, received = asked(), 0
    until = time.monotonic() + 3
    while received < 10 * length and (part := slow.recv(16_384)):
        received += len(part)
        if time.monotonic() < until:
            time.sleep(0.05)
    slow.close()
    assert received > 10 * length
    stuck, taken = asked(), 0
    time.sleep(3)
    with contextlib.suppress(ConnectionResetError):
        while part := stuck.recv(65_536):
            taken += len(part)
    stuck.close()
    assert taken < 5 * length


def test_the_connection_that_waits_longest_makes_room(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "PATIENCE", 60.0)
    port = listen(5)
    silent = [connected(port) for _ in range(5)]
    time.sleep(0.2)
    for _ in range(3):
        made = connected(port, LIST + b"\r\n")
        assert answer(made)[0] == 200
        silent.append(made)
    for each in silent[:3]:
        with contextlib.suppress(ConnectionResetError):
            assert each.recv(10) == b""
    for each in silent[3:]:
        each.sendall(LIST + b"\r\n")
        assert answer(each)[0] == 200
    for each in silent:
        each.close()


def test_connections_beyond_busy_ones_are_refused(listen: Listen, serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr("recbole_signed.live.serve.engine.Engine.popular", lambda *_: go_on.wait(60) and None)
    port = listen(3)
    busy = [connected(port, b"GET /v1/popular HTTP/1.1\r\nHost: localhost\r\n\r\n") for _ in range(3)]
    time.sleep(0.3)
    status, detail = problem(connected(port))
    assert (status, "as many connections as it may have" in detail) == (503, True)
    go_on.set()
    for each in busy:
        each.close()


def test_requests_whose_bodies_do_not_come_end_quietly_with_the_service(
    listen: Listen, running: contextlib.ExitStack, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "PATIENCE", 60.0)
    made = connected(listen(50), POST + b"Content-Length: 9\r\n\r\n")
    time.sleep(0.2)
    with caplog.at_level(logging.ERROR, "uvicorn.error"):
        running.close()
    assert answer(made)[0] == 503
    assert "Traceback" not in caplog.text


def test_no_more_connections_than_files(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(1024, resource.RLIM_INFINITY)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: limits.append(limit))
    assert connections.most_connections(2000) == 2000
    assert limits[-1][0] > 2000
    limits.append((1024, 4096))
    assert connections.most_connections(2000) == 2000
    limits.append((1024, 1024))
    assert connections.most_connections(2000) == 512
    assert connections.most_connections(20) == 20
