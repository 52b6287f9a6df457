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
from recbole_signed.errors import UsageError

IntArray = npt.NDArray[np.int64]
ROUNDS = 16  # how often refused draws are repeated before what is left is drawn from the explicit complement
MOST_BITS = 1 << 29  # pairs that are looked up in a table of one bit each, at most (64 MB); more are searched for


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
        draws = np.minimum(rng.random(n) * self.cumulative[-1], np.nextafter(self.cumulative[-1], 0.0))
        return np.searchsorted(self.cumulative, draws, side="right")

    @cached_property
    def _bits(self) -> npt.NDArray[np.uint8]:
        """Whether each pair is one of the keys, of which there are some, a bit each; none where those are too many."""
        n_bits = int(self.keys[-1]) + 1
        if n_bits > MOST_BITS:
            return np.zeros(0, dtype=np.uint8)
        bits = np.zeros(n_bits // 8 + 1, dtype=np.uint8)
        place = self.keys >> 3
        first = np.flatnonzero(begins(place))
        bits[place[first]] = np.bitwise_or.reduceat(np.left_shift(1, self.keys & 7).astype(np.uint8), first)
        return bits

    def _seen(self, users: IntArray, items: IntArray) -> npt.NDArray[np.bool_]:
        if not len(self.keys):
            return np.zeros(len(users), dtype=bool)
        pairs = users * self.n_items + items
        if len(self._bits):
            inside = pairs >> 3 < len(self._bits)
            byte = self._bits[np.where(inside, pairs >> 3, 0)]
            return ((byte >> (pairs & 7).astype(np.uint8)) & 1).astype(bool) & inside
        return contains(self.keys, pairs)

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


class SignedSampler:
    """Draws items that a user has not liked up to a phase, by RecBole's interface, as RecBole would.

    What is hidden in the ranking of all items is no candidate for validation and test; for training, dislikes may be.
    """

    phase: str = PHASES[0]
    _refused: IntArray | None = None  # keys that may not be drawn, ascending; made at the first draw

    def __init__(self, parts: Sequence[Any], distribution: str, alpha: float = 1.0, repeatable: bool = False) -> None:
        self.datasets = parts
        self.uid_field, self.iid_field = parts[0].uid_field, parts[0].iid_field
        self.user_num, self.item_num = parts[0].user_num, parts[0].item_num
        self.alpha, self.repeatable = alpha, repeatable
        self.phases = list(PHASES)
        self.set_distribution(distribution)

    def set_distribution(self, distribution: str) -> None:
        """Draw by ``distribution`` from now on."""
        if distribution not in DISTRIBUTIONS:
            raise UsageError(f"the sampling distribution is '{distribution}'; it must be {' or '.join(DISTRIBUTIONS)}.")
        self.distribution, self._refused = distribution, None
        if distribution == "popularity":
            self._candidates, self._share, self._alias = self._alias_table()

    def set_phase(self, phase: str) -> SignedSampler:
        """Return a sampler of ``train``, ``valid`` or ``test``; it refuses the likes of this part and earlier ones."""
        if phase not in self.phases:
            raise ValueError(f"Phase [{phase}] not exist.")
        new = copy.copy(self)
        new.phase, new._refused = phase, None
        return new

    def _keys_refused(self) -> IntArray:
        """Return what may not be drawn: likes up to the phase, and what is hidden where it is evaluated."""
        if self._refused is None:
            parts = self.datasets[: PHASES.index(self.phase) + 1]
            known = [] if self.repeatable else [self._keys_of(part) for part in parts]
            history = getattr(parts[-1], "history", None)
            hidden = [] if history is None or not len(history.items) else [history.keys(self.item_num)]
            refused = distinct(np.concatenate([np.zeros(0, dtype=np.int64), *known, *hidden]))
            self._refuse_full_users(refused, parts[-1], "an edge to" if hidden else "liked")
            self._refused = refused
        return self._refused

    def _keys_of(self, part: Any) -> IntArray:
        users, items = (part.inter_feat[field].numpy() for field in (self.uid_field, self.iid_field))
        keys: IntArray = users * self.item_num + items
        return keys

    def _refuse_full_users(self, refused: IntArray, part: Any, met: str) -> None:
        able = self._counts() > 0
        most = int(able.sum())
        if self.repeatable and most < 2:
            raise UsageError(
                "the data set has one item to draw from, so there is no negative; use data with more, or a model that "
                "draws none, such as SSF."
            )
        counts = np.bincount(refused[able[refused % self.item_num]] // self.item_num, minlength=self.user_num)
        keys = self._keys_of(part)
        # where items may repeat, that of the row is refused too, and counts unless it is hidden anyway
        own = ~contains(refused, keys) if self.repeatable else np.zeros(len(keys), dtype=bool)
        full = keys[counts[keys // self.item_num] + own >= most] // self.item_num
        if len(full):
            user = self.datasets[0].id2token(self.uid_field, int(full.min()))
            raise UsageError(
                f"the user '{user}' has {met} every item that could be drawn, so there is no negative; leave such "
                "users out (user_inter_num_interval), or take a model that draws none, such as SSF."
            )

    def sample_by_user_ids(self, user_ids: Any, item_ids: Any, num: int) -> torch.Tensor:
        """Draw ``num`` items for each of ``user_ids [batch]``: ``[num * batch]``, the first of each row first."""
        refused = self._keys_refused()
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
            again = contains(refused, rows[places] + drawn[places])
            if own is not None:
                again |= drawn[places] == own[places]
            places = places[again]
        for place in places:
            drawn[place] = self._allowed_draw(rows[place], None if own is None else own[place])
        return torch.from_numpy(drawn)

    def _allowed_draw(self, row: int, own: int | None) -> int:
        """Return an item for the user of ``row`` (its number times that of the items), drawn among those allowed."""
        counts = self._counts()
        items = np.flatnonzero(counts)
        items = items[~contains(self._keys_refused(), row + items)]
        items = items if own is None else items[items != own]
        weights = scaled_powers(counts[items], self.alpha)
        return int(np.random.choice(items, p=weights / weights.sum()))  # noqa: NPY002

    def _counts(self) -> IntArray:
        """Return the likes of each item in all parts, ``[n_items]``; 1 of all but the padding item for ``uniform``."""
        if self.distribution == "uniform":
            return (np.arange(self.item_num) > 0).astype(np.int64)
        items = np.concatenate([part.inter_feat[self.iid_field].numpy() for part in self.datasets])
        return np.bincount(items, minlength=self.item_num)

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
