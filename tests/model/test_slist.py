"""SLIST against a dense solution of its objective, column by column."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model
from small_ordered import fitted_in_order

from recbole_signed.errors import UsageError
from recbole_signed.model.ordered_likes import moments

COLUMNS = ["user_id:token", "item_id:token", "sign:float", "timestamp:float"]
Event = tuple[int, int, int]


def dense_parts(events: list[Event], decay: float, n_users: int, n_items: int) -> tuple[Any, Any, Any]:
    """X, S and T by loops; events are (user, item, time)."""
    x = np.zeros((n_users, n_items))
    before, after = [], []
    for user in range(n_users):
        own = [(time, item) for owner, item, time in events if owner == user]
        times = sorted({time for time, _ in own})
        for _, item in own:
            x[user, item] = 1.0
        for place in range(1, len(times)):
            s, t = np.zeros(n_items), np.zeros(n_items)
            for time, item in own:
                distance = place - 1 - times.index(time) if times.index(time) < place else times.index(time) - place
                (s if times.index(time) < place else t)[item] = math.exp(-distance / decay)
            before.append(s)
            after.append(t)
    return x, np.array(before).reshape(-1, n_items), np.array(after).reshape(-1, n_items)


def dense_solution(x: Any, s: Any, t: Any, alpha: float, ridge: float, limit: float) -> np.ndarray:
    """Each column is a ridge regression; where its own weight would be above the limit, it is held there."""
    n = x.shape[1]
    gram = alpha * x.T @ x + (1 - alpha) * s.T @ s + ridge * np.eye(n)
    target = alpha * x.T @ x + (1 - alpha) * s.T @ t
    found = np.zeros((n, n))
    for j in range(n):
        column = np.linalg.solve(gram, target[:, j])
        if column[j] > limit:
            others = np.arange(n) != j
            column[others] = np.linalg.solve(gram[np.ix_(others, others)], target[others, j] - gram[others, j] * limit)
            column[j] = limit
        found[:, j] = column
    return found


@pytest.fixture
def fitted(write_inter: Callable[..., Path]) -> Callable[..., tuple[Any, Any]]:
    return fitted_in_order("SLIST", write_inter)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("limit", [0.0, 0.2])
def test_weights_are_the_dense_solution(
    alpha: float, limit: float, fitted: Callable[..., Any], signed_rows: list
) -> None:
    rows = [(u, i, sign, t // 30_000) for u, i, sign, t in signed_rows]  # with ties
    model, dataset = fitted(
        rows, alpha=alpha, diagonal_limit=limit, train_decay=1.5, inference_decay=2.5, reg_weight=3.0
    )
    users = {token: place for place, token in enumerate(dataset.field2id_token["user_id"])}
    places = {int(item): place for place, item in enumerate(model.liked)}
    events = [
        (users[str(u)], places[int(dataset.token2id("item_id", str(i)))], t) for u, i, sign, t in rows if sign > 0
    ]
    parts = dense_parts(events, 1.5, len(users), len(places))
    wanted = dense_solution(*parts, alpha, 3.0, limit)
    np.testing.assert_allclose(model.item_weights.numpy(), wanted, rtol=2e-2, atol=2e-3)  # weights below .001 are out
    weights = np.zeros((len(users), len(places)))
    for user in range(len(users)):
        own = [(time, item) for owner, item, time in events if owner == user]
        times = sorted({time for time, _ in own})
        for time, item in own:
            weights[user, item] = math.exp(-(len(times) - 1 - times.index(time)) / 2.5)
    scores = model.score(torch.arange(len(users)))
    np.testing.assert_allclose(scores[:, model.liked], weights @ model.item_weights.numpy(), rtol=1e-4, atol=1e-5)
    unliked = np.setdiff1d(np.arange(model.n_items), model.liked)
    assert not scores[:, unliked].any()


def test_with_all_similarity_it_is_ease(fitted: Callable[..., Any], signed_rows: list) -> None:
    model, dataset = fitted(signed_rows, alpha=1.0, reg_weight=20.0)
    x = np.zeros((dataset.user_num, dataset.item_num))
    x[dataset.inter_feat["user_id"], dataset.inter_feat["item_id"]] = 1.0
    inverse = np.linalg.inv(x.T @ x + 20.0 * np.eye(dataset.item_num))
    ease = -inverse / np.diag(inverse)
    np.fill_diagonal(ease, 0.0)
    liked = model.liked.numpy()
    np.testing.assert_allclose(model.item_weights, ease[np.ix_(liked, liked)], atol=1e-4)


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        (["user_id:token", "item_id:token", "timestamp:float"], "exact times are read from data with a sign alone"),
        (["user_id:token", "item_id:token", "sign:float"], "the data set has no timestamps"),
    ],
)
def test_it_says_why_there_is_no_order(
    columns: list[str],
    why: str,
    write_inter: Callable[..., Path],
    tmp_path: Path,
    signed_rows: list,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_inter("plain", columns, [(u, i, t if "timestamp:float" in columns else s) for u, i, s, t in signed_rows])
    config = Config(model="SLIST", dataset="plain", config_dict={"data_path": str(tmp_path / "dataset")})
    train, *_ = data_preparation(config, create_dataset(config))
    with caplog.at_level(logging.WARNING):
        model = get_model("SLIST")(config, train._dataset)
    assert f"SLIST is SLIS here, without an order of likes: {why}" in caplog.text
    assert model.alpha == 1


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=40))
def test_moments_are_distinct_times(rows: list[tuple[int, int]]) -> None:
    user, time = (np.array([row[column] for row in rows], dtype=np.int64) for column in (0, 1))
    moment, last = moments(user, time)
    for place, (owner, when) in enumerate(rows):
        times = sorted({t for u, t in rows if u == owner})
        assert moment[place] == times.index(when)
        assert last[place] == len(times) - 1


def test_weights_that_do_not_fit_into_memory_are_refused(fitted: Callable[..., Any], signed_rows: list) -> None:
    model, _ = fitted(signed_rows)
    model.liked = torch.zeros(10_000_000, dtype=torch.int8)
    with pytest.raises(UsageError, match="are needed for 2 item-item matrices of 10,000,000 items"):
        model.fit()
