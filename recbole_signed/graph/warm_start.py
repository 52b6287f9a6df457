r"""Brings singular vectors of a matrix that changed a little up to date, and says how stale they were.

One step of subspace iteration from the old block, :math:`V \leftarrow \mathrm{orth}(R^T R V)`, with a Rayleigh-Ritz
step. The residual :math:`\|R^T R v_j - \lambda_j v_j\|` of the old vectors costs nothing more; each old Ritz value is
within it of an eigenvalue of :math:`R^T R` (Parlett, "The Symmetric Eigenvalue Problem", theorem 4.5.1).
"""

from __future__ import annotations

import scipy.sparse as sp
import torch

from recbole_signed.graph.spectral import RightFactors, right_factors


def refreshed_factors(
    matrix: sp.csr_matrix, k: int, block: torch.Tensor, passes: int = 1
) -> tuple[RightFactors, float]:
    """Return the factors after ``passes`` steps from ``block [n_columns, >= k]``, and the staleness of the block.

    Staleness is the root mean square residual of the first ``k`` old directions over the largest Ritz value: 0 where
    they span an invariant subspace of the matrix as it is now.

    Args:
        matrix: float32 CSR ``[n_rows, n_columns]``.
        k: how many vectors.
        block: of a similar matrix, its columns nearly orthonormal; rows of new columns may be zero.
        passes: at least 1.
    """
    old, _ = torch.linalg.qr(block)
    image = torch.from_numpy(matrix.T @ (matrix @ old.numpy()))
    small = old.T @ image
    small = (small + small.T) / 2
    values, rotation = (each.flip(-1) for each in torch.linalg.eigh(small.double()))
    chosen = rotation[:, :k].float()
    residual = image @ chosen - old @ (small @ chosen)
    staleness = float(residual.square().sum(dim=0).mean().sqrt() / values[0].clamp(min=1e-30))
    found = right_factors(
        matrix, k, iterations=passes - 1, oversampling=block.shape[1] - k, start=torch.linalg.qr(image)[0]
    )
    return found, staleness
