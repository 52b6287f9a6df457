"""Features in SSF: the predictions, what is chosen, explanations, and checkpoints."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from recbole.quick_start import load_data_and_model, run_recbole
from refusals import check_refused
from safetensors.numpy import load_file

from recbole_signed.errors import UsageError
from recbole_signed.graph import SignedGraph
from recbole_signed.graph.least_squares import RidgeSums
from recbole_signed.live import Event, EventBatch, OnlineRecommender
from recbole_signed.live.events import parse_rows
from recbole_signed.live.learners.base import graph_of, learner_of
from recbole_signed.live.replica import OnlineReplica
from recbole_signed.live.trainer import base_of
from recbole_signed.ssf import FilterSettings, SpectralFilter
from recbole_signed.ssf.feature_search import _ColdItems, tune_features
from recbole_signed.ssf.features import FeatureSettings, ItemPrediction, gains, item_sums, user_sums
from recbole_signed.ssf.item_counters import UNKNOWN
from recbole_signed.ssf.user_edges import UserEdges, UserPrior

N_USERS, N_ITEMS, N_GROUPS = 80, 60, 5
COLD = {"split": {"CI": [0.7, 0.1, 0.2]}, "order": "RO", "group_by": "user", "mode": "full"}
SETTINGS = FilterSettings(rank=12, cutoff=8, dislike_aversion=0.5, popularity_exponent=0.2, popularity_floor=0.1)


def features_of(groups: np.ndarray) -> sp.csr_matrix:
    """A bias and an indicator of each group."""
    rows = np.arange(len(groups))
    own = sp.csr_matrix((np.ones(len(groups)), (rows, groups)), shape=(len(groups), N_GROUPS))
    return sp.hstack([np.ones((len(groups), 1)), own], format="csr", dtype=np.float32)


def grouped_graph(seed: int = 0, n_users: int = N_USERS, n_items: int = N_ITEMS) -> SignedGraph:
    """Users who like the items of their own group; the group of user and item j is j % N_GROUPS."""
    rng = np.random.default_rng(seed)
    user, item = np.nonzero(rng.random((n_users, n_items)) < 0.3)
    like = rng.random(len(user)) < np.where(user % N_GROUPS == item % N_GROUPS, 0.95, 0.1)
    keep = like | (rng.random(len(user)) < 0.2)
    user, item, like = user[keep], item[keep], like[keep]
    return SignedGraph.from_edges((user[like], item[like]), (user[~like], item[~like]), n_users, n_items)


ITEM_FEATURES = features_of(np.arange(N_ITEMS) % N_GROUPS)


def predicted(fitted: SpectralFilter, ridge: float = 1.0, **settings: float) -> SpectralFilter:
    """Return a filter with what the groups of items predict in it."""
    learned = item_sums(fitted, ITEM_FEATURES).solve(ridge)
    return ItemPrediction.from_features(fitted, ITEM_FEATURES, learned, FeatureSettings(**settings)).applied(fitted)


def nobody() -> UserEdges:
    """Return one user without an edge."""
    none = np.zeros(0, dtype=np.int32)
    return UserEdges(np.zeros(2, dtype=np.int32), none, none.astype(np.float32), np.zeros(1))


def without(graph: SignedGraph, items: list[int]) -> SignedGraph:
    likes, dislikes = graph.likes.tolil(), graph.dislikes.tolil()
    likes[:, items] = 0
    dislikes[:, items] = 0
    return SignedGraph(likes.tocsr(), dislikes.tocsr())


def test_predictions_are_the_ridge_regression_of_the_dense_formula() -> None:
    fitted, _ = SpectralFilter.fit(without(grouped_graph(), [3, 4]), SETTINGS)
    made = predicted(fitted, 2.0, feature_weight=3.0, feature_gain=0.5)
    known = fitted.known().numpy()
    F, V = ITEM_FEATURES.toarray().astype(float), fitted.vectors.numpy().astype(float)
    penalty = np.diag([1e-3, *[2.0] * N_GROUPS])
    W = np.linalg.solve(F[known].T @ F[known] + penalty, F[known].T @ V[known])
    degrees = (fitted.counters.likes + fitted.counters.dislikes).numpy()[:, None]
    expected = (degrees * V + 3.0 * (F @ W) * gains(fitted, 0.5).numpy()) / (degrees + 3.0)
    assert made.vectors.numpy() == pytest.approx(expected, abs=1e-5)
    assert not made.counters.unknown.numel()


def test_nothing_is_learned_of_users_who_are_left_out() -> None:
    """Those by whom the prediction is judged must not teach it."""
    graph, features = grouped_graph(), features_of(np.arange(N_USERS) % N_GROUPS)
    fitted, _ = SpectralFilter.fit(graph, SETTINGS)
    out = np.array([3, 10, 77])
    others = features.tolil()
    others[out] = 0
    found, wanted, whole = (
        user_sums(fitted, graph, each, left_out).solve(2.0)
        for each, left_out in ((features, out), (others.tocsr(), None), (features, None))
    )
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert not np.allclose(found, whole, atol=1e-4)


def test_without_a_weight_items_with_edges_stay_as_they_are() -> None:
    graph = without(grouped_graph(), [3, 4])
    fitted, _ = SpectralFilter.fit(graph, SETTINGS)
    made = predicted(fitted, 10.0)
    old, new = fitted.scores(graph), made.scores(graph)
    warm = [item for item in range(N_ITEMS) if item not in (3, 4)]
    assert (old[:, [3, 4]] <= UNKNOWN).all()
    assert (new[:, [3, 4]] > UNKNOWN).all()
    assert made.vectors[warm].equal(fitted.vectors[warm, : fitted.k])
    assert new[:, warm].equal(old[:, warm])


def test_a_new_item_of_a_group_is_ranked_for_those_who_like_the_group() -> None:
    graph = without(grouped_graph(), [3])
    fitted, _ = SpectralFilter.fit(graph, FilterSettings(rank=12, cutoff=8, dislike_weight=0.0))
    scores = predicted(fitted, 10.0).scores(graph)[:, 3]
    own = np.arange(N_USERS) % N_GROUPS == 3
    assert scores[own].mean() > 1.2 * scores[~own].mean()


@given(st.integers(0, 40), st.floats(0, 50))
def test_a_user_moves_from_its_features_to_its_edges(degree: int, weight: float) -> None:
    prior = UserPrior(torch.ones(1, 2), torch.tensor([True]), weight)
    found = prior.added(torch.zeros(1, 2), torch.tensor([float(degree)]))
    expected = 1.0 if not degree else weight / (degree + weight)
    assert found.numpy() == pytest.approx(np.full((1, 2), expected), abs=1e-6)


def test_a_user_without_features_and_edges_gets_popularity() -> None:
    graph = grouped_graph()
    fitted, _ = SpectralFilter.fit(graph, SETTINGS)
    prior = UserPrior(torch.ones(1, fitted.k), torch.tensor([False]), 5.0)
    assert fitted.scores(replace(nobody(), prior=prior)).equal(fitted.scores(nobody()))


def test_predicted_popularity_is_not_above_all_others_for_a_user_without_edges() -> None:
    graph = without(grouped_graph(), [3, 7])
    fitted, _ = SpectralFilter.fit(graph, replace(SETTINGS, popularity_floor=1e-4))
    made, plain = (predicted(fitted, feature_popularity=share) for share in (0.3, 0.0))
    assert made.scores(nobody()).equal(plain.scores(nobody()))
    assert (made.scores(graph)[:, [3, 7]] > plain.scores(graph)[:, [3, 7]]).all()
    pairs = torch.arange(N_ITEMS)[None]
    assert made.pair_scores(nobody(), pairs).numpy() == pytest.approx(plain.scores(nobody()).numpy(), abs=1e-9)


def test_a_users_edges_say_whether_it_is_a_stranger_not_the_items_that_are_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In blocks and in pairs of items without factors the exposure scores are 0 for everybody."""
    graph = grouped_graph()
    fitted, _ = SpectralFilter.fit(without(graph, [3, 7, 11]), replace(SETTINGS, popularity_floor=1e-4))
    made = predicted(fitted, feature_popularity=0.3)
    made.vectors[[3, 7, 11]] = 0.0  # nothing but predicted popularity is known of them
    users = SignedGraph(graph.likes[:20], graph.dislikes[:20])
    users = without(users, [3, 7, 11])
    whole = made.scores(users)
    assert made.pair_scores(users, torch.tensor([[3, 7, 11]] * 20)).equal(whole[:, [3, 7, 11]])
    monkeypatch.setattr("recbole_signed.ssf.filter.ITEMS", 1)  # times USERS over the number of users
    monkeypatch.setattr("recbole_signed.ssf.filter.USERS", 20)
    items, values = made.top(users, N_ITEMS, hide=False)
    assert values.numpy() == pytest.approx(whole.gather(1, items).numpy(), rel=1e-5)


