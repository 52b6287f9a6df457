"""How users who are to be forgotten go from all files of a state, and from its backups."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from recbole_signed.errors import UsageError
from recbole_signed.online.events import Event, EventBatch, Limits, id_of
from recbole_signed.online.model_version import refit_version
from recbole_signed.online.store import Pending, Update

if TYPE_CHECKING:
    from recbole_signed.online.recommender import OnlineRecommender

RETRY, LONGEST_RETRY = 1.0, 300.0
"""Seconds after which a failed erasure is tried again, at the next update; twice as long each time, up to the second.
"""
_logger = logging.getLogger(__name__)


class Forgetting:
    """The part of an :class:`~recbole_signed.online.OnlineRecommender` that erases users."""

    _closed: bool
    _scratch_seq: int
    # of OnlineRecommender
    open: Any
    update: Any
    snapshot: Any
    _entered: Any
    _maintained: Any

    def _prepare_forgetting(self) -> None:
        self._erased, self._erase_again, self._erase_queued = 0.0, False, False
        self._retry = RETRY
        self._eraser = ThreadPoolExecutor(max_workers=1, thread_name_prefix="eraser")

    def forget(self, user: str | int, timestamp: int | None = None) -> Pending:
        """Erase a user from all files but what its edges left in factors, which the next :meth:`refit` removes.

        ``update`` with an event ``forget_user`` does the same, with the files in the background.

        Args:
            user: its id as events have it.
            timestamp: of the forgetting, in milliseconds; now if None.

        Raises:
            UsageError: ``user`` is not an id, or the disk is full; then nothing was forgotten.
        """
        token = id_of(user)
        with self._entered() as (state, _):
            stamp = state.settings.now() if timestamp is None else timestamp
        self.update([Event("", token, "", "forget_user", stamp)])
        return self.erase()

    @property
    def pending_erasure(self) -> Pending:
        """What is left of users who were forgotten."""
        with self._entered() as (state, _):
            return state.erasure.pending()

    def erase(self) -> Pending:
        """Do what is left of erasures, and return what still is; it is tried again at updates and at opening."""
        with self._maintained():
            with self._entered() as (state, _):
                scratch_seq = self._scratch_seq
            if state.erasure.needs_version(scratch_seq):
                self.snapshot()
            found = state.erasure.finish(refit_version, lambda path, *whom: forget_in_backup(self.open(path), *whom))
            self._erase_again = bool(found.rows)
            self._retry = min(2 * self._retry, LONGEST_RETRY) if found.rows else RETRY
            self._erased = time.monotonic()
            return found

    def _erase_later(self) -> None:
        if not self._erase_queued:
            self._erase_queued = True
            self._eraser.submit(self._erase_quietly)

    def _erase_quietly(self) -> None:
        self._erase_queued = False
        try:
            self.erase()
        except UsageError as error:
            self._erase_again, self._erased = True, time.monotonic()
            if not self._closed:  # then it is tried again at opening
                _logger.warning("An erasure is pending: %s", error)

    def _erase_after(self, update: Update) -> None:
        if len(update.changes.forgotten) or (self._erase_again and time.monotonic() > self._erased + self._retry):
            self._erase_later()


def forget_in_backup(backup: OnlineRecommender, users: dict[int, bytes], timestamp: int) -> None:
    """Erase users from a backup and from the factors in it, and close it.

    Args:
        backup: opened.
        users: ids, which a state and its backup share, with the tags by which it is seen that they do.
        timestamp: of the forgetting, in milliseconds.

    Raises:
        UsageError: the backup is damaged, or something of them is left.
    """
    try:
        with backup.reading() as (state, _):
            known = state.users
            shared = [user for user, tag in users.items() if user < len(known) and known.tag(user) == tag]
            tokens = known.tokens(shared)
        gone = [Event("", token, "", "forget_user", timestamp) for token in tokens if token is not None]
        if gone:
            backup.update(EventBatch.of(gone, Limits(future_tolerance=None)))
        if backup.pending_erasure:
            backup.refit().result()
            left = backup.erase()
            if left:
                reasons = "; ".join(left.reasons) or left
                raise UsageError(f"the backup {backup.directory} still holds forgotten users: {reasons}.")
    finally:
        backup.close()
