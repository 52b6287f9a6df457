"""What was found when the rows of a data set were separated by sign, and which data is refused."""

from __future__ import annotations

from dataclasses import dataclass

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
