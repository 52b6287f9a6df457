"""What fewer disliked items may cost: the strongest verdicts whose metric on validation is near enough to the best."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection
from dataclasses import replace
from logging import getLogger
from typing import Any

from recbole_signed.ssf.settings import FilterSettings
from recbole_signed.ssf.shortlist import Candidate
from recbole_signed.ssf.validation import Validation

STRENGTHS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.2, 0.15, 0.12, 0.1, 0.05)
"""What is tried of the personal verdict's strength, the strongest first."""
AVERSIONS = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
"""What is tried of the dislike aversion above the one that is best."""
CELLS = 100_000_000
"""Scores of all users of a validation that is chosen on, about."""
LEAST_USERS = 300

CandidateAt = Callable[[FilterSettings], Candidate]
"""Gives the scoring of a model at some settings."""


def spend(
    at: CandidateAt,
    validation: Validation,
    start: FilterSettings,
    price: float,
    timed: bool,
    fixed: Collection[str] = (),
) -> FilterSettings:
    """Return settings with the strongest verdicts whose metric is at most ``price`` of it below that without."""
    # the personal verdict comes first, where timed dislikes tell what a new one costs, and the aversion has the rest;
    # with any price the strength is the least of STRENGTHS or more, as a dislike must lift nothing near it; a metric
    # that counts dislikes has chosen, and nothing is spent

    def value(**changes: Any) -> float:
        return float(validation.values([at(replace(start, **changes))]).mean())

    best, strength, aversion = value(dislike_strength=0.0), start.dislike_strength, start.dislike_aversion
    least = best - price * abs(best)
    if timed and "dislike_strength" not in fixed:
        for strength in STRENGTHS:
            found = value(dislike_strength=strength)
            if found >= least:
                break
        else:
            if price:
                least = found - 0.5 * price * abs(best)
            else:
                strength = 0.0
    if "dislike_aversion" not in fixed and not validation.gamma:
        stronger = [each for each in AVERSIONS if each > start.dislike_aversion]

        def too_dear(each: float) -> bool:
            return value(dislike_strength=strength, dislike_aversion=each) < least

        aversion = [aversion, *stronger][bisect_left(stronger, True, key=too_dear)]
    if not strength and "dislike_strength" not in fixed:
        also = "" if aversion else ", and what many dislike is not held back"
        getLogger().warning(
            f"A dislike lowers nothing that is near to it here{also}: on validation that costs more than "
            f"accuracy_price ({price:g}) allows; set dislike_strength."
        )
    return replace(start, dislike_strength=strength, dislike_aversion=aversion)
