"""Requests that are answered by threads: a few at a time, and none that has waited for too long."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, fail_after, to_thread

from recbole_signed.live.serve.problems import too_late

Answered = TypeVar("Answered")
THREADS = 4
"""Answers that are made at once beside those of the event loop; more would wait for each other anyway."""


class Turns:
    """Answers that are made in threads of their own; one whose turn has not come in time is refused.

    Args:
        wait: seconds that a request may wait for its turn.
        n: threads.
    """

    def __init__(self, wait: float, n: int = THREADS) -> None:
        self._wait, self._turns, self._threads = wait, CapacityLimiter(n), CapacityLimiter(n)

    async def take(self, work: Callable[[], Answered]) -> Answered:
        """Return what ``work`` returns.

        Raises:
            ProblemError: 503 where its turn has not come in time.
        """
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
