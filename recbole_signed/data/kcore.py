"""RecBole's filter by the number of interactions, on arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Side:
    """Users or items: who they are in each row, what counts are allowed, and who has a row of features.

    Attributes:
        codes: number of the user or item of each row, ``[n_rows]``.
        n: how many there are.
        allowed: which of the counts ``[n]`` are fit; None: all.
        least: features of those with fewer interactions are dropped.
        features: their numbers in the table of features, ``[n_features]``, -1 for those without any row; or None.
    """

    codes: npt.NDArray[Any]
    n: int
    allowed: Callable[[npt.NDArray[np.int64]], BoolArray] | None
    least: float
    features: npt.NDArray[Any] | None


def core(users: Side, items: Side) -> tuple[BoolArray, list[BoolArray | None]]:
    """Drop users and items with an unfit number of rows, and their rows, until none is left.

    Returns:
        Which rows stay, ``[n_rows]``, and which rows of the users' and the items' features, None without features.
    """
    sides = (users, items)
    stays = np.ones(len(users.codes), dtype=bool)
    features = [None if side.features is None else np.ones(len(side.features), dtype=bool) for side in sides]
    while True:
        changed = False
        alive = stays.copy()
        for number, side in enumerate(sides):
            # a side without an interval is not counted at all, and so loses nothing but what the other side takes
            if side.allowed is None:
                continue
            counts = np.bincount(side.codes[alive], minlength=side.n)
            banned = (counts > 0) & ~side.allowed(counts)
            kept = features[number]
            if side.features is not None and kept is not None:
                few = np.append(counts, 0)[side.features] < side.least
                few &= kept
                banned[side.features[few & (side.features >= 0)]] = True
                kept &= ~few & ~np.append(banned, False)[side.features]
                changed |= bool(few.any())
            changed |= bool(banned.any())
            stays &= ~banned[side.codes]
        if not changed:
            return stays, features
