r"""What SSF's scores take from the counters of items, kept up with the items that change.

The formulas are those of :class:`~recbole_signed.ssf.filter.SpectralFilter`. Whatever depends on all items
(sums, means) is kept as whole numbers, so that it is exact however many changes there were.
"""

from __future__ import annotations

import numpy as np
import torch

from recbole_signed.online.learners import grown
from recbole_signed.online.store import EdgeState
from recbole_signed.ssf.filter import FilterSettings

STALE = 1e-3
"""How far, as a part, an upper bound of the factors may lie above them."""


class ItemCounters:
    """Likes and dislikes of each item, float32 ``[n_items]``."""

    def __init__(self) -> None:
        self._likes = np.zeros(1, dtype=np.float32)
        self._dislikes = np.zeros(1, dtype=np.float32)
        self._popularity = np.zeros(1, dtype=np.float32)
        self._sums = [0, 0, 0]
        self._unknown: torch.Tensor | None = None
        self._ceiling: tuple[FilterSettings, tuple[float, float], np.ndarray] | None = None
        self.n_items = 1

    @property
    def likes(self) -> np.ndarray:
        """Likes of each item."""
        return self._likes[: self.n_items]

    @property
    def dislikes(self) -> np.ndarray:
        """Dislikes of each item."""
        return self._dislikes[: self.n_items]

    @property
    def popularity(self) -> np.ndarray:
        """log(1 + likes) of each item."""
        return self._popularity[: self.n_items]

    @property
    def n_known(self) -> int:
        """Number of items with an edge."""
        return self._sums[2]

    @property
    def unknown(self) -> torch.Tensor:
        """Items without an edge, rising."""
        if self._unknown is None:
            self._unknown = torch.from_numpy(np.flatnonzero(self.likes + self.dislikes == 0))
        return self._unknown

    def degrees(self, items: np.ndarray, dislike_weight: float) -> np.ndarray:
        """Return likes plus weighted dislikes of some items."""
        return self._likes[items] + abs(dislike_weight) * self._dislikes[items]

    def start(self, likes: np.ndarray, dislikes: np.ndarray) -> None:
        """Take over the counts of all items, ``[n_items]``."""
        self._likes, self._dislikes = (np.array(each, dtype=np.float32) for each in (likes, dislikes))
        self._popularity, self.n_items = np.log1p(self._likes), len(likes)
        self._sums, self._unknown, self._ceiling = self._totals(np.arange(self.n_items)), None, None

    def update(self, edges: EdgeState, items: np.ndarray) -> None:
        """Take over the counts of items that changed."""
        if edges.n_items > self.n_items:
            for name in ("_likes", "_dislikes", "_popularity"):
                setattr(self, name, grown(getattr(self, name), edges.n_items))
            self.n_items, self._unknown = edges.n_items, None
            if self._ceiling is not None and len(self._ceiling[2]) < self.n_items:
                self._ceiling = None
        before, unknown = self._totals(items), self._likes[items] + self._dislikes[items] == 0
        self._likes[items], self._dislikes[items] = edges.item_likes[items], edges.item_dislikes[items]
        self._popularity[items] = np.log1p(self._likes[items])
        if (unknown != (self._likes[items] + self._dislikes[items] == 0)).any():
            self._unknown = None
        after = self._totals(items)
        self._sums = [total + new - old for total, new, old in zip(self._sums, after, before, strict=True)]
        self._renew_ceiling(items)

    def _totals(self, items: np.ndarray) -> list[int]:
        likes, dislikes = self._likes[items], self._dislikes[items]
        sums = [int(each.sum(dtype=np.float64)) for each in (likes, dislikes)]
        return [*sums, int(np.count_nonzero(likes + dislikes))]

    def _means(self, s: FilterSettings) -> tuple[float, float]:
        """Return the share of likes among all verdicts, and the mean degree of known items with its smoothing."""
        n_likes, n_dislikes, n_known = self._sums
        mean = (n_likes + abs(s.dislike_weight) * n_dislikes) / max(1, n_known) + s.degree_smoothing
        return n_likes / max(1, n_likes + n_dislikes), mean

    def factor(self, s: FilterSettings, items: np.ndarray | None = None) -> torch.Tensor | None:
        """Return what scores are multiplied by, ``[n_items]`` or of some items alone; None for ones."""
        if not self.n_known or (not s.dislike_aversion and not s.popularity_exponent):
            return None
        chosen = slice(0, self.n_items) if items is None else items
        likes, dislikes = (torch.from_numpy(each[chosen]) for each in (self._likes, self._dislikes))
        share, mean = self._means(s)
        result = torch.ones(len(likes))
        if s.dislike_aversion:
            t = s.verdict_smoothing
            result = ((likes + t * share) / (likes + dislikes + t)).pow_(s.dislike_aversion)
        if s.popularity_exponent:
            w = abs(s.dislike_weight)
            result *= ((likes + w * dislikes + s.degree_smoothing) / mean).pow_(s.popularity_exponent)
        if items is None:
            result[self.unknown] = 1.0
        else:
            result[likes + dislikes == 0] = 1.0
        return result

    def ceiling(self, s: FilterSettings) -> np.ndarray | None:
        r"""Return what :meth:`factor` is at most, float32 ``[n_items]``; None for ones. Of unknown items it is not.

        An event changes the factor of every item, by way of the means of all. The bound is that of when it was made,
        with room for the means to move; it is made anew once they have moved so far.
        """
        means = self._means(s)
        if self._ceiling is not None and self._ceiling[0] == s:
            old = self._ceiling[1]
            moved = s.dislike_aversion * abs(np.log(max(means[0], 1e-9) / max(old[0], 1e-9)))
            moved += s.popularity_exponent * abs(np.log(means[1] / old[1]))
            if 2 * moved < STALE:  # twice: an item may have been made while the means were out on the other side
                return self._ceiling[2][: self.n_items]
        made = self.factor(s)
        if made is None:
            return None
        values = np.zeros(len(self._likes), dtype=np.float32)
        values[: self.n_items] = made.numpy() * np.float32(1 + STALE)
        self._ceiling = s, means, values
        return values[: self.n_items]

    def _renew_ceiling(self, items: np.ndarray) -> None:
        if self._ceiling is not None:
            made = self.factor(self._ceiling[0], items)
            if made is None:
                self._ceiling = None
            else:
                self._ceiling[2][items] = made.numpy() * np.float32(1 + STALE)
