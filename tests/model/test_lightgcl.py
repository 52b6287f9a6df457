"""LightGCL against its formulas in dense float64."""

from __future__ import annotations

import pytest
import torch
from signed_reference import N_USERS, adjacency, assert_same_encoding, build, nodes, normalised, small_data
from torch.nn.functional import logsigmoid

from recbole_signed.model import LightGCL


@pytest.mark.parametrize("q", [3, 50])
def test_embeddings_and_loss_are_those_of_the_formulas(q: int) -> None:
    data = small_data()
    model = build(LightGCL, data, q=q, temp=0.7, lambda1=0.3, lambda2=1e-3)
    start, graph = nodes(model.user_embedding, model.item_embedding), adjacency(data.likes)
    layers = [start, graph @ start, graph @ graph @ start]
    table = sum(layers)
    assert_same_encoding(model, table)

    left, values, right = torch.linalg.svd(normalised(data.likes), full_matrices=False)
    coarse = left[:, :q] * values[:q] @ right[:q]
    whole = torch.zeros_like(graph)
    whole[:N_USERS, N_USERS:], whole[N_USERS:, :N_USERS] = coarse, coarse.T
    other = start + whole @ layers[0] + whole @ layers[1]

    batch = {name: column[data.batch(2)["sign"] > 0] for name, column in data.batch(2).items()}
    u, i, n = (table[batch["user_id"]], table[batch["item_id"] + N_USERS], table[batch["neg_item_id"] + N_USERS])
    wanted = -logsigmoid((u * i).sum(1)[:, None] - (u[:, None] * n).sum(2)).mean()
    named = torch.cat([batch["item_id"], batch["neg_item_id"].flatten()]) + N_USERS
    for rows, side in ((batch["user_id"], table[:N_USERS]), (named, table[N_USERS:])):
        apart = (other[rows] @ side.T / 0.7).exp().sum(dim=1).log().mean()
        together = ((other[rows] * table[rows]).sum(dim=1) / 0.7).clamp(-5, 5).mean()
        wanted = wanted + 0.3 * (apart - together)
    wanted = wanted + 1e-3 * start.square().sum()
    ours = model.loss(batch)
    torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5)  # the factors are float32
    parameters = list(model.parameters())
    for one, two in zip(*(torch.autograd.grad(each, parameters) for each in (ours, wanted)), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)
