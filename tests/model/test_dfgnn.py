"""DFGNN against its formulas in dense float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from signed_reference import (
    N_ITEMS,
    N_USERS,
    adjacency,
    assert_same_encoding,
    assert_same_loss,
    build,
    nodes,
    small_data,
)

from recbole_signed.model.dfgnn import DFGNN


def with_loops(likes: np.ndarray) -> torch.Tensor:
    """The likes between all nodes with a loop at each, over the roots of the degrees."""
    n = N_USERS + N_ITEMS
    whole = np.eye(n)
    whole[:N_USERS, N_USERS:], whole[N_USERS:, :N_USERS] = likes, likes.T
    root = np.sqrt(whole.sum(axis=1))
    return torch.from_numpy(whole / root[:, None] / root[None])


def embeddings(model: DFGNN, data: Any) -> torch.Tensor:
    low, high = with_loops(data.likes), torch.eye(N_USERS + N_ITEMS) - adjacency(data.dislikes)
    table = nodes(model.user_embedding, model.item_embedding)
    for join in model.joins:
        table = torch.cat([low @ table, high @ table], dim=1) @ join.weight.T + join.bias
    return table


def test_embeddings_and_loss_are_those_of_the_formulas() -> None:
    data = small_data()
    model = build(DFGNN, data, temperature=0.6, cl_weight=0.4)
    table, start = embeddings(model, data), nodes(model.user_embedding, model.item_embedding)
    assert_same_encoding(model, table)
    batch = data.batch(2)
    liked = batch["sign"] > 0
    u, i = table[batch["user_id"][liked]], table[batch["item_id"][liked] + N_USERS]
    n = table[batch["neg_item_id"][liked] + N_USERS]
    logits = torch.cat([(u * i).sum(1)[:, None], (u[:, None] * n).sum(2)], dim=1)
    labels = torch.zeros_like(logits)
    labels[:, 0] = 1
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    unit = start / start.norm(dim=1, keepdim=True)
    cosines = unit[batch["user_id"]] @ unit[batch["item_id"] + N_USERS].T / 0.6
    regulariser = cosines.exp().sum(dim=1).log() - batch["sign"] * cosines.diagonal()
    assert_same_loss(model, batch, wanted + 0.4 * regulariser.mean())


def test_a_batch_of_dislikes_alone_has_a_loss() -> None:
    data = small_data()
    model = build(DFGNN, data)
    batch = {name: column[data.batch(1)["sign"] < 0] for name, column in data.batch(1).items()}
    assert torch.isfinite(model.loss(batch))
    one = {name: column[:1] for name, column in batch.items()}
    assert model.loss(one) == 0


def test_without_dislikes_the_high_pass_filter_passes_everything() -> None:
    data = small_data(dislikes=False)
    model = build(DFGNN, data)
    table = nodes(model.user_embedding, model.item_embedding)
    for join in model.joins:
        table = torch.cat([with_loops(data.likes) @ table, table], dim=1) @ join.weight.T + join.bias
    assert_same_encoding(model, table)
