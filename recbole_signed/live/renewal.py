"""A learner over the state directory that it follows: both held together, renewed beside updates, saved as versions."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_signed.errors import UsageError
from recbole_signed.live.computing import Compute, compute_here
from recbole_signed.live.events import ids_of
from recbole_signed.live.learners.base import Learner, Refreshed, described, learner_from
from recbole_signed.live.store.backup import BackupInfo
from recbole_signed.live.store.edges import EdgeState, FrozenEdges
from recbole_signed.live.store.erasure import Erasure, ForgetInBackup, Pending
from recbole_signed.live.store.results import Update
from recbole_signed.live.store.state import OnlineState
from recbole_signed.live.store.versions import Snapshot, Versions

_logger = logging.getLogger(__name__)
RETRY, LONGEST_RETRY = 1.0, 300.0  # seconds until a failed erasure is tried again, doubled each time up to the other


class RenewableModel:
    """State and learner under one lock, and what brings a new model in force: start, refresh, refit or version."""

    _forgetting: Forgetting

    def _prepare(self, directory: Path, model_name: str) -> None:
        self.directory, self.model_name = directory, model_name
        self.state: OnlineState | None = None
        self.learner: Learner | None = None
        # unfitted, of the parameters that the next refit brings in force; None where these are in force
        self.wanted: Learner | None = None
        # unfitted, of the parameters of a configuration; None: those of the version in force hold
        self._configured: Learner | None = None
        self.closed = self._behind = False
        self._n_fits = self._n_refreshes = self._fitted_seq = 0
        # of the last fit from scratch: seq of the newest event that it has seen, and when it began, seconds since 1970
        self.scratch_seq, self.scratch_time = 0, time.time()  # 0 for a version that was saved before this was kept
        self._lock = threading.RLock()
        self._updating = threading.Lock()  # held, before `_lock`, by the one update or snapshot under way
        self.compute: Compute = compute_here
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="refit")

    # ---- holding

    def _go_on(self, state: OnlineState, learner: Learner, snapshot: Snapshot | None) -> None:
        """Bring a learner and the edges from a version that was just recovered to the end of the log."""
        if snapshot is None:
            learner.fit(state.edges.export(), state.edges.n_users, state.edges.n_items)
            self.scratch_seq = state.applied_seq
        else:
            load_version(learner, snapshot)
            self._scratch_of(snapshot)
        self._fitted_seq = state.applied_seq if snapshot is None else int(snapshot.meta.get("fitted_seq", 0))
        learner.attach(state.edges)
        before = state.applied_seq
        for update in state.replay():
            if len(update.changes.forgotten):  # what else a learner takes from updates follows from the edges
                learner.update(state.edges, update.changes)
        if state.applied_seq > before:
            learner.attach(state.edges)
        learner.announce(state.announced())
        self.state, self.learner = state, learner
        self._forgetting.at_opening(state)

    @contextlib.contextmanager
    def reading(self) -> Iterator[tuple[OnlineState, Learner]]:
        """Give state and learner, both at the end of the log, which stay as they are until the block ends."""
        self._check_process()
        with self._lock:
            state, learner = self._ready()
            if self._behind:
                _logger.warning("An exception left the model behind the log; both are read again.")
                snapshot = state.recover(model=self.model_name)
                description = snapshot.meta.get("learner") if snapshot is not None else None
                fresh = learner_from(description or described(learner))
                fresh.dislike_strength = learner.dislike_strength  # may have been changed since the version was saved
                self._go_on(state, fresh, snapshot)
                self._compare()
                self._behind = False
                state, learner = self._ready()
            yield state, learner

    def current(self) -> OnlineState:
        """Return the state, brought to the end of the log; it is not held while the disk is waited for."""
        with self.reading() as (state, _):
            return state

    def _compare(self) -> None:
        """Let the next refit bring what the configuration says, where a version of other parameters is in force."""
        if self._configured is not None and self.learner is not None:
            same = same_settings(self._configured, described(self.learner))
            self.wanted = None if same else self._configured

    def _check_process(self) -> None:
        """Refuse a forked process; called before a lock is taken, which the fork may have copied while it was held."""
        if self.state is not None:
            self.state.check_process()

    @property
    def version(self) -> str:
        """Name of the model in force, and seq of the newest event that its last fit or refresh has seen."""
        return f"{self.model_name}@{self._fitted_seq}"

    @property
    def versions(self) -> Versions:
        """The saved versions."""
        return self._ready()[0].versions

    def _ready(self) -> tuple[OnlineState, Learner]:
        if self.closed:
            raise UsageError(f"The state {self.directory} was closed; open it again.")
        if self.state is None or self.learner is None:
            raise UsageError("the trainer has no online state yet; call fit(), or start() with the training data set.")
        return self.state, self.learner

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters ``in_force``, and those ``at_next_refit`` where they differ, else None."""
        with self.reading() as (_, learner):
            successor = self.wanted
            return {
                "in_force": learner.parameters(),
                "at_next_refit": successor.parameters() if successor is not None else None,
            }

    # ---- renewing

    def refresh(self) -> Refreshed:
        """Bring the item side up to date; updates wait only while edges are copied and the result is swapped in.

        Where a refit ends meanwhile, the refresh is done again on what it brought.
        """
        while True:
            with self.reading() as (state, learner):
                fresh, n_fits = copy.deepcopy(learner), self._n_fits
                frozen, sizes, seq = _edges_now(state, times=fresh.refresh_needs_times)
            fresh, result = self.compute(fresh, "refresh", frozen.arrays(state.lock), *sizes)
            with self.reading() as (state, learner):
                if self._n_fits == n_fits:
                    self._n_refreshes += 1
                    self._swap(state, learner, fresh, seq)
                    return result

    def refit(self) -> Future[None]:
        """Learn from scratch, with parameters as they are now; the future is done when the version is in force."""
        with self.reading():
            return self._pool.submit(self._refit)

    def _refit(self) -> None:
        with self.reading() as (state, learner):
            successor, n_refreshes = self.wanted, self._n_refreshes
            fresh = copy.deepcopy(successor if successor is not None else learner)
            if successor is not None:  # it has the features of its data set alone
                fresh.announce(state.announced())
            frozen, sizes, seq = _edges_now(state, times=fresh.needs_times)
            scratch = (seq, time.time())
        fresh, _ = self.compute(fresh, "fit", frozen.arrays(state.lock), *sizes)
        again = None
        with self.reading() as (state, _):
            if self._n_refreshes != n_refreshes:  # what a refresh brought meanwhile is not in the edges of the fit
                again, sizes, seq = _edges_now(state, times=fresh.refresh_needs_times)
        if again is not None:
            fresh, _ = self.compute(fresh, "refresh", again.arrays(state.lock), *sizes)
        with self.reading() as (state, learner):
            self._n_fits += 1
            self.scratch_seq, self.scratch_time = scratch
            self._swap(state, learner, fresh, seq)
            if self.wanted is successor:
                self.wanted = None
        self._forgetting.after_refit(state)

    def _scratch_of(self, snapshot: Snapshot) -> None:
        self.scratch_seq = int(snapshot.meta.get("scratch_seq", 0))
        self.scratch_time = float(snapshot.meta.get("scratch_time", 0))

    def _swap(self, state: OnlineState, old: Learner, new: Learner, seq: int) -> None:
        new.dislike_strength = old.dislike_strength
        kept = new.keep_without_forgotten(old)
        if not kept:  # its users are those of the data set, who may have been forgotten since
            new.forget(state.users.tombstones)
        new.attach(state.edges)
        new.announce(state.announced(sides=("item",) if kept else ("item", "user")))
        self.learner, self._fitted_seq = new, seq

    def snapshot(self) -> str:
        """Save a version of the model and its edges, and return its name; others wait while arrays are copied."""
        with self.maintaining() as state:
            # the state is busy while a batch goes to the disk: waiting for it with the model held would stop answers
            with self._updating, self.reading() as (_, learner):
                tensors, meta = learner.state()
                tensors = {name: np.array(tensor) for name, tensor in tensors.items()}
                about = {
                    "learner": described(learner),
                    "fitted_seq": self._fitted_seq,
                    "scratch_seq": self.scratch_seq,
                    "scratch_time": self.scratch_time,
                }
                captured = state.capture({**meta, **about}, model=self.model_name)
            return state.save(tensors, captured)

    @contextlib.contextmanager
    def maintaining(self) -> Iterator[OnlineState]:
        """Hold what writes versions, the base or backups; it is never waited for while state and learner are held."""
        state = self.current()
        with state.maintenance:
            yield state

    def back_up(self, target: str | Path) -> BackupInfo:
        """Copy the state, while it goes on, to a new folder outside of it, or over an earlier backup.

        Raises:
            UsageError: the target is something else, its disk is full or not mounted, or the state is damaged.
        """
        return self.current().back_up(target)

    def activate(self, name: str) -> None:
        """Put a saved version in force, for now and for the next start; events since then stay taken in.

        Raises:
            UsageError: there is no such version, it is damaged, or it is of another model.
        """
        with self.maintaining() as state:
            snapshot = state.versions.existing(name)  # read while answers go on
            if snapshot.model != self.model_name:
                raise UsageError(f"version {name} is of {snapshot.model}, not of {self.model_name}.")
            with self.reading() as (_, learner):
                description = snapshot.meta.get("learner") or described(learner)
            fresh = learner_from(description)
            load_version(fresh, snapshot)
            state.versions.rollback(name)  # once it is known that the next start can begin with it
            with self.reading() as (state, learner):
                self._n_fits += 1  # a refresh under way must not undo it
                self._scratch_of(snapshot)
                self._swap(state, learner, fresh, int(snapshot.meta.get("fitted_seq", 0)))
                self._compare()

    def compact(self) -> int:
        """Put edges in the place of the log's rows up to the oldest version, or of all; return the last seq gone."""
        return self.current().compact()

    # ---- ending

    def close(self) -> None:
        """Wait for a call and a refit under way, and let go of the state directory; later calls are refused."""
        try:
            self._check_process()
        except UsageError:
            return
        with self._updating, self._lock:
            self.closed = True
        self._pool.shutdown(wait=True)
        self._forgetting.close()
        if self.state is not None:
            self.state.close()  # waits for a version that is being saved, which waits for the lock
            self.state = None


