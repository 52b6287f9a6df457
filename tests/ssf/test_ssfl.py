"""SSF-L: the sum of its two parts, and its choice of parameters; what it has in common with SSF is in test_ssf."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from prepared import trainer_of

from recbole_signed.ssf import SpectralFilter
from recbole_signed.ssf.learned_items import REGULARISATIONS, SHARES, LearnedItems

SETTINGS = {"auto": False, "rank": 20, "cutoff": 6, "learned_rank": 8, "dislike_aversion": 0.5, "popularity_floor": 0.1}


@pytest.fixture
def prepare(prepare_model: Callable[..., Any]) -> Callable[..., Any]:
    return functools.partial(prepare_model, "SSFL")


def test_the_score_is_the_sum_of_both_parts(prepare: Callable[..., Any]) -> None:
    model, _, _ = prepare(**SETTINGS, learned_share=0.8)
    model.fit()
    filter_, _ = SpectralFilter.fit(model.graph, model.settings, iterations=model.iterations)
    learned = LearnedItems.fit(model.graph, filter_, model.learned_settings)
    added = 0.8 * learned.fold_in(model.graph) @ learned.factors.T
    wanted = filter_.scores(model.graph) + added * filter_.factor
    known = filter_.known()
    found = model.score(torch.arange(model.n_users))
    torch.testing.assert_close(found[:, known], wanted[:, known], rtol=1e-4, atol=1e-5)
    assert float(added.std()) > 0.1 * float(filter_.scores(model.graph)[:, known].std())


def test_without_a_share_it_is_the_filter(prepare: Callable[..., Any]) -> None:
    model, _, _ = prepare(**SETTINGS, learned_share=0.0, dislike_strength=0.0)
    model.fit()
    users = torch.arange(model.n_users)
    assert torch.equal(model.score(users), model.filter.scores(model.graph))
    assert model.explain(4, 2).score == float(model.score(torch.tensor([4]))[0, 2])
    assert model.learned_factors.shape[1] == 0


def test_the_gram_matrix_follows_fits_and_checkpoints_and_is_made_once(prepare: Callable[..., Any]) -> None:
    model, _, _ = prepare(**SETTINGS)
    model.fit()
    assert model.learned.gram is model.learned.gram
    first = model.score(torch.tensor([4]))
    state = {name: each.clone() for name, each in model.state_dict().items()}
    model.dislike_aversion = 1.0
    model.chosen_learned = replace(model.learned_settings, learned_regularisation=5.0).to_tensor()
    model.fit()
    torch.testing.assert_close(model.learned.gram, model.learned_factors.T @ model.learned_factors)
    model.load_state_dict(state)
    torch.testing.assert_close(model.learned.gram, model.learned_factors.T @ model.learned_factors)
    torch.testing.assert_close(model.score(torch.tensor([4])), first)


def test_it_chooses_what_is_best_on_validation(prepare: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    model, _, parts = prepare(rank=30, learned_rank=8, valid_metric="NDCG@20", topk=[20], metrics=["NDCG"])
    with caplog.at_level(logging.INFO):
        model.tune(parts[1])
    assert "SSFL chose on validation (NDCG@20" in caplog.text
    assert model.learned_settings.learned_share in (0.0, *SHARES)
    assert model.learned_settings.learned_regularisation in (*REGULARISATIONS, 0.04)
    chosen = model.chosen

    def valid(**settings: Any) -> float:
        again, config, parts = prepare(valid_metric="NDCG@20", topk=[20], metrics=["NDCG"], **settings)
        trainer = trainer_of(config, again)
        return float(trainer.fit(parts[0], parts[1], saved=False)[0])

    without = {**chosen, "auto": False, "dislike_strength": 0.0}  # which is chosen when all else is
    best = valid(**without)
    assert best >= valid(**{**without, "learned_share": 0.0}) - 1e-6
    assert best >= valid(**{**without, "dislike_aversion": 0.5}) - 1e-6


def test_a_fit_takes_over_what_the_choice_left_as_long_as_nothing_is_set(prepare: Callable[..., Any]) -> None:
    model, _, parts = prepare(rank=30, learned_rank=8, learned_share=0.6, valid_metric="NDCG@20")
    model.given = frozenset({"learned_share"})

    def of_fit(*, passes: int) -> torch.Tensor:
        with patch.object(LearnedItems, "fit", wraps=LearnedItems.fit) as fit:
            model.fit()
        assert fit.call_count == passes
        return model.learned_factors

    model.tune(parts[1])
    kept, unit = of_fit(passes=0), model.learned_unit
    assert torch.equal(kept, of_fit(passes=1))
    assert unit == model.learned_unit
    model.tune(parts[1])
    model.chosen_learned = replace(model.learned_settings, learned_regularisation=5.0).to_tensor()
    assert not torch.allclose(kept, of_fit(passes=1))
    model.tune(parts[1])
    model.chosen_settings = replace(model.settings, degree_smoothing=90.0).to_tensor()
    assert not torch.allclose(kept, of_fit(passes=1))
