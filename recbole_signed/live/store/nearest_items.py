"""Which items are nearest to which by the likes of all users, kept under changes of the edges."""

from __future__ import annotations

from typing import Any

import numpy as np

from recbole_signed.arrays import contains
from recbole_signed.live import LIKE
from recbole_signed.live.store.edge_views import owners

KEPT = 96
"""Items that a row of :class:`NearestItems` has when it is made."""
WAITING = 64
"""Room in a row for more of them."""
CELLS = 8_000_000
"""Places of all rows at most, of 8 bytes each."""
PIECE_OF_ITEMS = 1_024
"""Items whose rows are read at a time."""
MOST_CHANGES = 256
"""Changed likes of a batch above which all rows are made again when they are asked for."""
FEW_LIKES = 64
"""Likes of an item up to which its own neighbours are looked for when it loses one."""
TABLE = 20_000_000
"""Pairs of items up to which all common likes that were counted are kept, of 4 bytes each."""
UNKNOWN = -1
"""Common likes that are counted when the row is asked for."""
NO_KEY = np.iinfo(np.int64).min


class NearestItems:
    """What is nearest to items by the likes of all users: a row for each item that was asked for lately.

    A row holds some items with their common likes, and a bound, a cosine and a key, that every other item stands
    behind. A change of a pair moves the counts that it touches. An item that is not in a row and may have come nearer
    is put in it, and its common likes are counted when the row is asked for. A row of which the bound leaves too few is
    made again. In a small catalogue all that was counted is kept, so that this takes no count.
    """

    def __init__(self) -> None:
        self._slot = np.zeros(0, dtype=np.int64)  # of each item; -1 for none
        self._counted = np.zeros(0, dtype=bool)  # which rows of the table hold
        self._table: np.ndarray | None = np.zeros((0, 0), dtype=np.int32)
        self._rows_again()

    def _rows_again(self) -> None:
        self._slot[:] = -1
        self._counted[:] = False
        self._free: list[int] = []
        self._next = 0
        self._item = self._used = self._bound_key = np.zeros(0, dtype=np.int64)
        self._bound = np.zeros(0)
        self._near = self._common = np.zeros((0, KEPT + WAITING), dtype=np.int32)

    def of(self, edges: Any, items: np.ndarray, keys: np.ndarray | None, most: int) -> tuple[np.ndarray, ...]:
        """Return the nearest of some items, best first: indptr ``[n + 1]``, items, and cosines up to a factor of each.

        Args:
            edges: as they are now.
            items: int64 ``[n]``.
            keys: of all items, by which those with equal cosines stand; always the same. Their numbers if None.
            most: of each item, :data:`KEPT` at most.
        """
        self._grow(edges.n_items)
        keys = np.arange(edges.n_items) if keys is None else keys
        starts = range(0, max(len(items), 1), PIECE_OF_ITEMS)
        parts = [self._of(edges, items[at : at + PIECE_OF_ITEMS], keys, most) for at in starts]
        length, near, cosine = (np.concatenate(each) for each in zip(*parts, strict=True))
        return np.append(0, np.cumsum(length)), near, cosine

    def _of(self, edges: Any, items: np.ndarray, keys: np.ndarray, most: int) -> tuple[np.ndarray, ...]:
        while True:
            while ((slots := self._slot[items]) < 0).any():
                for item in set(items[slots < 0].tolist()):
                    self._make(edges, item, keys)
            if (self._common[slots] < 0).any():
                self._count(edges, slots, keys)
            near, cosine, key = self._read(edges, slots, keys)
            bound, bound_key = self._bound[slots, None], self._bound_key[slots, None]
            sure = (cosine > bound) | ((cosine == bound) & (key < bound_key) & (cosine > 0))
            length = sure.sum(axis=1)
            short = (length < most) & (bound[:, 0] > 0)
            if not short.any():
                break
            self._drop(slots[short])
        order = np.lexsort((key, np.where(sure, -cosine, 1.0)))[:, :most]
        length = np.minimum(length, most)
        taken = np.arange(order.shape[1]) < length[:, None]
        place = (np.arange(len(order))[:, None] * near.shape[1] + order)[taken]
        return length, near.ravel()[place].astype(np.int64), cosine.ravel()[place]

    def _read(self, edges: Any, slots: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the items of rows, their cosines, 0 for none, and their keys, ``[n, m]`` each."""
        width = slice(self._used[slots].max(initial=0))
        near = self._near[slots, width]
        return near, self._common[slots, width] / np.sqrt(np.maximum(edges.item_likes[near], 1)), keys[near]

    def _make(self, edges: Any, item: int, keys: np.ndarray) -> None:
        common = self._common_likes(edges, item)
        near = np.flatnonzero(common)
        near = near[near != item]
        cosine = common[near] / np.sqrt(edges.item_likes[near])
        slot = self._new_slot()
        self._bound[slot], self._bound_key[slot] = 0.0, NO_KEY
        if len(near) > KEPT:
            least = np.partition(cosine, -KEPT - 1)[-KEPT - 1]
            best = np.flatnonzero(cosine >= least)
            best = best[np.lexsort((keys[near[best]], -cosine[best]))]
            self._bound[slot], self._bound_key[slot] = least, keys[near[best[KEPT]]]
            near = near[best[:KEPT]]
        self._near[slot], self._common[slot], self._used[slot] = 0, 0, len(near)
        self._near[slot, : len(near)], self._common[slot, : len(near)] = near, common[near]
        self._item[slot], self._slot[item] = item, slot

    def _new_slot(self) -> int:
        if self._free:
            return self._free.pop()
        if self._next == len(self._item) and self._next < max(CELLS // (KEPT + WAITING), 2 * PIECE_OF_ITEMS):
            for name in ("_item", "_used", "_bound", "_bound_key", "_near", "_common"):
                old = getattr(self, name)
                setattr(self, name, np.concatenate([old, np.zeros((max(len(old), 64), *old.shape[1:]), old.dtype)]))
        slot = self._next = self._next % len(self._item)
        self._next += 1
        if self._slot[self._item[slot]] == slot:
            self._slot[self._item[slot]] = -1
        return slot

    def _drop(self, slots: np.ndarray) -> None:
        self._slot[self._item[slots]] = -1
        self._free += set(slots.tolist())

    def _grow(self, n_items: int) -> None:
        if n_items <= len(self._slot):
            return
        size = n_items + max(n_items // 16, 16)
        more = np.full(size - len(self._slot), -1)
        self._slot = np.concatenate([self._slot, more])
        self._counted = np.concatenate([self._counted, more > 0])
        if self._table is not None:
            before = self._table
            self._table = np.zeros((size, size), dtype=np.int32) if size**2 <= TABLE else None
            if self._table is not None:
                self._table[: len(before), : len(before)] = before

    def _common_likes(self, edges: Any, item: int) -> np.ndarray:
        """Return how many users like an item and each other one, ``[n_items]``."""
        if self._table is not None and self._counted[item]:
            return self._table[item, : edges.n_items]
        common = np.bincount(edges.liked_by(edges.likers(np.array([item])).ids), minlength=edges.n_items)
        common[0] = 0
        if self._table is not None:
            self._table[item, : len(common)], self._counted[item] = common, True
        return common

    def _count(self, edges: Any, slots: np.ndarray, keys: np.ndarray) -> None:
        """Count the common likes of what waits in rows; of a row without room the last items leave."""
        slots = slots[(self._common[slots] < 0).any(axis=1)]
        row, column = np.nonzero(self._common[slots] < 0)
        near, of = self._near[slots[row], column], self._item[slots]
        if self._table is not None:
            common = self._table[of[row], near]
        else:  # a user is looked up among those who like the item of the row
            (user, liked), (other, waits) = ((each.ids, owners(each.indptr)) for each in map(edges.likers, (of, near)))
            inside = contains(liked * edges.n_users + user, row[waits] * edges.n_users + other)
            common = np.bincount(waits[inside], minlength=len(row))
        self._common[slots[row], column] = common
        slots = slots[self._used[slots] > KEPT]
        if not len(slots):
            return
        near, cosine, key = self._read(edges, slots, keys)
        order = np.lexsort((key, -cosine))
        last, last_key = (np.take_along_axis(each, order, axis=1)[:, KEPT] for each in (cosine, key))
        bound, bound_key = self._bound[slots], self._bound_key[slots]
        nearer = (last > bound) | ((last == bound) & (last_key < bound_key))
        self._bound[slots], self._bound_key[slots] = np.where(nearer, [last, last_key], [bound, bound_key])
        for table in (self._near, self._common):
            table[slots, :KEPT] = np.take_along_axis(table[slots], order[:, :KEPT], axis=1)
            table[slots, KEPT:] = 0
        self._used[slots] = KEPT

    # ---- changes

    def follow(self, edges: Any, user: np.ndarray, item: np.ndarray, old: np.ndarray, new: np.ndarray) -> None:
        """Take changes of pairs in, ``[n]`` each, which the edges have already."""
        changed = (old == LIKE) != (new == LIKE)
        user, item, gained = user[changed], item[changed], new[changed] == LIKE
        if len(user) > MOST_CHANGES:
            self._rows_again()
            return
        self._grow(edges.n_items)
        for each in np.unique(user).tolist():
            row = edges.of_user(each)
            now, own, gains = row.ids[row.kind == LIKE], item[user == each], gained[user == each]
            before = np.union1d(now[~np.isin(now, own[gains])], own[~gains])
            for of, likes, step in ((own[gains], now, 1), (own[~gains], before, -1)):
                stays = likes[~np.isin(likes, own)]
                for changing in of.tolist():
                    self._change(edges, changing, likes[likes != changing], stays, step)

    def _change(self, edges: Any, item: int, others: np.ndarray, stay: np.ndarray, step: int) -> None:
        """Move what an item and others have in common by a user; ``stay`` are those whose likes do not change."""
        n_likes = int(edges.item_likes[item])
        slots = self._slot[others]
        slots = slots[slots >= 0]
        row, column = np.nonzero(self._near[slots] == item)
        self._common[slots[row], column] += step * (self._common[slots[row], column] >= 0)
        if step > 0:
            self._wait(np.delete(slots, row), item, n_likes)
        elif n_likes > FEW_LIKES:  # it may have come nearer everywhere
            self._bound *= np.sqrt(1 + 1 / n_likes) * (1 + 1e-12)
            self._bound_key[:] = NO_KEY
        elif n_likes:
            slots = self._slot[np.unique(edges.liked_by(edges.likers(np.array([item])).ids))]
            slots = slots[slots >= 0]
            self._wait(slots[~(self._near[slots] == item).any(axis=1)], item, n_likes)
        if self._table is not None:
            self._table[others, item] += step
            self._table[item, stay] += step
        slot = int(self._slot[item])
        if slot < 0:
            return
        inside = np.isin(self._near[slot], stay) & (self._near[slot] > 0)
        self._common[slot, inside & (self._common[slot] >= 0)] += step
        outside = stay[~np.isin(stay, self._near[slot])]
        here = slice(int(self._used[slot]), int(self._used[slot]) + len(outside))
        if step > 0 and here.stop > KEPT + WAITING:
            self._drop(np.array([slot]))
        elif step > 0:
            self._near[slot, here], self._common[slot, here], self._used[slot] = outside, UNKNOWN, here.stop

    def _wait(self, slots: np.ndarray, item: int, n_likes: int) -> None:
        """Put an item in rows that it is not in, where it may come before the bound; drop those without room."""
        slots = slots[(np.sqrt(n_likes) * (1 + 1e-12) >= self._bound[slots]) & (self._item[slots] != item)]
        full = self._used[slots] == KEPT + WAITING
        self._drop(slots[full])
        slots = slots[~full]
        self._near[slots, self._used[slots]], self._common[slots, self._used[slots]] = item, UNKNOWN
        self._used[slots] += 1
