"""The vectorised splits against RecBole's own, row by row."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from refusals import check_refused

from recbole_signed.data.split import (
    SplitRule,
    TimeCuts,
    holds_nothing_out,
    part_of_others,
    part_of_rows,
    rows_of_parts,
    split_cold,
    split_rows,
)

EVAL_ARGS = [
    {"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "user"}, {"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "none"},
    {"split": {"RS": [7, 1, 2]}, "group_by": "user"}, {"split": {"RS": [0.5, 0.5, 0.0]}, "group_by": "user"},
    {"split": {"RS": [0.34, 0.33, 0.33]}, "group_by": None},
    {"split": {"LS": "valid_and_test"}, "group_by": "user"}, {"split": {"LS": "valid_only"}, "group_by": "user"},
    {"split": {"LS": "test_only"}, "group_by": "user"},
]  # fmt: skip


def recbole_parts(users: np.ndarray, eval_args: dict) -> list[list[int]]:
    """Row numbers of each part by RecBole's own code, on rows that are in order already."""
    dataset, rows = Dataset.__new__(Dataset), torch.arange(len(users))
    dataset.__dict__.update(
        inter_feat=Interaction({"user_id": torch.as_tensor(users), "row": rows, "timestamp": rows.float()}),
        uid_field="user_id",
        time_field="timestamp",
        config={"eval_args": eval_args, "unused_col": None},
        benchmark_filename_list=None,
        feat_name_list=[],
        logger=SimpleNamespace(debug=lambda *_: None),
    )
    return [part.inter_feat["row"].tolist() for part in dataset.build()]


@pytest.mark.parametrize("eval_args", EVAL_ARGS, ids=str)
@settings(max_examples=40, deadline=None)
@given(users=st.lists(st.integers(1, 6), min_size=1, max_size=60))
def test_equals_recbole_row_by_row(eval_args: dict, users: list[int]) -> None:
    eval_args, array = {**eval_args, "order": "TO"}, np.array(users)
    rule = SplitRule.from_eval_args(eval_args)
    ours = [rows.tolist() for rows in rows_of_parts(array, part_of_rows(array, rule), rule)]
    assert ours == recbole_parts(array, eval_args)


@pytest.mark.parametrize("n", [200, 201], ids=["between", "at a row"])
def test_global_time_split_equals_recbole(n: int) -> None:
    users = np.random.default_rng(0).integers(1, 9, n)
    eval_args = {"split": {"TS": [0.7, 0.1, 0.2]}, "group_by": "user", "order": "TO"}
    rule = SplitRule.from_eval_args(eval_args)
    ours = rows_of_parts(users, part_of_rows(users, rule, np.arange(float(n))), rule)
    try:
        wanted = recbole_parts(users, eval_args)
    except NotImplementedError:
        pytest.skip("RecBole has this split since 1.2.1, for which pip finds no home on Python 3.12 and newer")
    assert [rows.tolist() for rows in ours] == wanted


@settings(max_examples=60, deadline=None)
@given(data=st.data(), by_user=st.booleans(), mode=st.sampled_from(["RS", "LS", "TS"]))
def test_nothing_in_a_part_comes_from_a_later_parts_time(data: st.DataObject, by_user: bool, mode: str) -> None:
    n_likes, n_others = data.draw(st.integers(3, 40)), data.draw(st.integers(0, 40))

    def draw(size: int, high: int) -> np.ndarray:
        return np.array(data.draw(st.lists(st.integers(1, high), min_size=size, max_size=size)), dtype=np.int64)

    users, others = draw(n_likes, 4), draw(n_others, 4)
    like_time, other_time = np.sort(draw(n_likes, 30)), draw(n_others, 30)
    split = {"LS": "valid_and_test"} if mode == "LS" else {mode: [0.6, 0.2, 0.2]}
    rule = SplitRule.from_eval_args({"order": "TO", "split": split, "group_by": "user" if by_user else "none"})
    part = part_of_rows(users, rule, like_time)
    cuts = TimeCuts.from_likes(users, like_time, part, rule, 5)
    other_part = part_of_others(others, other_time, rule, cuts, np.random.default_rng(0))
    for user in range(1, 5):
        mine = users == user if rule.by_user else np.ones(n_likes, dtype=bool)
        theirs = others == user if rule.by_user else np.ones(n_others, dtype=bool)
        for later in (1, 2):
            held = like_time[mine & (part >= later)]
            if len(held):
                assert (other_time[theirs & (other_part < later)] < held.min()).all()


