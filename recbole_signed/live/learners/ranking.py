"""What users are ranked by: the scores of any learner with the personal verdict of the users in them.

The formula is that of :mod:`recbole_signed.graph.personal_verdict`, of the edges as they are. What an item has without
the user's taste is, where the learner does not tell, the median of what the user's edges but the last run give some of
the items.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import scipy.sparse as sp
import torch

from recbole_signed.arrays import contains, distinct, in_rows
from recbole_signed.errors import UsageError
from recbole_signed.graph.personal_verdict import (
    LARGE,
    NEAR,
    WIDE,
    Demotions,
    Fall,
    Heights,
    Neighbourhoods,
    Verdicts,
    first_likers,
    middle_items,
)
from recbole_signed.graph.top_scores import best_of_each
from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE, sign_of
from recbole_signed.live.learners.asked import Asked, OwnEdges, under
from recbole_signed.live.learners.base import IntArray, Learner, rows_without
from recbole_signed.live.learners.popular import PopularLearner
from recbole_signed.live.store.edge_views import Rows
from recbole_signed.live.store.edges import EdgeState

FEW = 0.25
"""Of that share of all items at most, which a request names, the scores are worked out alone."""

_PADDING = np.zeros(1, dtype=np.int64)

Keys = tuple[IntArray | None, IntArray]
"""Of all users, and of all items."""

NOTHING = 1e-9
"""Scores of at most so much tell nothing, where the learner's aim for a like is 1."""


