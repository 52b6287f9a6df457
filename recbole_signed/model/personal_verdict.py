"""The personal verdict of the users of a data set, for what a model scores: offline, at evaluation and recommendation.

The formula is that of :mod:`recbole_signed.graph.personal_verdict`. SSF scores users again without some of their
dislikes; for any other model the scores as they are stand for those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from recbole_signed.arrays import contains, distinct
from recbole_signed.graph import LIKERS, Demotions, IntArray, Neighbourhoods, SignedGraph, Verdicts, middle_items

BLOCK = 1_024
"""Items whose neighbourhoods are worked out at a time."""

ScoresOf = Callable[[SignedGraph, IntArray], torch.Tensor]
"""Gives the scores of all items, ``[n_users, n_items]``, for users with these edges, and by their numbers."""


class PersonalVerdicts:
    """The verdicts of all users of a training part, and what is near to what.

    Args:
        dataset: the training part.
        graph: its edges.
    """

    def __init__(self, dataset: Any, graph: SignedGraph) -> None:
        columns, times = [], []
        for name in ("inter_feat", "neg_feat"):
            table = getattr(dataset, name)
            columns.append([table[field].numpy() for field in (dataset.uid_field, dataset.iid_field)])
            time = dataset.times(name)
            times.append(np.zeros(len(table)) if time is None else np.nan_to_num(time))
        user, item = (np.concatenate(each) for each in zip(*columns, strict=True))
        like = np.arange(len(user)) < len(columns[0][0])
        self.verdicts = Verdicts.of(user, item, like, np.concatenate(times), graph.n_users)
        self._graph, self.n_items = graph, graph.n_items
        n_edges = sum(np.bincount(side.indices, minlength=graph.n_items) for side in sides_of(graph))
        self._middle = torch.from_numpy(middle_items(graph.n_items, lambda items: n_edges[items] > 0))
        neutral = getattr(dataset, "neutral_feat", None)  # what was seen without a verdict, whether a model reads it
        shape, ones = (graph.n_users, graph.n_items), np.ones(0 if neutral is None else len(neutral), dtype=np.float32)
        pairs = ([], []) if neutral is None else [neutral[f].numpy() for f in (dataset.uid_field, dataset.iid_field)]
        self._views = sp.csr_matrix((ones, tuple(pairs)), shape=shape)
        self._n_likes = np.bincount(graph.likes.indices, minlength=graph.n_items)
        likers = graph.likes.tocsc()
        likers.sort_indices()
        self._likers = likers.T  # [n_items, n_users]
        self._known: dict[int, tuple[IntArray, npt.NDArray[np.float64]]] = {}
        self._fallen: dict[bytes, Demotions] | None = None

    @classmethod
    def of(cls, dataset: Any, graph: SignedGraph) -> PersonalVerdicts | None:
        """Return those of a data set; None where it has no dislike."""
        return cls(dataset, graph) if graph.dislikes.nnz and hasattr(dataset, "times") else None

    @property
    def timed(self) -> bool:
        """Whether the time of any dislike is known."""
        return bool((self.verdicts.timed & ~self.verdicts.like).any())

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
        missing = np.array([item for item in items.tolist() if item not in self._known], dtype=np.int64)
        for first in range(0, len(missing), BLOCK):
            self._find(missing[first : first + BLOCK])
        found = [self._known[item] for item in items.tolist()]
        indptr = np.concatenate([[0], np.cumsum([len(each) for each, _ in found])]).astype(np.int64)
        empty: tuple[IntArray, npt.NDArray[np.float64]] = np.zeros(0, dtype=np.int64), np.zeros(0)
        ids, cosines = (np.concatenate(each) for each in zip(empty, *found, strict=True))
        return Neighbourhoods(indptr, ids, cosines)

    def _find(self, items: IntArray) -> None:
        likers = self._likers[items]
        place = np.arange(likers.nnz) - np.repeat(likers.indptr[:-1], np.diff(likers.indptr))
        likers.data = (place < LIKERS).astype(np.float32)
        likers.eliminate_zeros()
        found = Neighbourhoods.of(likers @ self._graph.likes, self._n_likes, items)
        for place, item in enumerate(items.tolist()):
            row = slice(found.indptr[place], found.indptr[place + 1])
            self._known[item] = found.items[row], found.cosines[row]

    def middle(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the middle of each user's scores ``[n_users, n_items]``, ``[n_users, 1]``."""
        found = np.median(scores[:, self._middle].cpu().numpy(), axis=1, keepdims=True)
        return torch.from_numpy(found).to(scores)

    def demotions(self, verdicts: Verdicts, edges: Sequence[sp.csr_matrix]) -> Demotions:
        """Return what falls for users, given by their verdicts and all their edges."""
        keys = [
            np.repeat(np.arange(side.shape[0]), np.diff(side.indptr)) * self.n_items + side.indices for side in edges
        ]
        return Demotions.of(verdicts, distinct(np.concatenate(keys).astype(np.int64)), self.near, self.n_items)

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
        users, verdicts = of or (self._graph.rows(numbers), self.verdicts.rows(numbers))
        scores = scores_of(without(users, verdicts, verdicts.newest_dislikes), numbers)
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
        if len(again):  # a run of several dislikes: those before the newest are in the scores
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
