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

from recbole_signed.graph.spectral import MatrixOperator, RightFactors, n_kept
from recbole_signed.graph.subspace import Panel, iterate, orthonormalise, rotated, split

FLAT = 1e-3
"""Where a Ritz value of the block is below this part of the largest, the products are made that are else saved."""


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
    staleness = None
    with MatrixOperator(matrix) as operator:
        image = split(block.numpy(), operator.threads)
        for _ in range(passes):
            old = image
            orthonormalise(old, (torch.float64,))
            image = operator.squared([panel.copy() for panel in old])
            values, rotation = _ritz(old, image)
            if staleness is None:
                staleness = _residual(old, image, values[:k], rotation[:, :k])
        if float(values[-1]) > FLAT * float(values[0]):
            energy, rotation = _harmonic_ritz(image, values, rotation)
        else:
            orthonormalise(image)
            image, energy, rotation = iterate(operator, image, 0)
    found = rotated(image, rotation)
    kept = min(k, n_kept(energy))
    return RightFactors(energy[:kept].sqrt().float(), found[:, :kept].contiguous(), found), staleness or 0.0


def _joined(panels: list[Panel]) -> torch.Tensor:
    return torch.from_numpy(panels[0] if len(panels) == 1 else np.concatenate(panels, axis=1))


def _ritz(old: list[Panel], image: list[Panel]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the Ritz values of an orthonormal block, descending, and its rotation to the vectors, float64."""
    small = (_joined(old).T @ _joined(image)).double()
    values, rotation = torch.linalg.eigh((small + small.T) / 2)
    return values.flip(-1), rotation.flip(-1)


def _residual(old: list[Panel], image: list[Panel], values: torch.Tensor, rotation: torch.Tensor) -> float:
    residual = _joined(image) @ rotation.float()
    residual -= _joined(old) @ (rotation * values).float()
    return float(residual.square().sum(dim=0).mean().sqrt() / values[0].clamp(min=1e-30))


def _harmonic_ritz(
    image: list[Panel], values: torch.Tensor, rotation: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Return eigenvalues, descending, and what :math:`A V` is to be multiplied by.

    In the coordinates of the Ritz vectors of V its :math:`V^T A V` is diagonal, and the columns of :math:`A V` are
    nearly orthogonal, so that their products in float32 say enough about all of them.
    """
    whitened = rotation / values.sqrt()
    turned = _joined(image) @ whitened.float()
    energy, inner = (each.flip(-1) for each in torch.linalg.eigh((turned.T @ turned).double()))
    return energy, whitened @ inner / energy.sqrt()
