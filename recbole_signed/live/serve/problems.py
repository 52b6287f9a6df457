"""Errors as problem details (RFC 9457), and turns of requests that threads answer: late ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import TypeVar

from anyio import CapacityLimiter, fail_after, to_thread
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

PROBLEM = "application/problem+json"


_TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}  # which older versions of Python call otherwise


class ProblemError(HTTPException):  # which FastAPI lets through where it reads a body
    """An error with a status of its own; ``retry_after`` seconds later the same request may go well."""

    def __init__(self, status: int, detail: str, retry_after: float | None = None) -> None:
        super().__init__(status, detail)
        self.retry_after = retry_after

    def response(self) -> JSONResponse:
        """Return it as problem details."""
        headers = {} if self.retry_after is None else {"Retry-After": str(max(1, round(self.retry_after)))}
        title = _TITLES.get(self.status_code) or HTTPStatus(self.status_code).phrase
        detail = str(self.detail).encode(errors="backslashreplace").decode()  # it may quote what UTF-8 can't hold
        body = {"type": "about:blank", "title": title, "status": self.status_code, "detail": detail}
        return JSONResponse(body, self.status_code, headers, PROBLEM)


def too_late() -> ProblemError:
    """Return the error of a request whose turn has not come in time."""
    return ProblemError(503, "More is asked for than this process can answer; ask again later.", 1.0)


Answered = TypeVar("Answered")
THREADS = 4  # answers that are made at once beside those of the event loop; more would wait for each other anyway


class Turns:
    """Answers made in ``n`` threads of their own; one whose turn has not come after ``wait`` seconds is refused."""

    def __init__(self, wait: float, n: int = THREADS) -> None:
        self._wait, self._turns, self._threads = wait, CapacityLimiter(n), CapacityLimiter(n)

    async def take(self, work: Callable[[], Answered]) -> Answered:
        """Return what ``work`` returns."""
        me = object()
        try:
            with fail_after(self._wait):
                await self._turns.acquire_on_behalf_of(me)
        except TimeoutError:
            raise too_late() from None
        try:
            return await to_thread.run_sync(work, limiter=self._threads)
        finally:
            self._turns.release_on_behalf_of(me)
