r"""The personal verdict: what is near to what a user disliked falls, and a dislike lifts nothing that is near it.

A model reads a dislike as a sign of what its user comes across, so that items near it may rise. Their scores s become

.. math:: s'_i = b_i - \lambda\, n_{ui} \max(0, b_i - m_i), \qquad
    n_{ui} = \max_d \varphi_d\, \kappa_{di}\, \sigma_{di} \bigl(1 - \max_l \kappa_{li}\bigr)

over the user's dislikes d and the likes l that are later than d. :math:`\lambda` is the strength, :math:`m_i` where a
score tells nothing: 0 of an exposure, what an item has without the user's taste in a model of order, else the middle of
the user's scores without the last run. :math:`\kappa_{di} = (c_{di} / \max_j c_{dj})^{1/2}` is the nearness of the
:data:`NEAR` items with the largest cosines :math:`c_{di}` of likes, among those that the user has no edge to (near a
like: nor any but a dislike); 0 else. A dislike of what would not have been shown tells little of what is:
:math:`\sigma_{di} = (\frac32 (b_d - m_d) / (b_i - m_i))^2`, from :data:`LEAST_STOOD` to 1, without the last run. The
strength fades by later dislikes alone: :math:`\varphi_d = 2^{-r/h}` with the number r of later runs of dislikes that a
like has ended, at least :data:`FLOOR`, which a dislike without a time has.

The score b is that of the edges without the newest verdict, where that is a dislike. Of the last run, the dislikes that
are later than all likes, the first enters b with the second (in a model of order at once), the others with the next
like. An item near a dislike has at most the scores that it has without the run, and without all dislikes of a known
time that act, so that none lifts it, now or after other verdicts.

References: dislikes as input and label (arXiv 2308.12256).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recbole_signed.arrays import begins, contains, spans

IntArray = npt.NDArray[np.int64]

NEAR = 10
"""Items that a dislike makes fall."""
WIDE = 64
"""Nearest items that are known of one: those that the user has an edge to are passed over."""
LEAST_STOOD = 0.1
"""What a dislike counts at least that the user would not have been shown."""
STOOD = 2 / 3
"""A dislike counts in full if its item had that part of the score of the one that falls."""
HALF_LIFE = 2.0
"""[h] Later runs of dislikes after which a dislike counts half."""
FLOOR = 0.1
"""What a dislike counts at least."""
NEWEST = 6
"""Dislikes of a user that act beside the last run, and likes that protect: the newest ones."""
LONGEST_RUN = 50
"""Dislikes of the last run that act."""
LARGE = 250_000
"""Items of a catalogue in which not all likers of an item are asked what is near it."""
LIKERS = 1_024
"""Those who are asked there: the users with the smallest keys."""
SAMPLE = 256
"""Items of which the middle of a user's scores is taken, about."""
STRENGTH = 1.0
"""[lambda] Default strength: on three published splits it prevents at least 85 % of similar items."""