def _edges_now(state: OnlineState, *, times: bool) -> tuple[FrozenEdges, tuple[int, int], int]:
    """Return the edges as they are, numbers of users and items, and the seq that they reflect."""
    edges = state.edges
    return edges.freeze(by_item=not times), (edges.n_users, edges.n_items), state.applied_seq


@dataclass(frozen=True)
class UpdateResult:
    """What :meth:`OnlineRecommender.update` did."""

    update: Update
    seconds: float  # from the call until recommendations follow the events, which are on the disk by then


def load_version(learner: Learner, snapshot: Snapshot) -> None:
    """Let a learner take a version over."""
    with _explained(snapshot):
        learner.load(snapshot.tensors, snapshot.meta)


@contextlib.contextmanager
def _explained(snapshot: Snapshot) -> Iterator[None]:
    try:
        yield
    except UsageError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        why = f"there is no {error}" if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"
        raise UsageError(
            f"Version {snapshot.name} does not hold what {snapshot.model} needs ({why}); roll back to another version, "
            "open it with the version of this package that saved it, or fit the model again from the data set."
        ) from error


def refit_version(
    snapshot: Snapshot, edges: EdgeState, forgotten: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Fit the model of a version to its edges less those of the ids ``forgotten``; return its tensors and meta."""
    learner = learner_from(snapshot.meta.get("learner", {}))
    with _explained(snapshot):
        learner.take_features_of(snapshot.tensors, snapshot.meta, forgotten)
    learner.fit(edges.export(), edges.n_users, edges.n_items)
    learner.attach(edges)
    tensors, meta = learner.state()
    return tensors, {**meta, "learner": described(learner)}


def same_settings(one: Learner, other: dict[str, Any]) -> bool:
    """Return whether a learner has the parameters of a description, as JSON has them, and reads the same features."""
    own = one.columns()
    if other.get("columns", own) != own:  # versions of before this was kept do not say it
        return False
    return json.dumps(one.parameters(), sort_keys=True) == json.dumps(other.get("parameters"), sort_keys=True)


def numbers_of(state: OnlineState, items: str | int | Iterable[str | int]) -> np.ndarray:
    """Return the numbers of those items that are known, int64; ``items`` may be a single one."""
    ids = state.items.ids(ids_of(items, "item"))
    return ids[(ids > 0) & (ids < state.edges.n_items)]


class Forgetting:
    """Erases users from the files of a model's state, at once or in the background, and tries again what failed."""

    def __init__(self, model: RenewableModel, forget_in_backup: ForgetInBackup) -> None:
        self._model, self._forget_in_backup = model, forget_in_backup
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
            pending = erasure.finish(refit_version, self._forget_in_backup)
            self._attempted(again=bool(pending.rows))
            return pending

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