def test_where_a_user_has_no_like_to_validate_by_the_test_like_is_the_cut() -> None:
    users, times = np.ones(2, dtype=np.int64), np.array([1, 5])
    rule = SplitRule.from_eval_args({"order": "TO", "split": {"LS": "valid_and_test"}, "group_by": "user"})
    part = part_of_rows(users, rule)
    assert part.tolist() == [0, 2]
    cuts = TimeCuts.from_likes(users, times, part, rule, 2)
    assert cuts.part_of(np.ones(3, dtype=np.int64), np.array([4, 5, 9])).tolist() == [0, 2, 2]


def test_cuts_of_time_for_all_at_once() -> None:
    rule = SplitRule.from_eval_args({"order": "TO", "split": {"TS": [0.6, 0.2, 0.2]}})
    times, users = np.arange(10.0), np.ones(10, dtype=np.int64)
    part = part_of_rows(users, rule, times)
    cuts = TimeCuts.from_likes(users, times, part, rule, 3)
    dislikes = part_of_others(np.full(10, 2), times, rule, cuts, np.random.default_rng(0))  # of a user without likes
    assert ((dislikes == 2) == (part == 2)).all()
    # the rule would hold the last of them out, though all are earlier than the first held-out like
    users, times = np.ones(20, dtype=np.int64), np.arange(20)
    rule = SplitRule.from_eval_args({"order": "TO", "split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "none"})
    rows = split_rows({"likes": users, "dislikes": users}, {"likes": times, "dislikes": times - 20}, rule, 2, seed=0)
    assert [len(part) for part in rows["likes"]] == [16, 2, 2]
    assert [len(part) for part in rows["dislikes"]] == [20, 0, 0]


def test_dislikes_in_time_order_have_the_same_ratios_unless_the_cuts_alone_count() -> None:
    """Here they are all earlier than the first held-out like."""
    users, times = np.ones(20, dtype=np.int64), np.arange(20.0)
    rule = SplitRule.from_eval_args({"order": "TO", "split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "user"})
    cuts = TimeCuts.from_likes(users, times, part_of_rows(users, rule), rule, 2)
    early, rng = np.random.default_rng(0).permutation(20) / 100, np.random.default_rng(0)
    assert part_of_others(users, early, rule, cuts, rng)[np.argsort(early)].tolist() == [0] * 16 + [1] * 2 + [2] * 2
    assert not part_of_others(users, early, rule, cuts, rng, by_cut_alone=True).any()


def test_rows_of_one_moment_and_a_second_off_a_cut() -> None:
    users, times = np.ones(1000, dtype=np.int64), np.arange(1000.0) % 2
    rule = SplitRule.from_eval_args({"order": "TO", "split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "user"})
    parts = split_rows({"likes": users}, {"likes": times}, rule, 2, seed=0)["likes"]
    assert np.concatenate(parts).tolist() == [*range(0, 1000, 2), *range(1, 1000, 2)]
    # a float32 holds seconds since 1970 in steps of 128
    users, times = np.ones(3, dtype=np.int64), 1_700_000_000 + np.arange(3)
    rule = SplitRule.from_eval_args({"order": "TO", "split": {"LS": "valid_and_test"}})
    rows = split_rows({"likes": users, "dislikes": users}, {"likes": times, "dislikes": times}, rule, 2, 0, True)
    assert [part.tolist() for part in rows["dislikes"]] == [[0], [1], [2]]


def test_the_seed_decides_which_dislikes_are_held_out_in_random_order() -> None:
    users, rule = np.ones(50, dtype=np.int64), SplitRule.from_eval_args({"order": "RO", "split": {"RS": [8, 1, 1]}})
    held = [
        split_rows({"likes": users, "dislikes": users}, {"likes": None, "dislikes": None}, rule, 2, seed)["dislikes"][2]
        for seed in (0, 1, 1)
    ]
    assert held[0].tolist() != held[1].tolist() == held[2].tolist()


@pytest.mark.parametrize(
    ("split", "nothing"),
    [({"RS": [1, 0, 0]}, True), ({"RS": [9, 1, 0]}, False), ({"RS": [9, 0, 1]}, False), ({"LS": "test_only"}, False)],
)
def test_a_split_that_holds_nothing_out_is_told_from_others(split: dict, nothing: bool) -> None:
    assert holds_nothing_out({"split": split}) == nothing


def test_random_order_and_leave_one_out_give_every_sign_its_share() -> None:
    users = np.repeat(np.arange(1, 51), 20)
    rule = SplitRule.from_eval_args({"order": "RO", "split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "user"})
    part = part_of_others(users, None, rule, None, np.random.default_rng(1))
    assert (np.stack([np.bincount(part[users == user], minlength=3) for user in range(1, 51)]) == [16, 2, 2]).all()
    assert (part != part_of_others(users, None, rule, None, np.random.default_rng(2))).any()
    users = np.repeat(np.arange(1, 11), 5)
    rule = SplitRule.from_eval_args({"order": "RO", "split": {"LS": "valid_and_test"}, "group_by": "user"})
    part = part_of_others(users, None, rule, None, np.random.default_rng(1))
    assert all(np.bincount(part[users == user], minlength=3).tolist() == [3, 1, 1] for user in range(1, 11))


@pytest.mark.parametrize(
    ("eval_args", "message"),
    [
        ({"order": "XX", "split": {"RS": [8, 1, 1]}}, "eval_args.order is 'XX'"),
        ({"order": "RO", "split": {"RS": [8, 1]}}, "three ratios"),
        ({"order": "TO", "split": {"TS": ["a", 1, 1]}}, "three ratios"),
        ({"order": "TO", "split": {"TS": [0.9, -0.1, 0.2]}}, "which are 0 or more"),
        ({"order": "TO", "split": {"TS": [0, 0, 1]}}, "not all for the test"),
        ({"order": "RO", "split": {"CI": [0.8, float("nan"), 0.2]}}, "three ratios"),
        ({"order": "RO", "split": {"XS": 1}}, "must hold one of RS, LS and TS"),
        ({"order": "RO", "split": None}, "must hold one of RS, LS and TS"),
        ({"order": "RO", "split": {"LS": "valid_test"}}, "did you mean 'valid_and_test'"),
        ({"order": "RO", "split": {"RS": [8, 1, 1]}, "group_by": "item"}, "user or none"),
        ({"order": "RO", "split": {"TS": [8, 1, 1]}}, "set eval_args.order to TO"),
    ],
)
def test_wrong_arguments_are_named(eval_args: dict, message: str) -> None:
    check_refused(message, SplitRule.from_eval_args, eval_args)


def rule(mode: str, ratios: list[float], order: str = "RO") -> SplitRule:
    return SplitRule.from_eval_args({"split": {mode: ratios}, "order": order, "group_by": "user"})


def _seeded(split: Callable[[], Any]) -> Any:
    torch.manual_seed(0)  # RecBole's draw of likes
    return split()


@given(st.integers(0, 2**31), st.sampled_from(["CI", "CU"]), st.sampled_from(["RO", "TO"]))
def test_the_test_part_has_all_rows_of_its_items_and_no_other(seed: int, mode: str, order: str) -> None:
    rng, n = np.random.default_rng(seed), {"user": 12, "item": 30}
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
        assert not {int(each) for part in parts[:2] for each in ids[side][name][part]} & cold
        assert len(parts[1])
        assert all((a == b).all() for a, b in zip(parts, again[name], strict=True))


def test_one_item_is_held_out_and_the_other_rows_keep_their_shares() -> None:
    ids: dict[str, Any] = {"user": {"inter_feat": np.ones(3, dtype=np.int64)}, "item": {"inter_feat": np.arange(1, 4)}}
    for seed in range(20):
        parts = split_cold(ids, {"inter_feat": None}, rule("CI", [0.9, 0, 0.1]), {"user": 2, "item": 4}, seed)
        assert [len(part) for part in parts["inter_feat"]] == [2, 0, 1]
    # of 1000 rows of which 200 are held out, 700 and 100 are left
    assert rule("CI", [0.7, 0.1, 0.2]).sizes(np.array([800])).tolist() == [[700, 100, 0]]


def test_dislikes_follow_the_cuts_in_time_alone_where_that_is_wanted() -> None:
    ids: dict[str, Any] = {"user": dict.fromkeys(("inter_feat", "neg_feat"), np.ones(20, dtype=np.int64))}
    ids["item"] = {"inter_feat": np.arange(1, 21), "neg_feat": np.arange(21, 41)}
    times = {"inter_feat": np.arange(20.0), "neg_feat": np.arange(20.0) - 100}
    sizes = {"user": 2, "item": 41}
    valid = [split_cold(ids, times, rule("CI", [0.6, 0.2, 0.2], "TO"), sizes, 0, by)["neg_feat"][1] for by in (0, 1)]
    assert [len(each) > 0 for each in valid] == [True, False]  # all are earlier than the first held-out like


@pytest.mark.parametrize("ratios", [[1, 0, 0], [0, 0.5, 0.5]])
def test_something_must_be_trained_on_and_something_tested(ratios: list[float]) -> None:
    check_refused("the shares of train and test must be above 0", rule, "CI", ratios)


def test_a_model_never_sees_an_edge_of_a_cold_item(prepare_model: Callable[..., Any]) -> None:
    eval_args = {"split": {"CI": [0.7, 0.1, 0.2]}, "order": "RO", "group_by": "user", "mode": "full"}
    model, _, parts = prepare_model("SSF", eval_args=eval_args, auto=False)
    cold = parts[2]._dataset.inter_feat["item_id"].unique().numpy()
    assert len(cold) == 10
    for matrix in (model.graph.likes, model.graph.dislikes):
        assert not matrix[:, cold].nnz
