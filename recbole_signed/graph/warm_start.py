r"""Brings singular vectors of a matrix that changed a little up to date, and says how stale they were.

A step of subspace iteration from the old block V, then Rayleigh-Ritz on :math:`A V`, :math:`A = R^T R`. As
:math:`A^{-1}` takes :math:`A V` back to V, its projection needs no further product: :math:`(V^T A^2 V)\, y = \lambda\,
(V^T A V)\, y`, new vectors :math:`A V y`. These are harmonic Ritz values (Paige, Parlett, van der Vorst, "Approximate
solutions and eigenvalue bounds from Krylov subspaces", 1995); each lies between those of V and those of :math:`A V`.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch

from recbole_signed.graph.sparse_kernels import SparseTerm, add_transposed_product
from recbole_signed.graph.spectral import RightFactors, right_factors

FLAT = 1e-3
"""Where a Ritz value of the block is below this part of the largest, the products are made that are else saved."""
ROWS = 1 << 15
"""Rows that are multiplied at a time."""


def refreshed_factors(
    matrix: sp.csr_matrix, k: int, block: torch.Tensor, passes: int = 1
) -> tuple[RightFactors, float]:
    r"""Return the factors after ``passes`` steps from ``block [n_columns, >= k]``, and the staleness of the block.

    Staleness is the root mean square residual :math:`\|A x - \lambda x\|` of the first ``k`` old Ritz vectors over the
    largest Ritz value: 0 where they span an invariant subspace of the matrix as it is now. Each old Ritz value is
    within its residual of an eigenvalue of A (Parlett, theorem 4.5.1).

    Args:
        matrix: float32 CSR ``[n_rows, n_columns]``.
        k: how many vectors.
        block: of a similar matrix, its columns nearly orthonormal; rows of new columns may be zero.
        passes: at least 1, each of two products with the block.
    """
    if not block.shape[1]:
        return RightFactors(torch.zeros(0), block, block), 0.0
    staleness, image = None, block
    for _ in range(passes):
        old = _orthonormal(image)
        image = _squared(matrix, old)
        small = (old.T @ image).double()
        values, rotation = (each.flip(-1) for each in torch.linalg.eigh((small + small.T) / 2))
        if staleness is None:
            residual = image @ rotation[:, :k].float() - old @ (rotation * values)[:, :k].float()
            staleness = float(residual.square().sum(dim=0).mean().sqrt() / values[0].clamp(min=1e-30))
            del residual
    if float(values[-1]) > FLAT * float(values[0]):
        found = _harmonic(image, values, rotation, k)
    else:
        start = torch.linalg.qr(image)[0]
        found = right_factors(matrix, k, iterations=0, oversampling=block.shape[1] - k, start=start)
    return found, staleness or 0.0


def _orthonormal(block: torch.Tensor) -> torch.Tensor:
    """Return an orthonormal block of the same span; by reflections where it is far from one."""
    lower, failed = torch.linalg.cholesky_ex((block.T @ block).double())
    if bool(failed) or not float(lower.diagonal().min()) > 0.1 * float(lower.diagonal().max()):
        return torch.linalg.qr(block)[0]
    return block @ torch.linalg.inv(lower).T.float()


def _squared(matrix: sp.csr_matrix, block: torch.Tensor) -> torch.Tensor:
    r"""Return :math:`R^T R V`."""
    table, whole = block.contiguous(), SparseTerm.of(matrix)
    image = np.zeros(table.shape, dtype=np.float32)
    for first in range(0, matrix.shape[0], ROWS):
        part = whole.rows(first, ROWS)
        if part.data is not None and len(part.indices):
            add_transposed_product(image, SparseTerm(part.indptr, part.indices), part.times(table).numpy(), part.data)
    return torch.from_numpy(image)


def _harmonic(image: torch.Tensor, values: torch.Tensor, rotation: torch.Tensor, k: int) -> RightFactors:
    r"""Return the harmonic Ritz pairs of :math:`A V` from the Ritz values of V, descending, and its rotation to them.

    In the coordinates of the Ritz vectors of V its :math:`V^T A V` is diagonal, and the columns of :math:`A V` are
    nearly orthogonal, so that their products in float32 say enough about all of them.
    """
    whitened = rotation / values.sqrt()
    turned = image @ whitened.float()
    energy, inner = (each.flip(-1) for each in torch.linalg.eigh((turned.T @ turned).double()))
    block = turned @ (inner / energy.sqrt()).float()
    block *= torch.where(block.amax(dim=0) >= -block.amin(dim=0), 1.0, -1.0)
    return RightFactors(energy[:k].sqrt().float(), block[:, :k].contiguous(), block)
