"""The personal verdict against a slow reference: what is near to a dislike, how much, and since when."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
import scipy.sparse as sp
import verdict_reference as slow
from hypothesis import given, settings
from hypothesis import strategies as st
from verdict_reference import Person

from recbole_signed.graph import personal_verdict
from recbole_signed.graph.personal_verdict import Demotions, Neighbourhoods, Verdicts

N_USERS, N_ITEMS = 6, 11
WIDE = {"NEAR": 10}
SMALL = {"NEAR": 3, "WIDE": 5, "NEWEST": 2, "LONGEST_RUN": 3}
"""Widths that a few items and events exceed."""


def verdicts_of(people: list[Person], seed: int = 0) -> Verdicts:
    """Return the verdicts of users, which are given in any order."""
    rows = [(user, item, like, time) for user, each in enumerate(people) for time, item, like in each.events]
    rows = [rows[place] for place in np.random.default_rng(seed).permutation(len(rows))]
    user, item, like, time = (np.array([row[place] for row in rows], dtype=np.int64) for place in range(4))
    return Verdicts.from_edges(user, item, like.astype(bool), time, len(people))


def demotions_of(people: list[Person], asked: list[int] | None = None) -> Demotions:
    """Return what falls for users, by the likes of all of them."""
    asked = list(range(len(people))) if asked is None else asked
    likes = np.zeros((len(people), N_ITEMS), dtype=np.float32)
    for user, each in enumerate(people):
        likes[user, list(each.likes)] = 1
    common = sp.csr_matrix(likes.T @ likes)

    def near(items: np.ndarray) -> Neighbourhoods:
        return Neighbourhoods.from_common_likes(common[items], likes.sum(0).astype(int), items)

    seen = [place * N_ITEMS + item for place, user in enumerate(asked) for item in people[user].seen]
    verdicts = verdicts_of(people).rows(np.array(asked))
    return Demotions.from_verdicts(verdicts, np.unique(np.array(seen, dtype=np.int64)), near, N_ITEMS)


@pytest.mark.parametrize("widths", [WIDE, SMALL], ids=["wide", "narrow"])
@settings(max_examples=25)
@given(people=slow.populations(N_USERS, N_ITEMS))
def test_what_falls_is_what_loops_find(widths: dict[str, int], people: list[Person]) -> None:
    with patch.multiple(personal_verdict, **widths):
        found = demotions_of(people)
        wanted = [slow.pulls(people, user, N_ITEMS) for user in people]
    pairs = list(zip(found.user.tolist(), found.item.tolist(), strict=True))
    assert pairs == sorted((user, item) for user, each in enumerate(wanted) for item in each)
    for place, (user, item) in enumerate(pairs):
        mine = slice(*found.first[place : place + 2])
        pulled = {event[1]: pull for event, pull in wanted[user][item].items()}
        assert dict(zip(found.dislike[mine].tolist(), found.pull[mine], strict=True)) == pytest.approx(pulled, rel=1e-9)


@settings(max_examples=25)
@given(people=slow.populations(N_USERS, N_ITEMS))
def test_verdicts_are_those_of_loops(people: list[Person]) -> None:
    found = verdicts_of(people)
    order = [(user, *event) for user, each in enumerate(people) for event in each.ordered]
    assert list(zip(found.user.tolist(), found.item.tolist(), found.like.tolist(), strict=True)) == [
        (user, item, like) for user, _, item, like in order
    ]
    for name, of in (("last_run", [each.last_run for each in people]), ("acting", [each.acting() for each in people])):
        marked = {(user, *event) for user, each in enumerate(of) for event in each}
        assert [row in marked for row in order] == getattr(found, name).tolist()
    for leads in (False, True):
        held_back = {(user, *event) for user, each in enumerate(people) for event in each.held_back(leads)}
        assert [row in held_back for row in order] == found.held_back(leads).tolist()
    strengths = {(user, *event): value for user, each in enumerate(people) for event, value in each.strengths().items()}
    np.testing.assert_allclose(found.strengths, [strengths.get(row, 0.0) for row in order])


@settings(max_examples=25)
@given(slow.populations(N_USERS, N_ITEMS), st.lists(st.integers(0, N_USERS - 1), unique=True, min_size=1))
def test_what_falls_for_a_user_does_not_depend_on_who_else_is_asked_for(people: list[Person], asked: list[int]) -> None:
    """To the bit: an offset between users rounded what protects."""
    together = demotions_of(people, asked)
    for place, user in enumerate(asked):
        alone, mine = demotions_of(people, [user]), together.user == place
        np.testing.assert_array_equal(together.item[mine], alone.item)
        for name in ("dislike", "pull"):
            np.testing.assert_array_equal(getattr(together, name)[mine[together.pair]], getattr(alone, name))


def test_protection_is_exact_however_many_users_are_asked_for() -> None:
    """An offset between the pairs of users rounded it, so that a score depended on who else was asked for."""
    user = Person([(1, 1, False), (2, 2, True)], set())
    others = [
        Person([(1, item, True) for item in liked], set())
        for liked in ([1, 2, 3, 4], [1, 3, 5], [2, 3, 5], [2, 4, 5], [4, 5])
    ]
    people = [user, *others]
    alone, many = demotions_of(people, [0]), demotions_of(people, [0] * 3000)
    assert ((alone.pull > 0) & (alone.pull < 0.9)).any()
    np.testing.assert_array_equal(many.pull, np.tile(alone.pull, 3000))


def test_a_long_run_leaves_an_earlier_dislike_in_force() -> None:
    """It counted among the dislikes of the run, so that another dislike raised what the earlier one kept down."""
    for length in (1, 40, 49, 50, 70):
        run = [(10 + place, 2 + place, False) for place in range(length)]
        verdicts = verdicts_of([Person([(1, 1, False), (2, 99, True), *run], set())])
        assert verdicts.strengths[0] == 1
        assert (verdicts.strengths > 0).sum() == 1 + min(length, personal_verdict.LONGEST_RUN)


@settings(max_examples=25)
@given(slow.populations(N_USERS, N_ITEMS), st.data())
def test_another_dislike_takes_no_strength_and_a_later_like_protects(people: list[Person], data: st.DataObject) -> None:
    user = people[0]
    fresh = [item for item in range(1, N_ITEMS) if item not in user.seen]
    if not fresh:
        return
    item = data.draw(st.sampled_from(fresh))
    before, old = verdicts_of(people), user.ordered
    disliking = [Person([*user.events, (20, item, False)], user.views), *people[1:]]
    after = verdicts_of(disliking)
    np.testing.assert_array_equal(after.strengths[: len(old)], before.strengths[: len(old)])
    assert after.strengths[len(old)] == 1
    likers = {other for person in people for other in person.likes if item in person.likes}
    falls = set(demotions_of(disliking, [0]).item.tolist())
    assert falls >= set(slow.kappa(disliking, disliking[0], item, N_ITEMS))
    assert falls - set(demotions_of(people, [0]).item.tolist()) <= likers


def test_of_no_users_and_no_verdicts_nothing_falls() -> None:
    assert not len(demotions_of([Person([], set())]))
    assert not len(demotions_of([Person([(1, 1, False)], set())]))
    assert not len(demotions_of([Person([(1, 1, False)], set())], []))
