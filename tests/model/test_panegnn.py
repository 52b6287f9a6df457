"""PANE-GNN against its formulas in dense float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from signed_reference import (
    N_USERS,
    assert_disinterest_comes_last,
    assert_same_encoding,
    assert_same_loss,
    bpr_of_both,
    build,
    contrast,
    light,
    nodes,
    small_data,
)

from recbole_signed.model.panegnn import PANEGNN

LAYERS = 4
SETTINGS = {"feedback_coefficient": 1.7, "reg_weight": 0.02, "contrast_weight": 0.3, "temperature": 0.6}


def embeddings(model: PANEGNN, data: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return (
        light(data.likes, nodes(model.user_embedding, model.item_embedding), LAYERS),
        light(data.dislikes, nodes(model.user_dislikes, model.item_dislikes), LAYERS),
    )


def distorted(model: PANEGNN) -> np.ndarray:
    """The dislikes that are left, read off the operator by its pattern alone."""
    return (model.distorted.to_users.matrix.to_dense() != 0).double().numpy()


def loss(model: PANEGNN, data: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    tables = embeddings(model, data)
    total = bpr_of_both(batch, *tables, 1.7, 0.02)
    other = light(distorted(model), nodes(model.user_dislikes, model.item_dislikes), LAYERS)
    for ids in (batch["user_id"], batch["item_id"] + N_USERS):
        total = total + 0.3 * contrast(tables[1], other, ids, 0.6)
    return total


def test_embeddings_and_loss_are_those_of_the_formulas() -> None:
    data = small_data()
    model = build(PANEGNN, data, removed_share=0.5, **SETTINGS)
    assert 0 < distorted(model).sum() < data.dislikes.sum()
    assert_same_encoding(model, torch.cat(embeddings(model, data), dim=1))
    batch = data.batch(6)
    assert_same_loss(model, batch, loss(model, data, batch))


def test_the_distortion_removes_a_share_and_depends_on_seed_and_epoch_alone() -> None:
    data = small_data()
    model, other = build(PANEGNN, data, removed_share=0.5), build(PANEGNN, data, removed_share=0.5)
    drawn = []
    for epoch in range(30):
        model.start_epoch(epoch)
        drawn.append(distorted(model))
        assert (drawn[-1] <= data.dislikes).all()
    other.start_epoch(17)
    assert np.array_equal(distorted(other), drawn[17])
    assert not np.array_equal(drawn[17], drawn[18])
    seeded = build(PANEGNN, data, removed_share=0.5, seed=8)
    seeded.start_epoch(17)
    assert not np.array_equal(distorted(seeded), drawn[17])
    assert abs(np.mean([each.sum() for each in drawn]) / data.dislikes.sum() - 0.5) < 0.1
    whole, none = (build(PANEGNN, data, removed_share=share) for share in (0, 1))
    assert np.array_equal(distorted(whole), data.dislikes)
    assert distorted(none).sum() == 0
    assert torch.isfinite(none.loss(data.batch(2)))


def test_without_dislikes_scores_are_those_of_lightgcn_filtered() -> None:
    data = small_data(dislikes=False)
    model = build(PANEGNN, data, disinterest_threshold=1e9)
    table = light(data.likes, nodes(model.user_embedding, model.item_embedding), LAYERS)
    users = torch.arange(N_USERS)
    torch.testing.assert_close(model.score(users), table[:N_USERS] @ table[N_USERS:].T, rtol=1e-5, atol=1e-6)
    disinterest = torch.cat([each[:, 5:] for each in model.encode()])
    torch.testing.assert_close(disinterest, nodes(model.user_dislikes, model.item_dislikes) / (LAYERS + 1))
    assert torch.isfinite(model.loss(data.batch(3)))


def test_items_of_disinterest_come_last_in_the_order_of_interest() -> None:
    data = small_data()
    model = build(PANEGNN, data, disinterest_threshold=0.3)
    assert_disinterest_comes_last(model, *embeddings(model, data), 0.3)
