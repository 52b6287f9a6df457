"""Contrastive losses over the rows of a batch; their memory does not grow with the square of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn.functional import normalize

CELLS, CELLS_IN_CACHE = 4_000_000, 1 << 17
"""Products that are held at a time, on a GPU and on a CPU: bounds the memory, not the result."""
SCALE = 2.0
"""Of the squared distances in :func:`uniformity`."""


def _blocks(queries: torch.Tensor, keys: torch.Tensor) -> Iterator[slice]:
    cells = CELLS_IN_CACHE if queries.device.type == "cpu" else CELLS
    size = max(cells // max(len(keys), 1), 1)
    return (slice(first, first + size) for first in range(0, len(queries), size))


Term = Callable[[torch.Tensor, slice], tuple[torch.Tensor, torch.Tensor]]
"""Gives, of the logarithms of some rows ``[b]``, what they add to a loss, and its derivatives, ``[b]`` each."""


class _SumOverRows(torch.autograd.Function):
    """Makes the gradients with the value: the products, and their exponentials, are needed once and are not kept."""

    @staticmethod
    def forward(
        context: Any, queries: torch.Tensor, keys: torch.Tensor, temperature: float, term: Term
    ) -> torch.Tensor:
        total, learns = queries.new_zeros(()), any(context.needs_input_grad)
        of_queries, of_keys = torch.empty_like(queries), torch.zeros_like(keys)
        scaled = queries / temperature
        for rows in _blocks(queries, keys):
            products = scaled[rows] @ keys.T
            largest = products.amax(dim=1, keepdim=True)
            shares = products.sub_(largest).exp_()
            sums = shares.sum(dim=1, keepdim=True)
            values, slopes = term((sums.log() + largest)[:, 0], rows)
            total += values.sum()
            if learns:
                shares *= slopes[:, None] / sums
                torch.mm(shares, keys, out=of_queries[rows])
                of_keys.addmm_(shares.T, scaled[rows])
        if learns:
            context.save_for_backward(of_queries.div_(temperature), of_keys)
        return total

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        of_queries, of_keys = context.saved_tensors
        return gradient * of_queries, gradient * of_keys, None, None


def log_sum_exp(
    queries: torch.Tensor, keys: torch.Tensor, temperature: float, weights: torch.Tensor | None = None
) -> torch.Tensor:
    r"""Return :math:`\sum_i w_i \ln \sum_j \exp(q_i \cdot k_j / \tau)`, a scalar.

    Args:
        queries: ``[n, d]``.
        keys: ``[m, d]``, m > 0.
        temperature: :math:`\tau`.
        weights: ``[n]``, which get no gradient; None for the mean over rows.
    """
    if weights is None:
        weights = queries.new_full((len(queries),), 1.0 / max(len(queries), 1))
    return _sum_over_rows(queries, keys, temperature, lambda logs, rows: (weights[rows] * logs, weights[rows]))


def _sum_over_rows(queries: torch.Tensor, keys: torch.Tensor, temperature: float, term: Term) -> torch.Tensor:
    return _SumOverRows.apply(queries.contiguous(), keys.contiguous(), temperature, term)


def info_nce(first: torch.Tensor, second: torch.Tensor, temperature: float) -> torch.Tensor:
    r"""Return the mean over rows of :math:`-\ln(\exp(\cos_{ii}/\tau) / \sum_j \exp(\cos_{ij}/\tau))`.

    ``first`` and ``second [n, d]`` are two views of the same rows (InfoNCE, arXiv 1807.03748, eq. 4).
    """
    first, second = normalize(first, dim=-1), normalize(second, dim=-1)
    return log_sum_exp(first, second, temperature) - (first * second).sum(dim=-1).mean() / temperature


def uniformity(rows: torch.Tensor) -> torch.Tensor:
    r"""Return :math:`\ln` of the mean of :math:`e^{-t \|x - y\|^2}` over pairs of distinct ``rows [n, d]`` of length 1.

    Wang and Isola, ICML 2020, eq. 2; t is :data:`SCALE`. 0 where there is no pair.
    """
    n = len(rows)
    if n < 2:
        return 0.0 * rows.sum()

    def others(logs: torch.Tensor, _: slice) -> tuple[torch.Tensor, torch.Tensor]:
        # |x - y|^2 = 2 - 2 xy; the sum has each row with itself too, which adds 1; so expm1
        return torch.expm1(logs - 2.0 * SCALE), torch.exp(logs - 2.0 * SCALE)

    total = _sum_over_rows(rows, rows, 0.5 / SCALE, others).clamp(min=torch.finfo(rows.dtype).tiny)
    return torch.log(total / (n * (n - 1)))


def perturbed(rows: torch.Tensor, size: float) -> torch.Tensor:
    r"""Return each row :math:`x` of ``[n, d]`` plus noise of length ``size`` in the orthant of x (SimGCL, eq. 7)."""
    return rows + torch.sign(rows) * normalize(torch.rand_like(rows), dim=-1) * size
