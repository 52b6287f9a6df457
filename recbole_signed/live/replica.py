"""A read-only follower of a state that another process writes: the same recommendations, a moment later."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import select
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from recbole_signed.errors import UsageError
from recbole_signed.files import DamagedError, path_of
from recbole_signed.live.events import ITEM, USER
from recbole_signed.live.learners.base import Learner, learner_from
from recbole_signed.live.renewal import load_version
from recbole_signed.live.store.database import existing_log, identity
from recbole_signed.live.store.edge_views import Changes
from recbole_signed.live.store.edges import EdgeState
from recbole_signed.live.store.event_log import EventLog
from recbole_signed.live.store.hidden_items import StateView
from recbole_signed.live.store.settings import StateSettings
from recbole_signed.live.store.state import VERSIONS
from recbole_signed.live.store.versions import Snapshot, Versions

FAR = 10_000  # events between here and a saved version from which on it is faster to start again from that version
_logger = logging.getLogger(__name__)


class OnlineReplica(StateView):
    """Edges, vocabularies and model of a state directory, kept up by :meth:`follow`; nothing is ever written."""

    def __init__(self, directory: str | Path, *, settings: StateSettings | None = None) -> None:
        self.directory = path_of(directory, "directory")
        self._lock = threading.RLock()
        self._file = identity(existing_log(self.directory))  # before it is opened: what comes after it is another one
        self.log = EventLog(existing_log(self.directory), read_only=True, check=False, settings=settings)
        self.versions = Versions(self.directory / VERSIONS)
        self._fitted_seq, self._loaded = 0, ""
        self.model_name = ""
        self._forgettings: list[tuple[int, Changes]] = []  # by their seq, of users who are in versions before them
        self._learner: Learner | None = None
        try:
            self._recover()
            self.follow()
        except BaseException:
            self.log.close()
            raise

    @property
    def state(self) -> OnlineReplica:
        """This itself, which has what rankings need of a state."""
        return self

    @property
    def version(self) -> str:
        """The model in force, named as the writer names it."""
        return f"{self.model_name}@{self._fitted_seq}"

    @contextlib.contextmanager
    def reading(self) -> Iterator[tuple[Any, Learner]]:
        """Give state and learner, which stay as they are until the block ends."""
        with self._lock:
            assert self._learner is not None
            yield self, self._learner

    def follow(self) -> int:
        """Apply what the log has got since, and load the version that the writer has saved; return the seq applied."""
        fresh = self._new_version()  # before the lock: answers do not wait until it is read
        if identity(self.log.path) != self._file:  # SQLite would go on reading what is gone
            raise UsageError(
                f"{self.log.path} was deleted, moved or replaced while it was followed; put the directory back, or "
                "start this replica again."
            )
        with self._lock:
            self.log.catch_up()
            self.log.withdrawn.reload()
            behind = fresh is not None and fresh[0].applied_seq - self.applied_seq > FAR
            if behind or self.log.base_seq > self.applied_seq:  # compacted beyond what was read here
                self.log.reload()  # users may have been forgotten there
                self._recover()
                fresh = None
            learner = self._learner
            assert learner is not None
            for logged in self.log.commits(self.applied_seq):
                if logged.n_users > len(self.users) or logged.n_items > len(self.items):
                    self.log.catch_up()  # committed since the vocabularies were read
                changes = self.edges.apply(logged)
                self._newcomers.update(self.edges, logged, changes)
                self.log.wishes.follow(logged, changes.forgotten)
                self.announcements.follow({}, [token or "" for token in self.users.tokens(changes.forgotten.tolist())])
                for user in changes.forgotten.tolist():
                    self.users.forget(user)
                learner.update(self.edges, changes)
                if len(changes.forgotten):
                    self._forgettings.append((logged.last_seq, changes))
                self._announce(learner, logged.user[logged.type == USER], logged.item[logged.type == ITEM])
                self.applied_seq = logged.last_seq
            if fresh is not None and fresh[0].applied_seq <= self.applied_seq:  # else its items are not here yet
                self._take(*fresh)
            return self.applied_seq

    def _announce(self, learner: Learner, users: np.ndarray, items: np.ndarray) -> None:
        """Let a learner take the features of users and items, by their numbers."""
        if len(users) or len(items):
            tokens = {
                side: [token for token in vocabulary.tokens(np.unique(numbers).tolist()) if token is not None]
                for side, vocabulary, numbers in (("user", self.users, users), ("item", self.items, items))
            }
            self.announcements.read(tokens)
            learner.announce(self.announcements.by_id(self.users, self.items, tokens))

    def _recover(self) -> None:
        """Start again from the newest version that is whole."""
        for name in self.versions.candidates():
            try:
                snapshot = self.versions.load(name)
                edges = EdgeState.of_version(name, snapshot.edges, snapshot.n_items)
            except (DamagedError, OSError):  # the writer may have removed it meanwhile
                continue
            if snapshot.applied_seq >= self.log.base_seq:
                self._start_from(edges, snapshot.applied_seq)
                self._take(snapshot, _learner_of(snapshot))
                return
        raise UsageError(f"{self.directory} holds no version that is whole; the writer's snapshot() makes one.")

    def _new_version(self) -> tuple[Snapshot, Learner] | None:
        """Read the version in force where it is not the one that answers come from."""
        name = self.versions.current()
        if name is None or name == self._loaded:
            return None
        try:
            snapshot = self.versions.load(name)
        except (DamagedError, OSError):  # tried again at the next call
            return None
        return snapshot, _learner_of(snapshot)

    def _take(self, snapshot: Snapshot, learner: Learner) -> None:
        learner.attach(self.edges)
        known = self.announcements.by_id(self.users, self.items)
        sizes = {"item": self.edges.n_items, "user": self.edges.n_users}
        learner.announce(
            {side: {n: features for n, features in table.items() if n < sizes[side]} for side, table in known.items()}
        )
        self._forgettings = [each for each in self._forgettings if each[0] > snapshot.applied_seq]
        for _, changes in self._forgettings:
            learner.update(self.edges, changes)
        self._learner, self.model_name = learner, snapshot.model
        self._fitted_seq, self._loaded = int(snapshot.meta.get("fitted_seq", 0)), snapshot.name

    def close(self) -> None:
        """Close the log."""
        with self._lock:
            self.log.close()


def _learner_of(snapshot: Snapshot) -> Learner:
    learner = learner_from(snapshot.meta.get("learner", {}))
    load_version(learner, snapshot)
    return learner


BUSY = 1.0  # seconds after a change in which more is expected: a commit is seen once the disk has what was written
_WRITTEN = 0x2 | 0x80 | 0x100  # IN_MODIFY, IN_MOVED_TO and IN_CREATE of <sys/inotify.h>


class _Watch:
    """Waits until something changes in folders; where the system does not tell (inotify of Linux), it never waits."""

    def __init__(self, *folders: Path) -> None:
        self._file: int | None = None
        with contextlib.suppress(AttributeError, OSError):
            libc = ctypes.CDLL(None)
            made = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            watched = [libc.inotify_add_watch(made, os.fsencode(folder), _WRITTEN) for folder in folders]
            if min(watched) >= 0:  # else the system has no more of them
                self._file = made
            elif made >= 0:
                os.close(made)

    def wait(self, seconds: float) -> bool:
        """Wait for so long at most; return whether something may have changed since the last call."""
        if self._file is None:
            return True
        with contextlib.suppress(BlockingIOError):
            if select.select([self._file], [], [], seconds)[0]:
                return bool(os.read(self._file, 65_536))
        return False

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)


class Follower:
    """A thread in which a replica follows the log.

    It looks each ``interval`` seconds while the state's folder changes, and each ``idle`` seconds while it does not.
    """

    def __init__(self, replica: OnlineReplica, interval: float = 0.005, idle: float = 0.25) -> None:
        self._replica, self._interval, self._idle = replica, interval, idle
        self._watch = _Watch(replica.directory, replica.directory / VERSIONS)
        self.failure: str | None = None  # why the last look failed; None where it did not
        self.looked = time.monotonic()  # monotonic clock at the start of the last good look: events before are applied
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()
        self._watch.close()

    def _run(self) -> None:
        changed = woken = time.monotonic()
        while not self._stop.is_set():
            now = time.monotonic()
            busy = now - changed < BUSY
            if busy:  # at first the commit that was told of is a moment away
                self._stop.wait(min(self._interval, now - woken))
            if self._watch.wait(0 if busy else self._idle):
                changed = time.monotonic()
                woken = woken if busy else changed
            began = time.monotonic()
            try:
                self._replica.follow()
                self.looked, self.failure = began, None
            except Exception as error:  # the state may be there again at the next look
                if self.failure is None:
                    _logger.exception("the replica can't follow")
                self.failure = str(error)
                self._stop.wait(1.0)
