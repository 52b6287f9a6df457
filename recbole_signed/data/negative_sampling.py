"""Draws items that a user has no edge to, for a whole batch of users at once: for our loaders, and as RecBole does."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from recbole_signed.arrays import begins, contains, distinct, first_rows
from recbole_signed.data.item_lists import ItemLists
from recbole_signed.errors import UsageError

IntArray = npt.NDArray[np.int64]
ROUNDS = 16  # how often refused draws are repeated before what is left is drawn from the explicit complement
MOST_BITS = 1 << 29  # pairs that are looked up in a table of one bit each, at most (64 MB); more are searched for
BUCKETS, STEPS = 4, 4  # parts per item of the sum of weights; items stepped over before a search


def sifts_positives(config: Any) -> bool:
    """Whether items that a user has an edge to are never sampled for them: the default."""
    return config["sift_positives"] is None or bool(config["sift_positives"])


@dataclass(frozen=True)
class UnseenItems:
    """Items that are not among a user's own, drawn with replacement, uniformly or by weight.

    ``keys``: ``user * n_items + item`` of refused pairs, ascending; ``cumulative``: running sum of weights, None for
    equal.
    """

    keys: IntArray
    n_items: int
    cumulative: npt.NDArray[np.float64] | None = None

    @classmethod
    def from_pairs(
        cls, users: IntArray, items: IntArray, n_items: int, weights: npt.NDArray[np.float64] | None = None
    ) -> UnseenItems:
        """Refuse the pairs ``(users[j], items[j])``; draw in proportion to ``weights [n_items]``, if given."""
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
        """Return ``n`` items for each of ``users [batch]``, ``[batch, n]``; where few are left, from the complement."""
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
        first = np.flatnonzero(begins(place))
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


# ---- RecBole's negative samplers for signed data: the same draws, without one Python set per user ----

PHASES = ("train", "valid", "test")
DISTRIBUTIONS = ("uniform", "popularity")
MOST_ROUNDS = 100_000  # of repeated draws before the rest is drawn from the items left; RecBole has no end


class UsedItems:
    """What RecBole's ``used_ids`` is for a phase: the set of a user's items under the user's id, made when asked."""

    def __init__(self, lists: Sequence[ItemLists]) -> None:
        self._lists = lists

    def __getitem__(self, user: int) -> set[int]:
        return {item for lists in self._lists for item in lists.items[lists.indptr[user] : lists.indptr[user + 1]]}


