"""RecBole's filter by the number of interactions, on arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_signed.convert.cleaning import STAYS, peel

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

    def unfit(self, codes: npt.NDArray[Any]) -> BoolArray:
        """Tell who is to go, ``[n]``, given the users or items of the rows that are left."""
        if self.allowed is None:  # nothing is counted: it loses nothing but what the other side takes
            return np.zeros(self.n, dtype=bool)
        counts = np.bincount(codes, minlength=self.n)
        banned = (counts > 0) & ~self.allowed(counts)
        if self.features is not None:
            banned[self.features[self.features >= 0]] |= counts[self.features[self.features >= 0]] < self.least
        return banned

    def features_stay(self, codes: npt.NDArray[Any], gone: BoolArray) -> BoolArray | None:
        """Tell which rows of features stay, ``[n_features]``, once ``gone [n]`` are left out."""
        if self.features is None or self.allowed is None:
            return None if self.features is None else np.ones(len(self.features), dtype=bool)
        counts = np.append(np.bincount(codes, minlength=self.n), 0)
        return (counts[self.features] >= self.least) & ~np.append(gone, False)[self.features]


def core(users: Side, items: Side) -> tuple[BoolArray, list[BoolArray | None]]:
    """Drop users and items with an unfit number of rows, and their rows, until none is left.

    Returns:
        Which rows stay, ``[n_rows]``, and which rows of the users' and the items' features, None without features.
    """
    *turns, _ = peel([users.codes, items.codes], (users.n, items.n), [lambda u, i: (users.unfit(u), items.unfit(i))])
    gone = [turn < STAYS for turn in turns]
    stays = ~(gone[0][users.codes] | gone[1][items.codes])
    return stays, [side.features_stay(side.codes[stays], each) for side, each in zip((users, items), gone, strict=True)]
