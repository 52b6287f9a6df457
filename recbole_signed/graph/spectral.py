"""The matrix :math:`R = (D_u + a)^{-e} (P + wN) (D_i + a)^{-e}`, and its leading right singular vectors.

The degrees are those of :math:`P + |w|N`. A block of columns ``[n, width]`` is kept as panels of columns: a product
holds the side of the rows for one panel at a time, and threads can take a panel each, without locks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from recbole_signed.graph.signed_graph import SignedGraph
from recbole_signed.graph.sparse_kernels import (
    Panel,
    SparseTerm,
    add_transposed_product,
    copied,
    empty_panel,
    multiply,
)

COLUMNS = 48  # columns of a panel, at most: whole cache lines
CHUNK = 1_024  # rows of a block that are multiplied by a small matrix at a time
ROUGH, FINE = 3e-3, 1e-5  # smallest pivots with which a Gram matrix in float32, in float64 says enough


class GramOperator(Protocol):
    """What the iteration needs of a matrix R ``[n_rows, n_columns]``."""

    def squared(self, panels: list[Panel]) -> list[Panel]:
        r"""Return :math:`R^T R V` of a block V; may overwrite ``panels``, which are not used again."""

    def energy(self, panels: list[Panel]) -> torch.Tensor:
        r"""Return :math:`(R V)^T R V`, float64 ``[width, width]``; leaves ``panels`` as they are."""


def split(block: npt.NDArray[np.float32]) -> list[Panel]:
    """Return a block ``[n, width]`` as copies of its columns in panels."""
    return [copied(block[:, columns]) for columns in _chunks(block.shape[1], COLUMNS)]


def random_panels(n: int, width: int, seed: int) -> list[Panel]:
    """Return a block of standard normal numbers ``[n, width]``, which is never held twice."""
    columns = list(_chunks(width, COLUMNS))
    panels = [empty_panel(n, chunk.stop - chunk.start) for chunk in columns]
    rng = np.random.default_rng(seed)
    for rows in _chunks(n):
        noise = rng.standard_normal((rows.stop - rows.start, width), dtype=np.float32)
        for panel, chunk in zip(panels, columns, strict=True):
            panel[rows] = noise[:, chunk]
    return panels


def iterate(
    operator: GramOperator, panels: list[Panel], iterations: int, progress: Callable[[], None] = lambda: None
) -> tuple[list[Panel], torch.Tensor, torch.Tensor]:
    """Return the orthonormal block after ``iterations`` passes, its Ritz values, and the rotation to their vectors."""
    for _ in range(iterations):
        panels = operator.squared(panels)
        orthonormalise(panels)
        progress()
    orthonormalise(panels, (torch.float64,))
    values, rotation = torch.linalg.eigh(operator.energy(panels))
    progress()
    return panels, values.flip(-1), rotation.flip(-1)


def rotated(panels: list[Panel], rotation: torch.Tensor) -> torch.Tensor:
    """Return the block times ``rotation [width, m]``, ``[n, m]``: each column's entry of largest size is positive."""
    product = torch.empty(len(panels[0]), rotation.shape[1])
    small = rotation.float()
    for rows in _chunks(len(product)):
        torch.mm(_rows(panels, rows), small, out=product[rows])
    if product.numel():
        product *= torch.where(product.amax(dim=0) >= -product.amin(dim=0), 1.0, -1.0)
    return product


def orthonormalise(panels: list[Panel], precisions: tuple[torch.dtype, ...] = (torch.float32, torch.float64)) -> None:
    """Make the columns of a block orthonormal, in place, by Cholesky of their Gram matrix, or else by Householder."""
    for precision in precisions:
        gram = gram_of(panels, precision)
        length = gram.diagonal().sqrt()
        if not bool((length > 0).all() and length.isfinite().all()):
            break
        lower, failed = torch.linalg.cholesky_ex(gram / length / length[:, None])
        if not bool(failed) and float(lower.diagonal().min()) > (ROUGH if precision == torch.float32 else FINE):
            inverse = torch.linalg.solve_triangular(lower, torch.diag(1 / length), upper=False).T.float()
            for rows in _chunks(len(panels[0])):
                _put(panels, rows, _rows(panels, rows) @ inverse)
            return
    block, _ = torch.linalg.qr(_rows(panels, slice(0, len(panels[0]))))
    _put(panels, slice(0, len(panels[0])), block)


def gram_of(panels: list[Panel], precision: torch.dtype, others: list[Panel] | None = None) -> torch.Tensor:
    """Return the products of a block's columns with each other, or with those of another block: float64."""
    width = sum(panel.shape[1] for panel in panels)
    total = torch.zeros(width, width, dtype=torch.float64)
    for rows in _chunks(len(panels[0])):
        piece = _rows(panels, rows).to(precision)
        total += piece.T @ (piece if others is None else _rows(others, rows).to(precision))
    return total


