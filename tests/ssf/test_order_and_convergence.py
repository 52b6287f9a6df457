"""The same edges give the same lists in any order of rows, users and items, and the lists are those of convergence.

On three sparse sets, whose singular values lie close together: two that are synthetic, and a published one.
"""

from __future__ import annotations

import functools
import io
import lzma
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from prepared import instance, prepared
from scipy.sparse.linalg import svds

import recbole_signed as rs
from recbole_signed.graph import SignedGraph
from recbole_signed.graph.spectral import RightFactors
from recbole_signed.ids_and_times import hashes
from recbole_signed.lab.synth import generate
from recbole_signed.ssf import FilterSettings, SpectralFilter
from recbole_signed.ssf.filter import Exposure
from recbole_signed.ssf.learned_items import LearnedItems, LearnedSettings

SETS = ("synth-kuairand", "synth-epinions", "sigformer-amazon-music")
EDGES = 40_000
K = 20
SETTINGS = FilterSettings()


@pytest.fixture(params=SETS)
def rows(request: pytest.FixtureRequest, shared_data: Callable[[str], Path]) -> np.ndarray:
    """User, item and sign of each row, int64 ``[n, 3]``."""
    kind, name = request.param.split("-", 1)
    if kind == "synth":
        return synthetic(name)[:, :3]
    text = lzma.decompress((shared_data(request.param) / "train.txt.xz").read_bytes())
    user, item, rating = pd.read_csv(io.BytesIO(text), sep=r"\s+", header=None).to_numpy().T
    return np.stack([user, item, np.where(rating >= 4, 1, -1)], axis=1).astype(np.int64)


@functools.cache
def synthetic(profile: str, n_edges: int = EDGES) -> np.ndarray:
    made = generate(profile, n_edges)
    return np.stack([made.users, made.items, made.signs, made.times], axis=1).astype(np.int64)


def graph_of(rows: np.ndarray) -> tuple[SignedGraph, np.ndarray, np.ndarray]:
    """Number users and items by their first rows, as RecBole does; also return whose numbers these are."""
    numbers, whose = zip(*(pd.factorize(rows[:, side]) for side in (0, 1)), strict=True)
    edges = [tuple(each[rows[:, 2] == sign] for each in numbers) for sign in (1, -1)]
    graph = SignedGraph.from_edges(edges[0], edges[1], *map(len, whose))
    return graph.keyed(
        *(hashes(np.array([f"{letter}{n}" for n in ids])) for letter, ids in zip("ui", whose, strict=True))
    ), *whose


def lists(fitted: SpectralFilter, graph: SignedGraph) -> np.ndarray:
    """Return the best items of all users that they have no edge to, ``[n_users, K]``."""
    scores = fitted.scores(graph)
    scores[(graph.likes + graph.dislikes).nonzero()] = -torch.inf
    return scores.topk(K, dim=1).indices.numpy()


def overlap(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.mean([len(np.intersect1d(*pair)) for pair in zip(found, wanted, strict=True)]) / K)


