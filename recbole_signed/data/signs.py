"""The rows of a data set by sign: which one counts where a pair repeats, what was found, and which data is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from recbole_signed.data.settings import SignedSettings
from recbole_signed.errors import UsageError


@dataclass(frozen=True)
class SignReport:
    """What was found when the rows were separated by sign; counts of rows that stayed, then of what was resolved."""

    likes: int
    dislikes: int
    neutrals: int
    repeated_rows: int
    """Rows beyond the first of their user-item pair (within a part, where the data set is split already)."""
    contradicting_pairs: int
    """Pairs that carry both a like and a dislike."""


def refuse_useless(likers: pd.Series, dislikers: pd.Series, settings: SignedSettings, name: str) -> None:
    """Refuse data without likes, and a sign rule that no user has both a like and a dislike by.

    Args:
        likers: the user of each like.
        dislikers: the user of each dislike.
        settings: where the signs come from.
        name: of the data set.

    Raises:
        UsageError: see above.
    """
    if not len(likers):
        raise UsageError(
            f"no row of '{name}' is a like; look at the sign column or at sign_rule "
            f"({settings.sign_rule or settings.sign_field})."
        )
    if settings.sign_rule is not None and not likers.isin(dislikers.unique()).any():
        raise UsageError(
            f"after sign_rule ({settings.sign_rule}) no user of '{name}' has both a like and a dislike; correct the "
            "rule, or leave it out to train on all rows as likes."
        )


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
