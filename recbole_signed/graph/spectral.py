r"""The signed exposure matrix, normalised by degrees, and its leading singular vectors on the item side.

:math:`R = (D_u + a)^{-e} (P + wN) (D_i + a)^{-e}`, with the degrees of :math:`P + |w|N`. Memory: the sparse matrix
and blocks of ``[n_items, k]``; nothing of the size users x items, and nothing dense with a row for each user.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from recbole_signed.graph.signed_graph import SignedGraph

FloatArray = npt.NDArray[np.float64]

ROWS = 65_536
"""Rows that are multiplied at a time: bounds the memory, not the result."""
NULL = 1e-13
"""Directions whose energy is below this part of the largest one's hold nothing but the rounding of float32."""


def inverse_power(degrees: FloatArray, smoothing: float, exponent: float) -> FloatArray:
    r"""Return :math:`(d + a)^{-e}`, and 0 where :math:`d + a` is 0."""
    shifted = degrees + smoothing
    return np.where(shifted > 0, np.where(shifted > 0, shifted, 1.0) ** -exponent, 0.0)


def user_degrees(graph: SignedGraph, dislike_weight: float) -> FloatArray:
    r"""Return the row sums of :math:`P + |w|N + |\varepsilon|M`, ``[n_users]``, in O(n_users)."""
    degrees = np.diff(graph.likes.indptr) + abs(dislike_weight) * np.diff(graph.dislikes.indptr).astype(np.float64)
    if graph.neutrals is not None:
        degrees = degrees + abs(graph.neutral_weight) * np.diff(graph.neutrals.indptr)
    return degrees


def exposure_rows(
    graph: SignedGraph, item_scale: FloatArray, dislike_weight: float, smoothing: float, exponent: float
) -> sp.csr_matrix:
    """Return the normalised rows of the users of ``graph`` for a given scale of the items, float32.

    Args:
        graph: any users, also ones that no model has seen, over the items that ``item_scale`` is for.
        item_scale: ``[n_items]``, in a fitted model that of the training graph.
        dislike_weight: w.
        smoothing: a, in edges.
        exponent: e.
    """
    user_scale = inverse_power(user_degrees(graph, dislike_weight), smoothing, exponent)
    rows = graph.weighted(dislike_weight) if dislike_weight or graph.neutrals is not None else graph.likes.copy()
    rows.data = rows.data * item_scale[rows.indices] * np.repeat(user_scale, np.diff(rows.indptr))
    return rows.astype(np.float32)


def exposure_matrix(
    graph: SignedGraph, dislike_weight: float, smoothing: float = 5.0, exponent: float = 0.5
) -> sp.csr_matrix:
    """Return the normalised signed exposure matrix R, float32 ``[n_users, n_items]``."""
    _, item_degrees = graph.degrees(dislike_weight)
    item_scale = inverse_power(item_degrees.astype(np.float64), smoothing, exponent)
    return exposure_rows(graph, item_scale, dislike_weight, smoothing, exponent)


@dataclass(frozen=True)
class RightFactors:
    """Leading singular values ``values [k]``, descending, and right singular vectors ``vectors [n_items, k]``.

    ``block [n_items, >= k]`` holds the vectors of the oversampling too, for a warm start. float32. There are fewer
    than the k asked for where the matrix has no more.
    """

    values: torch.Tensor
    vectors: torch.Tensor
    block: torch.Tensor


def right_factors(
    matrix: sp.csr_matrix,
    k: int,
    *,
    iterations: int = 4,
    oversampling: int = 32,
    seed: int = 0,
    start: torch.Tensor | None = None,
) -> RightFactors:
    """Return the ``k`` leading right singular vectors by randomised block subspace iteration.

    Halko, Martinsson, Tropp, "Finding structure with randomness", SIAM Review 53 (2011), algorithm 4.4 applied to
    the Gram matrix, with a Rayleigh-Ritz step at the end. The sign of each vector is such that its entry of largest
    size is positive. The same arguments give the same result.

    Args:
        matrix: float32 CSR ``[n_rows, n_columns]``.
        k: how many.
        iterations: passes over the matrix before the last one; 4 from a random start, 2 from a warm one.
        oversampling: additional vectors that are iterated.
        seed: of the random start.
        start: the ``block`` of a similar matrix.
    """
    width = min(k + oversampling, *matrix.shape)
    block = _start(matrix.shape[1], width, seed, start)
    blocks = list(_row_blocks(matrix))
    for _ in range(iterations):
        image = np.zeros(block.shape, dtype=np.float32)
        for rows in blocks:
            image += rows.T @ (rows @ block.numpy())  # the transpose is a view
        block, _ = torch.linalg.qr(torch.from_numpy(image))
    gram = torch.zeros(block.shape[1], block.shape[1], dtype=torch.float64)
    for rows in blocks:
        image_rows = torch.from_numpy(rows @ block.numpy())
        gram += (image_rows.T @ image_rows).double()
    energy, rotation = (each.flip(-1) for each in torch.linalg.eigh(gram))
    block = block @ rotation.float()
    block *= torch.sign(block.gather(0, block.abs().argmax(dim=0, keepdim=True)))
    kept = min(k, int((energy > NULL * energy[0].clamp(min=1e-30)).sum()))
    return RightFactors(energy[:kept].sqrt().float(), block[:, :kept].contiguous(), block)


def _start(n_columns: int, width: int, seed: int, start: torch.Tensor | None) -> torch.Tensor:
    warm = torch.zeros(n_columns, 0) if start is None else start[:, :width]
    missing = width - warm.shape[1]
    noise = np.random.default_rng(seed).standard_normal((n_columns, missing), dtype=np.float32)
    if start is not None:
        noise /= np.sqrt(n_columns)  # the size of what it joins
    return torch.cat([warm, torch.from_numpy(noise)], dim=1).contiguous()


def _row_blocks(matrix: sp.csr_matrix) -> Iterator[sp.csr_matrix]:
    """Yield the matrix in blocks of rows that share its memory."""
    for first in range(0, matrix.shape[0], ROWS):
        indptr = matrix.indptr[first : first + ROWS + 1]
        edges = slice(int(indptr[0]), int(indptr[-1]))
        shape = (len(indptr) - 1, matrix.shape[1])
        yield sp.csr_matrix((matrix.data[edges], matrix.indices[edges], indptr - indptr[0]), shape=shape, copy=False)
