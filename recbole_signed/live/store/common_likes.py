"""How many users like two items, for items that were asked for; the counts follow each change of the edges, exactly."""

from __future__ import annotations

from typing import Any

import numpy as np

from recbole_signed.live import LIKE

CELLS = 16_000_000
"""Counts that are kept at most, int32."""
FEWEST = 64
"""Items whose counts are kept at least."""
MOST_USERS = 256
"""Changed users of a batch above which all counts are made again when they are asked for."""


class CommonLikes:
    """Counts of common likes with all items, a row for each item that was asked for lately.

    Args:
        n_items: number of items.
    """

    def __init__(self, n_items: int) -> None:
        self.n_items = n_items
        self._slot = np.full(n_items, -1, dtype=np.int32)
        self._item = np.zeros(min(max(CELLS // max(n_items, 1), FEWEST), n_items), dtype=np.int64)
        self._counts = np.zeros((len(self._item), n_items), dtype=np.int32)
        self._next = 0

    def of(self, edges: Any, item: int) -> np.ndarray:
        """Return the counts of an item with all, int32 ``[n_items]``, which must not be written to."""
        slot = int(self._slot[item])
        if slot < 0:
            slot, self._next = self._next, (self._next + 1) % len(self._item)
            if self._slot[self._item[slot]] == slot:
                self._slot[self._item[slot]] = -1
            row = edges.of_item(item)
            self._counts[slot] = np.bincount(edges.liked_by(row.ids[row.kind == LIKE]), minlength=self.n_items)
            self._item[slot], self._slot[item] = item, slot
        return self._counts[slot]

    def follow(self, edges: Any, user: np.ndarray, item: np.ndarray, old: np.ndarray, new: np.ndarray) -> bool:
        """Take changes of pairs in, ``[n]`` each, which the edges have already.

        Returns:
            Whether that is done; else the counts are of no use any more.
        """
        changed = (old == LIKE) != (new == LIKE)
        user, item, gained = user[changed], item[changed], new[changed] == LIKE
        users = np.unique(user)
        if len(users) > MOST_USERS or edges.n_items > self.n_items:
            return False
        rows = edges.of_users(users)
        for place, each in enumerate(users.tolist()):
            here = slice(rows.indptr[place], rows.indptr[place + 1])
            now = rows.ids[here][rows.kind[here] == LIKE]
            own = user == each
            before = np.union1d(np.setdiff1d(now, item[own & gained]), item[own & ~gained])
            for likes, step in ((before, -1), (now, 1)):
                slots = self._slot[likes]
                self._counts[np.ix_(slots[slots >= 0], likes)] += step
        return True
