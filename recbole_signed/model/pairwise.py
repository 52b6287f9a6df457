"""What a model takes from a batch of edges with sampled items, and the scores of its pairs."""

from __future__ import annotations

from typing import Any

import torch

from recbole_signed.graph.pair_products import SparsePairs, pair_scores
from recbole_signed.model.losses import bpr, half_squared_norm


def columns(model: Any, batch: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return users ``[B]``, items ``[B]`` and sampled items ``[B, K]``; RecBole's own batches have K = 1."""
    users = batch[model.USER_ID]
    return users, batch[model.ITEM_ID], batch[model.NEG_ITEM_ID].reshape(len(users), -1)


def dots(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return the inner products of rows, ``[B]``."""
    return (left * right).sum(dim=-1)


def scores_of(user_rows: torch.Tensor, item_vectors: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """Return the inner products of ``user_rows [B, d]`` with the items ``[B, K]`` of each: ``[B, K]``.

    On a CPU, nothing of the size ``[B, K, d]`` is made.
    """
    if user_rows.device.type != "cpu":
        rows = item_vectors.index_select(0, items.reshape(-1)).view(*items.shape, -1)
        return torch.einsum("bd,bkd->bk", user_rows, rows)
    begins = torch.arange(len(items) + 1, dtype=torch.int32) * items.shape[1]
    pairs = SparsePairs(begins, items.reshape(-1).int(), len(item_vectors))
    return pair_scores(user_rows, item_vectors, pairs).view_as(items)


def mean_bpr(
    user_vectors: torch.Tensor,
    item_vectors: torch.Tensor,
    users: torch.Tensor,
    items: torch.Tensor,
    sampled: torch.Tensor,
) -> torch.Tensor:
    """Return the mean BPR loss over the pairs of ``items [B]`` and ``sampled [B, K]``, a scalar."""
    user_rows = user_vectors.index_select(0, users)
    known = dots(user_rows, item_vectors.index_select(0, items))
    return bpr(known[:, None], scores_of(user_rows, item_vectors, sampled)).mean()


def batch_norm_penalty(
    user_table: torch.Tensor,
    item_table: torch.Tensor,
    users: torch.Tensor,
    items: torch.Tensor,
    sampled: torch.Tensor,
) -> torch.Tensor:
    """Return half the squared norms of the table rows that a batch names, per edge (LightGCN's code): a scalar."""
    rows = (
        user_table.index_select(0, users),
        item_table.index_select(0, items),
        item_table.index_select(0, sampled.reshape(-1)),
    )
    return half_squared_norm(*rows) / max(len(users), 1)
