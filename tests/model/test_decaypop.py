"""DecayPop against a sum over likes, item by item."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch


@pytest.mark.parametrize("half_life", [0.5, 4.0])
def test_each_like_counts_half_after_half_life_days(
    half_life: float, prepare_model: Callable[..., Any], signed_rows: list
) -> None:
    model, _, parts = prepare_model("DecayPop", half_life=half_life)
    model.fit()
    dataset = parts[0]._dataset
    tokens = (dataset.id2token(field, dataset.inter_feat[field]) for field in ("user_id", "item_id"))
    trained = set(zip(*tokens, strict=True))
    likes = [(item, time) for user, item, sign, time in signed_rows if (str(user), str(item)) in trained and sign > 0]
    assert len(likes) == len(trained)
    wanted = np.zeros(model.n_items)
    latest = max(time for _, time in likes)
    for item, time in likes:
        wanted[dataset.token2id("item_id", str(item))] += 2.0 ** (-(latest - time) / 86_400 / half_life)
    assert np.ptp(wanted) > 1.0
    scores = model.score(torch.tensor([1, 2])).numpy()
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_allclose(scores[0] / scores[0].sum(), wanted / wanted.sum(), rtol=1e-4)
