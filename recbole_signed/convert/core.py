"""The k-core: what is left of a graph once users and items that do not fulfil conditions are left out, in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_signed.arrays import distinct

BoolArray = npt.NDArray[np.bool_]
MIN_LIKES, K_CORE = 1, 2
STAYS = np.iinfo(np.int32).max
"""The turn of what is not left out."""


def peel(
    columns: list[npt.NDArray[Any]],
    shape: tuple[int, int],
    conditions: Sequence[Callable[..., tuple[BoolArray, BoolArray]]],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], int]:
    """Leave out users and items, and their rows, until the rest fulfils all conditions.

    Args:
        columns: ``[n_rows]`` each: codes of users, codes of items, and what else the conditions look at; used up.
        shape: numbers of users and of items.
        conditions: each gets the columns of the rows that are left, and tells which users ``[n_users]`` and which
            items ``[n_items]`` do not fulfil it. One is looked at a turn.

    Returns:
        The turn, from 1, at which each user ``[n_users]`` and each item ``[n_items]`` was left out, ``STAYS`` for the
        others; and how many turns there were.
    """
    turns = [np.full(n, STAYS, np.int32) for n in shape]
    turn, changed = 0, True
    while changed:
        changed = False
        for condition in conditions:
            turn += 1
            new = [unfit & (left == STAYS) for unfit, left in zip(condition(*columns), turns, strict=True)]
            if any(each.any() for each in new):
                changed = True
                for left, each in zip(turns, new, strict=True):
                    left[each] = turn
                stay = ~(new[0][columns[0]] | new[1][columns[1]])
                columns[:] = [column[stay] for column in columns]
    return turns[0], turns[1], turn


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
    pairs = distinct(key[sign != 0])
    is_liked = np.zeros(pairs.size, bool)
    is_liked[np.searchsorted(pairs, key[sign == 1])] = True
    del key
    none = np.zeros(n_items, bool)

    def likes_few(u: np.ndarray, i: np.ndarray, liked: np.ndarray) -> tuple[BoolArray, BoolArray]:
        return np.bincount(u[liked], minlength=n_users) < min_likes, none

    def has_few(u: np.ndarray, i: np.ndarray, liked: np.ndarray) -> tuple[BoolArray, BoolArray]:
        return np.bincount(u, minlength=n_users) < k, np.bincount(i, minlength=n_items) < k

    columns = [pairs // n_items, pairs % n_items, is_liked]
    del pairs, is_liked
    user_turn, item_turn, turns = peel(columns, shape, [likes_few, has_few])
    turn_of_row = np.minimum(user_turn[user], item_turn[item])
    step_of_row = np.where(turn_of_row == STAYS, 0, np.where(turn_of_row % 2 == 1, MIN_LIKES, K_CORE))
    return Core(step_of_row.astype(np.int8), turns // 2)
