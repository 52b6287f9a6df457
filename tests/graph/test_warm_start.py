"""Steps from an old block of singular vectors, against a dense decomposition."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recbole_signed.graph import spectral
from recbole_signed.graph.spectral import refreshed_factors


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
    cosines = np.linalg.svd(found.block.numpy().T @ wanted, compute_uv=False)
    np.testing.assert_allclose(cosines, 1.0, atol=1e-4)
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


def test_a_block_that_the_matrix_does_not_fill() -> None:
    """Fewer directions than columns, new columns without a start, and no start at all."""
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


def test_a_block_that_is_far_from_orthonormal_is_made_so() -> None:
    generator = torch.Generator().manual_seed(0)
    block, noise = (torch.randn(60, 4, generator=generator) for _ in range(2))
    block[:, 2] = block[:, 0] + 1e-3 * noise[:, 2]  # whose products in float32 say little of the difference
    found = spectral._orthonormal(block)
    torch.testing.assert_close(found.T @ found, torch.eye(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(found @ (found.T @ block), block, atol=1e-4, rtol=0)