def test_any_order_gives_the_same_factors_and_lists(rows: np.ndarray) -> None:
    made = []
    for order in (np.arange(len(rows)), np.random.default_rng(0).permutation(len(rows))):
        graph, users, items = graph_of(rows[order])
        fitted, _ = SpectralFilter.fit(graph, SETTINGS)
        learned = LearnedItems.fit(graph, fitted, LearnedSettings(learned_rank=16))
        place = np.argsort(items)
        best = np.sort(items[lists(fitted, graph)[np.argsort(users)]], axis=1)
        made.append((fitted.values, fitted.vectors[place], learned.factors[place], best))
    for one, other in zip(*made, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_lists_are_those_of_a_decomposition_that_has_converged(rows: np.ndarray) -> None:
    graph = graph_of(rows)[0]
    exposure = Exposure.from_graph(graph, SETTINGS)
    fitted, _ = SpectralFilter.fit(graph, SETTINGS)
    _, values, vectors = svds(exposure.matrix.astype(np.float64), k=SETTINGS.rank, random_state=0)
    exact = torch.from_numpy(vectors[::-1].T.astype(np.float32).copy())
    converged = exposure.filter(RightFactors(torch.from_numpy(values[::-1].astype(np.float32)), exact, exact), SETTINGS)
    assert overlap(lists(fitted, graph), lists(converged, graph)) > 0.99


def test_a_warm_start_is_as_good_in_half_the_products(rows: np.ndarray) -> None:
    graph = graph_of(rows)[0]
    _, block = SpectralFilter.fit(graph, SETTINGS)
    other = FilterSettings(dislike_weight=0.4)
    warm, _ = SpectralFilter.fit(graph, other, iterations=10, start=block)
    cold, _ = SpectralFilter.fit(graph, other, iterations=40)
    assert overlap(lists(warm, graph), lists(cold, graph)) > 0.99


@pytest.mark.parametrize("name", ["SSF", "SSFL"])
def test_fit_chooses_and_recommends_alike_in_any_order_of_rows(name: str) -> None:
    frame = pd.DataFrame(synthetic("kuairand", 15_000)[:, :3], columns=["user", "item", "sign"]).astype({"user": str})
    made = []
    for rows in (frame, frame.sample(frac=1, random_state=0)):
        model = rs.fit(name, rs.from_frame(rows), rank=40)
        lists = model.recommend(sorted(frame["user"].unique())[:200], k=10)
        made.append((model.model.chosen, lists.select("user", "item").rows()))
    assert made[0] == made[1]


# ---- through RecBole, where numbers follow the rows

PARTS = ("train", "valid", "test")


def trained(name: str, by_part: dict[str | None, Iterable[Any]], root: Path, **settings: Any) -> tuple[Any, Any]:
    """Return a model that was fitted to rows of user, item, sign and time by part, and its training data."""
    (root / "rows").mkdir(parents=True)
    for part, rows in by_part.items():
        lines = ["user_id:token\titem_id:token\tsign:float\ttimestamp:float"]
        lines += ["u{}\ti{}\t{}\t{}".format(*row) for row in rows]
        file = root / "rows" / ".".join(filter(None, ["rows", part, "inter"]))
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    load = {"inter": ["user_id", "item_id", "sign", "timestamp"]}
    given = {"data_path": str(root), "load_col": load, "checkpoint_dir": str(root / "saved"), **settings}
    config, _, parts = prepared("rows", name, **given)
    return instance(config, parts, fit=True), parts[0]._dataset


def split_already(shuffled: bool) -> dict[str | None, Iterable[Any]]:
    """Return rows by part, in their order or another."""
    edges = synthetic("kuairand", 30_000)
    part = np.random.default_rng(1).choice(3, len(edges), p=[0.7, 0.2, 0.1])
    part[np.unique(edges[:, 1], return_index=True)[1]] = 0
    own = {name: edges[part == number] for number, name in enumerate(PARTS)}
    return {k: v[np.random.default_rng(2).permutation(len(v))] if shuffled else v for k, v in own.items()}


@pytest.mark.parametrize("auto", [False, True])
@pytest.mark.parametrize("name", ["SSF", "SSFL", "SSFT"])
def test_a_model_chooses_and_ranks_alike_in_any_order_of_rows(name: str, auto: bool) -> None:
    made = []
    for shuffled in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            ranking = {"topk": [K], "valid_metric": "NDCG@20", "benchmark_filename": list(PARTS)}
            rows = split_already(shuffled)
            model, data = trained(name, rows, Path(folder), **ranking, rank=96, auto=auto)
        users, items = (np.sort(data.field2id_token[field][1:]) for field in (data.uid_field, data.iid_field))
        user_ids, item_ids = data.token2id(data.uid_field, users), data.token2id(data.iid_field, items)
        with torch.no_grad():
            scores = model.score(torch.from_numpy(user_ids))[:, item_ids]
        best = scores.topk(K, dim=1)
        made.append((dict(model.chosen), best.values.numpy(), np.sort(best.indices.numpy(), axis=1)))
    weights = [np.array(chosen.pop("order_weights", [])) for chosen, *_ in made]
    assert made[0][0] == made[1][0]
    np.testing.assert_allclose(*weights, atol=2e-3)  # an optimum is found up to rounding
    fitted = auto and len(weights[0]) > 0
    np.testing.assert_allclose(made[0][1], made[1][1], rtol=2e-3 if fitted else 1e-5, atol=1e-7)
    same = (made[0][2] == made[1][2]).all(axis=1).mean()
    assert same > (0.97 if fitted else 0.995), "but for scores that are equal to the last digit"


# ---- on a few rows, in any order that chance gives: but for the order of items with equal scores

N_USERS, N_ITEMS = 24, 18
BY_MODEL: dict[str, dict[str, Any]] = {
    "Pop": {},
    "DecayPop": {"half_life": 0.01},
    "SSF": {"auto": False, "rank": 8, "cutoff": 4, "popularity_floor": 0.1, "dislike_aversion": 0.5},
    "SSFL": {"auto": False, "rank": 8, "cutoff": 4, "popularity_floor": 0.1},
    "SSFT": {"auto": False, "rank": 8, "cutoff": 4, "dislike_aversion": 0.5},
}
Row = tuple[int, int, int, int]


def alike() -> list[Row]:
    """Users, items, signs, and times that differ; items come in pairs that are alike, the last users late."""
    rng = np.random.default_rng(3)
    pairs = [
        (user, int(item), int(rng.choice([1, -1], p=[0.7, 0.3])))
        for user in range(N_USERS)
        for item in np.flatnonzero(rng.random(N_ITEMS // 2) < 0.5) * 2
    ]
    order = sorted(rng.permutation(len(pairs)), key=lambda place: pairs[place][0] >= N_USERS - 3)
    edges = [(user, item + side, sign) for user, item, sign in (pairs[place] for place in order) for side in (0, 1)]
    return [(*edge, 1_600_000_000 + 60 * place) for place, edge in enumerate(edges)]


def scores_by_token(name: str, order: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return scores ``[n_users, n_items]`` in the order of the tokens, and which users have training edges."""
    every, split = alike(), {"order": "TO", "split": {"RS": [0.7, 0.1, 0.2]}, "group_by": "none"}
    with tempfile.TemporaryDirectory() as folder:
        rows = {None: [every[place] for place in order]}
        model, dataset = trained(name, rows, Path(folder), eval_args=split, epochs=1, **BY_MODEL[name])
    users, items = (
        torch.tensor([dataset.token2id(field, f"{letter}{n}") for n in range(number)])
        for field, letter, number in ((dataset.uid_field, "u", N_USERS), (dataset.iid_field, "i", N_ITEMS))
    )
    with torch.no_grad():
        found = model.full_sort_predict({dataset.uid_field: users}).view(N_USERS, -1)
    edges = sum(np.bincount(each[dataset.uid_field].numpy(), minlength=dataset.user_num)
                for each in (dataset.inter_feat, dataset.neg_feat))  # fmt: skip
    return found[:, items].numpy(), edges[users.numpy()] > 0


@functools.cache
def in_time(name: str) -> tuple[np.ndarray, np.ndarray]:
    return scores_by_token(name, list(range(len(alike()))))


@pytest.mark.parametrize("name", BY_MODEL)
@hypothesis.settings(max_examples=5)
@given(order=st.permutations(range(len(alike()))))
def test_the_order_of_rows_changes_no_ranking(name: str, order: list[int]) -> None:
    wanted, known = in_time(name)
    found, also_known = scores_by_token(name, order)
    np.testing.assert_array_equal(known, also_known)
    size = np.abs(wanted[:, wanted.max(axis=0) > -1e9]).max()
    np.testing.assert_allclose(found, wanted, atol=1e-5 * size, rtol=1e-5)
    distinct = np.abs(wanted[:, :, None] - wanted[:, None, :]) > 1e-4 * size
    np.testing.assert_array_equal(
        (found[:, :, None] > found[:, None, :])[distinct], (wanted[:, :, None] > wanted[:, None, :])[distinct]
    )


@pytest.mark.parametrize("name", BY_MODEL)
def test_users_without_edges_get_one_list_whose_ties_are_the_same(name: str) -> None:
    scores, known = in_time(name)
    turned, _ = scores_by_token(name, list(range(len(alike())))[::-1])
    new = np.flatnonzero(~known)
    assert len(new)
    for own in (scores[new], turned[new]):
        np.testing.assert_array_equal(own, np.broadcast_to(own[0], own.shape))
    ties = [own[0][:, None] == own[0][None, :] for own in (scores[new], turned[new])]
    np.testing.assert_array_equal(*ties)
    assert name in ("DecayPop", "SSFT") or ties[0].sum() > N_ITEMS
