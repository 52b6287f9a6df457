"""The connections of a server: how many, how long one may wait, and how much may come before a body.

The parser of httptools takes heads of any length, and uvicorn closes no connection on which no request has come yet.
"""

from __future__ import annotations

import asyncio
import resource
from functools import partial
from http import HTTPStatus
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from recbole_signed.live.serve.problems import ProblemError

HEAD = 1 << 16  # bytes of an address and its headers, and of what else is no body
TOO_LARGE = 431, f"The address and the headers of a request may have at most {HEAD} bytes."
PIPELINED = 16  # requests of a connection that may wait for the answers to earlier ones
PATIENCE = 30.0  # seconds for a request to come to its end, and without the caller taking any of its answer
FILES = 1280  # files of the process that are no connections, or connections that are yet to be refused


def most_connections(requested: int) -> int:
    """Return how many connections there may be at once, with the limit of open files raised as far as need be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < requested + FILES:
        soft = requested + FILES if hard == unlimited else min(requested + FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return requested if soft == unlimited else min(requested, max(soft - FILES, soft // 2))


class Waiting:
    """The connections that wait for a request, oldest first; beyond ``most`` the oldest is closed for a new one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._since: dict[Connection, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, connection: Connection) -> None:
        """Note that a connection waits from now on."""
        loop = asyncio.get_running_loop()
        self._since.pop(connection, None)
        self._since[connection] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(PATIENCE, self._close_late, loop)

    def end(self, connection: Connection) -> None:
        """Note that a connection does not wait."""
        self._since.pop(connection, None)

    def make_room(self, n_connections: int) -> bool:
        """Return whether there is room for the newest of so many connections."""
        if n_connections > self._most:
            oldest = next(iter(self._since), None)
            if oldest is None:
                return False
            self.end(oldest)
            oldest.transport.abort()
        return True

    def _close_late(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        for connection, since in list(self._since.items()):
            if (left := since + PATIENCE - loop.time()) > 0:
                self._timer = loop.call_later(left, self._close_late, loop)
                return
            self.end(connection)
            connection.late()


class Connection(HttpToolsProtocol):
    """A connection that is held against the limits; what it refuses is answered with problem details."""

    def __init__(self, waiting: Waiting, **given: Any) -> None:
        super().__init__(**given)
        self._waiting = waiting
        self._head = self._unread = self._unsent = 0
        self._refusal = (400, "The request is not valid HTTP.")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a new connection, or refuse it."""
        super().connection_made(transport)  # type: ignore[arg-type]
        if self._waiting.make_room(len(self.connections)):
            self._waiting.begin(self)
        else:
            self._refuse(503, "The service has as many connections as it may have; ask again later.")

    def connection_lost(self, exc: Exception | None) -> None:
        """Take a connection from the list."""
        self._waiting.end(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read a part of a request."""
        self._unread += len(data)
        super().data_received(data)
        if self._unread > HEAD and not self.transport.is_closing():
            self._refuse(*TOO_LARGE)

    def on_message_begin(self) -> None:
        """Begin a request."""
        if len(self.pipeline) >= PIPELINED:
            self._refusal = (400, f"More than {PIPELINED} requests wait on one connection.")
            raise ValueError
        super().on_message_begin()
        self._head = self._unread = 0

    def on_url(self, url: bytes) -> None:
        """Read a part of the address."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Read a header, or a trailer."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def _count(self, n: int) -> None:
        self._head += n
        if self._head > HEAD:
            self._refusal = TOO_LARGE
            raise ValueError

    def on_body(self, body: bytes) -> None:
        """Read a part of the body."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._head = self._unread = 0
        if not self.flow.write_paused:
            self._waiting.end(self)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        if not self.pipeline:
            self._waiting.begin(self)
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Wait until the caller takes what was answered."""
        self._waiting.begin(self)
        super().pause_writing()

    def resume_writing(self) -> None:
        """Go on answering."""
        if self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body:
            self._waiting.end(self)
        super().resume_writing()

    def late(self) -> None:
        """Close a connection that has waited for too long; one whose answer goes on being taken waits again."""
        unsent, self._unsent = self._unsent, self.transport.get_write_buffer_size()
        if self._unsent > 0 and self._unsent != unsent:
            self._waiting.begin(self)
        elif (self._head or self._unread) and (self.cycle is None or not self.cycle.response_started):
            self._refuse(408, f"The request did not come to its end within {PATIENCE:.0f} s.")
        else:
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser refuses."""
        self._refuse(*self._refusal)

    def _refuse(self, status: int, detail: str) -> None:
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            response = ProblemError(status, detail).response()
            headers = [*response.raw_headers, (b"cache-control", b"no-store"), (b"connection", b"close")]
            lines = [
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode(),
                *(b"%b: %b" % header for header in headers),
                b"",
                b"",
            ]
            self.transport.write(b"\r\n".join(lines) + bytes(response.body))
        self.transport.close()


class BeatingServer(uvicorn.Server):
    """A server that shows that its event loop runs."""

    beat = 0  # grows some ten times a second

    async def on_tick(self, counter: int) -> bool:
        """Do what is done at intervals."""
        self.beat += 1
        return await super().on_tick(counter)


def bounded(connections: int) -> Any:
    """Return what makes the connections of a server, for uvicorn's ``http``."""
    return partial(Connection, Waiting(most_connections(connections)))
