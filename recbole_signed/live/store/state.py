"""The state directory of an online system: what was acknowledged is there after any crash, and replays to the same.

::

    LOCK                 held by the one process that writes
    log.sqlite           events, vocabularies, how far each source was read
    base-<seq>/          the edges that rows up to <seq> led to, once the log was compacted or edges were loaded
    versions/            saved models with their edges, and CURRENT
    dead_letters.jsonl   rows that were no events
    BACKUPS              where backups were made, so that forgotten users go from them too
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from recbole_signed.errors import UsageError, counted
from recbole_signed.files import (
    LOCK,
    PRIVATE,
    DamagedError,
    DirectoryLock,
    at,
    make_folder,
    path_of,
    refusing,
    sync_folder,
)
from recbole_signed.live import EventBatch
from recbole_signed.live.events import ANNOUNCED, FORGET_USER, ids_of
from recbole_signed.live.store.backup import BackupInfo, back_up
from recbole_signed.live.store.compaction import Base, first_edges
from recbole_signed.live.store.database import LOG, existing_log, identity, refuse_missing_log
from recbole_signed.live.store.edge_views import LogBatch
from recbole_signed.live.store.edges import EdgeState
from recbole_signed.live.store.event_log import EventLog
from recbole_signed.live.store.hidden_items import StateView
from recbole_signed.live.store.line_files import DeadLetterFile
from recbole_signed.live.store.results import DUPLICATE, LATE, NEW, Appended, Captured, Update
from recbole_signed.live.store.settings import StateSettings
from recbole_signed.live.store.versions import Snapshot, Versions, refuse_mismatch

VERSIONS, DEAD_LETTERS = "versions", "dead_letters.jsonl"
_BEHIND = -1  # in the place of the applied seq where the edges are not, or no longer, those of the log
_logger = logging.getLogger(__name__)


class OnlineState(StateView):
    """The log, the vocabularies, the edges and the versions of one directory, for one process and several threads.

    It is used by the process that opened it, one call at a time, while the files are those that it opened. After `open`
    comes `recover`, then `replay` to its end, then `ingest` as one likes; after an exception between a commit and the
    edges, `ingest` is refused until both have read the log again.
    """

    def __init__(self, directory: Path, keep: int, settings: StateSettings) -> None:
        self.directory, self.settings, self.keep = directory, settings, keep
        self.lock = threading.RLock()
        self.maintenance = threading.RLock()  # held, before `lock`, by what writes versions, base or backups
        self.closed = False
        self._pid = os.getpid()
        self._held = DirectoryLock(directory)
        try:
            refuse_missing_log(directory / LOG, directory / VERSIONS)
            self.log = EventLog(directory / LOG, settings=settings)
            sync_folder(directory)
            self._files = {path: identity(path) for path in (directory, directory / LOCK, directory / LOG)}
            self.base = Base(directory, self.log, self.entered)
            self.versions = Versions(directory / VERSIONS)
            self.dead_letters = DeadLetterFile(directory / DEAD_LETTERS, settings.dead_letter_bytes)
            with refusing("Clearing away what a crash left"):
                self.base.clean()
                self.versions.clean()
                while self.log.purge_step():
                    pass
        except BaseException:
            self._held.close()
            raise
        self._start_from(EdgeState(), _BEHIND)
        self._log_behind = False

    @classmethod
    def open(
        cls, directory: str | Path, *, create: bool = True, keep: int = 3, settings: StateSettings | None = None
    ) -> OnlineState:
        """Open a state directory for writing, reading the whole log for damage; ``create`` makes it if absent."""
        directory = path_of(directory, "directory").absolute()
        if keep < 1:
            raise UsageError(f"keep is the number of versions that stay, at least 1, got {keep}.")
        if not create:
            existing_log(directory)
        with refusing(f"Opening the state directory {directory}"):
            make_folder(directory, PRIVATE)
            return cls(directory, keep, settings or StateSettings())

    def __enter__(self) -> OnlineState:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the directory; all that was acknowledged is on the disk already. Waits for a call under way."""
        if os.getpid() != self._pid:  # the files belong to the process that this one was forked from
            return
        with self.maintenance, self.lock:
            if not self.closed:
                self.closed = True
                at("state:closing")
                self.log.close()
                at("state:closed")
                self._held.close()

    @contextlib.contextmanager
    def entered(self, *, writes: bool = True) -> Iterator[None]:
        """Hold the state for one call."""
        self.check_process()  # before the lock, which a fork may have copied while it was held
        with self.lock:
            if self.closed:
                raise UsageError(f"The state {self.directory} was closed; open it again.")
            if writes:
                self.check_files()
            yield

    def check_process(self) -> None:
        """Refuse a process that was forked from the one that opened the directory."""
        if os.getpid() != self._pid:
            raise UsageError(
                f"{self.directory} was opened by process {self._pid}, and this is process {os.getpid()}, forked from "
                "it; open a state in the one process that uses it, after the fork."
            )

    def check_files(self) -> None:
        """Refuse to go on where the files of the state are no longer at their place: what is written would be lost."""
        for path, known in self._files.items():
            if identity(path) != known:
                raise UsageError(
                    f"{path} was deleted, moved or replaced while the state was open, so nothing more is acknowledged; "
                    "put the directory back, or open the state at its new place."
                )

    def back_up(self, target: str | Path) -> BackupInfo:
        """Copy the state to a folder, while it goes on; see `backup.back_up`."""
        with self.maintenance:
            with self.entered():
                pass  # the files are still there
            return back_up(self.directory, Path(target))

    @property
    def last_seq(self) -> int:
        """Seq of the newest event in the log; 0 for none."""
        return self.log.last_seq

    # ---- starting

    def recover(self, model: str | None = None, *, from_log: bool = False) -> Snapshot | None:
        """Put the edges at the newest whole version and give it; None where there is none, or ``from_log``."""
        with self.entered():
            if self._log_behind:
                self.log.reload()
                self._log_behind = False
            for name in [] if from_log else self.versions.candidates():
                try:
                    snapshot = self.versions.load(name)
                    refuse_mismatch(snapshot, self.log, self.directory, model)
                    edges = EdgeState.of_version(name, snapshot.edges, snapshot.n_items)
                except DamagedError as error:
                    _logger.warning("%s Falling back to the version before.", error)
                    continue
                if snapshot.applied_seq < self.log.base_seq:
                    _logger.warning("Version %s lies before the base of the log and is passed over.", name)
                    continue
                self.log.refuse_lost_events()
                self._start_from(edges, snapshot.applied_seq)
                return snapshot
            self.log.refuse_lost_events()
            self._start_from(self.base.load(), self.log.base_seq)
            return None

    def replay(self) -> Iterator[Update]:
        """Apply what the edges do not reflect yet, batch by batch as it was ingested, and give what each did."""
        if self.applied_seq < 0:
            raise UsageError("An online state is recovered before it is replayed; call recover() first.")
        commits = self.log.commits(self.applied_seq)
        while True:
            with self.entered():
                logged = next(commits, None)
                if logged is None:
                    return
                update = self._apply(logged, len(logged), 0)
            yield update

    def bulk_load(
        self, users: Sequence[str], items: Sequence[str], *columns: np.ndarray, unit_known: bool = False
    ) -> None:
        """Start an empty state from edges that are there at once; for the arguments see `compaction.first_edges`."""
        with self.entered():
            edges, *new = first_edges(self.log, users, items, columns, unit_known=unit_known)
            self.base.write(0, edges.to_tensors(), edges.n_items, tuple(new))
            self._start_from(edges, 0)
        self._warn_of_future(*map(np.asarray, (columns[0], columns[1], columns[3])))

    def _warn_of_future(self, user: np.ndarray, item: np.ndarray, timestamp: np.ndarray) -> None:
        """Name the latest of edges that were loaded and lie further ahead of the clock than events may."""
        ahead = timestamp > self.settings.event_limits.latest()
        if ahead.any():
            latest = int(timestamp.argmax())
            (owner,), (of,) = self.users.tokens([int(user[latest])]), self.items.tokens([int(item[latest])])
            _logger.warning(
                "%s in the future, the latest, of user %r and item %r, on %sZ: until then no verdict with a time "
                "replaces it, and trends count ages from it; correct or leave out such rows, and begin again.",
                counted(int(ahead.sum()), "edge lies", "edges lie"),
                owner,
                of,
                np.datetime64(int(timestamp[latest]) // 1000, "s"),
            )

    def withdraw(self, items: str | int | Iterable[str | int], *, back: bool = False) -> None:
        """Keep an item, or several, from being recommended, also such as no event has named yet; ``back`` ends that."""
        tokens = ids_of(items, "item")
        with self.entered():
            self.log.withdrawn.change(tokens, withdrawn=not back)

    # ---- going on

    def ingest(self, batch: EventBatch, source: str | None = None, position: str | None = None) -> Update:
        """Make a batch durable, then apply it; where the disk is full nothing of it is taken."""
        with self.entered():
            return self.take_in(self.append(batch, source, position))

    def probe(self) -> None:
        """Find out whether events could be taken; raises as `EventLog.probe`."""
        with self.entered():
            self.log.probe()

    def append(self, batch: EventBatch, source: str | None = None, position: str | None = None) -> Appended:
        """Make a batch durable and leave the edges as they are, until :meth:`take_in` gets the result; as `ingest`."""
        with self.entered():
            if self.applied_seq != self.last_seq:
                raise UsageError(
                    "The edges do not reflect the log yet; call recover() and run replay() to its end before ingest()."
                )
            if len(batch) > self.settings.max_batch:
                raise UsageError(
                    f"The batch has {len(batch)} events, and max_batch is {self.settings.max_batch}; cut it."
                )
            self.log.end_graces()
            status = np.full(len(batch), DUPLICATE, dtype=np.int8)
            late = self.log.graves.late(batch)
            status[late & (batch.type != FORGET_USER)] = LATE
            taken = np.flatnonzero(~late)
            named = {batch.user_id[i] for i in np.flatnonzero(batch.type == FORGET_USER).tolist()}
            if named:  # repeated forgettings too: a stream that is read again brings rejected rows of before them
                self.dead_letters.erase(named)
            with self._noting_what_is_behind():
                logged, fresh = self.log.append(batch.take(taken) if late.any() else batch, source, position)
                at("state:appended")
                self.check_files()  # what was committed to a file that is gone is not acknowledged
            status[taken[fresh]] = NEW
            return Appended(logged, status)

    def take_in(self, appended: Appended) -> Update:
        """Apply what was appended, which has to be the newest of the log."""
        status = appended.status
        with self.entered(), self._noting_what_is_behind():
            n_new, n_duplicate, n_late = (int((status == code).sum()) for code in (NEW, DUPLICATE, LATE))
            update = self._apply(appended.logged, n_new, n_duplicate)
            return replace(update, n_refused=n_late, status=status)

    def forgettings(self, batch: EventBatch) -> np.ndarray:
        """Return which rows of a batch would forget their user now, int64: neither delayed ones nor duplicates."""
        with self.entered(writes=False):
            taken = np.flatnonzero(~self.log.graves.late(batch))
            forgets = batch.type[taken] == FORGET_USER
            fresh = self.log.first_seen([batch.event_id[i] for i in taken.tolist()]) if forgets.any() else []
            return taken[[i for i in sorted(fresh) if forgets[i]]]

    def announced(
        self, batch: EventBatch | None = None, sides: Collection[str] = tuple(ANNOUNCED.values())
    ) -> dict[str, dict[int, dict[str, Any]]]:
        """Return the announced features in force by side and number; of all, or of those of a batch."""
        return self.announcements.by_id(self.users, self.items, None if batch is None else batch.announced(), sides)

    @contextlib.contextmanager
    def _noting_what_is_behind(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            if self._is_behind():
                self.applied_seq, self._log_behind = _BEHIND, True
            raise

    def _is_behind(self) -> bool:
        try:
            return self.log.durable() != (self.applied_seq, len(self.users), len(self.items))
        except Exception:  # whatever keeps the log from being read: what it holds is not known
            return True

    def _apply(self, logged: LogBatch, n_new: int, n_duplicate: int) -> Update:
        changes = self.edges.apply(logged)
        self._newcomers.update(self.edges, logged, changes)
        self.log.wishes.follow(logged, changes.forgotten)
        self.applied_seq = logged.last_seq
        return Update(n_new, n_duplicate, logged, changes)

    def snapshot(self, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any], *, model: str) -> str:
        """Save a model, without tokens, with the edges it reflects as the current version; return its name."""
        with self.maintenance:
            return self.save(tensors, self.capture(meta, model=model))

    def capture(self, meta: Mapping[str, Any], *, model: str) -> Captured:
        """Copy what a version is made of beside the model's tensors, for `save`."""
        with self.entered():
            if self.applied_seq < 0:
                raise UsageError("An online state is recovered before it is saved; call recover() first.")
            about = {
                "applied_seq": self.applied_seq,
                "n_users": self.edges.n_users,
                "n_items": self.edges.n_items,
                "users_hash": self.users.hash(self.edges.n_users),
                "items_hash": self.items.hash(self.edges.n_items),
                "model": model,
                "data": "",  # earlier versions of this package ask for it
                "meta": dict(meta),
            }
            return Captured(about, self.edges.freeze())

    def save(self, tensors: Mapping[str, np.ndarray], captured: Captured) -> str:
        """Save a version as `snapshot` does, of what `capture` gave, while others use the state; hold `maintenance`."""
        edges = captured.edges.tensors(self.lock)
        with self.entered():
            pass  # the files are still there
        name = self.versions.save(tensors, edges, captured.about)
        self.versions.collect(self.keep)
        return name

    def compact(self) -> int:
        """Put edges in the place of the log's rows up to the oldest version, or the end; return the last seq gone."""
        with self.maintenance:
            with self.entered():
                pass  # the files are still there
            if self.base.advance(self.versions):
                return self.log.base_seq
            with self.entered():
                if self.applied_seq != self.last_seq:
                    raise UsageError("There is no version yet, so the log is compacted up to its end: replay it first.")
                seq, edges, n_items = self.last_seq, self.edges.to_tensors(), self.edges.n_items
            self.base.write(seq, edges, n_items)
            return self.log.base_seq
