"""Small parts that several models share."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

Pair = tuple[torch.Tensor, torch.Tensor]
Tables = tuple[nn.Embedding, nn.Embedding]


def tables(n_users: int, n_items: int, size: int, start: Callable[[torch.Tensor], Any]) -> Tables:
    """Return tables of users and of items, ``[n_users, size]`` and ``[n_items, size]``, each filled by ``start``."""
    embeddings = nn.Embedding(n_users, size), nn.Embedding(n_items, size)
    for table in embeddings:
        start(table.weight)
    return embeddings


def normal_tables(n_users: int, n_items: int, size: int, deviation: float) -> Tables:
    """Return :func:`tables` of normal numbers with a standard deviation."""
    return tables(n_users, n_items, size, partial(nn.init.normal_, std=deviation))


def xavier_pair(n_users: int, n_items: int, size: int) -> Tables:
    """Return :func:`tables` that start as one Xavier normal matrix ``[n_users + n_items, size]`` does."""
    return normal_tables(n_users, n_items, size, math.sqrt(2.0 / (n_users + n_items + size)))


def xavier_tables(n_users: int, n_items: int, size: int) -> Tables:
    """Return :func:`tables`, each from Xavier's normal distribution of its own shape."""
    return tables(n_users, n_items, size, nn.init.xavier_normal_)


def side_by_side(first: Pair, second: Pair) -> Pair:
    """Return users ``[n_users, 2d]`` and items ``[n_items, 2d]``, so that one product propagates both pairs."""
    return torch.cat([first[0], second[0]], dim=1), torch.cat([first[1], second[1]], dim=1)


def disinterest_filter(scores: torch.Tensor, disinterest: torch.Tensor, threshold: float) -> torch.Tensor:
    """Return ``scores [batch, n_items]``, those of items of a disinterest above ``threshold`` last but finite."""
    spread = scores.amax(dim=1, keepdim=True) - scores.amin(dim=1, keepdim=True)
    return scores - (disinterest > threshold) * (1.0 + spread * 1.001)


def interest_scores(users: torch.Tensor, items: torch.Tensor, threshold: float) -> torch.Tensor:
    """Return scores of interest, items of disinterest above ``threshold`` last; of rows :func:`side_by_side`."""
    interest, disinterest = (u @ i.T for u, i in zip(users.chunk(2, dim=1), items.chunk(2, dim=1), strict=True))
    return disinterest_filter(interest, disinterest, threshold)


def dropout(dense: torch.Tensor, rate: float, training: bool) -> torch.Tensor:
    """Return ``dense`` after dropout while ``training``; one draw of 64 bits serves four entries on the CPU."""
    if not training or not rate:
        return dense
    draws = torch.empty(-(-dense.numel() // 4), dtype=torch.int64, device=dense.device).random_(-(2**63), None)
    levels = draws.view(torch.int16)[: dense.numel()].view(dense.shape)  # uniform from -32768 to 32767
    return dense * (levels >= round(rate * 65536) - 32768).to(dense.dtype).mul_(1.0 / (1.0 - rate))
