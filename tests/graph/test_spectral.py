"""The exposure matrix and its singular vectors, against dense float64 and SciPy's Lanczos."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from exposure import exposure_matrix
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import svds

from recbole_signed.errors import UsageError
from recbole_signed.graph import SignedGraph, spectral
from recbole_signed.graph.spectral import right_factors
from recbole_signed.ssf import FilterSettings, SpectralFilter


def random_graph(seed: int, n_users: int = 120, n_items: int = 80, density: float = 0.12) -> SignedGraph:
    """Users and items in four groups, so that the spectrum has a head; user 3 and item 5 have no edge."""
    rng = np.random.default_rng(seed)
    same = (np.arange(n_users)[:, None] % 4) == (np.arange(n_items) % 4)
    edges = rng.random((n_users, n_items)) < density * np.where(same, 3, 0.5) * rng.random(n_items) * 1.5
    edges[3], edges[:, 5] = False, False
    signs = rng.random(edges.shape) < 0.6
    likes, dislikes = (np.argwhere(each).astype(np.int64).T for each in (edges & signs, edges & ~signs))
    return SignedGraph.from_edges((likes[0], likes[1]), (dislikes[0], dislikes[1]), n_users, n_items)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.sampled_from([-1.0, -0.3, 0.0, 0.6]), st.sampled_from([0.0, 2.5]), st.floats(0, 1))
def test_exposure_matrix_is_the_formula(seed: int, w: float, a: float, e: float) -> None:
    graph = random_graph(seed, 30, 20)
    P, N = graph.likes.toarray().astype(float), graph.dislikes.toarray().astype(float)
    degree = P + abs(w) * N
    scale = [np.where(d + a > 0, d + a, 1.0) ** -e for d in (degree.sum(1), degree.sum(0))]
    wanted = scale[0][:, None] * (P + w * N) * scale[1]
    found = exposure_matrix(graph, w, a, e)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.toarray(), wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("w", [-0.4, 0.0, 0.6])
@pytest.mark.parametrize("seed", [0, 1])
def test_singular_pairs_agree_with_svds(seed: int, w: float) -> None:
    R, k = exposure_matrix(random_graph(seed, 400, 200), w), 12
    _, values, vt = svds(R.astype(np.float64), k=k, random_state=0)
    order = np.argsort(-values)
    found = right_factors(R, k, iterations=8)
    np.testing.assert_allclose(found.values, values[order], rtol=2e-3)
    V = found.vectors.double().numpy()
    np.testing.assert_allclose(V.T @ V, np.eye(k), atol=1e-5)
    # the head is separated from the rest, so its subspace is determined
    head, exact = V[:, :4], vt[order][:4].T
    assert np.linalg.norm(head @ head.T - exact @ exact.T) < 1e-2
    # no projection of this rank is nearer to R than the best one, and this is nearly as near
    dense = R.toarray().astype(np.float64)
    best = np.linalg.norm(dense - dense @ vt.T @ vt)
    assert best * (1 - 1e-6) <= np.linalg.norm(dense - dense @ V @ V.T) < best * 1.002


def test_a_full_width_block_is_exact() -> None:
    R = exposure_matrix(random_graph(2, 60, 40), 0.5)
    _, values, vt = np.linalg.svd(R.toarray().astype(np.float64))
    found = right_factors(R, 20, iterations=2)
    np.testing.assert_allclose(found.values, values[:20], rtol=1e-4)
    np.testing.assert_allclose(np.abs((found.vectors.numpy() * vt[:20].T).sum(0))[:5], 1.0, atol=1e-3)


def test_a_warm_start_saves_passes() -> None:
    graph = random_graph(3, 600, 300)
    other, R = exposure_matrix(graph, 0.5), exposure_matrix(graph, 0.6)
    exact = svds(R.astype(np.float64), k=30, return_singular_vectors=False)[::-1]

    def error(**how: object) -> float:
        return float(np.abs(right_factors(R, 30, oversampling=8, **how).values.numpy() - exact).max())  # type: ignore[arg-type]

    warm = right_factors(other, 30, iterations=4, oversampling=8).block
    assert error(iterations=2, start=warm) < error(iterations=2) / 2


def test_it_repeats_itself_with_positive_peaks() -> None:
    R = exposure_matrix(random_graph(4), -0.3)
    first, second = right_factors(R, 10), right_factors(R, 10)
    assert torch.equal(first.vectors, second.vectors)
    peak = first.vectors.abs().argmax(dim=0, keepdim=True)
    assert (first.vectors.gather(0, peak) > 0).all()


def test_the_start_is_that_of_the_seed() -> None:
    R = exposure_matrix(random_graph(4), -0.3)
    blocks = [right_factors(R, 4, iterations=0, oversampling=3, seed=seed).block for seed in (1, 1, 2)]
    assert torch.equal(blocks[0], blocks[1])
    cosines = torch.linalg.svdvals(blocks[0].T @ blocks[2])
    assert float(cosines.min()) < 0.9, "another start spans something else"


def test_blocks_of_rows_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    R = exposure_matrix(random_graph(5), 0.5)
    whole = right_factors(R, 10)
    monkeypatch.setattr(spectral, "ROWS", 17)
    np.testing.assert_allclose(right_factors(R, 10).values, whole.values, rtol=1e-5)


def test_a_matrix_of_lower_rank_gives_fewer() -> None:
    rank_two = sp.csr_matrix(np.outer(np.arange(9), np.ones(6)) + np.outer(np.ones(9), np.arange(6)), dtype=np.float32)
    found = right_factors(rank_two, 5)
    assert found.vectors.shape == (6, 2)
    assert right_factors(sp.csr_matrix((4, 3), dtype=np.float32), 2).vectors.shape == (3, 0)


def test_the_response_is_a_butterworth_filter() -> None:
    graph = random_graph(6)
    fitted, _ = SpectralFilter.fit(graph, FilterSettings(rank=16, cutoff=5, rolloff=6.0, activity_exponent=1.5))
    degrees = torch.tensor([0.0, 1.0, fitted.median_degree, 500.0])
    s = (fitted.values / fitted.values[0]).double().numpy()
    ratio = fitted.median_degree / np.maximum(degrees.double().numpy(), 0.5)
    wanted = s**2 / (1 + (s[5] / s) ** 6.0 * ratio[:, None] ** 1.5)
    np.testing.assert_allclose(fitted.response(degrees), wanted, rtol=1e-3)
    assert float(fitted.response(degrees)[2, 5]) == pytest.approx(s[5] ** 2 / 2, rel=1e-4)


@pytest.mark.parametrize(
    "wrong", [{"rank": 0}, {"degree_smoothing": -1.0}, {"verdict_smoothing": 0.0}, {"dislike_weight": float("nan")}]
)
def test_settings_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        FilterSettings(**wrong)


def test_settings_survive_a_tensor() -> None:
    chosen = FilterSettings(dislike_weight=0.45, rank=7, cutoff=3, popularity_exponent=-0.1)
    assert FilterSettings.from_tensor(chosen.to_tensor()) == chosen
