"""Exposures of items that forget: what a trend is made of, kept up event by event."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recbole_signed.arrays import add_at, grown

DAY = 86_400_000.0  # milliseconds
FAR = 400.0  # half-lives after the origin at which it is moved, since squares of weights would overflow later
WORN = 1e-6  # share of the largest sum ever, below which what is left is mostly rounding

FloatArray = npt.NDArray[np.float64]


class RecentCounts:
    r"""Exposures of each item that count half after each half-life, in days: exact under retractions, O(1) each.

    A counter holds :math:`\sum_e 2^{(t_e - o)/h}`, so that none changes with time; the origin o moves on now and then.
    """

    def __init__(self, half_life: float, n_items: int = 1, since: float = -np.inf) -> None:
        self.half_life, self.since = half_life, since
        self.origin = 0.0
        self._counts = np.zeros(n_items)
        self.n_items = n_items
        self._total = self._squares = self._peak = self._most_squares = 0.0

    @classmethod
    def of(
        cls,
        item: npt.NDArray[np.integer],
        time: npt.NDArray[np.generic],
        half_life: float,
        n_items: int,
        since: float = -np.inf,
    ) -> RecentCounts:
        """Count exposures, ``[n_events]`` each; ``time`` in milliseconds."""
        found = cls(half_life, n_items, since)
        if len(item):
            found.origin = float(time.max())
        found.add(item, time)
        return found

    @property
    def worn(self) -> bool:
        """Whether nearly all was taken away, so that it has to be counted again from the exposures that are left."""
        # squares of old weights are lost in those of new ones long before the weights are
        return self._total < WORN * self._peak or self._squares < WORN * self._most_squares

    @property
    def counts(self) -> FloatArray:
        r"""Return what is left of each item's exposures; the sum is :math:`(\sum_e w_e)^2 / 2 \sum_e w_e^2`."""
        scale = 0.5 * self._total / self._squares if self._squares > 0 else 0.0
        return scale * self._counts[: self.n_items]

    def grow(self, n_items: int) -> None:
        """Make room for items below ``n_items``."""
        self._counts = grown(self._counts, n_items)
        self.n_items = max(n_items, self.n_items)

    def add(self, item: npt.NDArray[np.integer], time: npt.NDArray[np.generic], times: float = 1.0) -> None:
        """Add exposures, ``[n_events]`` each; ``times`` -1: take them away."""
        if self.since > -np.inf:
            counted = np.asarray(time) >= self.since
            item, time = item[counted], time[counted]
        if not len(item):
            return
        newest = float(time.max())
        if newest - self.origin > FAR * self.half_life * DAY:
            shift = np.exp2((self.origin - newest) / (self.half_life * DAY))
            self._counts *= shift
            self._total, self._peak = self._total * shift, self._peak * shift
            self._squares, self._most_squares = self._squares * shift**2, self._most_squares * shift**2
            self.origin = newest
        weight = np.exp2((np.asarray(time, dtype=np.float64) - self.origin) / (self.half_life * DAY))
        add_at(self._counts, item, times * weight)
        self._total += times * float(weight.sum())
        self._squares += times * float(np.square(weight).sum())
        self._peak, self._most_squares = max(self._peak, float(weight.max())), max(self._most_squares, self._squares)
        # what is left of an item without exposures is rounding
        self._counts[item] = np.maximum(self._counts[item], 0.0)
