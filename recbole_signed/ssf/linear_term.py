r"""The linear filter beside the spectral one: paths of length three, none of them cut off.

:math:`\gamma\, R_u R^T R / \sigma_1^2`, which in the spectrum is the response :math:`\gamma s^2` of all singular
vectors, those beyond the rank too. It needs the training edges when users are scored, and a product with all users that
share an item with one: for small catalogues.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch

from recbole_signed.graph import SignedGraph
from recbole_signed.ssf.filter import SpectralFilter

CELLS = 4_000_000
"""Scores that are computed at a time, at most: between the products stand the sparse rows of all users."""


@dataclass(frozen=True)
class LinearTerm:
    """A weight, and the exposure matrix that a filter was fitted to."""

    fitted: SpectralFilter
    matrix: sp.csr_matrix
    """R, float32 ``[n_users, n_items]``."""
    weight: float
    r""":math:`\gamma / \sigma_1^2`."""

    @classmethod
    def of(cls, graph: SignedGraph, fitted: SpectralFilter, gamma: float) -> LinearTerm:
        """Return the term of a filter that was fitted to ``graph``."""
        largest = float(fitted.values[0]) if fitted.k else 0.0
        return cls(fitted, fitted.rows(graph), gamma / largest**2 if largest else 0.0)

    def scores(self, users: SignedGraph) -> torch.Tensor:
        """Return what any users, given by their edges, get from this term, float32 ``[n_users, n_items]``."""
        rows = self.fitted.rows(users)
        out = np.empty(rows.shape, dtype=np.float32)
        size = max(1, CELLS // max(self.matrix.shape[0], 1))
        for first in range(0, len(out), size):
            product = (rows[first : first + size] @ self.matrix.T) @ self.matrix
            out[first : first + size] = self.weight * product.toarray()
        return torch.from_numpy(out)

    def contributions(self, user: SignedGraph, item: int) -> np.ndarray:
        """Return what each edge of one user adds, float64 ``[n_edges]``, in the order of a filter's explanation."""
        items, _, weights = self.fitted.edges_of(user)
        column = np.asarray((self.matrix.T @ self.matrix[:, [item]]).todense(), dtype=np.float64).ravel()
        return self.weight * weights * column[items]
