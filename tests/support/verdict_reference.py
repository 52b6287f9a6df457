"""The personal verdict by its docstring: plain loops over users, events and items."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from recbole_signed.graph import personal_verdict as constants

Event = tuple[int, int, bool]
"""Time, 0 where it is not known, item, and whether it is a like."""


@dataclass
class Person:
    """One user: verdicts, and items seen without one."""

    events: list[Event]
    views: set[int]

    @property
    def likes(self) -> set[int]:
        return {item for _, item, like in self.events if like}

    @property
    def seen(self) -> set[int]:
        return self.views | {item for _, item, _ in self.events}

    @property
    def ordered(self) -> list[Event]:
        """The verdicts in order of time, likes last among equal times."""
        return sorted(self.events, key=lambda event: (event[0], event[2], event[1]))

    @property
    def last_run(self) -> list[Event]:
        """The dislikes that are later than all likes."""
        found = []
        for event in reversed(self.ordered):
            if event[2] or not event[0]:
                break
            found.append(event)
        return found

    def held_back(self, leads: bool) -> list[Event]:
        """Return the last run, but for the first: of several, where it does not lead."""
        return self.last_run[:-1] or ([] if leads else self.last_run)

    def strengths(self) -> dict[Event, float]:
        """What each dislike counts that acts."""
        events, run = self.ordered, self.last_run
        dislikes = [event for event in reversed(events) if not event[2]]
        closed = [event for event in dislikes if event not in run]
        found = {}
        for event in [*run[: constants.LONGEST_RUN], *closed[: constants.NEWEST]]:
            later, ended, inside = events[events.index(event) + 1 :], 0, False
            for place, other in enumerate(later):
                begins = not other[2] and (later[place - 1][2] if place else False)
                inside = inside or begins
                if inside and other[2]:
                    ended, inside = ended + 1, False
            fade = max(2 ** (-ended / constants.HALF_LIFE), constants.FLOOR)
            found[event] = fade if event[0] else constants.FLOOR
        return found

    def acting(self) -> list[Event]:
        """The dislikes of a known time that act, and the last run."""
        return [*self.last_run, *(event for event in self.strengths() if event[0])]

    def protecting(self) -> list[Event]:
        return [event for event in reversed(self.ordered) if event[2]][: constants.NEWEST]


def kappa(people: list[Person], user: Person, item: int, n_items: int) -> dict[int, float]:
    """Return how near the items are to one that are so, among those that a user has no edge to; a like passes over
    none that are disliked."""
    passed = user.seen
    if item in user.likes:
        passed = passed - {other for _, other, like in user.events if not like}
    likes = [each.likes for each in people]
    found = []
    for other in range(1, n_items):
        common = sum({item, other} <= each for each in likes)
        if other != item and common:
            found.append((-common / np.sqrt(sum(other in each for each in likes)), other))
    near = [(value, other) for value, other in sorted(found)[: constants.WIDE] if other not in passed]
    return {other: float(np.sqrt(value / near[0][0])) for value, other in near[: constants.NEAR]}


def pulls(people: list[Person], user: Person, n_items: int) -> dict[int, dict[Event, float]]:
    """Return what each dislike counts for each item that it is near to, but for how far it stood out."""
    order, found = user.ordered, dict[int, dict[Event, float]]()
    protection = [(order.index(like), kappa(people, user, like[1], n_items)) for like in user.protecting()]
    for event, fade in user.strengths().items():
        for item, near in kappa(people, user, event[1], n_items).items():
            shield = max((each.get(item, 0.0) for place, each in protection if place > order.index(event)), default=0.0)
            if (pull := fade * near * (1 - shield)) > 0:
                found.setdefault(item, {})[event] = pull
    return found


def ranked(
    people: list[Person],
    user: Person,
    scores_of: Callable[[Iterable[Event]], np.ndarray],
    neutral: np.ndarray,
    strength: float,
    leads: bool = False,
) -> np.ndarray:
    """Return what a user is ranked by, from what a model scores for any verdicts of the user."""
    left_out = user.held_back(leads), user.last_run, user.acting()
    score, alone, calm = (scores_of([event for event in user.events if event not in left]) for left in left_out)
    found, height = score.copy(), alone - neutral
    for item, pulled in pulls(people, user, len(score)).items():
        base = min(score[item], alone[item], calm[item])
        near = 0.0
        for event, pull in pulled.items():
            stood = height[event[1]] / height[item] / constants.STOOD if height[item] > 0 else 1.0
            near = max(near, pull * max(min(max(stood, 0.0), 1.0) ** 2, constants.LEAST_STOOD))
        found[item] = base - strength * near * max(0.0, base - neutral[item])
    return found


@st.composite
def populations(draw: st.DrawFn, n_users: int, n_items: int) -> list[Person]:
    """Draw users with likes, dislikes and views, many at equal times or at none."""
    found = []
    for _ in range(n_users):
        items = draw(st.lists(st.integers(1, n_items - 1), unique=True, max_size=n_items - 2))
        kinds = draw(st.lists(st.sampled_from("lldddv"), min_size=len(items), max_size=len(items)))
        times = draw(st.lists(st.integers(0, 9), min_size=len(items), max_size=len(items)))
        rows = list(zip(times, items, kinds, strict=True))
        events = [(time, item, kind == "l") for time, item, kind in rows if kind != "v"]
        found.append(Person(events, {item for _, item, kind in rows if kind == "v"}))
    return found