@dataclass(frozen=True)
class Verdicts:
    """Likes and dislikes of n users, one user after the other, each in order of time; likes last among equal times."""

    user: IntArray
    """``[n_events]``, rising."""
    item: IntArray
    like: npt.NDArray[np.bool_]
    timed: npt.NDArray[np.bool_]
    """Whether the time is known."""
    n_users: int

    @classmethod
    def from_edges(
        cls,
        user: npt.NDArray[np.integer],
        item: npt.NDArray[np.integer],
        like: npt.NDArray[np.bool_],
        time: npt.NDArray[np.generic] | None,
        n_users: int,
        item_keys: IntArray | None = None,
    ) -> Verdicts:
        """Put verdicts in order of time, then of item keys, ``[n_events]`` each; a time of 0, or none, is not known."""
        stamps = np.zeros(len(user)) if time is None else time
        order = np.lexsort((item if item_keys is None else item_keys[item], like, stamps, user))
        owner, ordered = user[order].astype(np.int64), item[order].astype(np.int64)
        return cls(owner, ordered, like[order], stamps[order] != 0, n_users)

    def rows(self, users: IntArray) -> Verdicts:
        """Return those of some users, in their order."""
        start, end = (np.searchsorted(self.user, users, side) for side in ("left", "right"))
        length = end - start
        places = spans(start, length)
        owner = np.repeat(np.arange(len(users)), length)
        return Verdicts(owner, self.item[places], self.like[places], self.timed[places], len(users))

    @cached_property
    def _ends(self) -> IntArray | int:
        """The last event of the user of each, ``[n_events]``."""
        return np.searchsorted(self.user, self.user, "right") - 1 if self.n_users > 1 else -1

    def _later(self, counted: npt.NDArray[np.bool_]) -> IntArray:
        """Return how many of the counted events of its user are later than each event, ``[n_events]``."""
        total = np.cumsum(counted)
        return np.asarray(total[self._ends] - total if len(total) else total, dtype=np.int64)

    @cached_property
    def last_run(self) -> npt.NDArray[np.bool_]:
        """Which events are dislikes of a known time that no verdict of another kind or time follows."""
        return ~self.like & self.timed & (self._later(self.like | ~self.timed) == 0)

    def held_back(self, leads: bool) -> npt.NDArray[np.bool_]:
        """Return which events no score is made of yet: the last run, but its first if ``leads`` or there are more."""
        run = self.last_run
        first = run & begins(self.user, run)
        return run & ~(first if leads else first & (self._later(run) > 0))

    @cached_property
    def strengths(self) -> npt.NDArray[np.float64]:
        """What each dislike counts, ``[n_events]``; 0 of likes, and of dislikes that are too old to act."""
        run_begins = ~self.like & begins(self.user, self.like)
        open_ = self.last_run
        # the run that is going on makes none fade: a dislike must not raise what an earlier one keeps down
        age = self._later(run_begins & ~open_)
        faded = np.where(self.timed, np.maximum(2.0 ** (-age / HALF_LIFE), FLOOR), FLOOR)
        newer = self._later(open_), self._later(~self.like & ~open_)
        return np.where(np.where(open_, newer[0] < LONGEST_RUN, ~self.like & (newer[1] < NEWEST)), faded, 0.0)

    @cached_property
    def acting(self) -> npt.NDArray[np.bool_]:
        """Which events are dislikes of a known time that act, or of the last run."""
        return self.last_run | (self.timed & (self.strengths > 0))

    @property
    def protecting(self) -> npt.NDArray[np.bool_]:
        """Which events are likes that may protect what is near them."""
        return self.like & (self._later(self.like) < NEWEST)


Row = tuple[IntArray, npt.NDArray[np.float64]]
"""The nearest items of one, best first, and their cosines."""


@dataclass(frozen=True)
class Neighbourhoods:
    """The nearest items of some items by the cosine of their likes, best first."""

    indptr: IntArray
    """``[n + 1]``"""
    items: IntArray
    cosines: npt.NDArray[np.float64]
    """Up to a factor of each row."""

    @classmethod
    def from_common_likes(
        cls,
        likes_of_likers: sp.csr_matrix,
        n_likes: npt.NDArray[np.integer],
        items: IntArray,
        item_keys: IntArray | None = None,
    ) -> Neighbourhoods:
        """Find them from how many likers of ``items`` like every item, ``[len(items), n_items]``; keys order ties."""
        bounds = likes_of_likers.indptr
        return cls.joined(
            [
                cls.row(
                    likes_of_likers.data[bounds[place] : bounds[place + 1]],
                    n_likes,
                    item,
                    item_keys,
                    likes_of_likers.indices[bounds[place] : bounds[place + 1]],
                )
                for place, item in enumerate(items.tolist())
            ]
        )

    @staticmethod
    def row(
        common: npt.NDArray[Any],
        n_likes: npt.NDArray[np.integer],
        item: int,
        item_keys: IntArray | None = None,
        others: npt.NDArray[np.integer] | None = None,
    ) -> Row:
        """Return the nearest items of one and their cosines, from its common likes with ``others``, or with all."""
        kept = np.flatnonzero(common > 0)
        near = kept if others is None else others[kept].astype(np.int64)
        other = near != item
        kept, near = kept[other], near[other]
        cosine = common[kept] / np.sqrt(np.maximum(n_likes[near], 1))
        if len(near) > WIDE:  # a partition takes a tenth of the time of a sort
            kept = np.flatnonzero(cosine >= np.partition(cosine, len(cosine) - WIDE)[len(cosine) - WIDE])
            near, cosine = near[kept], cosine[kept]
        order = np.lexsort((near if item_keys is None else item_keys[near], -cosine))[:WIDE]
        return near[order], cosine[order]

    @classmethod
    def joined(cls, rows: Sequence[Row]) -> Neighbourhoods:
        """Return the neighbourhoods of several items, of which each has a row."""
        indptr = np.cumsum([0, *(len(near) for near, _ in rows)]).astype(np.int64)
        none: Row = np.zeros(0, dtype=np.int64), np.zeros(0)
        items, cosines = (np.concatenate(arrays) for arrays in zip(none, *rows, strict=True))
        return cls(indptr, items, cosines)

    def items_of(self, place: int) -> Row:
        """Return the row of the item at a place."""
        here = slice(int(self.indptr[place]), int(self.indptr[place + 1]))
        return self.items[here], self.cosines[here]


