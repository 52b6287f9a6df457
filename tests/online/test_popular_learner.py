"""Popularity under a stream, against loops over the likes that are in force."""

from __future__ import annotations

import copy
import functools

import edge_streams as streams
import numpy as np
import pytest
from edge_streams import Stream
from hypothesis import given, settings
from refusals import check_refused

from recbole_signed.live import LIKE
from recbole_signed.live.learners import make_learner
from recbole_signed.live.learners.base import Learner

HALF_LIFE = 1e-6
"""Eighty-six events of a stream: a millisecond each."""
MODELS = {"Pop": {}, "DecayPop": {"half_life": HALF_LIFE}}


@functools.cache
def base(model: str) -> Learner:
    return streams.fitted(make_learner(model, MODELS[model]), streams.small_stream())


def check(learner: Learner, stream: Stream) -> None:
    """Hold the share that each item has of all scores against its likes, or what their ages leave of them."""
    edges = stream.edges.export()
    latest = int(edges.timestamp.max())
    wanted = np.zeros(stream.edges.n_items)
    for item, kind, time in zip(edges.item, edges.kind, edges.timestamp, strict=True):
        if kind == LIKE:
            age = (latest - time) / 86_400_000
            wanted[item] += 1.0 if learner.name == "Pop" else 2.0 ** (-age / HALF_LIFE)
    users = np.array([0, 3, streams.N_USERS + 50])
    items = np.array([[1, 5, stream.edges.n_items - 1]] * 3)
    scores, pairs = learner.scores(stream.edges, users).numpy(), learner.pair_scores(stream.edges, users, items)
    for row, few in zip(scores, pairs, strict=True):
        np.testing.assert_allclose(row / row.sum(), wanted / wanted.sum(), atol=1e-6)
        np.testing.assert_array_equal(few, row[items[0]])


@pytest.mark.parametrize("model", list(MODELS))
@settings(max_examples=12)
@given(streams.batches)
def test_events_leave_what_the_likes_in_force_count(model: str, moves: list[list[streams.Move]]) -> None:
    stream = streams.small_stream()
    check(streams.follow(copy.deepcopy(base(model)), stream, moves), stream)
    fit = make_learner(model, MODELS[model])
    fit.fit(stream.edges.export(), *stream.sizes)
    check(fit, stream)
    streams.check_every_way_is_the_same(base(model), moves, 1e-6)


def test_no_item_is_near_another_and_nothing_is_stale() -> None:
    stream, learner = streams.small_stream(), copy.deepcopy(base("Pop"))
    assert learner.refresh(stream.edges.export(), *stream.sizes).staleness == 0
    assert not len(learner.similar(5, 3)[0])
    assert make_learner("Pop", {"dislike_strength": 0.5}).dislike_strength == 0.5


@pytest.mark.parametrize("value", [0, -1.0, float("nan")])
def test_a_half_life_is_a_time(value: float) -> None:
    check_refused(r"half_life is .*; it must be a number above 0", make_learner, "DecayPop", {"half_life": value})
