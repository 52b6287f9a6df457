"""Sampling of unseen items: never a seen one, in the wanted proportions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_signed.data import negative_sampling as module
from recbole_signed.data.negative_sampling import UnseenItems
from recbole_signed.errors import UsageError

N_USERS, N_ITEMS = 6, 9
PAIRS = st.sets(st.tuples(st.integers(0, N_USERS - 1), st.integers(1, N_ITEMS - 1)), max_size=40)


def columns(pairs: set[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    array = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


@given(PAIRS, st.booleans(), st.integers(0, 2**32 - 1))
def test_no_seen_item_and_no_padding_is_drawn(pairs: set[tuple[int, int]], weighted: bool, seed: int) -> None:
    weights = np.arange(N_ITEMS, dtype=float) if weighted else None
    unseen = UnseenItems.from_pairs(*columns(pairs), N_ITEMS, weights)
    open_users = [user for user in range(N_USERS) if sum(u == user for u, _ in pairs) < N_ITEMS - 1]
    users = np.array(open_users * 3, dtype=np.int64)
    drawn = unseen.draw(users, 4, np.random.default_rng(seed))
    assert drawn.shape == (len(users), 4)
    assert drawn.size == 0 or (drawn.min() >= 1 and drawn.max() < N_ITEMS)
    assert not any((int(user), int(item)) in pairs for user, row in zip(users, drawn, strict=True) for item in row)


@pytest.mark.parametrize("weights", [None, np.array([5.0, 1, 2, 3, 4, 0, 6, 7, 8])])
def test_proportions_are_those_of_the_weights(weights: np.ndarray | None) -> None:
    unseen = UnseenItems.from_pairs(np.array([0, 0, 0]), np.array([1, 2, 8]), N_ITEMS, weights)
    drawn = unseen.draw(np.zeros(1000, dtype=np.int64), 40, np.random.default_rng(0)).ravel()
    wanted = np.ones(N_ITEMS) if weights is None else weights.copy()
    wanted[[0, 1, 2, 8]] = 0.0
    np.testing.assert_allclose(np.bincount(drawn, minlength=N_ITEMS) / 40_000, wanted / wanted.sum(), atol=0.01)


@given(
    st.lists(st.sampled_from([0.0, 1e-9, 0.3, 1.0, 1e6]), min_size=2, max_size=400).filter(lambda each: any(each[1:])),
    st.integers(0, 2**32 - 1),
)
def test_draws_are_those_of_a_search_in_the_running_sum(weights: list[float], seed: int) -> None:
    """Also where most items have no weight, or nearly none."""
    none = np.zeros(0, dtype=np.int64)
    unseen = UnseenItems.from_pairs(none, none, len(weights), np.array(weights))
    running = np.cumsum([0.0, *weights[1:]])
    part = np.random.default_rng(seed).random(60)
    expected = np.searchsorted(running, np.minimum(part * running[-1], np.nextafter(running[-1], 0.0)), side="right")
    assert (
        unseen.draw(np.ones(20, dtype=np.int64), 3, np.random.default_rng(seed)).ravel().tolist() == expected.tolist()
    )


@given(PAIRS, st.integers(0, 2**32 - 1))
def test_a_search_finds_what_the_table_does(pairs: set[tuple[int, int]], seed: int) -> None:
    users = np.repeat(np.arange(N_USERS + 3), N_ITEMS)
    items = np.tile(np.arange(N_ITEMS), N_USERS + 3)
    table, search = (UnseenItems.from_pairs(*columns(pairs), N_ITEMS) for _ in range(2))
    found = table._seen(users, items)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_BITS", 0)
        assert search._seen(users, items).tolist() == found.tolist()
    wanted = [(int(user), int(item)) in pairs for user, item in zip(users, items, strict=True)]
    assert found.tolist() == wanted


def test_the_last_open_item_is_found_among_a_hundred_thousand() -> None:
    items = np.delete(np.arange(1, 100_000), 77_776)
    unseen = UnseenItems.from_pairs(np.zeros(len(items), dtype=np.int64), items, 100_000)
    assert (unseen.draw(np.zeros(3, dtype=np.int64), 2, np.random.default_rng(1)) == 77_777).all()


def test_who_has_seen_everything_is_named() -> None:
    unseen = UnseenItems.from_pairs(np.full(8, 3), np.arange(1, 9), N_ITEMS)
    with pytest.raises(UsageError, match="user with the id 3 has an edge to every item"):
        unseen.draw(np.array([3]), 1, np.random.default_rng(0))


def test_who_has_seen_everything_that_can_be_drawn_is_known_before() -> None:
    """An item without a weight, and the padding item, can't be."""
    users, items = np.repeat([0, 1, 2], [8, 7, 6]), np.concatenate([np.arange(1, 9), np.arange(1, 8), np.arange(1, 7)])
    for last, wanted in ((1.0, [False, True, True, True]), (0.0, [False, False, True, True])):
        weights = np.array([1.0, 1, 1, 1, 1, 1, 1, 1, last])
        for each in (weights, None) if last else (weights,):
            unseen = UnseenItems.from_pairs(users, items, N_ITEMS, each)
            assert unseen.can_draw(np.array([0, 1, 2, 5])).tolist() == wanted


@pytest.mark.parametrize("weights", [np.zeros(9), np.full(9, -1.0), np.full(9, np.nan)])
def test_useless_weights_are_refused(weights: np.ndarray) -> None:
    with pytest.raises(UsageError, match="must be finite"):
        UnseenItems.from_pairs(np.array([0]), np.array([1]), N_ITEMS, weights)
