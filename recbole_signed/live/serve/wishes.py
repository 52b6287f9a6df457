"""Routes for what a user asks for beside verdicts: the list of it, and taking it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI, Query

from recbole_signed.live.learners.asked import Asked, ItemValues
from recbole_signed.live.serve import schemas
from recbole_signed.live.serve.engine import Engine
from recbole_signed.live.serve.problems import Turns
from recbole_signed.live.serve.ranking import asked_by
from recbole_signed.live.serve.requests import check_length, submit, wait_for


def add_routes(app: FastAPI, engine: Engine, needs: Callable[[str], Any], turns: Turns) -> None:
    """Add the routes to an application."""

    @app.get("/v1/users/{user_id}/wishes", tags=["recommendations"], dependencies=needs("read"))
    async def get_wishes(
        user_id: schemas.PathId, min_seq: Annotated[int | None, Query(ge=0)] = None
    ) -> schemas.WishList:
        """Return what a user asks for beside verdicts and has not taken back: each can be."""
        await wait_for(engine, min_seq)

        def work() -> schemas.WishList:
            with engine.recommender.reading() as (state, learner):
                asked = Asked.of(state, learner, int(state.users.ids([user_id])[0]))
                return schemas.WishList(
                    wishes=[schemas.WishInfo(**each) for each in asked_by(state, asked)], seq=engine.seq
                )

        return await turns.take(work)

    @app.get("/v1/items/{item_id}/values", tags=["items"], dependencies=needs("read"))
    async def get_values(item_id: schemas.PathId) -> schemas.Values:
        """Return the values of an item that less or more can be asked for of."""

        def work() -> schemas.Values:
            found: dict[str, list[str]] = {}
            with engine.recommender.reading() as (state, learner):
                for column, value in ItemValues(state, learner).of(int(state.items.ids([item_id])[0])):
                    found.setdefault(column, []).append(value)
            return schemas.Values(values=found)

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
