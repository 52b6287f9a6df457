"""What the user sets always holds: ``auto`` chooses the rest."""

from __future__ import annotations

from collections.abc import Callable
from logging import INFO
from typing import Any

import pytest
from given_weights import WEIGHTS

from recbole_signed.ssf.search import tune
from recbole_signed.ssf.validation import Validation

GIVEN: list[dict[str, Any]] = [
    {"dislike_aversion": 2.0, "dislike_weight": 0.9, "cutoff": 8},
    {"dislike_weight": -0.7},
    {"degree_smoothing": 3.0, "popularity_exponent": 0.2},
    {"response_power": 1.5, "rolloff": 6.0, "activity_exponent": 0.5, "popularity_floor": 0.2},
    {"learned_share": 0.9},
    {"learned_share": 0.0, "cutoff": 4},
    {"learned_regularisation": 0.5},
    {"order_weights": WEIGHTS, "dislike_aversion": 1.5, "popularity_exponent": 0.3},
]
OWN = {"SSF": (), "SSFL": ("learned_share", "learned_regularisation"), "SSFT": ("order_weights",)}
"""What a model has beside the parameters of SSF."""


@pytest.mark.parametrize("given", GIVEN, ids=[", ".join(each) for each in GIVEN])
@pytest.mark.parametrize("name", OWN)
def test_given_values_hold_and_the_others_are_chosen(
    name: str, given: dict[str, Any], prepare_model: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    others = {key for model, keys in OWN.items() if model != name for key in keys}
    given = {key: value for key, value in given.items() if key not in others}
    settings: dict[str, Any] = {"rank": 16, "valid_metric": "NDCG@10"}
    preset, _, parts = prepare_model(name, **settings)
    model, _, _ = prepare_model(name, **settings, **given)
    with caplog.at_level(INFO):
        model.tune(parts[1])
    assert {key: model.chosen[key] for key in given} == given
    free = {key for key, value in model.chosen.items() if value != preset.chosen[key]} - given.keys()
    assert free, "nothing else was chosen"
    assert f"given, not chosen: {', '.join(sorted({*given, 'rank'}))}" in caplog.text


def test_the_choice_beside_given_values_is_the_best_of_those_tried(prepare_model: Callable[..., Any]) -> None:
    """A value that the free search would choose anyway, given, leaves the metric as high."""
    model, _, parts = prepare_model("SSF", rank=16, valid_metric="NDCG@10")
    validation = Validation.from_loader(parts[1], model.graph, "NDCG@10", 3000)
    assert validation is not None
    free = tune(model.graph, validation, model.settings)
    bound = tune(model.graph, validation, free.settings, fixed=vars(free.settings).keys())
    assert bound.settings == free.settings
    assert bound.decompositions == 1
    assert bound.evaluations == 1
    assert bound.value == pytest.approx(free.value, abs=0.02)  # the free search started its decomposition warm


def test_null_is_not_given(prepare_model: Callable[..., Any]) -> None:
    model, _, _ = prepare_model("SSF", dislike_aversion=None, cutoff=4)
    assert "cutoff" in model.given
    assert "dislike_aversion" not in model.given
    assert model.settings.dislike_aversion == 0.0
