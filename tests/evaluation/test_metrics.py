"""The dislike-aware metrics against a slow reference, from raw scores through RecBole's collector and
evaluator."""

import importlib
import lzma
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from signed_batch import (
    Case,
    SignedBatch,
    collect,
    config,
    random_case,
    recommended,
    result,
    slow_ndcg,
    slow_recall,
)

from recbole_signed.errors import UsageError
from recbole_signed.evaluation import metrics as our_metrics
from recbole_signed.evaluation.metrics import METRICS

TOPK_METRICS = [name for name in METRICS if name != "SignAUC"]
KS = [1, 3, 10, 20]
pytestmark = pytest.mark.usefixtures("recbole_ready")


def evaluate(case: Case, metrics: list[str], topk: list[int] | None = None) -> dict[str, float]:
    settings_ = config(metrics, topk or KS)
    return result(collect(case, settings_), settings_)


# ---- the slow reference: one user, plain loops ----


def slow_share(shown: list[int], likes: list[int], dislikes: list[int]) -> float | None:
    known = [item for item in shown if item in likes or item in dislikes]
    return sum(1 for item in known if item in dislikes) / len(known) if known else None


SLOW: dict[str, Callable[[list[int], list[int], list[int], int], float | None]] = {
    "DislikeRecall": lambda shown, likes, dislikes, k: slow_recall(shown, dislikes),
    "DislikeHit": lambda shown, likes, dislikes, k: float(any(item in dislikes for item in shown)),
    "DislikeNDCG": lambda shown, likes, dislikes, k: slow_ndcg(shown, dislikes, k),
    "DislikeShare": lambda shown, likes, dislikes, k: slow_share(shown, likes, dislikes),
    "DeltaRecall": lambda shown, likes, dislikes, k: slow_recall(shown, likes) - slow_recall(shown, dislikes),
    "DeltaNDCG": lambda shown, likes, dislikes, k: slow_ndcg(shown, likes, k) - slow_ndcg(shown, dislikes, k),
}


def slow_mean(values: list[float | None]) -> float:
    counted = [value for value in values if value is not None]
    return sum(counted) / len(counted) if counted else math.nan


def slow_topk(case: Case, metric: str, k: int) -> float:
    return slow_mean(
        [
            SLOW[metric](recommended(scores, k), likes, dislikes, k)
            for scores, likes, dislikes in zip(case.scores.tolist(), case.likes, case.dislikes, strict=True)
            if likes and dislikes
        ]
    )


def slow_auc_of_user(scores: list[float], likes: list[int], dislikes: list[int]) -> float | None:
    likes, dislikes = ([i for i in set(items) if scores[i] != -math.inf] for items in (likes, dislikes))
    won = 0.0
    for i in likes:
        for j in dislikes:
            won += 1 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0
    return won / (len(likes) * len(dislikes)) if likes and dislikes else None


def slow_auc(case: Case) -> float:
    return slow_mean([slow_auc_of_user(*u) for u in zip(case.scores.tolist(), case.likes, case.dislikes, strict=True)])


# ---- values ----


@pytest.mark.parametrize("seed", range(5))
def test_every_metric_equals_the_slow_reference(seed: int) -> None:
    case = random_case(seed)
    got = evaluate(case, list(METRICS))
    wanted = {f"{name.lower()}@{k}": slow_topk(case, name, k) for name in TOPK_METRICS for k in KS}
    wanted["signauc"] = slow_auc(case)
    assert set(got) == set(wanted)
    for key, value in wanted.items():
        assert got[key] == pytest.approx(value, abs=1e-11), key
    assert len({round(value, 6) for value in wanted.values()}) > 20  # the case tells the metrics apart


@pytest.mark.parametrize("seed", range(5))
def test_swapping_signs_gives_recboles_own_recall_and_ndcg(seed: int) -> None:
    """RecBole's Recall and NDCG of the dislikes, over users who also have a like, are DislikeRecall and DislikeNDCG."""
    case = random_case(seed, masked=False)
    case = replace(case, likes=[sorted(set(items)) for items in case.likes])
    both = [u for u in range(len(case.scores)) if case.likes[u] and case.dislikes[u]]
    swapped = Case(case.scores[both], [case.dislikes[u] for u in both], [case.likes[u] for u in both])
    stock = evaluate(swapped, ["Recall", "NDCG", "Hit"])
    ours = evaluate(case, ["DislikeRecall", "DislikeNDCG", "DislikeHit"])
    assert ours == pytest.approx({f"dislike{key}": value for key, value in stock.items()}, abs=1e-11)


