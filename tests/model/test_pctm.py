"""PCTM against its formula by loops, and a case worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_ordered import fitted_in_order, likes_of

Event = tuple[int, int, int]


@pytest.fixture
def fitted(write_inter: Callable[..., Path]) -> Callable[..., Any]:
    return fitted_in_order("PCTM", write_inter)


def test_what_follows_an_item_by_hand(fitted: Callable[..., Any]) -> None:
    # twice 7 -> 8 -> 9, twice 7 -> 8: one step counts 1, two steps 1/2; one prior count for each of the 5 items
    rows = [(user, item, 1, time) for user in (1, 2) for time, item in enumerate((7, 8, 9))]
    rows += [(user, item, 1, time) for user in (3, 4) for time, item in enumerate((7, 8))]
    rows += [(5, 6, 1, 0), (6, 7, 1, 0)]
    model, dataset = fitted(rows, max_distance=2, distance_decay=0.5, prior_count=5.0, popularity_weight=0.0)
    assert model.n_items == 5  # with RecBole's padding
    six, seven, eight, nine = (int(dataset.token2id("item_id", str(item))) for item in (6, 7, 8, 9))
    scores = model.score(torch.tensor([int(dataset.token2id("user_id", "6"))]))[0]
    probability = torch.softmax(scores, 0)
    assert probability[[six, seven, eight, nine]].tolist() == pytest.approx([1 / 10, 1 / 10, 5 / 10, 2 / 10])


@pytest.mark.parametrize(("distance", "decay"), [(1, 1.0), (3, 0.6), (50, 0.9)])
def test_scores_are_the_formula(distance: int, decay: float, fitted: Callable[..., Any], signed_rows: list) -> None:
    rows = [(u, i, sign, t // 30_000) for u, i, sign, t in signed_rows]  # with ties
    settings = {"prior_count": 20.0, "inference_decay": 2.5, "popularity_weight": 0.7}
    model, dataset = fitted(rows, max_distance=distance, distance_decay=decay, **settings)
    n_users, n_items = model.n_users, model.n_items
    counts, likes, of_user = np.zeros((n_items, n_items)), np.zeros(n_items), np.zeros((n_users, n_items))
    for user, own in likes_of(rows, dataset).items():
        times = sorted({time for time, _ in own})
        place = [(times.index(time), item) for time, item in own]
        for at, item in place:
            likes[item] += 1
            of_user[user, item] = math.exp((at - len(times) + 1) / 2.5)
            for later, follower in place:
                if 0 < later - at <= distance:
                    counts[item, follower] += decay ** (later - at - 1)
    probability = (counts + 20.0 / n_items) / (counts.sum(1, keepdims=True) + 20.0)
    liked = np.flatnonzero(likes)
    popularity = (likes + 1) / (likes[liked] + 1).sum()
    wanted = (of_user @ np.log(probability) + 0.7 * np.log(popularity))[:, liked]
    found = model.score(torch.arange(n_users)).numpy()
    have = of_user.any(1)
    np.testing.assert_allclose(
        found[have][:, liked] - found[have][:, liked].mean(1, keepdims=True),
        wanted[have] - wanted[have].mean(1, keepdims=True),
        rtol=1e-4,
        atol=1e-4,
    )
    unliked = np.setdiff1d(np.arange(n_items), liked)
    assert (found[:, unliked].max(1) <= found[:, liked].min(1)).all()
    row = model.weights_of(int(liked[0]))[liked]
    np.testing.assert_allclose(row, np.log1p(n_items * counts[liked[0], liked] / 20.0), rtol=1e-4, atol=1e-6)
