"""Which row counts where a user-item pair repeats, and how many pairs contradict themselves."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


class Resolved(NamedTuple):
    """What becomes of repeated pairs."""

    stays: npt.NDArray[np.bool_]
    """Which rows stay, ``[n_rows]``."""
    repeated: int
    """Rows after the first of their pair."""
    contradicting: int
    """Pairs with both signs."""
    lost: int
    """Pairs of which a neutral row stays, though they have a like or a dislike."""


def pair_keys(users: npt.NDArray[Any], items: npt.NDArray[Any], part: IntArray) -> IntArray:
    """Return one number for each (part, user, item), ``[n_rows]``; users and items come as numbers from 0 on."""
    n_users, n_items = (int(codes.max(initial=0)) + 1 for codes in (users, items))
    return (part * n_users + users) * n_items + items


def resolve(pairs: IntArray, sign: npt.NDArray[np.int8], time: npt.NDArray[Any] | None, rule: str) -> Resolved:
    """Tell which rows stay, by one of the rules ``last``, ``first`` and ``keep``."""
    stays = np.ones(len(pairs), dtype=bool)
    order = np.argsort(pairs)
    ordered = pairs[order]
    same = ordered[1:] == ordered[:-1]
    if not same.any():
        return Resolved(stays, 0, 0, 0)
    # only rows of repeated pairs are put in order: by pair, by time, and by their place in the file
    rows = order[np.append(same, False) | np.insert(same, 0, False)]
    rows = rows[np.lexsort((rows, pairs[rows]) if time is None else (rows, time[rows], pairs[rows]))]
    starts = np.flatnonzero(np.insert(pairs[rows[1:]] != pairs[rows[:-1]], 0, True))
    most, least = (reduce.reduceat(sign[rows], starts) for reduce in (np.maximum, np.minimum))
    lost = 0
    if rule != "keep":
        chosen = rows[starts if rule == "first" else np.append(starts[1:], len(rows)) - 1]
        stays[rows] = False
        stays[chosen] = True
        lost = int(((sign[chosen] == 0) & ((most > 0) | (least < 0))).sum())
    return Resolved(stays, len(rows) - len(starts), int(((most > 0) & (least < 0)).sum()), lost)
