"""SSF: its formula, folding in, explanations, its choice of parameters, and its life inside RecBole."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prepared import trainer_of
from recbole.quick_start import load_data_and_model, run_recbole
from refusals import check_refused

from recbole_signed.errors import UsageError
from recbole_signed.graph import SignedGraph
from recbole_signed.plugin import ranges
from recbole_signed.ssf import FilterSettings, SpectralFilter, user_edges
from recbole_signed.ssf import search as ssf_tuning
from recbole_signed.ssf import ssf as ssf_module
from recbole_signed.ssf import validation as validation_module
from recbole_signed.ssf.item_counters import ItemCounters
from recbole_signed.ssf.learned_items import LearnedItems, LearnedSettings
from recbole_signed.ssf.search import FIRST_WEIGHT, WEIGHT_STEPS, candidate, tune
from recbole_signed.ssf.shortlist import Candidate, Pieces
from recbole_signed.ssf.user_edges import UserEdges
from recbole_signed.ssf.validation import Standing, Validation, part_of

SETTINGS = {
    "rank": 20,
    "cutoff": 6,
    "rolloff": 4.0,
    "popularity_exponent": 0.2,
    "popularity_floor": 0.3,
    "dislike_aversion": 0.5,
    "activity_exponent": 1.5,
}


@pytest.fixture
def prepare(prepare_model: Callable[..., Any]) -> Callable[..., Any]:
    return functools.partial(prepare_model, "SSF")


@pytest.mark.parametrize("w", [0.0, 0.5])
def test_neutral_rows_are_edges_of_their_weight_whatever_dislikes_weigh(w: float) -> None:
    users = SignedGraph.from_edges(([0], [1]), ([0], [2]), 1, 5, ([0], [3]), 0.25)
    found = UserEdges.from_graph(users, w)
    assert dict(zip(found.items.tolist(), found.weights.tolist(), strict=True)) | {2: w} == {1: 1.0, 2: w, 3: 0.25}
    assert found.degrees.tolist() == [1.25 + w]


@pytest.mark.parametrize("n_items", [9, 500], ids=["more edges than items", "fewer"])
@pytest.mark.parametrize("at_a_time", [1, 7, 100])
def test_edges_are_normalised_alike_however_many_users_at_a_time(
    at_a_time: int, n_items: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_edges, "ROWS", at_a_time)
    rng = np.random.default_rng(0)
    P, N = (rng.random((23, n_items)) < min(0.4, 5 / n_items) for _ in range(2))  # some pairs have both signs
    P[3] = N[3] = False
    likes, dislikes = (rng.integers(0, 30, n_items) for _ in range(2))
    counters = ItemCounters.from_counts(*(torch.from_numpy(each).float() for each in (likes, dislikes)))
    graph = SignedGraph.from_edges(np.nonzero(P), np.nonzero(N), *P.shape)
    for w in (0.5, -0.3, 0.0):
        s = FilterSettings(dislike_weight=w, degree_smoothing=2.0, degree_exponent=0.7)
        d_users, d_items = (P + abs(w) * N).sum(axis=1), likes + abs(w) * dislikes
        expected = (P + w * N) * ((d_users + 2.0)[:, None] * (d_items + 2.0)) ** -0.7
        found = UserEdges.from_graph(graph, w).matrix(counters, s)
        np.testing.assert_allclose(found.toarray(), expected, rtol=1e-6)


def reference(P: np.ndarray, N: np.ndarray, likes: np.ndarray, dislikes: np.ndarray, s: dict[str, float]) -> np.ndarray:
    """The formula in dense float64: fit to P and N, score users with rows ``likes`` and ``dislikes``."""
    w, a = s["dislike_weight"], s["degree_smoothing"]
    p, n = P.sum(0), N.sum(0)
    d_users, d_items = (P + abs(w) * N).sum(1), p + abs(w) * n
    R = (P + w * N) / np.sqrt((d_users + a)[:, None] * (d_items + a))
    _, S, Vt = np.linalg.svd(R, full_matrices=False)
    S, V = S[: int(s["rank"])], Vt[: int(s["rank"])].T
    x, median = S / S[0], np.median(d_users[d_users > 0])

    def response(degree: np.ndarray) -> np.ndarray:
        wider = (np.maximum(degree, 0.5) / median) ** s["activity_exponent"]
        cut = x[int(s["cutoff"])]
        return x ** s["response_power"] / (1 + (cut / x) ** s["rolloff"] / wider[:, None])

    degree = (likes + abs(w) * dislikes).sum(1)
    row = (likes + w * dislikes) / np.sqrt((degree + a)[:, None] * (d_items + a))
    exposure = (row @ V * response(degree)) @ V.T
    known = (p + n) > 0
    popularity = ((d_items + a) / (d_items + a)[known].mean()) ** s["popularity_exponent"]
    z = S * response(np.array([median]))[0]  # the mean over users of |U S f|^2 is that of the singular values
    size = np.sqrt((z**2).sum() / (d_users > 0).sum() * len(S) / known.sum())
    prior = s["popularity_floor"] * size * np.log1p(p) / np.log1p(p).max()
    return averse((exposure + prior) * popularity, p, n, s)


def averse(scores: np.ndarray, likes: np.ndarray, dislikes: np.ndarray, s: dict[str, float]) -> np.ndarray:
    """Hold back items of a low like rate, and push those of a high one a little."""
    g, t, mean = s["dislike_aversion"], s["verdict_smoothing"], likes.sum() / (likes + dislikes).sum()
    ratio = (likes + t * mean) / (likes + dislikes + t) / mean
    factor = np.where(ratio < 1, ratio**g, ratio ** min(g, 0.25))
    return np.where(scores < 0, scores / factor, scores * factor)


@pytest.mark.parametrize("length", [12, 13, 14])
def test_an_old_checkpoint_loads(prepare: Callable[..., Any], caplog: pytest.LogCaptureFixture, length: int) -> None:
    """One buffer had another name; later settings were not there yet, and 12 was the weight of a linear filter."""
    ranges._warn_once.cache_clear()
    (old, *_), (model, *_) = (prepare(auto=False, **SETTINGS, linear_weight=0.3) for _ in range(2))
    assert sum("linear_weight has no effect" in each.getMessage() for each in caplog.records) == 1
    ranges._warn_once.cache_clear()
    caplog.clear()
    old.fit()
    state = old.state_dict()
    state["users"] = state.pop("user_count_and_median_degree")
    state["chosen_settings"][12] = 0.3
    state["chosen_settings"] = state["chosen_settings"][:length]
    model.load_state_dict(state)
    assert sum("linear_weight has no effect" in each.getMessage() for each in caplog.records) == (length > 12)
    assert (model.settings, model.filter.n_users) == (old.settings, old.filter.n_users)
    users = torch.arange(old.n_users)
    torch.testing.assert_close(model.score(users), old.score(users))


@pytest.mark.parametrize("weight", [-0.4, 0.0, 0.7])
def test_scores_are_the_formula(prepare: Callable[..., Any], weight: float) -> None:
    model, _, _ = prepare(auto=False, dislike_weight=weight, iterations=30, **SETTINGS)
    model.fit()
    P, N = model.graph.likes.toarray().astype(float), model.graph.dislikes.toarray().astype(float)
    wanted = reference(P, N, P, N, model.chosen)
    known = (P + N).sum(0) > 0
    found = model.score(torch.arange(model.n_users)).numpy()
    np.testing.assert_allclose(found[:, known], wanted[:, known], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("name", "loose"), [("SSF", 1e-5), ("SSFL", 1e-4)])
def test_a_fitted_user_folded_in_anew_has_its_score(name: str, loose: float, prepare_model: Callable[..., Any]) -> None:
    model, _, _ = prepare_model(name, auto=False, **SETTINGS)
    model.fit()
    for user in (1, 7, 30):
        likes, dislikes = (each[user].indices.tolist() for each in (model.graph.likes, model.graph.dislikes))
        for strength in (0.0, 0.7):
            model.dislike_strength = strength
            folded = model.fold_in(likes[::-1] + likes[:2], dislikes[::-1])
            if not strength or not dislikes:
                torch.testing.assert_close(folded, model.score(torch.tensor([user]))[0], rtol=loose, atol=loose / 100)
            else:
                assert (folded < model.score(torch.tensor([user]))[0])[1:].any()
    assert torch.isfinite(model.fold_in([])).all()
    check_refused("no item with the id 4000", model.fold_in, [1, 4000])


@pytest.mark.parametrize(("name", "loose"), [("SSF", 1e-4), ("SSFL", 1e-3)])
def test_an_explanation_adds_up(name: str, loose: float, prepare_model: Callable[..., Any]) -> None:
    model, _, _ = prepare_model(name, auto=False, **SETTINGS)
    model.fit()
    scores = model.judged(torch.tensor([4]))[0]
    for item in (2, 9, 17):
        told = model.explain(4, item)
        assert told.items.tolist() == [*model.graph.likes[4].indices, *model.graph.dislikes[4].indices]
        assert told.signs.tolist() == [1] * model.graph.likes[4].nnz + [-1] * model.graph.dislikes[4].nnz
        assert (told.contributions.sum() + told.prior) * told.factor == pytest.approx(told.score, rel=loose)
        assert told.ranked == pytest.approx(float(scores[item]), rel=loose / 100)
        assert 0 < told.verdict < 1
    both = (np.zeros(2, dtype=np.int64), np.array([3, 8]))  # a pair may carry both signs
    contrary = SignedGraph.from_edges(both, both, 1, model.n_items)
    (told,) = model.filter.explain(contrary, np.array([9]))
    assert (told.contributions.sum() + told.prior) * told.factor == pytest.approx(told.score, rel=1e-4)
    check_refused("no user", model.explain, 0, 2)
    check_refused("no item", model.explain, 4, model.n_items)
    for user, item in ((1.5, 2), ("196", "50"), (1, None), (True, 1)):
        check_refused("ids are whole numbers", model.explain, user, item)


def test_users_and_items_without_edges(prepare: Callable[..., Any]) -> None:
    model, _, _ = prepare(auto=False, **SETTINGS)
    graph = model.graph
    kept = np.ones(graph.n_items, dtype=np.float32)
    kept[7] = 0.0  # item 7 loses its edges
    parts = []
    for each in (graph.likes, graph.dislikes):
        without = each.multiply(kept).tocsr()
        without.eliminate_zeros()
        parts.append(without)
    fitted, _ = SpectralFilter.fit(SignedGraph(*parts), model.settings)
    scores = fitted.scores(graph)  # the users still have their edges to the unknown item
    assert torch.isfinite(scores).all()
    assert (scores[:, 7] < scores[:, [each for each in range(1, graph.n_items) if each != 7]].amin(dim=1)).all()

    model.fit()
    nobody = model.fold_in([])[1:]
    rate = model.filter.verdict()[1:] ** 0.5 * (model.filter.factor / model.filter.verdict() ** 0.5)[1:]
    wanted = model.item_likes[1:].log1p() * rate
    assert torch.isfinite(nobody).all()
    torch.testing.assert_close(nobody / nobody.max(), wanted / wanted.max(), rtol=1e-4, atol=1e-6)


def test_a_graph_without_edges_gives_numbers() -> None:
    nothing = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    graph = SignedGraph.from_edges(nothing, nothing, 4, 5)
    fitted, _ = SpectralFilter.fit(graph, FilterSettings(rank=3, degree_smoothing=0.0))
    assert torch.isfinite(fitted.scores(graph)).all()
    learned = LearnedItems.fit(graph, fitted, LearnedSettings(learned_rank=2))
    assert (learned.unit, len(learned.fold_in(graph))) == (0.0, 4)


@pytest.mark.parametrize("likes", [[], [(1, 1), (2, 1), (2, 2)]])
@pytest.mark.parametrize("exponent", [-0.1, 0.5])
def test_items_of_degree_zero_have_numbers_for_scores(likes: list[tuple[int, int]], exponent: float) -> None:
    """Disliked ones have none where dislikes do not count: their power is infinite, or that of 0 / 0."""
    edges = [tuple(np.array(side, dtype=int).reshape(-1, 2).T) for side in (likes, [(1, 3), (2, 4)])]
    graph = SignedGraph.from_edges(edges[0], edges[1], 3, 6)
    settings = FilterSettings(
        dislike_weight=0.0, degree_smoothing=0.0, popularity_exponent=exponent, popularity_floor=1.0
    )
    fitted, _ = SpectralFilter.fit(graph, settings)
    scores = fitted.scores(graph)
    assert scores.isfinite().all()
    assert (scores[:, 3:5] == 0).all()


def test_the_most_popular_item_stays_first_where_the_power_of_its_degree_is_beyond_float32() -> None:
    """It was infinite, and counted as that of no degree: the item had the score 0."""
    users = np.arange(3000)
    likes = np.concatenate([users, users[:100]]), np.concatenate([np.full(3000, 101), np.arange(1, 101)])
    graph = SignedGraph.from_edges(likes, (users[:0], users[:0]), 3000, 102)
    settings = FilterSettings(rank=8, degree_smoothing=0.0, popularity_exponent=30.0, popularity_floor=1.0)
    scores = SpectralFilter.fit(graph, settings)[0].scores(graph.rows([2999]))
    assert scores.isfinite().all()
    assert int(scores.argmax()) == 101


def test_dislike_aversion_changes_without_a_fit(prepare: Callable[..., Any]) -> None:
    model, _, _ = prepare(auto=False, **{**SETTINGS, "dislike_aversion": 0.0})
    model.fit()
    users, factors = torch.arange(1, 20), model.item_factors
    before = model.score(users)
    model.dislike_aversion = 1.5
    known = model.filter.known()
    after = model.score(users)
    assert model.item_factors is factors
    assert model.dislike_aversion == model.chosen["dislike_aversion"] == 1.5
    wanted = averse(before.double().numpy(), model.item_likes.numpy(), model.item_dislikes.numpy(), model.chosen)
    np.testing.assert_allclose(after[:, known].numpy(), wanted[:, known], rtol=1e-4, atol=1e-7)
    low = (model.filter.aversion < 1) & known
    assert (after <= before)[:, low].all()
    assert (after >= before)[:, known & ~low].all()
    assert (before < 0).any()
    with pytest.raises(UsageError, match="dislike_aversion"):
        model.dislike_aversion = -1.0


def test_validation_measures_as_recbole_does(prepare: Callable[..., Any]) -> None:
    for metric, gamma in (("NDCG@10", 1.0), ("Recall@20", 1.0), ("SignedNDCG@10", 3.0), ("SignedRecall@20", 0.5)):
        measured = {"metrics": [metric.partition("@")[0]], "valid_metric": metric, "signed_gamma": gamma}
        model, config, parts = prepare(auto=False, topk=[10, 20], **measured, **SETTINGS, dislike_strength=0.0)
        trainer = trainer_of(config, model)
        wanted, _ = trainer.fit(parts[0], parts[1], saved=False)
        validation = Validation.from_loader(parts[1], model.graph, metric, 10_000, signed_gamma=gamma)
        assert validation is not None
        (found,) = validation.contest([candidate(model.filter, model.filter.project(validation.users), validation)])
        assert found.value == pytest.approx(wanted, abs=1e-4)
    other = Validation.from_loader(parts[1], model.graph, "MRR@10", 10)
    assert other is not None
    assert (other.metric, other.n_users) == ("NDCG@20", 10)


def test_tuning_chooses_the_best_that_it_tried(
    prepare: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: dict[FilterSettings, float] = {}
    asked: list[FilterSettings] = []

    def recorded(fitted: SpectralFilter, *rest: Any) -> Candidate:
        asked.append(fitted.settings)
        return candidate(fitted, *rest)

    def contest(self: Validation, candidates: list[Candidate], champion: np.ndarray | None = None) -> list[Standing]:
        standings = measure(self, candidates, champion)
        new = asked[len(tried) :]
        tried.update({each: standing.value for each, standing in zip(new, standings, strict=True)})
        return standings

    measure = Validation.contest
    model, _, parts = prepare(rank=30)
    validation = Validation.from_loader(parts[1], model.graph, "NDCG@20", 10_000)
    assert validation is not None
    with monkeypatch.context() as patch:
        patch.setattr(ssf_tuning, "candidate", recorded)
        patch.setattr(Validation, "contest", contest)
        found = tune(model.graph, validation, model.settings)
    assert found.value == max(tried.values()) == tried[found.settings]
    assert found.evaluations == len(tried) == len(set(asked))
    weights = {each.dislike_weight for each in tried}
    assert found.decompositions >= len(weights) >= 3 + len(WEIGHT_STEPS)
    assert min(weights) <= 0.0 < FIRST_WEIGHT < max(weights)
    with caplog.at_level(logging.INFO):
        model.tune(parts[1])
    assert model.settings == found.settings
    assert "SSF chose on validation (NDCG@20" in caplog.text


def test_the_choice_costs_few_evaluations_of_all_users(
    prepare: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked = [0]
    per_user = Validation._per_user

    def counted(self: Validation, candidate: Candidate, pieces: Pieces) -> np.ndarray:
        ranked[0] += pieces.rows.stop - pieces.rows.start
        return per_user(self, candidate, pieces)

    monkeypatch.setattr(Validation, "_per_user", counted)
    model, _, parts = prepare(rank=30)
    validation = Validation.from_loader(parts[1], model.graph, "NDCG@20", 10_000)
    assert validation is not None
    monkeypatch.setattr(validation_module, "FIRST_ROUND", validation.n_users // 8)
    found = tune(model.graph, validation, model.settings)
    assert ranked[0] < 0.8 * validation.n_users * found.evaluations
    assert found.decompositions <= 11


def test_weight_and_smoothing_of_a_large_graph_are_chosen_on_a_part_of_its_users(
    prepare: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    fit = SpectralFilter.fit.__func__  # type: ignore[attr-defined]

    def recorded(cls: type, graph: SignedGraph, *args: Any, **kwargs: Any) -> Any:
        sizes.append(graph.likes.nnz + graph.dislikes.nnz)
        return fit(cls, graph, *args, **kwargs)

    monkeypatch.setattr(SpectralFilter, "fit", classmethod(recorded))
    model, _, parts = prepare(rank=30)
    n_edges = model.graph.likes.nnz + model.graph.dislikes.nnz
    validation = Validation.from_loader(parts[1], model.graph, "NDCG@20", 10_000)
    users = part_of(model.graph, parts[1], n_edges // 2)
    assert validation is not None
    assert users is not None
    assert part_of(model.graph, parts[1], n_edges) is None
    fewer = part_of(model.graph, parts[1], n_edges // 4)
    assert fewer is not None
    assert len(fewer) < len(users)
    assert set(fewer) < set(users)
    part = model.graph.rows(users)
    part_edges = part.likes.nnz + part.dislikes.nnz
    assert n_edges // 4 < part_edges <= n_edges // 2
    found = tune(model.graph, validation, model.settings, part=part)
    assert sizes == [part_edges] * (len(sizes) - 1) + [n_edges]  # one decomposition of the whole graph
    assert found.decompositions == len(sizes) > 5
    best, _ = SpectralFilter.fit(model.graph, found.settings)
    (standing,) = validation.contest([candidate(best, best.project(validation.users), validation)])
    assert standing.value == pytest.approx(found.value, rel=0.02)  # measured on the whole graph
    monkeypatch.setattr(ssf_module, "SEARCH_EDGES", n_edges // 2)
    model.tune(parts[1])
    assert model.settings == found.settings
    decomposed = len(sizes)
    model.fit()
    assert len(sizes) == decomposed  # that one is the fit
    fresh, _ = SpectralFilter.fit(model.graph, found.settings, iterations=model.iterations)
    assert torch.equal(model.item_factors, fresh.vectors)
    model.tune(parts[1])
    model.chosen_settings = replace(model.settings, degree_smoothing=77.0).to_tensor()
    model.fit()  # what was chosen no longer holds
    fresh, _ = SpectralFilter.fit(model.graph, model.settings, iterations=model.iterations)
    assert torch.equal(model.item_factors, fresh.vectors)


def test_the_test_part_is_never_read(prepare: Callable[..., Any]) -> None:
    chosen = []
    for spoil in (False, True):
        model, config, parts = prepare()
        if spoil:
            parts[2]._dataset.inter_feat = parts[2]._dataset.neg_feat = None
        trainer_of(config, model).fit(parts[0], parts[1], saved=False)
        chosen.append(model.chosen)
    assert chosen[0] == chosen[1]


def test_chosen_values_given_in_the_yaml_give_the_same_model(prepare: Callable[..., Any]) -> None:
    model, config, parts = prepare()
    trainer_of(config, model).fit(parts[0], parts[1], saved=False)
    again, config, parts = prepare(auto=False, **model.chosen)
    trainer_of(config, again).fit(parts[0], parts[1], saved=False)
    users = torch.arange(again.n_users)
    assert torch.equal(again.score(users), model.score(users))


def test_without_validation_the_configured_values_hold(
    prepare: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    model, config, parts = prepare(dislike_weight=0.33)
    trainer = trainer_of(config, model)
    assert type(trainer).__name__ == "SSFTrainer"
    with caplog.at_level(logging.WARNING):
        trainer.fit(parts[0], None, saved=False)
    assert model.chosen["dislike_weight"] == 0.33
    assert model.singular_values.numel()
    assert "no validation part" in caplog.text


def test_it_tunes_where_recbole_samples_negatives(prepare: Callable[..., Any]) -> None:
    model, config, parts = prepare(eval_args={"mode": {"valid": "uni20", "test": "uni20"}, "order": "RO"})
    trainer_of(config, model).fit(parts[0], parts[1], saved=False)
    assert model.chosen["rank"] == 256  # as the yaml says: a graph that grows will have room for more
    assert 0 < model.singular_values.numel() <= 50


@pytest.mark.parametrize(
    ("name", "given", "floats", "more"),
    [("SSF", {"rank": 10}, 10 + 2, 30), ("SSFL", {"rank": 10, "learned_rank": 8}, 10 + 8 + 2, 40)],
)
def test_it_keeps_k_plus_two_floats_per_item(
    name: str, given: dict[str, int], floats: int, more: int, prepare_model: Callable[..., Any]
) -> None:
    """SSF-L keeps its learned factors too."""
    model, _, _ = prepare_model(name, auto=False, **given)
    model.fit()
    assert sum(each.numel() for each in model.state_dict().values()) <= model.n_items * floats + more


@pytest.mark.parametrize("name", ["SSF", "SSFL", "SSFT"])
def test_it_runs_saves_and_loads_through_recbole(name: str, toy_root: Path, tmp_path: Path, quick: dict) -> None:
    settings = {**quick, "data_path": str(toy_root), "checkpoint_dir": str(tmp_path / "saved")}
    result = run_recbole(model=name, dataset="toy-signed", config_dict=settings)
    assert result["test_result"]["recall@20"] > 0.9
    [path] = (tmp_path / "saved").glob(f"{name}-*.pth")
    config, model, _, train_data, valid_data, test_data = load_data_and_model(str(path))
    assert model.singular_values.numel()
    trainer = trainer_of(config, model)
    trainer.eval_collector.data_collect(train_data)
    assert trainer.evaluate(test_data, load_best_model=False) == result["test_result"]

    fresh = type(model)(config, train_data._dataset)
    trainer = trainer_of(config, fresh)
    trainer.resume_checkpoint(path)
    trainer.fit(train_data, valid_data, saved=False)  # nothing is left to do
    assert fresh.chosen == model.chosen
    assert torch.equal(fresh.score(torch.arange(10)), model.score(torch.arange(10)))
