"""The nearest neighbours of items by the cosine of their vectors, found when they are asked for, and remembered."""

from __future__ import annotations

from typing import Any

import numpy as np

from recbole_signed.live.learners.base import IntArray, grown

NEAR = 5  # how many neighbours an item has
POOL = 32_768  # items with the longest vectors, among which neighbours are looked for
CELLS = 8_000_000  # cosines that are worked out at a time
BITS = 14  # to which a cosine counts: the rest is rounding, which depends on how many are worked out at a time


class Neighbours:
    """Neighbours among the items of one version; an item whose vector is zero has none, and is none."""

    def __init__(self, vectors: np.ndarray, scale: np.ndarray | None = None) -> None:
        self._vectors = vectors
        self._scale = np.ones(vectors.shape[1], dtype=np.float32) if scale is None else scale.astype(np.float32)
        lengths = np.sqrt(np.square(vectors) @ np.square(self._scale))
        pool = np.arange(len(vectors))
        if len(vectors) > POOL:
            pool = np.sort(np.argpartition(lengths, len(vectors) - POOL)[len(vectors) - POOL :])
        self._pool = pool[(lengths[pool] > 0) & (pool > 0)]
        self._table = self._directions(self._pool)
        self._n_found = 0
        self._ids = np.zeros((64, NEAR), dtype=np.int64)
        self._cosines = np.zeros((64, NEAR), dtype=np.float32)
        self._slot = np.full(len(vectors), -1, dtype=np.int64)

    def __deepcopy__(self, memo: dict[int, Any]) -> Neighbours:
        """Return this itself: what it remembers is true of the version, whoever asked."""
        return self

    def _directions(self, items: IntArray) -> np.ndarray:
        found: np.ndarray = self._vectors[items] * self._scale
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-30)

    def of(self, items: IntArray) -> tuple[IntArray, np.ndarray]:
        """Return the :data:`NEAR` nearest items of each and their cosines, best first, padded with 0."""
        ids = np.zeros((len(items), NEAR), dtype=np.int64)
        cosines = np.zeros((len(items), NEAR), dtype=np.float32)
        old = items < len(self._slot)
        wanted = np.unique(items[old])
        self._find(wanted[self._slot[wanted] < 0])
        slots = self._slot[items[old]]
        ids[old], cosines[old] = self._ids[slots], self._cosines[slots]
        return ids, cosines

    def similar(self, item: int, k: int, keys: IntArray | None = None) -> tuple[IntArray, np.ndarray]:
        """Return the ``k`` nearest items of one and their cosines, as :func:`nearest`; fewer where no more are near."""
        if item >= len(self._slot):
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
        ids, cosines = nearest(item, self._pool, (self._directions(np.array([item])) @ self._table.T)[0], k, keys)
        return ids[ids > 0], cosines[ids > 0]

    def _find(self, items: IntArray) -> None:
        place, self._n_found = self._n_found, self._n_found + len(items)
        self._ids, self._cosines = grown(self._ids, self._n_found), grown(self._cosines, self._n_found)
        self._slot[items] = np.arange(place, self._n_found)
        size = max(1, CELLS // max(len(self._pool), 1))
        for first in range(0, len(items), size):
            chunk = items[first : first + size]
            for item, row in zip(chunk.tolist(), self._directions(chunk) @ self._table.T, strict=True):
                self._ids[place], self._cosines[place] = nearest(item, self._pool, row)
                place += 1


def nearest(
    item: int, pool: IntArray, cosines: np.ndarray, k: int = NEAR, keys: IntArray | None = None
) -> tuple[IntArray, np.ndarray]:
    """Return the ``k`` nearest of the ascending items of a pool, but for the item itself; equal ones by ``keys``."""
    ids, values = np.zeros(k, dtype=np.int64), np.zeros(k, dtype=np.float32)
    n = min(k + 1, len(pool))
    if n:
        cosines = np.rint(np.ldexp(cosines, BITS))
        least = np.partition(cosines, len(pool) - n)[len(pool) - n]
        order = np.flatnonzero((cosines >= max(least, 1)) & (pool != item) & (pool != 0))
        order = order[np.lexsort(((pool if keys is None else keys[pool])[order], -cosines[order]))][:k]
        ids[: len(order)], values[: len(order)] = pool[order], np.ldexp(cosines[order], -BITS)
    return ids, values
