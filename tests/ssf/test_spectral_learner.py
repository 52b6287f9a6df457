"""SSF under a stream, against the filter, dense formulas and full fits."""

from __future__ import annotations

import copy
import functools

import edge_streams as streams
import numpy as np
import pytest
import torch
from edge_streams import Stream
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import check_refused

from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE, FORGET_USER, SKIP, UNDISLIKE, UNLIKE
from recbole_signed.live.learners import growing_items as fold_in
from recbole_signed.live.learners import make_learner
from recbole_signed.live.learners.base import graph_of, rows_of
from recbole_signed.live.learners.ssf.learner import SpectralLearner
from recbole_signed.ssf import FilterSettings
from recbole_signed.ssf.item_counters import UNKNOWN

SETTINGS = FilterSettings(
    dislike_weight=-0.6,
    degree_smoothing=2.0,
    degree_exponent=0.4,
    rank=7,
    cutoff=4,
    popularity_exponent=0.2,
    popularity_floor=0.1,
    dislike_aversion=0.7,
)


@functools.cache
def base() -> SpectralLearner:
    return streams.fitted(SpectralLearner(SETTINGS), streams.small_stream())


def rows(signs: np.ndarray) -> np.ndarray:
    """Return P + wN, dense."""
    return np.where(signs > 0, 1.0, 0.0) + SETTINGS.dislike_weight * np.where(signs < 0, 1.0, 0.0)


def scale(degrees: np.ndarray) -> np.ndarray:
    return (degrees + SETTINGS.degree_smoothing) ** -SETTINGS.degree_exponent


def check(learner: SpectralLearner, stream: Stream, first: SpectralLearner) -> None:
    """Hold vectors against the formula of a fold-in, and scores against a filter with the same vectors."""
    x, before = rows(stream.signs()), first.items.base.astype(np.float64)
    lasting = rows(stream.lasting_signs())
    n = len(before)
    degree = np.abs(x)  # |w| for a dislike
    user_scale, item_degree = scale(np.abs(lasting).sum(axis=1)), degree.sum(axis=0)
    known = np.zeros(x.shape[1])
    known[:n] = first.items.degree
    few = ((x != 0).sum(axis=0) <= fold_in.MAX_USERS) | (known == 0)
    grown = (item_degree > fold_in.GROWTH * known) & few
    assert set(learner.items.moved) == set(np.flatnonzero(grown))
    image = user_scale[:, None] * ((lasting[:, :n] * scale(known[:n])) @ before)  # R V_0
    vectors = np.zeros((x.shape[1], before.shape[1]))
    vectors[:n] = before
    first_users = np.cumsum(x != 0, axis=0) <= fold_in.MAX_USERS  # of an item that was not known before
    column = (x * first_users * user_scale[:, None] * scale((degree * first_users).sum(axis=0)))[:, grown]
    vectors[grown] = column.T @ image / first.fitted.values.double().numpy() ** 2
    np.testing.assert_allclose(learner.items.vectors, vectors, atol=1e-4)
    filter_ = learner.filter
    np.testing.assert_array_equal(filter_.counters.likes.numpy(), (x > 0).sum(axis=0))
    np.testing.assert_array_equal(filter_.counters.dislikes.numpy(), (x < 0).sum(axis=0))
    wanted = filter_.scores(graph_of(stream.edges.export(), *stream.sizes))
    found = learner.scores(stream.edges, stream.everyone)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-4)


@settings(max_examples=60)
@given(streams.batches)
def test_events_leave_what_the_formulas_give(moves: list[list[streams.Move]]) -> None:
    stream = streams.small_stream()
    check(streams.follow(copy.deepcopy(base()), stream, moves), stream, base())


@settings(max_examples=60)
@given(streams.batches)
def test_the_way_to_the_edges_does_not_matter(moves: list[list[streams.Move]]) -> None:
    streams.check_every_way_is_the_same(base(), moves, 1e-4)


