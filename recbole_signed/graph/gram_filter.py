r"""Products with the item-item Gram matrix :math:`R^T R` of a sparse matrix, which is never formed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from recbole_signed.graph.propagation import SparseOperator

CELLS = 1 << 25
"""Cells of ``[chunk, n_users]`` that a product may hold at a time: 128 MiB of float32."""


class GramFilter:
    r"""The linear filter :math:`y \mapsto y R^T R` of graph filtering (GF-CF, CIKM 2021, eq. 5).

    Memory: R and its transpose, 8 bytes per edge each for :meth:`rows` (int32 indices, float32 values), the same
    again, once, for :meth:`dense`; and at most ``CELLS`` cells between the two products. Nothing changes it, so copies
    of a model share it.

    Args:
        matrix: R, float32 CSR ``[n_users, n_items]``.
    """

    def __init__(self, matrix: sp.csr_matrix) -> None:
        self.matrix = matrix
        self.transposed = matrix.T.tocsr()
        self._operators: dict[str, SparseOperator] = {}

    def rows(self, rows: sp.csr_matrix) -> npt.NDArray[np.float32]:
        """Return ``rows @ R.T @ R`` of sparse ``rows [batch, n_items]``: dense ``[batch, n_items]``.

        Costs the number of paths of length three from the rows: far less than the dense product for short rows.
        """
        result = np.empty(rows.shape, dtype=np.float32)
        step = self._step()
        for first in range(0, rows.shape[0], step):
            chunk = rows[first : first + step]
            ((chunk @ self.transposed) @ self.matrix).toarray(out=result[first : first + step])
        return result

    def dense(self, signals: torch.Tensor) -> torch.Tensor:
        """Return ``signals @ R.T @ R`` of dense ``signals [batch, n_items]``: ``[batch, n_items]``."""
        name = str(signals.device)
        if name not in self._operators:
            self._operators[name] = SparseOperator(self.matrix, signals.device)
        operator = self._operators[name]
        chunks = [operator.T @ (operator @ chunk.T.contiguous()) for chunk in signals.split(self._step())]
        return torch.cat(chunks, dim=1).T.contiguous()

    def _step(self) -> int:
        return max(1, CELLS // max(1, *self.matrix.shape))

    def __deepcopy__(self, memo: dict[int, Any]) -> GramFilter:
        return self