class Chosen:
    """Validation users of a graph: half of each one's likes are held out."""

    def __init__(self, seed: int) -> None:
        whole = grouped_graph(seed, 400, 300)
        rng = np.random.default_rng(seed)
        likes = whole.likes.tocoo()
        held = rng.random(likes.nnz) < 0.3
        rows = (likes.row[~held], likes.col[~held]), whole.dislikes.nonzero()
        self.graph = SignedGraph.from_edges(*rows, 400, 300)
        self.held = sp.csr_matrix((np.ones(held.sum()), (likes.row[held], likes.col[held])), shape=(400, 300))

    def validation(self) -> Any:
        from recbole_signed.ssf.validation import Validation

        users = np.flatnonzero(np.diff(self.held.indptr))
        held, seen = self.held[users].tocoo(), self.graph.rows(users)
        hidden = [np.concatenate(each) for each in zip(seen.likes.nonzero(), seen.dislikes.nonzero(), strict=True)]
        order = np.argsort(hidden[0], kind="stable")
        return Validation(
            users=seen,
            like_keys=np.unique(held.row.astype(np.int64) * 300 + held.col),
            like_count=np.diff(self.held[users].indptr),
            hidden=(torch.from_numpy(hidden[0][order]).long(), torch.from_numpy(hidden[1][order]).long()),
            metric="NDCG@20",
            numbers=users,
        )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_features_that_tell_are_used_and_those_that_do_not_are_left_out(seed: int) -> None:
    case, rng = Chosen(seed), np.random.default_rng(seed)
    telling = features_of(np.arange(300) % N_GROUPS), features_of(np.arange(400) % N_GROUPS)
    noise = features_of(rng.integers(0, N_GROUPS, 300)), features_of(rng.integers(0, N_GROUPS, 400))
    settings = FilterSettings(rank=16, cutoff=8)
    for (items, users), used in ((telling, 1), (noise, 0)):
        found = tune_features(case.graph, case.validation(), settings, items, users, FeatureSettings(), 4)
        assert found.settings.predict_items == used, found.said
        if not used:
            assert found.settings.feature_weight == 0
    assert found.settings.user_feature_weight == 0


