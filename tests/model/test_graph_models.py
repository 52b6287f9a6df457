"""The graph models of likes alone, contrastive or not, against their formulas in dense float64."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from signed_reference import (
    N_USERS,
    adjacency,
    assert_same_encoding,
    assert_same_loss,
    bpr_of,
    build,
    contrast,
    light,
    nodes,
    normalised,
    small_data,
    squares_of,
)

from recbole_signed.errors import UsageError
from recbole_signed.model import xsimgcl
from recbole_signed.model.directau import DirectAU
from recbole_signed.model.lightgcl import LightGCL
from recbole_signed.model.simgcl import SimGCL
from recbole_signed.model.ultragcn import UltraGCN
from recbole_signed.model.xsimgcl import XSimGCL


def final(model: SimGCL, likes: object, n_layers: int = 3) -> torch.Tensor:
    """The mean of the layers from 1 on."""
    start = nodes(model.user_embedding, model.item_embedding)
    return (
        sum(torch.linalg.matrix_power(adjacency(likes), layer) @ start for layer in range(1, n_layers + 1)) / n_layers
    )


def test_embeddings_and_loss_of_simgcl_are_those_of_the_formulas() -> None:
    data = small_data()
    model = build(SimGCL, data, **{"eps": 0.0, "lambda": 0.3, "temperature": 0.4, "reg_weight": 0.02})
    assert_same_encoding(model, final(model, data.likes))
    batch = data.liked(2)
    table = final(model, data.likes)
    wanted = bpr_of(batch, table)
    for rows in (batch["user_id"], batch["item_id"] + N_USERS):
        wanted = wanted + 0.3 * contrast(table, table, rows, 0.4)
    norms = squares_of(batch, nodes(model.user_embedding, model.item_embedding))
    assert_same_loss(model, batch, wanted + 0.02 * norms / 2 / len(batch["sign"]))


def test_noise_has_its_length_and_goes_on_to_the_next_layer() -> None:
    model = build(SimGCL, small_data(), n_layers=1)
    quiet, noisy = (torch.cat(model.encode(size)) for size in (0.0, 0.1))
    moved = noisy - quiet
    liked = quiet.abs().sum(dim=1) > 0
    torch.testing.assert_close(moved[liked].norm(dim=1), torch.full((int(liked.sum()),), 0.1, dtype=torch.float64))
    assert (moved * torch.sign(quiet) >= 0).all()
    assert not torch.equal(noisy, torch.cat(model.encode(0.1))), "each pass has noise of its own"
    data = small_data()
    model = build(SimGCL, data, n_layers=3)
    layers = [torch.cat(each) for each in model.layers(0.1)]
    liked = adjacency(data.likes).abs().sum(dim=1) > 0
    for before, after in pairwise(layers):
        moved = (after - adjacency(data.likes) @ before)[liked]
        torch.testing.assert_close(moved.norm(dim=1), torch.full((len(moved),), 0.1, dtype=torch.float64))


def test_users_without_likes_have_finite_gradients() -> None:
    data = small_data()
    model = build(SimGCL, data)
    batch = {name: column[:2] for name, column in data.batch(1).items()}
    batch["user_id"] = torch.tensor([1, 3])  # one without edges, one without likes
    model.loss(batch).backward()
    assert all(torch.isfinite(each.grad).all() for each in model.parameters())


def test_both_contrasted_passes_have_noise_and_the_ranking_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    data = small_data()
    batch = data.batch(2)
    quiet, noisy = (build(SimGCL, data, **{"lambda": 0.0, "eps": eps}).loss(batch) for eps in (0.0, 0.5))
    torch.testing.assert_close(noisy, quiet)
    model = build(SimGCL, data, n_layers=1, eps=0.5)
    views: list[torch.Tensor] = []

    def kept(first: Any, second: Any, *_: Any) -> torch.Tensor:
        views.extend(torch.cat(each) for each in (first, second))
        return views[0].sum()

    monkeypatch.setattr(model, "contrast_of", kept)
    model.loss(batch)
    start = torch.cat(model.encode())
    liked = start.abs().sum(dim=1) > 0
    for view in views:
        moved = (view - start)[liked].norm(dim=1)
        torch.testing.assert_close(moved, torch.full_like(moved, 0.5))
    assert not torch.equal(*views)


@pytest.mark.parametrize("layer_cl", [1, 2, 3])
def test_embeddings_and_loss_of_xsimgcl_are_those_of_the_formulas(layer_cl: int) -> None:
    data = small_data()
    settings = {"eps": 0.0, "lambda": 0.3, "temperature": 0.4, "reg_weight": 0.02}
    model = build(XSimGCL, data, layer_cl=layer_cl, n_layers=3, **settings)
    start = nodes(model.user_embedding, model.item_embedding)
    layers = [torch.linalg.matrix_power(adjacency(data.likes), layer) @ start for layer in (1, 2, 3)]
    table = torch.stack(layers).mean(dim=0)
    assert_same_encoding(model, table)
    batch = data.liked(2)
    wanted = bpr_of(batch, table)
    wanted = wanted + 0.02 * squares_of(batch, start) / 2 / len(batch["sign"])
    for ids in (batch["user_id"], batch["item_id"] + N_USERS):
        wanted = wanted + 0.3 * contrast(table, layers[layer_cl - 1], ids, 0.4)
    assert_same_loss(model, batch, wanted)


def test_noise_is_in_the_loss_and_not_in_the_scores() -> None:
    data = small_data()
    model = build(XSimGCL, data)
    batch = data.batch(1)
    assert not torch.equal(model.loss(batch), model.loss(batch))
    assert torch.equal(torch.cat(model.encode()), torch.cat(model.encode()))


def test_one_noisy_pass_is_ranked_by_and_contrasted(monkeypatch: pytest.MonkeyPatch) -> None:
    data = small_data()
    model = build(XSimGCL, data, **{"eps": 0.5, "lambda": 1.0, "reg_weight": 0.0, "layer_cl": 1})
    passes, contrasted, ranked = [], [], []
    layers = model.layers

    def drawn(noise: float = 0.0) -> Any:
        assert noise == 0.5
        passes.append(layers(noise))
        return passes[-1]

    monkeypatch.setattr(model, "layers", drawn)
    monkeypatch.setattr(model, "contrast_of", lambda *views: (contrasted.append(views[:2]), torch.zeros(()))[1])
    monkeypatch.setattr(xsimgcl, "mean_bpr", lambda *rows: (ranked.append(rows[:2]), torch.zeros(()))[1])
    model.loss(data.batch(1))
    (made,) = passes
    for side in (0, 1):
        final = torch.stack([each[side] for each in made]).mean(dim=0)
        for found in (ranked[0][side], contrasted[0][0][side]):
            torch.testing.assert_close(found, final)
        assert torch.equal(contrasted[0][1][side], made[0][side])


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="layer_cl must be from 1 to n_layers = 2"):
        build(XSimGCL, small_data(), layer_cl=3)


@pytest.mark.parametrize("q", [3, 50])
def test_embeddings_and_loss_of_lightgcl_are_those_of_the_formulas(q: int) -> None:
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
        wanted = wanted + 0.3 * (apart - ((other[rows] * table[rows]).sum(dim=1) / 0.7).clamp(-5, 5).mean())
    wanted = wanted + 1e-3 * start.square().sum()
    ours = model.loss(batch)
    torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5)  # the factors are float32
    parameters = list(model.parameters())
    for one, two in zip(*(torch.autograd.grad(each, parameters) for each in (ours, wanted)), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("encoder", "layers"), [("MF", 0), ("LightGCN", 2)])
def test_embeddings_and_loss_of_directau_are_those_of_the_formulas(encoder: str, layers: int) -> None:
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


ULTRA = {"w1": 0.3, "w2": 1.2, "w3": 0.4, "w4": 0.9, "negative_weight": 3.0, "lambda": 0.6, "gamma": 0.05}


@pytest.mark.parametrize("count", [4, 40])
def test_the_loss_of_ultragcn_is_that_of_the_formulas(count: int) -> None:
    data = small_data()
    model = build(UltraGCN, data, ii_neighbor_num=count, show_progress=False, **ULTRA)
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
