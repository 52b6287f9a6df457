"""What a read replica does with requests that change anything: it hands them to the process that writes."""

from __future__ import annotations

import http.client
import string
from urllib.parse import quote, urlsplit

from fastapi import Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from recbole_signed.errors import UsageError
from recbole_signed.live.serve.problems import ProblemError
from recbole_signed.live.serve.turns import Turns

READING = frozenset(("GET", "HEAD", "OPTIONS"))
"""Methods that change nothing. Every route of another method needs a key."""
READING_POSTS = frozenset(("/v1/recommendations", "/api/session/recommend"))
"""What a replica answers itself although it is posted."""
WRITER_ONLY = frozenset(("/v1/quality", "/v1/status", "/v1/models", "/v1/experiments"))
"""What the writer alone knows."""
HANDED_ON = 8
"""Requests that are handed on at once; the writer takes what waits together."""
NO_WRITER = (
    "This is a read replica without a writer; ask the service that writes the state, or start the replica with "
    "--writer and its address."
)


def connection_to(address: str) -> http.client.HTTPConnection:
    """Return a connection to a service, which is made with its first request.

    Raises:
        UsageError: it is no address of HTTP.
    """
    try:
        parts = urlsplit(address)
        kind = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}[parts.scheme]
        if parts.hostname:
            return kind(parts.hostname, parts.port, timeout=60)
    except (KeyError, ValueError, http.client.InvalidURL):
        pass
    raise UsageError(f"'{address}' is not an address; expected one like http://127.0.0.1:8080.")


class Forwarder:
    """Hands requests on.

    Args:
        address: of the process that writes; None refuses such requests.
        metrics: whether that process has the metrics of this one too.
        wait: seconds that a request may wait until it is handed on.

    Raises:
        UsageError: it is no address of HTTP.
    """

    def __init__(self, address: str | None, metrics: bool = False, wait: float = 2.0) -> None:
        self._address, self._metrics, self._turns = address, metrics, Turns(wait, HANDED_ON)
        if address is not None:
            connection_to(address)

    def wants(self, scope: Scope) -> bool:
        """Whether a request changes anything, or asks for what the writer alone knows."""
        path = scope["path"]
        if path in WRITER_ONLY or (path == "/metrics" and self._metrics) or path.startswith("/v1/experiments/"):
            return True
        return scope["method"] not in READING and path not in READING_POSTS

    async def send(self, request: Request) -> Response:
        """Return the writer's response.

        Raises:
            ProblemError: there is no writer, it does not answer, too many wait for it, or the body did not come to its
                end.
        """
        if self._address is None:
            raise ProblemError(503, "Service Unavailable", NO_WRITER)
        try:
            body = await request.body()
        except ClientDisconnect:  # nobody waits for the answer, which is the one of other routes then
            raise ProblemError(400, "Bad Request", "The body did not come to its end.") from None
        scope = request.scope
        raw = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        target = quote(raw, safe=string.punctuation)  # as it came: 'a%2520b' and 'a%20b' are two ids
        names = ("x-api-key", "authorization", "content-type")
        headers = {name: request.headers[name] for name in names if name in request.headers}
        if request.client is not None:  # else all callers without a key would share one limit of requests there
            headers["x-forwarded-for"] = request.client.host
        try:
            return await self._turns.take(lambda: self._exchange(request.method, target, body, headers))
        except (OSError, http.client.HTTPException) as error:
            raise ProblemError(503, "Service Unavailable", f"The writer does not answer: {error}.", 1.0) from error

    def _exchange(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> Response:
        connection = connection_to(str(self._address))
        try:
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            kept = {name: value for name in ("Content-Type", "Retry-After") if (value := answer.headers.get(name))}
            return Response(answer.read(), answer.status, kept)
        finally:
            connection.close()
