"""Counts of pairs and of exposures against a loop over events, however the events come in, and under a stream."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict

import edge_streams as streams
import numpy as np
import pytest
import scipy.sparse as sp
from edge_streams import Stream
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_signed import counts as counting
from recbole_signed.counts import DAY, PairCounts, RecentCounts, limit_of
from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE, FORGET_USER
from recbole_signed.live.store import edges as edges_module
from recbole_signed.live.store.edges import EdgeState
from recbole_signed.sequences import Sequences

N_USERS, N_ITEMS = 5, 9
WEIGHTS = dict(enumerate((16, 8, 5, 4, 3, 3, 2, 2, 2, 2), 1))
Event = tuple[int, int, int]

events = st.lists(
    st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1), st.integers(0, 12)),
    max_size=60,
    unique_by=lambda each: each[:2],
)
"""User, item and time; many times are the same."""


def sequences(rows: list[Event], n_users: int = N_USERS) -> Sequences:
    user, item, time = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return Sequences.from_edges(user, item, item % 3 > 0, time, n_users)


def looped(rows: list[Event], n_items: int = N_ITEMS, limit: int | None = None) -> np.ndarray:
    """Count pairs one by one: at most 10 verdicts apart."""
    found = np.zeros((n_items, n_items))
    histories = defaultdict(list)
    for user, item, time in sorted(rows, key=lambda each: (each[2], each[1])):
        histories[user].append((item, time))
    for whole in histories.values():
        history = whole if limit is None else whole[max(len(whole) - limit, 0) :]
        moments = sorted({time for _, time in history})
        for place, (item, time) in enumerate(history):
            for later in range(place + 1, min(place + 11, len(history))):
                apart = moments.index(history[later][1]) - moments.index(time)
                found[item, history[later][0]] += WEIGHTS.get(apart, 0)
    return found


def dense(counts: PairCounts) -> np.ndarray:
    """Return the counts, once it is seen that what is kept beside them agrees."""
    shape = counts.n_items, counts.n_items
    found = sum((part.after.toarray() for part in counts.parts), np.zeros(shape))
    transposed = sum((part.before.toarray() for part in counts.parts), np.zeros(shape))
    np.testing.assert_array_equal(transposed, found.T)
    np.testing.assert_array_equal(counts.totals, [found.sum(axis=1), found.sum(axis=0)])
    return found


@given(events, st.randoms())
def test_pairs_count_by_their_distance_in_moments_in_any_order_of_rows(rows: list[Event], random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for each in (rows, shuffled):
        np.testing.assert_array_equal(dense(PairCounts.from_sequences(sequences(each), N_ITEMS)), looped(rows))


def test_a_verdict_is_paired_with_ten_before_it_and_none_of_its_own_moment() -> None:
    of_one_moment = [(0, item, 1) for item in range(4)]
    assert not dense(PairCounts.from_sequences(sequences(of_one_moment), N_ITEMS)).any()
    many = [(0, item, 1) for item in range(15)] + [(0, 15, 2)]
    found = dense(PairCounts.from_sequences(sequences(many), 16))
    assert found[:, 15].tolist() == [0] * 5 + [16] * 10 + [0]
    in_a_row = [(0, item, item) for item in range(9)]
    assert dense(PairCounts.from_sequences(sequences(in_a_row), N_ITEMS))[0].tolist() == [0, 16, 8, 5, 4, 3, 3, 2, 2]


@settings(max_examples=50)
@given(st.lists(events, min_size=1, max_size=6))
def test_what_was_added_and_taken_away_again_leaves_nothing(batches: list[list[Event]]) -> None:
    counts = PairCounts(1)
    counts.grow(N_ITEMS)
    for rows in batches:
        counts.add(sequences(rows))
    np.testing.assert_array_equal(dense(counts), sum(map(looped, batches)))
    for rows in batches[1:]:
        counts.add(sequences(rows), -1)
    np.testing.assert_array_equal(dense(counts), looped(batches[0]))
    counts.add(sequences(batches[0]), -1)
    assert not dense(counts).any()
    assert not sum(part.after.nnz for part in counts.parts)


def test_what_was_added_very_often_is_taken_away_to_the_last_bit() -> None:
    """Totals of an item that a million verdicts follow are above the whole numbers that float32 can hold."""
    once = sequences([(0, item, item) for item in range(6)])
    counts = PairCounts(6)
    for times in (700_000, 1, -700_000):
        counts.add(once, times)
    np.testing.assert_array_equal(dense(counts), looped([(0, item, item) for item in range(6)], 6))


def test_parts_fall_in_size_and_items_may_grow() -> None:
    rng = np.random.default_rng(0)
    counts, rows = PairCounts(30), []
    for user in range(200):
        n_items = 30 + user // 10
        rows += [(user, int(item), place) for place, item in enumerate(rng.permutation(n_items)[:6])]
        own = [(0, item, time) for _, item, time in rows[-6:]]
        counts.grow(n_items)
        counts.add(sequences(own, 1))
        sizes = [part.after.nnz for part in counts.parts]
        assert all(large >= counting.LEVELS * small for large, small in itertools.pairwise(sizes))
    assert len(counts.parts) > 1
    np.testing.assert_array_equal(dense(counts), looped(rows, counts.n_items))
    counts.grow(3)
    assert counts.n_items == 49
    counts.grow(60)
    np.testing.assert_array_equal(dense(counts), looped(rows, 60))


def test_what_changes_no_pair_makes_no_part() -> None:
    own = sequences([(0, item, item) for item in range(6)])
    counts = PairCounts.from_sequences(own, 6)
    for _ in range(3):
        counts.replace(own, own)
        counts.add(sequences([]))
    assert [part.after.nnz for part in counts.parts] == [15]
    counts.replace(own, sequences([]))
    assert not dense(counts).any()


def test_users_are_counted_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    rows = [(user, int(item), int(rng.integers(20))) for user in range(40) for item in rng.permutation(N_ITEMS)[:7]]
    monkeypatch.setattr(counting, "EVENTS", 50)
    np.testing.assert_array_equal(dense(PairCounts.from_sequences(sequences(rows, 40), N_ITEMS)), looped(rows))


@given(events, st.integers(1, 70))
def test_of_too_many_verdicts_the_newest_of_each_user_are_counted(rows: list[Event], most: int) -> None:
    limit = limit_of(sequences(rows), most)
    lengths = Counter(user for user, *_ in rows).values()
    assert (limit is None) == (len(rows) <= most)
    if limit is not None:  # as many as there is room for, but at least one of each
        assert limit == 1 or sum(min(length, limit) for length in lengths) <= most
        assert sum(min(length, limit + 1) for length in lengths) > most
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting.limit_of, "__defaults__", (most,))
        found = PairCounts.from_sequences(sequences(rows), N_ITEMS)
    np.testing.assert_array_equal(dense(found), looped(rows, limit=limit))


@given(events, events, st.floats(0.1, 20))
def test_what_follows_and_is_around_items_is_that_of_dense_matrices(
    rows: list[Event], more: list[Event], smoothing: float
) -> None:
    counts = PairCounts.from_sequences(sequences(rows), N_ITEMS)
    counts.add(sequences(more))
    c = looped(rows) + looped(more)
    x = np.random.default_rng(len(rows)).random((3, N_ITEMS)).astype(np.float32)
    x[x < 0.4] = 0
    sparse = sp.csr_matrix(x)

    def per_pair(matrix: np.ndarray, totals: np.ndarray) -> np.ndarray:
        return x @ (matrix / (totals + 16 * smoothing)[:, None])

    both = c + c.T
    after, before, around = (per_pair(each, each.sum(axis=1)) for each in (c, c.T, both))
    some = np.random.default_rng(len(more)).integers(N_ITEMS, size=(3, 4))
    for items in (None, some):
        found = counts.follow(sparse, smoothing, items), counts.follow(sparse, smoothing, items, before=True)
        for each, wanted in zip(
            (*found, counts.around(sparse, smoothing, items)), (after, before, around), strict=True
        ):
            assert each.dtype == np.float32
            of_items = wanted if items is None else np.take_along_axis(wanted, items, axis=1)
            np.testing.assert_allclose(each, of_items, rtol=1e-5, atol=1e-7)
    shares, items = c / (c.sum(axis=1, keepdims=True) + 16 * smoothing), np.array([4, 0, 4, 7])
    np.testing.assert_allclose(counts.after(items, smoothing).toarray(), shares[items], rtol=1e-5)


# ---- under a stream


def check(edges: EdgeState) -> None:
    user, item, like, time = edges.export().verdicts
    wanted = PairCounts.from_sequences(Sequences.from_edges(user, item, like, time, edges.n_users), edges.n_items)
    np.testing.assert_array_equal(dense(edges.pairs()), dense(wanted))


@settings(max_examples=60)
@given(streams.batches, st.sampled_from([0, 3, 1000]))
def test_counts_of_edges_are_those_of_a_full_count(moves: list[list[streams.Move]], few: int) -> None:
    """Whether the counts follow a batch or, of many users, are made again."""
    stream = streams.small_stream()
    check(stream.edges)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edges_module, "_FEW", few)
        for batch in moves:
            stream.take(batch)
            check(stream.edges)
        stream.edges.erase([2, 5])
        check(stream.edges)


def test_late_and_early_times_move_pairs_apart() -> None:
    stream = streams.small_stream()
    check(stream.edges)
    for batch, times in (([(3, 5, LIKE), (3, 6, DISLIKE)], [-9, 10**6]), ([(3, 5, DISLIKE), (4, 5, LIKE)], [7, 7])):
        stream.take(batch, times)
        check(stream.edges)


def test_an_event_of_one_user_does_not_count_the_others_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream(301, 181, streams.random_moves(301, 181, share=0.08))
    stream.edges.pairs()
    counted = []
    real = counting.pairs
    monkeypatch.setattr(counting, "pairs", lambda own: counted.append(len(own.item)) or real(own))
    stream.take([(7, 9, LIKE)])
    stream.take([(8, 0, FORGET_USER)])
    n_edges = len(stream.edges)
    assert 0 < sum(counted) < n_edges / 20
    monkeypatch.undo()
    check(stream.edges)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2000), st.booleans()), max_size=40))
def test_recent_counts_follow_events_and_retractions(moves: list[tuple[int, int, bool]]) -> None:
    """Over two thousand half-lives, so that the origin moves."""
    counts, there, newest = RecentCounts(1.0, 2), [], 0
    for item, day, back in moves:
        if back and there:
            gone = there.pop()
            counts.add(np.array([gone[0]]), np.array([gone[1] * DAY]), -1.0)
        else:
            there.append((item, day))
            newest = max(newest, day)
            counts.grow(item + 1)
            counts.add(np.array([item]), np.array([day * DAY]))
    counts.grow(5)
    wanted = np.zeros(5)
    for item, day in there:
        wanted[item] += 2.0 ** (day - newest)
    if counts.worn:  # nearly all that is recent was taken back: whoever holds the exposures counts them again
        item, time = (np.array([each[n] for each in there], dtype=int) for n in (0, 1))
        counts = RecentCounts.from_events(item, time * DAY, 1.0, 5)
    squares = sum(4.0 ** (day - newest) for _, day in there)
    if squares > 0:
        np.testing.assert_allclose(counts.counts, wanted * wanted.sum() / squares / 2, rtol=1e-6, atol=1e-6)


def test_what_is_left_of_old_exposures_where_the_origin_moves() -> None:
    """Their weights were large until then, and their squares far larger."""
    counts = RecentCounts(1.0, 3)
    days = np.array([390.0, 389.0, 401.0, 402.0])
    items = np.array([0, 1, 2, 0])
    for item, day in zip(items, days, strict=True):
        counts.add(np.array([item]), np.array([day * DAY]))
    again = RecentCounts.from_events(items, days * DAY, 1.0, 3)
    np.testing.assert_allclose(counts.counts, again.counts, rtol=1e-9)


def test_old_exposures_survive_that_many_new_ones_are_taken_back_one_by_one() -> None:
    """As where somebody floods a quiet stream and is forgotten: squares of old weights were lost in those of new."""
    rng = np.random.default_rng(0)
    old_item, old_time = rng.integers(0, 9, 1000), rng.random(1000) * DAY
    new_item, new_time = rng.integers(0, 9, 1000), (26 + rng.random(1000)) * DAY
    wanted = RecentCounts.from_events(old_item, old_time, 1.0, 9).counts
    counts = RecentCounts.from_events(old_item, old_time, 1.0, 9)
    counts.add(new_item, new_time)
    assert not counts.worn
    for item, time in zip(new_item, new_time, strict=True):
        counts.add(np.array([item]), np.array([time]), -1.0)
    if counts.worn:  # see above
        counts = RecentCounts.from_events(old_item, old_time, 1.0, 9)
    np.testing.assert_allclose(counts.counts, wanted, rtol=1e-4)