class Judged:
    """Some users, of which unknown ids have no edges, with their edges as they are, and what falls for them."""

    def __init__(self, learner: Learner, edges: EdgeState, users: IntArray, keys: Keys | None = None) -> None:
        self.learner, self.users, self.state, self.edges = learner, users, edges, edges
        # calm: without all dislikes of a known time that act; before: without the last run
        self.fallen, self.before, self.calm = Demotions.none(), edges, edges
        self.left_out: IntArray = np.zeros(0, dtype=np.int64)
        if not learner.dislike_strength:
            return
        self._known = known = np.where(users < edges.n_users, users, 0)
        all_rows = edges.of_users(known, times=True)
        rows = all_rows.verdicts
        if not (rows.kind == DISLIKE).any():
            return
        length = np.diff(all_rows.indptr)
        seen = np.repeat(np.arange(len(users)) * edges.n_items, length) + all_rows.ids  # ascending, as rows are
        owner = np.repeat(np.arange(len(users)), np.diff(rows.indptr))
        item_keys = None if keys is None else keys[1]
        verdicts = Verdicts.from_edges(owner, rows.ids, rows.kind == LIKE, rows.timestamp, len(users), item_keys)
        most = min(NEAR + int(length.max()), WIDE)  # after what the user has an edge to, enough are left
        self.fallen = Demotions.from_verdicts(
            verdicts, seen, lambda items: neighbourhoods(edges, items, keys, most), edges.n_items
        )
        held_back = verdicts.held_back(learner.dislikes_lead)
        self.left_out = verdicts.item[held_back]
        self.edges = self.before = self._without(owner, rows, verdicts, held_back)
        if not np.array_equal(held_back, verdicts.last_run):
            self.before = self._without(owner, rows, verdicts, verdicts.last_run)
        self.calm = self.before
        if not np.array_equal(verdicts.last_run, verdicts.acting):
            self.calm = self._without(owner, rows, verdicts, verdicts.acting)

    def _without(self, owner: IntArray, rows: Rows, verdicts: Verdicts, left_out: np.ndarray) -> EdgeState:
        """Return edges in which the users lack some of their verdicts."""
        rows = rows_without(rows, owner, verdicts, left_out, self.state.n_items)
        return cast(EdgeState, OwnEdges(self.state, self._known, rows))

    def scores(self) -> torch.Tensor:
        """Return what all items are ranked by, ``[len(users), n_items]``."""
        fallen = self.fallen
        if not len(fallen):
            return self.learner.scores(self.edges, self.users)
        kinds = list(dict.fromkeys((self.edges, self.before, self.calm)))
        # all at once: for few users most of the time does not depend on their number
        edges = self.edges if len(kinds) == 1 else _together(kinds, self._known)
        parts = self.learner.scores(edges, np.tile(self.users, len(kinds))).split(len(self.users))
        scores = parts[0]
        own, before, calm = (parts[kinds.index(kind)].numpy() for kind in (self.edges, self.before, self.calm))
        pairs = fallen.user, fallen.item
        heights = self._heights(
            np.minimum(np.minimum(own[pairs], before[pairs]), calm[pairs]),
            before[pairs],
            before[fallen.user[fallen.pair], fallen.dislike],
            lambda sample: before[:, sample],
        )
        own[fallen.user, fallen.item] = fallen.lowered(heights, self.learner.dislike_strength)
        return scores

    @property
    def heights(self) -> Heights:
        """The scores that the falls depend on, without those of all items."""
        fallen = self.fallen
        pairs, dislikes = (fallen.user, fallen.item), (fallen.user[fallen.pair], fallen.dislike)
        alone = self._of_pairs(self.before, *(np.concatenate(both) for both in zip(pairs, dislikes, strict=True)))
        before, of_dislikes = np.split(alone, [len(fallen)])

        def scores_of(sample: IntArray) -> np.ndarray:
            items = np.tile(sample, (len(self.users), 1))
            return np.asarray(self.learner.pair_scores(self.before, self.users, items))

        lowest = before
        for edges in {self.edges, self.calm} - {self.before}:
            lowest = np.minimum(lowest, self._of_pairs(edges, *pairs))
        return self._heights(lowest, before, of_dislikes, scores_of)

    def lowered(self) -> np.ndarray:
        """Return what the pairs of :attr:`fallen` are ranked by, ``[n]``."""
        return self.fallen.lowered(self.heights, self.learner.dislike_strength)

    def _heights(
        self,
        lowest: np.ndarray,
        before: np.ndarray,
        of_dislikes: np.ndarray,
        scores_of: Callable[[IntArray], np.ndarray],
    ) -> Heights:
        """Return them from the scores of pairs and of dislikes, and what gives all users' scores of some items."""
        fallen = self.fallen
        neutral, neutral_disliked = (self.learner.without_taste(items) for items in (fallen.item, fallen.dislike))
        if neutral is None or neutral_disliked is None:
            sample = middle_items(self.edges.n_items, self.edges.have_edges)
            middle = np.median(scores_of(sample), axis=1)
            neutral, neutral_disliked = middle[fallen.user], middle[fallen.user[fallen.pair]]
        return Heights(lowest, before, neutral, of_dislikes - neutral_disliked)

    def _of_pairs(self, edges: EdgeState, user: IntArray, item: IntArray) -> np.ndarray:
        """Return the scores of pairs of a user, by its place, and an item, ``[n]``."""
        items, place = in_rows(user, item, len(self.users))
        return np.asarray(self.learner.pair_scores(edges, self.users, items))[user, place]


def with_parameters(learner: Learner, parameters: Mapping[str, float]) -> Learner:
    """Return a learner that shares all but parameters that act at query time; UsageError for another parameter."""
    if not parameters:
        return learner
    changed: Any = copy.copy(learner)
    for name, value in parameters.items():
        if name == "dislike_strength":
            changed.dislike_strength = changed.wish_strength = value
        elif name == "dislike_aversion" and hasattr(changed, "with_aversion"):
            changed = changed.with_aversion(value)
        else:
            raise UsageError(f"{learner.name} has no parameter '{name}' that can be changed at query time.")
    return cast(Learner, changed)


def ranked_scores(learner: Learner, edges: EdgeState, users: IntArray, keys: Keys | None = None) -> torch.Tensor:
    """Return what users are ranked by, ``[len(users), n_items]``: the model's scores with their personal verdict."""
    return Judged(learner, edges, users, keys).scores()


