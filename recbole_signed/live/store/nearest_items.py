"""Which items are nearest to which by the likes of all users, kept under changes of the edges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from recbole_signed.arrays import contains, grown
from recbole_signed.live import LIKE
from recbole_signed.live.store.edge_views import owners

KEPT = 96  # items that a row of `NearestItems` has when it is made
WAITING = 64  # room in a row for more of them
CELLS = 8_000_000  # places of all rows at most, of 8 bytes each
PIECE_OF_ITEMS = 1_024  # items whose rows are read at a time
MOST_CHANGES = 256  # changed likes of a batch above which all is counted again when it is asked for
MOST_MOVES = 20_000  # changed pairs of items above which all rows are made again
FEW_LIKES = 64  # likes of an item up to which its own neighbours are looked for when it loses one
TABLE = 20_000_000  # pairs of items up to which all common likes that were counted are kept, of 4 bytes each
UNKNOWN = -1  # common likes that are counted when the row is asked for
NO_KEY = np.iinfo(np.int64).min


class NearestItems:
    """What is nearest to items by the likes of all users: a row for each item that was asked for lately.

    A row holds items with their common likes, and a bound that every other item stands behind. A change moves the
    counts that it touches; a row of which the bound leaves too few is made again.
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

    def find(self, edges: Any, items: np.ndarray, keys: np.ndarray | None, most: int) -> tuple[np.ndarray, ...]:
        """Return the nearest of items ``[n]``, best first: indptr ``[n + 1]``, items, cosines up to a factor each."""
        self._grow(edges.n_items)
        keys = np.arange(edges.n_items) if keys is None else keys
        starts = range(0, max(len(items), 1), PIECE_OF_ITEMS)
        parts = [self._find(edges, items[at : at + PIECE_OF_ITEMS], keys, most) for at in starts]
        length, near, cosine = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
        return np.append(0, length.cumsum()), near, cosine

    def _find(self, edges: Any, items: np.ndarray, keys: np.ndarray, most: int) -> tuple[np.ndarray, ...]:
        while True:
            slots = self._slot[items]
            if len(missing := items[slots < 0]):
                for item in set(missing.tolist()):
                    self._make(edges, item, keys)
                continue  # which may have taken the place of another
            near, common, cosine, key = self._read(edges, slots, keys)
            if common.min(initial=0) < 0:
                self._count(edges, slots, keys)
                continue
            step = cosine[:, :-1] - cosine[:, 1:]
            ordered = (step > 0) | ((step == 0) & (key[:, :-1] <= key[:, 1:])) | (cosine[:, 1:] == 0)
            if not ordered.all():
                self._sort(slots, near, common, cosine, key)
                continue
            bound, bound_key = self._bound[slots, None], self._bound_key[slots, None]
            near, cosine, key = near[:, :most], cosine[:, :most], key[:, :most]
            sure = (cosine > bound) | ((cosine == bound) & (key < bound_key) & (cosine > 0))
            length = sure.sum(axis=1)
            short = (length < most) & (bound[:, 0] > 0)
            if not short.any():
                return length, near[sure].astype(np.int64), cosine[sure]
            self._drop(slots[short])

    def _read(self, edges: Any, slots: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the items of rows, their common likes and cosines, 0 for none, and their keys, ``[n, m]`` each."""
        width = self._used[slots].max(initial=0)
        near, common = (table.take(slots, axis=0)[:, :width] for table in (self._near, self._common))
        return near, common, common / np.sqrt(np.maximum(edges.item_likes.take(near), 1)), keys.take(near)

    def _sort(
        self, slots: np.ndarray, near: np.ndarray, common: np.ndarray, cosine: np.ndarray, key: np.ndarray
    ) -> None:
        """Put the items of rows in order, as changes have moved them."""
        order = np.lexsort((key, -cosine, near == 0))
        for table, read in ((self._near, near), (self._common, common)):
            table[slots, : near.shape[1]] = np.take_along_axis(read, order, axis=1)

    def _make(self, edges: Any, item: int, keys: np.ndarray) -> None:
        common = self._common_likes(edges, item)
        near = np.flatnonzero(common > 0)  # of truth values at a tenth of the time
        near = near[near != item]
        cosine = common[near] / np.sqrt(edges.item_likes[near])
        slot = self._new_slot()
        self._bound[slot], self._bound_key[slot] = 0.0, NO_KEY
        if len(near) > KEPT:
            least = np.partition(cosine, -KEPT - 1)[-KEPT - 1]
            near = near[cosine >= least]
        near = near[np.lexsort((keys[near], -common[near] / np.sqrt(edges.item_likes[near])))]
        if len(near) > KEPT:
            self._bound[slot], self._bound_key[slot] = least, keys[near[KEPT]]
            near = near[:KEPT]
        self._near[slot], self._common[slot], self._used[slot] = 0, 0, len(near)
        self._near[slot, : len(near)], self._common[slot, : len(near)] = near, common[near]
        self._item[slot], self._slot[item] = item, slot

    def _new_slot(self) -> int:
        if self._free:
            return self._free.pop()
        if self._next == len(self._item) and self._next < max(CELLS // (KEPT + WAITING), 2 * PIECE_OF_ITEMS):
            for name in ("_item", "_used", "_bound", "_bound_key", "_near", "_common"):
                setattr(self, name, grown(getattr(self, name), max(self._next + 1, 64)))
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
            (user, liked), (other, waits) = ((rows.ids, owners(rows.indptr)) for rows in map(edges.likers, (of, near)))
            inside = contains(liked * edges.n_users + user, row[waits] * edges.n_users + other)
            common = np.bincount(waits[inside], minlength=len(row))
        self._common[slots[row], column] = common
        slots = slots[self._used[slots] > KEPT]
        if not len(slots):
            return
        near, _, cosine, key = self._read(edges, slots, keys)
        order = np.lexsort((key, -cosine))
        last, last_key = (np.take_along_axis(values, order, axis=1)[:, KEPT] for values in (cosine, key))
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
        elif len(user):
            self._grow(edges.n_items)
            moves = [move for one in np.unique(user).tolist() for move in _moves(edges, one, user, item, gained)]
            self._move(edges, *np.concatenate(moves, axis=1))
            for lost in item[~gained].tolist():
                self._lose(edges, lost)

    def _move(self, edges: Any, item: np.ndarray, other: np.ndarray, step: np.ndarray) -> None:
        """Move what items have in common with others; each pair is given in both orders."""
        if self._table is not None:
            np.add.at(self._table, (item, other), step)
        if len(item) > MOST_MOVES:
            self._slot[:] = -1
            self._free = [*range(len(self._item))]
            return
        slots = self._slot[item]
        slots, other, step = (array[slots >= 0] for array in (slots, other, step))
        here = self._near[slots] == other[:, None]
        inside, column = here.any(axis=1), here.argmax(axis=1)
        known = inside & (self._common[slots, column] >= 0)
        np.add.at(self._common, (slots[known], column[known]), step[known])
        comes = ~inside & (step > 0)
        self._wait(edges, slots[comes], other[comes])

    def _lose(self, edges: Any, item: int) -> None:
        """Let an item come nearer to others, as it lost a like."""
        n_likes = int(edges.item_likes[item])
        if n_likes > FEW_LIKES:
            self._bound *= np.sqrt(1 + 1 / n_likes) * (1 + 1e-12)
            self._bound_key[:] = NO_KEY
        elif n_likes:
            slots = self._slot[np.unique(edges.liked_by(edges.likers(np.array([item])).ids))]
            slots = slots[slots >= 0]
            slots = slots[~(self._near[slots] == item).any(axis=1)]
            self._wait(edges, slots, np.full(len(slots), item))

    def _wait(self, edges: Any, slots: np.ndarray, items: np.ndarray) -> None:
        """Put items in rows that they are not in, where they may come before the bound; drop rows without room."""
        may = (np.sqrt(edges.item_likes[items]) * (1 + 1e-12) >= self._bound[slots]) & (self._item[slots] != items)
        slots, items = np.unique([slots[may], items[may]], axis=1)
        column = self._used[slots] + np.arange(len(slots)) - np.searchsorted(slots, slots)
        full = column >= KEPT + WAITING
        self._near[slots[~full], column[~full]], self._common[slots[~full], column[~full]] = items[~full], UNKNOWN
        self._used[slots[~full]] = column[~full] + 1
        self._drop(slots[full])


def _moves(
    edges: Any, one: int, user: np.ndarray, item: np.ndarray, gained: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield items, others and how many more users they have in common, by the changes of one user, in both orders."""
    row = edges.of_user(one)
    own, gains = item[user == one], gained[user == one]
    likes = row.ids[row.kind == LIKE]
    stay = likes[~np.isin(likes, own)]
    for changing, step in ((own[gains], 1), (own[~gains], -1)):
        for moved in changing.tolist():
            others = np.concatenate([stay, changing[changing != moved]])
            yield others, np.full_like(others, moved), np.full_like(others, step)
            yield np.full_like(stay, moved), stay, np.full_like(stay, step)
