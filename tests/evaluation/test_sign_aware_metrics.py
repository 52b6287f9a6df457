"""SignedRecall, SignedNDCG and SignedHit against a slow reference, and what chooses models by them."""

import logging
import math
import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from signed_batch import Case, collect, config, random_case, recommended, result

from recbole_signed.errors import UsageError
from recbole_signed.evaluation.sign_aware_metrics import SIGN_AWARE_METRICS, gamma_labels, gamma_of, signed_gammas
from recbole_signed.evaluation.valid_metric import dislikes_left_out
from recbole_signed.runs import run

KS = [1, 3, 10]


def evaluate(case: Case, metrics: list[str], gamma: Any) -> dict[str, float]:
    settings = config(metrics, KS, metric_decimal_place=15, signed_gamma=gamma)
    return result(collect(case, settings), settings)


def slow(case: Case, metric: str, k: int, gamma: float) -> float:
    """One user at a time, one item at a time, as the docstrings' formulas read."""
    values = []
    for own, likes, dislikes in zip(case.scores.tolist(), case.likes, case.dislikes, strict=True):
        if not likes:
            continue
        shown = recommended(own, k)
        gains = [(item in likes) - gamma * (item in dislikes) for item in shown]
        if metric == "SignedHit":
            values.append(any(i in likes for i in shown) - gamma * any(i in dislikes for i in shown))
        elif metric == "SignedRecall":
            values.append(sum(gains) / len(likes))
        else:
            best = sum(1 / math.log2(rank + 2) for rank in range(min(k, len(likes))))
            values.append(sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains)) / best)
    return sum(values) / len(values)


@pytest.mark.parametrize("seed", range(4))
def test_every_metric_equals_the_slow_reference(seed: int) -> None:
    case = random_case(seed)
    found = evaluate(case, list(SIGN_AWARE_METRICS), [0.5, 1, 2])
    expected = {}
    for name in SIGN_AWARE_METRICS:
        for k in KS:
            expected[f"{name.lower()}@{k}"] = slow(case, name, k, 0.5)
            for gamma in (0.5, 1.0, 2.0):
                expected[f"{name.lower()}@{k}[gamma {gamma:g}]"] = slow(case, name, k, gamma)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-12), key
    assert min(expected.values()) < 0  # dislikes can weigh more than likes


@pytest.mark.parametrize("seed", range(4))
def test_gamma_0_is_recboles_metric_to_the_last_digit(seed: int) -> None:
    found = evaluate(random_case(seed), [*SIGN_AWARE_METRICS, "Recall", "NDCG", "Hit"], 0)
    for name in ("recall", "ndcg", "hit"):
        for k in KS:
            assert found[f"signed{name}@{k}"] == found[f"{name}@{k}"]


@given(st.lists(st.floats(0, 100), min_size=2, max_size=2, unique=True), st.integers(0, 5))
def test_more_gamma_is_never_better_and_1_is_the_best(gammas: list[float], seed: int) -> None:
    case = random_case(seed)
    low, high = (evaluate(case, list(SIGN_AWARE_METRICS), gamma) for gamma in sorted(gammas))
    assert all(low[key] >= high[key] for key in low)
    assert max(low.values()) <= 1
    likes, dislikes = case.likes, case.dislikes
    best = torch.zeros_like(case.scores)
    for user, own in enumerate(likes):
        best[user, own], best[user, sorted(set(dislikes[user]) - set(own))] = 1.0, -1.0
    only = [[item for item in own if item not in likes[user]] for user, own in enumerate(dislikes)]
    found = evaluate(Case(best, likes, only), ["SignedNDCG"], max(gammas))
    plain = evaluate(Case(best, likes, only), ["NDCG"], 0)
    assert found == {f"signed{key}": value for key, value in plain.items()}


def test_gammas_are_read_and_named() -> None:
    assert signed_gammas(None) == (1.0,)
    assert signed_gammas([0.5, 2]) == (0.5, 2.0)
    for wrong in (-1, "1", [], [1, 1], [1, 1.0000001], [1, None], float("inf"), True):
        with pytest.raises(UsageError, match="signed_gamma is"):
            signed_gammas(wrong)
    assert gamma_labels((1.0,)) == []
    assert gamma_labels((0.5, 2.0)) == ["gamma 0.5", "gamma 2"]
    assert gamma_of("SignedNDCG@20", None) == 1
    assert gamma_of("signedndcg@20[gamma 2]", [0.5, 2]) == 2
    assert gamma_of("SignedNDCG@20", [0.5, 2]) == 0.5
    assert gamma_of("NDCG@20", 2) == 0