def _rows(panels: list[Panel], rows: slice) -> torch.Tensor:
    pieces = [torch.from_numpy(panel[rows]) for panel in panels]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)


def _put(panels: list[Panel], rows: slice, block: torch.Tensor) -> None:
    first = 0
    for panel in panels:
        panel[rows] = block[:, first : first + panel.shape[1]].numpy()
        first += panel.shape[1]


def _chunks(n: int, size: int = CHUNK) -> Iterator[slice]:
    for first in range(0, n, size):
        yield slice(first, min(first + size, n))


# ---- the matrix, and its leading singular vectors ----

FLAT = 1e-3  # Ritz value over the largest, below which the products are made that are else saved
REFRESH_ROWS = 1 << 15  # rows that are multiplied at a time
FloatArray = npt.NDArray[np.float64]
ROWS = 1_024  # rows that are multiplied at a time: bounds the memory, not the result
SMALLEST = 1e-15  # what a factor is at least, so that a score over its square stays finite
MOST_PUSH = 0.25  # largest exponent of a like rate above the mean
NULL = 1e-13  # directions whose energy is below this part of the largest one's hold nothing but the rounding of float32


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


def like_rates(likes: torch.Tensor, dislikes: torch.Tensor, smoothing: float, mean: float) -> torch.Tensor:
    """Return the smoothed like rates of items, :math:`r_i = (p_i + t m) / (p_i + n_i + t)`, ``[n_items]``."""
    return (likes + smoothing * mean) / (likes + dislikes + smoothing)


def aversion_factors(rates: torch.Tensor, mean: float, aversion: float) -> torch.Tensor:
    """Return :math:`v_i = x_i^g` with :math:`x_i = r_i / m`; where :math:`x_i > 1` the exponent is at most 1/4."""
    ratio = rates / max(mean, SMALLEST)
    above = ratio.clamp(min=1.0).pow_(min(aversion, MOST_PUSH))
    return ratio.clamp_(max=1.0).pow_(aversion).mul_(above).clamp_(min=SMALLEST)


@dataclass(frozen=True)
class RightFactors:
    """Leading singular values ``[k]`` and right singular vectors ``[n_items, k]``; ``block`` for a warm start."""

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

    Halko, Martinsson, Tropp, SIAM Review 53 (2011), algorithm 4.4 on the Gram matrix, with a Rayleigh-Ritz step at the
    end. ``iterations``: 4 from a random start, 2 from the ``block`` of a similar matrix.
    """
    width = min(k + oversampling, *matrix.shape)
    if not width:
        nothing = torch.zeros(matrix.shape[1], 0)
        return RightFactors(torch.zeros(0), nothing, nothing)
    panels = _start(matrix.shape[1], width, seed, start)
    panels, energy, rotation = iterate(ResidentOperator.of_matrix(matrix), panels, iterations)
    block = rotated(panels, rotation)
    del panels
    kept = min(k, n_kept(energy))
    return RightFactors(energy[:kept].sqrt().float(), block[:, :kept].contiguous(), block)


def n_kept(energy: torch.Tensor) -> int:
    """Return how many of the Ritz values ``[width]``, descending, are more than rounding."""
    return int((energy > NULL * energy[0].clamp(min=1e-30)).sum())


class ResidentOperator:
    """A sum of CSR parts in memory, and its transpose, with scaled rows and columns, as :func:`iterate` wants it."""

    def __init__(
        self,
        parts: list[SparseTerm],
        transposed: list[SparseTerm],
        row_scale: npt.NDArray[np.float32] | None = None,
        column_scale: npt.NDArray[np.float32] | None = None,
    ) -> None:
        self.parts, self.transposed = parts, transposed
        self.row_scale, self.column_scale = row_scale, column_scale
        self.twice = None if row_scale is None else row_scale**2

    @classmethod
    def of_matrix(cls, matrix: sp.csr_matrix) -> ResidentOperator:
        """Take one matrix as it is."""
        return cls([SparseTerm.from_matrix(matrix)], [SparseTerm.from_matrix(matrix.T.tocsr())])

    def squared(self, panels: list[Panel]) -> list[Panel]:
        r"""Return :math:`R^T R V`; scales ``panels`` on the way."""
        for panel in panels:  # used up by its product: its image takes its place
            if self.column_scale is not None:
                panel *= self.column_scale[:, None]
            product = empty_panel(self.parts[0].n_rows, panel.shape[1])
            multiply(product, self.parts, panel, self.twice)
            multiply(panel, self.transposed, product, self.column_scale)
        return panels

    def energy(self, panels: list[Panel]) -> torch.Tensor:
        r"""Return :math:`(R V)^T R V`."""
        scale = self.column_scale
        tables = panels if scale is None else [panel * scale[:, None] for panel in panels]
        width = sum(panel.shape[1] for panel in panels)
        gram = torch.zeros(width, width, dtype=torch.float64)
        for first in range(0, self.parts[0].n_rows, ROWS):
            rows = [part.rows(first, ROWS) for part in self.parts]
            some = None if self.row_scale is None else self.row_scale[first : first + ROWS]
            gram += energy_of(rows, tables, some)
        return gram


def energy_of(parts: list[SparseTerm], tables: list[Panel], row_scale: npt.NDArray[np.float32] | None) -> torch.Tensor:
    r"""Return :math:`(R V)^T R V` for few rows, float64 ``[width, width]``; ``tables``: V times the columns' scale."""
    bounds = np.cumsum([0, *(table.shape[1] for table in tables)])
    product = np.empty((parts[0].n_rows, bounds[-1]), dtype=np.float32)
    for table, (first, end) in zip(tables, pairwise(bounds), strict=True):
        multiply(product[:, first:end], parts, table, row_scale)
    image = torch.from_numpy(product)
    return (image.T @ image).double()


