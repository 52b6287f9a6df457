"""SBGNN against its formulas in dense float64, with the edges within each side made."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from signed_reference import (
    assert_dropout_in_training_alone,
    assert_same_encoding,
    assert_same_loss,
    bpr_of,
    build,
    nodes,
    small_data,
)

from recbole_signed.model.sbgnn import SBGNN


def mean_over(paths: np.ndarray, rows: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(paths / np.maximum(paths.sum(axis=1, keepdims=True), 1)) @ rows


def within(p: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How often each two rows agree and disagree, themselves apart."""
    found = p @ p.T + n @ n.T, p @ n.T + n @ p.T
    return tuple(each - np.diag(np.diag(each)) for each in found)


def messages(p: np.ndarray, n: np.ndarray, weights: Any, own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    agree, disagree = within(p, n)
    parts = (("like", p, other), ("dislike", n, other), ("agree", agree, own), ("disagree", disagree, own))
    return torch.cat([own, *(mean_over(paths, weights[name](rows)) for name, paths, rows in parts)], dim=1)


def embeddings(model: SBGNN, data: Any) -> torch.Tensor:
    users, items = model.user_embedding.weight, model.item_embedding.weight
    p, n = data.likes, data.dislikes
    for layer in model.layers:
        _, first, activation, second = layer.update
        sides = messages(p, n, layer.users_from, users, items), messages(p.T, n.T, layer.items_from, items, users)
        users, items = (second(activation(each @ first.weight.T + first.bias)) for each in sides)
    return torch.cat([users, items])


def test_embeddings_and_loss_are_those_of_the_formulas() -> None:
    data = small_data()
    model = build(SBGNN, data)
    table = embeddings(model, data)
    assert_same_encoding(model, table)
    batch = data.liked(2)
    assert_same_loss(model, batch, bpr_of(batch, table))


def test_pairs_of_both_signs_are_no_neighbours_of_themselves() -> None:
    data = small_data()
    data.dislikes[5] = data.likes[5]  # liked and disliked, as in real logs
    model = build(SBGNN, data)
    assert_same_encoding(model, embeddings(model, data))


def test_dropout_is_that_of_training_alone() -> None:
    data = small_data()
    model = build(SBGNN, data)
    assert_dropout_in_training_alone(model, data.batch(1))


def test_a_dropout_of_0_drops_nothing() -> None:
    data = small_data()
    model = build(SBGNN, data, dropout_prob=0.0)
    batch = data.batch(1)
    assert torch.equal(model.loss(batch), model.train().loss(batch))


def test_without_dislikes_half_of_the_messages_are_empty() -> None:
    data = small_data(dislikes=False)
    model = build(SBGNN, data, n_layers=1)
    layer = model.layers[0]
    p, users, items = data.likes, model.user_embedding.weight, model.item_embedding.weight
    sides = []
    for own, other, matrix, weights in ((users, items, p, layer.users_from), (items, users, p.T, layer.items_from)):
        near = mean_over(matrix, weights["like"](other))
        alike = mean_over(within(matrix, np.zeros_like(matrix))[0], weights["agree"](own))
        empty = torch.zeros_like(own)
        sides.append(layer.update(torch.cat([own, near, empty, alike, empty], dim=1)))
    assert_same_encoding(model, torch.cat(sides))
    assert nodes(model.user_embedding, model.item_embedding).shape == torch.cat(sides).shape
