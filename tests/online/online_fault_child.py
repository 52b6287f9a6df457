"""What the fault tests kill: ingests a file into a state, with a small model, versions and compaction on the way.

Usage: online_fault_child.py STATE EVENTS MODEL [STEP NTH]; it kills itself at the NTH time that STEP is reached.
MODEL is ``small``, a few lines that depend on every batch, or a model of :data:`MODELS`, with a refresh before each
version.
"""

import hashlib
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "support"))

from bare_state import JsonLines, ready
from state_hashes import state_hash

from recbole_signed import files
from recbole_signed.live import Event, EventBatch
from recbole_signed.live.events import Limits, sign_of
from recbole_signed.live.store.edges import EdgeState
from recbole_signed.live.store.erasure import Erasure
from recbole_signed.live.store.results import Update
from recbole_signed.live.store.state import OnlineState
from recbole_signed.live.store.versions import Snapshot, read_manifest, read_tensors

BATCH, SNAPSHOT_EVERY, COMPACT_EVERY, BACKUP_EVERY = 40, 200, 700, 1100


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Small:
    """A model whose state depends on every event and on the batches they came in, and that can't be applied twice."""

    def __init__(self, state: OnlineState, snapshot: Snapshot | None) -> None:
        self.table = snapshot.tensors["model"] if snapshot else np.zeros(1)

    def learn(self, update: Update) -> None:
        if update.logged.n_users > len(self.table):
            self.table = np.concatenate([self.table, np.zeros(update.logged.n_users - len(self.table))])
        changes = update.changes
        signs = sign_of(changes.new)
        self.table[changes.users] *= 0.9
        np.add.at(self.table, changes.user, np.cos(changes.item) * (1.0 + signs))
        self.table[changes.forgotten] = 0.0

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return {"model": self.table}, {}

    def renew(self) -> None:
        """Nothing grows stale."""


MODELS: dict[str, dict[str, Any]] = {
    "SSF": {"rank": 6, "cutoff": 3, "popularity_floor": 0.1, "dislike_aversion": 0.5},
    "BPR": {"embedding_size": 4, "epochs": 2, "train_batch_size": 256, "refresh_steps": 4, "reservoir": 100},
    "SGCN": {"embedding_size": 4, "epochs": 2, "train_batch_size": 256, "refresh_steps": 4, "reservoir": 100},
}
"""The models of this package that are killed, with their settings."""


class Learned:
    """A model as the trainer leads it, from nothing on."""

    def __init__(self, name: str, state: OnlineState, snapshot: Snapshot | None) -> None:
        from recbole_signed.live.learners import make_learner

        self.edges = lambda: state.edges
        self.learner = make_learner(name, MODELS[name])
        self.fitted = snapshot is not None
        if snapshot:
            self.learner.load(snapshot.tensors, snapshot.meta)
            self.learner.attach(state.edges)

    def learn(self, update: Update) -> None:
        if self.fitted:
            self.learner.update(self.edges(), update.changes)

    def renew(self) -> None:
        edges = self.edges()
        learn = self.learner.refresh if self.fitted else self.learner.fit
        of_items = self.fitted and not self.learner.refresh_needs_times
        learn(edges.freeze(by_item=of_items).arrays(threading.RLock()), edges.n_users, edges.n_items)
        self.learner.attach(edges)
        self.fitted = True

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return self.learner.state()


def refit(snapshot: Snapshot, edges: EdgeState, forgotten: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Stand for a fit of a pinned version: its tensors hold a number for each user at most."""
    return {name: np.zeros_like(each) for name, each in snapshot.tensors.items()}, snapshot.meta


def forget_in_backup(path: Path, users: dict[int, bytes], timestamp: int) -> None:
    with ready(path) as backup:
        known = backup.users.tokens(user for user in users if user < len(backup.users))
        gone = [Event("", token, "", "forget_user", timestamp) for token in known if token is not None]
        backup.ingest(EventBatch.from_events(gone))
        backup.snapshot({}, {}, model="test")
        assert not Erasure(backup).finish(refit, forget_in_backup).rows
        refuse_forgotten(backup)


def refuse_forgotten(state: OnlineState) -> None:
    """Look for rows of users who were forgotten in all that was saved."""
    folders = [*state.directory.glob("base-*"), *(state.versions.folder / name for name in state.versions.names())]
    for folder in folders:
        indptr = read_tensors(folder, read_manifest(folder), "edges")["indptr"]
        gone = state.users.tombstones
        assert not np.diff(indptr)[gone[gone < len(indptr) - 1]].any(), folder


def main(state_folder: str, events: str, name: str, step: str = "", nth: str = "1") -> None:
    left = int(nth)

    def reached(name: str) -> None:
        nonlocal left
        if name == step:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    files.reached = reached
    with OnlineState.open(state_folder, keep=2) as state:
        say("start", state.last_seq)
        snapshot = state.recover("test")
        assert snapshot is not None or state.log.base_seq == 0, "the log was compacted and no version is left"
        model = Small(state, snapshot) if name == "small" else Learned(name, state, snapshot)
        erasure, backed_up = Erasure(state), state.last_seq // BACKUP_EVERY
        saved, compacted = snapshot.applied_seq if snapshot else 0, state.log.base_seq

        def take(update: Update) -> None:
            nonlocal saved, compacted, backed_up
            model.learn(update)
            if state.applied_seq - saved >= SNAPSHOT_EVERY:
                model.renew()
                state.snapshot(*model.state(), model="test")
                saved = state.applied_seq
                if len(state.versions.names()) == 2 and not state.versions.is_pinned(state.versions.names()[0]):
                    state.versions.pin(state.versions.names()[0])
                erasure.finish(refit, forget_in_backup)
            if state.applied_seq // BACKUP_EVERY > backed_up:
                backed_up = state.applied_seq // BACKUP_EVERY
                state.back_up(state.directory.with_name(f"{state.directory.name}-backup"))
            if state.applied_seq - compacted >= COMPACT_EVERY and state.applied_seq == state.last_seq:
                state.compact()
                compacted = state.applied_seq

        for update in state.replay():
            take(update)
        source = JsonLines(events, Limits(now=lambda: 2_000_000))
        source.seek(state.log.position(source.name))
        while len((polled := source.poll(BATCH)).batch) or polled.rejected:
            state.dead_letters.write(source.name, polled.rejected)
            update = state.ingest(polled.batch, source.name, polled.position)
            say("ack", state.last_seq)
            take(update)
        if erasure.pending().rows:
            state.snapshot(*model.state(), model="test")
            pending = erasure.finish(refit, forget_in_backup)
            assert not pending.rows, pending
        refuse_forgotten(state)
        digest = hashlib.sha256()
        for key, tensor in sorted(model.state()[0].items()):
            digest.update(key.encode() + np.ascontiguousarray(tensor).tobytes())
        say("done", state_hash(state), digest.hexdigest())


if __name__ == "__main__":
    main(*sys.argv[1:])
