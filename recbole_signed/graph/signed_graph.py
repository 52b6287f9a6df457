"""The signed bipartite graph of users and items, built once and shared by all that works on it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

IntArray = npt.NDArray[np.int64] | npt.NDArray[np.int32]
Edges = tuple[IntArray, IntArray]


@dataclass(frozen=True)
class SignedGraph:
    r"""Likes :math:`P` and dislikes :math:`N` as two sparse 0/1 matrices of shape ``[n_users, n_items]``.

    A pair counts once in each of them, however often it occurs; a pair may be in both. Where ``neutral_weight``
    :math:`\varepsilon` is not 0, exposures without a verdict are a third matrix :math:`M`: weak likes
    (:math:`\varepsilon > 0`) or weak dislikes (:math:`\varepsilon < 0`). What has a verdict is never in :math:`M`.

    Numbers of users and items follow the rows of a data set. ``user_keys`` and ``item_keys``, int64 ``[n]``, are of the
    ids themselves (:func:`~recbole_signed.ids_and_times.hashes`): what depends on an order goes by them where they are
    known, so that the same edges give the same in any order of rows.
    """

    likes: sp.csr_matrix
    dislikes: sp.csr_matrix
    neutrals: sp.csr_matrix | None = None
    neutral_weight: float = 0.0
    user_keys: npt.NDArray[np.int64] | None = None
    item_keys: npt.NDArray[np.int64] | None = None

    @classmethod
    def from_edges(
        cls,
        likes: Edges,
        dislikes: Edges,
        n_users: int,
        n_items: int,
        neutrals: Edges | None = None,
        neutral_weight: float = 0.0,
    ) -> SignedGraph:
        """Build the graph from ``(users [n_edges], items [n_edges])`` of each sign; int32 ids are not copied.

        Raises:
            ValueError: an id is negative or not below ``n_users`` or ``n_items``.
        """
        shape = (n_users, n_items)
        verdicts = _binary_matrix(likes, shape), _binary_matrix(dislikes, shape)
        if neutrals is None or not neutral_weight:
            return cls(*verdicts)
        weak = _binary_matrix(neutrals, shape)
        for matrix in verdicts:
            weak = weak - weak.multiply(matrix)
        weak.eliminate_zeros()
        return cls(*verdicts, weak.tocsr(), float(neutral_weight))

    def rows(self, users: Any) -> SignedGraph:
        """Return the edges of some users, in their order, as a graph ``[len(users), n_items]``."""
        weak = None if self.neutrals is None else self.neutrals[users]
        keys = None if self.user_keys is None else self.user_keys[users]
        return SignedGraph(self.likes[users], self.dislikes[users], weak, self.neutral_weight, keys, self.item_keys)

    def keyed(self, user_keys: npt.NDArray[np.int64], item_keys: npt.NDArray[np.int64]) -> SignedGraph:
        """Return the graph with the keys of its users and items."""
        return replace(self, user_keys=user_keys, item_keys=item_keys)

    @cached_property
    def order(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Users and items in the order of their keys; where none are known, as they are numbered."""
        sides = ((self.n_users, self.user_keys), (self.n_items, self.item_keys))
        users, items = (np.arange(n) if keys is None else np.argsort(keys, kind="stable") for n, keys in sides)
        return users, items

    @cached_property
    def in_order(self) -> SignedGraph:
        """Likes and dislikes with users and items in their :attr:`order`."""
        if self.user_keys is None and self.item_keys is None:
            return self
        return SignedGraph(*(arranged(matrix, *self.order) for matrix in (self.likes, self.dislikes)))

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
        r"""Return :math:`P + wN + \varepsilon M` with float32 values, ``[n_users, n_items]``."""
        matrix = self.likes + np.float32(dislike_weight) * self.dislikes
        if self.neutrals is not None:
            matrix = matrix + np.float32(self.neutral_weight) * self.neutrals
        return matrix.tocsr()

    def to_pyg(self) -> Any:
        """Return a ``HeteroData`` of PyTorch Geometric: nodes ``user``, ``item``, relations ``likes``, ``dislikes``.

        Node ``j`` of either kind is RecBole's id ``j``, the padding node 0 included; ``edge_index [2, n_edges]``.
        """
        import torch
        from torch_geometric.data import HeteroData

        data = HeteroData()
        data["user"].num_nodes, data["item"].num_nodes = self.n_users, self.n_items
        for relation, matrix in (("likes", self.likes), ("dislikes", self.dislikes)):
            edges = matrix.tocoo()
            data["user", relation, "item"].edge_index = torch.from_numpy(
                np.stack([edges.row, edges.col]).astype(np.int64)
            )
        return data

    def degrees(self, dislike_weight: float = 1.0) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        r"""Return the row and column sums of :math:`P + |w|N + |\varepsilon|M`: ``[n_users]`` and ``[n_items]``."""
        parts = [(abs(dislike_weight), self.dislikes)]
        if self.neutrals is not None:
            parts.append((abs(self.neutral_weight), self.neutrals))
        sums = []
        for axis in (1, 0):
            total = np.asarray(self.likes.sum(axis=axis)).ravel()
            for weight, matrix in parts:
                total = total + weight * np.asarray(matrix.sum(axis=axis)).ravel()
            sums.append(total)
        return sums[0], sums[1]


def arranged(matrix: sp.csr_matrix, rows: npt.NDArray[np.integer], columns: npt.NDArray[np.integer]) -> sp.csr_matrix:
    """Return ``matrix[rows][:, columns]`` for permutations, with sorted columns, in O(n_edges)."""
    place = np.empty(len(columns), dtype=matrix.indices.dtype)
    place[columns] = np.arange(len(columns))
    chosen = matrix[rows]
    turned = sp.csr_matrix((chosen.data, place[chosen.indices], chosen.indptr), shape=chosen.shape)
    return turned.T.tocsr().T.tocsr()  # twice a counting sort, which is faster than to sort each row


def _binary_matrix(edges: Edges, shape: tuple[int, int]) -> sp.csr_matrix:
    users, items = edges
    matrix = sp.csr_matrix((np.ones(len(users), dtype=np.float32), (users, items)), shape=shape)
    matrix.data[:] = 1.0  # of repeated edges it was the number
    return matrix
