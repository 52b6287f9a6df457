"""The signed core against its definition, found by trying."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recbole_signed.convert.cleaning import K_CORE, MIN_LIKES, signed_core

rows = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from([-1, 0, 1])), max_size=40)


def by_definition(events: list[tuple[int, int, int]], min_likes: int, k: int) -> list[bool]:
    """Leave out whoever has too little, one at a time, until nobody has: which rows stay."""
    users, items = {u for u, _, _ in events}, {i for _, i, _ in events}
    while True:
        inside = [(u, i, s) for u, i, s in events if u in users and i in items]
        for user in users:
            likes = {i for u, i, s in inside if u == user and s == 1}
            both = {i for u, i, s in inside if u == user and s != 0}
            if len(likes) < min_likes or len(both) < k:
                users = users - {user}
                break
        else:
            for item in items:
                if len({u for u, i, s in inside if i == item and s != 0}) < k:
                    items = items - {item}
                    break
            else:
                return [u in users and i in items for u, i, _ in events]


@given(events=rows, min_likes=st.integers(0, 3), k=st.integers(0, 3))
def test_core_against_its_definition(events: list[tuple[int, int, int]], min_likes: int, k: int) -> None:
    user, item, sign = (
        (np.array(column, dtype=np.int32) for column in zip(*events, strict=True))
        if events
        else (np.empty(0, np.int32) for _ in range(3))
    )
    core = signed_core(user, item, sign.astype(np.int8), (6, 6), min_likes=min_likes, k=k)
    assert (core.step_of_row == 0).tolist() == by_definition(events, min_likes, k)
    if not min_likes:
        assert not (core.step_of_row == MIN_LIKES).any()
    if not k:
        assert not (core.step_of_row == K_CORE).any()


def test_it_goes_on_until_both_conditions_hold() -> None:
    # a chain: each user has two items, the last item one user; a 2-core takes all of it, one link a round
    user = np.arange(100).repeat(2)
    item = (np.arange(100)[:, None] + np.array([0, 1])).ravel()
    core = signed_core(user, item, np.ones(200, np.int8), (100, 101), k=2)
    assert (core.step_of_row == K_CORE).all()
    assert core.rounds > 40
    # closed to a ring nothing has to go
    core = signed_core(user, item % 100, np.ones(200, np.int8), (100, 100), k=2)
    assert not core.step_of_row.any()
    assert core.rounds == 1


def test_repeated_rows_and_neutral_rows_add_no_degree() -> None:
    user, item = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 0, 1])
    sign = np.array([1, 1, 0, 1, -1], np.int8)
    assert signed_core(user, item, sign, (2, 2), k=2).step_of_row.tolist() == [2, 2, 2, 2, 2]
    assert signed_core(user, item, sign, (2, 2), min_likes=1).step_of_row.tolist() == [0] * 5
    assert signed_core(user, item, sign, (2, 2), min_likes=2).step_of_row.tolist() == [1] * 5