def test_tied_scores_stand_in_the_order_of_keys_and_count_half_in_the_auc() -> None:
    case = replace(random_case(1, masked=False), scores=torch.full((40, 26), 0.25))
    got = evaluate(case, ["DislikeRecall", "SignAUC"], [5])
    users = [u for u in range(40) if case.likes[u] and case.dislikes[u]]
    assert got["signauc"] == 0.5
    assert got["dislikerecall@5"] == pytest.approx(
        slow_mean([slow_recall([0, 1, 2, 3, 4], case.dislikes[u]) for u in users]), abs=1e-11
    )


def test_masked_items_are_no_recommendation_and_no_win() -> None:
    scores = torch.tensor([[-math.inf, 3.0, 2.0, -math.inf, -math.inf]])
    got = evaluate(Case(scores, [[1, 4]], [[2, 3]]), list(METRICS), [5])
    assert (got["dislikerecall@5"], got["dislikeshare@5"], got["deltarecall@5"]) == (0.5, 0.5, 0.0)
    assert got["signauc"] == 1.0  # of the pair (1, 2) alone
    scores = torch.tensor([[-math.inf, 1.0, 2.0, -math.inf], [-math.inf, 1.0, -math.inf, -math.inf]])
    struct = collect(Case(scores, [[1], [1]], [[2, 3], [2]]), config(["SignAUC"], [1]))
    values = METRICS["SignAUC"](config(["SignAUC"], [1])).per_user(struct)["signauc"]
    np.testing.assert_array_equal(values, [0.0, np.nan])


@pytest.mark.parametrize("name", METRICS)
def test_no_user_who_counts_is_nan_and_not_zero(name: str) -> None:
    got = evaluate(Case(torch.tensor([[-math.inf, 1.0, 2.0, 3.0]] * 2), [[1], []], [[], [2]]), [name], [2])
    assert list(got) == ["signauc" if name == "SignAUC" else f"{name.lower()}@2"]
    assert all(math.isnan(value) for value in got.values())


def test_lists_without_known_items_and_data_without_dislikes() -> None:
    scores = torch.tensor([[-math.inf, 1.0, 2.0, 3.0], [-math.inf, 1.0, 2.0, 3.0]])
    got = evaluate(Case(scores, [[1], [1]], [[2], [3]]), ["DislikeShare", "DislikeHit"], [1])
    assert got == {"dislikeshare@1": 1.0, "dislikehit@1": 0.5}
    struct = importlib.import_module("recbole.evaluator.collector").DataStruct()
    with pytest.raises(UsageError, match=r"dislikehit can't be computed.*data set with a sign.*full"):
        METRICS["DislikeHit"](config(["DislikeHit"], [1])).calculate_metric(struct)


# ---- registration ----


def test_registration_fills_recboles_tables_once() -> None:
    register = importlib.import_module("recbole.evaluator.register")
    tables = [register.metrics_dict, register.metric_information, register.metric_types, register.smaller_metrics]
    sizes = [len(table) for table in tables]
    our_metrics.register(register)
    assert [len(table) for table in tables] == sizes
    assert register.metrics_dict is tables[0]
    for name, metric in METRICS.items():
        assert register.metrics_dict[name.lower()] is metric
    assert {name for name in METRICS if name.lower() in register.smaller_metrics} == {
        "DislikeRecall",
        "DislikeHit",
        "DislikeNDCG",
        "DislikeShare",
    }
    assert len(set(register.metric_types.values())) == 2  # RecBole's two kinds, no third
    assert "recall" not in register.smaller_metrics


