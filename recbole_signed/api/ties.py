"""The best items of users where scores may be equal, as those of users without edges often are.

RecBole numbers items in the order of the rows of a file. Lists are not to depend on it, so what decides between equal
scores is the item's id: its hash, as ids themselves often follow age or popularity.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from recbole_signed.graph import largest
from recbole_signed.ids_and_times import order_of_hashes

CHUNKS_FROM = 1 << 13
"""Items from which on the largest scores are found faster by chunks."""


def order_of_ids(ids: Iterable[str]) -> torch.Tensor:
    """Return the places of ids in the order of their hashes, int64 ``[n]``."""
    return torch.from_numpy(order_of_hashes(np.array(list(ids), dtype=object)))


def best_of_each(scores: torch.Tensor, k: int, order: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ``k`` best scores of each row and their columns, two ``[n_rows, <= k]``.

    Args:
        scores: ``[n_rows, n_columns]``; NaN comes first.
        k: how many.
        order: all columns; of equal scores that comes first which stands first in it.
    """
    n_columns = scores.shape[1]
    values, best = largest(scores, min(k + 1, n_columns), CHUNKS_FROM)
    tied = ((values[:, 1:] == values[:, :-1]) & (values[:, 1:] > -torch.inf)).any(dim=1)
    values, best = values[:, :k], best[:, :k]
    if not bool(tied.any()):
        return values, best
    # the rows with ties alone are sorted
    found = scores[tied][:, order].sort(dim=1, descending=True, stable=True)
    values, best = values.clone(), best.clone()
    values[tied], best[tied] = found.values[:, :k], order[found.indices[:, :k]]
    return values, best
