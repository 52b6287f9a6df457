r"""What a user just disliked pulls its near neighbours down, in every model.

To a model a dislike may well be a sign of interest: a positive ``dislike_weight`` is often the best one, and then what
is like the disliked item rises. A user who has just said no expects the contrary. So while a dislike d is the newest
verdict of a user, the near neighbours of d are ranked by

.. math:: s_j - \max(0, s_j - s_j^{-d}) - \lambda \max(0, s_j - m)

with the score :math:`s_j^{-d}` that they would have without the dislike, the strength :math:`\lambda` and the median m
of the user's scores, taken over some of the items. All of that follows from the edges as they are: taken back, the
dislike leaves nothing.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch

from recbole_signed.arrays import contains, distinct
from recbole_signed.graph import best_of_each
from recbole_signed.online import sign_of
from recbole_signed.online.learners.base import IntArray, Learner
from recbole_signed.online.learners.neighbours import NEAR
from recbole_signed.online.learners.popular import PopularLearner
from recbole_signed.online.store import EdgeState, Rows

SAMPLE = 256
"""Items, evenly spaced, of which the median score of those with an edge is the middle of a user's."""

FEW = 0.25
"""Of that share of all items at most, which a request names, the scores are worked out alone."""

NOTHING = 1e-9
"""Scores of at most so much tell nothing, where the learner's aim for a like is 1."""


def ranked_scores(learner: Learner, edges: EdgeState, users: IntArray) -> torch.Tensor:
    """Return what users are ranked by, ``[len(users), n_items]``: the model's scores after the push."""
    return _pull_down(learner, edges, users, *_fresh(learner, edges, users))


def _pull_down(
    learner: Learner, edges: EdgeState, users: IntArray, places: IntArray, disliked: IntArray
) -> torch.Tensor:
    scores = learner.scores(edges, users)
    if len(places):
        some = scores[torch.from_numpy(places)].numpy()
        near, pushed = _pushed(learner, edges, users[places], disliked, some)
        rows = np.repeat(places, NEAR).reshape(near.shape)
        scores[torch.from_numpy(rows), torch.from_numpy(near)] = torch.from_numpy(pushed)
    return scores


def best_items(
    learner: Learner,
    edges: EdgeState,
    user: int,
    k: int,
    keys: IntArray,
    *,
    exclude: IntArray | None = None,
    include_only: IntArray | None = None,
) -> tuple[IntArray, np.ndarray]:
    """Return the ``k`` best items that a user has no edge to, best first, and what they are ranked by.

    Where all scores are worked out, items with equal ones stand in the order of their keys, whatever ``k`` is.

    Args:
        learner: whose scores they are.
        edges: as they are now.
        user: whom to rank for; one without a like or dislike of whom the learner knows nothing gets what one that is
            not known gets. Where all scores are 0 then, as for one whose edges are to new items alone, it is items by
            their likes.
        k: how many; fewer where there are no more.
        keys: of all items, see :attr:`~recbole_signed.online.store.Vocabulary.keys`, ``[>= n_items]``.
        exclude: items that are left out.
        include_only: items to choose from; all of them if None.
    """
    row = edges.of_user(user if 0 < user < edges.n_users else 0)
    hidden = np.concatenate([row.ids.astype(np.int64), [0], *([] if exclude is None else [exclude])])
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
    items, values = _ranked(learner, edges, user, k, keys, hidden, chosen)
    if not learner.ranks_without_edges and np.abs(values).max(initial=0.0) < NOTHING:
        popular = PopularLearner()
        popular.attach(edges)
        return _ranked(popular, edges, user, k, keys, hidden, chosen)
    return items, values


def _ranked(
    learner: Learner, edges: EdgeState, user: int, k: int, keys: IntArray, hidden: IntArray, chosen: IntArray | None
) -> tuple[IntArray, np.ndarray]:
    """Return the best of the items that are not hidden, or of the chosen ones, and what they are ranked by."""
    users = np.array([user])
    places, disliked = _fresh(learner, edges, users)
    found: tuple[IntArray, np.ndarray] | None
    if chosen is not None:
        found = chosen, _scores_of(learner, edges, users, disliked, chosen)
    else:
        found = _best_without_all_scores(learner, edges, users, disliked, k, hidden)
    if found is not None:
        items, values = found
        order = np.lexsort((keys[items], -values))[:k]
        return items[order], values[order]
    scores = _pull_down(learner, edges, users, places, disliked)
    scores[:, torch.from_numpy(hidden)] = -torch.inf
    (values,), (items,) = best_of_each(scores, k, torch.from_numpy(keys))
    known = values > -torch.inf
    return items[known].numpy(), values[known].numpy()


