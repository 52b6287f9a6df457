"""Edges against a slow reference that sorts all events of a pair and walks through them."""

import threading
from typing import Any

import numpy as np
import pytest
from edge_streams import Stream
from hypothesis import given, settings
from hypothesis import strategies as st
from state_hashes import edges_hash

from recbole_signed.counts import RecentCounts
from recbole_signed.live import LIKE
from recbole_signed.live.events import ABSENT, DISLIKE, FORGET_USER, SKIP, UNDISLIKE, UNLIKE, VIEW, sign_of
from recbole_signed.live.store import edges as edges_module
from recbole_signed.live.store.edge_views import LogBatch
from recbole_signed.live.store.edges import EdgeState, FrozenEdges

N_USERS, N_ITEMS = 6, 7
Row = tuple[int, int, int, int]  # user, item, kind, time
pairs = st.tuples(st.integers(1, N_USERS - 1), st.integers(1, N_ITEMS - 1), st.integers(LIKE, UNDISLIKE))


def log_batch(rows: list[Row], first: int = 1) -> LogBatch:
    columns = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    seq = np.arange(first, first + len(rows))
    return LogBatch(first, first + len(rows) - 1, N_USERS, N_ITEMS, seq, *columns, np.full(len(rows), np.nan))


def reference(rows: list[Row]) -> dict[tuple[int, int], tuple[int, int]]:
    """Kind and time of each visible pair, after rows given in the order of their seq."""
    explicit: dict[tuple[int, int], tuple[int, int]] = {}
    neutral: dict[tuple[int, int], tuple[int, int]] = {}
    for user, item, kind, time in sorted(rows, key=lambda row: row[3]):  # stable
        pair = (user, item)
        if kind in (LIKE, DISLIKE):
            explicit[pair] = (kind, time)
        elif kind in (SKIP, VIEW):
            neutral[pair] = (kind, time)
        elif explicit.get(pair, (ABSENT,))[0] == {UNLIKE: LIKE, UNDISLIKE: DISLIKE}[kind]:
            del explicit[pair]
    return {**neutral, **explicit}


def check(state: EdgeState, expected: dict[tuple[int, int], tuple[int, int]]) -> None:
    arrays = state.export()
    found = {
        (u, i): (k, t)
        for u, i, k, t in zip(
            *(column.tolist() for column in (arrays.user, arrays.item, arrays.kind, arrays.timestamp)), strict=True
        )
    }
    assert found == expected
    assert list(found) == sorted(found)
    assert len(state) == len(expected)
    for user in range(state.n_users):
        row = state.of_user(user)
        got = list(zip(row.ids.tolist(), row.kind.tolist(), row.timestamp.tolist(), strict=True))
        assert got == sorted((i, k, t) for (u, i), (k, t) in expected.items() if u == user)
        assert state.user_likes[user] == sum(k == LIKE for _, k, _ in got)
        assert state.user_dislikes[user] == sum(k == DISLIKE for _, k, _ in got)
    for item in range(state.n_items):
        row = state.of_item(item)
        got_item = list(zip(row.ids.tolist(), row.kind.tolist(), strict=True))
        assert got_item == sorted((u, k) for (u, i), (k, _) in expected.items() if i == item)
        assert state.item_likes[item] == sum(k == LIKE for _, k in got_item)
        assert state.item_dislikes[item] == sum(k == DISLIKE for _, k in got_item)


