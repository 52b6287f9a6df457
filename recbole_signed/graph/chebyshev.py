"""Leading eigenvectors of :math:`R^T R`, however close its eigenvalues are, by Chebyshev-filtered subspace iteration.

Zhou, Saad, Tiago, Chelikowsky, J. Comput. Phys. 219, 2006. The filtered interval and what leads too far come from some
steps of block Lanczos, whose quadrature estimates the spectral density (Lin, Saad, Yang, SIAM Review 58, 2016).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import acosh, ceil

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from recbole_signed.graph.sparse_kernels import Panel, copied
from recbole_signed.graph.spectral import (
    FLAT,
    GramOperator,
    ResidentOperator,
    RightFactors,
    gram_of,
    n_kept,
    orthonormalise,
    rotated,
    split,
)

KRYLOV_BLOCK, KRYLOV_STEPS = 16, 12  # columns and steps of the block Lanczos that begins
CONVERGED = 1e-2  # residual, over the eigenvalue, below which a leading vector is kept out of the filter
GROWTH = 1e6  # by how much a filter may let directions grow over each other: float32 has that much room
ENOUGH = 1e5  # by how much the last wanted direction has to grow over the unwanted ones; more changes nothing
OVERSAMPLING = 64  # vectors beyond the wanted ones that are iterated
BLOCK = 32  # vectors beyond the wanted ones that are kept for a warm start
GOLDEN, MIX = 0x9E3779B97F4A7C15, ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
STEEP = 1e-4  # smallest end of the interval, over the largest eigenvalue: more needs no polynomial


def leading_factors(
    matrix: sp.csr_matrix,
    k: int,
    *,
    degree: int = 20,
    keys: npt.NDArray[np.int64] | None = None,
    start: torch.Tensor | None = None,
) -> RightFactors:
    """Return the ``k`` leading right singular vectors of a CSR matrix, as far converged as what is made of them needs.

    ``degree``: of all polynomials, half from ``start``, the ``block`` of a similar matrix; ``keys`` seed the columns.
    """
    n = matrix.shape[1]
    width = min(k + OVERSAMPLING, n)
    if not (matrix.shape[0] and width):
        nothing = torch.zeros(n, 0)
        return RightFactors(torch.zeros(0), nothing, nothing)
    operator = ResidentOperator.of_matrix(matrix)
    if width == n:
        panels = split(np.eye(n, dtype=np.float32))  # no start is better than all directions
    else:
        random = random_signs(np.arange(n) if keys is None else keys, KRYLOV_BLOCK + width)
        survey = Survey.from_operator(operator, random[:, :KRYLOV_BLOCK], min(k, width), width)
        begin = random[:, KRYLOV_BLOCK:]
        if start is not None:
            begin[:, : start.shape[1]] = start[:, :width].numpy() * np.float32(n**0.5)
        panels = filtered(operator, begin[:, survey.leading.shape[1] :], survey, degree)
        del random, begin
    energy, rotation = ritz_pairs(operator, panels)
    block = rotated(panels, rotation[:, : k + BLOCK])
    kept = min(k, n_kept(energy))
    return RightFactors(energy[:kept].sqrt().float(), block[:, :kept].contiguous(), block)


def random_signs(keys: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.float32]:
    """Return a block of random signs, ``[len(keys), width]``, whose rows follow from the keys alone."""
    state = keys.view(np.uint64)[:, None] + np.arange(1, -(-width // 64) + 1, dtype=np.uint64) * np.uint64(GOLDEN)
    # the mixing of SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014
    for shift, factor in MIX:
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    state ^= state >> np.uint64(31)
    bits = np.unpackbits(state.astype("<u8").view(np.uint8), axis=1, count=width, bitorder="little")
    return bits.astype(np.float32) * 2 - 1


def ritz_pairs(operator: GramOperator, panels: list[Panel]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the Ritz values of a nearly orthonormal block, descending, and what turns it into the Ritz vectors."""
    inverse = torch.linalg.inv(torch.linalg.cholesky(gram_of(panels, torch.float32)))
    products = gram_of(panels, torch.float32, operator.squared([copied(panel) for panel in panels]))
    values, vectors = torch.linalg.eigh(inverse @ (products + products.T) @ inverse.T / 2)
    if float(values[0]) < FLAT * float(values[-1]):
        values, vectors = torch.linalg.eigh(inverse @ operator.energy(panels) @ inverse.T)
    return values.flip(-1), (inverse.T @ vectors).flip(-1)


