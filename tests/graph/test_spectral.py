"""Right factors and eigenvectors against dense ones."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from exposure import exposure_matrix
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from refusals import check_refused
from scipy.sparse.linalg import svds

from recbole_signed.graph import SignedGraph, eigenvectors, spectral
from recbole_signed.graph import eigenvectors as module
from recbole_signed.graph.eigenvectors import gram_eigenvectors, kept_eigenvectors, laplacian_eigenvectors
from recbole_signed.graph.spectral import (
    orthonormalise,
    random_panels,
    refreshed_factors,
    right_factors,
    rotated,
    split,
)
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


@pytest.mark.parametrize("w", [-0.4, 0.0, 0.6])
@pytest.mark.parametrize("seed", [0, 1])
def test_singular_pairs_agree_with_svds(seed: int, w: float) -> None:
    R, k = exposure_matrix(random_graph(seed, 400, 200), w), 12
    _, values, vt = svds(R.astype(np.float64), k=k, random_state=0)
    order, found = np.argsort(-values), right_factors(R, k, iterations=8)
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


def test_it_repeats_itself_by_the_seed() -> None:
    R = exposure_matrix(random_graph(4), -0.3)
    first, second = right_factors(R, 10), right_factors(R, 10)
    assert torch.equal(first.vectors, second.vectors)
    peak = first.vectors.abs().argmax(dim=0, keepdim=True)
    assert (first.vectors.gather(0, peak) > 0).all()
    R = exposure_matrix(random_graph(4), -0.3)
    blocks = [right_factors(R, 4, iterations=0, oversampling=3, seed=seed).block for seed in (1, 1, 2)]
    assert torch.equal(blocks[0], blocks[1])
    assert float(torch.linalg.svdvals(blocks[0].T @ blocks[2]).min()) < 0.9, "another start spans something else"


def test_blocks_of_rows_and_matrices_of_lower_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    R = exposure_matrix(random_graph(5), 0.5)
    whole = right_factors(R, 10)
    monkeypatch.setattr(spectral, "ROWS", 17)
    np.testing.assert_allclose(right_factors(R, 10).values, whole.values, rtol=1e-5)
    rank_two = sp.csr_matrix(np.outer(np.arange(9), np.ones(6)) + np.outer(np.ones(9), np.arange(6)), dtype=np.float32)
    assert right_factors(rank_two, 5).vectors.shape == (6, 2)
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
    check_refused(next(iter(wrong)), FilterSettings, **wrong)


def test_settings_survive_a_tensor() -> None:
    chosen = FilterSettings(dislike_weight=0.45, rank=7, cutoff=3, popularity_exponent=-0.1)
    assert FilterSettings.from_tensor(chosen.to_tensor()) == chosen


def joined(panels: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(panels, axis=1).astype(float)


@given(st.integers(0, 99), st.floats(0, 12), st.sampled_from([3, 48, 100]))
def test_blocks_of_any_condition_become_orthonormal(seed: int, decades: float, width: int) -> None:
    rng = np.random.default_rng(seed)
    mixed = np.linalg.qr(rng.standard_normal((width, width)))[0] * 10.0 ** -np.linspace(0, decades, width)
    panels = split((rng.standard_normal((300, width)) @ mixed @ np.linalg.qr(mixed)[0].T).astype(np.float32))
    before = joined(panels)
    orthonormalise(panels)
    orthonormalise(panels, (torch.float64,))
    found = joined(panels)
    np.testing.assert_allclose(found.T @ found, np.eye(width), atol=2e-5)
    # what the block spans well is still there
    left, sizes, _ = np.linalg.svd(before, full_matrices=False)
    strong = left[:, sizes > 1e-3 * sizes[0]]
    assert np.linalg.norm(strong - found @ (found.T @ strong)) < 1e-2 * np.sqrt(strong.shape[1])


def test_random_blocks_repeat_and_dependent_columns_are_replaced() -> None:
    block = np.zeros((50, 4), dtype=np.float32)
    block[:, 0] = block[:, 2] = np.arange(50)
    panels = split(block)
    orthonormalise(panels)
    found = joined(panels)
    np.testing.assert_allclose(found.T @ found, np.eye(4), atol=1e-5)
    assert abs(found[:, 0] @ np.arange(50)) == pytest.approx(np.linalg.norm(np.arange(50.0)), rel=1e-5)
    first, second = joined(random_panels(4000, 50, seed=1)), joined(random_panels(4000, 50, seed=1))
    np.testing.assert_array_equal(first, second)
    assert abs(first.mean()) < 0.01
    assert abs(first.std() - 1) < 0.01
    assert np.abs(np.corrcoef(first.T) - np.eye(50)).max() < 0.1


def test_the_rotation_of_panels_has_positive_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectral, "CHUNK", 7)
    panels = random_panels(60, 100, seed=3)
    assert [panel.shape for panel in panels] == [(60, 48), (60, 48), (60, 4)]
    rotation = torch.from_numpy(np.random.default_rng(0).standard_normal((100, 5)))
    found, wanted = rotated(panels, rotation).numpy(), joined(panels) @ rotation.numpy()
    np.testing.assert_allclose(np.abs(found), np.abs(wanted), rtol=1e-4, atol=1e-4)
    assert (found[np.abs(found).argmax(axis=0), range(5)] > 0).all()
    assert rotated(panels, rotation[:, :0]).shape == (60, 0)


def matrix(seed: int = 0, n_rows: int = 90, n_columns: int = 60) -> sp.csr_matrix:
    """Return a sparse matrix with a few strong directions."""
    rng = np.random.default_rng(seed)
    tastes = rng.random((n_rows, 5)) @ np.diag([5, 4, 3, 2, 1]) @ rng.standard_normal((5, n_columns))
    return sp.csr_matrix((tastes * (rng.random((n_rows, n_columns)) < 0.5)).astype(np.float32))


def block_of(other: sp.csr_matrix, width: int) -> torch.Tensor:
    return torch.from_numpy(np.linalg.svd(other.toarray())[2][:width].T.copy())


def dense_step(other: sp.csr_matrix, block: torch.Tensor, passes: int) -> np.ndarray:
    """Return an orthonormal basis of what ``passes`` steps make of the block."""
    x, v = other.toarray().astype(np.float64), block.numpy().astype(np.float64)
    for _ in range(passes):
        v = np.linalg.qr(x.T @ (x @ v))[0]
    return v


@pytest.mark.parametrize("passes", [1, 2, 3])
@pytest.mark.parametrize("flat", [1e-3, 1.0])
def test_the_block_is_that_of_the_steps(passes: int, flat: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the last products are made or saved."""
    monkeypatch.setattr(spectral, "FLAT", flat)
    now = matrix() + sp.random(90, 60, 0.05, random_state=1, dtype=np.float32, format="csr")
    start = block_of(matrix(), 8)
    found, _ = refreshed_factors(now.tocsr(), 4, start, passes)
    wanted = dense_step(now, start, passes)
    assert found.block.shape == (60, 8)
    assert (found.block.amax(dim=0) >= -found.block.amin(dim=0)).all(), "largest entries are positive"
    np.testing.assert_allclose(found.block.T @ found.block, np.eye(8), atol=1e-4)
    np.testing.assert_allclose(np.linalg.svd(found.block.numpy().T @ wanted, compute_uv=False), 1.0, atol=1e-4)
    # the values lie between those of a Rayleigh-Ritz step on the block before and on this one
    x = now.toarray().astype(np.float64)
    after = np.linalg.svd(x @ wanted, compute_uv=False)[:4]
    before = np.linalg.svd(x @ dense_step(now, start, passes - 1), compute_uv=False)[:4]
    assert (found.values.numpy() <= after * (1 + 1e-5)).all()
    assert (found.values.numpy() >= before * (1 - 1e-5)).all()
    if flat == 1.0:
        np.testing.assert_allclose(found.values, after, rtol=1e-5)


