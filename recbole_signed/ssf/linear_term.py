"""The linear filter beside the spectral one, for small catalogues."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch

from recbole_signed.graph import GramFilter


@dataclass(frozen=True)
class LinearTerm:
    r"""The linear filter beside the spectral one: paths of length three, none of them cut off.

    :math:`\gamma\, R_u R^T R / \sigma_1^2`, which in the spectrum is the response :math:`\gamma s^2` of all singular
    vectors, those beyond the rank too. It needs the exposure matrix of the fit when users are scored, and a product
    with all users that share an item with one: for small catalogues.
    """

    gram: GramFilter
    """Of R, float32 ``[n_users, n_items]``."""
    weight: float
    r""":math:`\gamma / \sigma_1^2`."""

    @classmethod
    def of(cls, matrix: sp.csr_matrix, values: torch.Tensor, gamma: float) -> LinearTerm | None:
        """Return the term of the exposure matrix with these singular values; None for a weight of 0."""
        return cls(GramFilter(matrix), gamma / float(values[0]) ** 2) if gamma and len(values) else None

    def scores(self, rows: sp.csr_matrix) -> torch.Tensor:
        """Return what users with these rows of R get, float32 ``[n_users, n_items]``; 0 for items after the fit."""
        out = np.zeros(rows.shape, dtype=np.float32)
        n_items = self.gram.matrix.shape[1]
        out[:, :n_items] = self.weight * self.gram.rows(rows[:, :n_items])
        return torch.from_numpy(out)

    def contributions(self, items: np.ndarray, entries: np.ndarray, item: int) -> np.ndarray:
        """Return what each of a user's edges, entries of R, adds to the score of ``item``, float64 ``[n_edges]``."""
        column = (self.gram.transposed @ self.gram.matrix[:, [item]]).toarray().ravel().astype(np.float64)
        return self.weight * entries * column[items]
