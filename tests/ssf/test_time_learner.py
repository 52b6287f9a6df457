"""SSF-T under a stream: what events leave is what a full count of the edges gives."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace

import edge_streams as streams
import numpy as np
import pytest
import torch
from edge_streams import Stream
from hypothesis import given, settings

from recbole_signed.errors import UsageError
from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE
from recbole_signed.live.learners import make_learner
from recbole_signed.live.learners.base import graph_of, user_rows
from recbole_signed.live.learners.ssf import live_items
from recbole_signed.live.learners.ssf.learner import SpectralLearner
from recbole_signed.live.learners.ssf.time_learner import TimeLearner, sequences_of
from recbole_signed.live.store.edges import EdgeState
from recbole_signed.recent_counts import RecentCounts
from recbole_signed.ssf import FilterSettings, Sequences
from recbole_signed.ssf.settings import TimeSettings
from recbole_signed.ssf.time_search import trend_of
from recbole_signed.ssf.transition import added, sources_now

SETTINGS = FilterSettings(
    dislike_weight=0.4, rank=7, cutoff=4, popularity_exponent=0.2, popularity_floor=0.1, dislike_aversion=0.7
)
HALF_LIFE = 1e-6
"""Eighty-six events of a stream: a millisecond each."""
SINCE = 100
"""Milliseconds; a good part of the stream's events are from before."""
TIME = TimeSettings(
    transition_rank=5,
    transition_share=0.8,
    half_life=HALF_LIFE,
    trend_smoothing=2.0,
    popularity_half_life=3 * HALF_LIFE,
    trend_since=SINCE / 1000,
)


def new() -> TimeLearner:
    return TimeLearner(SETTINGS, TIME)


@functools.cache
def base() -> TimeLearner:
    return streams.fitted(new(), streams.small_stream())


def check(learner: TimeLearner, stream: Stream) -> None:
    """Hold scores against filter, sources and trend that are worked out from the edges alone."""
    edges = stream.edges
    user, item, like, time = edges.export().verdicts
    later = time >= SINCE
    counts = [RecentCounts.of(item[later], time[later], life, edges.n_items).counts for life in TIME.half_lives]
    for wanted_counts, life in zip(counts, TIME.half_lives, strict=True):
        found = edges.recent(life, since=SINCE).counts
        np.testing.assert_allclose(found / found.sum(), wanted_counts / wanted_counts.sum(), atol=1e-9)
    sequences = Sequences.of(user, item, like, time, edges.n_users)
    vectors = torch.from_numpy(learner.items.vectors)
    source = sources_now(sequences, learner.items.vectors[:, : learner.operator.shape[1]], TIME.scales)
    plain = learner.fitted.following(vectors, learner.counters.now)
    taste = plain.fold_in(graph_of(edges.export(), *stream.sizes))
    factors = taste + added(taste, torch.from_numpy(source @ learner.operator), TIME.transition_share)
    trend = trend_of(map(torch.from_numpy, counts), plain, TIME)
    wanted = replace(plain, trend=trend).finished(factors @ vectors.T)
    torch.testing.assert_close(learner.scores(edges, stream.everyone), wanted, atol=1e-5, rtol=1e-3)


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
    streams.check_every_way_is_the_same(base(), moves, 1e-4)


@settings(max_examples=20)
@given(streams.batches)
def test_a_refresh_learns_the_transition_that_a_fit_learns(moves: list[list[streams.Move]]) -> None:
    """Given the same vectors: nothing of the old ones, of what was taken back, or of erased users is left."""
    stream = streams.small_stream()
    learner = streams.follow(copy.deepcopy(base()), stream, moves)
    learner.refresh(stream.edges.export(), *stream.sizes)
    other = new()
    other.items = learner.items
    other._learn(stream.edges.export(), *stream.sizes)
    np.testing.assert_allclose(learner.operator, other.operator, atol=1e-4)


def test_order_and_ties_count_and_the_order_of_arrival_does_not() -> None:
    learner = base()
    pair = [(3, 5, LIKE), (3, 9, DISLIKE)]
    found = []
    for times in ([90_000, 90_001], [90_001, 90_000], [90_000, 90_000]):
        both = []
        for order in (0, 1), (1, 0):
            stream, live = streams.small_stream(), copy.deepcopy(learner)
            for place in order:
                live.update(stream.edges, stream.take([pair[place]], [times[place]]))
            both.append(live.scores(stream.edges, np.array([3])))
        torch.testing.assert_close(*both)
        found.append(both[0])
    assert not torch.allclose(found[0], found[1], rtol=1e-3)
    assert not torch.allclose(found[0], found[2], rtol=1e-3)


def test_without_share_and_exponents_scores_are_those_of_ssf() -> None:
    stream = streams.small_stream()
    learner = streams.fitted(TimeLearner(SETTINGS, TIME.without_time()), stream)
    plain = streams.fitted(SpectralLearner(SETTINGS), stream)
    torch.testing.assert_close(
        learner.scores(stream.edges, stream.everyone), plain.scores(stream.edges, stream.everyone)
    )


def test_the_best_items_and_pairs_are_those_of_all_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    moves = streams.random_moves(301, 1500, share=0.02, tastes=12)
    stream = Stream(301, 1500, moves)
    learner = streams.fitted(new(), stream)
    monkeypatch.setattr(live_items, "SMALL", 10)
    for user in (5, 77, 200):
        scores = learner.scores(stream.edges, np.array([user]))[0]
        pairs = learner.pair_scores(stream.edges, np.array([user]), np.arange(1, 40)[None])
        np.testing.assert_allclose(pairs[0], scores[1:40], rtol=1e-4, atol=1e-6)
        top = learner.top(stream.edges, user, 10, np.array([0]))
        assert top is not None
        np.testing.assert_array_equal(np.sort(top[0]), np.sort(scores[1:].topk(10).indices.numpy() + 1))


def test_edges_read_back_count_recent_exposures_again() -> None:
    stream = streams.small_stream()
    before = stream.edges.recent(HALF_LIFE).counts
    stream.take([(4, 7, LIKE), (5, 8, DISLIKE)])
    again = EdgeState.from_tensors(stream.edges.to_tensors(), stream.sizes[1]).recent(HALF_LIFE)
    found = stream.edges.recent(HALF_LIFE)
    np.testing.assert_allclose(found.counts / found.counts.sum(), again.counts / again.counts.sum(), atol=1e-12)
    assert len(before) == stream.sizes[1]
    rows = user_rows(stream.edges, np.array([4, 900]), times=True)
    assert sequences_of(rows).n_users == 2


def test_it_is_made_by_name() -> None:
    made = make_learner("SSFT", {"rank": 9, "half_life": 3, "transition_rank": 4, "iterations": 6, "passes": 2})
    assert isinstance(made, TimeLearner)
    assert (made.settings.rank, made.iterations, made.passes) == (9, 6, 2)
    assert made.time_settings == TimeSettings(half_life=3.0, transition_rank=4)
    with pytest.raises(UsageError, match="no parameter 'half_live'"):
        make_learner("SSFT", {"half_live": 9})
