"""Routes under ``/api`` that clients of gorse call for feedback and recommendation.

Feedback types are names: of :data:`POSITIVE` likes, of :data:`NEGATIVE` dislikes, ``skip`` a skip, any other a view.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timezone
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from recbole_signed.errors import NotFoundError
from recbole_signed.ids_and_times import iso_time
from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE, TYPES
from recbole_signed.live.serve import schemas
from recbole_signed.live.serve.engine import Engine
from recbole_signed.live.serve.problems import ProblemError, Turns
from recbole_signed.live.serve.ranking import Ranked, known_score
from recbole_signed.live.serve.requests import check_k, erase, submit, take_back

POSITIVE = frozenset(("like", "star", "favorite", "buy", "purchase", "upvote", "share"))
NEGATIVE = frozenset(("dislike", "downvote", "not_interested", "report"))


class SessionFeedback(BaseModel):
    """One feedback of a session as gorse's clients send it: nobody asks whose it is."""

    model_config = ConfigDict(extra="ignore")

    FeedbackType: str = Field(min_length=1, max_length=64)
    ItemId: schemas.Id


class Feedback(SessionFeedback):
    """One feedback of a user."""

    UserId: schemas.Id
    Timestamp: str | int | None = None


class RowAffected(BaseModel):
    """How many rows were written."""

    RowAffected: int


class Score(BaseModel):
    """An item and its score."""

    Id: str
    Score: float


def event_type(name: str) -> str:
    """Return the type of event of a feedback type."""
    lower = name.lower()
    if lower in POSITIVE:
        return "like"
    if lower in NEGATIVE:
        return "dislike"
    return "skip" if lower == "skip" else "view"


def _in_utc(stamp: str | int | None) -> str | int | None:
    """Return a time with its zone: to gorse one without is in UTC, and may be a date alone."""
    if not isinstance(stamp, str):
        return stamp
    with contextlib.suppress(ValueError):  # refused with the other rows that are not events
        parsed = iso_time(stamp) if "-" in stamp else None
        if parsed is not None and parsed.tzinfo is None:
            return parsed.replace(tzinfo=timezone.utc).isoformat()
    return stamp


def _scores(ranked: Ranked) -> list[Score]:
    return [Score(Id=item, Score=known_score(score) or 0.0) for item, score in ranked.items]


def add_routes(app: FastAPI, engine: Engine, needs: Callable[[str], Any], turns: Turns) -> None:
    """Add the routes to an application."""
    tag: dict[str, Any] = {"tags": ["gorse"]}

    @app.post("/api/feedback", dependencies=needs("write"), **tag)
    @app.put("/api/feedback", dependencies=needs("write"), **tag)
    async def feedback(body: list[Feedback]) -> RowAffected:
        """Take feedback; 422 where all of it is refused."""
        rows = [
            {
                "user_id": entry.UserId,
                "item_id": entry.ItemId,
                "type": event_type(entry.FeedbackType),
                "timestamp": _in_utc(entry.Timestamp or None),
            }
            for entry in body
        ]
        if not rows:
            return RowAffected(RowAffected=0)
        answer = await submit(engine, rows)
        if answer.refused == len(rows):
            raise ProblemError(422, f"No feedback was taken; of the first: {answer.results[0].reason}.")
        return RowAffected(RowAffected=answer.accepted)

    @app.delete("/api/feedback/{feedback_type}/{user_id}/{item_id}", dependencies=needs("write"), **tag)
    async def delete_feedback(feedback_type: str, user_id: schemas.PathId, item_id: schemas.PathId) -> RowAffected:
        """Take a verdict back."""
        return await taken_back(user_id, item_id, event_type(feedback_type))

    @app.delete("/api/feedback/{user_id}/{item_id}", dependencies=needs("write"), **tag)
    async def delete_all_feedback(user_id: schemas.PathId, item_id: schemas.PathId) -> RowAffected:
        """Take back the verdict of a user on an item."""
        edges = (await turns.take(lambda: engine.user(user_id))).edges
        return await taken_back(user_id, item_id, next((edge.type for edge in edges if edge.item == item_id), None))

    async def taken_back(user_id: str, item_id: str, kind: str | None) -> RowAffected:
        if kind in ("like", "dislike"):
            with contextlib.suppress(NotFoundError):
                return RowAffected(RowAffected=(await take_back(engine, user_id, item_id, kind)).accepted)
        return RowAffected(RowAffected=0)

    @app.delete("/api/user/{user_id}", dependencies=needs("admin"), **tag)
    async def delete_user(user_id: schemas.PathId) -> RowAffected:
        """Erase a user."""
        return RowAffected(RowAffected=(await erase(engine, user_id)).accepted)

    @app.get("/api/recommend/{user_id}", dependencies=needs("read"), **tag)
    @app.get("/api/recommend/{user_id}/", dependencies=needs("read"), **tag)  # as clients write it without a category
    async def recommend(
        user_id: schemas.PathId,
        n: Annotated[int, Query(ge=1)] = 10,
        version: Annotated[str, Header(alias="X-API-Version")] = "1",
    ) -> list[str] | list[Score]:
        """Return the ids of the best items; with version 2 also their scores."""
        check_k(engine, n)
        ranked = await turns.take(lambda: engine.recommend(user_id, n))
        return _scores(ranked) if version == "2" else [item for item, _ in ranked.items]

    @app.post("/api/session/recommend", dependencies=needs("read"), **tag)
    async def session(body: list[SessionFeedback], n: Annotated[int, Query(ge=1)] = 10) -> list[Score]:
        """Return the best items for a session, given by its feedback, oldest first."""
        check_k(engine, n)
        kinds = [(entry.ItemId, TYPES[event_type(entry.FeedbackType)]) for entry in body]
        verdicts = [(item, kind) for item, kind in kinds if kind in (LIKE, DISLIKE)]
        seen = [item for item, _ in kinds]
        return _scores(await turns.take(lambda: engine.session(verdicts, n, exclude=seen)))

    @app.get("/api/item/{item_id}/neighbors", dependencies=needs("read"), **tag)
    async def neighbors(item_id: schemas.PathId, n: Annotated[int, Query(ge=1)] = 10) -> list[Score]:
        """Return the nearest items."""
        check_k(engine, n)
        return _scores(await turns.take(lambda: engine.similar(item_id, n)))

    @app.get("/api/popular", dependencies=needs("read"), **tag)
    async def popular(n: Annotated[int, Query(ge=1)] = 10) -> list[Score]:
        """Return the most liked items."""
        check_k(engine, n)
        return _scores(await turns.take(lambda: engine.popular(n)))

    @app.get("/api/health/live", **tag)
    async def live() -> dict[str, bool]:
        """Say that the process lives."""
        return {"Ready": True}

    @app.get("/api/health/ready", responses={503: {"model": dict[str, bool]}}, **tag)
    async def ready(response: Response) -> dict[str, bool]:
        """Say whether answers are current; 503 where they are not."""
        reasons = engine.reasons_not_ready()
        response.status_code = 503 if reasons else 200
        return {"Ready": not reasons}
