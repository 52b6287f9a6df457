"""How settings are chosen: what the user sets always holds, and fewer disliked items may cost no more than a price."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from given_weights import WEIGHTS
from hypothesis import given
from hypothesis import strategies as st

from recbole_signed.ssf import FilterSettings
from recbole_signed.ssf.search import AVERSIONS, STRENGTHS, spend, tune
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
START = FilterSettings(dislike_aversion=0.25)


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
    with caplog.at_level(logging.INFO):
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


def validation(value: Callable[[FilterSettings], float], gamma: float = 0.0) -> Any:
    """Return users whose metric is a function of the settings."""
    return SimpleNamespace(gamma=gamma, values=lambda each: np.array([np.full(3, value(s)) for s in each]))


def spent(value: Callable[[FilterSettings], float], price: float, **given: Any) -> FilterSettings:
    options = {"start": START, "timed": True, **given}
    measured = validation(value, options.pop("gamma", 0.0))
    at: Any = lambda settings: settings  # noqa: E731
    return spend(at, measured, options.pop("start"), price, options.pop("timed"), **options)


@given(
    *(st.integers(0, most).map(lambda n: n * 1.03e-3) for most in (200, 100)),
    st.floats(-1, 1),
    st.integers(0, 100).map(lambda n: n * 1e-3),
)
def test_what_is_chosen_is_within_the_price_and_nothing_stronger_is(
    steep: float, steeper: float, best: float, price: float
) -> None:
    def value(s: FilterSettings) -> float:
        return best - abs(best) * (steep * s.dislike_strength + steeper * abs(s.dislike_aversion - 0.25))

    found = spent(value, price)
    # a dislike lifts nothing near it, which the least strength takes: with a price, half of it may be spent below that
    allowed = max(price, steep * STRENGTHS[-1] + price / 2) if price else 0.0
    least = best - abs(best) * allowed
    assert value(found) >= least - 1e-9
    assert found.dislike_strength in (*STRENGTHS, *([] if price else [0.0]))
    assert found.dislike_aversion in (0.25, *AVERSIONS)
    stronger = [each for each in STRENGTHS if each > found.dislike_strength]
    assert all(steep * each > allowed - 1e-9 for each in stronger) or abs(best) < 1e-6
    more = next((each for each in AVERSIONS if each > found.dislike_aversion), None)
    if more is not None and abs(best) > 1e-6:
        assert best - abs(best) * (steep * found.dislike_strength + steeper * (more - 0.25)) < least + 1e-9


def test_what_is_given_or_not_measurable_stays(caplog: pytest.LogCaptureFixture) -> None:
    free = lambda s: 0.5  # noqa: E731
    assert spent(free, 0.01) == FilterSettings(dislike_aversion=AVERSIONS[-1], dislike_strength=1.0)
    start = FilterSettings(dislike_strength=0.3)
    assert spent(free, 0.01, start=start, timed=False).dislike_strength == 0.3
    assert spent(free, 0.01, start=start, fixed={"dislike_strength"}).dislike_strength == 0.3
    assert spent(free, 0.01, fixed={"dislike_aversion"}).dislike_aversion == 0.25
    assert spent(free, 0.01, gamma=1.0).dislike_aversion == 0.25, "the metric has counted the dislikes"
    assert not caplog.records


def test_where_a_dislike_lowers_nothing_near_to_it_one_line_says_so(caplog: pytest.LogCaptureFixture) -> None:
    costly = lambda s: 0.5 - 0.1 * (s.dislike_strength + s.dislike_aversion)  # noqa: E731
    with caplog.at_level(logging.WARNING):
        found = spent(costly, 0.0, start=FilterSettings())
        spent(lambda s: 0.5 - s.dislike_strength, 0.0)  # the aversion costs nothing
        assert spent(costly, 0.001, start=FilterSettings()).dislike_strength == STRENGTHS[-1]
        spent(costly, 0.0, start=FilterSettings(dislike_strength=0.0), fixed={"dislike_strength"})
    assert (found.dislike_strength, found.dislike_aversion) == (0, 0)
    both, strength = (record.message for record in caplog.records)
    assert "lowers nothing that is near to it here, and what many dislike is not held back" in both
    assert "accuracy_price (0)" in both
    assert "lowers nothing that is near to it here:" in strength


def test_a_fit_spends_its_price_on_fewer_disliked_items(prepare_model: Callable[..., Any]) -> None:
    chosen = {}
    for price in (0.0, 0.05, 0.9):
        model, _, parts = prepare_model("SSF", rank=12, accuracy_price=price, valid_metric="NDCG@20", topk=[20])
        model.tune(parts[1])
        model.fit()
        before = replace(model.settings, dislike_strength=0.0)
        model.spend()
        part = Validation.from_loader(parts[1], model.graph, "NDCG@20", 10_000)
        assert part is not None
        at = model._at(part)
        settings = model.settings
        weakest = replace(before, dislike_strength=STRENGTHS[-1])
        value, plain, start = (float(part.values([at(each)]).mean()) for each in (settings, before, weakest))
        least = min(plain - price * plain, start - price / 2 * plain)
        chosen[price] = settings.dislike_strength + settings.dislike_aversion, value - least
    least, middle, strongest = (each for each, _ in chosen.values())
    assert least <= middle <= strongest
    assert strongest > least
    assert chosen[0.05][1] >= -1e-6
