"""What every request passes: limits, hand-over by a replica, latency metrics; and errors as problem details.

Written for ASGI itself: Starlette's ``BaseHTTPMiddleware`` costs a task and two queues a request.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sqlite3
import time
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit
from weakref import WeakKeyDictionary

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic_core import to_json
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recbole_signed.errors import NotFoundError, UsageError
from recbole_signed.files import DamagedError
from recbole_signed.live.serve.engine import RECOMMENDATIONS, Engine
from recbole_signed.live.serve.keys import ROLES, ApiKeys, RateLimit, is_loopback
from recbole_signed.live.serve.problems import PROBLEM, ProblemError, too_late
from recbole_signed.live.serve.replicas import READING, Forwarder
from recbole_signed.live.serve.schemas import SLASH

_logger = logging.getLogger(__name__)
_SLASH = re.compile(b"%2f", re.IGNORECASE)
# lists that are kept as shown: an image of a foreign page would be counted in experiments
_KEPT = re.compile(r"/v1/users/[^/]+/recommendations|/api/recommend/[^/]+/?")
# lists whose user has an id that is written as it is
_PLAIN_PATH = re.compile(r"/v1/users/([\w-][\w.:-]{0,99})/recommendations", re.ASCII)
_PLAIN_QUERY = re.compile(rb"(?:k=([1-9]\d{0,3}))?(?:(?:^|(?<=\d)&)min_seq=(\d{1,15}))?")
_LIST = SimpleNamespace(path=RECOMMENDATIONS)
DEFAULT_K = 20  # items of a list for which no number was given
SHORT = 100  # items of a list that is made at once
# asked whether a process is well, and answered however late it is
PROBES = frozenset(("/healthz", "/readyz", "/metrics", "/api/health/live", "/api/health/ready"))
# they cost little: a caller without a valid key must not use up the limit of its address
_UNLIMITED = PROBES - {"/metrics"}
# of every answer; to a cache ``X-API-Key`` is no credential: it would give an answer to those without a key
_HEADERS = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
_OF_PAGES = frozenset((b"origin", b"sec-fetch-site"))  # headers by which a request comes from a page
_NOT_JSON = "It is not taken for JSON; send the header 'Content-Type: application/json'"


def key_of(scope: Scope) -> str | None:
    """Return the API key that a request came with; None without one."""
    headers = Headers(scope=scope)
    given = headers.get("x-api-key")
    if given is None:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token if scheme.lower() == "bearer" else None
    return given


def no_key() -> ProblemError:
    """Return the error of a request that needs a key and has none, or a wrong one."""
    return ProblemError(
        401, "This route needs an API key of this service in the header X-API-Key; there was none, or another."
    )


class _Line:
    """Lets one request begin in each turn of the event loop: probes and new connections do not wait for all lists."""

    def __init__(self) -> None:
        # a test client has an event loop for each request
        self._lines: WeakKeyDictionary[asyncio.AbstractEventLoop, deque[asyncio.Future[None]]] = WeakKeyDictionary()

    async def turn(self) -> None:
        """Wait for the caller's turn."""
        loop = asyncio.get_running_loop()
        line = self._lines.setdefault(loop, deque())
        mine = loop.create_future()
        line.append(mine)  # the first is the one that has begun in this turn of the loop
        if len(line) == 1:
            loop.call_soon(self._next, loop, line)
        else:
            await mine

    def _next(self, loop: asyncio.AbstractEventLoop, line: deque[asyncio.Future[None]]) -> None:
        line.popleft()
        while line and line[0].done():  # it was cancelled
            line.popleft()
        if line:
            line[0].set_result(None)
            loop.call_soon(self._next, loop, line)