@st.composite
def streams(draw: st.DrawFn) -> list[list[Row]]:
    """Draw batches, some of which forget a user, of whom they hold nothing else then."""
    rows = [(*pair, draw(st.integers(0, 12))) for pair in draw(st.lists(pairs, max_size=60))]
    cuts = sorted(draw(st.lists(st.integers(0, len(rows)), max_size=6)))
    batches = [rows[a:b] for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    gone = draw(st.lists(st.none() | st.integers(1, N_USERS - 1), min_size=len(batches), max_size=len(batches)))
    return [
        batch if user is None else [(user, 0, FORGET_USER, 0), *(row for row in batch if row[0] != user)]
        for batch, user in zip(batches, gone, strict=True)
    ]


HALF_LIFE = 4 / 86_400_000  # in days: four units of the times here
RECENT: list[dict[str, Any]] = [{"likes": likes, "since": since} for likes in (False, True) for since in (-np.inf, 4.0)]


@given(streams(), st.sampled_from([-1.0, 1e6]))
@settings(max_examples=80)
def test_edges_are_those_of_the_reference_however_the_stream_is_cut(batches: list[list[Row]], share: float) -> None:
    """With what has changed, recent verdicts, users who are forgotten, and what is saved and read again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edges_module, "_FEW", share)  # below 0: all rows are always made again
        patch.setattr(edges_module, "_MANY", share)
        state = EdgeState(N_USERS, N_ITEMS)
        for each in RECENT:
            state.recent(HALF_LIFE, **each)  # of no edge yet; what follows is added and taken away
        seen: list[Row] = []
        for number, rows in enumerate(batches):
            before = reference(seen)
            changes = state.apply(log_batch(rows, 100 * number))
            gone = {row[0] for row in rows if row[2] == FORGET_USER}
            told = [row for row in rows if row[2] != FORGET_USER]
            seen = [row for row in seen if row[0] not in gone] + told
            after = reference(seen)
            columns = changes.user, changes.item, changes.old, changes.new
            net = {(u, i): (old, new) for u, i, old, new in zip(*(each.tolist() for each in columns), strict=True)}
            assert list(net) == sorted({row[:2] for row in told} | {pair for pair in before if pair[0] in gone})
            for pair, change in net.items():
                assert change == (before.get(pair, (ABSENT,))[0], after.get(pair, (ABSENT,))[0])
            assert changes.forgotten.tolist() == sorted(gone)
            assert changes.users.tolist() == sorted({row[0] for row in rows})
            assert changes.items.tolist() == sorted({item for _, item in net})
            check(state, after)
            _, item, like, time = state.export().verdicts
            for each in RECENT:
                counted = like | (not each["likes"])
                wanted = RecentCounts.from_events(
                    item[counted], time[counted], HALF_LIFE, N_ITEMS, each["since"]
                ).counts
                np.testing.assert_allclose(state.recent(HALF_LIFE, **each).counts, wanted, rtol=1e-6, atol=1e-9)
        again, without = EdgeState.from_tensors(state.to_tensors(), state.n_items), EdgeState(N_USERS, N_ITEMS)
        without.apply(log_batch(seen))
        check(again, reference(seen))
        assert edges_hash(again) == edges_hash(state) == edges_hash(without), "of who was forgotten nothing is left"


@given(st.lists(pairs, max_size=40), st.randoms(use_true_random=False))
def test_order_of_delivery_does_not_matter_where_times_differ(chosen: list[tuple[int, int, int]], random) -> None:  # type: ignore[no-untyped-def]
    rows = [(*pair, time) for time, pair in enumerate(chosen)]
    shuffled = random.sample(rows, len(rows))
    one, other = EdgeState(N_USERS, N_ITEMS), EdgeState(N_USERS, N_ITEMS)
    for row in rows:
        one.apply(log_batch([row]))
    for row in shuffled:
        other.apply(log_batch([row]))
    assert edges_hash(one) == edges_hash(other)


def test_long_rows_and_a_growing_arena() -> None:
    rng, state = np.random.default_rng(0), EdgeState()
    seen: dict[tuple[int, int], int] = {}
    for step in range(400):
        n = int(rng.integers(1, 12))
        user, item = rng.integers(1, 30 + step // 4, n), (rng.pareto(1.0, n) * 20).astype(int) + 1
        kind, none = rng.choice([LIKE, DISLIKE, VIEW], n), np.full(n, np.nan)
        state.apply(LogBatch(0, 0, user.max() + 1, item.max() + 1, none, user, item, kind, np.full(n, step), none))
        for u, i, k in zip(user.tolist(), item.tolist(), kind.tolist(), strict=True):
            if k != VIEW or seen.get((u, i), VIEW) == VIEW:
                seen[u, i] = k
    arrays = state.export()
    found = dict(zip(zip(arrays.user.tolist(), arrays.item.tolist(), strict=True), arrays.kind.tolist(), strict=True))
    assert found == seen
    assert arrays.likes.shape[1] == state.item_likes.sum() == sum(k == LIKE for k in seen.values())
    assert arrays.dislikes.shape[1] == state.user_dislikes.sum()
    assert arrays.neutral.shape[1] == sum(k == VIEW for k in seen.values())
    np.testing.assert_array_equal(sign_of(np.array([LIKE, DISLIKE, SKIP, VIEW])), [1, -1, 0, 0])


def test_counts_rows_and_exports(edges: EdgeState) -> None:
    with pytest.raises(ValueError, match="read-only"):
        EdgeState(3, 3).item_likes[0] = 1
    rows = edges.of_users(np.arange(40)).verdicts
    assert set(rows.kind.tolist()) == {LIKE, DISLIKE}
    np.testing.assert_array_equal(np.diff(rows.indptr), edges.user_likes + edges.user_dislikes)
    rng = np.random.default_rng(7)
    for n, many, one in ((40, edges.of_users, edges.of_user), (30, edges.of_items, edges.of_item)):
        nodes = rng.integers(0, n, 60)
        rows = many(nodes)
        assert len(rows.indptr) == len(nodes) + 1
        for place, node in enumerate(nodes.tolist()):
            here = slice(rows.indptr[place], rows.indptr[place + 1])
            np.testing.assert_array_equal(rows.ids[here], one(node).ids)
            np.testing.assert_array_equal(rows.kind[here], one(node).kind)
        assert many(np.zeros(0, dtype=np.int64)).indptr.tolist() == [0]
    wanted, found = edges.export(), edges.freeze(by_item=True).arrays(threading.RLock())
    for name in ("user", "item", "kind"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
        assert getattr(found, name).dtype == getattr(wanted, name).dtype
    assert not len(found.timestamp)


def test_frozen_edges_are_those_of_their_moment() -> None:
    """Whatever changes while they are copied: rows that grow, move, shrink, vanish, or are all made again."""
    rng, state = np.random.default_rng(3), EdgeState()
    seq = 0

    def apply(n: int, users: int, kinds: list[int]) -> None:
        nonlocal seq
        kind = rng.choice(kinds, n)
        user, item = rng.integers(1, users, n), rng.integers(1, 40, n)
        gone = kind == FORGET_USER
        lost = np.isin(user, user[gone]) & ~gone
        keep = ~lost
        columns = [each[keep] for each in (np.arange(n) + seq, user, np.where(gone, 0, item), kind, np.arange(n) + seq)]
        seq += n
        state.apply(LogBatch(seq, seq + n, users, 40, *columns, np.zeros(keep.sum())))

    apply(400, 30, [LIKE, DISLIKE, UNLIKE, SKIP])
    held: list[tuple[dict[str, np.ndarray], FrozenEdges]] = []
    for sizes in ([(5, 30)] * 20, [(300, 60)], [(2000, 60)], [(1, 200)] * 30, [(1, 200)] * 60, [(1, 9)] * 60, []):
        if len(held) == 2 or not sizes:  # of two moments at once, in the order in which they were
            for expected, frozen in held:
                found = frozen.tensors(threading.RLock())
                assert found.keys() == expected.keys()
                for name, each in expected.items():
                    np.testing.assert_array_equal(found[name], each)
                again = state.to_tensors()
                assert any(not np.array_equal(again[name], expected[name]) for name in again)
            held = []
        held.append((state.to_tensors(), state.freeze()))
        for n, users in sizes:
            apply(n, users, [LIKE, DISLIKE, UNLIKE, UNDISLIKE, SKIP, FORGET_USER])


def test_recent_verdicts_are_counted_again_where_nearly_all_of_them_were_taken_back() -> None:
    """What is left of the others would be rounding: they are a hundred half-lives older."""
    day, state = 86_400_000, EdgeState(N_USERS, N_ITEMS)
    state.apply(log_batch([(1, 1, LIKE, 0), (1, 2, DISLIKE, day)]))
    wanted = state.recent(1.0).counts
    state.apply(log_batch([(2, 3, LIKE, 100 * day)], 3))
    assert state.recent(1.0).counts[3] > 0
    state.apply(log_batch([(2, 3, UNLIKE, 100 * day)], 4))
    np.testing.assert_allclose(state.recent(1.0).counts, wanted, rtol=1e-9)


# ---- rows of many nodes at once are those of each of them ----


@pytest.fixture(params=[0, 1])
def edges(request: pytest.FixtureRequest) -> EdgeState:
    """Edges after batches that move rows about, take pairs back and leave nodes without any."""
    rng, stream = np.random.default_rng(request.param), Stream(40, 30, [(1, 1, VIEW)])
    for size in (400, *[3] * 150):
        kinds = rng.choice([LIKE, DISLIKE, SKIP, VIEW, UNLIKE, UNDISLIKE], size)
        columns = rng.integers(1, 39, size), rng.integers(1, 29, size), kinds
        stream.take(list(zip(*(each.tolist() for each in columns), strict=True)))
    return stream.edges
