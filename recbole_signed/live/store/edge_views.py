"""What is read from the edges, and what a batch changed in them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE, SKIP, VIEW
from recbole_signed.sequences import Sequences

Keys = tuple[np.ndarray, np.ndarray]  # hashes of the ids of users and of items, int64 `[>= n]`: what orders them
PIECE = 1 << 18  # numbers that are worked out at a time where NumPy lets no other thread run meanwhile


@dataclass(frozen=True)
class Rows:
    """The visible edges of n nodes: ``ids`` int32 rising, ``kind`` int8; node j has ``indptr[j]:indptr[j + 1]``."""

    indptr: np.ndarray
    ids: np.ndarray
    kind: np.ndarray
    timestamp: np.ndarray | None = None  # int64 milliseconds `[d]`; None where they were read without

    @classmethod
    def one(cls, ids: np.ndarray, kind: np.ndarray, time: np.ndarray | None) -> Rows:
        """Give the edges of a single node."""
        return cls(np.array([0, len(ids)]), ids, kind, time)

    def where(self, seen: np.ndarray) -> Rows:
        """Return the edges that a mask ``[d]`` names."""
        kept = np.flatnonzero(seen)  # unlike a running sum it lets other threads run, however long it is
        time = None if self.timestamp is None else self.timestamp[kept]
        return Rows(np.searchsorted(kept, self.indptr), self.ids[kept], self.kind[kept], time)

    @property
    def verdicts(self) -> Rows:
        """The likes and dislikes."""
        verdict = (self.kind == LIKE) | (self.kind == DISLIKE)
        return self if verdict.all() else self.where(verdict)

    def sequences(self, item_keys: np.ndarray | None) -> Sequences:
        """Return likes and dislikes, of rows that hold nothing else, in the order of time, then of keys."""
        assert self.timestamp is not None
        n_nodes = len(self.indptr) - 1
        owner = np.repeat(np.arange(n_nodes), np.diff(self.indptr))
        return Sequences.from_edges(owner, self.ids, self.kind == LIKE, self.timestamp, n_nodes, item_keys)


@dataclass(frozen=True)
class EdgeArrays:
    """All visible edges, ``[E]``, sorted by user and item; ``timestamp [0]`` where they were copied without."""

    user: np.ndarray
    item: np.ndarray
    kind: np.ndarray
    timestamp: np.ndarray
    keys: Keys | None = None
    """Those of users and of items; None for their numbers."""

    def __len__(self) -> int:
        return len(self.user)

    @property
    def likes(self) -> np.ndarray:
        """Users and items of the likes, int32 ``[2, m]``."""
        return self._where(self.kind == LIKE)

    @property
    def dislikes(self) -> np.ndarray:
        """Users and items of the dislikes, int32 ``[2, m]``."""
        return self._where(self.kind == DISLIKE)

    @property
    def neutral(self) -> np.ndarray:
        """Users and items of the skips and views, int32 ``[2, m]``."""
        return self._where((self.kind == SKIP) | (self.kind == VIEW))

    def where(self, rows: np.ndarray) -> EdgeArrays:
        """Return the edges that a mask ``[E]`` names."""
        return EdgeArrays(self.user[rows], self.item[rows], self.kind[rows], self.timestamp[rows], self.keys)

    @property
    def verdicts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """User, item, whether it is a like, and time of the likes and dislikes, ``[m]`` each."""
        rows = (self.kind == LIKE) | (self.kind == DISLIKE)
        return self.user[rows], self.item[rows], self.kind[rows] == LIKE, self.timestamp[rows]

    @property
    def item_keys(self) -> np.ndarray | None:
        """What decides between items of one moment; None for their numbers."""
        return None if self.keys is None else self.keys[1]

    def sequences(self, n_users: int) -> Sequences:
        """Return the likes and dislikes of all users in the order of time."""
        return Sequences.from_edges(*self.verdicts, n_users, self.item_keys)

    def _where(self, mask: np.ndarray) -> np.ndarray:
        return np.stack([self.user[mask], self.item[mask]])


def pieces(indptr: np.ndarray) -> list[tuple[int, int]]:
    """Cut rows, ``indptr`` int64 ``[n + 1]``, into ranges of rows with about :data:`PIECE` entries each."""
    firsts = np.searchsorted(indptr, np.arange(0, indptr[-1], PIECE), side="right") - 1
    return list(itertools.pairwise(np.unique(np.append(firsts, len(indptr) - 1)).tolist()))


def owners(indptr: np.ndarray) -> np.ndarray:
    """Return the row of each entry, int32 ``[E]``."""
    rows = np.empty(indptr[-1], dtype=np.int32)
    for first, last in pieces(indptr):
        bounds = indptr[first : last + 1]
        rows[bounds[0] : bounds[-1]] = np.repeat(np.arange(first, last, dtype=np.int32), np.diff(bounds))
    return rows


def other_side(indptr: np.ndarray, ids: np.ndarray, kind: np.ndarray, n: int) -> tuple[np.ndarray, ...]:
    """Return edges that are given by one side by the ``n`` nodes of the other: indptr ``[n + 1]``, ids int32, kinds."""
    matrix = sp.csr_matrix((kind, ids, indptr), shape=(len(indptr) - 1, n)).tocsc()
    return matrix.indptr, matrix.indices.astype(np.int32, copy=False), matrix.data


def turned(indptr: np.ndarray, user: np.ndarray, kind: np.ndarray, n_users: int, keys: Keys | None) -> EdgeArrays:
    """Return edges that are given by item, ``indptr`` ``[n_items + 1]``, by user, without times."""
    indptr, item, kind = other_side(indptr, user, kind, n_users)
    return EdgeArrays(owners(indptr), item, kind, np.zeros(0, dtype=np.int64), keys)


@dataclass(frozen=True)
class Changes:
    """Net effect of a batch, a row a touched pair, sorted by user and item, ``[m]``; erased users in ``forgotten``."""

    user: np.ndarray
    item: np.ndarray
    old: np.ndarray
    new: np.ndarray
    forgotten: np.ndarray

    @property
    def users(self) -> np.ndarray:
        """The touched users, int32, each once, rising."""
        return np.unique(np.concatenate([self.user, self.forgotten]))

    @property
    def items(self) -> np.ndarray:
        """The touched items, int32, each once, rising."""
        return np.unique(self.item)


@dataclass(frozen=True)
class LogBatch:
    """Rows of the log by rising ``seq``, columns ``[n]``, and the vocabularies' sizes after it, with padding."""

    first_seq: int
    last_seq: int
    n_users: int
    n_items: int
    seq: np.ndarray
    user: np.ndarray
    item: np.ndarray
    type: np.ndarray
    timestamp: np.ndarray
    value: np.ndarray

    def __len__(self) -> int:
        return len(self.seq)
