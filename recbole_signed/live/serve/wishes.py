"""Routes for what a user asks for beside verdicts: the list of it, and taking it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query
from pydantic import BaseModel, Field

from recbole_signed.live.learners.asked import Asked, ItemValues
from recbole_signed.live.serve import schemas
from recbole_signed.live.serve.engine import Engine
from recbole_signed.live.serve.requests import check_length, submit, wait_for
from recbole_signed.live.serve.turns import Turns


class WishInfo(BaseModel):
    """What a user asks for and has not taken back."""

    kind: Literal["less", "more", "dislike"]
    feature: str | None = Field(description="The column; None of a dislike of the item itself.")
    values: list[str] = Field(description="Values of the column: of a dislike those that its item has.")
    item: str | None = Field(description="What was disliked; None for what names a value.")
    timestamp: int = Field(description="Of the event, milliseconds since 1970.")
    until: int | None = Field(description="The same, from which on it has no effect; None: it has no end.")


class WishList(BaseModel):
    """What a user asks for, the newest first."""

    wishes: list[WishInfo]
    seq: int


class Values(BaseModel):
    """What an item has that less or more can be asked for of: values by column."""

    values: dict[str, list[str]]


def told(state: Any, asked: Asked | None) -> list[dict[str, Any]]:
    """Return what is in force of a user, with the ids that events have, as :class:`WishInfo` has it."""
    found: dict[Any, list[str]] = {}
    for wish, value, _ in [] if asked is None else asked.moves:
        found.setdefault(wish, []).append(value)
    for wish in [] if asked is None else asked.wishes:
        found.setdefault(wish, [])
    listed = sorted(found.items(), key=lambda each: -each[0].timestamp)
    return [{**wish.told(state.items), "values": values} for wish, values in listed]


def add_routes(app: FastAPI, engine: Engine, needs: Callable[[str], Any], turns: Turns) -> None:
    """Add the routes to an application."""

    @app.get("/v1/users/{user_id}/wishes", tags=["recommendations"], dependencies=needs("read"))
    async def get_wishes(user_id: schemas.PathId, min_seq: Annotated[int | None, Query(ge=0)] = None) -> WishList:
        """Return what a user asks for beside verdicts and has not taken back: each can be."""
        await wait_for(engine, min_seq)

        def work() -> WishList:
            with engine.trainer.reading() as (state, learner):
                asked = Asked.of(state, learner, int(state.users.ids([user_id])[0]))
                return WishList(wishes=[WishInfo(**each) for each in told(state, asked)], seq=engine.seq)

        return await turns.take(work)

    @app.get("/v1/items/{item_id}/values", tags=["items"], dependencies=needs("read"))
    async def get_values(item_id: schemas.PathId) -> Values:
        """Return the values of an item that less or more can be asked for of."""

        def work() -> Values:
            found: dict[str, list[str]] = {}
            with engine.trainer.reading() as (state, learner):
                for column, value in ItemValues(state, learner).of(int(state.items.ids([item_id])[0])):
                    found.setdefault(column, []).append(value)
            return Values(values=found)

        return await turns.take(work)

    @app.delete(
        "/v1/users/{user_id}/wishes/{feature}/{value}",
        tags=["events"],
        dependencies=needs("write"),
        response_model_exclude_none=True,
    )
    async def delete_wish(
        user_id: schemas.PathId, feature: schemas.PathId, value: schemas.PathId
    ) -> schemas.EventsAnswer:
        """Take back what was asked for of a value; a dislike is taken back as any other."""
        check_length(engine, user_id)
        return await submit(engine, [{"user_id": user_id, "type": "undo", "features": {feature: value}}])
