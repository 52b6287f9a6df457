"""Which row counts where a user-item pair repeats, and how many pairs contradict themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

IntArray = npt.NDArray[np.int64]


def pair_keys(users: pd.Series, items: pd.Series, part: IntArray) -> IntArray:
    """Return one number for each (part, user, item), ``[n_rows]``."""
    user_codes, _ = pd.factorize(users)
    item_codes, known_items = pd.factorize(items)
    n_users = user_codes.max(initial=0) + 1
    return (part * n_users + user_codes) * len(known_items) + item_codes


def resolve(
    pairs: IntArray, sign: npt.NDArray[np.int8], time: npt.NDArray[Any] | None, rule: str
) -> tuple[npt.NDArray[np.bool_], int, int]:
    """Return which rows stay ``[n_rows]``, the number of repeating rows and of pairs with both signs."""
    order = np.arange(len(pairs)) if time is None else np.argsort(time, kind="stable")
    order = order[np.argsort(pairs[order], kind="stable")]  # by pair, and by time within a pair
    ordered = pairs[order]
    first = np.r_[True, ordered[1:] != ordered[:-1]] if len(ordered) else np.zeros(0, dtype=bool)
    starts = np.flatnonzero(first)
    repeated = len(pairs) - len(starts)
    contradicting = 0
    if repeated:
        most, least = (reduce.reduceat(sign[order], starts) for reduce in (np.maximum, np.minimum))
        contradicting = int(((most > 0) & (least < 0)).sum())
    stays = np.ones(len(pairs), dtype=bool)
    if rule != "keep" and repeated:
        chosen = starts if rule == "first" else np.r_[starts[1:], len(pairs)] - 1
        stays = np.zeros(len(pairs), dtype=bool)
        stays[order[chosen]] = True
    return stays, repeated, contradicting
