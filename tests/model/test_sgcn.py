"""SGCN against PyTorch Geometric's SignedConv, and against its formulas in dense float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from signed_reference import (
    N_ITEMS,
    N_USERS,
    assert_same_encoding,
    assert_same_loss,
    bpr_of,
    build,
    nodes,
    small_data,
    squares_of,
)
from torch_geometric.nn import SignedConv

from recbole_signed.errors import UsageError
from recbole_signed.model.sgcn import SGCN

SIZE = 6


def means(matrix: np.ndarray) -> torch.Tensor:
    """The mean over neighbours, between all nodes."""
    whole = np.zeros((N_USERS + N_ITEMS,) * 2)
    whole[:N_USERS, N_USERS:], whole[N_USERS:, :N_USERS] = matrix, matrix.T
    return torch.from_numpy(whole / np.maximum(whole.sum(axis=1, keepdims=True), 1))


def embeddings(model: SGCN, data: Any) -> torch.Tensor:
    plus, minus = means(data.likes), means(data.dislikes)
    liking = disliking = nodes(model.user_embedding, model.item_embedding)
    for number, layer in enumerate(model.layers):
        near, far = plus @ liking, minus @ disliking
        if number:
            near, far = torch.cat([near, far], dim=1), torch.cat([plus @ disliking, minus @ liking], dim=1)
        sides = zip(
            (near, far),
            (liking, disliking),
            (layer.lin_pos_l, layer.lin_neg_l),
            (layer.lin_pos_r, layer.lin_neg_r),
            strict=True,
        )
        liking, disliking = (
            torch.tanh(around @ left.weight.T + own @ right.weight.T + right.bias)
            for around, own, left, right in list(sides)
        )
    return torch.cat([liking, disliking], dim=1)


def test_embeddings_and_loss_are_those_of_the_formulas() -> None:
    data = small_data()
    model = build(SGCN, data, embedding_size=SIZE, n_layers=3, reg_weight=0.01)
    table, start = embeddings(model, data), nodes(model.user_embedding, model.item_embedding)
    assert_same_encoding(model, table)
    batch = data.liked(2)
    wanted = bpr_of(batch, table)
    norms = squares_of(batch, start)
    assert_same_loss(model, batch, wanted + 0.01 * norms / 2 / len(batch["sign"]))


def test_the_layers_are_signed_convolutions_of_pytorch_geometric() -> None:
    data = small_data()
    model = build(SGCN, data, embedding_size=SIZE, n_layers=2)
    edges = []
    for matrix in (data.likes, data.dislikes):
        users, items = (torch.from_numpy(each) for each in np.nonzero(matrix))
        edges.append(torch.stack([torch.cat([users, items + N_USERS]), torch.cat([items + N_USERS, users])]))
    table = nodes(model.user_embedding, model.item_embedding)
    for number, layer in enumerate(model.layers):
        theirs = SignedConv(SIZE if not number else SIZE // 2, SIZE // 2, first_aggr=not number).double()
        theirs.load_state_dict(layer.state_dict())
        table = torch.tanh(theirs(table, *edges))
    assert_same_encoding(model, table)


def test_without_dislikes_only_the_node_itself_is_disliked() -> None:
    data = small_data(dislikes=False)
    model = build(SGCN, data, embedding_size=SIZE, n_layers=1)
    own, layer = nodes(model.user_embedding, model.item_embedding), model.layers[0]
    liking = torch.tanh(means(data.likes) @ own @ layer.lin_pos_l.weight.T + layer.lin_pos_r(own))
    assert_same_encoding(model, torch.cat([liking, torch.tanh(layer.lin_neg_r(own))], dim=1))


def test_an_odd_size_is_refused() -> None:
    with pytest.raises(UsageError, match="even"):
        build(SGCN, small_data(), embedding_size=5)
