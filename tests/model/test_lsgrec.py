"""LSGRec against its formulas in dense float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from signed_reference import (
    N_USERS,
    adjacency,
    assert_same_encoding,
    assert_same_loss,
    bpr_of_both,
    build,
    light,
    nodes,
    rows_of,
    small_data,
)

from recbole_signed.model.lsgrec import LSGRec


def streams(model: LSGRec, data: Any, n_layers: int) -> tuple[torch.Tensor, torch.Tensor]:
    likes, dislikes = adjacency(data.likes), adjacency(data.dislikes)
    start = nodes(model.user_embedding, model.item_embedding)
    positive, negative = [start], [nodes(model.user_dislikes, model.item_dislikes)]
    for layer in range(n_layers):
        negative.append(likes @ negative[-1] if layer else dislikes @ start)
        positive.append(likes @ positive[-1])
    return torch.stack(positive).mean(0), torch.stack(negative).mean(0)


def loss(model: LSGRec, data: Any, batch: dict[str, torch.Tensor], n_layers: int) -> torch.Tensor:
    tables = streams(model, data, n_layers)
    total = bpr_of_both(batch, *tables, 2.0, 0.02)
    (u, i, _), (u_minus, i_minus, _) = (rows_of(batch, each) for each in tables)
    predicted = model.rating(torch.cat([u, i], dim=1))[:, 0]
    total = total + 0.6 * ((predicted - batch["sign"]) ** 2).mean()
    return total + 0.3 * (((u * u_minus).sum(1) ** 2).mean() + ((i * i_minus).sum(1) ** 2).mean())


@pytest.mark.parametrize("n_layers", [0, 1, 2, 4])
def test_streams_and_loss_are_those_of_the_formulas(n_layers: int) -> None:
    data = small_data()
    model = build(LSGRec, data, n_layers=n_layers, reg_weight=0.02, rating_weight=0.6, orthogonal_weight=0.3)
    for found, wanted in zip(model.streams(), streams(model, data, n_layers), strict=True):
        torch.testing.assert_close(torch.cat(found), wanted, rtol=1e-5, atol=1e-6)
    assert_same_encoding(model, streams(model, data, n_layers)[0])
    batch = data.batch(6)
    assert_same_loss(model, batch, loss(model, data, batch, n_layers))


def test_without_dislikes_scores_are_those_of_lightgcn() -> None:
    data = small_data(dislikes=False)
    model = build(LSGRec, data)
    assert_same_encoding(model, light(data.likes, nodes(model.user_embedding, model.item_embedding), 2))
    third = nodes(model.user_dislikes, model.item_dislikes) / 3
    torch.testing.assert_close(torch.cat(model.streams()[1]), third)
    assert torch.isfinite(model.loss(data.batch(3)))


def test_each_rating_meets_its_own_prediction() -> None:
    """In the authors' code every rating meets the predictions of all edges."""
    data = small_data()
    model = build(LSGRec, data, orthogonal_weight=0.0, reg_weight=0.0)
    batch = data.batch(1)
    alone = {name: column[:1] for name, column in batch.items()}
    rest = {name: column[1:] for name, column in batch.items()}
    n = len(batch["sign"])
    mean = (model.loss(alone) + (n - 1) * model.loss(rest)) / n
    torch.testing.assert_close(model.loss(batch), mean)
    assert len(data.likes) == N_USERS
