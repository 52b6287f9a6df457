"""How SSF-T's learner fits its weights while it follows a stream, and before it begins.

Each refresh and each fit first fits the weights to the likes that have come since the one before, with features as they
were then: nothing that is fitted to has been learned from. What was known before counts by its information, so that the
weights are those of all likes so far, of which earlier ones count less and less (:data:`KEPT`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from recbole_signed.graph import SignedGraph
from recbole_signed.graph.personal_verdict import Verdicts
from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE
from recbole_signed.live.learners.base import IntArray
from recbole_signed.live.store.edges import EdgeArrays
from recbole_signed.model.verdicts import without
from recbole_signed.pair_counts import PairCounts
from recbole_signed.sequences import Sequences
from recbole_signed.ssf.filter import SpectralFilter
from recbole_signed.ssf.item_counters import ItemCounters
from recbole_signed.ssf.order import Order, OrderFilter, recent_of, weights_of
from recbole_signed.ssf.order_weights import Fit, Likes, fitted_weights
from recbole_signed.ssf.transition import Transition
from recbole_signed.ssf.user_edges import UserEdges, of_edges
from recbole_signed.ssf.validation import Validation, drawn

USERS = 300
"""Users whose new likes are fitted to at a time at most."""
WORTH = 3.0
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
    lowers: bool,
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
        lowers: whether dislikes lower what is near to them, so that some are held back.
    """
    n_users, n_items = sizes
    user, item, like, time = edges.verdicts
    old = time <= until
    chosen = drawn(np.unique(user[~old & like]), users)
    # a history that spans less time than what follows it tells nothing of trends: its times may be made up
    timed = old & (time >= since)
    if not len(chosen) or not timed.any() or np.ptp(time[timed]) < np.ptp(time[~old]):
        return before
    validation = held_out(edges, edges.timestamp <= until, chosen, sizes)
    vectors = torch.zeros(n_items, fitted.vectors.shape[1])
    vectors[: len(fitted.vectors)] = fitted.vectors
    likes, dislikes = (
        torch.from_numpy(np.bincount(item[old & each], minlength=n_items)).float() for each in (like, ~like)
    )
    earlier = fitted.following(vectors, ItemCounters.of(likes, dislikes))
    sequences = Sequences.of(user[old], item[old], like[old], time[old], n_users)
    own = old & np.isin(user, chosen)
    all_verdicts = Verdicts.of(user[own], item[own], like[own], time[own], n_users)
    recent = recent_of(item[old], time[old], like[old], n_items, since)
    made = OrderFilter(earlier, Order(weights_of(None), PairCounts.of(sequences, n_items), recent, transition))

    def edges_of(rows: slice) -> UserEdges:
        edges, verdicts = validation.users.rows(rows), all_verdicts.rows(chosen[rows])
        if lowers:
            edges = without(edges, verdicts, verdicts.held_back(leads=True))
        return UserEdges.of(edges, fitted.settings.dislike_weight, of_edges(sequences.of_users(chosen[rows]), edges))

    new = Likes.of(made, edges_of, validation)
    if before.information is not None:
        before = replace(before, information=before.information * (KEPT / (KEPT + len(chosen))))
    return fitted_weights(new, before, WORTH)


def held_out(
    edges: EdgeArrays,
    train: npt.NDArray[np.bool_],
    users: IntArray,
    sizes: tuple[int, int],
    metric: str = "NDCG@20",
    gamma: float = 0.0,
) -> Validation:
    """Return users, and the verdicts that they give outside of the events ``train``, ``[n_edges]``.

    Args:
        edges: all of them.
        train: what comes before.
        users: who they are.
        sizes: number of users and of items.
        metric: of the ranking.
        gamma: what a dislike costs in it.
    """
    n_users, n_items = sizes
    row = np.full(n_users, -1)
    row[users] = np.arange(len(users))
    row = row[edges.user]

    def of(kind: int, rows: npt.NDArray[np.bool_]) -> tuple[IntArray, IntArray]:
        chosen = np.flatnonzero(rows & (row >= 0) & (edges.kind == kind))
        return row[chosen], edges.item[chosen].astype(np.int64)

    likes, dislikes = (np.sort(user * n_items + item) for user, item in (of(LIKE, ~train), of(DISLIKE, ~train)))
    hidden = np.flatnonzero(train & (row >= 0))
    hidden = hidden[np.argsort(row[hidden], kind="stable")]
    return Validation(
        users=SignedGraph.from_edges(of(LIKE, train), of(DISLIKE, train), len(users), n_items),
        like_keys=likes,
        like_count=np.bincount(likes // n_items, minlength=len(users)),
        hidden=(torch.from_numpy(row[hidden]), torch.from_numpy(edges.item[hidden].astype(np.int64))),
        metric=metric,
        numbers=users,
        gamma=gamma,
        dislike_keys=dislikes,
    )
