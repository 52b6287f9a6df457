"""SSF-T under a stream: what events leave is what a full count of the edges gives."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace

import edge_streams as streams
import given_weights
import numpy as np
import pytest
import torch
from edge_streams import Stream
from hypothesis import given, settings
from refusals import check_refused

from recbole_signed.counts import PairCounts
from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE, FORGET_USER
from recbole_signed.live.learners import make_learner
from recbole_signed.live.learners.base import graph_of, user_rows
from recbole_signed.live.learners.ssf.time_learner import TimeLearner
from recbole_signed.sequences import Sequences
from recbole_signed.ssf import FilterSettings, TransitionSums, order
from recbole_signed.ssf.order import Order, OrderFilter, recent_of, weights_of
from recbole_signed.ssf.order_weights import Fit
from recbole_signed.ssf.transition import Transition, leading
from recbole_signed.ssf.user_edges import UserEdges

SETTINGS = FilterSettings(dislike_weight=0.4, rank=7, cutoff=4, dislike_aversion=0.7)
SINCE = 100
"""Milliseconds; a good part of the stream's events are from before."""
WEIGHTS = np.array(given_weights.WEIGHTS)


@pytest.fixture(scope="module", autouse=True)
def _milliseconds() -> object:
    """An event of a stream comes a millisecond after the one before: trends are to be of some hundred events."""
    trends = ((1e-7, False), (1e-6, False), (1e-5, False), (1e-4, False), (1e-5, True), (1e-4, True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "TRENDS", trends)
        patch.setattr("recbole_signed.live.learners.ssf.time_learner.TRENDS", trends)
        yield


def new() -> TimeLearner:
    return TimeLearner(SETTINGS, WEIGHTS, trend_since=SINCE / 1000)


@functools.cache
def base() -> TimeLearner:
    return streams.fitted(new(), streams.small_stream())


def check(learner: TimeLearner, stream: Stream) -> None:
    """Hold scores against what is worked out from the edges alone: a filter, a history, and what is counted."""
    user, item, like, time = stream.edges.export().verdicts
    n_users, n_items = stream.sizes
    sequences = Sequences.from_edges(user, item, like, time, n_users)
    taste = learner.fitted.following(torch.from_numpy(learner.items.vectors), learner.counters.now)
    made = OrderFilter(
        taste,
        Order(
            learner.weights,
            PairCounts.from_sequences(sequences, n_items),
            recent_of(item, time, like, n_items, SINCE),
            Transition(torch.from_numpy(learner.operator)),
        ),
    )
    graph = graph_of(stream.edges.export(), n_users, n_items)
    wanted = made.scores(UserEdges.from_graph(graph, SETTINGS.dislike_weight, sequences))
    torch.testing.assert_close(learner.scores(stream.edges, stream.everyone), wanted, atol=1e-3, rtol=1e-3)


@settings(max_examples=60)
@given(streams.batches)
def test_events_leave_what_a_full_count_gives(moves: list[list[streams.Move]]) -> None:
    stream = streams.small_stream()
    check(streams.follow(copy.deepcopy(base()), stream, moves), stream)


def test_explanations_add_up_to_the_scores_that_are_ranked_by() -> None:
    streams.check_explanations(base())


@settings(max_examples=40)
@given(streams.batches)
def test_the_way_to_the_edges_does_not_matter(moves: list[list[streams.Move]]) -> None:
    learner = copy.deepcopy(base())
    learner.start = learner.weights  # to which a forgotten user brings them back
    streams.check_every_way_is_the_same(learner, moves, 1e-4)


@settings(max_examples=20)
@given(streams.batches)
def test_a_refresh_learns_the_transition_that_a_full_count_gives(moves: list[list[streams.Move]]) -> None:
    """On its vectors: nothing of the old ones, of what was taken back, or of erased users is left."""
    stream = streams.small_stream()
    learner = streams.follow(copy.deepcopy(base()), stream, moves)
    learner.refresh(stream.edges.export(), *stream.sizes)
    learner.attach(stream.edges)
    sequences = Sequences.from_edges(*stream.edges.export().verdicts, stream.sizes[0])
    wanted = TransitionSums.from_sequences(sequences, leading(torch.from_numpy(learner.items.base))).solve()
    np.testing.assert_allclose(learner.operator, wanted, atol=1e-4)
    check(learner, stream)


def test_order_and_ties_count_and_the_order_of_arrival_does_not() -> None:
    learner = base()
    pair = [(3, 5, LIKE), (3, 9, DISLIKE)]
    found = []
    for times in ([90_000, 90_001], [90_001, 90_000], [90_000, 90_000]):
        both = []
        for arrival in (0, 1), (1, 0):
            stream, live = streams.small_stream(), copy.deepcopy(learner)
            for place in arrival:
                live.update(stream.edges, stream.take([pair[place]], [times[place]]))
            both.append(live.scores(stream.edges, np.array([3])))
        torch.testing.assert_close(*both)
        found.append(both[0])
    assert not torch.allclose(found[0], found[1], rtol=1e-3)
    assert not torch.allclose(found[0], found[2], rtol=1e-3)


def test_pairs_are_ranked_by_all_scores() -> None:
    stream = Stream(301, 150, streams.random_moves(301, 150, share=0.05, tastes=12))
    learner = streams.fitted(new(), stream)
    for user in (5, 77, 200):
        scores = learner.scores(stream.edges, np.array([user]))[0]
        pairs = learner.pair_scores(stream.edges, np.array([user]), np.arange(1, 40)[None])
        np.testing.assert_allclose(pairs[0], scores[1:40], rtol=1e-4, atol=1e-5)
        assert learner.top(stream.edges, user, 10, np.array([0])) is None
    plain = copy.deepcopy(learner)
    plain.known = Fit(np.where(np.isin(order.WEIGHTS, order.DENSE + order.PAIRED), 0.0, WEIGHTS))
    plain.attach(stream.edges)
    wanted = plain.scores(stream.edges, np.array([5]))[0]
    np.testing.assert_allclose(learner.without_taste(np.arange(1, 9)), wanted[1:9], rtol=1e-5)


def test_a_saved_state_gives_the_same_scores_to_the_bit() -> None:
    stream = streams.small_stream()
    learner = streams.follow(copy.deepcopy(base()), stream, [[(3, 9, LIKE), (40, 8, DISLIKE)], [(6, 0, FORGET_USER)]])
    learner.known = Fit(WEIGHTS + 0.1, np.diag(WEIGHTS))
    again = TimeLearner.from_settings(learner.parameters())
    assert again.parameters() == learner.parameters()
    tensors, meta = learner.state()
    sharp = np.isin(order.WEIGHTS, order.SHARP)
    older = {"order_weights": tensors["order_weights"][~sharp], "order_information": np.diag(WEIGHTS[~sharp])}
    again.load(tensors | older, meta)  # of a version that has no sharp features
    np.testing.assert_array_equal(again.weights, np.where(sharp, 0.0, learner.weights))
    np.testing.assert_array_equal(again.known.information, np.diag(np.where(sharp, 0.0, WEIGHTS)))
    again.load(tensors, meta)
    again.attach(stream.edges)
    assert again.until == learner.until
    np.testing.assert_array_equal(again.known.information, np.diag(WEIGHTS))
    np.testing.assert_array_equal(
        again.scores(stream.edges, stream.everyone), learner.scores(stream.edges, stream.everyone)
    )
    empty = new()
    empty.fit(Stream(3, 3, [(1, 1, LIKE)]).edges.export().where(np.zeros(1, dtype=bool)), 3, 3)
    tensors, meta = empty.state()
    assert meta["until"] is None
    again.load(tensors, meta)
    assert again.until == -np.inf


def test_a_user_who_is_forgotten_leaves_nothing_in_the_weights() -> None:
    """Nor what is fitted to likes that are counted again by a refit that was begun before, and ends after a refresh."""
    stream, learner = streams.small_stream(), copy.deepcopy(base())
    learner.known = Fit(WEIGHTS + 0.1)
    refresh, fit = copy.deepcopy(learner), copy.deepcopy(learner)
    learner.update(stream.edges, stream.take([(3, 9, LIKE)]))
    assert (learner.weights == WEIGHTS + 0.1).all()
    learner.update(stream.edges, stream.take([(3, 0, FORGET_USER)]))
    assert (learner.weights == WEIGHTS).all()
    refresh.keep_without_forgotten(learner)
    fit.keep_without_forgotten(refresh)
    for each in (refresh, fit):
        assert (each.weights == WEIGHTS).all()
    refresh.known = Fit(WEIGHTS + 0.2)
    later = copy.deepcopy(refresh)
    later.keep_without_forgotten(refresh)
    assert (later.weights == WEIGHTS + 0.2).all(), "nobody was forgotten since"


def test_histories_are_those_of_the_edges() -> None:
    stream = streams.small_stream()
    stream.take([(4, 7, LIKE), (4, 3, DISLIKE), (4, 9, LIKE)], [70_000, 60_000, 70_000])
    rows = user_rows(stream.edges, np.array([4, 900]), times=True)
    found = rows.sequences(None)
    assert found.n_users == 2
    assert found.item[-3:].tolist() == [3, 7, 9]
    assert found.like[-3:].tolist() == [False, True, True]
    assert (found.end - found.start)[-3:].tolist() == [1, 2, 2]


def test_it_is_made_by_name() -> None:
    made = make_learner("SSFT", {"rank": 9, "order_weights": WEIGHTS.tolist(), "iterations": 6, "passes": 2})
    assert isinstance(made, TimeLearner)
    assert (made.settings.rank, made.iterations, made.passes) == (9, 6, 2)
    assert made.parameters()["order_weights"] == WEIGHTS.tolist()
    assert (made.needs_times, made.refresh_needs_times, made.remembers) == (True, True, True)
    assert make_learner("SSFT", {}).weights.tolist() == weights_of(None).tolist()
    assert not make_learner("SSFT", {"choose_again": 0}).remembers
    assert make_learner("SSFT", {"half_life": 9}).parameters() == make_learner("SSFT", {}).parameters()  # of before
    for wrong, message in (
        ({"order_weight": 9}, "no parameter 'order_weight'"),
        ({"order_weights": [1, 2]}, f"give {len(WEIGHTS)} numbers"),
        ({"choose_again": -1}, "choose_again is -1"),
    ):
        check_refused(message, make_learner, "SSFT", wrong)
    for name in ("choose_again", "iterations", "passes"):
        assert make_learner("SSFT", {name: 4.0}).parameters()[name] == 4
        for value in (2.5, "many", None):
            check_refused(f"{name} is {value!r}; it must be a whole number", make_learner, "SSFT", {name: value})


def test_another_aversion_shares_all_else() -> None:
    stream, learner = streams.small_stream(), base()
    other = learner.with_aversion(2.0)
    wanted = replace(learner.filter, taste=learner.filter.taste.changed(dislike_aversion=2.0))
    torch.testing.assert_close(other.filter.items, wanted.items)
    assert not torch.allclose(other.filter.items, learner.filter.items)
    assert (other.scores(stream.edges, np.array([3])) != learner.scores(stream.edges, np.array([3]))).any()
