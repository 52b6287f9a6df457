"""Likes and dislikes of each item, and what the score takes from them: the only part that knows of popularity."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from recbole_signed.graph import aversion_factors, like_rates
from recbole_signed.graph.spectral import inverse_power
from recbole_signed.ssf.settings import FilterSettings

UNKNOWN = -1e20
"""Score of an item without edges: finite and below every other, so that all ways to score agree on it."""

LARGEST = 1e30
"""What the power of a degree is at most, so that the scores of the most popular items stay finite."""


PREDICTED = 1.0
"""Aversion to a like rate that features predict, at most: it makes a score that of a like. More is for verdicts."""


@dataclass(frozen=True)
class ExpectedCounts:
    """Likes and dislikes that features let expect of items."""

    likes: torch.Tensor
    """float32 ``[n_items]``."""
    dislikes: torch.Tensor
    """float32 ``[n_items]``."""
    given: torch.Tensor
    """Which items something is predicted of, bool ``[n_items]``."""
    weight: float
    """[c] Edges that the prediction counts as."""
    popularity: float
    """[zeta] Further share of popularity in the score, for as much of an item as is predicted."""
    lift: float = 1.0
    """[ell] What the score is multiplied by, to the power of how much of an item is predicted."""

    def grown(self, n_items: int) -> ExpectedCounts:
        """Return the same for more items, of which nothing is expected."""
        more = torch.zeros(n_items - len(self.likes))
        likes, dislikes = (torch.cat([counts, more]) for counts in (self.likes, self.dislikes))
        return replace(self, likes=likes, dislikes=dislikes, given=torch.cat([self.given, more.bool()]))


@dataclass(frozen=True)
class ItemCounters:
    """The counters as they are now; of a stream, views of arrays that grow (``live_items.py``)."""

    likes: torch.Tensor
    """float32 ``[n_items]``."""
    dislikes: torch.Tensor
    """float32 ``[n_items]``."""
    popularity: torch.Tensor
    """log(1 + likes), float32 ``[n_items]``."""
    unknown: torch.Tensor
    """Items without an edge, and of which nothing is predicted, int64, ascending."""
    n_likes: int
    """Sum of the likes: a whole number, so it is exact however many changes there were."""
    n_dislikes: int
    expected: ExpectedCounts | None = None
    """None where no feature tells anything."""

    @classmethod
    def from_counts(
        cls, likes: torch.Tensor, dislikes: torch.Tensor, expected: ExpectedCounts | None = None
    ) -> ItemCounters:
        """Derive the rest from the counts."""
        n_likes, n_dislikes = (int(counts.double().sum()) for counts in (likes, dislikes))
        unknown = likes + dislikes == 0
        if expected is not None:
            unknown &= ~expected.given
        return cls(likes, dislikes, likes.log1p(), torch.nonzero(unknown).ravel(), n_likes, n_dislikes, expected)

    @property
    def n_items(self) -> int:
        """Number of items."""
        return self.likes.shape[0]

    @cached_property
    def n_known(self) -> int:
        """Number of items with an edge."""
        if self.expected is None:
            return self.n_items - self.unknown.shape[0]
        return int((self.likes + self.dislikes > 0).sum())

    def degrees(self, s: FilterSettings) -> torch.Tensor:
        """Return the degrees in P + abs(w) N, float32 ``[n_items]``."""
        return self.likes + abs(s.dislike_weight) * self.dislikes

    def scale(self, s: FilterSettings, items: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
        """Return the normalisation :math:`(d_i + a)^{-e}` of some items, with the degrees of P + |w|N."""
        likes, dislikes = (counts.cpu().numpy()[items].astype(np.float64) for counts in (self.likes, self.dislikes))
        return inverse_power(likes + abs(s.dislike_weight) * dislikes, s.degree_smoothing, s.degree_exponent)

    def verdict(self, s: FilterSettings) -> torch.Tensor:
        """Return the smoothed like rates, ``[n_items]``, see :func:`~recbole_signed.graph.like_rates`."""
        return self._rates(s, *self._counts(None))

    def factor(self, s: FilterSettings, items: torch.Tensor | None = None) -> torch.Tensor | None:
        r"""Return :math:`v_i^g (d_i / \text{mean } d)^\pi`, ``[n_items]``, lifted where predicted; None for ones."""
        # for scores of 0 and above: in those below, the aversion has the opposite effect
        lift = 1.0 if self.expected is None else self.expected.lift
        if not self.n_known or (lift == 1 and not (s.dislike_aversion or s.popularity_exponent)):
            return None
        likes, dislikes = self._counts(items)
        result = torch.ones_like(likes)
        if s.dislike_aversion:
            result = self._aversion(s, likes, dislikes, items)
        if s.popularity_exponent:
            result *= self._degree_factor(s, likes, dislikes)
        if lift != 1:
            result *= lift ** self.share(items)
        result[self.unknown if items is None else self._is_unknown(items)] = 1.0
        return result

    def aversion(self, s: FilterSettings, items: torch.Tensor | None = None) -> torch.Tensor | None:
        """Return :math:`v_i^g`, ``[n_items]``, 1 for unknown items; None where it is 1 for all."""
        if not (self.n_known and s.dislike_aversion):
            return None
        result = self._aversion(s, *self._counts(items), items)
        result[self.unknown if items is None else self._is_unknown(items)] = 1.0
        return result

    def _degree_factor(self, s: FilterSettings, likes: torch.Tensor, dislikes: torch.Tensor) -> torch.Tensor:
        degrees = likes + abs(s.dislike_weight) * dislikes + s.degree_smoothing
        nothing = degrees == 0
        factor = degrees.div_(self.means(s)[1]).pow_(s.popularity_exponent).clamp_(max=LARGEST)
        return factor.masked_fill_(nothing, 0.0)  # as the power of the degree in R

    def prior(self, s: FilterSettings, typical: float) -> torch.Tensor:
        """Return eta times log popularity on the scale of a typical score, ``[n_items]``; UNKNOWN for unknown items."""
        popularity = self.popularity
        largest = float(popularity.max()) if self.n_items else 0.0
        if self.expected is not None:
            popularity = self.believed_likes().log1p()
        floor: Any = s.popularity_floor
        if self.expected is not None and self.expected.popularity:
            floor = s.popularity_floor + self.expected.popularity * self.share()
        result = popularity * (floor * (typical / max(largest, 1e-9)))
        result[self.unknown] = UNKNOWN
        return result

    def _is_unknown(self, items: torch.Tensor) -> torch.Tensor:
        unknown = self.likes[items] + self.dislikes[items] == 0
        return unknown if self.expected is None else unknown & ~self.expected.given[items]

    def drift(self, s: FilterSettings, since: tuple[float, float]) -> float:
        """Return how far, as a part, the means may have moved the factors since they were as :meth:`means` told."""
        (rate, degree), (old_rate, old_degree) = self.means(s), since
        moved = s.dislike_aversion * abs(np.log(max(rate, 1e-9) / max(old_rate, 1e-9)))
        return float(moved + abs(s.popularity_exponent * np.log(degree / old_degree)))

    def share(self, items: torch.Tensor | None = None) -> torch.Tensor:
        """Return how much of each item is predicted, c / (d + c), ``[n_items]``: 1 without edges."""
        likes, dislikes = (self.likes, self.dislikes) if items is None else (self.likes[items], self.dislikes[items])
        if self.expected is None:
            return torch.zeros_like(likes)
        given = self.expected.given if items is None else self.expected.given[items]
        degrees, weight = likes + dislikes, self.expected.weight
        share = torch.where(degrees > 0, weight / (degrees + weight).clamp(min=1e-9), 1.0)
        return share * given

    def believed_likes(self) -> torch.Tensor:
        """Return the likes of items, with those that features let expect, ``[n_items]``."""
        return self._counts(None)[0]

    def _counts(self, items: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        likes, dislikes = (self.likes, self.dislikes) if items is None else (self.likes[items], self.dislikes[items])
        if self.expected is None:
            return likes, dislikes
        more = self.expected.likes, self.expected.dislikes
        more = more if items is None else (more[0][items], more[1][items])
        share = self.share(items)
        return likes + share * more[0], dislikes + share * more[1]

    def _aversion(
        self, s: FilterSettings, likes: torch.Tensor, dislikes: torch.Tensor, items: torch.Tensor | None
    ) -> torch.Tensor:
        rates, mean = self._rates(s, likes, dislikes), self.means(s)[0]
        aversion = aversion_factors(rates, mean, s.dislike_aversion)
        if self.expected is None or s.dislike_aversion <= PREDICTED:
            return aversion
        share = self.share(items)
        return aversion ** (1 - share) * aversion_factors(rates, mean, PREDICTED) ** share

    def _rates(self, s: FilterSettings, likes: torch.Tensor, dislikes: torch.Tensor) -> torch.Tensor:
        return like_rates(likes, dislikes, s.verdict_smoothing, self.means(s)[0])

    def means(self, s: FilterSettings) -> tuple[float, float]:
        """Return the share of likes among all verdicts, and the mean degree of known items with its smoothing."""
        mean = (self.n_likes + abs(s.dislike_weight) * self.n_dislikes) / max(1, self.n_known) + s.degree_smoothing
        return self.n_likes / max(1, self.n_likes + self.n_dislikes), max(mean, 1e-9)
