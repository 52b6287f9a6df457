"""SSF-T inside RecBole: its formula, explanations, its choice of parameters, and what it is without times."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from recbole.quick_start import run_recbole
from recbole.utils import get_trainer

from recbole_signed.graph import SignedGraph
from recbole_signed.ssf import FilterSettings, Sequences, SpectralFilter, TransitionSums
from recbole_signed.ssf.settings import TimeSettings
from recbole_signed.ssf.transition import sources_now
from recbole_signed.ssf.trend import Trend
from recbole_signed.ssf.validation import Validation

FIXED: dict[str, Any] = {
    "auto": False,
    "rank": 12,
    "cutoff": 6,
    "popularity_floor": 0.3,
    "popularity_exponent": 0.2,
    "dislike_aversion": 0.5,
    "transition_rank": 8,
    "transition_share": 0.7,
    "half_life": 0.001,
    "popularity_half_life": 0.004,
}

TIME_SPLIT = {"eval_args": {"order": "TO", "split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "none"}}


@pytest.fixture
def prepare(prepare_model: Callable[..., Any]) -> Callable[..., Any]:
    return functools.partial(prepare_model, "SSFT")


@pytest.fixture
def fitted(prepare: Callable[..., Any]) -> Any:
    model, *_ = prepare(**FIXED)
    model.fit()
    return model


def everyone(model: Any) -> torch.Tensor:
    return torch.arange(model.n_users)


def test_scores_are_the_formula(fitted: Any) -> None:
    s = fitted.time_settings
    plain = fitted.filter
    z = plain.fold_in(fitted.graph).double().numpy()  # a graph has no order
    vectors = fitted.item_factors.double().numpy()
    sequences: Sequences = fitted.sequences
    moved = sources_now(sequences, fitted.item_factors[:, :8].numpy(), s.scales) @ plain.transition.operator.numpy()
    length = [np.linalg.norm(each, axis=1, keepdims=True) for each in (z, moved)]
    z[:, :8] += np.where(length[1] > 0, 0.7 * length[0] / np.maximum(length[1], 1e-12), 0) * moved
    time = fitted.exposures.time
    count = np.bincount(fitted.exposures.item, minlength=fitted.n_items)

    def trend_of(half_life: float) -> np.ndarray:
        weight = np.exp2((time - time.max()) / 86_400_000 / half_life)
        recent = np.bincount(fitted.exposures.item, weights=weight, minlength=fitted.n_items)
        recent *= weight.sum() / np.square(weight).sum() / 2
        return (recent + 2) / (count * recent.sum() / count.sum() + 2)

    trend = trend_of(0.001)
    wanted = (z @ vectors.T * trend**0.5 + plain.prior.numpy()) * plain.factor.numpy()
    wanted /= np.where(wanted < 0, np.square(plain.aversion.numpy()), 1)
    known = count > 0
    np.testing.assert_allclose(fitted.score(everyone(fitted)).numpy()[:, known], wanted[:, known], rtol=1e-3, atol=1e-5)
    assert np.ptp(trend[known]) > 0.1
    popularity = np.log1p(fitted.item_likes.numpy() * trend_of(0.004))
    nobody = (plain.prior * plain.factor / plain.aversion).numpy()  # a user without edges: no degrees
    np.testing.assert_allclose(nobody[known] / nobody.max(), popularity[known] / popularity.max(), rtol=1e-4)


def test_an_item_that_is_disliked_alone_has_a_score_where_dislikes_do_not_count() -> None:
    """Its degree of 0 to a power is 0, by which the share of popularity is not to be divided."""
    likes, dislikes = (
        (np.array(users), np.array(items)) for users, items in (([0, 1, 1], [0, 0, 1]), ([0, 1], [2, 2]))
    )
    graph = SignedGraph.from_edges(likes, dislikes, 2, 4)
    plain, _ = SpectralFilter.fit(
        graph, FilterSettings(dislike_weight=0.0, degree_smoothing=0.0, rank=2, popularity_exponent=0.3)
    )
    counts = torch.tensor([1.0, 0.5, 1.0, 0.0])
    trend = Trend.of(counts, counts, torch.tensor([2.0, 1.0, 2.0, 0.0]), TimeSettings())
    scores = replace(plain, trend=trend).scores(graph)
    assert scores.isfinite().all()
    assert scores.argmax(dim=1).tolist() == plain.scores(graph).argmax(dim=1).tolist()


@contextlib.contextmanager
def strength(model: Any, value: float) -> Iterator[None]:
    before, model.dislike_strength = model.dislike_strength, value
    yield
    model.dislike_strength = before


def test_an_explanation_sums_to_the_score_and_tells_taste_from_recency(fitted: Any) -> None:
    for user, item in ((4, 9), (11, 3), (17, 20)):
        told = fitted.explain(user, item)
        assert told.recency is not None
        assert np.abs(told.recency).max() > 1e-4
        assert told.ranked == pytest.approx(float(fitted.judged(torch.tensor([user]))[0, item]))
        assert (told.contributions.sum() * told.trend + told.prior) * told.factor == pytest.approx(told.score, rel=1e-4)
        with strength(fitted, 0.0):  # with the newest dislike among what the user met
            told, taste = fitted.explain(user, item), fitted.filter.explain(fitted.graph.rows([user]), item)
            assert told.recency is not None
            assert told.score == pytest.approx(float(fitted.score(torch.tensor([user]))[0, item]))
        np.testing.assert_allclose(told.contributions - told.recency, taste.contributions, rtol=1e-6)


@pytest.mark.parametrize("without", ["time", "shares"])
def test_where_time_says_nothing_it_is_ssf(
    prepare_model: Callable[..., Any], caplog: pytest.LogCaptureFixture, without: str
) -> None:
    settings = {key: FIXED[key] for key in ("auto", "rank", "cutoff", "popularity_floor", "dislike_aversion")}
    settings |= {"dislike_strength": 0.0}  # which dislikes are new, times tell
    more: dict[str, Any] = {"transition_share": 0, "trend_exponent": 0, "recent_popularity": 0}
    if without == "time":
        more = {"load_col": {"inter": ["user_id", "item_id", "sign"]}, "TIME_FIELD": "nothing"}
    caplog.set_level(logging.WARNING)
    (model, *_), (plain, *_) = prepare_model("SSFT", **settings, **more), prepare_model("SSF", **settings)
    model.fit()
    plain.fit()
    torch.testing.assert_close(model.score(everyone(model)), plain.score(everyone(plain)))
    assert ("SSFT is SSF here" in caplog.text) == (without == "time")
    told, wanted = model.explain(4, 9), plain.explain(4, 9)
    np.testing.assert_allclose(told.contributions, wanted.contributions)
    assert told.trend == 1.0


def test_it_chooses_and_what_is_set_holds(prepare: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    model, config, parts = prepare(rank=12, half_life=0.02, transition_share=1.0, valid_metric="NDCG@10", **TIME_SPLIT)
    assert model.given & vars(model.time_settings).keys() == {"half_life", "transition_share"}
    trainer = get_trainer(config["MODEL_TYPE"], "SSFT")(config, model)
    trainer.fit(parts[0], parts[1], saved=False, show_progress=False)
    assert "SSFT chose on validation (NDCG@10" in caplog.text
    assert model.chosen["half_life"] == 0.02
    assert model.chosen["transition_share"] == 1.0
    validation = Validation.from_loader(trainer._ranking(parts[1]), model.graph, "NDCG@10", 3000, new=True)
    assert validation is not None
    assert validation.numbers is not None
    (standing,) = validation.contest([lambda pieces: model.score(torch.from_numpy(validation.numbers[pieces.rows]))])
    assert f"NDCG@10 {standing.value:.4f}" in caplog.text  # what it measured is what it has become


def test_the_transition_of_a_large_graph_is_chosen_as_a_part_of_its_users_teaches_it(
    prepare: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: list[tuple[int, int]] = []
    of = TransitionSums.of.__func__  # type: ignore[attr-defined]

    def recorded(cls: type, sequences: Sequences, *args: Any) -> Any:
        found = of(cls, sequences, *args)
        taught.append((len(sequences.item), found.n_likes))
        return found

    monkeypatch.setattr(TransitionSums, "of", classmethod(recorded))
    model, _, parts = prepare(rank=12, transition_share=0.5, **TIME_SPLIT)
    n_events = len(model.sequences.item)
    model.tune(parts[1])
    (everyone_teaches, n_likes), *_ = taught
    assert {each for each, _ in taught} == {n_events} == {everyone_teaches}
    taught.clear()
    monkeypatch.setattr("recbole_signed.ssf.ssft.SEARCH_EDGES", n_events - 1)
    monkeypatch.setattr("recbole_signed.ssf.ssft.LEARNED_EDGES", n_events // 3)
    model.tune(parts[1])
    assert len(taught) == 2  # of each set of scales
    assert all(n_events // 6 < each <= n_events // 3 for each, _ in taught)
    model.fit()
    assert taught[-1][0] == n_events  # the fit learns from all
    assert {each for _, each in taught} == {n_likes}  # of each user as many likes


def test_the_choice_is_the_same_whatever_is_kept_of_the_scores(
    prepare: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All scores of the best settings so far, some or none: they are worked out again less often, that is all."""
    monkeypatch.setattr("recbole_signed.ssf.validation.FIRST_ROUND", 5)
    monkeypatch.setattr("recbole_signed.ssf.validation.users_at_a_time", lambda *_: 2)
    made = []
    whole = SpectralFilter.exposure_of

    def counted(self: SpectralFilter, *args: Any) -> torch.Tensor:
        made.append(1)
        return whole(self, *args)

    monkeypatch.setattr(SpectralFilter, "exposure_of", counted)
    chosen, times = [], []
    for cells in (0, 500, 10**9):
        monkeypatch.setattr("recbole_signed.ssf.time_search.KEPT_CELLS", cells)
        model, config, parts = prepare(rank=12, valid_metric="NDCG@10", **TIME_SPLIT)
        trainer = get_trainer(config["MODEL_TYPE"], "SSFT")(config, model)
        made.clear()
        model.tune(trainer._ranking(parts[1]))
        chosen.append((model.chosen, model.settings_ranked))
        times.append(len(made))
    assert chosen[0] == chosen[1] == chosen[2]
    assert times[0] > times[1] > times[2]


def test_it_runs_saves_and_loads_through_recbole(tmp_path: Any, toy_root: Any) -> None:
    settings = {"data_path": str(toy_root), "checkpoint_dir": str(tmp_path), "rank": 8, "topk": [5], "state": "ERROR"}
    result = run_recbole(model="SSFT", dataset="toy-signed", config_dict={**settings, "valid_metric": "NDCG@5"})
    assert 0 < result["test_result"]["ndcg@5"] <= 1


def test_a_checkpoint_holds_all_of_it(prepare: Callable[..., Any], fitted: Any) -> None:
    again, *_ = prepare(**{**FIXED, "transition_share": 0.1, "half_life": 3.0})
    again.load_state_dict(fitted.state_dict())
    assert (
        again.time_settings
        == fitted.time_settings
        == TimeSettings(transition_rank=8, transition_share=0.7, half_life=0.001, popularity_half_life=0.004)
    )
    torch.testing.assert_close(again.score(everyone(again)), fitted.score(everyone(fitted)))