def _best_without_all_scores(
    learner: Learner, edges: EdgeState, users: IntArray, disliked: IntArray, k: int, hidden: IntArray
) -> tuple[IntArray, np.ndarray] | None:
    if not len(disliked):
        return learner.top(edges, int(users[0]), k, hidden)
    found = learner.top(edges, int(users[0]), k, np.concatenate([hidden, learner.neighbours(disliked)[0][0]]))
    if found is None:
        return None
    near, pushed = _pushed(learner, edges, users, disliked)
    seen = np.isin(near[0], hidden)
    items = np.concatenate([found[0], near[0][~seen]])
    values = np.concatenate([found[1], pushed[0][~seen]])
    order = np.argsort(-values, kind="stable")[:k]
    return items[order], values[order]


def _scores_of(learner: Learner, edges: EdgeState, users: IntArray, disliked: IntArray, items: IntArray) -> np.ndarray:
    """Return what some items are ranked by for one user, ``[len(items)]``; none of them is the padding item."""
    if not len(items):
        return np.zeros(0, dtype=np.float32)
    values = np.array(learner.pair_scores(edges, users, items[None])[0])
    if len(disliked):
        near, pushed = _pushed(learner, edges, users, disliked)
        row, place = np.nonzero(items[:, None] == near[0])
        values[row] = pushed[0, place]
    return values


def _fresh(learner: Learner, edges: EdgeState, users: IntArray) -> tuple[IntArray, IntArray]:
    """Return the places of users whose newest verdict is a dislike that has neighbours, and what they disliked."""
    if not learner.dislike_push:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    disliked = edges.newest_dislikes(np.where(users < edges.n_users, users, 0))
    places = np.flatnonzero(disliked)
    return places, disliked[places]


def _pushed(
    learner: Learner, edges: EdgeState, users: IntArray, disliked: IntArray, scores: np.ndarray | None = None
) -> tuple[IntArray, np.ndarray]:
    """Return the neighbours of what users disliked, and what they are ranked by, both ``[len(users), NEAR]``.

    ``scores`` of all items, ``[len(users), n_items]``, are looked up where they are there.
    """
    near, cosines = learner.neighbours(disliked)
    n_items = edges.n_items
    sample = np.linspace(1, n_items - 1, min(SAMPLE, max(n_items - 1, 1))).astype(np.int64)
    known = edges.item_likes[sample] + edges.item_dislikes[sample] > 0
    sample = sample[known] if known.any() else sample
    if scores is None:
        wanted = np.concatenate([near, np.broadcast_to(sample, (len(users), len(sample)))], axis=1)
        found = learner.pair_scores(edges, users, wanted)
        own, others = found[:, :NEAR], found[:, NEAR:]
    else:
        own, others = np.take_along_axis(scores, near, axis=1), scores[:, sample]
    alone = learner.pair_scores(without(edges, disliked), users, near)
    height = np.maximum(own - np.median(others, axis=1)[:, None], 0.0)
    push = np.maximum(own - alone, 0.0) + learner.dislike_push * height
    return near, np.where(cosines > 0, own - push, own).astype(np.float32)


def without(edges: EdgeState, items: IntArray) -> EdgeState:
    """Return edges in which each of the users that are asked for lacks its edge to one item, ``[len(users)]``."""
    return cast(EdgeState, _Without(edges, items))


class _Without:
    """Edges in which each of the users that are asked for lacks its edge to one item."""

    def __init__(self, edges: EdgeState, items: IntArray) -> None:
        self._edges, self._items = edges, items

    def __getattr__(self, name: str) -> Any:
        return getattr(self._edges, name)

    def of_users(self, users: np.ndarray, *, times: bool = False) -> Rows:
        rows = self._edges.of_users(users, times=times)
        stays = rows.ids != np.repeat(self._items, np.diff(rows.indptr))
        return Rows.where(stays, rows.indptr, rows.ids, rows.kind, rows.timestamp)
