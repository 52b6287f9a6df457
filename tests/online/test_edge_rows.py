"""Rows of many nodes at once are those of each of them."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE, SKIP, UNDISLIKE, UNLIKE, VIEW
from recbole_signed.live.store.edge_views import LogBatch
from recbole_signed.live.store.edges import EdgeState

KINDS = [LIKE, DISLIKE, SKIP, VIEW, UNLIKE, UNDISLIKE]


@pytest.fixture(params=[0, 1])
def edges(request: pytest.FixtureRequest) -> EdgeState:
    """Edges after batches that move rows about, take pairs back and leave nodes without any."""
    rng = np.random.default_rng(request.param)
    state, seq = EdgeState(40, 30), 0
    for size in (400, *[3] * 150):
        numbers = np.arange(seq, seq + size)
        user, item = rng.integers(1, 39, size), rng.integers(1, 29, size)
        kind = rng.choice(KINDS, size)
        seq += size
        values = np.full(size, np.nan)
        user, item, kind = user.astype(np.int32), item.astype(np.int32), kind.astype(np.int8)
        state.apply(LogBatch(seq - size, seq - 1, 40, 30, numbers, user, item, kind, numbers, values))
    return state


def test_rows_of_many_are_those_of_each(edges: EdgeState) -> None:
    rng = np.random.default_rng(7)
    for n, many, one in ((40, edges.of_users, edges.of_user), (30, edges.of_items, edges.of_item)):
        nodes = rng.integers(0, n, 60)
        rows = many(nodes)
        assert len(rows.indptr) == len(nodes) + 1
        for place, node in enumerate(nodes.tolist()):
            here = slice(rows.indptr[place], rows.indptr[place + 1])
            np.testing.assert_array_equal(rows.ids[here], one(node).ids)
            np.testing.assert_array_equal(rows.kind[here], one(node).kind)
        none = many(np.zeros(0, dtype=np.int64))
        assert none.indptr.tolist() == [0]


def test_verdicts_are_likes_and_dislikes(edges: EdgeState) -> None:
    rows = edges.of_users(np.arange(40)).verdicts
    assert set(rows.kind.tolist()) == {LIKE, DISLIKE}
    np.testing.assert_array_equal(np.diff(rows.indptr), edges.user_likes + edges.user_dislikes)


def test_an_export_is_all_rows_in_order(edges: EdgeState) -> None:
    found = edges.export()
    rows = [edges.of_user(user) for user in range(40)]
    np.testing.assert_array_equal(found.user, np.repeat(np.arange(40), [len(row.ids) for row in rows]))
    for name in ("ids", "kind", "timestamp"):
        wanted = np.concatenate([getattr(row, name) for row in rows])
        np.testing.assert_array_equal(getattr(found, "item" if name == "ids" else name), wanted)


def test_the_item_side_is_an_export_without_times(edges: EdgeState) -> None:
    wanted, found = edges.export(), edges.freeze(by_item=True).arrays(threading.RLock())
    for name in ("user", "item", "kind"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
        assert getattr(found, name).dtype == getattr(wanted, name).dtype
    assert not len(found.timestamp)
