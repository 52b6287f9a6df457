"""What a replica hands on to the writer."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest
from fastapi import Request
from fastapi.testclient import TestClient
from starlette.types import Receive, Scope, Send

from recbole_signed.serve.replicas import Forwarder


class Writer(http.server.ThreadingHTTPServer):
    """Notes the targets of requests, as they come."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.targets: list[str] = []


class Handler(http.server.BaseHTTPRequestHandler):
    def do_DELETE(self) -> None:
        assert isinstance(self.server, Writer)
        self.server.targets.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def writer() -> Iterator[Writer]:
    server = Writer()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    "target",
    [
        "/v1/users/a%2520b",
        "/v1/users/a%20b",
        "/v1/users/jos%C3%A9",
        "/v1/users/a%25b",
        "/v1/users/alice%3Fwork",
        "/v1/users/u/verdicts/a%2526b?sign=dislike&note=a%26b%2520c",
    ],
)
def test_a_request_is_handed_on_to_the_target_that_it_came_with(writer: Writer, target: str) -> None:
    forwarder = Forwarder(f"http://127.0.0.1:{writer.server_port}")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await forwarder.send(Request(scope, receive))
        await response(scope, receive, send)

    assert TestClient(app).delete(target).status_code == 200
    assert writer.targets == [target]
