"""What routes do with a request before the engine answers: take its events, hold it against limits, wait for a seq."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin

from fastapi import Request, Response
from fastapi.routing import APIRoute

from recbole_signed.errors import UsageError, nearest
from recbole_signed.files import RepeatedKeyError, keys_once
from recbole_signed.live.serve import ranking, schemas
from recbole_signed.live.serve.engine import Engine
from recbole_signed.live.serve.problems import ProblemError
from recbole_signed.live.serve.writer import BusyError


@contextlib.contextmanager
def disk() -> Iterator[None]:
    """Answer 503 where something can't be kept: nothing is wrong with the request, which may be sent again."""
    try:
        yield
    except UsageError as error:
        raise ProblemError(503, str(error), 1.0) from error


async def submit(engine: Engine, rows: Sequence[Any]) -> schemas.EventsAnswer:
    """Take events; the answer comes when they are on the disk and recommendations reflect them."""
    if len(rows) > engine.settings.limits.batch:
        raise ProblemError(413, f"A request holds at most {engine.settings.limits.batch} events, got {len(rows)}.")
    assert engine.writer is not None, "a replica hands events on"
    if engine.feed is not None:
        raise ProblemError(409, "Events come from the stream that the service follows; add them to it.")
    try:
        with disk():
            written = await asyncio.wrap_future(engine.writer.submit(rows))
    except BusyError:
        raise ProblemError(429, "Too many events wait to be written; send these again later.", 1.0) from None
    results = [schemas.EventResult(status=e.status, event_id=e.event_id, reason=e.reason) for e in written.results]
    count = {name: sum(result.status == name for result in results) for name in ("accepted", "duplicate", "refused")}
    return schemas.EventsAnswer(results=results, seq=written.seq, **count)


class _Request(Request):
    async def json(self) -> Any:
        try:
            return json.loads(await self.body(), object_pairs_hook=keys_once)
        except RepeatedKeyError as error:
            raise ProblemError(422, f"body: {error}; give it once.") from error


class Route(APIRoute):
    """A route with dependencies before body and parameters, where FastAPI is slow, and no key twice in a body."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """Return what answers a request."""
        checks = [need.dependency for need in self.dependencies]
        self.dependant.dependencies = [need for need in self.dependant.dependencies if need.call not in checks]
        answer = super().get_route_handler()
        parameters = {field.alias: field.field_info.annotation for field in self.dependant.query_params}

        async def handle(request: Request) -> Response:
            for check in checks:
                await check(request)  # type: ignore[misc]
            if checks and self.path != "/metrics":  # probes and scrapers may add what they like
                _check_parameters(request, parameters)
            return await answer(_Request(request.scope, request.receive))

        return handle


def _check_parameters(request: Request, known: Mapping[str, Any]) -> None:
    """Raise ProblemError (422) for a parameter that a route does not have, or takes once and gets twice."""
    for name, value in request.query_params.multi_items():
        if name not in known and (name, value) != ("offset", "0"):  # clients of gorse may send that
            near = nearest(name, known) or "; /docs lists those that are there."
            raise ProblemError(422, f"query: there is no parameter '{name}' here{near}")
        if (number := len(request.query_params.getlist(name))) > 1 and not _is_list(known.get(name)):
            raise ProblemError(422, f"query: the parameter '{name}' is given {number} times; give it once.")


def _is_list(annotation: Any) -> bool:
    """Whether a parameter of the query may be given several times: a list, or nothing."""
    return any(get_origin(part) is list for part in (annotation, *get_args(annotation)))


async def erase(engine: Engine, user: str) -> schemas.EventsAnswer:
    """Forget a user; raises as :func:`take_back`."""
    return await _done(engine, {"user_id": user, "type": "forget_user"}, "The user can't be forgotten")


async def _done(engine: Engine, row: dict[str, Any], refusal: str, status: int = 409) -> schemas.EventsAnswer:
    answer = await submit(engine, [row])
    if answer.refused:
        reason = str(answer.results[0].reason)
        raise ProblemError(status, f"{refusal}: {reason}{'' if reason.endswith('?') else '.'}")
    return answer


def check_length(engine: Engine, given: str) -> None:
    """Raise ProblemError (422) for an id that is longer than the settings allow."""
    longest = engine.settings.limits.id_length
    if len(given) > longest:
        raise ProblemError(422, f"The id has {len(given)} characters; at most {longest} are taken.")


async def take_back(engine: Engine, user: str, item: str, sign: str) -> schemas.EventsAnswer:
    """Take the like or dislike of a user back; NotFoundError for an item that nobody has named."""

    def find() -> None:
        with engine.recommender.reading() as (state, _):
            ranking.item_number(state, item)

    await asyncio.to_thread(find)
    row = {"user_id": user, "item_id": item, "type": f"un{sign}"}
    return await _done(engine, row, f"The {sign} can't be taken back")


async def announce(engine: Engine, row: dict[str, Any]) -> None:
    """Take the announcement of an item or a user."""
    await _done(engine, row, f"The {row['type']} can't be announced", 422)


async def keep_item(engine: Engine, item_id: str, body: schemas.ItemBody) -> None:
    """Keep what the service is told of an item: features or a name alone leave withdrawal and tags as they are."""
    check_length(engine, item_id)

    async def put(withdrawn: bool, tags: Sequence[str]) -> None:
        with disk():
            await asyncio.to_thread(engine.put_item, item_id, withdrawn, tags)

    before = engine.item(item_id)
    if body.withdrawn:  # before it is announced, so that nobody sees it in between
        await put(True, body.tags)
    if body.features is not None:
        try:
            await announce(engine, {"item_id": item_id, "type": "item", "features": body.features})
        except ProblemError:
            if body.withdrawn:  # what is refused changes nothing
                await put(before.withdrawn, before.tags)
            raise
    if body.name is not None:
        with disk():
            await asyncio.to_thread(engine.catalogue.put_names, {item_id: body.name})
    others = body.features is not None or body.name is not None
    if not body.withdrawn and (body.model_fields_set & {"withdrawn", "tags"} or not others):
        await put(False, body.tags)


def check_k(engine: Engine, k: int, explain: bool = False) -> None:
    """Raise ProblemError (422) for a list that is longer than the settings allow."""
    limits = engine.settings.limits
    if explain and k > limits.explained:
        raise ProblemError(422, f"k is {k}; at most {limits.explained} are served with explanations.")
    if k > limits.k:
        raise ProblemError(422, f"k is {k}; at most {limits.k} are served.")


async def wait_for(engine: Engine, seq: int | None) -> None:
    """Wait until answers reflect ``seq``, a second at most: a replica may lag behind the writer."""
    if seq is None:
        return
    deadline = time.monotonic() + 1.0
    while engine.seq < seq:
        if time.monotonic() > deadline:
            raise ProblemError(409, f"Answers reflect seq {engine.seq}, not {seq} yet.", 1.0)
        await asyncio.sleep(0.002)
