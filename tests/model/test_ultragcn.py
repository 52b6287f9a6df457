"""UltraGCN against its formulas in dense float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from signed_reference import assert_same_encoding, assert_same_loss, build, nodes, small_data

from recbole_signed.model.ultragcn import UltraGCN

WEIGHTS = {"w1": 0.3, "w2": 1.2, "w3": 0.4, "w4": 0.9, "negative_weight": 3.0, "lambda": 0.6, "gamma": 0.05}


@pytest.mark.parametrize("count", [4, 40])
def test_the_loss_is_that_of_the_formulas(count: int) -> None:
    data = small_data()
    model = build(UltraGCN, data, ii_neighbor_num=count, show_progress=False, **WEIGHTS)
    users_table, items_table = model.user_embedding.weight, model.item_embedding.weight
    assert_same_encoding(model, nodes(model.user_embedding, model.item_embedding))
    scores = users_table @ items_table.T

    d_u, d_i = data.likes.sum(axis=1), data.likes.sum(axis=0)
    beta = torch.from_numpy(np.sqrt(d_u + 1) / np.maximum(d_u, 1) * (d_u > 0))[:, None] / torch.from_numpy(
        np.sqrt(d_i + 1)
    )
    shared = data.likes.T @ data.likes
    g = shared.sum(axis=1)
    omega = shared * (np.sqrt(g + 1) / np.maximum(g, 1))[:, None] / np.sqrt(g + 1)[None]
    kept = np.sort(omega, axis=1)[:, ::-1][:, : min(count, len(g))]
    np.testing.assert_allclose(model.neighbour_weights[:, : kept.shape[1]], kept, rtol=1e-6)
    rows = np.arange(len(g))[:, None]
    found = model.neighbours.numpy()
    np.testing.assert_allclose(
        np.where(model.neighbour_weights > 0, omega[rows, found], 0), model.neighbour_weights, rtol=1e-6
    )

    batch = data.liked(6)
    wanted = 0.05 / 2 * (users_table.square().sum() + items_table.square().sum())
    for u, i, sampled in zip(batch["user_id"], batch["item_id"], batch["neg_item_id"], strict=True):
        wanted = wanted - (0.3 + 1.2 * beta[u, i]) * torch.sigmoid(scores[u, i]).log()
        others = (0.4 + 0.9 * beta[u, sampled]) * torch.sigmoid(-scores[u, sampled]).log()
        wanted = wanted - 3.0 * others.mean()
        near = torch.from_numpy(omega[i, found[i]]) * (model.neighbour_weights[i] > 0)
        wanted = wanted - 0.6 * (near * torch.sigmoid(scores[u, found[i]]).log()).sum()
    assert_same_loss(model, batch, wanted)
