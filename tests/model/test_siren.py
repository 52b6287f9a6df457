"""SiReN against its formulas in dense float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from signed_reference import (
    N_USERS,
    adjacency,
    assert_same_encoding,
    assert_same_loss,
    build,
    light,
    nodes,
    rows_of,
    small_data,
)
from torch.nn.functional import logsigmoid

from recbole_signed.model.layers import dropout
from recbole_signed.model.siren import SiReN


def embeddings(model: SiReN, data: Any) -> torch.Tensor:
    z_p = light(data.likes, nodes(model.user_embedding, model.item_embedding), 4)
    z_n = nodes(model.user_dislikes, model.item_dislikes)
    for layer in model.mlp:
        z_n = (z_n @ layer.weight.T + layer.bias).relu()
    weights = torch.stack(
        [
            torch.tanh(each @ model.attention.weight.T + model.attention.bias) @ model.query.weight[0]
            for each in (z_p, z_n)
        ]
    ).softmax(dim=0)
    return weights[0][:, None] * z_p + weights[1][:, None] * z_n


def loss(model: SiReN, data: Any, batch: dict[str, torch.Tensor], coefficient: float = 2.0) -> torch.Tensor:
    u, i, n = rows_of(batch, embeddings(model, data))
    c = torch.where(batch["sign"] > 0, 1.0, coefficient)
    margins = (c * (u * i).sum(1))[:, None] - (u[:, None] * n).sum(2)
    return -logsigmoid(margins).sum() + 0.05 * (u.square().sum() + i.square().sum() + n.square().sum())


def test_embeddings_and_loss_are_those_of_the_formulas() -> None:
    data = small_data()
    model = build(SiReN, data)
    assert adjacency(data.likes)[1].sum() == 0, "a user without an edge is part of this"
    assert_same_encoding(model, embeddings(model, data))
    batch = data.batch(6)
    assert_same_loss(model, batch, loss(model, data, batch))


@pytest.mark.parametrize(("coefficient", "layers"), [(-0.7, 1), (0.5, 3)])
def test_settings_are_those_of_the_formulas(coefficient: float, layers: int) -> None:
    data = small_data()
    model = build(SiReN, data, dislike_coefficient=coefficient, mlp_layers=layers)
    assert len(model.mlp) == layers
    batch = data.batch(2)
    assert_same_loss(model, batch, loss(model, data, batch, coefficient))


def test_a_batch_of_few_users_and_items_is_enough() -> None:
    data = small_data()
    model = build(SiReN, data)
    batch = {name: column[:3] for name, column in data.batch(2).items()}
    assert_same_loss(model, batch, loss(model, data, batch))


def test_without_dislikes_the_loss_is_plain_bpr() -> None:
    data = small_data(dislikes=False)
    model = build(SiReN, data)
    batch = data.batch(3)
    assert_same_loss(model, batch, loss(model, data, batch, coefficient=float("nan")))


def test_dropout_is_that_of_training_alone() -> None:
    data = small_data()
    model = build(SiReN, data)
    batch = data.batch(3)
    quiet = model.loss(batch)
    model.train()
    assert not torch.allclose(model.loss(batch), quiet)
    model.dropout = 0.0
    torch.testing.assert_close(model.loss(batch), quiet)


def test_dropout_is_after_each_layer_of_the_perceptron() -> None:
    """With the query at 0 both parts weigh a half, whatever dropout makes of the tanh."""
    data = small_data()
    model = build(SiReN, data, mlp_layers=1, embedding_size=40)
    with torch.no_grad():
        model.query.weight.zero_()
    z_p = light(data.likes, nodes(model.user_embedding, model.item_embedding), 4)
    quiet = 2 * torch.cat(model.encode()) - z_p
    noisy = 2 * torch.cat(model.train().encode()) - z_p
    positive = quiet > 1e-6
    share = noisy[positive] / quiet[positive]
    assert float((share.abs() < 1e-6).double().mean()) == pytest.approx(0.5, abs=0.08)
    torch.testing.assert_close(share[share.abs() > 1e-6], torch.full_like(share[share.abs() > 1e-6], 2.0))


def test_dropout_is_on_the_tanh_of_both_parts() -> None:
    """Without a perceptron and with one feature, a logit is 0 or twice what it is without dropout."""
    data = small_data()
    model = build(SiReN, data, mlp_layers=0, embedding_size=1)
    z_p = light(data.likes, nodes(model.user_embedding, model.item_embedding), 4)
    z_n = nodes(model.user_dislikes, model.item_dislikes)
    logits = [torch.tanh(each @ model.attention.weight.T + model.attention.bias) @ model.query.weight.T
              for each in (z_p, z_n)]  # fmt: skip
    seen = set()
    for _ in range(5):
        found = torch.cat(model.train().encode())
        for drops in ((0, 0), (0, 2), (2, 0), (2, 2)):
            weight = torch.sigmoid(drops[0] * logits[0] - drops[1] * logits[1])
            close = (found - z_n - weight * (z_p - z_n)).abs() < 1e-6
            seen |= {(drops, row) for row in close[:, 0].nonzero()[:, 0].tolist()}
    assert {row for _, row in seen} == set(range(len(z_p)))
    assert {drops for drops, _ in seen} == {(0, 0), (0, 2), (2, 0), (2, 2)}


def test_dropout_keeps_the_mean_and_drops_the_rate() -> None:
    torch.manual_seed(0)
    ones = torch.ones(301, 401, dtype=torch.float64, requires_grad=True)
    for rate in (0.5, 0.1):
        dropped = dropout(ones, rate, training=True)
        kept = dropped != 0
        assert abs(float(kept.double().mean()) - (1 - rate)) < 0.005
        torch.testing.assert_close(dropped[kept], torch.full_like(dropped[kept], 1 / (1 - rate)))
        assert torch.equal(torch.autograd.grad(dropped.sum(), ones)[0], dropped.detach())
        assert not torch.equal(dropout(ones, rate, training=True), dropped)
        assert not torch.equal(kept[:, :-1:4], kept[:, 1::4])
        assert dropout(ones, rate, training=False) is ones


def test_tables_start_as_one_xavier_matrix() -> None:
    data = small_data()
    torch.manual_seed(0)
    model = SiReN({**build_config(), "embedding_size": 4000}, data)
    both = nodes(model.user_embedding, model.item_embedding)
    assert abs(float(both.detach().std()) / (2.0 / (len(both) + 4000)) ** 0.5 - 1) < 0.02
    assert len(both) > N_USERS


def build_config() -> dict[str, Any]:
    return {
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "NEG_PREFIX": "neg_",
        "device": "cpu",
        "n_layers": 1,
        "mlp_layers": 0,
        "dropout_prob": 0.5,
        "reg_weight": 0.0,
        "dislike_coefficient": 2.0,
    }