def first_likers(indptr: IntArray, users: IntArray, user_keys: IntArray | None) -> npt.NDArray[np.bool_]:
    """Return which likers of items, at ``indptr[j]:indptr[j + 1]``, are asked what is near: those of smallest keys."""
    first = np.ones(len(users), dtype=bool)
    for row in np.flatnonzero(np.diff(indptr) > LIKERS).tolist():
        here = slice(indptr[row], indptr[row + 1])
        keys = users[here] if user_keys is None else user_keys[users[here]]
        first[here] = keys <= np.partition(keys, LIKERS - 1)[LIKERS - 1]
    return first


def middle_items(n_items: int, have_edges: Callable[[IntArray], npt.NDArray[np.bool_]]) -> IntArray:
    """Return spaced items, with edges if any, whose median score is one without taste, for models that tell none."""
    sample = np.linspace(1, n_items - 1, min(SAMPLE, max(n_items - 1, 1))).astype(np.int64)
    known = have_edges(sample)
    return sample[known] if known.any() else sample


NeighbourhoodsOf = Callable[[IntArray], Neighbourhoods]
"""Gives those of some items."""


@dataclass(frozen=True)
class Fall:
    """Why an item is ranked lower than its score for one user."""

    cause: int
    """The dislike that it is near to."""
    by: float
    """How much lower, 0 or more: an item that is no better than without the user's taste does not fall."""
    strength: float
    """:math:`\\lambda`"""
    nearness: float
    """:math:`n_{ui}`"""
    common_likes: int
    """Users that like both."""


@dataclass(frozen=True)
class Heights:
    """The scores that falls depend on: of n pairs of a user and an item, and of the m dislikes near to them."""

    lowest: npt.NDArray[np.floating]
    """Of edges without the dislikes that are held back, and at most those without others, ``[n]``: what falls."""
    alone: npt.NDArray[np.floating]
    """Without the last run, ``[n]``."""
    neutral: npt.NDArray[np.floating]
    """m, ``[n]``."""
    disliked: npt.NDArray[np.floating]
    """:math:`b_d - m_d` without the last run, ``[m]``."""