@dataclass(frozen=True)
class Survey:
    """What is known of the spectrum before the filter."""

    leading: torch.Tensor  # eigenvectors that have converged, `[n, r]`
    following: float  # the largest eigenvalue after theirs
    bound: float  # about the eigenvalue after the `width` largest ones
    last: float  # about the last of the `k` largest ones

    @classmethod
    def from_operator(cls, operator: GramOperator, start: npt.NDArray[np.float32], k: int, width: int) -> Survey:
        """Take some steps of block Lanczos, with full orthogonalisation, from random ``start [n, block]``."""
        n, size = start.shape
        steps = min(KRYLOV_STEPS, n // size)
        basis, reduced = torch.empty(n, size * steps), np.zeros((size * steps, size * steps))
        block, rest = torch.linalg.qr(torch.from_numpy(start))
        for first in range(0, size * steps, size):
            end = first + size
            basis[:, first:end] = block
            image = torch.from_numpy(operator.squared([copied(block.numpy())])[0])
            known = basis[:, :end]
            inner = known.T @ image
            reduced[:end, first:end], reduced[first:end, :end] = inner, inner.T
            image -= known @ inner
            image -= known @ (known.T @ image)
            block, rest = torch.linalg.qr(image)
        values, vectors = (array[..., ::-1] for array in np.linalg.eigh(reduced))
        residuals = np.linalg.norm(rest.double().numpy() @ vectors[-size:], axis=0)
        open_ = residuals >= CONVERGED * values
        r = int(open_.argmax()) if open_.any() else len(values) - 1
        r = min(r, k - 1)
        # the weight of each Ritz value in the density tells how many eigenvalues it stands for
        weight = np.square(vectors[:size]).sum(axis=0) * (n / size)
        rank = weight.cumsum() - weight / 2
        bound, last = np.interp([width, k], rank, values)
        bound = max(float(bound), STEEP * float(values[0]), 1e-30)
        leading = (basis @ torch.from_numpy(vectors[:, :r].copy()).float()).numpy()
        if r:  # what they still have of the rest would stay in them
            degree = _most(float(values[0]), bound)
            leading = _polynomial(operator, leading, bound, degree, torch.zeros(n, 0))
            orthonormalise([leading])
        return cls(torch.from_numpy(leading), float(values[r]), bound, float(last))


def filtered(operator: GramOperator, start: npt.NDArray[np.float32], survey: Survey, degree: int) -> list[Panel]:
    """Return what the polynomials make of ``start``, and the leading vectors: nearly orthonormal, ``[n, width]``."""
    degree = max(1, min(degree, ceil(acosh(ENOUGH) / _slope(survey.last, survey.bound))))
    stages = ceil(degree / _most(survey.following, survey.bound))
    panels = split(start)
    for stage in np.array_split(np.arange(degree), stages):
        panels = [_polynomial(operator, panel, survey.bound, len(stage), survey.leading) for panel in panels]
        orthonormalise(panels)
    return [survey.leading.numpy(), *panels]


def _slope(value: float, bound: float) -> float:
    """Return by how much the logarithm of what the polynomials make of an eigenvalue grows with their degree."""
    return acosh(max(2 * value / bound - 1, 1 + 1e-6))


def _most(value: float, bound: float) -> int:
    """Return the largest degree that lets the direction of an eigenvalue grow by :data:`GROWTH` at most."""
    return max(1, int(acosh(GROWTH) / _slope(value, bound)))


def _polynomial(operator: GramOperator, panel: Panel, bound: float, degree: int, leading: torch.Tensor) -> Panel:
    r"""Return :math:`T_d(2A/b - 1) V` for one panel of columns, without the ``leading`` vectors."""

    def without_leading(block: torch.Tensor) -> torch.Tensor:
        return block.sub_(leading @ (leading.T @ block))

    def multiplied(block: torch.Tensor, factor: float) -> torch.Tensor:
        return torch.from_numpy(operator.squared([copied(block.numpy())])[0]).mul_(factor / bound)

    before = without_leading(torch.from_numpy(panel))
    now = multiplied(before, 2).sub_(before)
    for step in range(1, degree):
        before, now = now, multiplied(now, 4).sub_(now, alpha=2).sub_(before)
        if step % 2:  # what rounding leaves of them grows, but not by much in two steps
            without_leading(now)
    return without_leading(now).numpy()
