"""DirectAU against its formulas in dense float64."""

from __future__ import annotations

import pytest
import torch
from signed_reference import N_USERS, assert_same_encoding, assert_same_loss, build, light, nodes, small_data

from recbole_signed.model.directau import DirectAU


@pytest.mark.parametrize(("encoder", "layers"), [("MF", 0), ("LightGCN", 2)])
def test_embeddings_and_loss_are_those_of_the_formulas(encoder: str, layers: int) -> None:
    data = small_data()
    model = build(DirectAU, data, encoder=encoder, n_layers=2, gamma=0.7)
    table = light(data.likes, nodes(model.user_embedding, model.item_embedding), layers)
    assert_same_encoding(model, table)
    batch = data.liked(1)
    unit = table / table.norm(dim=1, keepdim=True).clamp(min=1e-12)
    users, items = batch["user_id"], batch["item_id"] + N_USERS
    wanted = (unit[users] - unit[items]).square().sum(dim=1).mean()
    for rows in (users, items):
        chosen = unit[sorted(set(rows.tolist()))]
        squares = (chosen[:, None] - chosen[None]).square().sum(dim=2)
        others = ~torch.eye(len(chosen), dtype=torch.bool)
        wanted = wanted + 0.7 / 2 * torch.exp(-2 * squares[others]).mean().log()
    assert_same_loss(model, batch, wanted)


def test_one_pair_has_nothing_to_be_far_from() -> None:
    data = small_data()
    model = build(DirectAU, data)
    batch = {name: column[:1] for name, column in data.batch(1).items()}
    u, i = model.user_embedding(batch["user_id"])[0], model.item_embedding(batch["item_id"])[0]
    assert_same_loss(model, batch, (u / u.norm() - i / i.norm()).square().sum())
