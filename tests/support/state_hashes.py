"""Hashes of all that a state remembers, to compare two states."""

from __future__ import annotations

import hashlib
from typing import Any

from recbole_signed.ids_and_times import hash_of
from recbole_signed.live.store.edge_views import owners
from recbole_signed.live.store.edges import EdgeState
from recbole_signed.live.store.event_log import EventLog
from recbole_signed.live.store.vocabulary import Vocabulary


def edges_hash(edges: EdgeState) -> str:
    """Return the hash of all that is remembered of pairs, of those that are no longer visible too."""
    digest, tensors = hashlib.sha256(), edges.to_tensors()
    tensors["indptr"] = owners(tensors["indptr"])  # users without pairs are not told apart from none
    for column in tensors.values():
        digest.update(column.tobytes())
    return digest.hexdigest()


def tokens_hash(vocabulary: Vocabulary) -> str:
    """Return the hash of ids and tokens themselves, which does not depend on the random salts."""
    return hash_of(token or "" for token in vocabulary.tokens(range(len(vocabulary))))


def wish_rows(log: EventLog) -> list[tuple[Any, ...]]:
    """Return all that is kept of what users ask for."""
    return sorted((user, *vars(wish).values()) for user, own in log.wishes._of.items() for wish in own.values())


def state_hash(state: Any) -> str:
    """Return the hash of vocabularies, edges, what users ask for, and the seq that is reflected."""
    parts = [tokens_hash(state.users), tokens_hash(state.items), edges_hash(state.edges), str(state.applied_seq)]
    return hashlib.sha256("\n".join([*parts, *map(str, wish_rows(state.log))]).encode()).hexdigest()
