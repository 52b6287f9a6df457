"""SimGCL against its formulas in dense float64."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

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
    nodes,
    small_data,
    squares_of,
)

from recbole_signed.model.simgcl import SimGCL


def final(model: SimGCL, likes: object, n_layers: int = 3) -> torch.Tensor:
    """The mean of the layers from 1 on."""
    start = nodes(model.user_embedding, model.item_embedding)
    return (
        sum(torch.linalg.matrix_power(adjacency(likes), layer) @ start for layer in range(1, n_layers + 1)) / n_layers
    )


def test_embeddings_and_loss_are_those_of_the_formulas() -> None:
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


def test_the_noise_has_its_length_and_keeps_each_sign() -> None:
    data = small_data()
    model = build(SimGCL, data, n_layers=1)
    quiet, noisy = (torch.cat(model.encode(size)) for size in (0.0, 0.1))
    moved = noisy - quiet
    liked = quiet.abs().sum(dim=1) > 0
    torch.testing.assert_close(moved[liked].norm(dim=1), torch.full((int(liked.sum()),), 0.1, dtype=torch.float64))
    assert (moved * torch.sign(quiet) >= 0).all()
    assert not torch.equal(noisy, torch.cat(model.encode(0.1))), "each pass has noise of its own"


def test_users_without_likes_have_finite_gradients() -> None:
    data = small_data()
    model = build(SimGCL, data)
    batch = {name: column[:2] for name, column in data.batch(1).items()}
    batch["user_id"] = torch.tensor([1, 3])  # one without edges, one without likes
    model.loss(batch).backward()
    assert all(torch.isfinite(each.grad).all() for each in model.parameters())


def test_the_noise_goes_on_to_the_next_layer() -> None:
    data = small_data()
    model = build(SimGCL, data, n_layers=3)
    layers = [torch.cat(each) for each in model.layers(0.1)]
    liked = adjacency(data.likes).abs().sum(dim=1) > 0
    for before, after in pairwise(layers):
        moved = (after - adjacency(data.likes) @ before)[liked]
        torch.testing.assert_close(moved.norm(dim=1), torch.full((len(moved),), 0.1, dtype=torch.float64))


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