# ---- properties ----


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Few distinct scores, so that ties are common; at least one held-out like, else nobody is ranked."""
    n_users, n_items = draw(st.integers(1, 4)), draw(st.integers(5, 8))
    grid = st.lists(st.integers(-3, 3), min_size=n_items, max_size=n_items)
    scores = torch.tensor(draw(st.lists(grid, min_size=n_users, max_size=n_users)), dtype=torch.float64)
    scores[:, 0] = -math.inf
    likes, dislikes = [], []
    for _ in range(n_users):
        signs = draw(st.lists(st.sampled_from([-1, 0, 1]), min_size=n_items - 1, max_size=n_items - 1))
        signs[0] = 1 if not likes else signs[0]
        likes.append([item for item, sign in enumerate(signs, start=1) if sign == 1])
        dislikes.append([item for item, sign in enumerate(signs, start=1) if sign == -1])
    return Case(scores, likes, dislikes)


def same(left: float, right: float) -> bool:
    return (math.isnan(left) and math.isnan(right)) or left == pytest.approx(right, abs=1e-9)


FEW = settings(max_examples=60, deadline=None)


@FEW
@given(cases(), st.integers(0, 10**6))
def test_random_ties_equal_the_reference(case: Case, seed: int) -> None:
    """The AUC with its ties as it is; the metrics of a list after the ties are broken, which RecBole leaves open."""
    assert same(evaluate(case, ["SignAUC"])["signauc"], slow_auc(case))
    noise = torch.from_numpy(np.random.default_rng(seed).random(case.scores.shape)) / 2
    broken = replace(case, scores=case.scores + noise)
    got = evaluate(broken, TOPK_METRICS, [2, 5])
    for name in TOPK_METRICS:
        for k in (2, 5):
            assert same(got[f"{name.lower()}@{k}"], slow_topk(broken, name, k))


# ---- published data ----


def read_part(folder: Path, part: str, threshold: float) -> npt.NDArray[np.int64]:
    """Return rows ``user, item, is_like``."""
    with lzma.open(folder / f"{part}.txt.xz", "rt") as file:
        rows = np.loadtxt(file)
    return np.column_stack([rows[:, :2].astype(np.int64), rows[:, 2] >= threshold])


@pytest.mark.parametrize(
    ("name", "threshold", "recall", "dislike_recall", "auc"),
    [
        ("amazon-music", 4, 0.0672, 0.0510, 0.561),
        ("kuairand", 1, 0.0903, 0.0630, 0.551),
        ("kuairec", 1, 0.0883, 0.0013, 0.924),
    ],
)
def test_popularity_on_published_splits(
    shared_data: Callable[[str], Path], name: str, threshold: float, recall: float, dislike_recall: float, auc: float
) -> None:
    """Popularity under SIGformer's protocol, as measured with an evaluator of its own before this one was
    written.

    Train pairs of both signs are masked, validation pairs are not. Tolerances leave room for the order of
    tied items.
    """
    folder = shared_data(f"sigformer-{name}")
    train, test = read_part(folder, "train", threshold), read_part(folder, "test", threshold)
    n_items = int(max(train[:, 1].max(), test[:, 1].max(), 3326)) + 2
    train[:, 1] += 1
    test[:, 1] += 1
    liked = np.unique(train[train[:, 2] == 1], axis=0)
    popularity = torch.from_numpy(np.bincount(liked[:, 1], minlength=n_items).astype(np.float32))
    users = np.unique(test[:, 0])
    settings_ = config(["Recall", "DislikeRecall", "SignAUC"], [20], metric_decimal_place=5)
    collector = importlib.import_module("recbole.evaluator.collector").Collector(settings_)
    for part in np.array_split(users, max(1, len(users) // 1000)):
        mine, seen = (rows[np.isin(rows[:, 0], part)] for rows in (test, train))
        mine[:, 0], seen[:, 0] = np.searchsorted(part, mine[:, 0]), np.searchsorted(part, seen[:, 0])
        scores = popularity.repeat(len(part), 1)
        scores[:, 0] = -math.inf
        scores[seen[:, 0], seen[:, 1]] = -math.inf
        likes, dislikes = (torch.from_numpy(np.unique(mine[mine[:, 2] == s, :2], axis=0)).T for s in (1, 0))
        count = torch.from_numpy(np.bincount(mine[mine[:, 2] == 1, 0], minlength=len(part)))
        collector.eval_batch_collect(scores, SignedBatch(torch.from_numpy(part), dislikes, count, n_items), *likes)
    got = result(collector.get_data_struct(), settings_)
    assert got["recall@20"] == pytest.approx(recall, abs=6e-4)
    assert got["dislikerecall@20"] == pytest.approx(dislike_recall, abs=5e-4 if dislike_recall > 0.01 else 2e-4)
    assert got["signauc"] == pytest.approx(auc, abs=5e-4)
