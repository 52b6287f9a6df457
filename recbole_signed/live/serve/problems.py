"""Errors as problem details (RFC 9457)."""

from __future__ import annotations

from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

PROBLEM = "application/problem+json"


class ProblemError(HTTPException):  # which FastAPI lets through where it reads a body
    """An error with a status of its own."""

    def __init__(self, status: int, title: str, detail: str, retry_after: float | None = None) -> None:
        super().__init__(status, detail)
        self.title, self.retry_after = title, retry_after

    def response(self) -> JSONResponse:
        """Return it as problem details."""
        headers = {} if self.retry_after is None else {"Retry-After": str(max(1, round(self.retry_after)))}
        detail = str(self.detail).encode(errors="backslashreplace").decode()  # it may quote what UTF-8 can't hold
        body = {"type": "about:blank", "title": self.title, "status": self.status_code, "detail": detail}
        return JSONResponse(body, self.status_code, headers, PROBLEM)


def too_late() -> ProblemError:
    """Return the error of a request whose turn has not come in time."""
    detail = "More is asked for than this process can answer; ask again later."
    return ProblemError(503, "Service Unavailable", detail, 1.0)
