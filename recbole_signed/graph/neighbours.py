"""The strongest neighbours of each item in the graph of items that share users, without that graph as a whole."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from tqdm import tqdm

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
