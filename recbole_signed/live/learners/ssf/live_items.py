r"""The item side of the filter under a stream: counters that follow the events, and the best items of a user.

A score is at most :math:`z_H v_H + \|z_T\| \|v_T\|` by Cauchy and Schwarz, with the :data:`HEAD` leading dimensions H
and the tail T of the others. The items that can still be among the best by that, a few in a hundred, are scored in
full: exact, at an eighth of the memory traffic.
"""

from __future__ import annotations

import numpy as np
import torch

from recbole_signed.arrays import grown
from recbole_signed.graph.top_scores import largest
from recbole_signed.live.learners.base import IntArray
from recbole_signed.live.store.edges import EdgeState
from recbole_signed.ssf.filter import SpectralFilter
from recbole_signed.ssf.item_counters import UNKNOWN, ExpectedCounts, ItemCounters
from recbole_signed.ssf.settings import FilterSettings

STALE = 1e-3
"""How far, as a part, an upper bound of the factors may lie above them."""
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


class LiveCounters:
    """The arrays that :attr:`now` is a view of; with room, so that an event does not copy them."""

    def __init__(self) -> None:
        self.start(np.zeros(1), np.zeros(1))

    def start(self, likes: np.ndarray, dislikes: np.ndarray) -> None:
        """Take over the counts of all items, ``[n_items]``."""
        self._likes, self._dislikes = (np.array(counts, dtype=np.float32) for counts in (likes, dislikes))
        self._popularity, self._n_items = np.log1p(self._likes), len(likes)
        self._sums = [int(counts.sum(dtype=np.float64)) for counts in (self._likes, self._dislikes)]
        self._unknown: torch.Tensor | None = None
        self._now: ItemCounters | None = None
        self._ceiling: tuple[FilterSettings, tuple[float, float], np.ndarray] | None = None
        self._expected: ExpectedCounts | None = None

    def expect(self, expected: ExpectedCounts | None) -> None:
        """Take over what features let expect of items; None for nothing."""
        self._expected = expected
        self._now = self._unknown = self._ceiling = None

    def grow(self, n_items: int) -> None:
        """Make room for items below ``n_items``, without edges."""
        if n_items > self._n_items:
            for name in ("_likes", "_dislikes", "_popularity"):
                setattr(self, name, grown(getattr(self, name), n_items))
            self._n_items, self._unknown, self._now = n_items, None, None
            if self._ceiling is not None and len(self._ceiling[2]) < self._n_items:
                self._ceiling = None
        if self._expected is not None and len(self._expected.likes) < n_items:
            self._expected = self._expected.grown(n_items)

    @property
    def now(self) -> ItemCounters:
        """The counters; they stay valid until the next :meth:`update`."""
        if self._now is None:
            likes, dislikes, popularity = (
                torch.from_numpy(array[: self._n_items]) for array in (self._likes, self._dislikes, self._popularity)
            )
            if self._unknown is None:
                unknown = likes + dislikes == 0
                if self._expected is not None:
                    unknown &= ~self._expected.given
                self._unknown = torch.nonzero(unknown).ravel()
            n_likes, n_dislikes = self._sums
            self._now = ItemCounters(likes, dislikes, popularity, self._unknown, n_likes, n_dislikes, self._expected)
        return self._now

    def update(self, edges: EdgeState, items: np.ndarray) -> None:
        """Take over the counts of items that changed."""
        self.grow(edges.n_items)
        before = self._likes[items], self._dislikes[items]
        after = edges.item_likes[items].astype(np.float32), edges.item_dislikes[items].astype(np.float32)
        self._likes[items], self._dislikes[items] = after
        self._popularity[items] = np.log1p(after[0])
        if ((sum(before) == 0) != (sum(after) == 0)).any():
            self._unknown = None
        moved = (int((new - old).sum(dtype=np.float64)) for new, old in zip(after, before, strict=True))
        self._sums = [total + change for total, change in zip(self._sums, moved, strict=True)]
        self._now = None
        if self._ceiling is not None:
            self._renew(*self._ceiling, items)

    def ceiling(self, s: FilterSettings) -> np.ndarray | None:
        """Return what the factor is at most, float32 ``[n_items]``; None for ones. Of unknown items it is not."""
        # an event changes the factor of every item by way of the means: there is room for them to move, up to `update`
        now = self.now
        known = self._ceiling
        if known is not None and known[0] == s:
            return known[2][: self._n_items]
        made = now.factor(s)
        if made is None:
            return None
        values = np.zeros(len(self._likes), dtype=np.float32)
        values[: self._n_items] = made.numpy() * np.float32(1 + STALE)
        self._ceiling = s, now.means(s), values  # the arrays of ``now`` change
        return values[: self._n_items]

    def _renew(self, s: FilterSettings, means: tuple[float, float], values: np.ndarray, items: np.ndarray) -> None:
        made = self.now.factor(s, torch.from_numpy(items.astype(np.int64)))
        # twice: an item is made while the means are out on one side, and used while they are out on the other
        if made is None or 2 * self.now.drift(s, means) >= STALE:
            self._ceiling = None
        else:
            values[items] = made.numpy() * np.float32(1 + STALE)


