r"""The best items of one user without the scores of all: exact, at an eighth of the memory traffic.

A score is at most :math:`z_H v_H + \|z_T\| \|v_T\|` by Cauchy and Schwarz, with the leading dimensions H of a
spectral model, in which most of a score lies, and the tail T of the others. That bound reads :data:`HEAD` numbers an
item; the items that can still be among the best, a few in a hundred, are then scored in full.
"""

from __future__ import annotations

import numpy as np

HEAD = 8
"""Leading dimensions."""
FIRST = 512
"""Items with the highest bounds, whose scores say what the others have to reach."""
SMALL = 50_000
"""Below so many items it is as fast to score all."""
SHARE = 0.25
"""Where more than this share of the items is left, all are scored."""
SLACK = 1e-5
"""Share of the largest bound by which rounding may be wrong."""


class TopItems:
    """The leading dimensions of item vectors, and the lengths of what is left of them.

    Args:
        vectors: float32 ``[n_items, k]``, or longer: as many rows as there is room for.
    """

    def __init__(self, vectors: np.ndarray) -> None:
        self._start(vectors)

    def _start(self, vectors: np.ndarray) -> None:
        self._head = np.zeros((len(vectors), min(HEAD, vectors.shape[1])), dtype=np.float32)
        self._tail = np.zeros(len(vectors), dtype=np.float32)
        self._take(vectors, slice(None))

    def _take(self, vectors: np.ndarray, rows: slice | np.ndarray) -> None:
        changed = vectors[rows]
        width = self._head.shape[1]
        self._head[rows] = changed[:, :width]
        self._tail[rows] = np.sqrt(np.einsum("ij,ij->i", changed[:, width:], changed[:, width:]))

    def update(self, vectors: np.ndarray, rows: np.ndarray) -> None:
        """Take over rows that changed; where the table was made anew for more of them, all."""
        if len(vectors) > len(self._head):
            self._start(vectors)
        elif len(rows):
            self._take(vectors, rows)

    def bounds(self, user: np.ndarray, n_items: int) -> np.ndarray:
        """Return what the product of a user ``[k]`` with each item is at most, float32 ``[n_items]``."""
        width = self._head.shape[1]
        found: np.ndarray = self._head[:n_items] @ user[:width]
        found += self._tail[:n_items] * np.float32(np.linalg.norm(user[width:]))
        return found


def candidates(bounds: np.ndarray, reached: float) -> np.ndarray | None:
    """Return the items whose bound is at least ``reached``, but for rounding; None if they are too many."""
    slack = SLACK * max(abs(float(bounds.max())), abs(reached))
    left = np.flatnonzero(bounds >= reached - slack)
    return left if len(left) <= SHARE * len(bounds) else None
