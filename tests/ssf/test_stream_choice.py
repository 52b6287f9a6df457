"""What a model's settings are chosen on before a stream begins."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import check_refused

from recbole_signed.arrays import begins
from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE, VIEW
from recbole_signed.live.learners.ssf import stream_choice
from recbole_signed.live.learners.ssf.stream_choice import VALID_SHARE, _first_part, _measured, chosen_settings
from recbole_signed.live.store.edges import EdgeArrays
from recbole_signed.ssf.order import WEIGHTS, weights_of
from recbole_signed.ssf.order_weights import Fit
from recbole_signed.ssf.validation import FIRST_ROUND


def edges_of(user: np.ndarray, timestamp: np.ndarray, seed: int = 0, n_items: int = 40) -> EdgeArrays:
    rng = np.random.default_rng(seed)
    kind = rng.choice([LIKE, DISLIKE], len(user), p=[0.8, 0.2]).astype(np.int8)
    item = rng.integers(0, n_items, len(user))
    order = np.lexsort((item, user))
    return EdgeArrays(user[order].astype(np.int64), item[order], kind, timestamp[order].astype(np.int64))


def test_where_users_stay_the_last_tenth_in_time_is_measured_on() -> None:
    rng = np.random.default_rng(1)
    n_users = 2 * FIRST_ROUND
    edges = edges_of(rng.integers(0, n_users, 40 * n_users), rng.permutation(40 * n_users))
    first, users = _first_part(edges, n_users)
    assert users.tolist() == _measured(edges, first, n_users).tolist()
    assert edges.timestamp[first].max() < edges.timestamp[~first].min()
    assert (~first).mean() == pytest.approx(VALID_SHARE, abs=0.001)


@settings(max_examples=50, deadline=None)
@given(counts=st.lists(st.integers(1, 30), min_size=3, max_size=40), seed=st.integers(0, 99))
def test_where_users_come_once_it_is_the_last_tenth_of_each(counts: list[int], seed: int) -> None:
    """Users one after the other: a cut in time has at most one on both sides."""
    user = np.repeat(np.arange(len(counts)), counts)
    rng = np.random.default_rng(seed)
    time = np.arange(len(user))
    shuffled = rng.permutation(len(user))
    edges = edges_of(user[shuffled], time[shuffled], seed)
    first, users = _first_part(edges, len(counts))
    assert users.tolist() == _measured(edges, first, len(counts)).tolist()
    in_time = edges.timestamp < np.quantile(edges.timestamp, 1 - VALID_SHARE)
    if len(_measured(edges, first, len(counts))) == len(_measured(edges, in_time, len(counts))):
        return  # nothing was to be gained
    for each, count in enumerate(counts):
        own = edges.user == each
        assert first[own].sum() == max(1, int(count * (1 - VALID_SHARE)))
        if not first[own].all():
            assert edges.timestamp[own & first].max() < edges.timestamp[own & ~first].min()


def test_users_are_measured_who_have_a_verdict_before_and_a_like_after() -> None:
    first = np.array([True, False])
    cases = {
        (LIKE, LIKE): True,
        (DISLIKE, LIKE): True,
        (VIEW, LIKE): False,
        (LIKE, DISLIKE): False,
        (LIKE, VIEW): False,
    }
    for kinds, measured in cases.items():
        edges = EdgeArrays(np.array([3, 3]), np.array([1, 2]), np.array(kinds, dtype=np.int8), np.array([1, 2]))
        assert _measured(edges, first, 5).tolist() == [3] * measured, kinds


@pytest.mark.parametrize(
    ("model", "given"),
    [
        ("SSF", {"dislike_weight": 2.5}),
        ("SSF", {"degree_smoothing": 77.0, "dislike_aversion": 3.0}),
        ("SSFL", {"dislike_weight": 2.5, "learned_share": 0.7, "learned_regularisation": 0.3}),
        ("SSFT", {"dislike_weight": 2.5, "order_weights": weights_of(None).tolist()}),
    ],
)
def test_what_is_given_stays_and_the_rest_is_chosen_for_it(
    model: str, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is returned is what was measured."""
    rng, measured = np.random.default_rng(3), dict[str, float]()
    edges = edges_of(np.repeat(np.arange(60), 20), rng.permutation(1200))

    def spied(search: Any) -> Any:
        def searched(*args: Any, **more: Any) -> Any:
            found = search(*args, **more)
            measured.update(asdict(found.settings), **asdict(found.tuned.settings) if hasattr(found, "tuned") else {})
            return found

        return searched

    for name in ("tune", "tune_learned"):
        monkeypatch.setattr(stream_choice, name, spied(getattr(stream_choice, name)))
    paid = {"dislike_strength": 0.7, "accuracy_price": 0.0}  # what is paid for is chosen afterwards
    found = chosen_settings(model, edges, 60, 40, {"rank": 8, **paid, **given})
    assert {name: found[name] for name in measured} == measured
    assert {name: found[name] for name in given} == given
    assert found["rank"] == 8
    assert {"dislike_weight", "cutoff", "popularity_floor"} <= measured.keys()


