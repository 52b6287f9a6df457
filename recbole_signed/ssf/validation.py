"""Which of several ways to score ranks the held-out likes of the validation users best, without ranking for all."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from recbole_signed.arrays import contains, distinct
from recbole_signed.data.item_lists import users_at_a_time
from recbole_signed.data.settings import split_group
from recbole_signed.evaluation.metrics import hit_at, ndcg_at, recall_at
from recbole_signed.evaluation.sign_aware_metrics import gamma_of
from recbole_signed.graph import LONG, SignedGraph
from recbole_signed.graph.top_scores import largest
from recbole_signed.ids_and_times import order_of_hashes
from recbole_signed.ssf.shortlist import Candidate, FactorCandidate, Pieces, Rooms

CELLS = 1_000_000
"""Scores that are computed at a time."""

FIRST_ROUND = 250
"""Users after whom candidates are first given up, then after twice as many: with fewer, chance decides."""
LAST_ROUND = 0.8
"""Share of the users beyond which nobody is given up: those left are ranked for to the end."""

METRICS = re.compile(r"(?:Signed)?(NDCG|Recall)@\d+|SignedHit@\d+", re.IGNORECASE)
"""What a choice can be made by."""

DOUBT = 1.0
"""Standard errors of the paired difference that a candidate may lie behind the leader without being given up."""


@dataclass(frozen=True)
class Standing:
    """How a candidate did."""

    value: float
    """The metric; of one that was given up, the leader's plus their mean difference on the users ranked for so far."""
    per_user: np.ndarray | None
    """The metric of each user, float64 ``[n_users]``; None of one that was given up."""


