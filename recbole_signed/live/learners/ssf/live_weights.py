"""How SSF-T's learner goes on fitting its weights while it follows a stream.

Each refresh and each fit first fits the weights to the likes that have come since the one before, with features as they
were then: nothing that is fitted to has been learned from. The weights in force are where it begins, and count as so
many users (:data:`WORTH`), so that a few users move them little and many move them to where
their likes are.
"""

from __future__ import annotations

import numpy as np
import torch

from recbole_signed.graph import SignedGraph
from recbole_signed.live.learners.base import IntArray
from recbole_signed.live.store.edges import EdgeArrays
from recbole_signed.pair_counts import PairCounts
from recbole_signed.sequences import Sequences
from recbole_signed.ssf.filter import SpectralFilter
from recbole_signed.ssf.item_counters import ItemCounters
from recbole_signed.ssf.order import Order, OrderFilter, Weights, recent_of, weights_of
from recbole_signed.ssf.order_weights import Likes, fitted_weights, sharpened
from recbole_signed.ssf.transition import Transition
from recbole_signed.ssf.user_edges import UserEdges
from recbole_signed.ssf.validation import Validation, drawn

USERS = 300
"""Users whose new likes are fitted to at a time at most."""
WORTH = 30.0
"""Users that the weights in force count as."""
ENOUGH = 30
"""Users below whom the weights stay as they are."""


def refitted_weights(
    fitted: SpectralFilter,
    transition: Transition | None,
    weights: Weights,
    edges: EdgeArrays,
    since: float,
    until: float,
    users: int,
    sizes: tuple[int, int],
) -> Weights:
    """Return weights that are fitted to the likes after a moment, or those in force where these are too few.

    Args:
        fitted: the filter as it was fitted or refreshed at that moment.
        transition: as it was then.
        weights: in force.
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
    if len(chosen) < ENOUGH or not timed.any() or np.ptp(time[timed]) < np.ptp(time[~old]):
        return weights
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
    new = likes_of(earlier, transition, sequences, recent, validation)
    return sharpened(new, fitted_weights(new, weights, WORTH))[0]


def likes_of(
    fitted: SpectralFilter,
    transition: Transition | None,
    sequences: Sequences,
    recent: torch.Tensor,
    validation: Validation,
) -> Likes:
    """Return held-out likes with the features that items have for their users.

    Args:
        fitted: the filter before them.
        transition: the transition before them.
        sequences: of all users, before them.
        recent: exposures before them that forget, see :func:`~recbole_signed.ssf.order.recent_of`.
        validation: the likes, and the numbers of their users.
    """
    assert validation.numbers is not None
    numbers, counts = validation.numbers, PairCounts.of(sequences, fitted.counters.n_items)
    made = OrderFilter(fitted, Order(weights_of(None), counts, recent, transition))

    def edges_of(rows: slice) -> UserEdges:
        own = sequences.of_users(numbers[rows])
        return UserEdges.of(validation.users.rows(rows), fitted.settings.dislike_weight, own)

    return Likes.of(made, edges_of, validation)


def touched(edges: EdgeArrays, row: IntArray) -> tuple[torch.Tensor, torch.Tensor]:
    """Return row and item of the edges of users who have a row, rows ascending."""
    place = row[edges.user]
    own = np.flatnonzero(place >= 0)
    order = own[np.argsort(place[own], kind="stable")]
    return torch.from_numpy(place[order]), torch.from_numpy(edges.item[order].astype(np.int64))
