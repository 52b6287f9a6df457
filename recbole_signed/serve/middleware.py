"""What every request passes: limits, hand-over by a replica, latency metrics; and errors as problem details.

Written for ASGI itself: Starlette's ``BaseHTTPMiddleware`` costs a task and two queues a request.
"""

from __future__ import annotations

import time
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recbole_signed.errors import UsageError
from recbole_signed.serve.engine import Engine
from recbole_signed.serve.keys import RateLimit
from recbole_signed.serve.problems import ProblemError
from recbole_signed.serve.replicas import Forwarder
from recbole_signed.serve.writer import BusyError


def key_of(scope: Scope) -> str | None:
    """Return the API key that a request came with; None without one."""
    headers = Headers(scope=scope)
    given = headers.get("x-api-key")
    if given is None:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token if scheme.lower() == "bearer" else None
    return given


class Watch:
    """Holds requests against the limits, hands some to the writer, and measures how long they take.

    Args:
        app: what comes next.
        engine: whose settings and telemetry are used.
        limit: requests a second.
        forwarder: of a replica; None in the writer.
    """

    def __init__(self, app: ASGIApp, engine: Engine, limit: RateLimit, forwarder: Forwarder | None) -> None:
        self._app, self._limit, self._forwarder = app, limit, forwarder
        self._requests, self._largest = engine.telemetry.requests, engine.settings.limits.body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            refused = self._refused(scope)
            if refused is not None:
                await refused.response()(scope, receive, watched)
            elif self._forwarder is not None and self._forwarder.wants(scope):
                response: Response = await self._forwarder.send(Request(scope, receive))
                await response(scope, receive, watched)
            else:
                await self._app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._requests.labels(route, str(status)).observe(time.perf_counter() - started)

    def _refused(self, scope: Scope) -> ProblemError | None:
        """Return why a request goes no further; None where it does."""
        wait = self._limit.wait(key_of(scope) or (scope["client"][0] if scope.get("client") else ""))
        if wait:
            return ProblemError(429, "Too Many Requests", "The rate limit is reached.", wait)
        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            return ProblemError(400, "Bad Request", "Content-Length is not a number.")
        if int(length) > self._largest or "chunked" in headers.get("transfer-encoding", ""):
            detail = f"The body must have a Content-Length of at most {self._largest} bytes."
            return ProblemError(413, "Content Too Large", detail)
        return None


def answer_errors(app: FastAPI) -> None:
    """Let an application answer errors with problem details."""

    @app.exception_handler(ProblemError)
    async def problem(_: Request, error: ProblemError) -> Response:
        return error.response()

    @app.exception_handler(UsageError)
    async def usage(_: Request, error: UsageError) -> Response:
        return ProblemError(422, "Unprocessable Content", str(error)).response()

    @app.exception_handler(BusyError)
    async def busy(_: Request, error: BusyError) -> Response:
        detail = "Too many events wait to be written; send these again later."
        return ProblemError(429, "Too Many Requests", detail, error.retry_after).response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first: Any = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return ProblemError(422, "Unprocessable Content", f"{where}: {first['msg']}.").response()

    @app.exception_handler(HTTPException)
    async def other(_: Request, error: HTTPException) -> Response:
        response = ProblemError(error.status_code, "Request refused", f"{error.detail}.").response()
        response.headers.update(error.headers or {})
        return response
