"""RecBole's ``full_sort_scores`` and ``full_sort_topk`` on signed data, for every model that ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from recbole_signed.plugin import registry

SEQUENTIAL = {"SignedSASRec"}  # of these RecBole's functions hide nothing
OURS = sorted({path.stem for path in registry.PROPERTIES.glob("*.yaml")} - SEQUENTIAL)
STOCK = ["BPR", "LightGCN", "NeuMF", "Pop", "EASE", "ItemKNN", "MultiVAE", "DMF", "NGCF", "ENMF", "Random", "SGL"]


@pytest.mark.parametrize("name", [*OURS, *STOCK])
def test_scores_hide_what_the_user_touched(name: str, prepare_model: Callable[..., Any]) -> None:
    from recbole.utils.case_study import full_sort_scores, full_sort_topk

    model, config, (train, valid, test) = prepare_model(name, metrics=["Recall"], valid_metric="Recall@10")
    users = test.users[:5]
    scores = full_sort_scores(users, model, test, device=config["device"])
    assert scores.shape == (5, model.n_items)
    hidden = {user: {0} for user in users.tolist()}
    for table in (train._dataset.inter_feat, train._dataset.neg_feat, train._dataset.neutral_feat):
        for user, item in zip(table["user_id"].tolist(), table["item_id"].tolist(), strict=True):
            hidden.get(user, set()).add(item)
    for user, item in zip(*(valid._dataset.inter_feat[f].tolist() for f in ("user_id", "item_id")), strict=True):
        hidden.get(user, set()).add(item)
    for row, user in enumerate(users.tolist()):
        assert set(np.flatnonzero(torch.isneginf(scores[row]))) == hidden[user]
    values, items = full_sort_topk(users, model, test, k=3, device=config["device"])
    torch.testing.assert_close(values, scores.topk(3).values)
    assert not any(int(item) in hidden[user] for user, row in zip(users.tolist(), items, strict=True) for item in row)


@pytest.mark.parametrize("name", sorted(SEQUENTIAL))
def test_scores_of_a_sequential_model_hide_the_padding_alone(name: str, prepare_model: Callable[..., Any]) -> None:
    from recbole.utils.case_study import full_sort_scores

    model, config, (_, _, test) = prepare_model(name, metrics=["Recall"], valid_metric="Recall@10")
    scores = full_sort_scores(test.users[:5], model, test, device=config["device"])
    assert scores.shape == (5, model.n_items)
    assert torch.isneginf(scores).nonzero()[:, 1].tolist() == [0] * 5