class Watch:
    """Holds requests against the limits, hands some to the writer, and measures how long they take."""

    def __init__(
        self, app: ASGIApp, engine: Engine, keys: ApiKeys, limit: RateLimit, forwarder: Forwarder | None
    ) -> None:
        self._app, self._keys, self._limit, self._forwarder = app, keys, limit, forwarder
        self._requests, self._largest = engine.telemetry.requests, engine.settings.limits.body_bytes
        self._origins = frozenset(engine.settings.allow_origins)
        self._patience = engine.settings.limits.wait
        self._line = _Line()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD" and scope["path"] in PROBES:  # as some monitors ask; the server sends no body
            scope = {**scope, "method": "GET"}
        started, status, size, handed_on = time.perf_counter(), 500, 0, False
        if scope["path"] not in PROBES:
            await self._line.turn()

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._largest:  # whatever the headers say
                raise ProblemError(413, f"A body may have at most {self._largest} bytes.")
            return message

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
            await send(message)

        try:
            # refusing costs little: the queue stays short, and what is answered is answered in time
            if time.perf_counter() - started > self._patience and scope["path"] not in PROBES:
                raise too_late()
            self._check(scope)
            if self._forwarder is not None and self._forwarder.wants(scope):
                response = await self._forwarder.send(Request(scope, counted))
                handed_on = True
                await response(scope, receive, watched)
            else:
                await self._app(scope, counted, watched)
        except ProblemError as refused:
            await refused.response()(scope, receive, watched)
        except asyncio.CancelledError:  # the service ends, and has waited for this one as long as it does
            await ProblemError(503, "The service ends.", 1.0).response()(scope, receive, watched)
        finally:
            if not handed_on:  # else the writer has counted it
                route = getattr(scope.get("route"), "path", "other")
                self._requests.labels(route, str(status)).observe(time.perf_counter() - started)

    def _check(self, scope: Scope) -> None:
        """Refuse what can be refused before a body is read; keep slashes in ids apart from those of the path."""
        raw = scope.get("raw_path") or b""
        if b"%00" in raw:
            raise ProblemError(422, "The path holds a null character, which no id has.")
        for part, name in ((raw, "path"), (scope["query_string"], "query")):
            if b"%" not in part and part.isascii():
                continue
            try:  # what follows would take each such sequence for one and the same character
                unquote_to_bytes(part).decode()
            except UnicodeDecodeError:
                raise ProblemError(400, f"The {name} is not percent-encoded UTF-8.") from None
        if _SLASH.search(raw):
            scope["path"] = unquote(_SLASH.sub(quote(SLASH).encode(), raw).decode())
        key = key_of(scope) if self._keys.required else None
        known = key is not None and self._keys.allows(key, ROLES[0]) is not None
        address = scope["client"][0] if scope.get("client") else ""
        if scope["path"] not in _UNLIMITED and (wait := self._limit.wait(key if known and key else address)):
            raise ProblemError(429, "The rate limit is reached.", wait)
        if self._keys.required and not known and scope["method"] not in READING:
            raise no_key()
        given = dict(reversed(scope["headers"]))  # of two of one name the first
        # browsers send what needs no body and no key for any page, without asking first
        changes = scope["method"] not in READING or _KEPT.fullmatch(scope["path"])
        if changes and not known and not _OF_PAGES.isdisjoint(given):
            headers = Headers(scope=scope)
            if _is_foreign(headers) and not self._origins & {"*", headers.get("origin")}:
                raise ProblemError(
                    403, "A page of another site asks for a change or a list; 'allow_origins' in the settings lets it."
                )
        encoding = given.get(b"content-encoding", b"").decode("latin-1") or "identity"
        if encoding.lower() != "identity":
            raise ProblemError(
                415, f"The body has the Content-Encoding {encoding!a}; send it without one, not compressed."
            )


