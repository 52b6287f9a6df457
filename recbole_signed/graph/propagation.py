"""Sparse products between the two sides of a bipartite graph, whose gradients are products with the transpose."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from recbole_signed.graph.sparse_kernels import csr_product, csr_tensor
from recbole_signed.graph.spectral import inverse_power

CELLS = 1 << 25  # cells of `[chunk, n_users]` that a product may hold at a time: 128 MiB of float32
Pair = tuple[torch.Tensor, torch.Tensor]


def sparse_tensor(matrix: sp.spmatrix, device: torch.device | str = "cpu") -> torch.Tensor:
    """Return a scipy matrix as a torch CSR tensor of float32 with int32 indices where they suffice."""
    matrix = matrix.tocsr()
    large = max(matrix.nnz, *matrix.shape) >= np.iinfo(np.int32).max
    kind = np.int64 if large else np.int32
    indptr, indices = (torch.from_numpy(array.astype(kind)).to(device) for array in (matrix.indptr, matrix.indices))
    values = torch.from_numpy(matrix.data.astype(np.float32)).to(device)
    return csr_tensor(indptr, indices, values, matrix.shape)


def _times(matrix: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
    """Return the product of a CSR tensor ``[n_rows, n_columns]`` with ``dense [n_columns, width]``, of its type."""
    return csr_product(matrix.crow_indices(), matrix.col_indices(), matrix.values(), dense)


def symmetric(matrix: sp.csr_matrix, *, smoothing: float = 0.0, exponent: float = 0.5) -> sp.csr_matrix:
    r"""Return :math:`(D_u + a)^{-e} M (D_i + a)^{-e}` with the row and column sums of :math:`|M|` as degrees."""
    size = abs(matrix)
    scales = [
        inverse_power(np.asarray(size.sum(axis=axis), np.float64).ravel(), smoothing, exponent) for axis in (1, 0)
    ]
    return (sp.diags(scales[0]) @ matrix @ sp.diags(scales[1])).tocsr().astype(np.float32)


def row_mean(matrix: sp.csr_matrix) -> sp.csr_matrix:
    r"""Return :math:`D^{-1} M`: the mean over the neighbours of each row; rows without any stay zero."""
    degrees = np.asarray(abs(matrix).sum(axis=1), np.float64).ravel()
    return (sp.diags(inverse_power(degrees, 0.0, 1.0)) @ matrix).tocsr().astype(np.float32)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, forward: torch.Tensor, backward: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
        context.backward_matrix = backward
        return _times(forward, dense)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[None, None, torch.Tensor]:
        return None, None, _times(context.backward_matrix, gradient)


class SparseOperator:
    """A fixed sparse matrix ``[n_rows, n_columns]`` whose products with dense matrices can be differentiated."""

    def __init__(self, matrix: sp.spmatrix, device: torch.device | str = "cpu") -> None:
        matrix = matrix.tocsr()
        self.shape: tuple[int, int] = matrix.shape
        self.matrix = sparse_tensor(matrix, device)
        self.transposed = sparse_tensor(matrix.T, device)

    @property
    def T(self) -> SparseOperator:  # noqa: N802 (as in numpy and torch)
        """The transpose, which shares the memory."""
        other = object.__new__(SparseOperator)
        other.shape = (self.shape[1], self.shape[0])
        other.matrix, other.transposed = self.transposed, self.matrix
        return other

    def __matmul__(self, dense: torch.Tensor) -> torch.Tensor:
        """Return the product with ``dense [n_columns, d]``: ``[n_rows, d]``, on the device of the operator."""
        return _Product.apply(self.matrix, self.transposed, dense)

    def __deepcopy__(self, memo: dict[int, Any]) -> SparseOperator:
        return self


class BipartiteOperator:
    r"""One step of propagation between users and items: ``(U, I) -> (A I, B U)``.

    ``symmetric``: :math:`A = \hat R = D_u^{-1/2} R D_i^{-1/2}`, :math:`B = \hat R^T` (LightGCN, SIGIR 2020, eq. 3, in
    its bipartite form). ``mean``: each side takes the mean over its neighbours (as SGCN does, ICDM 2018, eq. 2-5).
    """

    def __init__(self, to_users: SparseOperator, to_items: SparseOperator) -> None:
        self.to_users = to_users
        self.to_items = to_items

    @classmethod
    def symmetric(cls, matrix: sp.csr_matrix, device: torch.device | str = "cpu", **kwargs: float) -> BipartiteOperator:
        """Return the operator of the symmetrically normalised ``matrix [n_users, n_items]``."""
        to_users = SparseOperator(symmetric(matrix, **kwargs), device)
        return cls(to_users, to_users.T)

    @classmethod
    def mean(cls, matrix: sp.csr_matrix, device: torch.device | str = "cpu") -> BipartiteOperator:
        """Return the operator that averages over the neighbours in ``matrix [n_users, n_items]``."""
        return cls(SparseOperator(row_mean(matrix), device), SparseOperator(row_mean(matrix.T.tocsr()), device))

    def __call__(self, users: torch.Tensor, items: torch.Tensor) -> Pair:
        """Propagate ``users [n_users, d]`` and ``items [n_items, d]`` by one step."""
        return self.to_users @ items, self.to_items @ users

    def mean_of_layers(self, users: torch.Tensor, items: torch.Tensor, n_layers: int) -> Pair:
        """Return the mean of the inputs and of what ``n_layers`` steps make of them (LightGCN, eq. 4)."""
        sums = users, items
        for _ in range(n_layers):
            users, items = self(users, items)
            sums = sums[0] + users, sums[1] + items
        return sums[0] / (n_layers + 1), sums[1] / (n_layers + 1)


class TwoHopMean:
    """The mean over paths of two edges that agree, :math:`P P^T + N N^T`, or disagree, :math:`P N^T + N P^T`."""

    def __init__(self, likes: sp.csr_matrix, dislikes: sp.csr_matrix, device: torch.device | str = "cpu") -> None:
        matrices = likes.astype(np.float64), dislikes.astype(np.float64)
        self.likes, self.dislikes = (SparseOperator(matrix, device) for matrix in matrices)
        sizes = [np.asarray(matrix.sum(axis=1)).ravel() for matrix in matrices]
        both = np.asarray(matrices[0].multiply(matrices[1]).sum(axis=1)).ravel()
        of_columns = [np.asarray(matrix.sum(axis=0)).ravel() for matrix in matrices]
        agreeing = matrices[0] @ of_columns[0] + matrices[1] @ of_columns[1]
        disagreeing = matrices[0] @ of_columns[1] + matrices[1] @ of_columns[0]
        self._loops = tuple(_column(loops, device) for loops in (2.0 * both, sizes[0] + sizes[1]))
        counts = disagreeing - 2.0 * both, agreeing - sizes[0] - sizes[1]
        self._inverses = tuple(_column(1.0 / np.maximum(count, 1.0), device) for count in counts)

    def __call__(self, rows: torch.Tensor, *, agreeing: bool) -> torch.Tensor:
        """Return the mean of ``rows [n_rows, d]`` over the paths of each row: ``[n_rows, d]``, 0 without any."""
        liked, disliked = self.likes.T @ rows, self.dislikes.T @ rows
        if not agreeing:
            liked, disliked = disliked, liked
        total = self.likes @ liked + self.dislikes @ disliked
        loops, inverses = (pair[agreeing].to(rows.dtype) for pair in (self._loops, self._inverses))
        return (total - loops * rows) * inverses

    def __deepcopy__(self, memo: dict[int, Any]) -> TwoHopMean:
        return self


def _column(values: np.ndarray, device: torch.device | str) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float64))[:, None].to(device)


class GramFilter:
    r"""The linear filter :math:`y \mapsto y R^T R` (GF-CF, CIKM 2021, eq. 5); R is ``[n_users, n_items]``."""

    def __init__(self, matrix: sp.csr_matrix) -> None:
        self.matrix = matrix
        self.transposed = matrix.T.tocsr()
        self._operators: dict[str, SparseOperator] = {}

    def rows(self, rows: sp.csr_matrix) -> npt.NDArray[np.float32]:
        """Return ``rows @ R.T @ R`` of sparse ``rows [batch, n_items]``, dense ``[batch, n_items]``."""
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
