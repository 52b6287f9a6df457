"""Pairs of items that users have together, without the matrix of all pairs: strongest neighbours, homophily."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from tqdm import tqdm

PATHS = 1 << 24
"""Paths of length two that are expanded at a time: about 200 MB. It bounds the memory, not the result."""

PRODUCTS = 20_000_000
"""Pairs of (like, like) that are multiplied at a time: bounds the memory, not the result."""


def item_neighbours(
    likes: sp.csr_matrix, k: int, *, show_progress: bool = False
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    r"""Return the ``k`` items with the largest :math:`\omega_{ij}` of each item, and these weights: ``[n_items, k]``.

    With :math:`G = P^T P` and :math:`g` its row sums,
    :math:`\omega_{ij} = G_{ij} \, \frac{\sqrt{g_i + 1}}{g_i} \, \frac{1}{\sqrt{g_j + 1}}`
    (UltraGCN, CIKM 2021, eq. 13, as its authors compute it: an item is its own neighbour as well). Items that have
    fewer neighbours get the item 0 with the weight 0. Of equal weights the lower item comes first.

    Args:
        likes: P, 0/1, ``[n_users, n_items]``.
        k: how many.
        show_progress: a bar, if there is more than one block.
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

    "How Powerful is Graph Filtering for Recommendation", KDD 2024, section 4.3: two items of a user count as alike if
    another user has both. Rows with fewer than two columns have the ratio 0, as in the authors' code.

    A pair that no further row connects lies in exactly one row. So it is enough to count, for each row, the pairs of
    columns that occur together once: with the values :math:`K + u` for row u, :math:`K > n`, an entry of
    :math:`X^T \mathrm{diag}(K + u) X` is below 2K if and only if one row made it, and then it tells which.

    Costs :math:`O(\sum_u d_u^2)` operations, in blocks of columns that bound the memory.

    Args:
        matrix: ``[n_rows, n_columns]``; what is stored counts, its values do not.
    """
    n_rows, n_columns = matrix.shape
    degrees = np.diff(matrix.indptr).astype(np.int64)
    base = np.int64(n_rows + 1)
    numbered = sp.csr_matrix(
        (np.repeat(base + np.arange(n_rows, dtype=np.int64), degrees), matrix.indices, matrix.indptr), matrix.shape
    )
    ones = sp.csr_matrix((np.ones(matrix.nnz, dtype=np.int64), matrix.indices, matrix.indptr), matrix.shape)
    by_column = ones.T.tocsr()
    paths = np.zeros(n_columns + 1, dtype=np.int64)
    np.add.at(paths[1:], matrix.indices, np.repeat(degrees, degrees))
    paths = np.cumsum(paths)
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
