"""What a collector is given in an evaluation on signed data, made of lists of items."""

from __future__ import annotations

import torch
from recbole.data.interaction import Interaction


class SignedBatch(Interaction):
    """Stands in for the batch of the signed evaluation data loader."""

    def __init__(self, users: torch.Tensor, dislikes: torch.Tensor, like_count: torch.Tensor) -> None:
        super().__init__({"user_id": users})
        self.dislike_u, self.dislike_i = dislikes
        self.like_count = like_count


def pairs(lists: list[list[int]]) -> torch.Tensor:
    """Return rows and items of lists, int64 ``[2, n]``."""
    found = [(row, item) for row, items in enumerate(lists) for item in items]
    return torch.tensor(found, dtype=torch.int64).reshape(-1, 2).T
