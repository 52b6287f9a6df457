"""Which row counts where a user-item pair repeats, and how many pairs contradict themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


def pair_keys(users: npt.NDArray[Any], items: npt.NDArray[Any], part: IntArray) -> IntArray:
    """Return one number for each (part, user, item), ``[n_rows]``; users and items come as numbers from 0 on."""
    n_users, n_items = (int(codes.max(initial=0)) + 1 for codes in (users, items))
    return (part * n_users + users) * n_items + items


def resolve(
    pairs: IntArray, sign: npt.NDArray[np.int8], time: npt.NDArray[Any] | None, rule: str
) -> tuple[npt.NDArray[np.bool_], int, int]:
    """Return which rows stay ``[n_rows]``, the number of repeating rows and of pairs with both signs."""
    stays = np.ones(len(pairs), dtype=bool)
    order = np.argsort(pairs)
    ordered = pairs[order]
    same = ordered[1:] == ordered[:-1]
    if not same.any():
        return stays, 0, 0
    # only rows of repeated pairs are put in order: by pair, by time, and by their place in the file
    rows = order[np.append(same, False) | np.insert(same, 0, False)]
    rows = rows[np.lexsort((rows, pairs[rows]) if time is None else (rows, time[rows], pairs[rows]))]
    starts = np.flatnonzero(np.insert(pairs[rows[1:]] != pairs[rows[:-1]], 0, True))
    most, least = (reduce.reduceat(sign[rows], starts) for reduce in (np.maximum, np.minimum))
    if rule != "keep":
        stays[rows] = False
        stays[rows[starts if rule == "first" else np.append(starts[1:], len(rows)) - 1]] = True
    return stays, len(rows) - len(starts), int(((most > 0) & (least < 0)).sum())