def explained(
    learner: Any, edges: EdgeState, user: int, items: IntArray, keys: Keys | None = None, asked: Asked | None = None
) -> list[Any]:
    """Return what ``learner.explain`` tells of the scores of items, and why they are ranked lower or higher."""
    edges = under(asked, edges)
    judged = Judged(learner, edges, np.array([user]), keys)
    row = edges.of_user(user if 0 < user < edges.n_users else 0)
    unread = row.ids[sign_of(row.kind) == 0]  # by every learner, but these items leave the lists
    middle = 0.0 if asked is None or not asked.moves else _middle(judged, row.ids)
    of_items: dict[int, Any] = dict(zip(items.tolist(), learner.explain(judged.edges, user, items), strict=True))

    def likers(of: int) -> IntArray:
        return edges.likers(np.array([of])).ids.astype(np.int64)

    falls: dict[int, Fall] = {}
    if len(judged.fallen):
        scores = {item: explanation.score for item, explanation in of_items.items()}
        falls = judged.fallen.falls(scores, judged.heights, learner.dislike_strength, likers)
    explanations = []
    for item, explanation in of_items.items():
        explanation = replace(explanation, fall=falls.get(item)).beside(judged.left_out)
        if asked is not None and (reasons := asked.reasons(item)):
            (now,) = asked.moved(np.array([explanation.ranked]), np.array([item]), middle, learner.wish_strength)
            explanation = replace(explanation, moved=float(now) - explanation.ranked, reasons=tuple(reasons))
        explanations.append(explanation.beside(unread[unread == item], 0))
    return explanations


def lowered_by(learner: Learner, edges: EdgeState, user: int, dislike: int, keys: Keys | None = None) -> list[int]:
    """Return the items that a dislike of a user lowers: of several dislikes that are near, one lowers an item."""
    judged = Judged(learner, edges, np.array([user]), keys)
    if not len(judged.fallen):
        return []
    _, causes = judged.fallen.strongest(judged.heights)
    return [int(item) for item in judged.fallen.item[causes == dislike]]


def neighbourhoods(edges: EdgeState, items: IntArray, keys: Keys | None = None, most: int = WIDE) -> Neighbourhoods:
    """Return what is near to items by the likes of all users as they are now; in small catalogues so many of each."""
    edges = edges.of_all
    item_keys, n_likes = None if keys is None else keys[1], edges.item_likes
    if edges.n_items > LARGE:
        return Neighbourhoods.from_common_likes(_counted(edges, items, keys), n_likes, items, item_keys)
    return Neighbourhoods(*edges.nearest(items, item_keys, most))


def _counted(edges: EdgeState, items: IntArray, keys: Keys | None) -> sp.csr_matrix:
    """Return how many of the likers of each of some items like every item, ``[len(items), n_items]``."""
    likers = edges.likers(items)
    likers = likers.where(first_likers(likers.indptr, likers.ids, None if keys is None else keys[0]))
    users, column = np.unique(likers.ids, return_inverse=True)
    theirs = edges.of_users(users)
    likes = theirs.where(theirs.kind == LIKE)
    of_items, of_users = (
        sp.csr_matrix((np.ones(len(ids), dtype=np.float32), ids, indptr), shape=(len(indptr) - 1, width))
        for ids, indptr, width in ((column, likers.indptr, len(users)), (likes.ids, likes.indptr, edges.n_items))
    )
    return of_items @ of_users


def best_items(
    learner: Learner,
    edges: EdgeState,
    user: int,
    k: int,
    keys: IntArray,
    *,
    user_keys: IntArray | None = None,
    exclude: IntArray | None = None,
    include_only: IntArray | None = None,
    asked: Asked | None = None,
) -> tuple[IntArray, np.ndarray]:
    """Return the ``k`` best items that a user has no edge to and what they are ranked by, best first, ties by keys."""
    # a user without a verdict that the learner does not know gets what an unknown one gets; where all scores are 0, as
    # for edges to new items alone, it is items by their likes
    edges = under(asked, edges)
    row = edges.of_user(user if 0 < user < edges.n_users else 0)
    if 0 < user < edges.n_users:
        edges = OwnEdges.with_row(edges, user, row)  # which is read once
    hidden = np.concatenate([row.ids, _PADDING, *([] if exclude is None else [exclude])])
    hidden = hidden if asked is None else np.concatenate([hidden, asked.hidden])
    if not sign_of(row.kind).any() and not learner.knows(user):
        user = 0  # a model that was trained before has an embedding of others too, as it was drawn at the start
    chosen: IntArray | None = None
    if include_only is not None and len(include_only) <= FEW * edges.n_items:  # nothing as long as the catalogue
        chosen = distinct(include_only)
        chosen = chosen[~contains(distinct(hidden), chosen)]
    elif include_only is not None:
        left_out = np.ones(edges.n_items, dtype=bool)
        left_out[include_only] = False
        left_out[hidden] = True
        hidden = np.flatnonzero(left_out)
    items, values = _ranked(learner, edges, user, k, (user_keys, keys), row.ids, hidden, chosen, asked)
    if not learner.ranks_without_edges and np.abs(values).max(initial=0.0) < NOTHING:
        popular = PopularLearner()
        popular.attach(edges)
        popular.dislike_strength = learner.dislike_strength
        return _ranked(popular, edges, user, k, (user_keys, keys), row.ids, hidden, chosen, asked)
    return items, values


