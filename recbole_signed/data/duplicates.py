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


def pair_keys(users: npt.NDArray[Any], items: npt.NDArray[Any], part: npt.NDArray[np.integer]) -> IntArray:
    """Return one number for each (part, user, item), ``[n_rows]``; users and items come as numbers from 0 on."""
    n_users, n_items = (int(codes.max(initial=0)) + 1 for codes in (users, items))
    keys = part.astype(np.int64)
    for size, codes in ((n_users, users), (n_items, items)):
        keys *= size
        keys += codes
    return keys


def resolve(pairs: IntArray, sign: npt.NDArray[np.int8], time: npt.NDArray[Any] | None, rule: str) -> Resolved:
    """Tell which rows stay, by one of the rules ``last``, ``first`` and ``keep``.

    A neutral row is no verdict and replaces none: of a pair with a like or a dislike one of these stays. So it is in
    the online state and under ``dedup`` of a conversion.

    Args:
        pairs: number of the pair of each row, ``[n_rows]``.
        sign: of each row, ``[n_rows]``.
        time: of each row, ``[n_rows]``; None where the order of the rows is all that is known.
        rule: which row of a pair stays.
    """
    stays = np.ones(len(pairs), dtype=bool)
    order = np.argsort(pairs)
    ordered = pairs[order]
    same = ordered[1:] == ordered[:-1]
    if not same.any():
        return Resolved(stays, 0, 0)
    # only rows of repeated pairs are put in order: the row to be kept comes to the end of its pair, or the beginning
    rows = order[np.append(same, False) | np.insert(same, 0, False)]
    verdict = (sign[rows] != 0) == (rule != "first")
    keys = (rows, verdict, pairs[rows]) if time is None else (rows, time[rows], verdict, pairs[rows])
    rows = rows[np.lexsort(keys)]
    starts = np.flatnonzero(np.insert(pairs[rows[1:]] != pairs[rows[:-1]], 0, True))
    most, least = (reduce.reduceat(sign[rows], starts) for reduce in (np.maximum, np.minimum))
    if rule != "keep":
        stays[rows] = False
        stays[rows[starts if rule == "first" else np.append(starts[1:], len(rows)) - 1]] = True
    return Resolved(stays, len(rows) - len(starts), int(((most > 0) & (least < 0)).sum()))