def _start(n_columns: int, width: int, seed: int, start: torch.Tensor | None) -> list[Panel]:
    if start is None:
        return random_panels(n_columns, width, seed)
    warm = start[:, :width]
    missing = width - warm.shape[1]
    if missing:
        noise = np.random.default_rng(seed).standard_normal((n_columns, missing), dtype=np.float32)
        noise /= np.sqrt(n_columns)  # the size of what it joins
        warm = torch.cat([warm, torch.from_numpy(noise)], dim=1)
    return split(warm.numpy())


def refreshed_factors(
    matrix: sp.csr_matrix, k: int, block: torch.Tensor, passes: int = 1
) -> tuple[RightFactors, float]:
    r"""Bring singular vectors of a matrix that changed a little up to date, and say how stale they were.

    A step of subspace iteration from the old block V, then harmonic Ritz values (Paige, Parlett, van der Vorst, 1995):
    :math:`(V^T A^2 V)\, y = \lambda\, (V^T A V)\, y`, new vectors :math:`A V y`. Staleness is the root mean square of
    :math:`\|A x - \lambda x\|` of the first ``k`` old Ritz vectors over the largest Ritz value.
    """
    if not block.shape[1]:
        return RightFactors(torch.zeros(0), block, block), 0.0
    staleness, image = None, block
    for _ in range(passes):
        old = _orthonormal(image)
        image = _squared(matrix, old)
        small = (old.T @ image).double()
        values, rotation = (tensor.flip(-1) for tensor in torch.linalg.eigh((small + small.T) / 2))
        if staleness is None:
            residual = image @ rotation[:, :k].float() - old @ (rotation * values)[:, :k].float()
            staleness = float(residual.square().sum(dim=0).mean().sqrt() / values[0].clamp(min=1e-30))
            del residual
    if float(values[-1]) > FLAT * float(values[0]):
        factors = _harmonic(image, values, rotation, k)
    else:
        start = torch.linalg.qr(image)[0]
        factors = right_factors(matrix, k, iterations=0, oversampling=block.shape[1] - k, start=start)
    return factors, staleness or 0.0


def _orthonormal(block: torch.Tensor) -> torch.Tensor:
    """Return an orthonormal block of the same span; by reflections where it is far from one."""
    lower, failed = torch.linalg.cholesky_ex((block.T @ block).double())
    if bool(failed) or not float(lower.diagonal().min()) > 0.1 * float(lower.diagonal().max()):
        return torch.linalg.qr(block)[0]
    return block @ torch.linalg.inv(lower).T.float()


def _squared(matrix: sp.csr_matrix, block: torch.Tensor) -> torch.Tensor:
    r"""Return :math:`R^T R V`."""
    table, whole = block.contiguous(), SparseTerm.from_matrix(matrix)
    image = np.zeros(table.shape, dtype=np.float32)
    for first in range(0, matrix.shape[0], REFRESH_ROWS):
        part = whole.rows(first, REFRESH_ROWS)
        if part.data is not None and len(part.indices):
            add_transposed_product(image, SparseTerm(part.indptr, part.indices), part.times(table).numpy(), part.data)
    return torch.from_numpy(image)


def _harmonic(image: torch.Tensor, values: torch.Tensor, rotation: torch.Tensor, k: int) -> RightFactors:
    """Return the harmonic Ritz pairs of :math:`A V` from the Ritz values of V, descending, and its rotation to them."""
    whitened = rotation / values.sqrt()
    turned = image @ whitened.float()
    energy, inner = (tensor.flip(-1) for tensor in torch.linalg.eigh((turned.T @ turned).double()))
    block = turned @ (inner / energy.sqrt()).float()
    block *= torch.where(block.amax(dim=0) >= -block.amin(dim=0), 1.0, -1.0)
    return RightFactors(energy[:k].sqrt().float(), block[:, :k].contiguous(), block)