@settings(max_examples=25)
@given(streams.batches, st.sampled_from(["like", "dislike"]))
def test_what_is_taken_back_leaves_no_trace(moves: list[list[streams.Move]], which: str) -> None:
    stream, learner = streams.small_stream(), copy.deepcopy(base())
    streams.follow(learner, stream, moves)
    user, item = streams.N_USERS + 2, 5
    if (stream.edges.n_users > user) and item in stream.edges.of_user(user).ids:
        return
    streams.follow(learner, stream, [[(user, streams.N_ITEMS + 3, SKIP)]])  # both are known from now on
    before = learner.scores(stream.edges, stream.everyone)
    do, undo = {"like": (LIKE, UNLIKE), "dislike": (DISLIKE, UNDISLIKE)}[which]
    streams.follow(learner, stream, [[(user, item, do)]])
    assert not torch.equal(learner.scores(stream.edges, stream.everyone), before)
    streams.follow(learner, stream, [[(user, item, undo)]])
    torch.testing.assert_close(learner.scores(stream.edges, stream.everyone), before, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    "change",
    [{}, {"dislike_aversion": 0.0}, {"popularity_exponent": 0.0}, {"dislike_weight": 0.0}],
)
def test_scores_are_those_of_the_filter_under_any_settings(change: dict[str, float]) -> None:
    stream = streams.small_stream()
    learner = SpectralLearner(FilterSettings(**{"rank": 5, "popularity_floor": 0.3, **change}))
    learner.fit(stream.edges.export(), *stream.sizes)  # the counters are there without an attach
    wanted = learner.filter.scores(graph_of(stream.edges.export(), *stream.sizes))
    torch.testing.assert_close(learner.scores(stream.edges, stream.everyone), wanted, atol=1e-6, rtol=1e-5)
    some = np.array([7, 3, 3, 500, 0])
    wanted = learner.filter.scores(rows_of(stream.edges, some, stream.sizes[1]))
    torch.testing.assert_close(learner.scores(stream.edges, some), wanted, atol=1e-6, rtol=1e-5)
    pairs = np.array([[1, 9, streams.N_ITEMS - 1]] * len(some))  # nobody has an edge to the last one
    found = torch.from_numpy(learner.pair_scores(stream.edges, some, pairs))
    torch.testing.assert_close(found, wanted.gather(1, torch.from_numpy(pairs)), atol=1e-6, rtol=1e-4)
    assert (found[:, 2] == UNKNOWN).all()


def test_a_snapshot_with_a_linear_filter_opens_without_it() -> None:
    stream = streams.large_stream()
    learner, again = streams.fitted(SpectralLearner(SETTINGS), stream), SpectralLearner(SETTINGS)
    tensors, meta = learner.state()
    old = {"linear_data": np.ones(1), "linear_indices": np.zeros(1), "linear_indptr": np.array([0, 1])}
    again.load(tensors | old, {**meta, "settings": meta["settings"] | {"linear_weight": 0.4}})
    again.attach(stream.edges)
    wanted = learner.scores(stream.edges, stream.everyone)
    torch.testing.assert_close(again.scores(stream.edges, stream.everyone), wanted)


def test_what_a_learner_was_loaded_from_is_shared_and_never_written_to() -> None:
    stream = streams.large_stream()
    tensors, meta = streams.fitted(SpectralLearner(SETTINGS), stream).state()
    tensors = {name: each.copy() for name, each in tensors.items()}
    before = {name: each.copy() for name, each in tensors.items()}
    again = SpectralLearner(FilterSettings())
    again.load(tensors, meta)
    assert np.shares_memory(again.items.base, tensors["base"])
    again.attach(stream.edges)
    streams.follow(again, stream, [[(3, 40, DISLIKE), (5, 181, LIKE)], [(user, 40, LIKE) for user in range(1, 30)]])
    again.refresh(stream.edges.export(), stream.edges.n_users, stream.edges.n_items)
    for name, each in before.items():
        np.testing.assert_array_equal(tensors[name], each)


