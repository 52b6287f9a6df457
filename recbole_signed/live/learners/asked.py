r"""What a user asks for beside verdicts, in the ranking of every model: less or more of the items with a value.

With the score s of an item, the middle m of the user's scores, and the strength :math:`\lambda`,

.. math:: s' = m + f\, (s - m), \qquad f = (1 - \lambda)^{less} (1 + \lambda)^{more} \quad (s > m).

Below the middle ``less`` changes nothing and ``more`` lifts, :math:`f = 1 - \lambda`. Lists stay as long as they were.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from recbole_signed.arrays import distinct
from recbole_signed.errors import nearest
from recbole_signed.ids_and_times import quoted
from recbole_signed.live.event_fields import ASIDE, LESS, MORE, pairs_of
from recbole_signed.live.events import DISLIKE, ITEM, VIEW, EventBatch
from recbole_signed.live.learners.base import IntArray
from recbole_signed.live.learners.ssf.live_features import LiveFeatures
from recbole_signed.live.store.announcements import AnnouncedValues, Pair
from recbole_signed.live.store.edge_views import Rows
from recbole_signed.live.store.edges import EdgeState
from recbole_signed.live.store.wishes import Wish
from recbole_signed.ssf.item_counters import UNKNOWN


class OwnEdges:
    """Edges in which some users have those of ``rows``, one after the other; all else is as in the state."""

    def __init__(self, edges: EdgeState, users: np.ndarray, rows: Rows, n_users: int | None = None) -> None:
        self._edges, self._users, self._rows = edges, users, rows
        self.n_users = edges.n_users if n_users is None else n_users
        self.n_items, self.of_all = edges.n_items, edges.of_all

    @classmethod
    def with_row(cls, edges: EdgeState, user: int, row: Rows, n_users: int | None = None) -> EdgeState:
        """Return edges in which one user has those of a row."""
        return cast(EdgeState, cls(edges, np.array([user]), row, n_users))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._edges, name)

    def of_user(self, user: int) -> Rows:
        """Return the edges of a user."""
        place = np.flatnonzero(self._users == user)
        if not len(place):
            return self._edges.of_user(user)
        rows, here = self._rows, slice(*self._rows.indptr[place[0] : place[0] + 2])
        assert rows.timestamp is not None
        return Rows.one(rows.ids[here], rows.kind[here], rows.timestamp[here])

    def of_users(self, users: np.ndarray, *, times: bool = False) -> Rows:
        """Return the edges of all the users that have rows, of one of them however often, or of others.

        Raises:
            ValueError: ``users`` are some of those that have rows, and not all of them in their order.
        """
        rows = self._rows
        if not np.array_equal(users, self._users):
            if len(self._users) != 1 or not (users == self._users).all():
                if np.isin(users, self._users).any():
                    raise ValueError("of users with edges of their own all must be asked for, in their order.")
                return self._edges.of_users(users, times=times)  # such as those whose likes tell what is near an item
            assert rows.timestamp is not None
            ids, kinds, stamps = (np.tile(column, len(users)) for column in (rows.ids, rows.kind, rows.timestamp))
            rows = Rows(np.arange(len(users) + 1) * len(self._rows.ids), ids, kinds, stamps)
        return rows if times else Rows(rows.indptr, rows.ids, rows.kind)


class ItemValues:
    """Which items have which values of features of tokens: what was announced, and what a learner knows beside it."""

    def __init__(self, state: Any, learner: Any) -> None:
        features = getattr(learner, "features", None)
        self._learned: LiveFeatures | None = features if isinstance(features, LiveFeatures) else None
        self._vocabulary, self._n_items = state.items, state.edges.n_items
        kinds = {} if self._learned is None else self._learned.columns.get("item", {})
        self._announced: AnnouncedValues = state.announced_values.following(
            {name for name, kind in kinds.items() if kind == "tokens"}
        )

    def all(self) -> Iterable[Pair]:
        """Return column and value of all there are."""
        return {*self._announced.items, *([] if self._learned is None else self._learned.item_tokens)}

    def items(self, pair: Pair) -> IntArray:
        """Return the items with a value, int64, rising."""
        announced = self._announced.numbers(pair, self._vocabulary)
        learned = np.zeros(0, dtype=np.int64) if self._learned is None else self._learned.items_with(*pair)
        items = distinct(np.concatenate([announced, learned]))
        return items[(items > 0) & (items < self._n_items)]

    def values_of(self, item: int, column: str | None = None) -> list[Pair]:
        """Return the values that an item has, in one column or in all."""
        (token,) = self._vocabulary.tokens([item])
        pairs = self._announced.values_of(token or "") | (
            set() if self._learned is None else self._learned.values_of(item)
        )
        return sorted(pair for pair in pairs if column in (None, pair[0]))


_NONE_YET = (
    "; none is known of any item yet: announce items with their features, or begin the state with 'features.item=[...]'"
)


def unknown_values(values: ItemValues, batch: EventBatch) -> dict[int, str]:
    """Return which events of a batch ask for what no item has, nor gets in the batch, by their row, and why."""
    known = set(values.all())
    for row in np.flatnonzero(batch.type == ITEM).tolist():
        known |= pairs_of(json.loads(batch.features[row]))
    of_column: dict[str, list[str]] = {}
    for name, value in known:
        of_column.setdefault(name, []).append(value)
    why = {}
    for row in np.flatnonzero(np.isin(batch.type, (LESS, MORE, ASIDE))).tolist():
        content = json.loads(batch.features[row])
        asked = {content["about"]: []} if "about" in content else content.get("features", {})
        for name, named in asked.items():
            if name not in of_column:
                known_here = f"; the features are {', '.join(sorted(of_column))}" if of_column else _NONE_YET
                why[row] = f"no item has a feature {quoted(name)}{nearest(name, of_column) or known_here}".rstrip(".")
            elif wrong := next((value for value in named if (name, value) not in known), None):
                why[row] = f"no item has the {name} {quoted(wrong)}{nearest(wrong, of_column[name])}".rstrip(".")
    return why


def under(asked: Asked | None, edges: EdgeState) -> EdgeState:
    """Return edges as what a user asks for makes them; themselves where it asks for nothing."""
    return edges if asked is None else asked.over(edges)


@dataclass(frozen=True)
class Asked:
    """What is in force of one user, newest first, and the items that each value of it moves."""

    user: int
    wishes: list[Wish]
    moves: list[tuple[Wish, str, IntArray]]

    @classmethod
    def from_state(cls, state: Any, learner: Any, user: int) -> Asked | None:
        """Return it as it is now; None for nothing."""
        wishes = state.log.wishes.in_force(user, state.log.settings.now())
        edges = state.edges
        wishes = [wish for wish in wishes if wish.item < edges.n_items] if 0 < user < edges.n_users else []
        if not wishes:  # those of a replica may be newer than its edges
            return None
        about = np.array([wish.item for wish in wishes], dtype=np.int64)
        ended = edges.times(np.full(len(about), user), about, verdicts=True)
        ends = zip(wishes, ended.tolist(), strict=True)
        wishes = [wish for wish, end in ends if not wish.item or wish.timestamp > end]
        values = ItemValues(state, learner)
        moves = [
            (wish, pair[1], values.items(pair))
            for wish in wishes
            if wish.feature
            for pair in (values.values_of(wish.item, wish.feature) if wish.item else [(wish.feature, wish.value)])
        ]
        return cls(user, wishes, moves)

    @property
    def hidden(self) -> IntArray:
        """Items that were disliked or hidden, int64."""
        return np.array([wish.item for wish in self.wishes if wish.item], dtype=np.int64)

    def over(self, edges: EdgeState) -> EdgeState:
        """Return edges in which the user dislikes what it dislikes for a time, and has met what it hides."""
        added = [wish for wish in self.wishes if wish.item and not wish.feature]
        if not added:
            return edges
        row = edges.of_user(self.user)
        assert row.timestamp is not None
        met = {*row.ids.tolist(), *(wish.item for wish in added if wish.dislikes)}
        added = [wish for wish in added if wish.dislikes or wish.item not in met]
        own = np.array([wish.item for wish in added], dtype=np.int32)
        stays = ~np.isin(row.ids, own)
        ids = np.concatenate([row.ids[stays], own])
        new = np.array([DISLIKE if wish.dislikes else VIEW for wish in added], dtype=row.kind.dtype)
        kinds = np.concatenate([row.kind[stays], new])
        times = np.concatenate([row.timestamp[stays], [wish.timestamp for wish in added]])
        order = np.argsort(ids)
        return OwnEdges.with_row(edges, self.user, Rows.one(ids[order], kinds[order], times[order].astype(np.int64)))

    def moved(self, scores: np.ndarray, items: IntArray | None, middle: float, strength: float) -> np.ndarray:
        """Return what items are ranked by, ``[n]``; ``middle`` is that of the user's scores of unseen items."""
        factor = np.ones(len(scores))
        above, known = scores > middle, scores > UNKNOWN
        for sign, factors in ((-1, (1 - strength, 1.0)), (1, (1 + strength, 1 - strength))):
            named = [moved for wish, _, moved in self.moves if wish.sign == sign]
            if named:
                of = np.concatenate(named)
                has = np.isin(items, of) if items is not None else np.bincount(of, minlength=len(scores)) > 0
                factor = np.where(has & known, factor * np.where(above, *factors), factor)
        return np.where(factor == 1, scores, middle + factor * (scores - middle)).astype(scores.dtype)

    def reasons(self, item: int) -> list[tuple[Wish, str]]:
        """Return what moves an item, the newest first, each with the value of the item that it is about."""
        return [(wish, value) for wish, value, items in self.moves if item in items]