class SignedSampler:
    """Draws items that a user has not liked up to a phase, by RecBole's interface, as RecBole would.

    What is hidden in the ranking of all items is no candidate for validation and test; for training, dislikes may be.
    """

    phase: str
    _refused: list[IntArray] | None = None  # keys that may not be drawn; made at the first draw
    _checked = False  # whether it is known that each user has an item left to draw

    def __init__(self, parts: Sequence[Any], distribution: str, alpha: float = 1.0, repeatable: bool = False) -> None:
        self.datasets = parts
        self.uid_field, self.iid_field = parts[0].uid_field, parts[0].iid_field
        self.user_num, self.item_num = parts[0].user_num, parts[0].item_num
        self.alpha, self.repeatable = alpha, repeatable
        self.phases = list(PHASES)
        liked = [[part.inter_feat[field].numpy() for field in (self.uid_field, self.iid_field)] for part in parts]
        self._keys = [] if repeatable else [distinct(users * self.item_num + items) for users, items in liked]
        self.set_distribution(distribution)

    def _refuse_full_users(self) -> None:
        most = self.item_num - 1 if self.distribution == "uniform" else len(self._candidates)
        if self.repeatable and most < 2:
            raise UsageError(
                "the data set has one item to draw from, so there is no negative; use data with more, or a model that "
                "draws none, such as SSF."
            )
        able = self._counts() > 0
        counts = np.zeros(self.user_num, dtype=np.int64)
        refused = self._keys_refused()
        for number, keys in enumerate(refused):
            known = ~able[keys % self.item_num]
            for earlier in refused[:number]:
                known |= contains(earlier, keys)
            counts += np.bincount(keys[~known] // self.item_num, minlength=self.user_num)
        users, items = (self._part.inter_feat[field].numpy() for field in (self.uid_field, self.iid_field))
        # where items may repeat, that of the row is refused too, and counts unless it is hidden anyway
        own = ~self._is_used(users * self.item_num + items) if self.repeatable else np.zeros(len(users), dtype=bool)
        full = users[counts[users] + own >= most]
        if len(full):
            user = self.datasets[0].id2token(self.uid_field, int(full.min()))
            met = "liked" if len(refused) == len(self._keys) else "an edge to"
            raise UsageError(
                f"the user '{user}' has {met} every item that could be drawn, so there is no negative; leave such "
                "users out (user_inter_num_interval), or take a model that draws none, such as SSF."
            )
        self._checked = True

    @property
    def _part(self) -> Any:
        """The part of the phase; that of training before a phase was chosen."""
        return self.datasets[PHASES.index(getattr(self, "phase", PHASES[0]))]

    def _keys_refused(self) -> list[IntArray]:
        """Return what may not be drawn: likes up to the phase, and what is hidden where it is evaluated."""
        if self._refused is None:
            history = getattr(self._part, "history", None)
            hidden = [] if history is None or not len(history.items) else [history.keys(self.item_num)]
            self._refused = [*self._keys, *hidden]
        return self._refused

    def set_distribution(self, distribution: str) -> None:
        """Draw by ``distribution`` from now on."""
        if distribution not in DISTRIBUTIONS:
            raise UsageError(f"the sampling distribution is '{distribution}'; it must be {' or '.join(DISTRIBUTIONS)}.")
        self.distribution, self._checked = distribution, False
        if distribution == "popularity":
            self._candidates, self._share, self._alias = self._alias_table()

    def set_phase(self, phase: str) -> SignedSampler:
        """Return a sampler of ``train``, ``valid`` or ``test``; it refuses the likes of this part and earlier ones."""
        if phase not in self.phases:
            raise ValueError(f"Phase [{phase}] not exist.")
        new = copy.copy(self)
        new.phase, new._checked, new._refused = phase, False, None
        new._keys = self._keys[: PHASES.index(phase) + 1]
        return new

    @property
    def used_ids(self) -> Any:
        """RecBole's mapping from a user to the set of items that are refused; by phase before one was chosen."""
        lists = [ItemLists.from_keys(keys, self.user_num, self.item_num) for keys in self._keys_refused()]
        if hasattr(self, "phase"):
            return UsedItems(lists)
        return {phase: UsedItems(lists[: number + 1]) for number, phase in enumerate(PHASES)}

    def sample_by_user_ids(self, user_ids: Any, item_ids: Any, num: int) -> torch.Tensor:
        """Draw ``num`` items for each of ``user_ids [batch]``: ``[num * batch]``, the first of each row first."""
        if not self._checked:
            self._refuse_full_users()
        users = np.asarray(user_ids, dtype=np.int64)
        if len(users) and not 0 <= users.min() <= users.max() < self.user_num:
            wrong = users[(users < 0) | (users >= self.user_num)][0]
            raise ValueError(f"user_id [{wrong}] not exist.")
        rows = np.tile(users * self.item_num, num)
        own = np.tile(np.asarray(item_ids, dtype=np.int64), num) if self.repeatable else None
        drawn = np.zeros(len(rows), dtype=np.int64)
        places = np.arange(len(rows))
        for _ in range(MOST_ROUNDS):
            if not len(places):
                break
            drawn[places] = self.sampling(len(places))
            refused = self._is_used(rows[places] + drawn[places])
            if own is not None:
                refused |= drawn[places] == own[places]
            places = places[refused]
        for place in places:
            drawn[place] = self._allowed_draw(rows[place], None if own is None else own[place])
        return torch.from_numpy(drawn)

    def _allowed_draw(self, row: int, own: int | None) -> int:
        """Return an item for the user of ``row`` (its number times that of the items), drawn among those allowed."""
        counts = self._counts()
        items = np.flatnonzero(counts)
        items = items[~self._is_used(row + items)]
        items = items if own is None else items[items != own]
        weights = scaled_powers(counts[items], self.alpha)
        return int(np.random.choice(items, p=weights / weights.sum()))  # noqa: NPY002

    def _counts(self) -> IntArray:
        """Return the likes of each item in all parts, ``[n_items]``; 1 of all but the padding item for ``uniform``."""
        if self.distribution == "uniform":
            return (np.arange(self.item_num) > 0).astype(np.int64)
        items = np.concatenate([part.inter_feat[self.iid_field].numpy() for part in self.datasets])
        return np.bincount(items, minlength=self.item_num)

    def _is_used(self, keys: IntArray) -> npt.NDArray[np.bool_]:
        used = np.zeros(len(keys), dtype=bool)
        for part in self._keys_refused():
            used |= contains(part, keys)
        return used

    def sampling(self, sample_num: int) -> IntArray:
        """Draw ``[sample_num]`` items, for any users, from NumPy's global generator, as RecBole does."""
        if self.distribution == "uniform":
            return np.random.randint(1, self.item_num, sample_num)  # noqa: NPY002
        number = np.random.randint(0, len(self._candidates), sample_num)  # noqa: NPY002
        takes_own = self._share[number] > np.random.random(sample_num)  # noqa: NPY002
        return np.where(takes_own, self._candidates[number], self._alias[number])

    def _alias_table(self) -> tuple[IntArray, npt.NDArray[np.float64], IntArray]:
        """Return RecBole's alias table: items ``[n]``, the chance that a draw keeps its item, and the other item."""
        items = np.concatenate([part.inter_feat[self.iid_field].numpy() for part in self.datasets])
        first = first_rows(items, self.item_num)
        candidates = np.flatnonzero(first < len(items))
        candidates = candidates[np.argsort(first[candidates])]
        counts = np.bincount(items)[candidates]
        try:
            weights = [pow(count / len(items), self.alpha) for count in counts.tolist()]
        except OverflowError:
            weights = []
        if not any(weights):  # too large for a float, or too small
            weights = scaled_powers(counts, self.alpha).tolist()
        total = sum(weights)
        share = [weight / total * len(weights) for weight in weights]
        alias = list(range(len(share)))
        large = deque(number for number, value in enumerate(share) if value > 1)
        small = deque(number for number, value in enumerate(share) if value < 1)
        while large and small:
            giver, taker = large.popleft(), small.popleft()
            alias[taker] = giver
            share[giver] -= 1 - share[taker]
            if share[giver] < 1:
                small.append(giver)
            elif share[giver] > 1:
                large.append(giver)
        return candidates, np.array(share), candidates[np.array(alias)]


def scaled_powers(counts: IntArray, alpha: float) -> npt.NDArray[np.float64]:
    """Return ``counts [n]``, all above 0, to the power ``alpha``, divided by the largest power."""
    logs = np.log(counts)
    return np.exp(alpha * (logs - (logs.max() if alpha > 0 else logs.min())))
