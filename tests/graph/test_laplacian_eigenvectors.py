"""Laplacian eigenvectors from singular vectors, against a dense eigendecomposition of the Laplacian itself."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from recbole_signed.graph import eigenvectors as module
from recbole_signed.graph.eigenvectors import laplacian_eigenvectors


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
def test_they_span_what_the_dense_ones_span(
    alpha: float, shape: tuple[int, int], dense: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    sides = []
    decompose = module.gram_eigenvectors
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


def test_permuted_nodes_give_permuted_vectors() -> None:
    likes, dislikes = random_signs(3, (50, 35))
    rng = np.random.default_rng(0)
    users, items = rng.permutation(50), rng.permutation(35)
    first = laplacian_eigenvectors(likes, dislikes, 0.2, 8)
    second = laplacian_eigenvectors(likes[users][:, items], dislikes[users][:, items], 0.2, 8)
    np.testing.assert_allclose(second, first[np.r_[users, 50 + items]], atol=1e-8)


def test_the_same_arguments_give_the_same_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DENSE_BELOW", 0)
    likes, dislikes = random_signs(4, (80, 60))
    first, second = (laplacian_eigenvectors(likes, dislikes, 0.2, 6) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_there_are_no_more_than_the_rank_allows() -> None:
    likes = sp.csr_matrix(np.outer(np.ones(5), np.ones(4)))
    assert laplacian_eigenvectors(likes, sp.csr_matrix((5, 4)), 0.5, 64).shape == (9, 1)
    assert laplacian_eigenvectors(sp.csr_matrix((5, 4)), sp.csr_matrix((5, 4)), 0.5, 64).shape == (9, 0)


def test_alpha_has_a_bound() -> None:
    with pytest.raises(ValueError, match="above -1"):
        laplacian_eigenvectors(*random_signs(0, (5, 4)), -1.0, 2)
