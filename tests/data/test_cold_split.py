"""Splits that hold out whole items or whole users."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_signed.data.split import SplitRule, split_cold
from recbole_signed.errors import UsageError


def rule(mode: str, ratios: list[float], order: str = "RO") -> SplitRule:
    return SplitRule.from_eval_args({"split": {mode: ratios}, "order": order, "group_by": "user"})


def _seeded(split: Callable[[], Any]) -> Any:
    torch.manual_seed(0)  # RecBole's draw of likes
    return split()


@given(st.integers(0, 2**31), st.sampled_from(["CI", "CU"]), st.sampled_from(["RO", "TO"]))
def test_the_test_part_has_all_rows_of_its_items_and_no_other(seed: int, mode: str, order: str) -> None:
    rng = np.random.default_rng(seed)
    n = {"user": 12, "item": 30}
    ids: dict[str, Any] = {
        side: {name: rng.integers(1, n[side], 200) for name in ("inter_feat", "neg_feat")} for side in n
    }
    times = {name: np.sort(rng.random(200)) for name in ("inter_feat", "neg_feat")}
    rows, again = (
        _seeded(lambda: split_cold(ids, times, rule(mode, [0.7, 0.1, 0.2], order), n, seed)) for _ in range(2)
    )
    side = "item" if mode == "CI" else "user"
    cold = {int(each) for name in rows for each in ids[side][name][rows[name][2]]}
    assert 0 < len(cold) <= round(0.2 * (n[side] - 1))
    for name, parts in rows.items():
        assert sorted(np.concatenate(parts).tolist()) == list(range(200))
        warm = {int(each) for part in parts[:2] for each in ids[side][name][part]}
        assert not warm & cold
        assert len(parts[1])
        assert all((a == b).all() for a, b in zip(parts, again[name], strict=True))


def test_one_item_at_least_is_held_out() -> None:
    ids: dict[str, Any] = {"user": {"inter_feat": np.ones(3, dtype=np.int64)}, "item": {"inter_feat": np.arange(1, 4)}}
    for seed in range(20):
        parts = split_cold(ids, {"inter_feat": None}, rule("CI", [0.9, 0, 0.1]), {"user": 2, "item": 4}, seed)
        assert [len(part) for part in parts["inter_feat"]] == [2, 0, 1]


def test_dislikes_follow_the_cuts_in_time_alone_where_that_is_wanted() -> None:
    ids: dict[str, Any] = {"user": dict.fromkeys(("inter_feat", "neg_feat"), np.ones(20, dtype=np.int64))}
    ids["item"] = {"inter_feat": np.arange(1, 21), "neg_feat": np.arange(21, 41)}
    times = {"inter_feat": np.arange(20.0), "neg_feat": np.arange(20.0) - 100}
    sizes = {"user": 2, "item": 41}
    valid = [split_cold(ids, times, rule("CI", [0.6, 0.2, 0.2], "TO"), sizes, 0, by)["neg_feat"][1] for by in (0, 1)]
    assert [len(each) > 0 for each in valid] == [True, False]  # all are earlier than the first held-out like


def test_the_rows_that_are_not_held_out_keep_their_shares() -> None:
    """Of 1000 rows of which 200 are held out, 700 and 100 are left."""
    sizes = rule("CI", [0.7, 0.1, 0.2]).sizes(np.array([800]))
    assert sizes.tolist() == [[700, 100, 0]]


@pytest.mark.parametrize("ratios", [[1, 0, 0], [0, 0.5, 0.5]])
def test_something_must_be_trained_on_and_something_tested(ratios: list[float]) -> None:
    with pytest.raises(UsageError, match="the shares of train and test must be above 0"):
        rule("CI", ratios)


def test_a_model_never_sees_an_edge_of_a_cold_item(prepare_model: Callable[..., Any]) -> None:
    eval_args = {"split": {"CI": [0.7, 0.1, 0.2]}, "order": "RO", "group_by": "user", "mode": "full"}
    model, _, parts = prepare_model("SSF", eval_args=eval_args, auto=False)
    cold = parts[2]._dataset.inter_feat["item_id"].unique().numpy()
    assert len(cold) == 10
    for matrix in (model.graph.likes, model.graph.dislikes):
        assert not matrix[:, cold].nnz