class PlainLists:
    """Answers requests for a user's short list with no parameter but ``k`` and ``min_seq``; the others go on."""

    def __init__(self, app: ASGIApp, engine: Engine, keys: ApiKeys) -> None:
        self._app, self._engine, self._keys = app, engine, keys
        self._most = min(SHORT, engine.settings.limits.k)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        body = self._answer(scope) if scope["type"] == "http" and scope["method"] == "GET" else None
        if body is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = _LIST
        headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, scope: Scope) -> bytes | None:
        # FastAPI's way to parameters takes half as long as a list; what fails here gets the answer of the route
        path, query = _PLAIN_PATH.fullmatch(scope["path"]), _PLAIN_QUERY.fullmatch(scope["query_string"])
        if path is None or query is None:
            return None
        k, seq = int(query[1] or DEFAULT_K), int(query[2] or 0)
        if k > self._most or seq > self._engine.seq:
            return None
        if self._keys.required and not self._keys.allows(key_of(scope), ROLES[0]):
            return None
        try:
            ranked = self._engine.recommend(path[1], k)
        except Exception:  # it is told where it happens again
            return None
        return to_json(ranked.as_json(self._engine.catalogue.name))


class LocalHosts:
    """Refuses requests under a name that is not this machine's, nor in ``also``, in a service without keys."""

    def __init__(self, app: ASGIApp, also: Sequence[str] = ()) -> None:
        self._app, self._also = app, frozenset(name.lower() for name in also)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        # DNS rebinding: to the browser the service is of the page's own origin, so CORS and Sec-Fetch-Site stop nothing
        if scope["type"] == "http" and (given := Headers(scope=scope).get("host")):
            name = _host_name(given)
            if not (is_loopback(name) or name in self._also or "*" in self._also):
                detail = (
                    "A service without API keys answers to localhost alone; name the host of this request under "
                    "'allow_hosts' in the settings, or make keys."
                )
                await ProblemError(421, detail).response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


@lru_cache(1024)
def _host_name(given: str) -> str:
    """Return the name in a Host header; an empty one where there is none."""
    try:
        return (urlsplit(f"//{given}").hostname or "").removesuffix(".")
    except ValueError:
        return ""


def _is_foreign(headers: Headers) -> bool:
    """Whether a request comes from a page of another host."""
    # browsers send Sec-Fetch-Site to loopback and through TLS alone; to others the origin, but not with each GET
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None or origin is None:
        return site == "cross-site"
    try:
        of_page, of_service = urlsplit(origin), urlsplit(f"//{headers.get('host', '')}")
        ports = of_page.port, of_service.port
    except ValueError:
        return True
    same_port = ports[1] is None or ports[1] == (ports[0] or {"http": 80, "https": 443}.get(of_page.scheme))
    return of_page.hostname != of_service.hostname or not same_port


