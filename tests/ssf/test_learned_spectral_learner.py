"""SSF-L under a stream, against its model's parts, and against full fits."""

from __future__ import annotations

import copy
import functools

import edge_streams as streams
import numpy as np
import pytest
import torch
from edge_streams import Stream
from hypothesis import given, settings
from refusals import check_refused

from recbole_signed.live import LIKE
from recbole_signed.live.learners import make_learner
from recbole_signed.live.learners.base import graph_of, rows_of
from recbole_signed.live.learners.ssf.learned_learner import LearnedSpectralLearner
from recbole_signed.ssf import FilterSettings, SpectralFilter
from recbole_signed.ssf.learned_items import LearnedItems, LearnedSettings

SETTINGS = FilterSettings(rank=7, cutoff=4, dislike_weight=0.5, popularity_floor=0.1, dislike_aversion=0.7)
LEARNED = LearnedSettings(learned_rank=5, learned_share=0.8)


@functools.cache
def base() -> LearnedSpectralLearner:
    return streams.fitted(LearnedSpectralLearner(SETTINGS, LEARNED, iterations=20), streams.small_stream())


def wanted_scores(learner: LearnedSpectralLearner, stream: Stream, items: LearnedItems) -> torch.Tensor:
    """What the model gives for all users with their edges of now."""
    rows = rows_of(stream.edges, stream.everyone, stream.sizes[1])
    return learner.filter.scores(rows, LEARNED.learned_share * items.fold_in(rows) @ items.factors.T)


def test_a_fit_gives_the_scores_of_the_model() -> None:
    stream = streams.small_stream()
    graph = graph_of(stream.edges.export(), *stream.sizes)
    filter_, _ = SpectralFilter.fit(graph, SETTINGS, iterations=20)
    items = LearnedItems.fit(graph, filter_, LEARNED)
    assert base().unit == pytest.approx(items.unit, rel=1e-4)
    found = base().scores(stream.edges, stream.everyone)
    torch.testing.assert_close(found, wanted_scores(base(), stream, items), rtol=1e-3, atol=1e-5)
    known = filter_.known()
    alone = filter_.scores(graph)[:, known]
    assert float((found[:, known] - alone).abs().max()) > 0.1 * float(alone.abs().max())


@settings(max_examples=40)
@given(streams.batches)
def test_the_way_to_the_edges_does_not_matter(moves: list[list[streams.Move]]) -> None:
    streams.check_every_way_is_the_same(base(), moves, 1e-3)


def test_explanations_add_up_to_the_scores_that_are_ranked_by() -> None:
    streams.check_explanations(base())


def test_a_user_is_the_fold_in_of_its_edges_at_once() -> None:
    stream, learner = streams.small_stream(), copy.deepcopy(base())
    known = stream.signs()[4] == 0
    item = int(np.flatnonzero(known)[3])
    before = learner.scores(stream.edges, np.array([4]))
    streams.follow(learner, stream, [[(4, item, LIKE)]])
    after = learner.scores(stream.edges, np.array([4]))
    assert not torch.allclose(before, after)
    pairs = learner.pair_scores(stream.edges, np.array([4, 9]), np.array([[1, item], [2, 3]]))
    full = learner.scores(stream.edges, np.array([4, 9])).numpy()
    np.testing.assert_allclose(pairs, [full[0, [1, item]], full[1, [2, 3]]], rtol=1e-4, atol=1e-6)


def test_a_refresh_leads_where_retraining_leads() -> None:
    stream = Stream(301, 181, streams.random_moves(301, 181, share=0.08, tastes=12))
    learner = streams.fitted(LearnedSpectralLearner(SETTINGS, LEARNED, iterations=30, passes=20), stream)
    late = [(user, item, kind) for user, item, kind in streams.random_moves(301, 181, 0.02, seed=5, tastes=12)]
    streams.follow(learner, stream, [late])
    stale = learner.scores(stream.edges, stream.everyone)
    refreshed = learner.refresh(stream.edges.export(), *stream.sizes)
    learner.attach(stream.edges)
    again = streams.fitted(LearnedSpectralLearner(SETTINGS, LEARNED, iterations=30), stream)
    wanted = again.scores(stream.edges, stream.everyone)
    known = learner.filter.known()  # the others have the same score in all three, which is larger than all others
    stale, found, wanted = (each[:, known] for each in (stale, learner.scores(stream.edges, stream.everyone), wanted))
    error = (found - wanted).norm() / wanted.norm()
    assert error < 0.02
    assert error < 0.5 * (stale - wanted).norm() / wanted.norm()
    assert refreshed.staleness > 0


def test_settings_by_the_names_of_the_yaml() -> None:
    made = make_learner("SSFL", {"rank": 9, "learned_rank": 3, "iterations": 6, "passes": 2, "learned_share": 0.3})
    assert isinstance(made, LearnedSpectralLearner)
    assert (made.settings.rank, made.learned_settings.learned_rank, made.passes) == (9, 3, 2)
    check_refused("no parameter 'learned_ranks'", make_learner, "SSFL", {"learned_ranks": 9})