def test_features_that_tell_nothing_are_left_out_where_a_user_has_cold_items_alone() -> None:
    """Without smoothing, such a user has the degree 0 once its items are made cold."""
    case, noise = Chosen(0), features_of(np.random.default_rng(0).integers(0, N_GROUPS, 300))
    likes, dislikes = case.graph.likes.tolil(), case.graph.dislikes.tolil()
    likes[:30] = dislikes[:30] = 0
    likes[np.arange(30), np.arange(30) * 7] = 1
    graph = SignedGraph(likes.tocsr(), dislikes.tocsr())
    settings = FilterSettings(rank=16, cutoff=8, degree_smoothing=0.0)
    found = tune_features(graph, case.validation(), settings, noise, None, FeatureSettings(), 4)
    assert found.settings.predict_items == 0, found.said


@pytest.mark.parametrize("weight", [-0.5, 0.0, 0.3])
def test_what_edges_say_of_items_made_cold_is_measured_with_the_degrees_of_the_filter(weight: float) -> None:
    graph, cold = Chosen(0).graph, np.arange(0, 300, 7)
    settings = FilterSettings(rank=8, cutoff=8, dislike_weight=weight, degree_smoothing=0.5)
    fitted, _ = SpectralFilter.fit(graph, settings)
    trial = _ColdItems.without(graph, fitted, features_of(np.arange(300) % N_GROUPS), cold, 4)
    signed = graph.likes.toarray() + weight * graph.dislikes.toarray()
    warm = np.delete(np.arange(300), cold)
    user, item = abs(signed)[:, warm].sum(axis=1) + 0.5, abs(signed).sum(axis=0) + 0.5
    exposure = signed * user[:, None] ** -settings.degree_exponent * item**-settings.degree_exponent
    projected = exposure[:, warm] @ trial.fitted.vectors[warm, :8].numpy()
    wanted = exposure[:, cold].T @ projected / trial.fitted.values[:8].numpy() ** 2 * trial.seen
    assert trial.own == pytest.approx(wanted, rel=1e-3, abs=1e-4 * float(abs(wanted).max()))


def test_new_items_are_lifted_where_they_are_liked_next() -> None:
    """Half of the likes that are held out are of items that are new: their predictions must compete with edges."""
    case, settings = Chosen(0), FilterSettings(rank=16, cutoff=8)
    items = features_of(np.arange(300) % N_GROUPS)
    new = np.arange(150)
    likes = [case.held, case.graph.likes]
    case.graph = without(case.graph, new.tolist())
    whole = sp.csr_matrix((likes[0] + likes[1])[:, new])
    case.held = sp.csr_matrix(sp.hstack([whole, likes[0][:, 150:]]))
    lifted = tune_features(case.graph, case.validation(), settings, items, None, FeatureSettings(), 4)
    assert lifted.settings.feature_lift > 1
    plain = tune_features(Chosen(0).graph, Chosen(0).validation(), settings, items, None, FeatureSettings(), 4)
    assert plain.settings.feature_lift <= 1


@pytest.mark.parametrize("aversion", [0.0, 0.5])
def test_a_lift_multiplies_the_scores_of_predicted_items_alone(aversion: float) -> None:
    graph = without(grouped_graph(), [3, 7])
    settings = replace(SETTINGS, dislike_aversion=aversion, popularity_exponent=0.0)
    fitted, _ = SpectralFilter.fit(graph, settings)

    def scores(lift: float, weight: float = 0.0) -> torch.Tensor:
        return predicted(fitted, feature_lift=lift, feature_weight=weight).scores(graph)

    plain, lifted = scores(1.0), scores(3.0)
    known = [item for item in range(N_ITEMS) if item not in (3, 7)]
    assert lifted[:, known].equal(plain[:, known])
    assert lifted[:, [3, 7]].numpy() == pytest.approx(3 * plain[:, [3, 7]].numpy(), rel=1e-5)
    degrees = torch.from_numpy(np.asarray(graph.likes.sum(axis=0) + graph.dislikes.sum(axis=0))).ravel()
    ratio = scores(3.0, weight=4.0) / scores(1.0, weight=4.0)
    expected = 3.0 ** (4.0 / (degrees + 4.0))
    assert ratio.numpy() == pytest.approx(expected.expand_as(ratio).numpy(), rel=1e-3)


def test_a_predicted_like_rate_counts_as_a_probability_at_most() -> None:
    """What more aversion may cost was measured on items with verdicts."""
    whole = grouped_graph()
    likes, dislikes = (np.asarray(each.sum(axis=0)).ravel() for each in (whole.likes, whole.dislikes))
    groups = np.arange(N_ITEMS) % N_GROUPS
    rate_of = np.bincount(groups, likes) / np.bincount(groups, likes + dislikes)
    new = torch.from_numpy(np.flatnonzero(groups == rate_of.argmin())[:2])
    graph = without(whole, new.tolist())
    fitted, _ = SpectralFilter.fit(graph, replace(SETTINGS, popularity_exponent=0.0))
    plain, strong = (predicted(fitted.changed(dislike_aversion=each), feature_weight=4.0) for each in (1.0, 6.0))
    counters = plain.counters
    rates = plain.verdict() / (counters.n_likes / (counters.n_likes + counters.n_dislikes))
    assert rates[new].max() < 1
    assert strong.factor is not None
    assert strong.factor[new].numpy() == pytest.approx(rates[new].numpy(), rel=1e-5)
    low = (rates < 1) & (counters.likes + counters.dislikes > 0)
    share = 4.0 / (counters.likes + counters.dislikes + 4.0)
    assert strong.factor[low].numpy() == pytest.approx((rates ** (6 - 5 * share))[low].numpy(), rel=1e-4)
    some = torch.tensor([*new.tolist(), 5, 20])
    assert torch.equal(strong.counters.factor(strong.settings, some), strong.factor[some])


