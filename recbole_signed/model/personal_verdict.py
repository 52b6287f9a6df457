"""The personal verdict of the users of a data set, for what a model scores: offline, at evaluation and recommendation.

The formula is that of :mod:`recbole_signed.graph.personal_verdict`. SSF scores users again without some of their
dislikes; for any other model the scores as they are stand for those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from recbole_signed.arrays import contains, distinct
from recbole_signed.graph import SignedGraph
from recbole_signed.graph.personal_verdict import (
    LARGE,
    Demotions,
    IntArray,
    Neighbourhoods,
    Verdicts,
    first_likers,
    middle_items,
)

BLOCK = 1_024
"""Items whose neighbourhoods are worked out at a time."""

ScoresOf = Callable[[SignedGraph, IntArray], torch.Tensor]
"""Gives the scores of all items, ``[n_users, n_items]``, for users with these edges, and by their numbers."""


Side = tuple[npt.NDArray[np.integer], npt.NDArray[np.integer], npt.NDArray[Any] | None]
"""User, item and time, ``[n]`` each, of the likes or the dislikes; None where no time is known."""
Pairs = tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]


class PersonalVerdicts:
    """The verdicts of all users of a training part, and what is near to what. Nothing is worked out before it is used.

    Args:
        graph: the edges.
        likes: the same with their times.
        dislikes: the same with their times.
        views: what was seen without a verdict, whether the graph has it or not.
        fitted: what says which items are near to which; None for the likes of the graph.
    """

    def __init__(
        self,
        graph: SignedGraph,
        likes: Side,
        dislikes: Side,
        views: Pairs | None = None,
        fitted: PersonalVerdicts | None = None,
    ) -> None:
        self._fitted = fitted
        self._graph, self.n_items, self._sides, self._viewed = graph, graph.n_items, (likes, dislikes), views
        self._known: dict[int, tuple[IntArray, npt.NDArray[np.float64]]] = {}
        self._fallen: dict[bytes, Demotions] | None = None

    @classmethod
    def of(cls, dataset: Any, graph: SignedGraph, fitted: PersonalVerdicts | None = None) -> PersonalVerdicts | None:
        """Return those of a training part; None where it has no dislike."""
        if not graph.dislikes.nnz or not hasattr(dataset, "times"):
            return None
        fields = dataset.uid_field, dataset.iid_field

        def pairs(name: str) -> Pairs:
            table = getattr(dataset, name)
            return table[fields[0]].numpy(), table[fields[1]].numpy()

        sides = [(*pairs(name), dataset.times(name)) for name in ("inter_feat", "neg_feat")]
        views = pairs("neutral_feat") if getattr(dataset, "neutral_feat", None) is not None else None
        return cls(graph, sides[0], sides[1], views, fitted)

    @cached_property
    def _views(self) -> sp.csr_matrix:
        user, item = self._viewed if self._viewed is not None else (np.zeros(0, dtype=np.int64),) * 2
        return sp.csr_matrix((np.ones(len(user), dtype=np.float32), (user, item)), shape=self._graph.likes.shape)

    @cached_property
    def _middle(self) -> torch.Tensor:
        n_edges = np.bincount(np.concatenate([side.indices for side in sides_of(self._graph)]), minlength=self.n_items)
        return torch.from_numpy(middle_items(self.n_items, lambda items: n_edges[items] > 0))

    @cached_property
    def _times(self) -> tuple[sp.csr_matrix, sp.csr_matrix]:
        """The times of likes and of dislikes, float64 ``[n_users, n_items]``; stored zeros where none is known."""
        found = []
        for user, item, time in self._sides:
            stamps = np.zeros(len(user)) if time is None else np.nan_to_num(np.asarray(time, dtype=np.float64))
            found.append(sp.csr_matrix((stamps, (user, item)), shape=self._graph.likes.shape))
        return found[0], found[1]

    def verdicts(self, users: IntArray) -> Verdicts:
        """Return the verdicts of some users, in their order."""
        rows = [each[users] for each in self._times]
        user = np.concatenate([np.repeat(np.arange(len(users)), np.diff(each.indptr)) for each in rows])
        item, time = (np.concatenate([getattr(each, name) for each in rows]) for name in ("indices", "data"))
        like = np.arange(len(user)) < rows[0].nnz
        return Verdicts.of(user, item, like, time, len(users), self._graph.item_keys)

    @cached_property
    def _likers(self) -> sp.csr_matrix:
        """Who likes each item, ``[n_items, n_users]``."""
        return self._graph.likes.T.tocsr()

    @cached_property
    def _n_likes(self) -> IntArray:
        return np.bincount(self._graph.likes.indices, minlength=self.n_items)

    @property
    def timed(self) -> bool:
        """Whether the time of any dislike is known."""
        time = self._sides[1][2]
        return time is not None and bool(np.nan_to_num(time).any())

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Remember what falls for users of the training part that are asked for again meanwhile."""
        self._fallen = {}
        try:
            yield
        finally:
            self._fallen = None

    def __deepcopy__(self, memo: dict[int, Any]) -> PersonalVerdicts:
        """Return itself: RecBole copies a model just to count its operations."""
        return self

    def near(self, items: IntArray) -> Neighbourhoods:
        """Return the neighbourhoods of items, which are worked out once."""
        if self._fitted is not None:
            return self._fitted.near(items)
        missing = np.array([item for item in items.tolist() if item not in self._known], dtype=np.int64)
        for first in range(0, len(missing), BLOCK):
            self._find(missing[first : first + BLOCK])
        return Neighbourhoods.joined([self._known[item] for item in items.tolist()])

    def _find(self, items: IntArray) -> None:
        likers = self._likers[items]
        if self.n_items > LARGE:
            likers.data = first_likers(likers.indptr, likers.indices, self._graph.user_keys).astype(np.float32)
            likers.eliminate_zeros()
        found = Neighbourhoods.of(likers @ self._graph.likes, self._n_likes, items, self._graph.item_keys)
        for place, item in enumerate(items.tolist()):
            self._known[item] = found.items_of(place)

    def middle(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the middle of each user's scores ``[n_users, n_items]``, ``[n_users, 1]``."""
        found = np.median(scores[:, self._middle].cpu().numpy(), axis=1, keepdims=True)
        return torch.from_numpy(found).to(scores)

    def demotions(self, verdicts: Verdicts, edges: Sequence[sp.csr_matrix]) -> Demotions:
        """Return what falls for users, given by their verdicts and all their edges."""
        keys = [
            np.repeat(np.arange(side.shape[0]), np.diff(side.indptr)) * self.n_items + side.indices for side in edges
        ]
        seen = distinct(np.concatenate(keys).astype(np.int64))
        return Demotions.of(verdicts, seen, self.near, self.n_items)

    def of_user(self, own: SignedGraph, number: int) -> tuple[SignedGraph, IntArray, Demotions]:
        """Return the edges that the score of one user is made of, the dislikes that are left out, and what falls.

        Args:
            own: all its edges, those of the training part.
            number: who it is.
        """
        verdicts = self.verdicts(np.array([number]))
        held_back = verdicts.held_back
        return (
            without(own, verdicts, held_back),
            verdicts.item[held_back],
            self.demotions(verdicts, [*sides_of(own), self._views[[number]]]),
        )

    def likers(self, item: int) -> IntArray:
        """Return the users that like an item."""
        return self._likers[[item]].indices.astype(np.int64)

    def judged(
        self,
        numbers: IntArray,
        scores_of: ScoresOf,
        neutral: torch.Tensor,
        strength: float,
        of: tuple[SignedGraph, Verdicts] | None = None,
    ) -> torch.Tensor:
        """Return what users are ranked by, ``[n_users, n_items]``.

        Args:
            numbers: who they are.
            scores_of: the model.
            neutral: scores of the items without a taste, broadcast to the scores.
            strength: of the demotion, above 0 and at most 1.
            of: their edges and verdicts, if not those of the training part.
        """
        users, verdicts = of or (self._graph.rows(numbers), self.verdicts(numbers))
        scores = scores_of(without(users, verdicts, verdicts.held_back), numbers)
        key = numbers.tobytes()
        known = self._fallen if of is None and self._fallen is not None else {}
        if key not in known:
            views = [] if of else [self._views[numbers]]
            known[key] = self.demotions(verdicts, [*sides_of(users), *views])
        fallen = known[key]
        if not len(fallen):
            return scores
        place = torch.from_numpy(fallen.user), torch.from_numpy(fallen.item)
        own = scores[place].cpu().numpy()
        again = np.flatnonzero(np.bincount(verdicts.user[verdicts.last_run], minlength=users.n_users) > 1)
        alone = None
        if len(again):  # a run of several dislikes: the first is in the scores
            some = verdicts.rows(again)
            before = scores_of(without(users.rows(again), some, some.last_run), numbers[again])
            alone, inside = own.copy(), contains(again, fallen.user)
            row = np.searchsorted(again, fallen.user[inside])
            alone[inside] = before[torch.from_numpy(row), torch.from_numpy(fallen.item[inside])].cpu().numpy()
        lowered = fallen.lowered(own, alone, neutral.expand_as(scores)[place].cpu().numpy(), strength)
        scores[place] = torch.from_numpy(lowered).to(scores)
        return scores


def sides_of(graph: SignedGraph) -> list[sp.csr_matrix]:
    """Return the matrices of a graph's edges."""
    return [each for each in (graph.likes, graph.dislikes, graph.neutrals) if each is not None]


def without(users: SignedGraph, verdicts: Verdicts, left_out: npt.NDArray[np.bool_]) -> SignedGraph:
    """Return the edges of users without some of their dislikes.

    Args:
        users: with all their edges.
        verdicts: theirs.
        left_out: which of the verdicts.
    """
    if not left_out.any():
        return users
    n_items, dislikes = users.n_items, users.dislikes.copy()
    keys = distinct(verdicts.user[left_out] * n_items + verdicts.item[left_out])
    row = np.repeat(np.arange(users.n_users), np.diff(dislikes.indptr))
    dislikes.data = np.where(contains(keys, row * n_items + dislikes.indices), 0, dislikes.data)
    dislikes.eliminate_zeros()
    return SignedGraph(users.likes, dislikes, users.neutrals, users.neutral_weight)
