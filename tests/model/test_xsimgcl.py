"""XSimGCL against its formulas in dense float64."""

from __future__ import annotations

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

from recbole_signed.errors import UsageError
from recbole_signed.model import xsimgcl
from recbole_signed.model.xsimgcl import XSimGCL


@pytest.mark.parametrize("layer_cl", [1, 2, 3])
def test_embeddings_and_loss_are_those_of_the_formulas(layer_cl: int) -> None:
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