@dataclass(frozen=True)
class Validation:
    """Users with training edges and held-out likes, in random order, and what a ranking is measured by."""

    users: SignedGraph
    """The users' training edges, ``[n_users, n_items]``."""
    like_keys: np.ndarray
    """int64, ascending: row * n_items + item of each held-out like."""
    like_count: np.ndarray
    """int64 ``[n_users]``: held-out likes of each user."""
    hidden: tuple[torch.Tensor, torch.Tensor]
    """(row, item), rows ascending, of what must not be recommended."""
    metric: str
    """``NDCG@k`` or ``Recall@k``, as RecBole defines them, or one of the sign-aware metrics, without its gamma."""
    numbers: np.ndarray | None = None
    """int64 ``[n_users]``: which users of the training graph they are."""
    gamma: float = 0.0
    """What a held-out dislike in the list costs, see :mod:`recbole_signed.evaluation.sign_aware_metrics`."""
    dislike_keys: np.ndarray | None = None
    """As ``like_keys``, of the held-out dislikes; needed where ``gamma`` is above 0."""

    @classmethod
    def from_loader(
        cls,
        loader: Any,
        graph: SignedGraph,
        metric: str,
        max_users: int,
        *,
        signed_gamma: Any = None,
        new: bool = False,
    ) -> Validation | None:
        """Take what RecBole's evaluation would see of a part, of at most ``max_users`` users; None without a like."""
        # who is drawn, and their order, follow from the users' names: RecBole's numbers follow the rows of the data set
        # NDCG@20 stands in for a metric that no choice can be made by; new: take users without training edges, too
        edges = np.diff(graph.likes.indptr) + np.diff(graph.dislikes.indptr)
        known = np.flatnonzero((edges[loader.users] > 0) | new)
        chosen = drawn(known, max_users, loader._dataset.id2token(loader.uid_field, loader.users[known]))
        if not len(chosen):
            return None
        batch, hidden, like_row, like_item = loader.collate_fn(chosen.tolist())
        plain = split_group(metric)[0]
        return cls(
            users=graph.rows(loader.users[chosen]),
            like_keys=distinct((like_row * graph.n_items + like_item).numpy()),
            like_count=batch.like_count.numpy(),
            hidden=hidden,
            metric=plain if METRICS.fullmatch(plain) else "NDCG@20",
            numbers=np.asarray(loader.users[chosen]),
            gamma=gamma_of(metric, signed_gamma),
            dislike_keys=distinct((batch.dislike_u * graph.n_items + batch.dislike_i).numpy()),
        )

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.like_count)

    def contest(self, candidates: Sequence[Candidate], champion: np.ndarray | None = None) -> list[Standing]:
        """Measure candidates on more and more users, and give up those that lie clearly behind the leader."""
        # differences are paired by user, so few users tell most apart; champion: the best before, may be the leader
        seen = [np.zeros(0) for _ in candidates]
        alive = list(range(len(candidates)))
        start = 0
        for end in self._rounds():
            self._rank(candidates, alive, seen, start, end)
            start = end
            leader = self._leader(seen, alive, champion, end)
            alive = [number for number in alive if _may_lead(seen[number], leader)]
        final = self._leader(seen, alive, champion, self.n_users)
        return [
            Standing(float(final.mean() + (own - final[: len(own)]).mean()), own if len(own) == self.n_users else None)
            for own in seen
        ]

    def values(self, candidates: Sequence[Candidate]) -> npt.NDArray[np.float64]:
        """Return the metric of each user with each candidate, ``[n_candidates, n_users]``."""
        seen = [np.zeros(0) for _ in candidates]
        self._rank(candidates, list(range(len(candidates))), seen, 0, self.n_users)
        return np.array(seen)

    def _rounds(self) -> Iterator[int]:
        """Yield after how many users the candidates are compared."""
        end = FIRST_ROUND
        while end < LAST_ROUND * self.n_users:
            yield end
            end *= 2
        yield self.n_users

    def _rank(
        self, candidates: Sequence[Candidate], alive: list[int], seen: list[np.ndarray], start: int, end: int
    ) -> None:
        size, rooms = users_at_a_time(self.users.n_items, CELLS), Rooms()
        for first in range(start, end, size):
            pieces = Pieces(slice(first, min(first + size, end)), rooms=rooms)
            for number in alive:
                seen[number] = np.append(seen[number], self._per_user(candidates[number], pieces))

    def _leader(self, seen: list[np.ndarray], alive: list[int], champion: np.ndarray | None, end: int) -> np.ndarray:
        known = [] if champion is None else [champion[:end]]
        return max([*known, *(seen[number] for number in alive)], key=np.sum)

    def _per_user(self, candidate: Candidate, pieces: Pieces) -> np.ndarray:
        n_items, rows = self.users.n_items, pieces.rows
        name, depth = self.metric.split("@")
        k = min(int(depth), n_items)
        row, item = self.hidden
        start, end = torch.searchsorted(row, torch.tensor([rows.start, rows.stop])).tolist()
        hidden = row[start:end] - rows.start, item[start:end]

        def hide(scores: torch.Tensor) -> None:
            scores[hidden] = -torch.inf

        top = candidate.best(pieces, hide, k) if isinstance(candidate, FactorCandidate) else None
        if top is None:
            scores = candidate(pieces)
            hide(scores)
            top = largest(scores, k, LONG)
        values, best = top
        keys = best.numpy() + np.arange(rows.start, rows.stop)[:, None] * n_items
        count, kind = self.like_count[rows], name.lower().removeprefix("signed")

        def value(shown: np.ndarray) -> np.ndarray:
            metrics = hit_at(shown) if kind == "hit" else (recall_at if kind == "recall" else ndcg_at)(shown, count)
            return metrics[:, -1]

        open_ = ~torch.isneginf(values).numpy()  # a list that is longer than what is open is filled with hidden items
        gain = value(contains(self.like_keys, keys) & open_)
        if not self.gamma or self.dislike_keys is None:
            return gain
        return gain - self.gamma * value(contains(self.dislike_keys, keys) & open_)


def drawn(users: np.ndarray, at_most: int, names: Any = None) -> np.ndarray:
    """Return at most so many users in random order, the same each time: by the hashes of their names, or numbers."""
    return users[order_of_hashes(users if names is None else names)][:at_most]


def part_of(graph: SignedGraph, loader: Any, most_edges: int) -> npt.NDArray[np.int64] | None:
    """Return users with about ``most_edges`` edges, drawn by name, rising; None for a graph that has no more."""
    edges = np.diff(graph.likes.indptr) + np.diff(graph.dislikes.indptr)
    if edges.sum() <= most_edges:
        return None
    known = np.flatnonzero(edges)
    users = drawn(known, len(known), loader._dataset.id2token(loader.uid_field, known))
    return np.sort(users[: max(1, int(np.searchsorted(np.cumsum(edges[users]), most_edges)))])


def _may_lead(own: np.ndarray, leader: np.ndarray) -> bool:
    difference = own - leader
    return bool(difference.mean() + DOUBT * difference.std() / len(own) ** 0.5 >= 0)