@pytest.mark.parametrize("flat", [1e-3, 1.0])
def test_repeated_steps_lead_to_the_singular_vectors(flat: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectral, "FLAT", flat)
    now, block = matrix(3), block_of(matrix(), 8)
    for _ in range(60):
        found, staleness = refreshed_factors(now, 4, block)
        block = found.block
    _, values, vectors = np.linalg.svd(now.toarray())
    np.testing.assert_allclose(found.values, values[:4], rtol=1e-5)
    assert staleness < 1e-5
    np.testing.assert_allclose(np.abs(np.sum(found.vectors.numpy().T * vectors[:4], axis=1)), 1.0, atol=1e-5)


def test_staleness_is_the_residual_of_the_old_ritz_vectors() -> None:
    now, start = matrix(4), block_of(matrix(), 7)
    _, staleness = refreshed_factors(now, 3, start, 2)
    x, v = now.toarray().astype(np.float64), start.numpy().astype(np.float64)
    gram = x.T @ x
    values, rotation = np.linalg.eigh(v.T @ gram @ v)
    values, ritz = values[::-1][:3], (v @ rotation[:, ::-1])[:, :3]
    residual = gram @ ritz - ritz * values
    assert staleness == pytest.approx(np.sqrt(np.square(residual).sum(axis=0).mean()) / values[0], rel=1e-4)
    exact = np.linalg.eigvalsh(gram)
    for value, length in zip(values, np.linalg.norm(residual, axis=0), strict=True):
        assert np.abs(exact - value).min() <= length


