"""Degrees of items and of users, counted over blocks of edges and summed over processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from recbole_signed.graph.shards import EdgeBlock

PIECE = 1 << 24
"""Edges that are counted at a time."""


@dataclass(frozen=True)
class DegreeCounts:
    """What a fit needs to know of all degrees."""

    likes: npt.NDArray[np.int64]
    """Likes of each item, ``[n_items]``."""
    dislikes: npt.NDArray[np.int64]
    """Dislikes of each item, ``[n_items]``."""
    n_users: int
    """All users, with or without edges."""
    n_active: int
    """Users whose weighted degree is above 0."""
    median: float
    """The median of their weighted degrees; 1 if there are none."""

    @classmethod
    def of(cls, blocks: Iterable[EdgeBlock], n_items: int, dislike_weight: float) -> DegreeCounts:
        """Count the edges of this process' blocks, and sum over processes where torch.distributed is initialised."""
        totals = torch.zeros(2, n_items, dtype=torch.int64)
        pairs: Counter[tuple[int, int]] = Counter()  # (likes, dislikes) of a user -> users who have as many
        for block in blocks:
            sides = (block.likes, block.dislikes)
            for total, (_, items) in zip(totals.numpy(), sides, strict=True):
                for first in range(0, len(items), PIECE):
                    total += np.bincount(items[first : first + PIECE], minlength=n_items)
            likes, dislikes = (np.diff(indptr).astype(np.int64) for indptr, _ in sides)
            keys, counts = np.unique(likes << 32 | dislikes, return_counts=True)
            pairs.update(dict(zip(zip(*_halves(keys), strict=True), counts.tolist(), strict=True)))
        all_reduced(totals)
        if dist.is_available() and dist.is_initialized():
            gathered: list[Counter[tuple[int, int]]] = [Counter() for _ in range(dist.get_world_size())]
            dist.all_gather_object(gathered, pairs)
            pairs = sum(gathered, Counter())
        degrees = np.array([likes + abs(dislike_weight) * dislikes for likes, dislikes in pairs], dtype=np.float64)
        how_many = np.array(list(pairs.values()), dtype=np.int64)
        active = degrees > 0
        item_likes, item_dislikes = totals.numpy()
        return cls(
            likes=item_likes,
            dislikes=item_dislikes,
            n_users=int(how_many.sum()),
            n_active=int(how_many[active].sum()),
            median=_median(degrees[active], how_many[active]),
        )


def all_reduced(values: torch.Tensor) -> torch.Tensor:
    """Replace values by their sum over processes, where torch.distributed is initialised; return them."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values)
    return values


def _halves(keys: npt.NDArray[np.int64]) -> tuple[list[int], list[int]]:
    return (keys >> 32).tolist(), (keys & 0xFFFFFFFF).tolist()


def _median(values: npt.NDArray[np.float64], how_many: npt.NDArray[np.int64]) -> float:
    """Return the median of values that are each there ``how_many`` times; 1 of none."""
    if not len(values):
        return 1.0
    order = np.argsort(values)
    ends = how_many[order].cumsum()
    middle = [(ends[-1] - 1) // 2, ends[-1] // 2]
    return float(values[order][np.searchsorted(ends, middle, side="right")].mean())
