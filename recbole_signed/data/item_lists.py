"""Item lists of many users as two arrays (CSR), instead of one Python set per user."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ItemLists:
    """``items[indptr[u]:indptr[u + 1]]`` are the items of user ``u``, in ascending order.

    Shapes: ``indptr [n_users + 1]``, ``items [n_pairs]``.
    """

    indptr: IntArray
    items: IntArray

    @classmethod
    def from_pairs(cls, users: IntArray, items: IntArray, n_users: int, n_items: int) -> ItemLists:
        """Collect the pairs ``(users[j], items[j])``, each kept once, in O(n log n)."""
        keys = np.unique(users.astype(np.int64) * n_items + items)
        counts = np.bincount(keys // n_items, minlength=n_users)
        return cls(np.concatenate([[0], np.cumsum(counts)]), keys % n_items)

    def keys(self, n_items: int) -> IntArray:
        """Return ``user * n_items + item`` of all pairs, ascending."""
        return self.users() * n_items + self.items

    def users(self) -> IntArray:
        """Return the user of each pair, ``[n_pairs]``."""
        return np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))

    def select(self, users: IntArray) -> tuple[IntArray, IntArray]:
        """Return ``(position in users, item)`` of all pairs of the given users."""
        starts, counts = self.indptr[users], self.indptr[users + 1] - self.indptr[users]
        rows = np.repeat(np.arange(len(users)), counts)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        return rows, self.items[np.repeat(starts, counts) + within]
