"""SiGRec against its formulas in dense float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from signed_reference import N_USERS, assert_same_encoding, assert_same_loss, build, light, nodes, rows_of, small_data
from torch.nn.functional import cosine_similarity, logsigmoid

from recbole_signed.model.sigrec import SiGRec

SETTINGS = {"cosine_weight": 0.7, "dislike_margin": 0.1, "reg_weight": 0.03}


def embeddings(model: SiGRec, data: Any) -> torch.Tensor:
    return torch.cat(
        [
            light(data.likes, nodes(model.user_embedding, model.item_embedding), 3),
            light(data.dislikes, nodes(model.user_dislikes, model.item_dislikes), 3),
        ],
        dim=1,
    )


def loss(model: SiGRec, data: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    u, i, n = rows_of(batch, embeddings(model, data))
    liked = batch["sign"] > 0
    ranking = -logsigmoid((u * i).sum(1)[:, None] - (u[:, None] * n).sum(2)).mean(1)[liked].sum()
    cosine = cosine_similarity(u, i)
    signed = (1 - cosine)[liked].sum() + (cosine - 0.1).clamp(min=0)[~liked].sum()
    norms = sum(
        each.square().sum()
        for pair in ((model.user_embedding, model.item_embedding), (model.user_dislikes, model.item_dislikes))
        for each in rows_of(batch, nodes(*pair))
    )
    return (ranking + 0.7 * signed + 0.03 / 2 * norms) / len(liked)


@pytest.mark.parametrize("n_negatives", [1, 3])
def test_embeddings_and_loss_are_those_of_the_formulas(n_negatives: int) -> None:
    data = small_data()
    model = build(SiGRec, data, **SETTINGS)
    assert_same_encoding(model, embeddings(model, data))
    batch = data.batch(n_negatives)
    assert_same_loss(model, batch, loss(model, data, batch))


def test_a_batch_of_dislikes_alone_is_no_trouble() -> None:
    data = small_data()
    model = build(SiGRec, data, **SETTINGS)
    whole = data.batch(1)
    batch = {name: column[whole["sign"] < 0] for name, column in whole.items()}
    assert_same_loss(model, batch, loss(model, data, batch))


def test_without_dislikes_it_is_lightgcn_and_a_factorisation() -> None:
    data = small_data(dislikes=False)
    model = build(SiGRec, data, **SETTINGS)
    graph = light(data.likes, nodes(model.user_embedding, model.item_embedding), 3)
    factors = nodes(model.user_dislikes, model.item_dislikes) / 4
    wanted = sum(each[:N_USERS] @ each[N_USERS:].T for each in (graph, factors))
    torch.testing.assert_close(model.score(torch.arange(N_USERS)), wanted, rtol=1e-5, atol=1e-6)
    assert torch.isfinite(model.loss(data.batch(1)))
