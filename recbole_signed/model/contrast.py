"""Contrastive losses over the rows of a batch; their memory does not grow with the square of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.functional import normalize

CELLS, CELLS_IN_CACHE = 4_000_000, 1 << 17
"""Products that are held at a time, on a GPU and on a CPU: bounds the memory, not the result."""


def _blocks(queries: torch.Tensor, keys: torch.Tensor) -> Iterator[slice]:
    cells = CELLS_IN_CACHE if queries.device.type == "cpu" else CELLS
    size = max(cells // max(len(keys), 1), 1)
    return (slice(first, first + size) for first in range(0, len(queries), size))


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, queries: torch.Tensor, keys: torch.Tensor, temperature: float) -> torch.Tensor:
        result = queries.new_empty(len(queries))
        for rows in _blocks(queries, keys):
            result[rows] = torch.logsumexp(queries[rows] @ keys.T / temperature, dim=1)
        context.save_for_backward(queries, keys, result)
        context.temperature = temperature
        return result

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        queries, keys, result = context.saved_tensors
        of_queries, of_keys = torch.empty_like(queries), torch.zeros_like(keys)
        for rows in _blocks(queries, keys):
            shares = (queries[rows] @ keys.T / context.temperature - result[rows, None]).exp_()
            shares *= gradient[rows, None] / context.temperature
            of_queries[rows] = shares @ keys
            of_keys += shares.T @ queries[rows]
        return of_queries, of_keys, None


def log_sum_exp(queries: torch.Tensor, keys: torch.Tensor, temperature: float) -> torch.Tensor:
    r"""Return :math:`\ln \sum_j \exp(q_i \cdot k_j / \tau)` for ``queries [n, d]`` and ``keys [m, d]``: ``[n]``.

    The products are made again for the backward pass instead of being kept.
    """
    return _LogSumExp.apply(queries.contiguous(), keys.contiguous(), temperature)


def info_nce(first: torch.Tensor, second: torch.Tensor, temperature: float) -> torch.Tensor:
    r"""Return the mean over rows of :math:`-\ln(\exp(\cos_{ii}/\tau) / \sum_j \exp(\cos_{ij}/\tau))`.

    ``first`` and ``second [n, d]`` are two views of the same rows (InfoNCE, arXiv 1807.03748, eq. 4).
    """
    first, second = normalize(first, dim=-1), normalize(second, dim=-1)
    together = (first * second).sum(dim=-1) / temperature
    return (log_sum_exp(first, second, temperature) - together).mean()


def uniformity(rows: torch.Tensor, scale: float = 2.0) -> torch.Tensor:
    r"""Return :math:`\ln` of the mean of :math:`e^{-t \|x - y\|^2}` over pairs of distinct ``rows [n, d]`` of length 1.

    Wang and Isola, ICML 2020, eq. 2; t is ``scale``. 0 where there is no pair.
    """
    n = len(rows)
    if n < 2:
        return 0.0 * rows.sum()
    # |x - y|^2 = 2 - 2 xy; the sum has each row with itself too, which adds 1; so expm1
    log_sums = log_sum_exp(rows, rows, 0.5 / scale) - 2.0 * scale
    total = torch.expm1(log_sums).sum().clamp(min=torch.finfo(rows.dtype).tiny)
    return torch.log(total / (n * (n - 1)))


def perturbed(rows: torch.Tensor, size: float) -> torch.Tensor:
    r"""Return each row :math:`x` of ``[n, d]`` plus noise of length ``size`` in the orthant of x (SimGCL, eq. 7)."""
    return rows + torch.sign(rows) * normalize(torch.rand_like(rows), dim=-1) * size
