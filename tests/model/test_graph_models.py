"""The graph models of likes alone, contrastive or not, against their formulas in dense float64."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import check_refused
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
from torch.nn.functional import logsigmoid

from recbole_signed.model import losses, xsimgcl
from recbole_signed.model.directau import DirectAU
from recbole_signed.model.layers import disinterest_filter
from recbole_signed.model.lightgcl import LightGCL
from recbole_signed.model.losses import SampledEdges, reversed_bpr, scores_of, sign_aware_bpr
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
    batch, table = data.liked(2), final(model, data.likes)
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


def test_rare_users_have_finite_gradients() -> None:
    data = small_data()
    model = build(SimGCL, data)
    batch = {name: column[:2] for name, column in data.batch(1).items()}
    batch["user_id"] = torch.tensor([1, 3])  # one without edges, one without likes
    model.loss(batch).backward()
    assert all(torch.isfinite(each.grad).all() for each in model.parameters())
    data = small_data()
    model = build(DirectAU, data)
    batch = {name: column[:1] for name, column in data.batch(1).items()}
    u, i = model.user_embedding(batch["user_id"])[0], model.item_embedding(batch["item_id"])[0]
    assert_same_loss(model, batch, (u / u.norm() - i / i.norm()).square().sum())


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
    model, batch = build(XSimGCL, data), data.batch(1)
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
    check_refused("layer_cl must be from 1 to n_layers = 2", build, XSimGCL, small_data(), layer_cl=3)


@pytest.mark.parametrize("q", [3, 50])
def test_embeddings_and_loss_of_lightgcl_are_those_of_the_formulas(q: int) -> None:
    data = small_data()
    model = build(LightGCL, data, q=q, temp=0.7, lambda1=0.3, lambda2=1e-3)
    start, graph = nodes(model.user_embedding, model.item_embedding), adjacency(data.likes)
    layers = [start, graph @ start, graph @ graph @ start]
    table = sum(layers)
    assert_same_encoding(model, table)
    left, values, right = torch.linalg.svd(normalised(data.likes), full_matrices=False)
    coarse, whole = left[:, :q] * values[:q] @ right[:q], torch.zeros_like(graph)
    whole[:N_USERS, N_USERS:], whole[N_USERS:, :N_USERS] = coarse, coarse.T
    other = start + whole @ layers[0] + whole @ layers[1]
    batch = data.liked(2)
    wanted = bpr_of(batch, table)
    named = torch.cat([batch["item_id"], batch["neg_item_id"].flatten()]) + N_USERS
    for rows, side in ((batch["user_id"], table[:N_USERS]), (named, table[N_USERS:])):
        apart = (other[rows] @ side.T / 0.7).exp().sum(dim=1).log().mean()
        wanted = wanted + 0.3 * (apart - ((other[rows] * table[rows]).sum(dim=1) / 0.7).clamp(-5, 5).mean())
    wanted, ours = wanted + 1e-3 * start.square().sum(), model.loss(batch)
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
    rows, found = np.arange(len(g))[:, None], model.neighbours.numpy()
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


@pytest.mark.parametrize("cells", [1, 7, 10_000])
def test_log_sum_exp_and_its_gradients_do_not_depend_on_the_blocks(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "CELLS_IN_CACHE", cells)
    generator = torch.Generator().manual_seed(0)
    queries, keys = (torch.randn(n, 3, dtype=torch.float64, generator=generator, requires_grad=True) for n in (5, 4))
    dense = (queries @ keys.T / 0.3).exp().sum(dim=1).log()
    weights = torch.arange(5.0, dtype=torch.float64)
    torch.testing.assert_close(losses.log_sum_exp(queries, keys, 0.3), dense.mean())
    torch.testing.assert_close(losses.log_sum_exp(queries, keys, 0.3, weights), weights @ dense)
    assert torch.autograd.gradcheck(lambda a, b: losses.log_sum_exp(a, b, 0.3), (queries, keys))
    assert torch.autograd.gradcheck(lambda a, b: losses.log_sum_exp(a, b, 0.3, weights), (queries, keys))
    assert torch.autograd.gradcheck(lambda a: losses.log_sum_exp(a, a, 0.3), (queries,))


@pytest.mark.parametrize("cells", [1, 7, 10_000])
def test_gradients_of_uniformity(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "CELLS_IN_CACHE", cells)
    rows = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = torch.nn.functional.normalize(rows, dim=-1).requires_grad_()
    dense = torch.pdist(rows).square().mul(-2).exp().mean().log()
    found = losses.uniformity(rows)
    # both as functions of rows of length 1: what a gradient says along a row is lost by the normalisation before
    along = [torch.autograd.grad(each, rows)[0] for each in (found, dense)]
    apart, expected = (each - (each * rows).sum(dim=-1, keepdim=True) * rows for each in along)
    torch.testing.assert_close(apart, expected)


def test_large_products_and_single_precision() -> None:
    rows = torch.full((2, 4), 50.0)
    rows.requires_grad_()
    losses.log_sum_exp(rows, rows, 0.1).backward()
    assert rows.grad is not None
    assert torch.isfinite(rows.grad).all()
    rows = torch.nn.functional.normalize(torch.randn(40, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    dense = torch.pdist(rows.double()).square().mul(-2).exp().mean().log()
    torch.testing.assert_close(losses.uniformity(rows).double(), dense, rtol=1e-4, atol=1e-4)
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    torch.testing.assert_close(losses.uniformity(opposite), torch.tensor(-8.0), rtol=1e-3, atol=0)
    assert losses.uniformity(rows[:1]) == 0


@pytest.mark.parametrize("n_items", [3, 50])
@pytest.mark.parametrize("k", [1, 7])
def test_scores_of_sampled_items(n_items: int, k: int) -> None:
    generator = torch.Generator().manual_seed(n_items + k)
    users, table = (
        torch.randn(n, 5, dtype=torch.float64, generator=generator, requires_grad=True) for n in (6, n_items)
    )
    items = torch.randint(0, n_items, (6, k), generator=generator)  # some occur several times
    torch.testing.assert_close(scores_of(users, table, items), torch.einsum("bd,bkd->bk", users, table[items]))
    assert torch.autograd.gradcheck(lambda *both: scores_of(*both, items), (users, table))


def test_no_sampled_item_has_no_score() -> None:
    users, table = torch.randn(4, 5, requires_grad=True), torch.randn(9, 5, requires_grad=True)
    found = scores_of(users, table, torch.empty(4, 0, dtype=torch.int64))
    assert found.shape == (4, 0)
    found.sum().backward()
    assert not users.grad.any()


@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(1, 5), st.integers(1, 40))
def test_scores_and_norms_are_those_of_gathered_rows(seed: int, n_edges: int, n_sampled: int, n_items: int) -> None:
    """Pairs repeat, and outnumber the cells of the matrix for some of these sizes."""
    random, n_users = torch.Generator().manual_seed(seed), 4
    users = torch.randint(n_users, (n_edges,), generator=random)
    items = torch.randint(n_items, (n_edges,), generator=random)
    sampled = torch.randint(n_items, (n_edges, n_sampled), generator=random)
    sign = torch.randint(2, (n_edges,), generator=random) * 2.0 - 1
    tables = [torch.randn(n, 3, generator=random, dtype=torch.float64, requires_grad=True) for n in (n_users, n_items)]
    edges = SampledEdges(users, items, sampled, sign, (n_users, n_items))
    u, i, j = tables[0][users], tables[1][items], tables[1][sampled]
    margins = (torch.where(sign > 0, 1.0, 2.0) * (u * i).sum(1))[:, None] - (u[:, None] * j).sum(2)
    norms = u.square().sum() + i.square().sum() + j.square().sum()
    known, others = edges.scores(*tables)
    torch.testing.assert_close(edges.known_scores(*tables), known)
    for found, wanted in (
        (sign_aware_bpr(known, others, edges.coefficient(1.0, 2.0)).sum(), -logsigmoid(margins).sum()),
        (reversed_bpr(known, others, edges.coefficient(1.0, 2.0)).sum(), -logsigmoid(-margins).sum()),
        (edges.squared_norms(*tables), norms),
    ):
        torch.testing.assert_close(found, wanted)
        gradients = [torch.autograd.grad(each, tables, retain_graph=True) for each in (found, wanted)]
        torch.testing.assert_close(*gradients)


def test_a_filter_that_hits_all_or_none_keeps_the_order() -> None:
    scores = torch.tensor([[3.0, -1e4, 2.0, 2.5], [0.0, 0.0, 0.0, 0.0]])
    for disinterest in (torch.ones_like(scores), -torch.ones_like(scores)):
        filtered = disinterest_filter(scores, disinterest, 0.0)
        assert torch.equal(filtered.argsort(dim=1, stable=True), scores.argsort(dim=1, stable=True))
    mixed = disinterest_filter(scores, torch.tensor([[1.0, -1, 1, -1], [1, -1, 1, -1]]), 0.0)
    assert (mixed[:, [1, 3]].amin(1) > mixed[:, [0, 2]].amax(1)).all()
    assert torch.isfinite(mixed).all()
    assert torch.equal(disinterest_filter(scores, torch.full_like(scores, 0.3), 0.3), scores), "at the threshold, kept"


@pytest.mark.parametrize("n_items", [3, 60])
def test_gradients_of_scores_are_right(n_items: int) -> None:
    random = torch.Generator().manual_seed(0)
    users, items = torch.tensor([2, 0, 2, 1]), torch.tensor([1, 1, 2, 0])
    edges = SampledEdges(users, items, torch.randint(n_items, (4, 3), generator=random), torch.ones(4), (5, n_items))
    tables = [torch.randn(n, 2, generator=random, dtype=torch.float64, requires_grad=True) for n in (5, n_items)]
    assert torch.autograd.gradcheck(edges.scores, tables)
    assert torch.autograd.gradcheck(edges.known_scores, tables)
