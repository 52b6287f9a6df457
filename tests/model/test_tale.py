"""TALE against a dense solution of its objective."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_ordered import fitted_in_order, likes_of

DAY = 86_400


@pytest.fixture
def fitted(write_inter: Callable[..., Path]) -> Callable[..., Any]:
    return fitted_in_order("TALE", write_inter)


@pytest.mark.parametrize(("trend_days", "exponent"), [(30.0, 0.0), (2.0, -0.4), (30.0, 0.3)])
def test_weights_are_the_dense_solution(
    trend_days: float, exponent: float, fitted: Callable[..., Any], signed_rows: list
) -> None:
    rows = [(u, i, sign, 1_500_000_000 + t // 60_000 * DAY // 2) for u, i, sign, t in signed_rows]  # with ties
    model, dataset = fitted(
        rows, reg_weight=3.0, time_decay=4.0, smallest_weight=0.3, trend_days=trend_days, trend_exponent=exponent
    )
    of_user = likes_of(rows, dataset)
    likes = [(time, item) for own in of_user.values() for time, item in own]

    def scale(time: int, item: int) -> float:
        return sum(each == item and time - trend_days * DAY <= at <= time for at, each in likes) ** exponent

    before, after = [], []
    for own in of_user.values():
        for time, item in own:
            source, target = np.zeros(model.n_items), np.zeros(model.n_items)
            for earlier, other in own:
                if earlier < time:
                    gap = (time - earlier) / DAY
                    source[other] += max(math.exp(-gap / 4.0), 0.3) * scale(earlier, other)
            if source.any():
                target[item] = scale(time, item)
                before.append(source)
                after.append(target)
    s, t = np.array(before), np.array(after)
    wanted = np.linalg.solve(s.T @ s + 3.0 * np.eye(model.n_items), s.T @ t)
    liked = model.liked.numpy()
    np.testing.assert_allclose(model.item_weights, wanted[np.ix_(liked, liked)], rtol=1e-3, atol=1e-4)


def test_a_later_like_follows_by_hand(fitted: Callable[..., Any]) -> None:
    """One user: 7 and then 8, a day later. S = [e^-1], T = [1] on one item each."""
    rows = [(1, 7, 1, 1_500_000_000), (1, 8, 1, 1_500_000_000 + DAY), (2, 7, 1, 1_500_000_000)]
    settings = {"reg_weight": 0.5, "time_decay": 1.0, "smallest_weight": 0.0, "trend_exponent": 0.0}
    model, dataset = fitted(rows, inference_decay=2.0, **settings)
    seven, eight = (int(dataset.token2id("item_id", each)) for each in ("7", "8"))
    one, two = (int(dataset.token2id("user_id", each)) for each in ("1", "2"))
    weight = math.exp(-1) / (math.exp(-2) + 0.5)
    scores = model.score(torch.tensor([one, two]))
    assert scores[:, eight].tolist() == pytest.approx([math.exp(-1 / 2.0) * weight, weight])
    assert not scores[:, seven].any()
