"""Products of sparse matrices in CSR: with dense ones, over the pairs of a pattern with gradients, with themselves.

Bags of embeddings are two to four times as fast as SciPy's and torch's own products; SciPy's kernel adds in place.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch.nn.functional import embedding_bag
from tqdm import tqdm

from recbole_signed.sparse_rows import kernels

IndexArray = npt.NDArray[np.int32] | npt.NDArray[np.int64]
Panel = npt.NDArray[np.float32]  # float32 `[n, some columns]`, contiguous by rows
LINE = 16  # numbers of a cache line
ROWS = 4_096  # rows of a product that are worked out at a time
PATHS = 1 << 24  # paths of length two that are expanded at a time: about 200 MB. It bounds the memory, not the result.
PRODUCTS = 20_000_000  # pairs of (like, like) that are multiplied at a time: bounds the memory, not the result


def csr_tensor(
    indptr: torch.Tensor, indices: torch.Tensor, values: torch.Tensor, shape: tuple[int, int], **how: Any
) -> torch.Tensor:
    """Return a matrix as torch's CSR tensor, which shares the memory; ``how`` goes to ``sparse_csr_tensor``."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse (CSR tensor support|invariant checks)", category=UserWarning)
        return torch.sparse_csr_tensor(indptr, indices, values, size=shape, **how)


def csr_product(
    indptr: torch.Tensor, indices: torch.Tensor, values: torch.Tensor | None, dense: torch.Tensor
) -> torch.Tensor:
    """Return the product of a CSR matrix with ``dense``, ``[n_rows, width]``; ``values`` None stands for ones."""
    n_rows = len(indptr) - 1
    if not len(indices):
        return dense.new_zeros(n_rows, dense.shape[1])
    if values is not None:
        values = values.to(dense.dtype)
    if dense.device.type == "cpu":
        return embedding_bag(
            indices, dense.contiguous(), indptr, mode="sum", per_sample_weights=values, include_last_offset=True
        )
    values = dense.new_ones(len(indices)) if values is None else values
    return csr_tensor(indptr, indices, values, (n_rows, dense.shape[0])) @ dense


def rows_product(rows: sp.csr_matrix, dense: torch.Tensor) -> torch.Tensor:
    """Return the product of a matrix of SciPy's with ``dense [n_columns, width]``, on its device and of its type."""
    indptr, indices, data = (torch.from_numpy(part).to(dense.device) for part in (rows.indptr, rows.indices, rows.data))
    return csr_product(indptr, indices, data, dense)


@dataclass(frozen=True)
class SparseTerm:
    """A matrix ``[len(indptr) - 1, n_columns]`` in CSR, times ``weight``; without ``data`` its values are 1."""

    indptr: IndexArray
    indices: IndexArray
    weight: float = 1.0
    data: npt.NDArray[np.float32] | None = None

    @classmethod
    def from_matrix(cls, matrix: sp.csr_matrix, weight: float = 1.0, binary: bool = False) -> SparseTerm:
        """Return a matrix of SciPy's as a part that shares its memory; ``binary``: all its values are 1."""
        return cls(
            matrix.indptr, matrix.indices, weight, None if binary else matrix.data.astype(np.float32, copy=False)
        )

    @property
    def n_rows(self) -> int:
        """How many rows."""
        return len(self.indptr) - 1

    def rows(self, first: int, n_rows: int) -> SparseTerm:
        """Return ``n_rows`` rows, or as many as there are, from ``first`` on."""
        bounds = self.indptr[first : first + n_rows + 1]
        edges = slice(int(bounds[0]), int(bounds[-1]))
        indptr = (bounds - bounds[0]).astype(self.indices.dtype, copy=False)
        return SparseTerm(indptr, self.indices[edges], self.weight, None if self.data is None else self.data[edges])

    def times(self, dense: torch.Tensor) -> torch.Tensor:
        """Return the product with ``dense [n_columns, width]``, float32 ``[n_rows, width]``."""
        values = None if self.data is None else torch.from_numpy(self.data)
        product = csr_product(torch.from_numpy(self.indptr), torch.from_numpy(self.indices), values, dense)
        return product if self.weight == 1 else product.mul_(self.weight)


def empty_panel(n_rows: int, width: int) -> Panel:
    """Return a panel whose rows begin where cache lines do, if its width is a multiple of :data:`LINE`."""
    # NumPy's memory is in large pages, but aligned to a quarter of a line: a product would read one line more a row
    numbers = np.empty(n_rows * width + LINE, dtype=np.float32)
    first = -numbers.ctypes.data // numbers.itemsize % LINE
    return numbers[first : first + n_rows * width].reshape(n_rows, width)


def copied(block: npt.NDArray[np.float32]) -> Panel:
    """Return a copy of a block ``[n, width]`` as a panel."""
    made = empty_panel(*block.shape)
    made[:] = block
    return made


def multiply(
    out: Panel, parts: list[SparseTerm], dense: Panel, row_scale: npt.NDArray[np.float32] | None = None
) -> None:
    """Write the sum of the parts' products with ``dense`` to ``out [n_rows, width]``, each row times its scale."""
    table, result = torch.from_numpy(dense), torch.from_numpy(out)
    for first in range(0, len(out), ROWS):
        product = parts[0].rows(first, ROWS).times(table)
        for part in parts[1:]:
            product += part.rows(first, ROWS).times(table)
        if row_scale is not None:
            product *= torch.from_numpy(row_scale[first : first + ROWS, None])
        result[first : first + ROWS] = product