def test_blocks_become_orthonormal() -> None:
    # fewer directions than columns, new columns without a start, and no start at all
    low = sp.csr_matrix(np.outer(np.ones(20), np.arange(1.0, 13.0)).astype(np.float32))
    start = torch.zeros(12, 5)
    start[:9] = torch.linalg.qr(torch.randn(9, 5, generator=torch.Generator().manual_seed(0)))[0]
    found, _ = refreshed_factors(low, 3, start)
    assert found.values.shape == (1,)
    assert float(found.values[0]) == pytest.approx(np.linalg.norm(low.toarray()), rel=1e-5)
    assert torch.isfinite(found.block).all()
    nothing, staleness = refreshed_factors(low, 3, torch.zeros(12, 0))
    assert nothing.vectors.shape == (12, 0)
    assert staleness == 0
    generator = torch.Generator().manual_seed(0)
    block, noise = (torch.randn(60, 4, generator=generator) for _ in range(2))
    block[:, 2] = block[:, 0] + 1e-3 * noise[:, 2]  # whose products in float32 say little of the difference
    found = spectral._orthonormal(block)
    torch.testing.assert_close(found.T @ found, torch.eye(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(found @ (found.T @ block), block, atol=1e-4, rtol=0)


def normalised(edges: np.ndarray) -> sp.csr_matrix:
    """The symmetric normalisation, whose largest singular value is 1 in every component."""
    rows, columns = edges.sum(axis=1, keepdims=True), edges.sum(axis=0, keepdims=True)
    return sp.csr_matrix(edges / np.sqrt(np.maximum(rows, 1) * np.maximum(columns, 1)))


def check(matrix: sp.csr_matrix, k: int) -> None:
    gram = (matrix.T @ matrix).toarray()
    wanted = np.sort(np.linalg.eigvalsh(gram))[::-1][:k]
    wanted = wanted[wanted > eigenvectors.NULL * max(wanted.max(initial=0.0), eigenvectors.NULL)]
    energy, vectors = gram_eigenvectors(matrix, k)
    assert vectors.shape == (matrix.shape[1], len(energy))
    np.testing.assert_allclose(energy, wanted, atol=1e-10)
    np.testing.assert_allclose(gram @ vectors, vectors * energy, atol=1e-8)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(len(energy)), atol=1e-10)


SIDES = st.integers(1, 12)


@settings(max_examples=60)
@given(SIDES, SIDES, st.integers(1, 14), st.floats(0.0, 0.6), st.integers(0, 2**31), st.booleans())
def test_they_are_the_dense_ones(n_rows: int, n_columns: int, k: int, density: float, seed: int, scaled: bool) -> None:
    rng = np.random.default_rng(seed)
    edges = (rng.random((n_rows, n_columns)) < density).astype(float)
    check(normalised(edges) if scaled else sp.csr_matrix(edges * rng.normal(size=edges.shape)), k)


def test_large_components_have_their_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eigenvectors, "DENSE_BELOW", 8)
    rng = np.random.default_rng(0)
    blocks = [(rng.random(shape) < 0.3).astype(float) for shape in ((60, 50), (40, 45), (3, 2))]
    check(normalised(sp.block_diag(blocks).toarray()), 9)
    # lanczos finds fewer than there are columns, so such a side is decomposed densely whatever its size is
    monkeypatch.setattr(eigenvectors, "DENSE_BELOW", 0)
    edges = (np.random.default_rng(1).random((25, 20)) < 0.4).astype(float)
    for k in (19, 20, 21):
        check(normalised(edges), k)


