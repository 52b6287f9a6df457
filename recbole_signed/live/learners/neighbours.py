"""The nearest neighbours of items by the cosine of their vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from recbole_signed.live.learners.base import IntArray

POOL = 32_768  # items with the longest vectors, among which neighbours are looked for
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

    def __deepcopy__(self, memo: dict[int, Any]) -> Neighbours:
        """Return this itself, which nothing changes."""
        return self

    def _directions(self, items: IntArray) -> np.ndarray:
        found: np.ndarray = self._vectors[items] * self._scale
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-30)

    def similar(self, item: int, k: int, keys: IntArray | None = None) -> tuple[IntArray, np.ndarray]:
        """Return the ``k`` nearest items of one and their cosines, as :func:`nearest`; none of a younger item."""
        if item >= len(self._vectors):
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
        return nearest(item, self._pool, (self._directions(np.array([item])) @ self._table.T)[0], k, keys)


def nearest(
    item: int, pool: IntArray, cosines: np.ndarray, k: int, keys: IntArray | None = None
) -> tuple[IntArray, np.ndarray]:
    """Return the ``k`` nearest of the ascending items of a pool, but for the item itself; equal ones by ``keys``."""
    n = min(k + 1, len(pool))
    cosines = np.rint(np.ldexp(cosines, BITS))
    least = np.partition(cosines, len(pool) - n)[len(pool) - n] if n else 0
    order = np.flatnonzero((cosines >= max(least, 1)) & (pool != item) & (pool != 0))
    order = order[np.lexsort(((pool if keys is None else keys[pool])[order], -cosines[order]))][:k]
    return pool[order], np.ldexp(cosines[order], -BITS)
