"""SLGNN against its formulas in dense float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from signed_reference import (
    FIELDS,
    N_ITEMS,
    N_USERS,
    assert_dropout_in_training_alone,
    assert_same_encoding,
    assert_same_loss,
    bpr_of,
    build,
    defaults,
    nodes,
    small_data,
)
from torch.nn.functional import leaky_relu

from recbole_signed.model.slgnn import SLGNN, SLGNNLayer, singular_features

SLOPE = 0.6


def between_nodes(matrix: np.ndarray) -> torch.Tensor:
    """Return the 0/1 matrix between all nodes, users first."""
    zeros = np.zeros((N_USERS, N_USERS)), np.zeros((N_ITEMS, N_ITEMS))
    return torch.from_numpy(np.block([[zeros[0], matrix], [matrix.T, zeros[1]]]))


def layer_of(layer: Any, states: torch.Tensor, likes: torch.Tensor, dislikes: torch.Tensor) -> list[torch.Tensor]:
    likes = likes + torch.eye(len(likes), dtype=likes.dtype)
    degrees = (likes + dislikes).sum(1)
    norm = (degrees[:, None] * degrees).sqrt()
    found = []
    for head in range(len(layer.bias)):
        sides = []
        for sign, mask in enumerate((likes, dislikes)):
            hidden = states @ (layer.mixture[head, sign, :, None, None] * layer.bases[head]).sum(0)
            half = hidden.shape[1]
            score = (hidden @ layer.attention[head, :half])[:, None] + hidden @ layer.attention[head, half:]
            sides.append((mask * torch.sigmoid(leaky_relu(score, SLOPE)) / norm) @ hidden)
        found.append(sides[0] - sides[1] + layer.bias[head])
    return found


def embeddings(model: SLGNN, data: Any) -> torch.Tensor:
    graph = between_nodes(data.likes), between_nodes(data.dislikes)
    states = torch.relu(torch.cat(layer_of(model.first, nodes(model.user_embedding, model.item_embedding), *graph), 1))
    return torch.relu(torch.stack(layer_of(model.second, states, *graph)).mean(0))


@pytest.mark.parametrize("n_heads", [1, 3])
def test_embeddings_and_loss_are_those_of_the_formulas(n_heads: int) -> None:
    data = small_data()
    model = build(SLGNN, data, n_heads=n_heads, slope=SLOPE)
    table = embeddings(model, data)
    assert_same_encoding(model, table)
    batch = data.liked(2)
    assert_same_loss(model, batch, bpr_of(batch, table))


def test_features_start_as_standardised_singular_vectors() -> None:
    data = small_data()
    matrix = data.likes - data.dislikes
    found = singular_features(sp.csr_matrix(matrix, dtype=np.float32), 80, seed=0).numpy()
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    rank = int((values > 1e-6 * values[0]).sum())
    wanted = np.concatenate([left, right.T])[:, :rank]
    wanted = (wanted - wanted.mean(0)) / wanted.std(0)
    wanted *= np.sign((found[:, :rank] * wanted).sum(0))
    assert rank < 80
    np.testing.assert_allclose(found[:, :rank], wanted, atol=1e-2)
    assert 0.7 < found[:, rank:].std() < 1.3
    torch.manual_seed(0)
    model = SLGNN({**FIELDS, **defaults("SLGNN"), "embedding_size": 4}, data)
    np.testing.assert_allclose(nodes(model.user_embedding, model.item_embedding).detach(), wanted[:, :4], atol=1e-3)


@pytest.mark.parametrize("n_heads", [1, 4])
def test_each_head_starts_with_the_size_of_a_single_one(n_heads: int) -> None:
    """Xavier's standard deviation of the tensors of a head in the authors' code."""
    torch.manual_seed(0)
    layer = SLGNNLayer(48, 64, n_heads, SLOPE, (0.0, 0.0))
    sizes = {"bases": 2 / (48 * 64 + 2 * 64), "attention": 2 / (1 + 128), "bias": 2 / (1 + 64)}
    for name, variance in sizes.items():
        for head in getattr(layer, name):
            assert float(head.detach().std()) == pytest.approx(variance**0.5, rel=0.3)
    many = torch.cat([SLGNNLayer(2, 2, n_heads, SLOPE, (0.0, 0.0)).mixture.detach().flatten() for _ in range(300)])
    assert float(many.std()) == pytest.approx(0.5**0.5, rel=0.1)


def test_dropout_is_that_of_training_alone() -> None:
    data = small_data()
    model = build(SLGNN, data)
    assert_dropout_in_training_alone(model, data.batch(1))


@pytest.mark.parametrize("kind", ["node", "edge"])
def test_dropout_of_nodes_is_before_the_head_and_that_of_edges_on_its_weights(kind: str) -> None:
    """A node without edges has itself alone: its state is dropped, or the weight of its loop."""
    data = small_data()
    rates = {"dropout_prob": 0.5 * (kind == "node"), "edge_dropout_prob": 0.5 * (kind == "edge")}
    model = build(SLGNN, data, n_heads=1, embedding_size=1, slope=SLOPE, **rates).train()
    state, layer = nodes(model.user_embedding, model.item_embedding), model.first
    hidden = (state @ (layer.mixture[0, 0, :, None, None] * layer.bases[0]).sum(0))[1, 0]  # user 1

    def of(state: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(leaky_relu(state * layer.attention.sum(), SLOPE)) * state

    wanted = of(2 * hidden) if kind == "node" else 2 * of(hidden)
    found = torch.stack([layer(state, model.neighbours)[0][1, 0] - layer.bias[0, 0] for _ in range(40)])
    dropped = found.abs() < 1e-12
    assert 8 < int(dropped.sum()) < 32
    torch.testing.assert_close(found[~dropped], wanted.expand(int((~dropped).sum())))


def test_without_dislikes_only_the_likes_are_summed() -> None:
    data = small_data(dislikes=False)
    model = build(SLGNN, data)
    with torch.no_grad():
        before = torch.cat(model.encode())
        for layer in (model.first, model.second):
            layer.mixture[:, 1] = 7.0  # the bases of dislikes
        assert torch.equal(torch.cat(model.encode()), before)
