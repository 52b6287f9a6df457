"""Why a user gets an item, in numbers that add up to its score."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recbole_signed.graph.personal_verdict import Fall


@dataclass(frozen=True)
class FeaturePart:
    """What one feature adds to a score."""

    column: str
    """Empty for what all users or items with features have in common."""
    value: str
    contribution: float


@dataclass(frozen=True)
class Explanation:
    """Why a user gets an item: ``score = (contributions.sum() + from_features + prior) * factor``.

    Exact: a score is linear in the user's edges, or a sum of logarithms of such sums, divided by their parts. An item
    without edges has the score :data:`~.item_counters.UNKNOWN`.
    """

    items: np.ndarray
    """int64 ``[n_edges]``: the items that the user has an edge to, likes first, then dislikes."""
    signs: np.ndarray
    """int8 ``[n_edges]``: 1 for a like, -1 for a dislike, 0 for a neutral edge."""
    contributions: np.ndarray
    """float64 ``[n_edges]``: what each edge adds to the exposure score, their sum."""
    prior: float
    """What popularity adds, and the trend."""
    verdict: float
    """Smoothed share of likes among the verdicts on the item, 0 to 1."""
    factor: float
    """What like rate and degree multiply the score by: :math:`v_i`, and the degree over the mean to a power."""
    score: float
    trend: float = 0.0
    """The part of ``prior`` that recent exposures add, beyond all of them; 0 for models that know no time."""
    recency: np.ndarray | None = None
    """float64 ``[n_edges]``: what order adds to ``contributions``, the rest is taste; None without order."""
    from_features: float = 0.0
    """What the features of the user add to the exposure score."""
    user_features: tuple[FeaturePart, ...] = ()
    """What each of them adds; their sum is ``from_features``."""
    item_features: tuple[FeaturePart, ...] = ()
    """What each feature of the item adds to the exposure score; it is in ``contributions`` and ``from_features``."""
    fall: Fall | None = None
    """Why it is ranked lower than ``score``; None where no dislike of the user is near."""
    moved: float = 0.0
    """How much lower (below 0) or higher it is ranked then, since the user asked for less or more of what it has."""
    reasons: tuple[Any, ...] = ()
    """What the user asked for, the newest first: each with the value of the item that it is about."""

    @property
    def ranked(self) -> float:
        """What the item is ranked by."""
        return self.score - (0.0 if self.fall is None else self.fall.by) + self.moved

    def beside(self, left_out: np.ndarray, sign: int = -1) -> Explanation:
        """Return it with edges that are no part of the score, by their items ``[n]``: they contribute 0."""
        if not len(left_out):
            return self
        nothing = np.zeros(len(left_out))
        items = np.concatenate([self.items, left_out])
        signs = np.concatenate([self.signs, nothing + sign]).astype(np.int8)
        order = np.lexsort((items, _PLACES[signs]))
        return replace(
            self,
            items=items[order],
            signs=signs[order],
            contributions=np.concatenate([self.contributions, nothing])[order],
            recency=None if self.recency is None else np.concatenate([self.recency, nothing])[order],
        )


_PLACES = np.array([2, 0, 1])  # of neutral edges, likes and dislikes, by their sign
