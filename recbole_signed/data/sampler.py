"""RecBole's negative samplers for signed data: the same draws, without one Python set per user.

RecBole draws for all places at once, looks each draw up in its user's set, and draws again for those that were found.
Here all are looked up at once in sorted keys, so that a model gets the very negatives that RecBole would give it.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from recbole_signed.arrays import contains, distinct, first_rows
from recbole_signed.data.item_lists import ItemLists
from recbole_signed.errors import UsageError

IntArray = npt.NDArray[np.int64]
PHASES = ("train", "valid", "test")
DISTRIBUTIONS = ("uniform", "popularity")
ROUNDS = 100_000
"""How often refused draws are repeated before what is left is drawn from the items that may be drawn. RecBole repeats
them without end, which it may have to where popularity to a high power leaves next to nothing to the others."""


class UsedItems:
    """What RecBole's ``used_ids`` is for a phase: the set of a user's items under the user's id, made when asked."""

    def __init__(self, lists: Sequence[ItemLists]) -> None:
        self._lists = lists

    def __getitem__(self, user: int) -> set[int]:
        return {item for lists in self._lists for item in lists.items[lists.indptr[user] : lists.indptr[user + 1]]}


class SignedSampler:
    """Draws items that a user has not liked up to a phase, by RecBole's interface and from its random numbers.

    For validation and test, what is hidden from a user in the ranking of all items is no candidate either: a model that
    knows its dislikes would be right about them for nothing. For training, a dislike may be a negative.

    Args:
        parts: the training, validation and test parts.
        distribution: ``uniform``, or ``popularity`` (in proportion to the likes of all parts to the power ``alpha``).
        alpha: see there.
        repeatable: RecBole's key: an item that was liked before may be drawn; only the liked item of the row may not.

    Raises:
        UsageError: the distribution is unknown.
    """

    phase: str
    _refused: list[IntArray] | None = None
    """What may not be drawn, as keys; made at the first draw, as a ranking of all items draws nothing."""
    _checked = False
    """Whether it is known that each user has an item left to draw."""

    def __init__(self, parts: Sequence[Any], distribution: str, alpha: float = 1.0, repeatable: bool = False) -> None:
        self.datasets = parts
        self.uid_field, self.iid_field = parts[0].uid_field, parts[0].iid_field
        self.user_num, self.item_num = parts[0].user_num, parts[0].item_num
        self.alpha, self.repeatable = alpha, repeatable
        self.phases = list(PHASES)
        self._keys = [] if repeatable else [self._liked(part) for part in parts]
        self.set_distribution(distribution)

    def _liked(self, part: Any) -> IntArray:
        users, items = (part.inter_feat[field].numpy() for field in (self.uid_field, self.iid_field))
        return distinct(users * self.item_num + items)

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
        """Return a sampler of ``train``, ``valid`` or ``test``, which refuses the likes of this part and earlier ones.

        Those of ``valid`` and ``test`` refuse what is hidden there, too.

        Raises:
            ValueError: there is no such phase.
        """
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
        """Draw ``num`` items for each of ``user_ids [batch]``.

        Args:
            user_ids: whose negatives to draw.
            item_ids: ``[batch]``, the items of the rows, which are refused where the sampler is ``repeatable``.
            num: how many.

        Returns:
            ``[num * batch]``: the first of each row, then the second of each, and so on.

        Raises:
            UsageError: a user has liked every item, or there is but one.
            ValueError: an id is not that of a user.
        """
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
        for _ in range(ROUNDS):
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
        """Draw ``[sample_num]`` items, whoever they are for, from NumPy's global generator, as RecBole does."""
        if self.distribution == "uniform":
            return np.random.randint(1, self.item_num, sample_num)  # noqa: NPY002
        number = np.random.randint(0, len(self._candidates), sample_num)  # noqa: NPY002
        takes_own = self._share[number] > np.random.random(sample_num)  # noqa: NPY002
        return np.where(takes_own, self._candidates[number], self._alias[number])

    def _alias_table(self) -> tuple[IntArray, npt.NDArray[np.float64], IntArray]:
        """Return RecBole's alias table: items ``[n]``, the chance that a draw keeps its item, and what it takes else.

        The loop is over items, once; the order in which RecBole's queues are served decides what is drawn.
        """
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
