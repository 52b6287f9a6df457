"""The sign of each row, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass

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


def signs_of(frame: pd.DataFrame, settings: SignedSettings, name: str) -> npt.NDArray[np.int8]:
    """Return 1 (like), -1 (dislike) or 0 (neutral) for each row of the data set ``name``, ``[n_rows]``.

    Raises:
        UsageError: the sign column holds something else, or the rule's conditions hold both on a row.
    """
    if settings.sign_rule is not None:
        return settings.sign_rule.apply({column: frame[column].to_numpy() for column in settings.sign_rule.columns})
    sign = frame[settings.sign_field].to_numpy()
    wrong = np.flatnonzero(~np.isin(sign, (-1.0, 0.0, 1.0)))
    if len(wrong):
        raise UsageError(
            f"the sign column '{settings.sign_field}' of '{name}' holds {sign[wrong[0]]:g} in row {wrong[0] + 1}; it "
            "must hold -1 (dislike), 0 (neutral) or 1 (like)."
        )
    return sign.astype(np.int8)


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
            f"after sign_rule ({settings.sign_rule}) no user of '{name}' has both a like and a dislike; mend the rule, "
            "or leave it out to train on all rows as likes."
        )