def test_what_is_given_is_not_chosen() -> None:
    case = Chosen(0)
    start = FeatureSettings(predict_items=1, feature_ridge=7.0, feature_weight=2.0, user_feature_ridge=5.0)
    fixed = ("predict_items", "feature_ridge", "feature_weight", "user_feature_ridge")
    sides = features_of(np.arange(300) % N_GROUPS), features_of(np.arange(400) % N_GROUPS)
    found = tune_features(case.graph, case.validation(), FilterSettings(rank=16), *sides, start, 4, fixed).settings
    assert [getattr(found, name) for name in fixed] == [1, 7.0, 2.0, 5.0]


@pytest.mark.parametrize("setting", ["feature_ridge", "user_feature_ridge", "feature_weight", "feature_lift"])
def test_settings_out_of_range_are_refused(setting: str) -> None:
    check_refused(setting, FeatureSettings, **{setting: -1.0})


# ---- inside RecBole


@pytest.fixture
def prepare(prepare_model: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """A model on small data whose items and users have features; item 49 and user 59 may have no training edge."""

    def make(name: str = "SSF", **config: Any) -> Any:
        folder = tmp_path / "dataset" / "small"
        folder.mkdir(parents=True, exist_ok=True)
        items = [f"{item}\tg{item % N_GROUPS}\t{item}" for item in range(50)]
        users = [f"{user}\tc{user % N_GROUPS}" for user in range(60)]
        (folder / "small.item").write_text("\n".join(["item_id:token\tgroup:token\tyear:float", *items]) + "\n")
        (folder / "small.user").write_text("\n".join(["user_id:token\tcountry:token", *users]) + "\n")
        given = {"features": {"item": "all", "user": "all"}, "auto": False, "rank": 12, "cutoff": 6, **config}
        return prepare_model(name, **given)

    return make


@pytest.mark.parametrize("model", ["SSF", "SSFL", "SSFT"])
@pytest.mark.parametrize("split", ["CI", "CU"])
def test_cold_items_and_users_are_ranked_by_their_features(model: str, split: str, prepare: Callable[..., Any]) -> None:
    eval_args = {**COLD, "split": {split: [0.7, 0.1, 0.2]}}
    made, _, parts = prepare(model, eval_args=eval_args)
    plain, _, _ = prepare(model, eval_args=eval_args, features=None)
    for each in (made, plain):
        each.fit()
    users = parts[2]._dataset.inter_feat["user_id"].unique()
    items = parts[2]._dataset.inter_feat["item_id"].unique()
    with torch.no_grad():
        scores, without_features = made.score(users), plain.score(users)
    if split == "CI":
        assert (without_features[:, items] <= UNKNOWN).all()
        assert (scores[:, items] > UNKNOWN).all()
    else:
        assert without_features.std(dim=0).max() < 1e-6  # popularity, the same for all
        assert scores.std(dim=0).max() > 1e-6


@pytest.mark.parametrize("model", ["SSF", "SSFL", "SSFT"])
def test_explanations_add_up_and_name_features(model: str, prepare: Callable[..., Any]) -> None:
    weights = {"feature_weight": 4.0, "user_feature_weight": 2.0}
    made, _, parts = prepare(model, eval_args=COLD, dislike_aversion=0.5, **weights)
    made.fit()
    item = int(parts[2]._dataset.inter_feat["item_id"][0])
    for user in (1, 2, 30):
        told = made.explain(user, item)
        exposure = told.contributions.sum() + told.from_features
        assert told.score == pytest.approx((exposure + told.prior) * told.factor, rel=1e-4, abs=1e-5)
        assert told.ranked == pytest.approx(float(made.judged(torch.tensor([user]))[0, item]), rel=1e-4, abs=1e-6)
        assert {part.column for part in told.item_features} == {"", "group", "year"}
        assert sum(part.contribution for part in told.user_features) == pytest.approx(told.from_features, abs=1e-6)
        if model == "SSF":  # an item without edges is what its features say
            assert sum(part.contribution for part in told.item_features) == pytest.approx(exposure, rel=1e-3, abs=1e-6)


def test_it_runs_saves_and_loads(prepare: Callable[..., Any], tmp_path: Path, quick: dict[str, Any]) -> None:
    prepare()
    settings = {
        "data_path": str(tmp_path / "dataset"),
        "checkpoint_dir": str(tmp_path / "saved"),
        "features": {"item": ["group"], "user": "all"},
        "eval_args": COLD,
        "rank": 12,
        **quick,
        "metrics": ["Recall", "ColdRecall", "ColdNDCG"],
        "valid_metric": "Recall@10",
    }
    result = run_recbole(model="SSF", dataset="small", config_dict=settings)
    assert 0 < result["test_result"]["coldrecall@10"] <= 1
    (file,) = (tmp_path / "saved").glob("SSF-*.pth")
    _, model, _, _, _, _ = load_data_and_model(str(file))
    assert model.features.item_map.shape[0] == 1 + N_GROUPS
    assert model.features.user_map.shape[0] == 1 + N_GROUPS


def test_a_checkpoint_of_fewer_settings_is_read(prepare: Callable[..., Any]) -> None:
    made, _, _ = prepare()
    made.fit()
    saved = {name: value.clone() for name, value in made.state_dict().items()}
    saved["feature_maps.chosen"] = saved["feature_maps.chosen"][:-1]  # before there was a lift
    other, _, _ = prepare(feature_ridge=3.0)
    other.load_state_dict(saved)
    assert other.features.settings == made.features.settings


def test_checkpoints_without_features_are_as_before(prepare: Callable[..., Any]) -> None:
    made, _, _ = prepare(features=None)
    assert not [name for name in made.state_dict() if "feature" in name]
    assert made.features is None


# ---- under a stream

BOTH = {"eval_args": COLD, "feature_weight": 3.0, "user_feature_weight": 2.0, "dislike_aversion": 0.5}


def begun(model: Any, parts: Any, directory: Path) -> OnlineRecommender:
    """A stream that begins with what the model was fitted to."""
    return OnlineRecommender.begin(directory, learner_of(model, parts[0]._dataset.config), *base_of(parts[0]._dataset))


@pytest.fixture
def live(prepare: Callable[..., Any], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """A stream that begins with what a model was fitted to, that model and its parts; it is closed in the end."""
    opened: list[OnlineRecommender] = []

    def make(name: str = "SSF", *, fit: bool = False, **config: Any) -> tuple[OnlineRecommender, Any, Any]:
        made, _, parts = prepare(name, **config)
        if fit:
            made.fit()
        opened.append(begun(made, parts, tmp_path / "state"))
        return opened[-1], made, parts

    yield make
    for each in opened:
        each.close()


def all_scores(online: OnlineRecommender) -> torch.Tensor:
    with online.reading() as (state, learner):
        return learner.scores(state.edges, np.arange(1, state.edges.n_users))


@pytest.mark.parametrize("model", ["SSF", "SSFL", "SSFT"])
def test_a_live_learner_scores_as_the_model_does_and_after_a_restart_the_same(
    model: str, live: Callable[..., Any], tmp_path: Path
) -> None:
    online, made, _ = live(model, iterations=8, **BOTH, fit=True)
    found, own = all_scores(online), made.score(torch.arange(1, made.n_users))
    assert found[:, 1:].numpy() == pytest.approx(own[:, 1:].numpy(), rel=1e-3, abs=1e-5)
    online.close()
    again = OnlineRecommender.open(tmp_path / "state")
    assert all_scores(again).equal(found)
    again.close()


@pytest.mark.parametrize("model", ["SSF", "SSFT"])
def test_a_live_explanation_names_features_as_that_of_the_model_does(model: str, live: Callable[..., Any]) -> None:
    online, made, _ = live(model, iterations=8, dislike_strength=0.0, **BOTH, fit=True)
    for user, items in ((3, [7, 9]), (12, [5, 11])):
        with online.reading() as (state, learner):
            of_items = learner.explain(state.edges, user, np.array(items))
        for item, told in zip(items, of_items, strict=True):
            wanted = made.explain(user, item)
            columns = [{part.column for part in each.item_features} for each in (told, wanted)]
            assert columns[0] == columns[1] != set()
            for side in ("item_features", "user_features"):
                found, own = (sum(part.contribution for part in getattr(each, side)) for each in (told, wanted))
                assert found == pytest.approx(own, rel=1e-2, abs=1e-4)
            assert sum(part.contribution for part in told.user_features) == pytest.approx(told.from_features, abs=1e-5)


def test_a_pinned_version_that_is_fitted_again_keeps_its_features(live: Callable[..., Any]) -> None:
    """Those of items and of other users; what it predicts from them is that of a fit that never knew the user."""
    online, _, parts = live("SSFT", **BOTH)
    number = parts[0]._dataset.token2id("user_id", "7")
    name = online.snapshot()
    online.versions.pin(name)
    before = online.versions.load(name)
    online.forget("7")
    online.refit().result()
    assert not online.erase()
    after, now = online.versions.load(name), online.versions.load(online.snapshot())
    assert after.meta["feature_spaces"] == before.meta["feature_spaces"]
    np.testing.assert_array_equal(after.tensors["features_item_data"], before.tensors["features_item_data"])
    kept = np.arange(before.n_users) != number
    lengths = [np.diff(each.tensors["features_user_indptr"]) for each in (before, after)]
    np.testing.assert_array_equal(lengths[1][kept], lengths[0][kept])
    assert lengths[0][number] > lengths[1][number] == 0
    for map_ in ("features_item_map", "features_user_map"):
        assert after.tensors[map_].any()
        np.testing.assert_allclose(np.abs(after.tensors[map_]), np.abs(now.tensors[map_]), rtol=1e-3, atol=1e-5)
    online.activate(name)
    with online.reading() as (_, learner):
        assert learner.features.tells_of_items


def test_the_first_edges_of_an_item_take_over_from_its_features(live: Callable[..., Any]) -> None:
    online, _, parts = live("SSF", eval_args=COLD, feature_weight=2.0)
    item = int(parts[2]._dataset.inter_feat["item_id"][0])
    name = parts[2]._dataset.id2token("item_id", item)
    with online.reading() as (_, learner):
        shares = [float(learner.counters.now.share()[item])]
    for user in range(3):
        online.update([Event(f"e{user}", str(user), name, "like", 1_700_000_000_000 + user)])
        with online.reading() as (_, learner):
            shares.append(float(learner.counters.now.share()[item]))
            features = learner.features.matrices["item"][item]
            predicted = (features @ learner.features.item_map[:, :-2])[0] * learner.features.gains
            own = learner.items.vectors[item]
            expected = (1 - shares[-1]) * own[: len(predicted)] + shares[-1] * predicted
            assert learner.shown[item, : len(predicted)] == pytest.approx(expected, abs=1e-6)
    assert shares == pytest.approx([1.0, 2 / 3, 2 / 4, 2 / 5])


def test_the_sums_after_a_refresh_are_those_of_a_refit(live: Callable[..., Any]) -> None:
    online, _, parts = live("SSF", eval_args=COLD)
    item = parts[2]._dataset.id2token("item_id", int(parts[2]._dataset.inter_feat["item_id"][0]))
    online.update([Event(f"e{user}", str(user), item, "like", 1_700_000_000_000 + user) for user in range(20)])
    for _ in range(12):
        online.refresh()
    refreshed = all_scores(online)
    online.refit().result()
    refit = all_scores(online)
    assert np.corrcoef(refreshed.flatten().numpy(), refit.flatten().numpy())[0, 1] > 0.999
    with online.reading() as (state, learner):
        edges = state.edges.export()
        graph = graph_of(edges, state.edges.n_users, state.edges.n_items)
        matrix = learner.features._grown("item", graph.n_items)
        again = item_sums(learner.fitted, matrix).solve(learner.feature_settings.feature_ridge)
        assert learner.features.item_map == pytest.approx(again, abs=1e-6)


def announced(name: str, **features: Any) -> Event:
    return Event(f"announce {name} {features}", "", name, "item", 1_700_000_000_000, features=features)


def test_an_announced_item_is_in_answers_at_once_and_after_a_restart(live: Callable[..., Any], tmp_path: Path) -> None:
    online, *_ = live("SSFT", eval_args=COLD)
    online.update([announced("new", group="g1", year=21)])

    def scores(of: OnlineRecommender) -> torch.Tensor:
        with of.reading() as (state, learner):
            return learner.scores(state.edges, np.arange(1, state.edges.n_users))[:, state.items.id_of("new")]

    before = scores(online)
    assert (before > UNKNOWN).all()
    shown = {item for user in range(60) for item, _ in online.recommend(str(user), 50)}
    assert "new" in shown
    online.refresh()
    assert (scores(online) > UNKNOWN).all()
    online.close()
    again = OnlineRecommender.open(tmp_path / "state")
    assert scores(again).numpy() == pytest.approx(before.numpy(), rel=1e-3, abs=1e-6)
    again.update([announced("new", group="g2", year=21)])
    assert not torch.allclose(scores(again), before)
    again.close()


def told(user: str, **features: Any) -> Event:
    return Event(f"announce {user} {features}", user, "", "user", 1_700_000_000_000, features=features)


def scores_of(of: OnlineRecommender | OnlineReplica, *users: str) -> npt.NDArray[np.float32]:
    with of.reading() as (state, learner):
        return learner.scores(state.edges, state.users.ids(list(users))).numpy()


def from_features_of(of: OnlineRecommender, user: str) -> npt.NDArray[np.float32]:
    """What the features of a user alone predict, ``[1, n_items]``."""
    with of.reading() as (state, learner):
        prior = learner.features.prior(state.users.ids([user]))
        return learner.filter.scores(replace(nobody(), prior=prior)).numpy()


@pytest.mark.parametrize("model", ["SSF", "SSFL", "SSFT"])
def test_an_announced_user_is_ranked_for_by_its_features_at_once_and_after_a_restart(
    model: str, live: Callable[..., Any], tmp_path: Path
) -> None:
    online, *_ = live(model, **BOTH)
    online.update([told("new", country="c1")])
    assert not np.allclose(scores_of(online, "new"), scores_of(online, "nobody"))
    np.testing.assert_array_equal(scores_of(online, "new"), from_features_of(online, "1"))  # whose country is c1
    before = scores_of(online, "new")
    assert [item for item, _ in online.recommend("new", 5)] != [item for item, _ in online.recommend("nobody", 5)]
    online.close()
    online = OnlineRecommender.open(tmp_path / "state")
    np.testing.assert_allclose(scores_of(online, "new"), before, rtol=1e-3, atol=1e-6)
    online.refresh()
    np.testing.assert_array_equal(scores_of(online, "new"), from_features_of(online, "1"))
    under_way = online.refit()
    online.update([told("new", country="c2"), told("newer", country="c1")])
    under_way.result()
    for last in (False, True):
        np.testing.assert_array_equal(scores_of(online, "new"), from_features_of(online, "2"))
        np.testing.assert_array_equal(scores_of(online, "newer"), from_features_of(online, "1"))
        online.snapshot()
        online.close()
        online = OnlineRecommender.open(tmp_path / "state")
        if not last:
            online.update([told("new")])  # takes back what was announced
            np.testing.assert_array_equal(scores_of(online, "new"), scores_of(online, "nobody"))
            online.update([Event("again", "new", "", "user", 1_700_000_000_001, features={"country": "c2"})])
    online.close()


@pytest.mark.parametrize("edges", [1, 3, 8])
def test_edges_of_an_announced_user_take_over_as_they_do_at_a_fit(edges: int, live: Callable[..., Any]) -> None:
    """A user with the features and the verdicts of another one gets the same scores, live and after a refit."""
    online, *_ = live("SSF", **BOTH)
    online.update([told("one", country="c3"), told("other", country="c3")])
    given = [Event(f"one{item}", "one", str(item), "like", 10**12 + item) for item in range(edges)]
    online.update(given)
    with online.reading() as (state, learner):
        users = learner._users(state.edges, state.users.ids(["one"]))
        own = learner.filter._own_projection(users)
        share = 2.0 / (edges + 2.0)
        expected = (1 - share) * own + share * users.prior.projected
        assert learner.filter.project(users).numpy() == pytest.approx(expected.numpy(), abs=1e-6)
    online.update([replace(each, event_id=f"other{each.item_id}", user_id="other") for each in given])
    pair = scores_of(online, "one", "other")
    np.testing.assert_allclose(pair[0], pair[1], rtol=1e-6)
    online.refit().result()
    with online.reading() as (state, learner):
        graph = graph_of(state.edges.export(), state.edges.n_users, state.edges.n_items)
        features = learner.features._grown("user", graph.n_users)
        assert np.diff(features.indptr)[state.users.id_of("one")] > 0
        again = user_sums(learner.fitted, graph, features).solve(learner.feature_settings.user_feature_ridge)
        assert learner.features.user_map == pytest.approx(again, abs=1e-6)
    pair = scores_of(online, "one", "other")
    np.testing.assert_allclose(pair[0], pair[1], rtol=1e-6)


TURNS_OF_ITEMS = [
    [announced("new", group="g1", year=21)],
    [Event("e1", "3", "new", "like", 1_700_000_000_001), announced("newer", group="g2", year=21)],
    [announced("new", group="g2", year=20)],
    [announced("newest", group="g1", year=20)],
]
TURNS_OF_USERS = [
    [told("new", country="c1")],
    [Event("e1", "new", "3", "like", 1_700_000_000_001), told("newer", country="c2")],
    [told("new", country="c4")],
    [Event("", "new", "", "forget_user", 1_700_000_000_002), told("newest", country="c1")],
    [Event("back", "new", "", "user", 1_700_000_000_003, features={"country": "c0"})],
]


@pytest.mark.parametrize("model", ["SSF", "SSFT"])
@pytest.mark.parametrize(
    ("turns", "given"), [(TURNS_OF_ITEMS, {"eval_args": COLD}), (TURNS_OF_USERS, BOTH)], ids=["items", "users"]
)
def test_a_replica_ranks_what_is_announced_as_the_writer_does(
    model: str, turns: list[list[Event]], given: dict[str, Any], live: Callable[..., Any], tmp_path: Path
) -> None:
    writer, *_ = live(model, **given)
    replica = OnlineReplica(tmp_path / "state")
    users = (*map(str, range(60)), "new", "newer", "newest", "nobody")
    for turn, events in enumerate(turns):
        writer.update(events)
        if turn == 2:  # the replica puts this version in force
            writer.refresh()
            writer.snapshot()
        replica.follow()
        found = scores_of(replica, *users)
        np.testing.assert_allclose(found, scores_of(writer, *users), rtol=1e-4, atol=1e-6)
        assert turns is TURNS_OF_USERS or (found[:, replica.items.id_of("new")] > UNKNOWN).all()
    late = OnlineReplica(tmp_path / "state")
    np.testing.assert_allclose(scores_of(late, *users), scores_of(writer, *users), rtol=1e-4, atol=1e-6)
    for each in (late, replica):
        each.close()


@pytest.mark.parametrize("model", ["SSF", "SSFT"])
def test_a_forgotten_user_leaves_no_features(model: str, live: Callable[..., Any], tmp_path: Path) -> None:
    """Announced or of the data: not in memory, the log, the register, versions, also a pinned one, or a backup."""
    online, *_ = live(model, **BOTH)
    online.update([told("maria-7731", country="c1"), told("else-9915", country="c2")])
    with online.reading() as (state, _):
        numbers = state.users.ids(["maria-7731", "7"])
    online.versions.pin(online.snapshot())
    online.back_up(tmp_path / "backup")

    def in_memory() -> list[int]:
        with online.reading() as (_, learner):
            return np.diff(learner.features._grown("user", max(numbers) + 1).indptr)[numbers].tolist()

    def on_disk() -> list[int]:
        files = [load_file(path) for path in sorted(tmp_path.rglob("*.safetensors"))]
        lengths = [np.diff(each["features_user_indptr"]) for each in files if "features_user_indptr" in each]
        return [int(each[number]) for each in lengths for number in numbers if len(each) > number]

    def content() -> bytes:
        return b"".join(path.read_bytes() for path in sorted(tmp_path.glob("*/**/*")) if path.is_file())

    assert b"maria-7731" in content()
    assert all(in_memory())
    assert len(on_disk()) > 3
    assert all(on_disk())
    under_way = online.refit()  # copies the features before the users go
    for user in ("maria-7731", "7"):
        pending = online.forget(user)
        assert not pending.rows, pending
        np.testing.assert_array_equal(scores_of(online, user), scores_of(online, "nobody"))
    under_way.result()
    assert not any(in_memory())
    online.refit().result()
    online.snapshot()
    assert not online.erase()
    assert b"maria-7731" not in content()
    assert b"else-9915" in content()
    assert not any(on_disk())
    online.close()
    for folder in ("state", "backup"):
        online = OnlineRecommender.open(tmp_path / folder)
        assert not any(in_memory())
        for user in ("maria-7731", "7"):
            np.testing.assert_array_equal(scores_of(online, user), scores_of(online, "nobody"))
        assert not np.allclose(scores_of(online, "else-9915"), scores_of(online, "nobody"))
        online.close()


def test_many_announced_users_are_those_of_one_matrix(live: Callable[..., Any]) -> None:
    online, *_ = live("SSF", **BOTH)
    names = [f"n{number}" for number in range(1500)]  # more than are held beside the matrix
    for first in range(0, len(names), 100):
        online.update([told(name, country=f"c{int(name[1:]) % N_GROUPS}") for name in names[first : first + 100]])
    alone = np.concatenate([scores_of(online, name) for name in names[-3:]])
    np.testing.assert_allclose(scores_of(online, *names)[-3:], alone, rtol=1e-6)
    np.testing.assert_allclose(
        scores_of(online, *names[:5]), np.concatenate([from_features_of(online, str(n)) for n in range(5)]), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("side", "features", "message"),
    [
        ("user", {"cuntry": "c1"}, "the model knows no feature 'cuntry' of users; did you mean 'country'?"),
        ("user", {"age": 3}, "the model knows no feature 'age' of users; it knows country"),
        ("item", {"colour": "red"}, "the model knows no feature 'colour' of items; it knows group, year"),
        ("item", {"year": "soon"}, "the column 'year' holds 'soon', but a finite number was expected"),
    ],
)
def test_announcements_that_the_model_can_not_read_are_refused(
    side: str, features: dict[str, Any], message: str, live: Callable[..., Any]
) -> None:
    online, *_ = live("SSF", **BOTH)
    wrong = {"type": side, f"{side}_id": "new", "timestamp": 1_700_000_000_000, "features": features}
    right = {**wrong, f"{side}_id": "right", "features": {"country": "c1"} if side == "user" else {"year": 20}}
    refused, taken = online.ingest([wrong, right])
    assert (refused.status, taken.status) == ("refused", "accepted")
    assert message in (refused.reason or "")
    with pytest.raises(UsageError, match=re.escape(message)):
        online.update([Event("", *(("new", "") if side == "user" else ("", "new")), side, 10**12, features=features)])
    with online.reading() as (state, _):
        assert "new" not in (state.users if side == "user" else state.items)


def test_features_in_the_log_that_no_model_can_read_count_as_none(
    live: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Such as come from a source, which nobody tells that they are refused."""
    online, *_ = live("SSF", **BOTH)
    online.update(
        EventBatch.from_events([announced("new", group="g1", year="soon"), announced("other", group="g2", year=20)])
    )
    assert "can't be read and count as none" in caplog.text
    online.update([announced("third", group="g2", year=20)])
    scores = scores_of(online, "1", "2")
    with online.reading() as (state, _):
        first, *same = state.items.ids(["new", "other", "third"])
    assert (scores[:, first] > UNKNOWN).all()
    np.testing.assert_allclose(scores[:, same[0]], scores[:, same[1]], rtol=1e-6)


@pytest.mark.parametrize("number", [1e6, 1e300])
def test_a_vector_of_another_scale_does_not_take_the_lists_over(
    number: float, prepare: Callable[..., Any], prepare_model: Callable[..., Any], tmp_path: Path
) -> None:
    """Predicted likes grow as the exponential of it: they were infinite, and so was the score of the item."""
    prepare("SSF")
    rows = [f"{item}\t{np.cos(item):.3f} {np.sin(item):.3f}" for item in range(50)]
    (tmp_path / "dataset" / "small" / "small.item").write_text(
        "\n".join(["item_id:token\tplace:float_seq", *rows]) + "\n"
    )
    given = {"features": {"item": ["place:vector"]}, "auto": False, "rank": 12, "cutoff": 6, **BOTH}
    made, _, parts = prepare_model("SSF", **given)
    online = begun(made, parts, tmp_path / "state")
    wrong = {"type": "item", "item_id": "new", "timestamp": 1_700_000_000_000, "features": {"place": [number, number]}}
    before = [online.recommend(str(user), 60) for user in (1, 2, "nobody")]
    assert [each.status for each in online.ingest([wrong])] == ["refused"]
    online.update(EventBatch.from_events([announced("new", place=[number, number])]))  # as from a source
    after = [online.recommend(str(user), 60) for user in (1, 2, "nobody")]
    assert [[each for each in shown if each[0] != "new"] for shown in after] == before
    assert all(np.isfinite(score) for shown in after for _, score in shown)
    assert online.ingest([{**wrong, "features": {"place": [9.0, 9.0]}}])[0].status == "accepted"
    online.close()


@pytest.mark.parametrize("side", ["model", "learner"])
def test_predicted_likes_are_finite(side: str, live: Callable[..., Any]) -> None:
    online, made, _ = live("SSF", **BOTH, fit=True)
    with online.reading() as (_, learner):
        if side == "model":
            made.features.item_map *= 1e4
            expected = made.filter.counters.expected
        else:
            learner.features.item_map = learner.features.item_map * 1e4
            expected = learner.features.expected(50)
    assert expected.likes.max() > 1e9
    assert torch.isfinite(expected.likes).all()


def test_a_model_without_features_takes_announcements_and_shows_nothing_of_them(live: Callable[..., Any]) -> None:
    online, *_ = live("SSF", eval_args=COLD, features=None)
    online.update([announced("new", group="g1")])
    with online.reading() as (state, learner):
        assert (learner.scores(state.edges, np.array([1]))[:, state.items.id_of("new")] <= UNKNOWN).all()


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("group", "is not JSON"),
        ([1], "expected columns with their values"),
        ({"group": {"a": 1}}, "expected text, numbers, or a list"),
        ({"year": float("nan")}, "not finite"),
        ({"text": "x" * 70_000}, "at most 65536 are taken"),
    ],
)
def test_announcements_that_do_not_fit_are_refused(features: Any, message: str) -> None:
    for side in ("item", "user"):
        row = {"type": side, f"{side}_id": "new", "timestamp": 1_700_000_000_000, "features": features}
        _, (letter,) = parse_rows([row], ["0"])
        assert message in letter.reason


@pytest.mark.parametrize("side", ["item", "user"])
def test_an_announcement_needs_an_id_that_is_not_too_long(side: str) -> None:
    row = {"type": side, "timestamp": 1_700_000_000_000, "features": {}}
    for token, message in ((None, f"{side}_id is missing"), ("x" * 20_000, f"{side}_id has 20000 characters")):
        _, (letter,) = parse_rows([{**row, f"{side}_id": token}], ["0"])
        assert message in letter.reason


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_sums_over_items_can_be_counted_in_parts_and_taken_back(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    F = sp.csr_matrix(np.round(rng.random((n, 6)) * (rng.random((n, 6)) < 0.5), 2), dtype=np.float32)
    T = rng.normal(size=(n, 3))
    whole, parts = RidgeSums.from_rows(F, T), RidgeSums.from_rows(F[:0], T[:0])
    cut = int(rng.integers(0, n + 1))
    for rows in (slice(0, cut), slice(cut, n)):
        parts.add(F[rows], T[rows])
    parts.add(F[:cut], T[:cut])
    parts.add(F[:cut], T[:cut], times=-1.0)
    assert parts.gram == pytest.approx(whole.gram, abs=1e-9)
    assert parts.cross == pytest.approx(whole.cross, abs=1e-9)
    dense = np.linalg.solve(F.T @ F + np.diag([1e-3, *[0.5] * 5]), F.T @ T)
    assert whole.solve(0.5) == pytest.approx(np.asarray(dense), rel=1e-3, abs=1e-3)
