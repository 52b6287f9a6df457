"""Metrics within groups of users and items, and of items without a training edge."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from signed_batch import Case, collect, config, recommended, result, slow_ndcg, slow_recall

from recbole_signed.convert import convert
from recbole_signed.errors import UsageError
from recbole_signed.evaluation.group_metrics import GROUP_METRICS, EdgeGroups

N_USERS, N_ITEMS, KS = 60, 40, [1, 5, 10]
BOUNDS = {"user_groups": [0, 3, 9], "item_groups": [4, 12]}
GROUPS = {"users": {"0": (0, 0), "1-3": (1, 3), "4-9": (4, 9), "10+": (10, 999)}}
GROUPS["items"] = {"0-4": (0, 4), "5-12": (5, 12), "13+": (13, 999)}


class Trained:
    """Training edges, scores, and held-out likes and dislikes of made-up users and items."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        popular = rng.dirichlet(np.full(N_ITEMS - 1, 0.4))
        self.trained: list[tuple[int, int, int]] = []
        for user in range(1, N_USERS):
            n_edges = int(rng.choice([0, 2, 6, 15]))
            items = 1 + rng.choice(N_ITEMS - 1, n_edges, p=popular)
            self.trained += [(user, int(item), int(rng.choice([1, -1]))) for item in items]
        self.scores = torch.from_numpy(rng.normal(size=(N_USERS, N_ITEMS)))
        self.scores[:, 0] = -math.inf
        self.scores[torch.from_numpy(rng.random((N_USERS, N_ITEMS)) < 0.1)] = -math.inf
        held = [1 + rng.permutation(N_ITEMS - 1)[: rng.integers(0, 9)] for _ in range(N_USERS)]
        self.likes = [sorted(items.tolist()) if user else [] for user, items in enumerate(held)]

    def dataset(self) -> Any:
        def table(sign: int) -> Interaction:
            rows = torch.tensor([(u, i) for u, i, s in self.trained if s == sign]).reshape(-1, 2)
            return Interaction({"user_id": rows[:, 0], "item_id": rows[:, 1]})

        return SimpleNamespace(
            user_num=N_USERS, item_num=N_ITEMS, uid_field="user_id", iid_field="item_id",
            inter_feat=table(1), neg_feat=table(-1),
        )  # fmt: skip

    def n_edges(self, side: int) -> np.ndarray:
        pairs = {(u, i) for u, i, _ in self.trained}
        return np.bincount([pair[side] for pair in pairs], minlength=(N_USERS, N_ITEMS)[side])


def evaluate(case: Trained, metrics: list[str], trained: bool = True, **other: Any) -> dict[str, float]:
    settings = config(metrics, KS, **{"USER_ID_FIELD": "user_id", **BOUNDS, **other})
    train = SimpleNamespace(_dataset=case.dataset(), dataset=case.dataset()) if trained else None
    return result(collect(Case(case.scores, case.likes, [[] for _ in case.likes]), settings, train), settings)


def slow(case: Trained, metric: str, k: int, users: list[int], relevant: list[list[int]]) -> float | None:
    values = []
    for user in users:
        if relevant[user]:
            shown = recommended(case.scores[user].tolist(), k)
            reference = (shown, relevant[user]) if metric == "recall" else (shown, relevant[user], k)
            values.append((slow_recall if metric == "recall" else slow_ndcg)(*reference))
    return sum(values) / len(values) if values else None


@pytest.mark.parametrize("seed", range(4))
def test_every_group_equals_the_slow_reference(seed: int) -> None:
    case = Trained(seed)
    found = evaluate(case, ["GroupRecall", "GroupNDCG"])
    everybody = list(range(N_USERS))
    expected: dict[str, float | None] = {}
    for metric in ("recall", "ndcg"):
        for k in KS:
            for label, (low, high) in GROUPS["users"].items():
                users = [user for user in everybody if low <= case.n_edges(0)[user] <= high]
                expected[f"{metric}@{k}[users {label}]"] = slow(case, metric, k, users, case.likes)
            for label, (low, high) in GROUPS["items"].items():
                inside = [[i for i in items if low <= case.n_edges(1)[i] <= high] for items in case.likes]
                expected[f"{metric}@{k}[items {label}]"] = slow(case, metric, k, everybody, inside)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert math.isnan(found[name]) if value is None else found[name] == pytest.approx(value), name


