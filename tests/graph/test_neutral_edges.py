"""Exposures without a verdict as weak edges: in the matrix, the degrees, and the spectral filter."""

from __future__ import annotations

import numpy as np
import pytest
from edge_lists import EDGES, columns, dense
from exposure import exposure_matrix
from hypothesis import given
from hypothesis import strategies as st

from recbole_signed.graph import SignedGraph
from recbole_signed.graph.spectral import user_degrees
from recbole_signed.ssf import FilterSettings, SpectralFilter


@given(EDGES, EDGES, EDGES, st.sampled_from([-0.5, 0.25, 1.0]), st.sampled_from([-0.3, 0.0, 0.5]))
def test_neutral_edges_weigh_what_they_should(
    likes: list, dislikes: list, neutrals: list, neutral_weight: float, dislike_weight: float
) -> None:
    graph = SignedGraph.from_edges(
        columns(likes), columns(dislikes), 6, 8, neutrals=columns(neutrals), neutral_weight=neutral_weight
    )
    P, N = dense(likes), dense(dislikes)
    M = dense(neutrals) * (P == 0) * (N == 0)
    assert graph.neutrals is not None
    assert np.array_equal(graph.neutrals.toarray(), M)
    assert graph.neutrals.nnz == M.sum()
    np.testing.assert_allclose(graph.weighted(dislike_weight).toarray(), P + dislike_weight * N + neutral_weight * M)
    weights = P + abs(dislike_weight) * N + abs(neutral_weight) * M
    users, items = graph.degrees(dislike_weight)
    np.testing.assert_allclose(users, weights.sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(items, weights.sum(axis=0), rtol=1e-6)
    np.testing.assert_allclose(user_degrees(graph, dislike_weight), weights.sum(axis=1), rtol=1e-6)
    of_items = P + abs(dislike_weight) * N  # an item's degree counts verdicts alone
    scale = [1 / np.sqrt(each + 5.0) for each in (weights.sum(axis=1), of_items.sum(axis=0))]
    expected = scale[0][:, None] * (P + dislike_weight * N + neutral_weight * M) * scale[1]
    np.testing.assert_allclose(exposure_matrix(graph, dislike_weight).toarray(), expected, rtol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_without_neutral_edges_or_weight_the_graph_is_as_before(weight: float) -> None:
    rng = np.random.default_rng(0)
    likes, dislikes, neutrals = (columns(rng.integers(0, 6, (20, 2)).tolist()) for _ in range(3))
    plain = SignedGraph.from_edges(likes, dislikes, 6, 8)
    given_none = SignedGraph.from_edges(likes, dislikes, 6, 8, neutrals if not weight else None, weight)
    assert given_none.neutrals is None
    for one, other in ((plain.weighted(0.4), given_none.weighted(0.4)), (plain.likes, given_none.likes)):
        assert np.array_equal(one.data, other.data)
        assert np.array_equal(one.indices, other.indices)
    for one, other in zip(plain.degrees(0.4), given_none.degrees(0.4), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("dislike_weight", [0.0, 0.5])
def test_the_spectral_filter_uses_and_explains_them(dislike_weight: float) -> None:
    rng = np.random.default_rng(1)
    users, items = rng.integers(0, 40, 600), rng.integers(1, 30, 600)
    sign = rng.choice([1, -1, 0], 600)
    edges = [(users[sign == each], items[sign == each]) for each in (1, -1, 0)]
    settings = FilterSettings(rank=8, dislike_weight=dislike_weight)
    graph = SignedGraph.from_edges(edges[0], edges[1], 40, 30, edges[2], 0.3)
    fitted, _ = SpectralFilter.fit(graph, settings)
    without, _ = SpectralFilter.fit(SignedGraph(graph.likes, graph.dislikes), settings)
    assert np.abs(fitted.scores(graph).numpy() - without.scores(graph).numpy()).max() > 1e-3
    one = graph.rows([4])
    told = fitted.explain(one, 9)
    assert sorted(set(told.signs.tolist())) == [-1, 0, 1]
    assert (told.contributions.sum() + told.prior) * told.factor == pytest.approx(told.score, rel=1e-4)
