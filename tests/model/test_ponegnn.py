"""Pone-GNN against its formulas in dense float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from signed_reference import (
    adjacency,
    assert_disinterest_comes_last,
    assert_same_encoding,
    assert_same_loss,
    bpr_of_both,
    build,
    nodes,
    rows_of,
    small_data,
)
from torch.nn.functional import cosine_similarity

from recbole_signed.model.ponegnn import PoneGNN

EVERY = 9
SETTINGS = {"reg_weight": 0.02, "contrast_weight": 0.3, "temperature": 0.6, "disinterest_every": EVERY}


def step(matrix: np.ndarray, epsilon: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    degrees = torch.from_numpy(np.concatenate([matrix.sum(1), matrix.sum(0)]))
    own = torch.where(degrees > 0, 1 / degrees, 0.0)
    return adjacency(matrix) @ table + (1 + epsilon) * own[:, None] * table


def streams(model: PoneGNN, data: Any) -> tuple[torch.Tensor, torch.Tensor]:
    start = nodes(model.user_embedding, model.item_embedding)
    positive, negative = [start], [nodes(model.user_dislikes, model.item_dislikes)]
    for layer, epsilon in enumerate(model.epsilon):
        positive.append(step(data.likes, epsilon, positive[-1]))
        negative.append(step(data.likes, epsilon, negative[-1]) if layer else step(data.dislikes, epsilon, start))
    return torch.stack(positive).mean(0), torch.stack(negative).mean(0)


def loss(model: PoneGNN, data: Any, batch: dict[str, torch.Tensor], disinterest: bool) -> torch.Tensor:
    tables = streams(model, data)
    total = bpr_of_both(batch, tables[0], tables[1] if disinterest else None, 2.0, 0.02)
    if disinterest:
        plus, minus = ((cosine_similarity(*rows_of(batch, each)[:2]) / 0.6).exp() for each in tables)
        total = total - 0.3 * (plus / (plus + minus)).log().mean()
    return total


@pytest.mark.parametrize("epoch", [0, 1, EVERY - 2, EVERY - 1, EVERY])
def test_streams_and_loss_are_those_of_the_formulas(epoch: int) -> None:
    data = small_data()
    model = build(PoneGNN, data, **SETTINGS)
    assert_same_encoding(model, torch.cat(streams(model, data), dim=1))
    torch.testing.assert_close(torch.cat(model.interest()), streams(model, data)[0], rtol=1e-5, atol=1e-6)
    batch = data.batch(6)
    model.start_epoch(epoch)
    assert_same_loss(model, batch, loss(model, data, batch, epoch in (0, EVERY - 1)))


def test_without_dislikes_disinterest_is_the_second_table() -> None:
    data = small_data(dislikes=False)
    model = build(PoneGNN, data)
    disinterest = torch.cat([each[:, 5:] for each in model.encode()])
    torch.testing.assert_close(disinterest, nodes(model.user_dislikes, model.item_dislikes) / 5)
    assert torch.isfinite(model.loss(data.batch(3)))


@pytest.mark.parametrize("threshold", [0.0, 0.4])
def test_items_of_disinterest_come_last_in_the_order_of_interest(threshold: float) -> None:
    data = small_data()
    model = build(PoneGNN, data, disinterest_threshold=threshold)
    assert_disinterest_comes_last(model, *streams(model, data), threshold)