def _is_json(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _example(request: Request) -> str:
    """Return an example of the body that the route of a request takes, for a message; nothing where it has none."""
    about = getattr(getattr(request.scope.get("route"), "body_field", None), "field_info", None)
    config = getattr(getattr(about, "annotation", None), "model_config", {})
    examples = (config.get("json_schema_extra") or {}).get("examples")
    return f", such as {json.dumps(examples[0])}" if examples else ""


def answer_errors(app: FastAPI, engine: Engine) -> None:
    """Let an application answer errors with problem details; folders of this machine are in the log alone."""

    logged = ""

    @app.exception_handler(ProblemError)
    async def problem(_: Request, error: ProblemError) -> Response:
        nonlocal logged
        detail = engine.without_folders(error.detail)
        if error.detail not in (detail, logged):  # what a full disk refuses, it refuses again and again
            logged = error.detail
            _logger.warning("%s", " ".join(logged.split()))  # in one line, whatever it quotes
        return ProblemError(error.status_code, detail, error.retry_after).response()

    @app.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> Response:
        return ProblemError(500, "The service failed; its log says why.").response()

    @app.exception_handler(UsageError)
    async def usage(request: Request, error: UsageError) -> Response:
        # what the disk refuses is no fault of the request, which may be sent again; what is damaged stays so
        if isinstance(error.__cause__, (OSError, sqlite3.Error)) and not isinstance(error, DamagedError):
            return await problem(request, ProblemError(503, str(error), 1.0))
        return await problem(request, ProblemError(404 if isinstance(error, NotFoundError) else 422, str(error)))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first: Any = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        if first["type"] == "value_error":
            first["msg"] = str(first["ctx"]["error"])
        elif first["type"] == "extra_forbidden":
            first["msg"] = "There is no such key here; /docs lists them"
        elif first["type"] == "json_invalid":
            where, place = first["loc"]
            first["msg"] = f"It is no JSON from character {place} on ({first['ctx']['error']})"
        elif first["type"] == "model_attributes_type":  # in pydantic's words a dictionary, which JSON does not have
            whole = first["loc"] == ("body",)
            example = _example(request) if whole else ""
            first["msg"] = (
                f"An object was expected{example}; /docs shows it" if not whole or _is_json(request) else _NOT_JSON
            )
        end = "" if first["msg"].endswith("?") else "."
        return ProblemError(422, f"{where}: {first['msg']}{end}").response()

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        detail = f"{error.detail}."
        if error.status_code == 400:  # FastAPI's, where its reader of JSON gives up
            detail = "The body is no JSON in UTF-8, is nested too deeply, or has a number of thousands of digits."
        if error.status_code in (404, 405):  # of a path, or a method, that no route has
            detail = f"{error.detail}; /docs lists the routes."
        response = ProblemError(error.status_code, detail).response()
        if error.status_code == 405:  # Starlette names the methods of one route alone
            here = [route for route in app.routes if route.matches(request.scope)[0] is not Match.NONE]
            methods = {method for route in here for method in getattr(route, "methods", None) or ()}
            response.headers["Allow"] = ", ".join(sorted(methods))
        return response


HEADER, BEARER = "ApiKeyHeader", "BearerKey"
_SCHEMES = {
    HEADER: {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "A key that 'api-key' has made."},
    BEARER: {"type": "http", "scheme": "bearer", "description": "The same key, as 'Authorization: Bearer KEY'."},
}


class NeedsRole:
    """A dependency of a route: refuses callers whose key may not do what needs a role."""

    def __init__(self, keys: ApiKeys, role: str) -> None:
        self._keys, self.role = keys, role

    async def __call__(self, request: Request) -> None:  # a plain function would go through a thread
        """Refuse a request with 401 or 403."""
        if not self._keys.required:
            return
        allowed = self._keys.allows(key_of(request.scope), self.role)
        if allowed is None:
            raise no_key()
        if not allowed:
            raise ProblemError(403, f"This key may not do what needs the role '{self.role}'.")


def describe_keys(app: FastAPI, required: bool) -> None:
    """Let the schema of an application, with all its routes, tell what key each needs, and what errors are."""

    plain = app.openapi

    def openapi() -> dict[str, Any]:
        made, schema = app.openapi_schema is not None, plain()  # which keeps it
        if not made:
            _describe(app, schema, required)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


def _describe(app: FastAPI, schema: dict[str, Any], required: bool) -> None:
    schema.setdefault("components", {})["securitySchemes"] = _SCHEMES
    for route in app.routes:
        if not isinstance(route, APIRoute) or not route.include_in_schema:
            continue
        needed = (need.dependency for need in route.dependencies)
        role = next((check.role for check in needed if isinstance(check, NeedsRole)), "")
        for method in route.methods or ():
            operation = schema["paths"][route.path_format][method.lower()]
            for response in operation["responses"].values():
                content = response.get("content", {})
                if PROBLEM in content:  # FastAPI has the schema under the type of what the route answers with
                    response["content"] = {PROBLEM: next(body for body in content.values() if body)}
            if not role:
                operation["security"] = []
                continue
            # of schemes that are not OAuth, OpenAPI 3.1 lets the list hold the roles that are needed
            operation["security"] = [{HEADER: [role]}, {BEARER: [role]}, *([] if required else [{}])]
            sentence = f"Needs a key with the role `{role}`{'' if required else ', where the service has keys'}."
            operation["description"] = f"{operation.get('description', '')}\n\n{sentence}".strip()
