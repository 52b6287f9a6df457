r"""Randomised subspace iteration on any operator that can multiply :math:`R^T R` by a block of columns.

Halko, Martinsson, Tropp, "Finding structure with randomness", SIAM Review 53 (2011), algorithm 4.4 applied to the
Gram matrix, with a Rayleigh-Ritz step at the end. A block ``[n, width]`` is kept as panels of columns: what a product
needs on the side of the rows is then held for one panel at a time, and threads can take a panel each, with neither
locks nor sums of their own. Memory: two blocks, and pieces of :data:`CHUNK` rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from recbole_signed.graph.sparse_kernels import Panel

COLUMNS = 48
"""Columns of a panel, at most."""
CHUNK = 1_024
"""Rows of a block that are multiplied by a small matrix at a time."""
ROUGH, FINE = 3e-3, 1e-5
"""Smallest pivots of normalised columns with which a Gram matrix in float32, in float64 says enough about them."""


class GramOperator(Protocol):
    """What the iteration needs of a matrix R ``[n_rows, n_columns]``."""

    def squared(self, panels: list[Panel]) -> list[Panel]:
        r"""Return :math:`R^T R V` of a block V; may overwrite ``panels``, which are not used again."""

    def energy(self, panels: list[Panel]) -> torch.Tensor:
        r"""Return :math:`(R V)^T R V`, float64 ``[width, width]``; leaves ``panels`` as they are."""


def split(block: npt.NDArray[np.float32]) -> list[Panel]:
    """Return a block ``[n, width]`` as copies of its columns in panels of nearly equal width."""
    return [np.ascontiguousarray(each) for each in np.array_split(block, max(1, -(-block.shape[1] // COLUMNS)), axis=1)]


def random_panels(n: int, width: int, seed: int) -> list[Panel]:
    """Return a block of standard normal numbers ``[n, width]``, which is never held twice."""
    bounds = np.linspace(0, width, max(1, -(-width // COLUMNS)) + 1).round().astype(int)
    panels = [np.empty((n, end - start), dtype=np.float32) for start, end in pairwise(bounds)]
    rng = np.random.default_rng(seed)
    for rows in _chunks(n):
        noise = rng.standard_normal((rows.stop - rows.start, width), dtype=np.float32)
        for panel, (start, end) in zip(panels, pairwise(bounds), strict=True):
            panel[rows] = noise[:, start:end]
    return panels


def iterate(
    operator: GramOperator, panels: list[Panel], iterations: int, progress: Callable[[], None] = lambda: None
) -> tuple[list[Panel], torch.Tensor, torch.Tensor]:
    """Return an orthonormal block after ``iterations`` passes from ``panels``, with its Ritz values and their rotation.

    Args:
        operator: what is iterated.
        panels: the start, overwritten.
        iterations: passes, without the last one, which is half of one.
        progress: is called after each pass.

    Returns:
        the panels; the Ritz values of :math:`R^T R`, descending, float64 ``[width]``; the rotation of the block to the
        Ritz vectors, float64 ``[width, width]``.
    """
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
    found = torch.empty(len(panels[0]), rotation.shape[1])
    small = rotation.float()
    for rows in _chunks(len(found)):
        torch.mm(_rows(panels, rows), small, out=found[rows])
    if found.numel():
        found *= torch.where(found.amax(dim=0) >= -found.amin(dim=0), 1.0, -1.0)
    return found


def orthonormalise(panels: list[Panel], precisions: tuple[torch.dtype, ...] = (torch.float32, torch.float64)) -> None:
    """Make the columns of a block orthonormal, in place, by the Cholesky factor of their Gram matrix.

    In float32 that leaves a condition near 1, which is all an iterate needs; after a pass in float64 the columns are
    orthonormal to rounding if they nearly were. Where the columns are too dependent for either, by Householder
    reflections, which need the block three times.
    """
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


def _chunks(n: int) -> Iterator[slice]:
    for first in range(0, n, CHUNK):
        yield slice(first, min(first + CHUNK, n))
