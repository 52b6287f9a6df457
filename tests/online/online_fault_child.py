"""What the fault tests kill: ingests a file into a state, with a small model, versions and compaction on the way.

Usage: online_fault_child.py STATE EVENTS [STEP NTH]; it kills itself at the NTH time that STEP is reached.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys

import numpy as np

from recbole_signed.online import files
from recbole_signed.online.events import Limits, sign_of
from recbole_signed.online.file_sources import JsonLinesSource
from recbole_signed.online.state import OnlineState, Update

BATCH, SNAPSHOT_EVERY, COMPACT_EVERY = 40, 200, 700


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def learn(model: np.ndarray, update: Update) -> np.ndarray:
    """A model whose state depends on every event and on the batches they came in, and that can't be applied twice."""
    if update.n_users > len(model):
        model = np.concatenate([model, np.zeros(update.n_users - len(model))])
    changes = update.changes
    signs = sign_of(changes.new)
    model[changes.users] *= 0.9
    np.add.at(model, changes.user, np.cos(changes.item) * (1.0 + signs))
    model[changes.forgotten] = 0.0
    return model


def main(state_folder: str, events: str, step: str = "", nth: str = "1") -> None:
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
        model = snapshot.tensors["model"] if snapshot else np.zeros(1)
        for update in state.replay():
            model = learn(model, update)
        source = JsonLinesSource(events, Limits(now=lambda: 2_000_000))
        saved, compacted = snapshot.applied_seq if snapshot else 0, state.log.base_seq
        while update_or_none := state.ingest_from(source, BATCH):
            model = learn(model, update_or_none)
            say("ack", state.last_seq)
            if state.applied_seq - saved >= SNAPSHOT_EVERY:
                state.snapshot({"model": model}, {}, model="test")
                saved = state.applied_seq
            if state.applied_seq - compacted >= COMPACT_EVERY:
                state.compact()
                compacted = state.applied_seq
        say("done", state.hash(), hashlib.sha256(model.tobytes()).hexdigest())


if __name__ == "__main__":
    main(*sys.argv[1:])