def test_groups_make_up_recall_and_pairs_count_once() -> None:
    found = evaluate(Trained(1), ["Recall", "NDCG", "GroupRecall", "GroupNDCG", "GroupShare"])
    shares = {name: value for name, value in found.items() if name.startswith("groupshare[users")}
    assert sum(shares.values()) == pytest.approx(1)
    assert sum(value for name, value in found.items() if name.startswith("groupshare[items")) == pytest.approx(1)
    for metric in ("recall@10", "ndcg@10"):
        parts = [share * found[name.replace("groupshare", metric)] for name, share in shares.items() if share]
        assert sum(parts) == pytest.approx(found[metric])
    case = Trained(0)
    case.trained = [(1, 1, 1), (1, 1, 1), (1, 1, -1), (1, 2, -1)]
    groups = EdgeGroups.of_training(case.dataset(), config([], KS, **{**BOUNDS, "user_groups": [0, 1, 2]}))
    assert (groups.user[:3].tolist(), groups.item[:4].tolist()) == ([0, 2, 0], [0, 0, 0, 0])


def test_a_group_without_anybody_has_no_value() -> None:
    found = evaluate(Trained(0), ["GroupRecall", "GroupShare"], user_groups=[0, 1000])
    assert math.isnan(found["recall@5[users 1001+]"])
    assert found["groupshare[users 1001+]"] == 0
    case = Trained(0)
    case.trained += [(1, item, 1) for item in range(1, N_ITEMS)]
    assert math.isnan(evaluate(case, ["ColdRecall"])["coldrecall@5"])


def test_an_evaluation_without_training_edges_is_refused() -> None:
    with pytest.raises(UsageError, match=r"GroupNDCG groups by training edges, .*data_collect"):
        evaluate(Trained(0), ["GroupNDCG"], trained=False)
    with pytest.raises(UsageError, match="ColdRecall groups by training edges"):
        evaluate(Trained(0), ["ColdRecall"], trained=False)


def test_a_run_has_them_for_any_model_and_leaves_the_rest_alone(tmp_path: Any) -> None:
    from recbole_signed.runs import run

    convert("toy", None, tmp_path / "atomic_files")
    settings = {"metrics": ["Recall", "NDCG"], "topk": [5], "valid_metric": "NDCG@5", "state": "ERROR", "epochs": 2}
    plain = run("BPR", "toy-signed", overrides=settings, save=False)
    more = {**settings, "metrics": ["Recall", "NDCG", *GROUP_METRICS], "item_groups": [8, 16]}
    grouped = run("BPR", "toy-signed", overrides=more, save=False)
    assert {name: grouped.test[name] for name in plain.test} == plain.test
    assert {"recall@5[items 0-8]", "ndcg@5[users 6-20]", "groupshare[items 17+]"} < set(grouped.test)
    with pytest.raises(UsageError, match="item_groups is"):
        run("BPR", "toy-signed", overrides={**more, "item_groups": [8, 8]}, save=False)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_they_are_those_of_the_cold_items_by_themselves(seed: int) -> None:
    case = Trained(seed)
    cold = [item for item in np.flatnonzero(case.n_edges(1) == 0).tolist() if item]
    assert cold
    relevant = [sorted({*cold} & {*likes}) for likes in case.likes]
    found = evaluate(case, ["ColdRecall", "ColdNDCG"])
    case.scores[:, [item for item in range(N_ITEMS) if item not in cold]] = -math.inf
    for metric in ("recall", "ndcg"):
        for k in KS:
            expected = slow(case, metric, k, list(range(N_USERS)), relevant)
            assert found[f"cold{metric}@{k}"] == pytest.approx(expected, abs=1e-9)
