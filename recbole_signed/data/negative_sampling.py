"""Draws items that a user has no edge to, for a whole batch of users at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_signed.arrays import contains, distinct
from recbole_signed.errors import UsageError

IntArray = npt.NDArray[np.int64]

ROUNDS = 16
"""How often refused draws are repeated before what is left is drawn from the explicit complement."""
MOST_BITS = 1 << 29
"""Pairs of a user and an item that are looked up in a table of one bit each, at most: 64 MB. More are searched for."""
BUCKETS, STEPS = 4, 4
"""Parts per item that the sum of the weights is divided into, and items that are stepped over from where a part begins
before the rest is searched for: an item without a weight has no share of a part."""


def sifts_positives(config: Any) -> bool:
    """Whether items that a user has an edge to are never sampled for them: the default."""
    return config["sift_positives"] is None or bool(config["sift_positives"])


@dataclass(frozen=True)
class UnseenItems:
    """Items that are not among a user's own, drawn with replacement, uniformly or by weight.

    Attributes:
        keys: ``user * n_items + item`` of all pairs that must not be drawn, ascending, ``[n_pairs]``.
        n_items: number of items with the padding item 0, which is never drawn.
        cumulative: running sum of the items' weights, ``[n_items]``, 0 at the padding item; None: all alike.
    """

    keys: IntArray
    n_items: int
    cumulative: npt.NDArray[np.float64] | None = None

    @classmethod
    def from_pairs(
        cls, users: IntArray, items: IntArray, n_items: int, weights: npt.NDArray[np.float64] | None = None
    ) -> UnseenItems:
        """Refuse the pairs ``(users[j], items[j])``; draw in proportion to ``weights [n_items]`` where they are given.

        Raises:
            UsageError: a weight is negative or not finite, or none is positive.
        """
        keys = distinct(users.astype(np.int64) * n_items + items)
        if weights is None:
            return cls(keys, n_items)
        weights = np.asarray(weights, dtype=np.float64).copy()
        weights[0] = 0.0
        if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
            raise UsageError("weights to draw items by must be finite and not negative, and one must be positive.")
        return cls(keys, n_items, np.cumsum(weights))

    def can_draw(self, users: IntArray) -> npt.NDArray[np.bool_]:
        """Return for which of ``users [batch]`` there is an item to draw, ``[batch]``."""
        owner, item = np.divmod(self.keys, self.n_items)
        able = self._weights() > 0
        taken = np.bincount(owner[able[item]], minlength=int(users.max(initial=0)) + 1)
        return np.asarray(taken[users] < able.sum())

    def draw(self, users: IntArray, n: int, rng: np.random.Generator) -> IntArray:
        """Return ``n`` items for each of ``users [batch]``: ``[batch, n]``.

        Refused draws are repeated; a user with few items left gets them from the complement of its own.

        Raises:
            UsageError: a user has an edge to every item that could be drawn.
        """
        drawn = self._draw(rng, len(users) * n)
        rows = np.repeat(users, n)
        open_places = np.flatnonzero(self._seen(rows, drawn))
        for _ in range(ROUNDS):
            if not len(open_places):
                break
            drawn[open_places] = self._draw(rng, len(open_places))
            open_places = open_places[self._seen(rows[open_places], drawn[open_places])]
        for user in np.unique(rows[open_places]):  # few: users who have touched nearly everything
            places = open_places[rows[open_places] == user]
            drawn[places] = self._draw_from_complement(int(user), len(places), rng)
        return drawn.reshape(len(users), n)

    def _weights(self) -> npt.NDArray[np.float64]:
        """Return the weights of the items, ``[n_items]``, 0 at the padding item."""
        weights = np.ones(self.n_items) if self.cumulative is None else np.diff(self.cumulative, prepend=0.0)
        weights[0] = 0.0
        return weights

    def _draw(self, rng: np.random.Generator, n: int) -> IntArray:
        if self.cumulative is None:
            return rng.integers(1, self.n_items, n)
        part = rng.random(n)
        wanted = np.minimum(part * self.cumulative[-1], np.nextafter(self.cumulative[-1], 0.0))
        items = self._first[(part * (len(self._first) - 1)).astype(np.int64)]
        later = np.flatnonzero(self.cumulative[items] <= wanted)
        for _ in range(STEPS):
            items[later] += 1
            later = later[self.cumulative[items[later]] <= wanted[later]]
        items[later] = np.searchsorted(self.cumulative, wanted[later], side="right")
        return items

    @cached_property
    def _first(self) -> IntArray:
        """An item at or before the first one of each part of the sum of the weights; one part more, for rounding."""
        assert self.cumulative is not None
        n_parts = BUCKETS * self.n_items
        begins = (np.arange(n_parts + 1) - 1) * (self.cumulative[-1] / n_parts)  # one part earlier, for rounding
        return np.searchsorted(self.cumulative, begins, side="right").astype(np.int64)

    @cached_property
    def _bits(self) -> npt.NDArray[np.uint8]:
        """Whether each pair is one of the keys, of which there are some, a bit each; none where those are too many."""
        n_bits = int(self.keys[-1]) + 1
        if n_bits > MOST_BITS:
            return np.zeros(0, dtype=np.uint8)
        found = np.zeros(n_bits // 8 + 1, dtype=np.uint8)
        place = self.keys >> 3
        first = np.flatnonzero(np.append(True, place[1:] != place[:-1]))
        found[place[first]] = np.bitwise_or.reduceat(np.left_shift(1, self.keys & 7).astype(np.uint8), first)
        return found

    def _seen(self, users: IntArray, items: IntArray) -> npt.NDArray[np.bool_]:
        if not len(self.keys):
            return np.zeros(len(users), dtype=bool)
        wanted = users * self.n_items + items
        if len(self._bits):
            inside = wanted >> 3 < len(self._bits)
            byte = self._bits[np.where(inside, wanted >> 3, 0)]
            return ((byte >> (wanted & 7).astype(np.uint8)) & 1).astype(bool) & inside
        return contains(self.keys, wanted)

    def _draw_from_complement(self, user: int, n: int, rng: np.random.Generator) -> IntArray:
        first, last = np.searchsorted(self.keys, (user * self.n_items, (user + 1) * self.n_items))
        weights = self._weights()
        weights[self.keys[first:last] - user * self.n_items] = 0.0
        if not weights.any():
            raise UsageError(
                f"the user with the id {user} has an edge to every item, so no negative can be drawn; leave such users "
                "out (user_inter_num_interval)."
            )
        return rng.choice(self.n_items, n, p=weights / weights.sum())
