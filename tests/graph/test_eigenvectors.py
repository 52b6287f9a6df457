"""Leading eigenvectors of a Gram matrix, and of the signed Laplacian, against dense decompositions."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recbole_signed.graph import eigenvectors
from recbole_signed.graph import eigenvectors as module
from recbole_signed.graph.eigenvectors import gram_eigenvectors, kept_eigenvectors, laplacian_eigenvectors


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