def add_transposed_product(out: Panel, part: SparseTerm, dense: Panel, values: npt.NDArray[np.float32]) -> None:
    """Add ``part.T @ dense`` to ``out [n_columns, width]``; ``values`` hold the part's weight for each edge."""
    if part.n_rows != len(dense) or out.shape[1] != dense.shape[1] or len(values) < len(part.indices):
        raise ValueError(f"shapes do not fit: {out.shape} += [{part.n_rows}, {len(out)}].T @ {dense.shape}")
    for array in (out, dense, values):  # the compiled kernel believes what it is told
        if array.dtype != np.float32 or not array.flags.c_contiguous:
            raise ValueError("dense arrays must be float32 and contiguous by rows")
    values = values[: len(part.indices)]
    if kernels is None:
        out += sp.csr_matrix((values, part.indices, part.indptr), shape=(part.n_rows, len(out)), copy=False).T @ dense
        return
    shape = len(out), part.n_rows, dense.shape[1]
    kernels.csc_matvecs(*shape, part.indptr, part.indices, values, dense.reshape(-1), out.reshape(-1))


# ---- Pairs: nothing of the size ``[n_pairs, d]`` is ever made, but one number for each pair and quantity. ----


class SparsePairs:
    """Pairs (row, column), which may repeat, sorted by row: ``indptr [n_rows + 1]``, ``columns [n_pairs]``."""

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
        indptr, rows, order = (torch.from_numpy(part).to(device) for part in (there.indptr, there.indices, there.data))
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


def item_neighbours(
    likes: sp.csr_matrix, k: int, *, show_progress: bool = False
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    r"""Return the ``k`` items with the largest :math:`\omega_{ij}` of each item, and these weights: ``[n_items, k]``.

    With :math:`G = P^T P` and :math:`g` its row sums,
    :math:`\omega_{ij} = G_{ij} \, \frac{\sqrt{g_i + 1}}{g_i} \, \frac{1}{\sqrt{g_j + 1}}`
    (UltraGCN, CIKM 2021, eq. 13, as its authors compute it: an item is its own neighbour as well). Items that have
    fewer neighbours get the item 0 with the weight 0. Of equal weights the lower item comes first.
    """
    n_items = likes.shape[1]
    likes, by_item = likes.astype(np.float64), likes.T.tocsr().astype(np.float64)
    user_degrees = np.diff(likes.indptr).astype(np.float64)
    work = by_item @ user_degrees  # of each row of G: the products it takes, and its sum g
    neighbours = np.zeros((n_items, k), dtype=np.int64)
    weights = np.zeros((n_items, k), dtype=np.float32)
    blocks = list(_blocks(work))
    for rows in tqdm(blocks, desc="Item neighbours", disable=not show_progress or len(blocks) < 2):
        block = (by_item[rows] @ likes).tocsr()
        lengths = np.diff(block.indptr)
        row = np.repeat(np.arange(len(lengths)), lengths)
        own = work[rows]
        scale = np.sqrt(own + 1.0) / np.maximum(own, 1.0)
        value = block.data * scale[row] / np.sqrt(work[block.indices] + 1.0)
        order = np.lexsort((block.indices, -value, row))
        place = np.arange(len(order)) - np.repeat(block.indptr[:-1], lengths)
        kept = place < k
        at = (row[order][kept] + rows.start, place[kept])
        neighbours[at] = block.indices[order][kept]
        weights[at] = value[order][kept]
    return neighbours, weights


def _blocks(work: npt.NDArray[np.float64]) -> Iterator[slice]:
    """Cut the rows where the products of a block would become more than ``PRODUCTS``."""
    ends = np.cumsum(work)
    first = 0
    while first < len(work):
        spent = ends[first - 1] if first else 0.0
        last = max(int(np.searchsorted(ends, spent + PRODUCTS, side="right")), first + 1)
        yield slice(first, last)
        first = last


def homophily_ratio(matrix: sp.csr_matrix) -> npt.NDArray[np.float64]:
    r"""Return, for each row, the share of pairs of its columns that a further row connects: ``[n_rows]``, in [0, 1].

    "How Powerful is Graph Filtering for Recommendation", KDD 2024, section 4.3. Rows with fewer than two columns have
    the ratio 0, as in the authors' code. A pair that no further row connects lies in exactly one row. So it is enough
    to count, for each row, the pairs of columns that occur together once: with the values :math:`K + u` for row u,
    :math:`K > n`, an entry of :math:`X^T \mathrm{diag}(K + u) X` is below 2K if and only if one row made it, and then
    it tells which.
    """
    n_rows, n_columns = matrix.shape
    degrees = np.diff(matrix.indptr).astype(np.int64)
    base = np.int64(n_rows + 1)
    numbered = sp.csr_matrix(
        (np.repeat(base + np.arange(n_rows, dtype=np.int64), degrees), matrix.indices, matrix.indptr), matrix.shape
    )
    ones = sp.csr_matrix((np.ones(matrix.nnz, dtype=np.int64), matrix.indices, matrix.indptr), matrix.shape)
    by_column = ones.T.tocsr()
    paths = np.append(0, np.cumsum(by_column @ degrees))
    alone = np.zeros(n_rows, dtype=np.int64)
    first = 0
    while first < n_columns:
        last = max(first + 1, int(np.searchsorted(paths, paths[first] + PATHS, side="right")) - 1)
        pairs = (by_column[first:last] @ numbered).tocoo()
        single = (pairs.data < 2 * base) & (pairs.row + first != pairs.col)
        alone += np.bincount(pairs.data[single] - base, minlength=n_rows)
        first = last
    total = degrees * (degrees - 1)
    return np.where(total > 0, 1.0 - alone / np.maximum(total, 1), 0.0)
