"""LightGCL against its formulas in dense float64."""

from __future__ import annotations

import pytest
import torch
from signed_reference import N_USERS, adjacency, assert_same_encoding, bpr_of, build, nodes, normalised, small_data

from recbole_signed.model.lightgcl import LightGCL


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

    batch = data.liked(2)
    wanted = bpr_of(batch, table)
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
