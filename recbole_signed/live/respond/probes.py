"""What the audit of dislikes keeps of each user that it probes."""

from __future__ import annotations

from dataclasses import dataclass

N_CLUSTER = 50
"""Nearest items of a dislike, and the places of the ranking that are searched for them."""
DISLIKES = (1, 3, 10)
"""Dislikes of one kind after which the list is looked at."""
NEUTRAL = (10, 50, 200)
"""Neutral events after a dislike after which the list is looked at."""

Shown = tuple[int, int]
"""How many similar items are shown without and with the dislikes."""


@dataclass(frozen=True)
class Probes:
    """What came of one user's probes."""

    gone: bool
    """The disliked item is no longer shown."""
    dislikes: list[Shown]
    """After each number of :data:`DISLIKES`; fewer where the list has no more of the kind."""
    falling: float
    """Share of the similar items that lose places among all other items; one that keeps its place counts half, so that
    a list that does not react has .5."""
    more_fall: float
    """1 where more of them fall than rise, 0 where more rise, else .5."""
    cluster: Shown
    """Items of the cluster among the first :data:`N_CLUSTER`."""
    far_lost: float
    """Share of the list that was lost though it is outside the cluster."""
    liked: Shown
    """Of the list before, what is not similar, and nearer to a like of the user than to the dislike."""
    overlap_dislike: float
    """Rank-biased overlap of the lists before and after a dislike, the similar items left out."""
    likes: list[Shown]
    """After each number of :data:`NEUTRAL` likes of items far from the dislike."""
    liked_again: Shown | None
    """After a like of the nearest similar item; None where there is none."""
    views: list[Shown]
    overlap_like: float | None
    """That of a like of another kind; None where the catalogue has no such item."""
    near_like_after: int | None
    """Items like that one that are shown then."""
    restored: bool
    """After each step was taken back, the list was what it had been."""
    exact: bool
    """All scores were, bit by bit; a learner that corrects an inverse leaves rounding (SignedEASE)."""
    milliseconds: float
    """From a dislike to the list that reflects it."""