class TopItems:
    """The leading dimensions of item vectors, float32 ``[>= n_items, k]``, and the lengths of what is left of them."""

    def __init__(self, vectors: np.ndarray) -> None:
        self._start(vectors)

    def _start(self, vectors: np.ndarray) -> None:
        # a row for each dimension: a few long rows are multiplied in a third of the time of many short ones
        self._head = np.zeros((min(HEAD, vectors.shape[1]), len(vectors)), dtype=np.float32)
        self._tail = np.zeros(len(vectors), dtype=np.float32)
        self._take(vectors, slice(None))

    def _take(self, vectors: np.ndarray, rows: slice | np.ndarray) -> None:
        changed = vectors[rows]
        width = len(self._head)
        self._head[:, rows] = changed[:, :width].T
        self._tail[rows] = np.sqrt(np.einsum("ij,ij->i", changed[:, width:], changed[:, width:]))

    def update(self, vectors: np.ndarray, rows: np.ndarray) -> None:
        """Take over rows that changed; all of them where the table was moved to make room."""
        if len(vectors) > len(self._tail):
            self._start(vectors)
        elif len(rows):
            self._take(vectors, rows)

    @staticmethod
    def worth_it(n_items: int, k: int) -> bool:
        """Whether there are so many items that working all scores out is slower."""
        return n_items >= SMALL and k <= FIRST // 2

    def best(
        self, fitted: SpectralFilter, factors: torch.Tensor, k: int, hidden: IntArray, ceiling: np.ndarray | None
    ) -> tuple[IntArray, np.ndarray] | None:
        """Return the ``k`` best items that are not hidden, best first, and their scores; None where it can't tell."""
        n_items = fitted.counters.n_items
        user, width = factors.numpy(), len(self._head)
        bounds: np.ndarray = user[:width] @ self._head[:, :n_items]
        bounds += self._tail[:n_items] * np.float32(np.linalg.norm(user[width:]))
        bounds += fitted.prior.numpy()
        if ceiling is not None:
            np.maximum(bounds, 0.0, out=bounds)
            bounds *= ceiling
        bounds[fitted.counters.unknown.numpy()] = UNKNOWN
        bounds[hidden] = -np.inf

        strangers = fitted.strangers(factors)

        def exact(items: IntArray) -> np.ndarray:
            rows = torch.from_numpy(items)
            return fitted.finished(fitted.vectors[rows] @ factors, rows, strangers=strangers).numpy()

        (highest,), (places,) = largest(torch.from_numpy(bounds)[None], FIRST)  # a fifth of the time of NumPy's
        first = places[highest > UNKNOWN].numpy()
        if len(first) < k:
            return None
        reached = float(np.partition(exact(first), len(first) - k)[len(first) - k])
        slack = SLACK * max(abs(float(bounds.max())), abs(reached))
        left = np.flatnonzero(bounds >= reached - slack)
        if len(left) > SHARE * n_items:
            return None
        values = exact(left)
        best = np.argpartition(values, len(values) - k)[len(values) - k :]
        best = best[np.argsort(-values[best], kind="stable")]
        return left[best], values[best]
