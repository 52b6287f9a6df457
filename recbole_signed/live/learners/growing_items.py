"""Items that have outgrown the last refresh, made again from their users now, whatever the order of events was."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp

from recbole_signed.arrays import grown
from recbole_signed.graph.personal_verdict import Verdicts
from recbole_signed.live.events import LIKE
from recbole_signed.live.learners.base import matrices, rows_without, user_rows
from recbole_signed.live.store.edge_views import Rows
from recbole_signed.live.store.edges import EdgeState

GROWTH = 1.25  # an item is made again once its degree is this many times what the last refresh knew of it
MAX_USERS = 200  # an item with more verdicts waits for the refresh; a new one is made from so many users
CHUNK = 256  # items that are made at a time


class Maker(Protocol):
    """How a model makes users and items."""

    def make_users(self, rows: Rows) -> np.ndarray:
        """Return users from their edges and the item side of the last refresh, ``[n, k]``."""

    def make_items(self, likes: sp.csr_matrix, dislikes: sp.csr_matrix, users: np.ndarray) -> np.ndarray:
        """Return items from their likes and dislikes ``[n, n_users]`` by users ``[n_users, k]``: ``[n, k]``."""


class GrowingItems:
    """The item side of the last refresh, ``base``, which is never written to, and what was made again since."""

    def __init__(self, base: np.ndarray, degree: np.ndarray, dislike_weight: float) -> None:
        self.base = base
        self.degree = np.asarray(degree, dtype=np.float32)
        self.dislike_weight = abs(dislike_weight)
        self.n_items = len(base)
        # room for an eighth more, so that an event with a new item need not wait for a copy of them all
        self._vectors = np.zeros((len(base) + len(base) // 8 + 16, base.shape[1]), dtype=np.float32)
        self._vectors[: len(base)] = base
        self._moved = np.zeros(len(self._vectors), dtype=bool)
        self._forget_users()

    def _forget_users(self) -> None:
        self._slot = np.zeros(1, dtype=np.int64)  # where in the table a user is; at 0 nobody
        self._users = np.zeros((64, self.base.shape[1]), dtype=np.float32)
        self._n_users = 1

    def __deepcopy__(self, memo: dict[int, Any]) -> GrowingItems:
        """Return a copy that shares the base and knows no users yet: for a refresh, which only looks at vectors."""
        copy = GrowingItems(self.base, self.degree, self.dislike_weight)
        copy.grow(self.n_items)
        copy._vectors[self.moved] = self._vectors[self.moved]
        copy._moved[self.moved] = True
        return copy

    @property
    def table(self) -> np.ndarray:
        """Item vectors in force, and the room for more, ``[>= n_items, k]``."""
        return self._vectors

    @property
    def vectors(self) -> np.ndarray:
        """Item vectors in force, ``[n_items, k]``."""
        return self._vectors[: self.n_items]

    @property
    def moved(self) -> np.ndarray:
        """Items that are not those of the refresh, rising."""
        return np.flatnonzero(self._moved)

    def grow(self, n_items: int) -> None:
        """Make room for items below ``n_items``; new ones are zero."""
        self._vectors, self._moved = grown(self._vectors, n_items), grown(self._moved, n_items)
        self.n_items = max(self.n_items, n_items)

    def attach(self, edges: EdgeState, maker: Maker) -> np.ndarray:
        """Make all that has grown, and only that; return the items whose vectors were written."""
        self.grow(edges.n_items)
        self._forget_users()
        before = self.moved
        self._restore(before)
        items = np.arange(edges.n_items)
        grown_ = items[self._has_grown(edges, items)]
        self._make(edges, grown_, maker)
        return np.union1d(before, grown_)

    def update(self, edges: EdgeState, users: np.ndarray, items: np.ndarray, maker: Maker) -> np.ndarray:
        """Make again what changes of ``users`` and ``items`` reach; return the items whose vectors were written."""
        self.grow(edges.n_items)
        self._slot = grown(self._slot, edges.n_users)
        rows = edges.of_users(users)
        known = users[self._slot[users] > 0]
        if len(known):
            self._users[self._slot[known]] = maker.make_users(_lasting(edges, known))
        grows = self._has_grown(edges, items)
        shrunk = items[~grows & self._moved[items]]
        self._restore(shrunk)
        near = rows.ids[self._moved[rows.ids]]
        reached = np.union1d(items[grows], near)
        self._make(edges, reached, maker)
        return np.concatenate([shrunk, reached])

    def _has_grown(self, edges: EdgeState, items: np.ndarray) -> np.ndarray:
        likes, dislikes = edges.item_likes[items], edges.item_dislikes[items]
        before = np.zeros(len(items), dtype=np.float32)
        old = items < len(self.degree)
        before[old] = self.degree[items[old]]
        few = (likes + dislikes <= MAX_USERS) | (before == 0)
        return (likes + self.dislike_weight * dislikes > GROWTH * before) & few

    def _restore(self, items: np.ndarray) -> None:
        old = items[items < len(self.base)]
        self._vectors[items] = 0.0
        self._vectors[old] = self.base[old]
        self._moved[items] = False

    def _make(self, edges: EdgeState, items: np.ndarray, maker: Maker) -> None:
        self._slot = grown(self._slot, edges.n_users)
        self._moved[items] = True
        for first in range(0, len(items), CHUNK):
            chunk = items[first : first + CHUNK]
            rows = _first(edges.of_items(chunk).verdicts, MAX_USERS)
            new = np.unique(rows.ids[self._slot[rows.ids] == 0])
            if len(new):
                place, self._n_users = self._n_users, self._n_users + len(new)
                self._users = grown(self._users, self._n_users)
                self._slot[new] = np.arange(place, self._n_users)
                self._users[place : self._n_users] = maker.make_users(_lasting(edges, new))
            known = Rows(rows.indptr, self._slot[rows.ids].astype(np.int32), rows.kind)
            likes, dislikes = matrices(known, self._n_users)
            self._vectors[chunk] = maker.make_items(likes, dislikes, self._users[: self._n_users])


def _lasting(edges: EdgeState, users: np.ndarray) -> Rows:
    """Return the verdicts of users without their last run of dislikes, which moves no item but those near it."""
    rows = user_rows(edges, users, times=True)
    owner = np.repeat(np.arange(len(users)), np.diff(rows.indptr))
    verdicts = Verdicts.from_edges(owner, rows.ids, rows.kind == LIKE, rows.timestamp, len(users))
    return rows_without(rows, owner, verdicts, verdicts.last_run, edges.n_items)


def _first(rows: Rows, n: int) -> Rows:
    """Return the first ``n`` edges of each row."""
    lengths = np.diff(rows.indptr)
    if not (lengths > n).any():
        return rows
    place = np.arange(len(rows.ids)) - np.repeat(rows.indptr[:-1], lengths)
    return rows.where(place < n)
