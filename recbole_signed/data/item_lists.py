"""Item lists of many users as two arrays (CSR), instead of one Python set per user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_signed.arrays import distinct, spans
from recbole_signed.graph import LONG

IntArray = npt.NDArray[np.int64]
ROWS, MORE_ROWS, MOST_CELLS = 64, 256, 43_000_000  # users scored at a time, in a large catalogue, and most scores


def users_at_a_time(n_items: int, cells: int) -> int:
    """Return for how many users all items are scored at a time; more than ``cells`` allows where that would be few."""
    return max(1, cells // n_items, min(MORE_ROWS if n_items >= LONG else ROWS, MOST_CELLS // n_items))


@dataclass(frozen=True)
class ItemLists:
    """``items[indptr[u]:indptr[u + 1]]`` are the items of user ``u``, ascending; ``indptr [n_users + 1]``."""

    indptr: IntArray
    items: npt.NDArray[Any]

    @classmethod
    def from_pairs(cls, users: IntArray, items: IntArray, n_users: int, n_items: int) -> ItemLists:
        """Collect the pairs ``(users[j], items[j])``, each kept once, in O(n log n)."""
        keys = users.astype(np.int64)
        keys *= n_items
        keys += items
        return cls.from_keys(distinct(keys), n_users, n_items)

    @classmethod
    def from_keys(cls, keys: IntArray, n_users: int, n_items: int) -> ItemLists:
        """Collect the pairs of ``user * n_items + item``, which are ascending and distinct."""
        users = keys // n_items
        counts = np.bincount(users, minlength=n_users)
        users *= n_items  # in place, as below: of a hundred million pairs each array is most of a gigabyte
        items = np.subtract(keys, users, out=users).astype(np.int32 if n_items < 2**31 else np.int64)
        return cls(np.concatenate([[0], np.cumsum(counts)]), items)

    def keys(self, n_items: int) -> IntArray:
        """Return ``user * n_items + item`` of all pairs, ascending."""
        keys = self.users()
        keys *= n_items
        keys += self.items
        return keys

    def users(self) -> IntArray:
        """Return the user of each pair, ``[n_pairs]``."""
        return np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))

    def counts(self, users: IntArray) -> IntArray:
        """Return how many items each of the given users has, ``[n]``."""
        return self.indptr[users + 1] - self.indptr[users]

    def select(self, users: IntArray) -> tuple[IntArray, IntArray]:
        """Return ``(position in users, item)`` of all pairs of the given users."""
        starts, counts = self.indptr[users], self.indptr[users + 1] - self.indptr[users]
        rows = np.repeat(np.arange(len(users)), counts)
        return rows, self.items[spans(starts, counts)].astype(np.int64)