# ---- as valid_metric ----


def test_early_stopping_keeps_the_epoch_that_is_best_by_it(toy: str) -> None:
    short = {"epochs": 6, "state": "ERROR", "metric_decimal_place": 6, "topk": [5]}
    row = run("LightGCN", toy, overrides={**short, "valid_metric": "SignedNDCG@5", "max_steps": 10**6}, save=False)
    assert row.valid_metric == "signedndcg@5"
    assert row.valid["signedndcg@5"] == max(score for _, score in row.curve)
    each = run("LightGCN", toy, overrides={**short, "valid_metric": "SignedNDCG@5[gamma 2]", "signed_gamma": [1, 2]})
    assert {"signedndcg@5", "signedndcg@5[gamma 1]", "signedndcg@5[gamma 2]"} <= each.test.keys()
    for wrong in ("SignedNDCG@5[gamma 3]", "NDCG@5[gamma 2]"):
        with pytest.raises(UsageError, match=f"valid_metric is {re.escape(wrong)}"):
            run("LightGCN", toy, overrides={**short, "valid_metric": wrong, "signed_gamma": [1, 2]})


@pytest.mark.parametrize("model", ["SSF", "SSFL"])
def test_ssf_chooses_by_it(model: str, toy: str) -> None:
    """What is chosen by the price on dislikes is better by it on validation than what is chosen without."""
    given = {"state": "ERROR", "rank": 16, "metric_decimal_place": 6, "signed_gamma": 2, "topk": [5]}
    given |= {"accuracy_price": 0}  # which keeps disliked items out, too
    metrics = {"metrics": ["NDCG", "SignedNDCG"]}
    signed = run(model, toy, overrides={**given, **metrics, "valid_metric": "SignedNDCG@5"}, save=False)
    plain = run(model, toy, overrides={**given, **metrics, "valid_metric": "NDCG@5"}, save=False)
    assert signed.valid["signedndcg@5"] > plain.valid["signedndcg@5"]


def held_out(likers: list[int], dislikers: list[int]) -> Any:
    """A loader of a part with a row for each."""
    tables = [{"user_id": torch.tensor(users, dtype=torch.int64)} for users in (likers, dislikers)]
    rows = [type("Rows", (dict,), {"__len__": lambda self: len(self["user_id"])})(table) for table in tables]
    return SimpleNamespace(_dataset=SimpleNamespace(uid_field="user_id", inter_feat=rows[0], neg_feat=rows[1]))


def test_dislikes_of_users_without_a_held_out_like_are_told() -> None:
    config = {"valid_metric": "SignedNDCG@20[gamma 2]", "signed_gamma": [0.5, 2]}
    said = dislikes_left_out(config, held_out([1, 1, 2], [1, 2, 3, 3, 4]))
    assert said is not None
    assert "60% of the dislikes" in said
    assert "signed_gamma=2 counts a dislike as 0.8 would over all users, and signed_gamma=5 as 2 would" in said
    none = dislikes_left_out(config, held_out([1], [2, 3]))
    assert none is not None
    assert none.endswith("nothing is chosen by dislikes.")
    assert dislikes_left_out(config, held_out([1, 1, 2], [1, 1, 2, 2, 2, 3])) is None  # a sixth of them
    assert dislikes_left_out(config, held_out([1], [])) is None
    assert dislikes_left_out({"valid_metric": "NDCG@20", "signed_gamma": 2}, held_out([1], [2])) is None


def test_a_run_tells_of_the_dislikes_that_its_choices_leave_out(toy: str, caplog: pytest.LogCaptureFixture) -> None:
    for split, told in (([0.94, 0.03, 0.03], True), ([0.5, 0.25, 0.25], False)):
        caplog.clear()
        asked = {"valid_metric": "SignedNDCG@10", "signed_gamma": 2, "topk": [10], "metrics": ["SignedNDCG"]}
        part = {"eval_args": {"split": {"RS": split}, "group_by": "none", "order": "RO"}}
        with caplog.at_level(logging.WARNING):
            run("Pop", toy, overrides={**asked, **part}, save=False)
        assert ("leaves out users without a held-out like" in caplog.text) == told
