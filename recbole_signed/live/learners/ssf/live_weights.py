"""How SSF-T's learner fits its weights while it follows a stream, and before it begins.

Each refresh and each fit first fits the weights to the likes that have come since the one before, with features as they
were then: nothing that is fitted to has been learned from. What was known before counts by its information, so that the
weights are those of all likes so far, of which earlier ones count less and less (:data:`KEPT`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from recbole_signed.graph import SignedGraph
from recbole_signed.live.learners.base import IntArray
from recbole_signed.live.store.edges import EdgeArrays
from recbole_signed.pair_counts import PairCounts
from recbole_signed.sequences import Sequences
from recbole_signed.ssf.filter import SpectralFilter
from recbole_signed.ssf.item_counters import ItemCounters
from recbole_signed.ssf.order import Order, OrderFilter, recent_of, weights_of
from recbole_signed.ssf.order_weights import Fit, Likes, fitted_weights
from recbole_signed.ssf.transition import Transition
from recbole_signed.ssf.user_edges import UserEdges
from recbole_signed.ssf.validation import Validation, drawn

USERS = 300
"""Users whose new likes are fitted to at a time at most."""
WORTH = 10.0
"""Users that the weights to begin with count as."""
KEPT = 500
"""New users after whom what was known before counts half."""


def refitted_weights(
    fitted: SpectralFilter,
    transition: Transition | None,
    before: Fit,
    edges: EdgeArrays,
    since: float,
    until: float,
    users: int,
    sizes: tuple[int, int],
) -> Fit:
    """Return weights that are fitted to the likes after a moment, too.

    Args:
        fitted: the filter as it was fitted or refreshed at that moment.
        transition: as it was then.
        before: the weights in force.
        edges: as they are now, in the order of users.
        since: milliseconds; exposures from before are part of no trend.
        until: the moment, in milliseconds.
        users: how many are drawn at most.
        sizes: number of users and of items.
    """
    n_users, n_items = sizes
    user, item, like, time = edges.verdicts
    old = time <= until
    chosen = drawn(np.unique(user[~old & like]), users)
    # a history that spans less time than what follows it tells nothing of trends: its times may be made up
    timed = old & (time >= since)
    if not len(chosen) or not timed.any() or np.ptp(time[timed]) < np.ptp(time[~old]):
        return before
    row = np.full(n_users, -1)
    row[chosen] = np.arange(len(chosen))
    own = old & (row[user] >= 0)
    held = ~old & like & (row[user] >= 0)
    keys = np.sort(row[user[held]] * n_items + item[held])
    positive, negative = ((row[user[own & each]], item[own & each]) for each in (like, ~like))
    validation = Validation(
        users=SignedGraph.from_edges(positive, negative, len(chosen), n_items),
        like_keys=keys,
        like_count=np.bincount(keys // n_items, minlength=len(chosen)),
        hidden=touched(edges.where(edges.timestamp <= until), row),
        metric="NDCG@20",
        numbers=chosen,
    )
    vectors = torch.zeros(n_items, fitted.vectors.shape[1])
    vectors[: len(fitted.vectors)] = fitted.vectors
    likes, dislikes = (
        torch.from_numpy(np.bincount(item[old & each], minlength=n_items)).float() for each in (like, ~like)
    )
    earlier = fitted.following(vectors, ItemCounters.of(likes, dislikes))
    sequences = Sequences.of(user[old], item[old], like[old], time[old], n_users)
    recent = recent_of(item[old], time[old], n_items, since)
    made = OrderFilter(earlier, Order(weights_of(None), PairCounts.of(sequences, n_items), recent, transition))

    def edges_of(rows: slice) -> UserEdges:
        theirs = sequences.of_users(chosen[rows])
        return UserEdges.of(validation.users.rows(rows), fitted.settings.dislike_weight, theirs)

    new = Likes.of(made, edges_of, validation)
    if before.information is not None:
        before = replace(before, information=before.information * (KEPT / (KEPT + len(chosen))))
    return fitted_weights(new, before, WORTH)


def touched(edges: EdgeArrays, row: IntArray) -> tuple[torch.Tensor, torch.Tensor]:
    """Return row and item of the edges of users who have a row, rows ascending."""
    place = row[edges.user]
    own = np.flatnonzero(place >= 0)
    order = own[np.argsort(place[own], kind="stable")]
    return torch.from_numpy(place[order]), torch.from_numpy(edges.item[order].astype(np.int64))
