"""How SSF-T's learner fits its weights while it follows a stream, and before it begins.

Each refresh and fit fits them to the likes since the one before, among each user's best items, with features as they
were then. What was known counts by its information, so that they are the weights of all likes so far, of which earlier
ones fade (:data:`KEPT`).
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
    """Return weights that are fitted to the likes after a moment, too."""
    # fitted, transition: as they were at the moment, until (ms); exposures before since (ms) are part of no trend;
    # lowers: dislikes lower what is near, so that some are held back; sizes: of users and items
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
    theirs = validation.users
    if lowers:
        own = old & np.isin(user, chosen)
        verdicts = Verdicts.of(user[own], item[own], like[own], time[own], n_users).rows(chosen)
        theirs = without(theirs, verdicts, verdicts.held_back(leads=True))
    recent = recent_of(item[old], time[old], like[old], n_items, since)
    made = OrderFilter(earlier, Order(weights_of(None), PairCounts.of(sequences, n_items), recent, transition))

    def edges_of(rows: slice) -> UserEdges:
        some = theirs.rows(rows)
        return UserEdges.of(some, fitted.settings.dislike_weight, of_edges(sequences.of_users(chosen[rows]), some))

    new = Likes.of(made, edges_of, validation)
    if before.information is not None:
        before = replace(before, information=before.information * (KEPT / (KEPT + len(chosen))))
    return fitted_weights(new, before, WORTH, among_best=True)


def held_out(
    edges: EdgeArrays,
    train: npt.NDArray[np.bool_],
    users: IntArray,
    sizes: tuple[int, int],
    metric: str = "NDCG@20",
    gamma: float = 0.0,
) -> Validation:
    """Return ``users`` and their verdicts outside of the events ``train``; ``sizes``: numbers of users and items."""
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
