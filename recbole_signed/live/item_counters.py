r"""What SSF's scores take from the counters of items, kept up with the items that change.

The formulas are those of :class:`~recbole_signed.graph.spectral_filter.SpectralFilter`. Whatever depends on all items
(sums, means) is kept as whole numbers, so that it is exact however many changes there were.
"""

from __future__ import annotations

import numpy as np
import torch

from recbole_signed.graph.spectral_filter import FilterSettings
from recbole_signed.live.learner import grown
from recbole_signed.online.edges import EdgeState


class ItemCounters:
    """Likes and dislikes of each item, float32 ``[n_items]``."""

    def __init__(self) -> None:
        self._likes = np.zeros(1, dtype=np.float32)
        self._dislikes = np.zeros(1, dtype=np.float32)
        self._popularity = np.zeros(1, dtype=np.float32)
        self._sums = [0, 0, 0]
        self._unknown: torch.Tensor | None = None
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
        self._sums, self._unknown = self._totals(np.arange(self.n_items)), None

    def update(self, edges: EdgeState, items: np.ndarray) -> None:
        """Take over the counts of items that changed."""
        if edges.n_items > self.n_items:
            for name in ("_likes", "_dislikes", "_popularity"):
                setattr(self, name, grown(getattr(self, name), edges.n_items))
            self.n_items, self._unknown = edges.n_items, None
        before, unknown = self._totals(items), self._likes[items] + self._dislikes[items] == 0
        self._likes[items], self._dislikes[items] = edges.item_likes[items], edges.item_dislikes[items]
        self._popularity[items] = np.log1p(self._likes[items])
        if (unknown != (self._likes[items] + self._dislikes[items] == 0)).any():
            self._unknown = None
        after = self._totals(items)
        self._sums = [total + new - old for total, new, old in zip(self._sums, after, before, strict=True)]

    def _totals(self, items: np.ndarray) -> list[int]:
        likes, dislikes = self._likes[items], self._dislikes[items]
        sums = [int(each.sum(dtype=np.float64)) for each in (likes, dislikes)]
        return [*sums, int(np.count_nonzero(likes + dislikes))]

    def factor(self, s: FilterSettings) -> torch.Tensor | None:
        """Return what scores are multiplied by, ``[n_items]``; None for ones."""
        if not self.n_known or (not s.dislike_aversion and not s.popularity_exponent):
            return None
        likes, dislikes = torch.from_numpy(self.likes), torch.from_numpy(self.dislikes)
        n_likes, n_dislikes, n_known = self._sums
        result = torch.ones(self.n_items)
        if s.dislike_aversion:
            t, mean = s.verdict_smoothing, n_likes / max(1, n_likes + n_dislikes)
            result = ((likes + t * mean) / (likes + dislikes + t)).pow_(s.dislike_aversion)
        if s.popularity_exponent:
            w = abs(s.dislike_weight)
            mean = (n_likes + w * n_dislikes) / n_known + s.degree_smoothing
            result *= ((likes + w * dislikes + s.degree_smoothing) / mean).pow_(s.popularity_exponent)
        result[self.unknown] = 1.0
        return result
