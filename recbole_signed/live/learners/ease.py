r"""SignedEASE under a stream: :math:`P = (X^T X + \lambda I)^{-1}` follows each changed row by Woodbury's identity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from recbole_signed.graph.inverse import gram_inverse, replace_rows
from recbole_signed.live import LIKE
from recbole_signed.live.learners.base import IntArray, Learner, Refreshed, csr, graph_of, nearest, rows_of, user_rows
from recbole_signed.live.store.edges import Changes, EdgeArrays, EdgeState

CHUNK = 128  # users that change at a time


class EaseLearner(Learner):
    """The inverse, float32 ``[n_items, n_items]`` with room for new items, and the rows that it is made of."""

    name = "SignedEASE"
    ranks_without_edges = False

    def __init__(self, dislike_weight: float = 0.5, reg_weight: float = 250.0) -> None:
        self.dislike_weight = float(dislike_weight)
        self.reg_weight = float(reg_weight)
        self.n_items = 1
        self._inverse = torch.full((1, 1), 1.0 / self.reg_weight)
        self._matrix = sp.csr_matrix((1, 1), dtype=np.float32)
        self._changed: dict[int, sp.csr_matrix] = {}  # rows of X that are no longer those of `_matrix`

    @property
    def inverse(self) -> torch.Tensor:
        """The inverse, ``[n_items, n_items]``."""
        return self._inverse[: self.n_items, : self.n_items]

    # ---- T3 and T2

    def fit(self, edges: EdgeArrays, n_users: int, n_items: int) -> None:
        """Invert the Gram matrix of all edges."""
        self._matrix, self._changed = graph_of(edges, n_users, n_items).weighted(self.dislike_weight), {}
        self._inverse = gram_inverse(self._matrix, self.reg_weight)
        self.n_items = n_items

    def refresh(self, edges: EdgeArrays, n_users: int, n_items: int) -> Refreshed:
        """Invert again; the staleness is what rounding, and edges that were not taken in, had made of the inverse."""
        old, self._inverse = self._inverse, self._inverse[:0, :0]  # so that no copy of it stays
        known = self.n_items
        self.fit(edges, n_users, n_items)
        shared = min(known, n_items)
        difference = old[:shared, :shared].sub_(self.inverse[:shared, :shared])
        return Refreshed(float(difference.norm() / self.inverse.norm()), 1)

    # ---- T0 and T1

    def update(self, edges: EdgeState, changes: Changes) -> None:
        """Put the rows of the touched users in the place of what they were."""
        self._replace(edges, changes.users.astype(np.int64))

    def attach(self, edges: EdgeState) -> None:
        """Find the users whose edges are not what the inverse was made of, and put them right."""
        now = graph_of(edges.export(), edges.n_users, edges.n_items).weighted(self.dislike_weight)
        mine = self._rows()
        shape = max(mine.shape[0], now.shape[0]), max(mine.shape[1], now.shape[1])
        differs = np.diff((_resized(mine, shape) != _resized(now, shape)).indptr) > 0
        self._replace(edges, np.flatnonzero(differs))

    def _replace(self, edges: EdgeState, users: IntArray) -> None:
        if 4 * len(users) > edges.n_items:
            self.fit(edges.export(), edges.n_users, edges.n_items)
            return
        self._grow(edges.n_items)
        for first in range(0, len(users), CHUNK):
            chunk = users[first : first + CHUNK]
            rows = user_rows(edges, chunk)
            data = np.where(rows.kind == LIKE, 1.0, self.dislike_weight).astype(np.float32)
            new = csr(data, rows.ids, rows.indptr, self.n_items)
            old = sp.vstack([self._row(user) for user in chunk.tolist()]).tocsr()
            moved = np.flatnonzero(np.diff((old != new).indptr))
            if not len(moved):
                continue
            replace_rows(self.inverse, old[moved], new[moved])
            self._changed.update((int(chunk[place]), new[place]) for place in moved.tolist())

    def _row(self, user: int) -> sp.csr_matrix:
        shape = (1, self.n_items)
        if user in self._changed:
            return _resized(self._changed[user], shape)
        if user >= self._matrix.shape[0]:
            return sp.csr_matrix(shape, dtype=np.float32)
        return _resized(self._matrix[user], shape)

    def _rows(self) -> sp.csr_matrix:
        """Return X, the rows that the inverse is made of."""
        users = sorted(self._changed)
        n_users = max([self._matrix.shape[0], *(user + 1 for user in users[-1:])])
        rows = [_resized(row, (row.shape[0], self.n_items)) for row in (self._changed[user] for user in users)]
        order = np.arange(n_users)
        order[users] = n_users + np.arange(len(users))
        return sp.vstack([_resized(self._matrix, (n_users, self.n_items)), *rows]).tocsr()[order]

    def _grow(self, n_items: int) -> None:
        room = len(self._inverse)
        if n_items > room:
            larger = torch.zeros(2 * [n_items + n_items // 32 + 16])
            larger.diagonal()[room:] = 1.0 / self.reg_weight
            larger[:room, :room] = self._inverse
            self._inverse = larger
        self.n_items = max(self.n_items, n_items)

    # ---- scores

    def scores(self, edges: EdgeState, users: IntArray) -> torch.Tensor:
        """Return the scores of all items for users with the edges they have now, ``[len(users), n_items]``."""
        rows = rows_of(edges, users, self.n_items).weighted(self.dislike_weight)
        touched, place = np.unique(rows.indices, return_inverse=True)
        small = torch.from_numpy(csr(rows.data, place, rows.indptr, len(touched)).toarray())
        image = small @ self.inverse[torch.from_numpy(touched.astype(np.int64))]  # the inverse is symmetric
        return torch.from_numpy(rows.toarray()) - image / self.inverse.diagonal()

    def pair_scores(self, edges: EdgeState, users: IntArray, items: IntArray) -> np.ndarray:
        """Return the scores of some items for each user, ``[len(users), m]``."""
        rows = rows_of(edges, users, self.n_items).weighted(self.dislike_weight)
        owner = np.repeat(np.arange(len(users)), np.diff(rows.indptr))
        inverse = self.inverse.numpy()
        terms = inverse[rows.indices[:, None], items[owner]] * rows.data[:, None]
        image = csr(np.ones(len(owner), np.float32), np.arange(len(owner)), rows.indptr, len(owner)) @ terms
        own = np.asarray(rows[np.arange(len(users))[:, None], items].todense())
        return np.asarray(own - image / inverse.diagonal()[items])

    def similar(self, item: int, k: int, keys: IntArray | None = None) -> tuple[IntArray, np.ndarray]:
        """Return the items with the largest partial correlations, which the inverse holds."""
        inverse, diagonal = self.inverse.numpy(), self.inverse.diagonal().numpy()
        cosines = -inverse[item] / np.sqrt(diagonal * diagonal[item])
        return nearest(item, np.arange(self.n_items), cosines, k, keys)

    # ---- keeping

    def parameters(self) -> dict[str, Any]:
        """Return the parameters, by the names in the model's yaml."""
        return {"dislike_weight": self.dislike_weight, "reg_weight": self.reg_weight}

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the inverse and the rows that it is made of."""
        rows = self._rows()
        tensors = {
            "inverse": self.inverse.contiguous().numpy(),
            "indptr": rows.indptr.astype(np.int64),
            "indices": rows.indices.astype(np.int32),
            "data": rows.data,
        }
        return tensors, {}

    def load(self, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` gave."""
        self._inverse, self._changed = torch.from_numpy(np.array(tensors["inverse"])), {}
        self.n_items = len(self._inverse)
        data, ids, indptr = (np.array(tensors[name]) for name in ("data", "indices", "indptr"))
        self._matrix = csr(data, ids, indptr, self.n_items)


def _resized(matrix: sp.csr_matrix, shape: tuple[int, int]) -> sp.csr_matrix:
    """Return the matrix with empty rows and columns behind its own."""
    more = np.full(shape[0] - matrix.shape[0], matrix.indptr[-1], dtype=matrix.indptr.dtype)
    return csr(matrix.data, matrix.indices, np.concatenate([matrix.indptr, more]), shape[1])