def test_small_eigenvalues_are_found_and_rounding_is_not() -> None:
    energy, vectors = gram_eigenvectors(sp.diags([1.0, 1e-3, 1e-5, 1e-9]).tocsr(), 4)
    np.testing.assert_allclose(energy, [1.0, 1e-6, 1e-10], rtol=1e-9)
    assert vectors.shape == (4, 3)
    energy, vectors = gram_eigenvectors(sp.csr_matrix((4, 3), dtype=np.float64), 2)
    assert energy.shape == (0,)
    assert vectors.shape == (3, 0)


def test_of_equal_eigenvalues_those_of_large_components_come_first() -> None:
    rng = np.random.default_rng(0)
    large = sp.random(3000, 1500, density=0.004, random_state=rng, data_rvs=np.ones)
    matrix = normalised(sp.block_diag([large, sp.identity(600)]).toarray())
    energy, vectors = gram_eigenvectors(matrix[:, rng.permutation(matrix.shape[1])], 128)
    np.testing.assert_allclose(energy, 1.0, atol=1e-10)
    assert (vectors[:, 0] != 0).sum() > 1000
    assert ((vectors[:, 1:] != 0).sum(axis=0) <= 2).all()


def test_what_is_kept_is_what_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    first, second = (sp.random(30, 20, density=0.3, random_state=rng, format="csr") for _ in range(2))
    alone = {(m, k): gram_eigenvectors(matrix, k) for m, matrix in enumerate((first, second)) for k in (3, 5)}
    found: list[int] = []

    def counted(matrix: sp.csr_matrix, k: int) -> Any:
        found.append(k)
        return decompose(matrix, k)

    decompose = eigenvectors._gram_eigenvectors
    monkeypatch.setattr(eigenvectors, "_gram_eigenvectors", counted)
    with kept_eigenvectors():
        for _ in range(3):
            for (m, k), (energy, vectors) in alone.items():
                again = gram_eigenvectors((first, second)[m].copy(), k)
                np.testing.assert_array_equal(again[0], energy)
                np.testing.assert_array_equal(again[1], vectors)
                again[1][:] = 0.0  # of the caller's own copy
        assert found == [3, 5, 3, 5]
        monkeypatch.setattr(eigenvectors, "KEPT_BYTES", 20 * 3 * 8 + 1)
        third = sp.random(30, 20, density=0.3, random_state=rng, format="csr")
        for matrix in (third, third, first):  # room for one of three vectors: all others go
            gram_eigenvectors(matrix, 3)
        assert found == [3, 5, 3, 5, 3, 3]
    gram_eigenvectors(first, 3)
    gram_eigenvectors(first, 3)
    assert found == [3, 5, 3, 5, 3, 3, 3, 3]


def test_of_what_is_kept_the_one_that_was_asked_for_last_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    matrices = [sp.random(30, 20, density=0.3, random_state=rng, format="csr") for _ in range(3)]
    decompose, found = eigenvectors._gram_eigenvectors, []

    def counted(matrix: sp.csr_matrix, k: int) -> Any:
        found.append(next(place for place, each in enumerate(matrices) if each is matrix))
        return decompose(matrix, k)

    monkeypatch.setattr(eigenvectors, "_gram_eigenvectors", counted)
    monkeypatch.setattr(eigenvectors, "KEPT_BYTES", 2 * 20 * 3 * 8)  # room for two
    with kept_eigenvectors():
        for place in (0, 1, 0, 2, 0, 1):
            gram_eigenvectors(matrices[place], 3)
    assert found == [0, 1, 2, 1]


