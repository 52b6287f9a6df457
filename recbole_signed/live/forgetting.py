"""How users who are to be forgotten go from all files of a state, and from its backups."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from recbole_signed.errors import UsageError
from recbole_signed.live.events import Event, EventBatch, Limits
from recbole_signed.live.model_version import refit_version
from recbole_signed.live.store.erasure import Erasure, Pending
from recbole_signed.live.store.state import OnlineState
from recbole_signed.live.store.update import Update

RETRY, LONGEST_RETRY = 1.0, 300.0
"""Seconds after which a failed erasure is tried again, at the next update; twice as long each time, up to the second.
"""
_logger = logging.getLogger(__name__)


class Forgetful(Protocol):
    """What is asked of an :class:`~recbole_signed.live.OnlineRecommender` whose users are forgotten."""

    @property
    def scratch_seq(self) -> int:
        """Seq of the newest event that the last fit from scratch has seen."""

    @property
    def closed(self) -> bool:
        """Whether calls are refused."""

    @property
    def pending_erasure(self) -> Pending:
        """What is left of users who were forgotten."""

    def open(self, directory: Path) -> Forgetful:
        """Open a backup."""

    def reading(self) -> AbstractContextManager[tuple[OnlineState, Any]]:
        """Give state and learner, which stay as they are until the block ends."""

    def maintaining(self) -> AbstractContextManager[OnlineState]:
        """Hold what writes versions, the base or backups."""

    def update(self, events: EventBatch | Iterable[Event]) -> Any:
        """Take events."""

    def refit(self) -> Future[None]:
        """Learn from scratch."""

    def snapshot(self) -> str:
        """Save a version."""

    def erase(self) -> Pending:
        """Do what is left of erasures, and return what still is."""

    def close(self) -> None:
        """Let go of the state directory."""


class Forgetting:
    """Erases users from the files of a model's state, at once or in the background, and tries again what failed.

    Args:
        model: whose state it is.
    """

    def __init__(self, model: Forgetful) -> None:
        self._model = model
        self._erasure: Erasure | None = None
        self._erased, self._again, self._queued = 0.0, False, False
        self._retry = RETRY
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="eraser")

    def _of(self, state: OnlineState) -> Erasure:
        if self._erasure is None or self._erasure.state is not state:
            self._erasure = Erasure(state)
        return self._erasure

    def pending(self) -> Pending:
        """Return what is left."""
        with self._model.reading() as (state, _):
            erasure = self._of(state)
        return erasure.pending()  # it waits for the disk, and the model is not held meanwhile

    def now(self) -> Pending:
        """Do what can be done, and return what is left."""
        with self._model.maintaining() as state:
            with self._model.reading():
                erasure, scratch_seq = self._of(state), self._model.scratch_seq
            if erasure.needs_version(scratch_seq):
                self._model.snapshot()
            found = erasure.finish(refit_version, self._forget_in_backup)
            self._attempted(again=bool(found.rows))
            return found

    def _attempted(self, *, again: bool) -> None:
        self._again, self._erased = again, time.monotonic()
        self._retry = min(2 * self._retry, LONGEST_RETRY) if again else RETRY

    def at_opening(self, state: OnlineState) -> None:
        """Go on in the background with what an earlier process left."""
        if self._of(state).is_due:
            self._later()

    def after_refit(self, state: OnlineState) -> None:
        """Go on in the background: new factors know nobody who was forgotten before."""
        if self._of(state).pending():
            self._later()

    def after_update(self, update: Update) -> None:
        """Go on in the background where an event forgets somebody, or an attempt failed some time ago."""
        if len(update.changes.forgotten) or (self._again and time.monotonic() > self._erased + self._retry):
            self._later()

    def close(self) -> None:
        """Wait for what is under way."""
        self._pool.shutdown(wait=True)

    def _later(self) -> None:
        if not self._queued:
            self._queued = True
            self._pool.submit(self._quietly)

    def _quietly(self) -> None:
        self._queued = False
        try:
            self.now()
        except Exception as error:  # whatever it is: nobody waits for this thread
            self._attempted(again=True)
            if not self._model.closed:  # then it is tried again at opening
                fault = None if isinstance(error, UsageError) else error
                _logger.warning("An erasure is pending: %s", error, exc_info=fault)

    def _forget_in_backup(self, path: Path, users: dict[int, bytes], timestamp: int) -> None:
        """Erase users from a backup and from the factors in it.

        Args:
            path: of the backup.
            users: ids, which a state and its backup share, with the tags by which it is seen that they do.
            timestamp: of the forgetting, in milliseconds.

        Raises:
            UsageError: the backup is damaged, or something of them is left.
        """
        backup = self._model.open(path)
        try:
            with backup.reading() as (state, _):
                known = state.users
                shared = [user for user, tag in users.items() if user < len(known) and known.tag(user) == tag]
                tokens = [token for token in known.tokens(shared) if token is not None]
                # one who came back there after an earlier forgetting is forgotten by a later one alone
                stamps = [max(timestamp, state.log.graves.time_of(token) + 1) for token in tokens]
            gone = [Event("", token, "", "forget_user", at) for token, at in zip(tokens, stamps, strict=True)]
            if gone:
                backup.update(EventBatch.of(gone, Limits(future_tolerance=None)))
            if backup.pending_erasure:
                backup.refit().result()
                left = backup.erase()
                if left:
                    raise UsageError(f"the backup {path} still holds forgotten users: {left}.")
        finally:
            backup.close()