def _ranked(
    learner: Learner,
    edges: EdgeState,
    user: int,
    k: int,
    keys: Keys,
    own: IntArray,
    hidden: IntArray,
    chosen: IntArray | None,
    asked: Asked | None,
) -> tuple[IntArray, np.ndarray]:
    """Return the best of the items that are not hidden, or of the chosen ones, and what they are ranked by."""
    judged = Judged(learner, edges, np.array([user]), keys)
    moves = asked if asked is not None and asked.moves else None
    best = None
    if chosen is not None:
        best = chosen, _scores_of(judged, chosen)
        if moves is not None:
            best = chosen, moves.moved(best[1], chosen, _middle(judged, own), learner.wish_strength)
    elif moves is None:
        best = _without_all_scores(judged, k, hidden)
    if best is not None:
        items, values = best
        order = np.lexsort((keys[1][items], -values))[:k]
        return items[order], values[order]
    scores = judged.scores()
    if moves is not None:
        row = scores[0].numpy()
        scores[0] = torch.from_numpy(moves.moved(row, None, _middle(judged, own, row), learner.wish_strength))
    scores.numpy()[0, hidden] = -np.inf  # at a third of the time that torch takes
    (values,), (items,) = (tensor.numpy() for tensor in best_of_each(scores, k, torch.from_numpy(keys[1])))
    known = values > -np.inf
    return items[known], values[known]


def _middle(judged: Judged, own: IntArray, scores: np.ndarray | None = None) -> float:
    """Return the middle of what items but a user's ``own`` are ranked by; ``scores`` of all are looked up."""
    edges = judged.state
    sample = middle_items(edges.n_items, lambda items: edges.have_edges(items) & ~np.isin(items, own))
    return float(np.median(_scores_of(judged, sample) if scores is None else scores[sample]))


def _without_all_scores(judged: Judged, k: int, hidden: IntArray) -> tuple[IntArray, np.ndarray] | None:
    """Return the best items of one user and some more, and what they are ranked by, where a learner can tell them."""
    fallen = judged.fallen.item
    best = judged.learner.top(judged.edges, int(judged.users[0]), k, np.concatenate([hidden, fallen]))
    if best is None or not len(fallen):
        return best
    shown = ~np.isin(fallen, hidden)
    return np.concatenate([best[0], fallen[shown]]), np.concatenate([best[1], judged.lowered()[shown]])


def _scores_of(judged: Judged, items: IntArray) -> np.ndarray:
    """Return what some items are ranked by for one user, ``[len(items)]``; none of them is the padding item."""
    if not len(items):
        return np.zeros(0, dtype=np.float32)
    values = np.array(judged.learner.pair_scores(judged.edges, judged.users, items[None])[0])
    if len(judged.fallen):
        row, place = np.nonzero(items[:, None] == judged.fallen.item)
        values[row] = judged.lowered()[place]
    return values


def _together(kinds: Sequence[EdgeState], users: IntArray) -> EdgeState:
    """Return edges in which ``users``, asked for as often as there are kinds, have those of one after the other."""
    rows = [edges.of_users(users, times=True) for edges in kinds]
    ids, kind = (np.concatenate([getattr(part, name) for part in rows]) for name in ("ids", "kind"))
    times = np.concatenate([part.timestamp for part in rows if part.timestamp is not None])
    indptr = np.cumsum(np.concatenate([[0], *(np.diff(part.indptr) for part in rows)]))
    return cast(EdgeState, OwnEdges(kinds[0], np.tile(users, len(kinds)), Rows(indptr, ids, kind, times)))