def test_items_that_become_too_large_or_small_again_are_those_of_the_refresh(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, learner = streams.small_stream(), copy.deepcopy(base())
    item = int(np.flatnonzero(learner.items.degree > 0)[np.argmin(learner.items.degree[learner.items.degree > 0])])
    fans = [user for user in range(1, streams.N_USERS) if item not in stream.edges.of_user(user).ids]
    streams.follow(learner, stream, [[(user, item, LIKE) for user in fans[:-1]]])
    assert item in learner.items.moved
    monkeypatch.setattr(fold_in, "MAX_USERS", int((stream.edges.item_likes + stream.edges.item_dislikes)[item]))
    streams.follow(learner, stream, [[(fans[-1], item, LIKE)]])
    np.testing.assert_array_equal(learner.items.vectors[item], learner.items.base[item])
    check(learner, stream, base())
    streams.follow(learner, stream, [[(user, item, UNLIKE) for user in fans]])
    check(learner, stream, base())


def test_an_item_that_is_new_since_the_refresh_stays_known_however_many_like_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream, learner = streams.small_stream(), copy.deepcopy(base())
    new_item = streams.N_ITEMS
    monkeypatch.setattr(fold_in, "MAX_USERS", 5)
    moves = [[(user, new_item, LIKE) for user in (9, 4, 12, 7, 2)], [(6, new_item, LIKE), (1, new_item, DISLIKE)]]
    for each in moves:
        streams.follow(learner, stream, [each])
        assert learner.items.vectors[new_item].any()
        check(learner, stream, base())
    streams.check_every_way_is_the_same(base(), moves, 1e-4)
    streams.follow(learner, stream, [[(2, new_item, UNLIKE)], [(4, 0, FORGET_USER)], [(6, 9, LIKE)]])
    check(learner, stream, base())


def test_a_user_with_new_edges_changes_the_growing_items_it_has() -> None:
    """The item itself is not touched, but the user that it is made of is."""
    stream, learner = streams.small_stream(), copy.deepcopy(base())
    streams.follow(learner, stream, [[(4, streams.N_ITEMS, LIKE)]])
    before = learner.items.vectors[streams.N_ITEMS].copy()
    streams.follow(learner, stream, [[(4, 9, UNLIKE), (4, 9, UNDISLIKE)], [(4, 11, LIKE)]])
    assert not np.allclose(learner.items.vectors[streams.N_ITEMS], before, rtol=1e-3)
    check(learner, stream, base())


def test_a_refresh_from_a_warm_start_becomes_the_full_fit() -> None:
    stream = streams.large_stream()
    learner = streams.fitted(SpectralLearner(SETTINGS), stream)
    streams.follow(learner, stream, [streams.random_moves(301, 181, share=0.02, seed=n, tastes=12) for n in (1, 2)])
    staleness = []
    for _ in range(25):
        staleness.append(learner.refresh(stream.edges.export(), *stream.sizes).staleness)
        learner.attach(stream.edges)
        assert not len(learner.items.moved)
    assert staleness[0] > 0.05
    assert staleness[-1] < 1e-5
    refit = streams.fitted(SpectralLearner(SETTINGS, iterations=30), stream)
    np.testing.assert_allclose(learner.fitted.values, refit.fitted.values, rtol=1e-4)
    cosines = np.linalg.svd(learner.items.base.T @ refit.items.base, compute_uv=False)
    assert cosines.min() > 0.9999
    known = learner.filter.known()
    one, other = (each.scores(stream.edges, stream.everyone)[:, known] for each in (learner, refit))
    assert float((one - other).norm() / other.norm()) < 1e-2
    one, other = learner.fitted, refit.fitted
    assert (one.n_users, one.median_degree) == (other.n_users, other.median_degree)


def test_a_refresh_takes_growing_items_as_its_start() -> None:
    stream = streams.large_stream()
    learner = streams.fitted(SpectralLearner(SETTINGS), stream)
    users = [user for user in range(1, 301) if user % 12 == 5]
    streams.follow(learner, stream, [[(user, 190, LIKE) for user in users]])
    with_start, without = copy.deepcopy(learner), copy.deepcopy(learner)
    without.items.attach(streams.large_stream().edges, without)  # as if the item had never been folded in
    refit = streams.fitted(SpectralLearner(SETTINGS, iterations=30), stream)
    gap = []
    for each in (with_start, without):
        each.refresh(stream.edges.export(), *stream.sizes)
        cosines = np.linalg.svd(each.items.base.T @ refit.items.base, compute_uv=False)
        gap.append(1 - cosines.min())
    assert gap[0] < gap[1]


def test_what_comes_during_a_refresh_is_brought_by_attach() -> None:
    stream, learner = streams.small_stream(), copy.deepcopy(base())
    fresh, edges, sizes = copy.deepcopy(learner), stream.edges.export(), stream.sizes
    streams.follow(learner, stream, [[(1, 30, LIKE), (2, 30, LIKE), (3, 2, DISLIKE)], [(50, 4, LIKE)]])
    fresh.refresh(edges, *sizes)
    first = copy.deepcopy(fresh)
    fresh.attach(stream.edges)
    check(fresh, stream, first)


def test_explanations_add_up_to_the_scores_that_are_ranked_by() -> None:
    streams.check_explanations(base())


def test_an_event_costs_nothing_that_grows_with_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pass over all edges, and no fold-in of an item that did not grow."""
    stream = streams.large_stream()
    learner = streams.fitted(SpectralLearner(SETTINGS), stream)
    made: list[int] = []
    make = learner.make_items
    monkeypatch.setattr(learner, "make_items", lambda *args: (made.append(args[0].shape[0]), make(*args))[1])
    monkeypatch.setattr(stream.edges, "export", lambda: pytest.fail("all edges were read"))
    item = int(np.argmax(stream.edges.item_likes))
    streams.follow(learner, stream, [[(1, item, LIKE)]])
    assert not made
    streams.follow(learner, stream, [[(1, 190, LIKE)], [(1, 3, LIKE)]])
    assert max(made) <= 3


def test_parameters_are_those_of_the_yaml() -> None:
    made = make_learner("SSF", {"rank": 9, "iterations": 6, "passes": 2})
    assert (made.settings.rank, made.iterations, made.passes) == (9, 6, 2)
    check_refused("no parameter 'ranks'", make_learner, "SSF", {"ranks": 9})
    check_refused("iterations is 20, passes 0; both must be 1 or more", make_learner, "SSFT", {"passes": 0})