def test_weights_are_fitted_to_what_comes_after_each_of_some_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users come once, so the filter's settings are chosen on the last tenth of each, on other edges."""
    edges = edges_of(np.repeat(np.arange(300), 20), np.arange(6000) * 60_000)
    edges = edges.where(begins(edges.user, edges.item))  # each pair once, as those of a state are
    asked: list[Any] = []
    real = stream_choice.refitted_weights
    monkeypatch.setattr(
        stream_choice, "refitted_weights", lambda *args: asked.append((args, real(*args))) or asked[-1][1]
    )
    found = chosen_settings("SSFT", edges, 300, 40, {"rank": 8, "trend_since": 60.0})
    moments = np.quantile(edges.timestamp, stream_choice.MOMENTS)
    known = Fit(weights_of(None))
    for number, ((fitted, transition, before, seen, since, until, _, sizes, lowers), fit) in enumerate(asked):
        assert (since, sizes) == (60_000.0, (300, 40))
        assert moments[number] - 60_000 <= until < moments[number]
        past = edges.where(edges.timestamp <= until)
        assert fitted.counters.n_likes == (past.kind == LIKE).sum()
        assert len(seen) == (edges.timestamp <= moments[number + 1]).sum()
        assert transition.operator.any()
        assert lowers
        np.testing.assert_array_equal(before.weights, known.weights)
        known = fit
        assert (fit.weights != before.weights).any()
    assert len(asked) == len(stream_choice.MOMENTS) - 1
    np.testing.assert_array_equal(found["order_weights"], known.weights)


def test_a_price_on_dislikes_is_taken_into_account() -> None:
    """Half of the items are disliked, some by most: with a high price they are held back more."""
    rng = np.random.default_rng(6)
    user = np.repeat(np.arange(300), 20)
    edges = edges_of(user, rng.permutation(len(user)))
    bad = edges.item % 2 == 0
    kind = np.where(rng.random(len(user)) < np.where(bad, 0.7 * edges.item / 40, 0.1), DISLIKE, LIKE).astype(np.int8)
    edges = EdgeArrays(edges.user, edges.item, kind, edges.timestamp)
    unpaid = {"rank": 8, "accuracy_price": 0.0}
    plain = chosen_settings("SSF", edges, 300, 40, unpaid)
    priced = chosen_settings("SSF", edges, 300, 40, {**unpaid, "valid_metric": "SignedNDCG@5", "signed_gamma": 4})
    assert priced.keys() == plain.keys()
    assert priced["dislike_aversion"] > plain["dislike_aversion"]
    by_likes, for_free = (
        chosen_settings("SSF", edges, 300, 40, {**unpaid, "signed_gamma": 0, "valid_metric": metric})
        for metric in ("NDCG@5", "SignedNDCG@5")
    )
    assert for_free == by_likes
    wrong = {"rank": 8, "valid_metric": "MRR@5"}
    check_refused("valid_metric is 'MRR@5'", chosen_settings, "SSF", edges, 300, 40, wrong)


def test_a_base_without_a_user_to_measure_on_is_refused() -> None:
    edges = edges_of(np.arange(30), np.arange(30))
    check_refused("has no user to choose settings on", chosen_settings, "SSF", edges, 30, 40, {})
    check_refused("LightGCN can't choose", chosen_settings, "LightGCN", edges, 30, 40, {})


@pytest.mark.parametrize("model", ["DecayPop", "SSFT"])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_trend_is_not_chosen_where_nothing_comes_next(model: str, at_once: bool) -> None:
    time = np.random.default_rng(0).integers(0, 100, 2000) * 86_400_000
    edges = edges_of(np.arange(2000) % 100, np.zeros(2000, dtype=np.int64) if at_once else time)
    edges.kind[edges.timestamp >= np.quantile(edges.timestamp, 0.55)] = LIKE if at_once else DISLIKE
    said = r"has no (events before its last tenth|likes that come after|user).*auto: False"
    check_refused(said, chosen_settings, model, edges, 100, 40, {})


def test_a_trend_is_chosen_on_the_last_tenth_in_time() -> None:
    """Items rise and fall within days: recent likes tell more than all."""
    rng = np.random.default_rng(4)
    user, day = np.repeat(np.arange(300), 20), rng.integers(0, 100, 6000)
    item = (day // 5 * 2 + rng.integers(0, 6, len(day))) % 60
    order = np.lexsort((item, user))
    kind = rng.choice([LIKE, DISLIKE], len(user), p=[0.8, 0.2]).astype(np.int8)
    edges = EdgeArrays(user[order], item[order], kind, (day * 86_400_000)[order])
    assert chosen_settings("DecayPop", edges, 300, 60, {})["half_life"] <= 10
    assert chosen_settings("DecayPop", edges, 300, 60, {"half_life": 77.0})["half_life"] == 77.0
    at_once = EdgeArrays(edges.user, edges.item, edges.kind, np.arange(len(edges)))
    assert chosen_settings("DecayPop", at_once, 300, 60, {})["half_life"] == 1.0  # six seconds tell nothing of days
    weights = dict(zip(WEIGHTS, chosen_settings("SSFT", edges, 300, 60, {})["order_weights"], strict=True))
    assert weights["trend_3d"] > 0.3
    assert weights["trend_3d"] > weights["trend_300d"]
    given = {"order_weights": weights_of(None).tolist()}
    assert chosen_settings("SSFT", edges, 300, 60, given)["order_weights"] == given["order_weights"]
