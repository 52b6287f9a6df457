"""The models with a table of likes and one of dislikes, against their formulas in dense float64."""

from typing import Any

import numpy as np
import pytest
import torch
from signed_reference import (
    N_USERS,
    adjacency,
    assert_disinterest_comes_last,
    assert_same_encoding,
    assert_same_loss,
    bpr_of_both,
    build,
    contrast,
    light,
    nodes,
    rows_of,
    small_data,
)
from torch.nn.functional import cosine_similarity, logsigmoid

from recbole_signed.model.layers import dropout
from recbole_signed.model.lsgrec import LSGRec
from recbole_signed.model.panegnn import PANEGNN
from recbole_signed.model.ponegnn import PoneGNN
from recbole_signed.model.sigrec import SiGRec
from recbole_signed.model.siren import SiReN


def embeddings_of_siren(model: SiReN, data: Any) -> torch.Tensor:
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


def loss_of_siren(model: SiReN, data: Any, batch: dict[str, torch.Tensor], coefficient: float = 2.0) -> torch.Tensor:
    u, i, n = rows_of(batch, embeddings_of_siren(model, data))
    margins = (torch.where(batch["sign"] > 0, 1.0, coefficient) * (u * i).sum(1))[:, None] - (u[:, None] * n).sum(2)
    return -logsigmoid(margins).sum() + 0.05 * (u.square().sum() + i.square().sum() + n.square().sum())


def test_embeddings_and_loss_of_siren_are_those_of_the_formulas() -> None:
    data = small_data()
    model = build(SiReN, data)
    assert adjacency(data.likes)[1].sum() == 0, "a user without an edge is part of this"
    assert_same_encoding(model, embeddings_of_siren(model, data))
    batch = data.batch(6)
    assert_same_loss(model, batch, loss_of_siren(model, data, batch))


@pytest.mark.parametrize(("coefficient", "layers"), [(-0.7, 1), (0.5, 3)])
def test_settings_are_those_of_the_formulas(coefficient: float, layers: int) -> None:
    data = small_data()
    model = build(SiReN, data, dislike_coefficient=coefficient, mlp_layers=layers)
    assert len(model.mlp) == layers
    batch = data.batch(2)
    assert_same_loss(model, batch, loss_of_siren(model, data, batch, coefficient))


def test_few_users_and_no_dislikes_are_enough() -> None:
    data = small_data()
    model = build(SiReN, data)
    batch = {name: column[:3] for name, column in data.batch(2).items()}
    assert_same_loss(model, batch, loss_of_siren(model, data, batch))
    data = small_data(dislikes=False)
    model, batch = build(SiReN, data), data.batch(3)
    assert_same_loss(model, batch, loss_of_siren(model, data, batch, coefficient=float("nan")))


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


SIGREC_SETTINGS = {"cosine_weight": 0.7, "dislike_margin": 0.1, "reg_weight": 0.03}


def embeddings_of_sigrec(model: SiGRec, data: Any) -> torch.Tensor:
    return torch.cat(
        [
            light(data.likes, nodes(model.user_embedding, model.item_embedding), 3),
            light(data.dislikes, nodes(model.user_dislikes, model.item_dislikes), 3),
        ],
        dim=1,
    )


