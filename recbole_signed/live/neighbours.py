"""The nearest neighbours of items by the cosine of their vectors, found when they are asked for, and remembered."""

from __future__ import annotations

from typing import Any

import numpy as np

from recbole_signed.live.learner import IntArray, grown
from recbole_signed.live.top_items import FIRST, SMALL, TopItems, candidates

NEAR = 5
"""How many neighbours an item has."""
FEW = 8
"""Up to so many items are looked up one by one."""
CELLS = 8_000_000
"""Cosines that are worked out at a time."""


class Neighbours:
    """Neighbours among the items of one version of a model.

    Args:
        vectors: float32 ``[n_items, k]``, not written to. An item whose vector is zero has no neighbours, and is none.
        scale: what the columns are multiplied by, ``[k]``; ones if None.
    """

    def __init__(self, vectors: np.ndarray, scale: np.ndarray | None = None) -> None:
        self._vectors = vectors
        self._scale = np.ones(vectors.shape[1], dtype=np.float32) if scale is None else scale.astype(np.float32)
        lengths = np.sqrt(np.square(vectors) @ np.square(self._scale))
        self._inverse = np.where(lengths > 0, 1.0 / np.where(lengths > 0, lengths, 1.0), 0.0).astype(np.float32)
        self._top = TopItems(vectors, self._scale, self._inverse)
        self._n_found = 0
        self._ids = np.zeros((64, NEAR), dtype=np.int64)
        self._cosines = np.zeros((64, NEAR), dtype=np.float32)
        self._slot = np.full(len(vectors), -1, dtype=np.int64)

    def __deepcopy__(self, memo: dict[int, Any]) -> Neighbours:
        """Return this itself: what it remembers is true of the version, whoever asked."""
        return self

    def of(self, items: IntArray) -> tuple[IntArray, np.ndarray]:
        """Return the :data:`NEAR` nearest items of each and their cosines, best first, two ``[len(items), NEAR]``.

        Where there are fewer, or the item is younger than the version, the rest is padding with the cosine 0.
        """
        ids = np.zeros((len(items), NEAR), dtype=np.int64)
        cosines = np.zeros((len(items), NEAR), dtype=np.float32)
        old = items < len(self._slot)
        wanted = np.unique(items[old])
        self._find(wanted[self._slot[wanted] < 0])
        slots = self._slot[items[old]]
        ids[old], cosines[old] = self._ids[slots], self._cosines[slots]
        return ids, cosines

    def _find(self, items: IntArray) -> None:
        if not len(items):
            return
        found = [self._near(int(item)) for item in items] if len(items) <= FEW else self._near_many(items)
        first, self._n_found = self._n_found, self._n_found + len(items)
        self._ids, self._cosines = grown(self._ids, self._n_found), grown(self._cosines, self._n_found)
        self._ids[first : self._n_found] = [ids for ids, _ in found]
        self._cosines[first : self._n_found] = [values for _, values in found]
        self._slot[items] = np.arange(first, self._n_found)

    def _near_many(self, items: IntArray) -> list[tuple[IntArray, np.ndarray]]:
        table = self._vectors * self._scale * self._inverse[:, None]
        found, size = [], max(1, CELLS // len(table))
        for first in range(0, len(items), size):
            chunk = items[first : first + size]
            cosines = table[chunk] @ table.T
            for item, row in zip(chunk.tolist(), cosines, strict=True):
                found.append(nearest(item, np.arange(len(table)), row))
        return found

    def _near(self, item: int) -> tuple[IntArray, np.ndarray]:
        own = self._vectors[item] * self._scale * self._inverse[item]

        def exact(some: IntArray) -> np.ndarray:
            return np.asarray((self._vectors[some] @ (own * self._scale)) * self._inverse[some])

        everything = np.arange(len(self._slot))
        if len(everything) < SMALL:
            return nearest(item, everything, (self._vectors @ (own * self._scale)) * self._inverse)
        bounds = self._top.bounds(own, len(self._slot))
        bounds[[0, item]] = -np.inf
        first = np.argpartition(bounds, len(bounds) - FIRST)[len(bounds) - FIRST :]
        left = candidates(bounds, float(np.partition(exact(first), FIRST - NEAR)[FIRST - NEAR]))
        some = everything if left is None else left
        return nearest(item, some, exact(some))


def nearest(item: int, some: IntArray, cosines: np.ndarray) -> tuple[IntArray, np.ndarray]:
    """Return the nearest of some items, of which the item itself and padding are none."""
    cosines = np.where((some == item) | (some == 0), -np.inf, cosines)
    n = min(NEAR, len(some))
    order = np.argpartition(-cosines, n - 1)[:n]
    order = order[np.lexsort((some[order], -cosines[order]))]
    ids, values = np.zeros(NEAR, dtype=np.int64), np.zeros(NEAR, dtype=np.float32)
    near = cosines[order] > 0
    ids[: near.sum()], values[: near.sum()] = some[order][near], cosines[order][near]
    return ids, values
