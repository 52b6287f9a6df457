r"""Inner products and weighted sums over the pairs of a sparse pattern, and their gradients.

Nothing of the size ``[n_pairs, d]`` is ever made: torch's kernels go through the pairs row by row, so what is held
beside the dense matrices is one number for each pair and quantity.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from recbole_signed.graph.sparse_kernels import csr_product, csr_tensor


class SparsePairs:
    """Pairs (row, column), sorted by row; the same pair may occur several times.

    Attributes:
        indptr: where the pairs of each row begin, int32 ``[n_rows + 1]``.
        columns: int32 ``[n_pairs]``, in any order within a row.
        shape: ``(n_rows, n_columns)``.
    """

    def __init__(self, indptr: torch.Tensor, columns: torch.Tensor, n_columns: int) -> None:
        self.indptr = indptr
        self.columns = columns
        self.shape = (len(indptr) - 1, n_columns)

    @classmethod
    def sorted_by_row(
        cls, rows: torch.Tensor, columns: torch.Tensor, shape: tuple[int, int]
    ) -> tuple[SparsePairs, torch.Tensor]:
        """Return the pairs ``(rows[j], columns[j])`` and the places ``[n_pairs]`` they had before they were sorted."""
        places = np.arange(len(rows), dtype=np.int32)
        by_row = sp.csc_matrix(  # each pair a column of its own: a counting sort that adds nothing up
            (places, rows.cpu().numpy().astype(np.int32), np.arange(len(rows) + 1, dtype=np.int32)),
            shape=(shape[0], len(rows)),
        ).tocsr()
        order = torch.from_numpy(by_row.data).to(rows.device)
        indptr = torch.from_numpy(by_row.indptr).to(rows.device)
        return cls(indptr, columns.index_select(0, order).int(), shape[1]), order

    @cached_property
    def _transposed(self) -> tuple[SparsePairs, torch.Tensor]:
        """The pairs sorted by column, and the places ``[n_pairs]`` they have here."""
        places = np.arange(len(self.columns), dtype=np.int32)
        here = sp.csr_matrix((places, self.columns.cpu().numpy(), self.indptr.cpu().numpy()), shape=self.shape)
        there = here.tocsc()
        device = self.columns.device
        indptr, rows, order = (torch.from_numpy(each).to(device) for each in (there.indptr, there.indices, there.data))
        return SparsePairs(indptr, rows, self.shape[0]), order

    def _matrix(self, values: torch.Tensor) -> torch.Tensor:
        return csr_tensor(self.indptr, self.columns, values, self.shape, check_invariants=False)

    def dots(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Return the inner product of row ``i`` of ``left`` and row ``j`` of ``right`` for each pair: ``[n_pairs]``."""
        if len(self.columns) >= self.shape[0] * self.shape[1]:  # torch refuses so many; and all products cost less
            rows = torch.arange(self.shape[0], device=left.device)
            return (left @ right.T)[self.spread(rows), self.columns]
        zeros = left.new_zeros(len(self.columns))
        return torch.sparse.sampled_addmm(self._matrix(zeros), left, right.T, beta=0.0).values()

    def sum(self, values: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
        """Return for each row ``i`` the sum of ``values * dense[j]`` over its pairs: ``[n_rows, d]``."""
        return csr_product(self.indptr, self.columns, values, dense)

    def sum_transposed(self, values: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
        """Return for each column ``j`` the sum of ``values * dense[i]`` over its pairs: ``[n_columns, d]``."""
        pairs, order = self._transposed
        return pairs.sum(values.index_select(0, order), dense)

    def row_sums(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum of ``values [n_pairs]`` over each row: ``[n_rows]``."""
        return self._matrix(values) @ values.new_ones(self.shape[1])

    def spread(self, row_values: torch.Tensor) -> torch.Tensor:
        """Return for each pair the entry of its row in ``row_values [n_rows]``: ``[n_pairs]``."""
        return row_values.repeat_interleave(self.indptr.diff(), output_size=len(self.columns))


class _PairScores(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, left: torch.Tensor, right: torch.Tensor, pairs: SparsePairs) -> torch.Tensor:
        context.save_for_backward(left, right)
        context.pairs = pairs
        return pairs.dots(left, right)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        left, right = context.saved_tensors
        gradient = gradient.contiguous()
        return context.pairs.sum(gradient, right), context.pairs.sum_transposed(gradient, left), None


def pair_scores(left: torch.Tensor, right: torch.Tensor, pairs: SparsePairs) -> torch.Tensor:
    """Return :meth:`SparsePairs.dots` with gradients for ``left [n_rows, d]`` and ``right [n_columns, d]``."""
    return _PairScores.apply(left.contiguous(), right.contiguous(), pairs)


class _PairSums(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: torch.Tensor, dense: torch.Tensor, pairs: SparsePairs) -> torch.Tensor:
        context.save_for_backward(values, dense)
        context.pairs = pairs
        return pairs.sum(values, dense)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        values, dense = context.saved_tensors
        gradient = gradient.contiguous()
        return context.pairs.dots(gradient, dense), context.pairs.sum_transposed(values, gradient), None


def pair_sums(values: torch.Tensor, dense: torch.Tensor, pairs: SparsePairs) -> torch.Tensor:
    """Return :meth:`SparsePairs.sum` with gradients for ``values [n_pairs]`` and ``dense [n_columns, d]``."""
    return _PairSums.apply(values.contiguous(), dense.contiguous(), pairs)