def loss_of_sigrec(model: SiGRec, data: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    u, i, n = rows_of(batch, embeddings_of_sigrec(model, data))
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
def test_embeddings_and_loss_of_sigrec_are_those_of_the_formulas(n_negatives: int) -> None:
    data = small_data()
    model = build(SiGRec, data, **SIGREC_SETTINGS)
    assert_same_encoding(model, embeddings_of_sigrec(model, data))
    batch = data.batch(n_negatives)
    assert_same_loss(model, batch, loss_of_sigrec(model, data, batch))


def test_a_batch_of_dislikes_alone_is_no_trouble() -> None:
    data = small_data()
    model, whole = build(SiGRec, data, **SIGREC_SETTINGS), data.batch(1)
    batch = {name: column[whole["sign"] < 0] for name, column in whole.items()}
    assert_same_loss(model, batch, loss_of_sigrec(model, data, batch))


def test_without_dislikes_it_is_lightgcn_and_a_factorisation() -> None:
    data = small_data(dislikes=False)
    model = build(SiGRec, data, **SIGREC_SETTINGS)
    graph = light(data.likes, nodes(model.user_embedding, model.item_embedding), 3)
    factors = nodes(model.user_dislikes, model.item_dislikes) / 4
    wanted = sum(each[:N_USERS] @ each[N_USERS:].T for each in (graph, factors))
    torch.testing.assert_close(model.score(torch.arange(N_USERS)), wanted, rtol=1e-5, atol=1e-6)
    assert torch.isfinite(model.loss(data.batch(1)))


def streams_of_lsgrec(model: LSGRec, data: Any, n_layers: int) -> tuple[torch.Tensor, torch.Tensor]:
    likes, dislikes = adjacency(data.likes), adjacency(data.dislikes)
    start = nodes(model.user_embedding, model.item_embedding)
    positive, negative = [start], [nodes(model.user_dislikes, model.item_dislikes)]
    for layer in range(n_layers):
        negative.append(likes @ negative[-1] if layer else dislikes @ start)
        positive.append(likes @ positive[-1])
    return torch.stack(positive).mean(0), torch.stack(negative).mean(0)


def loss_of_lsgrec(model: LSGRec, data: Any, batch: dict[str, torch.Tensor], n_layers: int) -> torch.Tensor:
    tables = streams_of_lsgrec(model, data, n_layers)
    total = bpr_of_both(batch, *tables, 2.0, 0.02)
    (u, i, _), (u_minus, i_minus, _) = (rows_of(batch, each) for each in tables)
    total = total + 0.6 * ((model.rating(torch.cat([u, i], dim=1))[:, 0] - batch["sign"]) ** 2).mean()
    return total + 0.3 * (((u * u_minus).sum(1) ** 2).mean() + ((i * i_minus).sum(1) ** 2).mean())


@pytest.mark.parametrize("n_layers", [0, 1, 2, 4])
def test_streams_and_loss_of_lsgrec_are_those_of_the_formulas(n_layers: int) -> None:
    data = small_data()
    model = build(LSGRec, data, n_layers=n_layers, reg_weight=0.02, rating_weight=0.6, orthogonal_weight=0.3)
    for found, wanted in zip(model.streams(), streams_of_lsgrec(model, data, n_layers), strict=True):
        torch.testing.assert_close(torch.cat(found), wanted, rtol=1e-5, atol=1e-6)
    assert_same_encoding(model, streams_of_lsgrec(model, data, n_layers)[0])
    batch = data.batch(6)
    assert_same_loss(model, batch, loss_of_lsgrec(model, data, batch, n_layers))


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


LAYERS = 4
PANEGNN_SETTINGS = {"feedback_coefficient": 1.7, "reg_weight": 0.02, "contrast_weight": 0.3, "temperature": 0.6}


def embeddings_of_panegnn(model: PANEGNN, data: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return (
        light(data.likes, nodes(model.user_embedding, model.item_embedding), LAYERS),
        light(data.dislikes, nodes(model.user_dislikes, model.item_dislikes), LAYERS),
    )


def distorted(model: PANEGNN) -> np.ndarray:
    """The dislikes that are left, read off the operator by its pattern alone."""
    return (model.distorted.to_users.matrix.to_dense() != 0).double().numpy()


def loss_of_panegnn(model: PANEGNN, data: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    tables = embeddings_of_panegnn(model, data)
    total = bpr_of_both(batch, *tables, 1.7, 0.02)
    other = light(distorted(model), nodes(model.user_dislikes, model.item_dislikes), LAYERS)
    for ids in (batch["user_id"], batch["item_id"] + N_USERS):
        total = total + 0.3 * contrast(tables[1], other, ids, 0.6)
    return total


def test_embeddings_and_loss_of_panegnn_are_those_of_the_formulas() -> None:
    data = small_data()
    model = build(PANEGNN, data, removed_share=0.5, **PANEGNN_SETTINGS)
    assert 0 < distorted(model).sum() < data.dislikes.sum()
    assert_same_encoding(model, torch.cat(embeddings_of_panegnn(model, data), dim=1))
    batch = data.batch(6)
    assert_same_loss(model, batch, loss_of_panegnn(model, data, batch))


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


EVERY = 9
PONEGNN_SETTINGS = {"reg_weight": 0.02, "contrast_weight": 0.3, "temperature": 0.6, "disinterest_every": EVERY}


def step(matrix: np.ndarray, epsilon: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    degrees = torch.from_numpy(np.concatenate([matrix.sum(1), matrix.sum(0)]))
    own = torch.where(degrees > 0, 1 / degrees, 0.0)
    return adjacency(matrix) @ table + (1 + epsilon) * own[:, None] * table


def streams_of_ponegnn(model: PoneGNN, data: Any) -> tuple[torch.Tensor, torch.Tensor]:
    start = nodes(model.user_embedding, model.item_embedding)
    positive, negative = [start], [nodes(model.user_dislikes, model.item_dislikes)]
    for layer, epsilon in enumerate(model.epsilon):
        positive.append(step(data.likes, epsilon, positive[-1]))
        negative.append(step(data.likes, epsilon, negative[-1]) if layer else step(data.dislikes, epsilon, start))
    return torch.stack(positive).mean(0), torch.stack(negative).mean(0)


def loss_of_ponegnn(model: PoneGNN, data: Any, batch: dict[str, torch.Tensor], disinterest: bool) -> torch.Tensor:
    tables = streams_of_ponegnn(model, data)
    total = bpr_of_both(batch, tables[0], tables[1] if disinterest else None, 2.0, 0.02)
    if disinterest:
        plus, minus = ((cosine_similarity(*rows_of(batch, each)[:2]) / 0.6).exp() for each in tables)
        total = total - 0.3 * (plus / (plus + minus)).log().mean()
    return total


@pytest.mark.parametrize("epoch", [0, 1, EVERY - 2, EVERY - 1, EVERY])
def test_streams_and_loss_of_ponegnn_are_those_of_the_formulas(epoch: int) -> None:
    data = small_data()
    model = build(PoneGNN, data, **PONEGNN_SETTINGS)
    assert_same_encoding(model, torch.cat(streams_of_ponegnn(model, data), dim=1))
    torch.testing.assert_close(torch.cat(model.interest()), streams_of_ponegnn(model, data)[0], rtol=1e-5, atol=1e-6)
    batch = data.batch(6)
    model.start_epoch(epoch)
    assert_same_loss(model, batch, loss_of_ponegnn(model, data, batch, epoch in (0, EVERY - 1)))


def test_without_dislikes_disinterest_is_the_second_table() -> None:
    data = small_data(dislikes=False)
    model = build(PoneGNN, data)
    disinterest = torch.cat([each[:, 5:] for each in model.encode()])
    torch.testing.assert_close(disinterest, nodes(model.user_dislikes, model.item_dislikes) / 5)
    assert torch.isfinite(model.loss(data.batch(3)))


@pytest.mark.parametrize(
    ("kind", "tables", "threshold"),
    [(PANEGNN, embeddings_of_panegnn, 0.3), (PoneGNN, streams_of_ponegnn, 0.0), (PoneGNN, streams_of_ponegnn, 0.4)],
)
def test_items_of_disinterest_come_last_in_the_order_of_interest(kind: Any, tables: Any, threshold: float) -> None:
    data = small_data()
    model = build(kind, data, disinterest_threshold=threshold)
    assert_disinterest_comes_last(model, *tables(model, data), threshold)
