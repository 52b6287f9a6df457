"""Learned item factors: against dense float64, their unit, their place in the filter's scores, explanations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import check_refused

from recbole_signed.errors import UsageError
from recbole_signed.graph import SignedGraph
from recbole_signed.ssf import FilterSettings, SpectralFilter
from recbole_signed.ssf.learned_items import START, LearnedItems, LearnedSettings, start_of

N_USERS, N_ITEMS, RANK = 40, 25, 6


def graph(seed: int = 0, density: float = 0.15) -> SignedGraph:
    rng = np.random.default_rng(seed)
    drawn = rng.random((N_USERS, N_ITEMS))
    drawn[:, 3] = 1.0  # nobody has an edge to item 3
    drawn[5] = 1.0  # nor has user 5 one
    likes, dislikes = drawn < density, (drawn >= density) & (drawn < 1.6 * density)
    return SignedGraph.from_edges(np.nonzero(likes), np.nonzero(dislikes), N_USERS, N_ITEMS)


def fitted(edges: SignedGraph, weight: float = 0.6, settings: LearnedSettings | None = None):  # type: ignore[no-untyped-def]
    filter_, _ = SpectralFilter.fit(edges, FilterSettings(rank=12, cutoff=5, dislike_weight=weight), iterations=20)
    chosen = settings or LearnedSettings(learned_rank=RANK)
    return filter_, LearnedItems.fit(edges, filter_, chosen), chosen


def dense_rows(likes: np.ndarray, dislikes: np.ndarray, fixed: np.ndarray, w: float, s: LearnedSettings) -> np.ndarray:
    """The ridge regression of each row on ``fixed``, one by one."""
    found = np.zeros((len(likes), fixed.shape[1]))
    for row in range(len(likes)):
        edges = likes[row] + dislikes[row]
        if not edges.sum():
            continue
        weight = likes[row] + abs(w) * dislikes[row]
        target = likes[row] + np.sign(w) * dislikes[row]
        penalty = s.learned_regularisation * (edges.sum() + s.unobserved_weight * len(fixed))
        normal = s.unobserved_weight * fixed.T @ fixed + (fixed.T * weight) @ fixed + penalty * np.eye(fixed.shape[1])
        found[row] = np.linalg.solve(normal, fixed.T @ (weight * target))
    return found


@pytest.mark.parametrize("weight", [-0.4, 0.0, 0.6])
@pytest.mark.parametrize("passes", [1, 2])
def test_factors_are_those_of_dense_least_squares(weight: float, passes: int) -> None:
    edges = graph()
    filter_, learned, settings = fitted(edges, weight, LearnedSettings(learned_rank=RANK, learned_passes=passes))
    P, N = edges.likes.toarray().astype(float), edges.dislikes.toarray().astype(float)
    items = start_of(filter_, RANK).double().numpy()
    for _ in range(passes):
        users = dense_rows(P, N, items, weight, settings)
        items = dense_rows(P.T, N.T, users, weight, settings)
    np.testing.assert_allclose(learned.factors.numpy(), items, rtol=2e-3, atol=2e-5)
    folded = dense_rows(P, N, items, weight, settings) * learned.unit
    np.testing.assert_allclose(learned.fold_in(edges).numpy(), folded, rtol=5e-3, atol=1e-4)
    assert not learned.factors[3].any()
    assert not learned.fold_in(edges)[5].any()
    size = np.square(users @ items.T).sum() / filter_.n_users  # of the users whom the items came from
    assert learned.unit == pytest.approx((filter_.user_energy / size) ** 0.5, rel=5e-3)


def test_the_start_is_the_raw_matrix_in_few_directions() -> None:
    edges = graph()
    filter_, _, _ = fitted(edges)
    start = start_of(filter_, RANK)
    known = filter_.known()
    assert start.shape == (N_ITEMS, RANK)
    assert float(start[known].square().mean().sqrt()) == pytest.approx(START, rel=1e-4)
    s = filter_.settings
    counters = filter_.counters
    degree = counters.likes + s.dislike_weight * counters.dislikes + s.degree_smoothing
    wanted = degree.sqrt()[:, None] * filter_.vectors[:, :RANK] * filter_.values[:RANK].sqrt()
    torch.testing.assert_close(start / start.norm(), wanted / wanted.norm())
    assert start_of(filter_, 500).shape[1] == filter_.k


@pytest.mark.parametrize("weight", [-0.4, 0.6])
def test_contributions_add_up(weight: float) -> None:
    edges = graph()
    _, learned, _ = fitted(edges, weight)
    folded = learned.fold_in(edges)
    items = np.array([4, 9, 3])
    for user in (0, 7, 12):
        told = learned.contributions(edges.rows([user]), items)
        assert told.shape == (3, edges.likes[user].nnz + edges.dislikes[user].nnz)
        wanted = (learned.factors[items] @ folded[user]).numpy()
        assert told.sum(axis=1) == pytest.approx(wanted, rel=1e-3, abs=1e-5)


@given(st.integers(0, 10_000), st.floats(-1.0, 1.0), st.floats(0.02, 0.4))
def test_any_graph_gives_numbers(seed: int, weight: float, density: float) -> None:
    edges = graph(seed, density)
    filter_, learned, _ = fitted(edges, weight)
    scores = filter_.scores(edges, learned.fold_in(edges) @ learned.factors.T)
    assert torch.isfinite(scores).all()
    others = [each for each in range(N_ITEMS) if bool(filter_.known()[each])]
    if others:
        assert (scores[:, 3] < scores[:, others].amin(dim=1)).all()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"learned_rank": 0}, "learned_rank is 0"),
        ({"learned_passes": 0}, "learned_passes 0"),
        ({"learned_share": -1.0}, "learned_share is -1.0"),
        ({"unobserved_weight": float("nan")}, "unobserved_weight is nan"),
        ({"learned_regularisation": 0.0}, "learned_regularisation is 0.0"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict, told: str) -> None:
    check_refused(told, LearnedSettings, **wrong)
    assert LearnedSettings.from_tensor(LearnedSettings(learned_rank=7).to_tensor()) == LearnedSettings(learned_rank=7)
    with pytest.raises(UsageError, match="must be a whole number"):
        LearnedSettings.from_mapping({**dict.fromkeys(LearnedSettings.__dataclass_fields__), "learned_rank": "many"})
