"""The signed bipartite graph of users and items, built once and shared by all that works on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

IntArray = npt.NDArray[np.int64]
Edges = tuple[IntArray, IntArray]


@dataclass(frozen=True)
class SignedGraph:
    r"""Likes :math:`P` and dislikes :math:`N` as two sparse 0/1 matrices of shape ``[n_users, n_items]``.

    A pair counts once in each of them, however often it occurs; a pair may be in both.
    """

    likes: sp.csr_matrix
    dislikes: sp.csr_matrix

    @classmethod
    def from_edges(cls, likes: Edges, dislikes: Edges, n_users: int, n_items: int) -> SignedGraph:
        """Build the graph from ``(users [n_edges], items [n_edges])`` of either sign.

        Raises:
            ValueError: an id is negative or not below ``n_users`` or ``n_items``.
        """
        return cls(_binary_matrix(likes, n_users, n_items), _binary_matrix(dislikes, n_users, n_items))

    def __deepcopy__(self, memo: dict[int, Any]) -> SignedGraph:
        """Return itself: nothing ever changes it, and RecBole copies a model just to count its operations."""
        return self

    @property
    def n_users(self) -> int:
        """Number of users (rows)."""
        return int(self.likes.shape[0])

    @property
    def n_items(self) -> int:
        """Number of items (columns)."""
        return int(self.likes.shape[1])

    @property
    def n_edges(self) -> int:
        """Number of likes and dislikes together."""
        return int(self.likes.nnz + self.dislikes.nnz)

    def weighted(self, dislike_weight: float) -> sp.csr_matrix:
        r"""Return :math:`P + wN` with float32 values, ``[n_users, n_items]``."""
        return (self.likes + np.float32(dislike_weight) * self.dislikes).tocsr()

    def degrees(self, dislike_weight: float = 1.0) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        r"""Return the row and column sums of :math:`P + |w|N`: ``[n_users]`` and ``[n_items]``."""
        weight = abs(dislike_weight)
        return tuple(
            np.asarray(self.likes.sum(axis=axis)).ravel() + weight * np.asarray(self.dislikes.sum(axis=axis)).ravel()
            for axis in (1, 0)
        )  # type: ignore[return-value]


def _binary_matrix(edges: Edges, n_users: int, n_items: int) -> sp.csr_matrix:
    users, items = edges
    matrix = sp.csr_matrix((np.ones(len(users), dtype=np.float32), (users, items)), shape=(n_users, n_items))
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix
