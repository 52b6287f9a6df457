"""Counts of events that are kept up event by event: of each item, fading with time, and of pairs in their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recbole_signed.arrays import add_at, grown
from recbole_signed.sequences import IntArray, Sequences
from recbole_signed.sparse_rows import add_products, add_rows

DAY = 86_400_000.0  # milliseconds
FAR = 400.0  # half-lives after the origin at which it is moved, since squares of weights would overflow later
WORN = 1e-6  # share of the largest sum ever, below which what is left is mostly rounding

FloatArray = npt.NDArray[np.float64]
WINDOW = 10  # moments between the verdicts of a pair, at most
REACH = 10  # verdicts between them, at most
WEIGHTS = np.array([0, 16, 8, 5, 4, 3, 3, 2, 2, 2, 2], dtype=np.float32)  # of a pair by distance: 16 over it
EVENTS = 2_000_000  # verdicts whose pairs are counted at a time
MOST = 10_000_000  # verdicts counted at most: the newest of each user, the same number of all
LEVELS = 8  # least ratio of each part of the counts to the next: changes are merged as they add up

FloatTable = npt.NDArray[np.float32]


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
    def from_events(
        cls,
        item: npt.NDArray[np.integer],
        time: npt.NDArray[np.generic],
        half_life: float,
        n_items: int,
        since: float = -np.inf,
    ) -> RecentCounts:
        """Count exposures, ``[n_events]`` each; ``time`` in milliseconds."""
        counts = cls(half_life, n_items, since)
        if len(item):
            counts.origin = float(time.max())
        counts.add(item, time)
        return counts

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


@dataclass(frozen=True)
class Part:
    """Counts, and the same by the later item: float32 with whole numbers, ``[n_items, n_items]``."""

    after: sp.csr_matrix
    before: sp.csr_matrix

    @classmethod
    def from_matrix(cls, after: sp.csr_matrix) -> Part:
        """Make it of the counts by the earlier item."""
        after.eliminate_zeros()
        return cls(after, after.T.tocsr())


class PairCounts:
    r"""How often one item comes shortly after another: sparse, exact, and additive over users.

    :math:`C_{ij} = \sum 1 / d` over pairs of a verdict on i and a later one on j of the same user, d moments apart, up
    to :data:`WINDOW` and :data:`REACH` verdicts, in whole numbers. After PCTM (arXiv 2608.19833), of both signs alike.
    These are the counts of all users' newest ``limit`` verdicts (None: all), in parts of falling size.
    """

    def __init__(self, n_items: int, limit: int | None = None) -> None:
        self.n_items, self.limit = n_items, limit
        self.parts: list[Part] = []
        self.totals = np.zeros((2, n_items))  # sums of rows and of columns; float32 ends at 2 to the 24

    @classmethod
    def from_sequences(cls, sequences: Sequences, n_items: int) -> PairCounts:
        """Count the pairs of users."""
        counts = cls(n_items, limit_of(sequences))
        for users in sequences.pieces(EVENTS):
            counts.add(sequences.of_users(users))
        return counts

    def add(self, sequences: Sequences, times: int = 1) -> None:
        """Add the pairs of users; ``times`` -1: take them away."""
        self._add(*self._pairs(sequences, times))

    def replace(self, old: Sequences, new: Sequences) -> None:
        """Take the pairs of users away as they were, and add them as they are."""
        (*gone, less), (*come, more) = self._pairs(old, -1), self._pairs(new, 1)
        first, second = (np.concatenate(columns) for columns in zip(gone, come, strict=True))
        self._add(first, second, np.concatenate([less, more]))

    def _pairs(self, sequences: Sequences, times: int) -> tuple[IntArray, IntArray, FloatTable]:
        if self.limit is not None:
            later = sequences.indptr[1:][sequences.owner] - np.arange(len(sequences.item))
            sequences = sequences.only(later <= self.limit)
        first, second, weight = pairs(sequences)
        return first, second, (times * weight).astype(np.float32)

    def _add(self, first: IntArray, second: IntArray, weight: FloatTable) -> None:
        changed = sp.csr_matrix((weight, (first, second)), shape=(self.n_items, self.n_items))
        changed.eliminate_zeros()  # most pairs of a user stay as they were
        if not changed.nnz:
            return
        for side, item in zip(self.totals, (first, second), strict=True):
            add_at(side, item, weight)
        while self.parts and self.parts[-1].after.nnz < LEVELS * changed.nnz:
            changed = changed + self.parts.pop().after
        self.parts.append(Part.from_matrix(changed))

    def grow(self, n_items: int) -> None:
        """Make room for items below ``n_items``."""
        if n_items > self.n_items:
            self.totals = np.pad(self.totals, ((0, 0), (0, n_items - self.n_items)))
            for part in self.parts:
                for side in (part.after, part.before):
                    side.resize(n_items, n_items)
            self.n_items = n_items

    def follow(
        self, rows: sp.csr_matrix, smoothing: float, items: IntArray | None = None, *, before: bool = False
    ) -> FloatTable:
        r"""Return :math:`\sum_i x_{ui} C_{ij} / (\sum_k C_{ik} + \alpha)`; ``before`` takes C transposed.

        Of all items j, float32 ``[n, n_items]``, or of ``items [n, m]`` of each row.
        """
        sides = [(part.before, part.after) if before else (part.after, part.before) for part in self.parts]
        return self._summed(rows, self.totals[int(before)], smoothing, sides, items)

    def around(self, rows: sp.csr_matrix, smoothing: float, items: IntArray | None = None) -> FloatTable:
        """Return :meth:`follow` with the counts of both directions."""
        sides = [pair for part in self.parts for pair in ((part.after, part.before), (part.before, part.after))]
        return self._summed(rows, self.totals.sum(axis=0), smoothing, sides, items)

    def after(self, items: npt.NDArray[np.integer], smoothing: float) -> sp.csr_matrix:
        r"""Return :math:`C_{ij} / (\sum_k C_{ik} + \alpha)` of some items i, CSR ``[len(items), n_items]``."""
        counts = [part.after for part in self.parts]
        some = [matrix[items] for matrix in counts if (matrix.indptr[items + 1] > matrix.indptr[items]).any()]
        none = sp.csr_matrix((len(items), self.n_items), dtype=np.float32)
        rows = sum(some[1:], some[0] if some else none)
        rows.data /= np.repeat(_smoothed(self.totals[0, items], smoothing), np.diff(rows.indptr))
        return rows

    @staticmethod
    def _summed(
        rows: sp.csr_matrix,
        totals: npt.NDArray[np.float64],
        smoothing: float,
        sides: list[tuple[sp.csr_matrix, sp.csr_matrix]],
        items: IntArray | None,
    ) -> FloatTable:
        """Sum counts, given with their transpose, over the entries of rows."""
        weights = sp.csr_matrix(
            (rows.data / _smoothed(totals[rows.indices], smoothing), rows.indices, rows.indptr), shape=rows.shape
        )
        sums = np.zeros(rows.shape if items is None else items.shape, dtype=np.float32)
        for counts, transposed in sides:
            if items is None:
                add_rows(sums, weights, counts)
            else:
                add_products(sums, weights, transposed, items)
        return sums


def _smoothed(totals: npt.NDArray[np.float64], smoothing: float) -> FloatTable:
    return (totals + smoothing * WEIGHTS[1]).astype(np.float32)


def pairs(sequences: Sequences) -> tuple[IntArray, IntArray, FloatTable]:
    """Return earlier item, later item and weight of each pair of the users, ``[n_pairs]`` each."""
    item, owner = sequences.item, sequences.owner
    moment = sequences.moment
    parts: list[tuple[Any, Any, Any]] = []
    for shift in range(1, REACH + 1):
        apart = moment[shift:] - moment[:-shift]
        near = np.flatnonzero((owner[shift:] == owner[:-shift]) & (apart > 0) & (apart <= WINDOW))
        parts.append((item[near], item[near + shift], WEIGHTS[apart[near]]))
    first, second, weight = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return first, second, weight


def limit_of(sequences: Sequences, most: int = MOST) -> int | None:
    """Return how many of each user's newest verdicts make no more than ``most`` in all; None where all do."""
    if len(sequences.item) <= most:
        return None
    length = np.sort(np.diff(sequences.indptr))
    shorter = np.concatenate([[0], np.cumsum(length)[:-1]])
    total = shorter + length * np.arange(len(length), 0, -1)  # if each user had no more than this one
    whole = int(np.searchsorted(total, most, side="right"))  # so many users have all of theirs counted
    return max(int(most - shorter[whole]) // (len(length) - whole), 1)