def random_signs(seed: int, shape: tuple[int, int]) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Likes and dislikes, a few pairs repeated and a few of both signs; user 0 and item 0 have none."""
    rng = np.random.default_rng(seed)
    counts = [rng.poisson(rate, shape) * (rng.random(shape) < 0.5) for rate in (0.4, 0.25)]
    for each in counts:
        each[0], each[:, 0] = 0, 0
    return tuple(sp.csr_matrix(each.astype(float)) for each in counts)  # type: ignore[return-value]


def dense_laplacian(likes: sp.csr_matrix, dislikes: sp.csr_matrix, alpha: float) -> NDArray[np.float64]:
    def one(matrix: sp.csr_matrix) -> NDArray[np.float64]:
        adjacency = sp.bmat([[None, matrix], [matrix.T, None]]).toarray()
        degree = adjacency.sum(axis=1)
        scale = np.where(degree > 0, 1 / np.sqrt(np.maximum(degree, 1)), 1.0)
        return np.eye(len(adjacency)) - scale[:, None] * adjacency * scale

    return (one(likes) + alpha * one(dislikes)) / (1 + alpha)


@pytest.mark.parametrize("alpha", [0.0, 0.4, -0.8])
@pytest.mark.parametrize("shape", [(60, 40), (40, 60)])
@pytest.mark.parametrize("dense", [True, False])
def test_they_span_as_dense(alpha: float, shape: tuple[int, int], dense: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    k = 9
    if not dense:
        monkeypatch.setattr(module, "DENSE_BELOW", 4 * k)
    likes, dislikes = random_signs(1, shape)
    values, wanted = np.linalg.eigh(dense_laplacian(likes, dislikes, alpha))
    assert values[k] - values[k - 1] > 1e-4, "the k-th eigenvalue must stand apart, or the span is not defined"
    found = laplacian_eigenvectors(likes, dislikes, alpha, k)
    np.testing.assert_allclose(found.T @ found, np.eye(k), atol=1e-9)
    np.testing.assert_allclose(found @ found.T, wanted[:, :k] @ wanted[:, :k].T, atol=1e-7)
    rayleigh = np.diag(found.T @ dense_laplacian(likes, dislikes, alpha) @ found)
    np.testing.assert_allclose(rayleigh, values[:k], atol=1e-9)
    assert ((found**3).sum(axis=0) > 0).all()


@pytest.mark.parametrize("shape", [(60, 40), (40, 60)])
def test_the_smaller_side_is_decomposed(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    sides, decompose = [], module.gram_eigenvectors
    monkeypatch.setattr(module, "gram_eigenvectors", lambda m, k: (sides.append(m.shape[1]), decompose(m, k))[1])
    laplacian_eigenvectors(*random_signs(1, shape), 0.3, 4)
    assert sides == [40]


@pytest.mark.parametrize("dense", [True, False])
def test_equal_eigenvalues_are_all_found(dense: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three copies of a graph: each eigenvalue three times."""
    if not dense:
        monkeypatch.setattr(module, "DENSE_BELOW", 0)
    likes, dislikes = (sp.block_diag([each] * 3).tocsr() for each in random_signs(2, (30, 20)))
    _, wanted = np.linalg.eigh(dense_laplacian(likes, dislikes, 0.3))
    found = laplacian_eigenvectors(likes, dislikes, 0.3, 12)
    np.testing.assert_allclose(found @ found.T, wanted[:, :12] @ wanted[:, :12].T, atol=1e-6)


def test_vectors_repeat_and_follow_their_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    likes, dislikes = random_signs(3, (50, 35))
    rng = np.random.default_rng(0)
    users, items = rng.permutation(50), rng.permutation(35)
    first = laplacian_eigenvectors(likes, dislikes, 0.2, 8)
    second = laplacian_eigenvectors(likes[users][:, items], dislikes[users][:, items], 0.2, 8)
    np.testing.assert_allclose(second, first[np.r_[users, 50 + items]], atol=1e-8)
    monkeypatch.setattr(module, "DENSE_BELOW", 0)
    likes, dislikes = random_signs(4, (80, 60))
    first, second = (laplacian_eigenvectors(likes, dislikes, 0.2, 6) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_rank_and_alpha_are_bounds() -> None:
    likes = sp.csr_matrix(np.outer(np.ones(5), np.ones(4)))
    assert laplacian_eigenvectors(likes, sp.csr_matrix((5, 4)), 0.5, 64).shape == (9, 1)
    assert laplacian_eigenvectors(sp.csr_matrix((5, 4)), sp.csr_matrix((5, 4)), 0.5, 64).shape == (9, 0)
    with pytest.raises(ValueError, match="above -1"):
        laplacian_eigenvectors(*random_signs(0, (5, 4)), -1.0, 2)


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
