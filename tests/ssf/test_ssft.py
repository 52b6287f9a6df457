"""SSF-T inside RecBole: its formula, explanations, its choice of parameters, and what it is without times."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from given_weights import WEIGHTS
from order_features import features_of
from prepared import trainer_of
from refusals import check_refused

from recbole_signed.counts import PairCounts
from recbole_signed.sequences import Sequences
from recbole_signed.ssf import SSF, SpectralFilter, TransitionSums, order
from recbole_signed.ssf import ssf as ssf_module
from recbole_signed.ssf.order import FEATURES, Order, OrderFilter, recent_of, weights_of
from recbole_signed.ssf.order_weights import Likes, fitted_weights, sharpened
from recbole_signed.ssf.ssft import SSFT
from recbole_signed.ssf.transition import Transition, leading
from recbole_signed.ssf.user_edges import UserEdges
from recbole_signed.ssf.validation import Validation

FIXED: dict[str, Any] = {
    "auto": False,
    "rank": 12,
    "cutoff": 6,
    "dislike_aversion": 0.5,
    "order_weights": WEIGHTS,
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


def verdicts(parts: Any) -> tuple[np.ndarray, ...]:
    """Return user, item, whether it is a like, and time in milliseconds, of the training part."""
    dataset = parts[0]._dataset
    tables = [(dataset.inter_feat, dataset.times("inter_feat")), (dataset.neg_feat, dataset.times("neg_feat"))]
    user, item = (np.concatenate([table[name].numpy() for table, _ in tables]) for name in ("user_id", "item_id"))
    time = np.concatenate([1000.0 * time for _, time in tables])
    return user, item, np.arange(len(user)) < len(tables[0][0]), time


def made_of(model: Any, columns: tuple[np.ndarray, ...], since: float = 0.0) -> OrderFilter:
    """Return what the model is to be of verdicts alone, with its settings and weights."""
    user, item, like, time = columns
    sequences = Sequences.from_edges(user, item, like, time, model.n_users)
    taste, _ = SpectralFilter.fit(model.graph, model.settings)
    operator = torch.from_numpy(TransitionSums.from_sequences(sequences, leading(taste.vectors)).solve())
    pairs, recent = (
        PairCounts.from_sequences(sequences, model.n_items),
        recent_of(item, time, like, model.n_items, since),
    )
    return OrderFilter(taste, Order(model.order_weights.numpy(), pairs, recent, Transition(operator)))


def edges_of(model: Any, columns: tuple[np.ndarray, ...]) -> UserEdges:
    user, item, like, time = columns
    sequences = Sequences.from_edges(user, item, like, time, model.n_users)
    return UserEdges.from_graph(model.graph, model.settings.dislike_weight, sequences)


@pytest.mark.parametrize("since", [0, 1_600_500_000])
def test_scores_are_those_of_the_filter_of_its_verdicts(prepare: Callable[..., Any], since: int) -> None:
    model, _, parts = prepare(**FIXED, trend_since=since)
    model.fit()
    columns = verdicts(parts)
    wanted = made_of(model, columns, 1000.0 * since).scores(edges_of(model, columns))
    torch.testing.assert_close(model.score(everyone(model)), wanted, rtol=1e-3, atol=1e-3)
    other = made_of(model, columns, 0.0 if since else 1.6005e12).scores(edges_of(model, columns))
    assert (other - wanted).abs().max() > 0.01


def test_an_explanation_sums_to_the_score_and_tells_taste_from_recency(prepare: Callable[..., Any]) -> None:
    fitted, _, parts = prepare(**FIXED)
    fitted.fit()
    features = features_of(fitted.filter, edges_of(fitted, verdicts(parts)))
    for user, item in ((4, 9), (11, 3), (17, 20)):
        told = fitted.explain(user, item)
        assert told.recency is not None
        assert np.abs(told.recency).max() > 1e-2
        assert told.ranked == pytest.approx(float(fitted.judged(torch.tensor([user]))[0, item]), abs=1e-4)
        assert told.contributions.sum() + told.prior == pytest.approx(told.score, abs=1e-4)
        assert told.factor == 1.0
        fitted.dislike_strength, before = 0.0, fitted.dislike_strength  # with the newest dislike among what it met
        told = fitted.explain(user, item)
        fitted.dislike_strength = before
        assert told.recency is not None
        assert told.score == pytest.approx(float(fitted.score(torch.tensor([user]))[0, item]), abs=1e-4)
        taste = features[user, FEATURES.index("taste"), item]
        assert (told.contributions - told.recency).sum() == pytest.approx(float(taste) * 0.9, abs=1e-4)


def test_without_times_it_is_ssf(prepare_model: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    settings = {key: FIXED[key] for key in ("auto", "rank", "cutoff", "dislike_aversion")}
    settings |= {"popularity_floor": 0.3, "dislike_strength": 0.0}  # which dislikes are new, times tell
    untimed = {"load_col": {"inter": ["user_id", "item_id", "sign"]}, "TIME_FIELD": None}
    caplog.set_level(logging.WARNING)
    (model, *_), (plain, *_) = prepare_model("SSFT", **settings, **untimed), prepare_model("SSF", **settings)
    model.fit()
    plain.fit()
    torch.testing.assert_close(model.score(everyone(model)), plain.score(everyone(plain)))
    assert "SSFT is SSF here" in caplog.text
    told, wanted = model.explain(4, 9), plain.explain(4, 9)
    np.testing.assert_allclose(told.contributions, wanted.contributions)
    assert told.trend == 0.0
    assert told.recency is None


def test_without_times_a_choice_is_that_of_ssf(prepare_model: Callable[..., Any]) -> None:
    untimed = {"load_col": {"inter": ["user_id", "item_id", "sign"]}, "TIME_FIELD": None, "rank": 12}
    chosen = []
    for name in ("SSF", "SSFT"):
        model, config, parts = prepare_model(name, **untimed)
        trainer_of(config, model).fit(parts[0], parts[1], saved=False)
        chosen.append(model.chosen)
    assert chosen[0].items() <= chosen[1].items()
    assert chosen[1]["order_weights"] == weights_of(None).tolist()


def trained(prepare: Callable[..., Any], **settings: Any) -> tuple[Any, Any, Any]:
    model, config, parts = prepare(**{"rank": 12, "valid_metric": "NDCG@10", **TIME_SPLIT, **settings})
    trainer = trainer_of(config, model)
    trainer.fit(parts[0], parts[1], saved=False, show_progress=False)
    return model, parts, trainer._ranking(parts[1])


def test_its_weights_are_those_of_maximum_likelihood_on_validation_sharpened(
    prepare: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    model, parts, loader = trained(prepare, dislike_strength=0.0, dislike_aversion=0.0)
    assert "SSFT chose on validation (NDCG@10" in caplog.text
    validation = Validation.from_loader(loader, model.graph, "NDCG@10", 3000, new=True)
    assert validation is not None
    assert validation.numbers is not None
    numbers, columns = validation.numbers, verdicts(parts)
    sequences = edges_of(model, columns).sequences
    assert sequences is not None

    def edges(rows: slice) -> UserEdges:
        own = sequences.of_users(numbers[rows])
        return UserEdges.from_graph(model.graph.rows(numbers[rows]), model.settings.dislike_weight, own)

    likes = Likes.from_validation(made_of(model, columns), edges, validation)
    wanted, _ = sharpened(likes, fitted_weights(likes).weights)
    np.testing.assert_allclose(model.order_weights, wanted, rtol=1e-2, atol=1e-3)
    assert model.chosen["order_weights"] == model.order_weights.tolist()
    assert model.live_settings == {"choose_again": 300}
    scores = made_of(model, columns).scores(edges_of(model, columns))
    torch.testing.assert_close(model.score(everyone(model)), scores, rtol=1e-3, atol=1e-3)


def test_weights_that_are_null_are_the_preset_ones_and_wrong_ones_are_refused(prepare: Callable[..., Any]) -> None:
    fixed, *_ = prepare(**{**FIXED, "order_weights": None})
    assert fixed.chosen["order_weights"] == weights_of(None).tolist()
    check_refused("give 22 numbers", prepare, order_weights=[1, 2, 3])


def test_users_who_are_new_are_among_those_whose_likes_the_weights_are_fitted_to(prepare: Callable[..., Any]) -> None:
    """Their next likes tell of popularity and trends."""
    with patch.object(Validation, "from_loader", side_effect=Validation.from_loader) as asked:
        model, *_ = trained(prepare)
    assert any(each.kwargs.get("new") for each in asked.call_args_list)
    assert model.chooses_in_time


def test_what_is_kept_of_scores_changes_no_choice(prepare: Callable[..., Any]) -> None:
    """While what ``accuracy_price`` pays for is chosen."""
    chosen = []
    for kept in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not kept:
                patch.setattr(SSFT, "spend", SSF.spend)
            model, *_ = trained(prepare, accuracy_price=0.2)
        chosen.append((model.chosen, model.settings_ranked))
        assert model._known is None
    assert chosen[0] == chosen[1]
    assert chosen[0][0]["dislike_strength"] > 0


def test_a_checkpoint_holds_all_of_it(prepare: Callable[..., Any], fitted: Any) -> None:
    again, *_ = prepare(**{**FIXED, "order_weights": None, "cutoff": 2})
    again.load_state_dict(fitted.state_dict())
    assert again.chosen == fitted.chosen
    torch.testing.assert_close(again.score(everyone(again)), fitted.score(everyone(fitted)))


def test_a_checkpoint_from_before_two_features_opens_without_them(
    prepare: Callable[..., Any], fitted: Any, caplog: pytest.LogCaptureFixture
) -> None:
    again, *_ = prepare(**FIXED)
    sharp = np.isin(order.WEIGHTS, order.SHARP)
    again.load_state_dict(fitted.state_dict() | {"order_weights": torch.tensor(WEIGHTS)[~sharp].double()})
    assert again.chosen["order_weights"] == pytest.approx(np.where(sharp, 0.0, WEIGHTS))
    assert "older SSF-T" in caplog.text


def test_a_second_fit_gives_the_same(fitted: Any) -> None:
    before = fitted.score(everyone(fitted))
    fitted.fit()
    torch.testing.assert_close(fitted.score(everyone(fitted)), before)


def with_fewer_likes(train: Any) -> Any:
    """Return a training part without half of the likes of user 4."""
    likes = train.inter_feat
    kept = np.flatnonzero((likes["user_id"].numpy() != 4) | (np.arange(len(likes)) % 2 == 0))
    other = train.copy(likes[kept])
    other._row_keys = {**train._row_keys, "inter_feat": train._row_keys["inter_feat"].take(kept)}
    return other


@pytest.mark.parametrize("name", ["SSF", "SSFT"])
def test_what_users_are_ranked_by_follows_other_histories(name: str, prepare_model: Callable[..., Any]) -> None:
    model, _, parts = prepare_model(name, auto=False, rank=12, cutoff=6, dislike_strength=0.5)
    model.fit()
    before, train = model.judged(everyone(model)), parts[0]._dataset
    near = model._personal.near(np.arange(1, 9))
    model.read_histories(with_fewer_likes(train))
    found, others = model.judged(everyone(model)), torch.arange(model.n_users) != 4
    torch.testing.assert_close(found[others], before[others])
    assert not torch.allclose(found[4], before[4], rtol=1e-2)
    np.testing.assert_array_equal(model._personal.near(np.arange(1, 9)).items, near.items)


@pytest.mark.parametrize("name", ["SSF", "SSFT"])
def test_many_users_are_ranked_part_by_part(
    name: str, prepare_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, *_ = prepare_model(name, auto=False, rank=12, cutoff=6, dislike_strength=0.5)
    model.fit()
    whole, users = model.judged(everyone(model)), everyone(model).flip(0)
    monkeypatch.setattr(ssf_module, "AT_A_TIME", 20 * model.n_items)
    torch.testing.assert_close(model.judged(users), whole.flip(0))


def test_other_histories_are_read_and_nothing_is_counted_again(prepare: Callable[..., Any], fitted: Any) -> None:
    """The scores of a user change with its own history alone, and are those of what was counted before."""
    *_, parts = prepare(**FIXED)
    train, counted, before = parts[0]._dataset, made_of(fitted, verdicts(parts)), fitted.score(everyone(fitted))
    other = with_fewer_likes(train)
    fitted.read_histories(other)
    found = fitted.score(everyone(fitted))
    wanted = counted.scores(edges_of(fitted, verdicts([SimpleNamespace(_dataset=other)])))
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
    assert (found[4] - before[4]).abs().max() > 0.1
    others = torch.arange(len(found)) != 4
    torch.testing.assert_close(found[others], before[others])
