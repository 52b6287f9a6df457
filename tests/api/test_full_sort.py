"""RecBole's ``full_sort_scores`` and ``full_sort_topk`` on signed data, for every model that ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from recbole_signed.plugin import registry

SEQUENTIAL = {"SignedSASRec"}
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


@pytest.mark.parametrize("name", [*sorted(SEQUENTIAL), "GRU4Rec"])
def test_scores_of_a_sequential_model_hide_what_its_evaluation_hides(
    name: str, prepare_model: Callable[..., Any]
) -> None:
    from recbole.utils.case_study import full_sort_scores, full_sort_topk

    for mask_seen in (True, False):
        given: dict[str, Any] = {"metrics": ["Recall"], "valid_metric": "Recall@10", "mask_seen": mask_seen}
        given |= {"eval_args": {"order": "TO", "split": {"LS": "valid_and_test"}}, "train_neg_sample_args": None}
        model, config, (_, _, test) = prepare_model(name, **given)
        hidden: dict[int, set[int]] = {}
        for batch, (rows, items), _, _ in test:
            users = batch["user_id"]
            for row, item in zip(rows.tolist(), items.tolist(), strict=True):
                hidden.setdefault(int(users[row]), {0}).add(item)
        users = test.users[:5].flip(0)  # each has one row
        scores = full_sort_scores(users, model, test, device=config["device"])
        assert scores.shape == (5, model.n_items)
        for user, row in zip(users.tolist(), scores, strict=True):
            assert set(np.flatnonzero(torch.isneginf(row))) == hidden.get(user, {0})
            assert mask_seen == (len(hidden.get(user, {0})) > 1)
        values, _ = full_sort_topk(users, model, test_data=test, k=3, device=config["device"])
        torch.testing.assert_close(values, scores.topk(3).values)
