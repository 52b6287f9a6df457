"""Removes forgotten users from the files beside the log: the base, the versions, and backups.

What is left to do stands in the table ``erasures`` until it is done, through crashes and failures:

1. *rows*: the write-ahead file is emptied, the base written again, versions with the user's edges thrown away once
   there is a newer one (pinned ones are fitted again), and backups forget, those whose disk is away once it is back.
2. *factors*: what a model learned from all users together goes with the next fit from scratch.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from recbole_signed.errors import UsageError, counted
from recbole_signed.files import DamagedError, locked
from recbole_signed.live.store.backup import (
    BACKUPS,
    NotedBackup,
    clear_leftovers,
    leftovers,
    note,
    noted,
    other_maker,
)
from recbole_signed.live.store.database import explained, transaction, write_small_sum
from recbole_signed.live.store.edges import EdgeState
from recbole_signed.live.store.state import OnlineState
from recbole_signed.live.store.versions import Snapshot

Refit = Callable[[Snapshot, EdgeState, np.ndarray], tuple[Mapping[str, np.ndarray], Mapping[str, Any]]]
"""Fits the model of a version to other edges, less what it knows of some ids; returns its tensors and meta."""
ForgetInBackup = Callable[[Path, dict[int, bytes], int], None]  # by ids and tags; the last is the time stamp
_PAUSES = (0.05, 0.2, 0.5)  # seconds after which the write-ahead file is tried again
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pending:
    """What is left to be erased."""

    rows: int  # users whose rows are still in the write-ahead file, a version, the base or a backup
    factors: int  # users of whom models that are saved or in force have learned
    reasons: tuple[str, ...] = ()  # why the last attempt left something
    since: int | None = None  # when the first of them was forgotten, in ms since 1970; None: nothing is left

    def __bool__(self) -> bool:
        return bool(self.rows or self.factors)

    def __str__(self) -> str:
        counts = f"rows of {counted(self.rows, 'user')} in files, and what a model has learned from {self.factors}"
        return "; ".join(self.reasons) or counts


class Erasure:
    """The erasures of one state."""

    def __init__(self, state: OnlineState) -> None:
        self.state = state
        self._reasons: tuple[str, ...] = ()
        self._backups_done: dict[Path, int] = {}  # seq of the newest erasure; opening one takes long
        self._base_done: tuple[str | None, int] = None, 0  # the same, and the base that it led to

    def pending(self) -> Pending:
        """Return what is left."""
        with self.state.entered(writes=False):
            rows = self._rows()
        since = min((timestamp for _, _, timestamp, _ in rows), default=None)
        return Pending(sum(files for _, _, _, files in rows), len(rows), self._reasons, since)

    def _rows(self) -> list[tuple[int, int, int, int]]:
        query = "SELECT user, seq, timestamp, files FROM erasures"
        return self.state.log.connection.execute(query).fetchall()

    @property
    def is_due(self) -> bool:
        """Whether something can be left to be done: of an erasure, or in a backup that is there again."""
        return bool(self.pending().rows or self._has_returned())

    def _has_returned(self) -> bool:
        try:
            return any(backup.missed and backup.is_there for backup in noted(self.state.directory))
        except (DamagedError, OSError):  # told at the next erasure
            return False

    def needs_version(self, scratch_seq: int) -> bool:
        """Return whether erasures wait for a version to be saved, the model being fitted last at ``scratch_seq``."""
        with self.state.entered():
            rows = self._rows()
        if not rows:
            return False
        newest = self._newest_whole()
        if newest is None:
            return bool(self.state.versions.names())
        with_rows = max((row[1] for row in rows if row[3]), default=0)
        factors = max((row[1] for row in rows if row[1] <= scratch_seq), default=0)
        return newest["applied_seq"] < with_rows or newest["scratch_seq"] < factors

    def finish(self, refit: Refit, forget_in_backup: ForgetInBackup) -> Pending:
        """Do what can be done now, while `maintenance` is held; return what is left, which is tried again then."""
        state = self.state
        with state.entered():
            rows = self._rows()
        returned = self._has_returned()
        if not (rows or returned):
            return Pending(0, 0)
        reasons: list[str] = []
        with_rows = [row for row in rows if row[3]]
        attempts: list[Callable[[], int | None]] = [lambda: self._clean_versions(rows, with_rows, refit)]
        if with_rows:
            attempts += [self._empty_wal, lambda: self._clean_base(with_rows)]
        if with_rows or returned:
            attempts.append(lambda: self._clean_backups(with_rows, forget_in_backup))
        fitted = 0
        for attempt in attempts:
            try:
                fitted = max(fitted, attempt() or 0)
            except (UsageError, OSError) as error:
                reasons.append(str(error))
                _logger.warning("An erasure is pending: %s", error)
        self._reasons = tuple(reasons)
        with state.entered(), explained(state.log.path, "Noting an erasure"), transaction(state.log.connection):
            execute = state.log.connection.execute
            for user, seq, _, _ in rows:
                if not reasons:
                    execute("UPDATE erasures SET files = 0 WHERE user = ? AND seq = ?", (user, seq))
                    execute("DELETE FROM erasures WHERE user = ? AND seq = ? AND seq <= ?", (user, seq, fitted))
            write_small_sum(state.log.connection)
        return self.pending()

    def _empty_wal(self) -> None:
        """See that what was erased is not in the write-ahead file; a moment is left to those who read the log."""
        log = self.state.log
        for pause in _PAUSES:
            with self.state.entered():
                if log.erasure_pending:
                    log.empty_wal()
                if not log.erasure_pending:
                    return
            time.sleep(pause)
        raise UsageError(
            f"{log.path}-wal can't be emptied and still holds what was erased; end what reads {log.path.name}, or make "
            "room on the disk."
        )

    def _clean_base(self, with_rows: list[Any]) -> None:
        log, newest = self.state.log, max(row[1] for row in with_rows)
        if log.base is not None and log.base_seq < newest and self._base_done != (log.base, newest):
            self.state.base.erase([row[0] for row in with_rows])
            self._base_done = log.base, newest

    def _clean_versions(self, rows: list[Any], with_rows: list[Any], refit: Refit) -> int:
        """Throw away or fit again what holds users; return the seq up to which saved factors know no forgotten user."""
        versions = self.state.versions
        newest = self._newest_whole()
        fitted = newest["scratch_seq"] if newest else 0
        last_rows = max((row[1] for row in with_rows), default=0)
        last_factors = max((row[1] for row in rows if row[1] <= fitted), default=0)
        users = [row[0] for row in rows]
        for name in versions.names():
            about = self._about(name)
            holds_rows = about["applied_seq"] < last_rows and about["erased_seq"] < last_rows
            holds_factors = about["scratch_seq"] < last_factors
            if not (holds_rows or holds_factors):
                continue
            if newest is None or newest["applied_seq"] < last_rows:
                raise UsageError(
                    "versions hold users who were forgotten since; the next version replaces them, and this is tried "
                    "again by itself."
                )
            if not versions.is_pinned(name):
                versions.remove(name)
                continue
            snapshot = versions.load(name)
            edges = EdgeState.of_version(name, snapshot.edges, snapshot.n_items)
            edges.erase([user for user in users if user < edges.n_users])
            tensors, meta = refit(snapshot, edges, np.array(users, dtype=np.int64))
            versions.replace(name, tensors, edges.to_tensors(), meta, max(last_rows, last_factors))
        return int(fitted) if versions.names() else 2**62

    def _newest_whole(self) -> dict[str, Any] | None:
        for name in self.state.versions.candidates():
            try:
                self.state.versions.load(name)
            except DamagedError:
                continue
            return self._about(name)
        return None

    def _about(self, name: str) -> dict[str, Any]:
        """Return what a version says of itself; one that is damaged may hold anybody."""
        try:
            about = self.state.versions.manifest(name)
            return {**about, "scratch_seq": int(about["meta"].get("scratch_seq", 0))}
        except (UsageError, TypeError, ValueError):
            return dict.fromkeys(("applied_seq", "scratch_seq", "erased_seq"), -1)

    def _clean_backups(self, rows: list[Any], forget_in_backup: ForgetInBackup) -> None:
        directory = self.state.directory
        for path in leftovers(directory):
            shutil.rmtree(path)
        if not (directory / BACKUPS).exists():
            return
        newest = max((row[1] for row in rows), default=0)
        stamp = max((row[2] for row in rows), default=self.state.settings.now())
        problems: list[str] = []
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(locked(directory, wait=False))
            except BlockingIOError:
                raise UsageError(f"a backup of {directory} is being made; the erasure waits for its end.") from None
            for backup in noted(directory):
                try:
                    self._clean_backup(backup, newest, stamp, forget_in_backup)
                except (UsageError, OSError) as error:  # the others forget nevertheless
                    problems.append(str(error))
        if problems:
            raise UsageError(" ".join(problems))

    def _clean_backup(self, backup: NotedBackup, newest: int, stamp: int, forget_in_backup: ForgetInBackup) -> None:
        directory, path = self.state.directory, backup.path
        backup.refuse_away(directory)
        clear_leftovers(path)
        if not backup.is_there:  # a state in its place holds other users under these ids
            _logger.warning("The backup %s is gone; where it was moved to, it still holds forgotten users.", path)
            if not backup.missed:
                note(directory, replace(backup, missed=True))
            return
        if other := other_maker(path, directory):
            _logger.warning("The backup %s is that of %s, and still holds the forgotten users.", path, other)
            return
        if not backup.missed and self._backups_done.get(path, -1) >= newest:
            return
        users = self.state.users
        with self.state.entered():  # all who ever were forgotten: it may have been away before
            tags = {user: users.tag(user) for user in users.tombstones.tolist()}
        forget_in_backup(path, tags, stamp)
        self._backups_done[path] = newest
        if backup.missed:
            note(directory, replace(backup, missed=False))