@dataclass(frozen=True)
class Demotions:
    """What falls: one entry for each pair of a user and an item that is near a dislike of it."""

    user: IntArray
    """``[n]``, the place of the user among those asked for."""
    item: IntArray
    first: IntArray
    """``[n + 1]``: the dislikes of a pair are at ``first[i]:first[i + 1]``."""
    dislike: IntArray
    """``[m]``, the dislikes that it is near to."""
    pull: npt.NDArray[np.float64]
    """What each of them counts, but for how far it stood out, above 0 and at most 1."""

    @classmethod
    def none(cls) -> Demotions:
        """Return those of users for whom nothing falls."""
        none = np.zeros(0, dtype=np.int64)
        return cls(none, none, np.zeros(1, dtype=np.int64), none, np.zeros(0))

    @classmethod
    def from_verdicts(cls, verdicts: Verdicts, seen: IntArray, near: NeighbourhoodsOf, n_items: int) -> Demotions:
        """Find what falls for users; ``seen`` holds keys ``user * n_items + item`` of all their edges, ascending."""
        strengths = verdicts.strengths
        acting = strengths > 0
        # a like protects from an earlier dislike alone
        n_acting = np.bincount(verdicts.user[acting], minlength=verdicts.n_users)[verdicts.user]
        events = np.flatnonzero(acting | (verdicts.protecting & (verdicts._later(acting) < n_acting)))
        if not len(events):
            return cls.none()
        asked, place = verdicts.item[events], np.arange(len(events))
        if verdicts.n_users > 1:
            asked, place = np.unique(asked, return_inverse=True)
        neighbours = near(asked)
        length = np.diff(neighbours.indptr)[place]
        event = np.repeat(events, length)
        entry = spans(neighbours.indptr[place], length)
        item = neighbours.items[entry]
        key = verdicts.user[event] * n_items + item
        # a like has its places for what is disliked, too: another dislike must not make it protect more
        new = (item > 0) & ~contains(seen, key)
        of_likes = np.flatnonzero(verdicts.like[event] & (item > 0))
        if len(of_likes):
            dislikes = np.flatnonzero(~verdicts.like)
            keys = np.sort(verdicts.user[dislikes] * n_items + verdicts.item[dislikes])
            new[of_likes] |= contains(keys, key[of_likes])
        number = np.append(0, np.cumsum(new))  # of the new items up to each entry
        ends = np.cumsum(length)
        kept = np.flatnonzero(new & (number[1:] - np.repeat(number[ends - length], length) <= NEAR))
        event, key, cosine = event[kept], key[kept], neighbours.cosines[entry[kept]]
        first = np.searchsorted(event, event)
        return cls._by_pair(verdicts, strengths, event, key, np.sqrt(cosine / cosine[first]), n_items)

    @classmethod
    def _by_pair(
        cls,
        verdicts: Verdicts,
        strengths: npt.NDArray[np.float64],
        event: IntArray,
        key: IntArray,
        nearness: npt.NDArray[np.float64],
        n_items: int,
    ) -> Demotions:
        """Return the demotions of each pair, from what each event is near to."""
        order = len(key) - 1 - np.argsort(key[::-1], kind="stable")  # of each pair the newest event first
        event, key, nearness = event[order], key[order], nearness[order]
        like = verdicts.like[event]
        pull = np.where(like, 0.0, strengths[event] * nearness)
        if like.any():
            # the largest protection by a newer like: a running maximum within each pair, which the offset keeps apart;
            # of ranks, as an offset would round the values themselves, and more so the more users are asked for
            by_size = np.argsort(np.where(like, nearness, 0.0), kind="stable")
            rank = np.empty_like(by_size)
            rank[by_size] = np.arange(len(by_size))
            offset = (np.cumsum(begins(key)) - 1) * len(by_size)
            strongest = by_size[np.maximum.accumulate(rank + offset) - offset]
            pull *= np.clip(1.0 - np.where(like, nearness, 0.0)[strongest], 0.0, 1.0)
        acts = pull > 0
        event, key, pull = event[acts], key[acts], pull[acts]
        if not len(key):
            return cls.none()
        starts = np.flatnonzero(begins(key))
        first = np.append(starts, len(key))
        return cls(key[starts] // n_items, key[starts] % n_items, first, verdicts.item[event], pull)

    def __len__(self) -> int:
        return len(self.user)

    @cached_property
    def pair(self) -> IntArray:
        """Of which pair each dislike is, ``[m]``."""
        return np.repeat(np.arange(len(self)), np.diff(self.first))

    def falls(
        self, scores: Mapping[int, float], heights: Heights, strength: float, likers: Callable[[int], IntArray]
    ) -> dict[int, Fall]:
        """Return why items of one user, by their scores, are ranked lower; ``likers`` gives those of an item."""
        if not len(self):
            return {}
        lowered, (nearness, causes) = self.lowered(heights, strength), self.strongest(heights)
        of_cause, falls = cache(likers), {}
        for place, item in enumerate(self.item.tolist()):
            if item in scores:
                by, cause = max(scores[item] - float(lowered[place]), 0.0), int(causes[place])
                common = len(np.intersect1d(likers(item), of_cause(cause), assume_unique=True))
                falls[item] = Fall(cause, by, strength, float(nearness[place]), common)
        return falls

    def _counts(self, heights: Heights) -> npt.NDArray[np.float64]:
        """Return what each dislike counts, ``[m]``: :math:`n_{ui}` is the most of its pair."""
        of_pair = np.maximum(heights.alone - heights.neutral, 0.0)[self.pair]
        stood = np.divide(heights.disliked, of_pair, out=np.ones(len(self.pull)), where=of_pair > 0)
        return self.pull * np.maximum(np.clip(stood / STOOD, 0.0, 1.0) ** 2, LEAST_STOOD)

    def strongest(self, heights: Heights) -> tuple[npt.NDArray[np.float64], IntArray]:
        """Return :math:`n_{ui}` of each pair, and the dislike that it comes from, the newest of equal ones, ``[n]``."""
        counts = self._counts(heights)
        best = np.lexsort((-counts, self.pair))[self.first[:-1]]
        return counts[best], self.dislike[best]

    def lowered(self, heights: Heights, strength: float) -> npt.NDArray[np.floating]:
        """Return the scores of the pairs after their fall, ``[n]``."""
        base, neutral = heights.lowest, heights.neutral
        nearness = np.maximum.reduceat(self._counts(heights), self.first[:-1])  # a sort for the causes takes longer
        return (base - strength * nearness * np.maximum(base - neutral, 0.0)).astype(base.dtype)
