"""The part of a signed graph in which every user likes enough, and all have enough likes and dislikes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MIN_LIKES, K_CORE = 1, 2
_NEVER = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Core:
    """What :func:`signed_core` finds."""

    step_of_row: np.ndarray
    """int8 ``[n]``: 0 the row stays, ``MIN_LIKES`` or ``K_CORE`` what its user or item was first left out for."""
    rounds: int
    """How often both conditions were looked at until nothing changed."""


def signed_core(
    user: np.ndarray, item: np.ndarray, sign: np.ndarray, shape: tuple[int, int], *, min_likes: int = 0, k: int = 0
) -> Core:
    """Leave out users that like fewer than ``min_likes`` items, and users and items of degree below ``k``.

    Both in turn until all that is left fulfils both; what is left is the largest such part, whatever the order. The
    degree is the number of distinct neighbours by a like or a dislike.

    Args:
        user: int ``[n]``, codes below ``shape[0]``.
        item: int ``[n]``, codes below ``shape[1]``.
        sign: int8 ``[n]``; rows of 0 (neutral) stay if their user and item do.
        shape: numbers of users and items.
        min_likes: 0 for no such condition.
        k: 0 for no such condition.

    """
    n_users, n_items = shape
    key = user.astype(np.int64) * n_items + item
    pairs = np.unique(key[sign != 0])
    liked = np.unique(key[sign == 1])
    del key
    is_liked = np.zeros(pairs.size, bool)
    is_liked[np.searchsorted(pairs, liked)] = True
    u, i = pairs // n_items, pairs % n_items
    del pairs, liked
    # the turn at which each was left out: odd turns look at likes, even ones at degrees
    user_turn, item_turn = np.full(n_users, _NEVER, np.int32), np.full(n_items, _NEVER, np.int32)
    turn = 0
    while True:
        before = turn
        for step in (MIN_LIKES, K_CORE):
            turn += 1
            if step == MIN_LIKES:
                few_users = np.bincount(u[is_liked], minlength=n_users) < min_likes
                few_items = np.zeros(n_items, bool)
            else:
                few_users = np.bincount(u, minlength=n_users) < k
                few_items = np.bincount(i, minlength=n_items) < k
            new_users, new_items = few_users & (user_turn == _NEVER), few_items & (item_turn == _NEVER)
            if new_users.any() or new_items.any():
                before = -1
                user_turn[new_users], item_turn[new_items] = turn, turn
                stay = ~(new_users[u] | new_items[i])
                u, i, is_liked = u[stay], i[stay], is_liked[stay]
        if before >= 0:
            break
    turn_of_row = np.minimum(user_turn[user], item_turn[item])
    step_of_row = np.where(turn_of_row == _NEVER, 0, np.where(turn_of_row % 2 == 1, MIN_LIKES, K_CORE))
    return Core(step_of_row.astype(np.int8), turn // 2)
