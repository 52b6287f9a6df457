"""The item side under a stream: counters held against a full count, and the best items against all scores."""

from __future__ import annotations

from dataclasses import replace

import edge_streams as streams
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_signed.live import LIKE
from recbole_signed.live.learners.ssf import live_items
from recbole_signed.live.learners.ssf.live_items import STALE, LiveCounters, TopItems
from recbole_signed.ssf import FilterSettings
from recbole_signed.ssf.filter import SpectralFilter
from recbole_signed.ssf.item_counters import ExpectedCounts, ItemCounters

N_ITEMS, K = 600, 12

# ---- counters ----

SOME = FilterSettings(dislike_aversion=0.7, popularity_exponent=0.2)
LITTLE = FilterSettings(dislike_aversion=1e-4)
"""With which a bound holds for long: what comes meanwhile gets one of its own."""


def predicted(n_items: int) -> ExpectedCounts:
    rng = np.random.default_rng(n_items)
    some = torch.from_numpy(rng.random(n_items) < 0.5)
    likes, dislikes = (torch.from_numpy(rng.random(n_items)).float() * 5 * some for _ in range(2))
    return ExpectedCounts(likes, dislikes, some, 2.0, 0.3, 1.5)


announced = st.tuples(st.sampled_from(["predicted", "nothing"]), st.integers(20, 90))
"""What is expected from now on, and of how many items."""


@settings(max_examples=30)
@given(st.lists(st.one_of(streams.batches, announced), max_size=6), st.sampled_from([SOME, LITTLE]))
def test_counters_are_those_of_a_full_count(steps: list, s: FilterSettings) -> None:
    """Whatever came in between: events, new items, predictions; asked for after each step, or at the end alone."""
    always, seldom = counters = LiveCounters(), LiveCounters()
    stream, expected, n_items = streams.small_stream(), None, streams.N_ITEMS
    for each in counters:
        each.start(stream.edges.item_likes, stream.edges.item_dislikes)
        each.ceiling(s)
    for step in steps:
        if isinstance(step, tuple):
            kind, n_items = step[0], max(n_items, step[1])
            expected = predicted(n_items) if kind == "predicted" else None
            for each in counters:
                each.grow(n_items)
                each.expect(expected)
        else:
            for batch in step:
                changes = stream.take(batch)
                for each in counters:
                    each.update(stream.edges, changes.items)
            n_items = max(n_items, stream.edges.n_items)
        check(always, stream, expected, n_items, s)
    check(seldom, stream, expected, n_items, s)


def check(
    counters: LiveCounters, stream: streams.Stream, expected: ExpectedCounts | None, n_items: int, s: FilterSettings
) -> None:
    counts = torch.zeros(2, n_items)
    for own, edges in zip(counts, (stream.edges.item_likes, stream.edges.item_dislikes), strict=True):
        own[: len(edges)] = torch.from_numpy(edges.copy())
    wanted = ItemCounters.from_counts(*counts, expected and expected.grown(n_items))
    found = counters.now
    for name in ("likes", "dislikes", "popularity", "unknown"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name))
    assert (found.n_likes, found.n_dislikes) == (wanted.n_likes, wanted.n_dislikes)
    assert (found.expected is None) == (expected is None)
    torch.testing.assert_close(found.share(), wanted.share())
    ceiling, factor = counters.ceiling(s), wanted.factor(s)
    assert (ceiling is None) == (factor is None)
    if ceiling is not None and factor is not None:
        assert len(ceiling) == n_items
        told = np.setdiff1d(np.arange(n_items), wanted.unknown.numpy())
        ratio = ceiling[told] / factor.numpy()[told]
        assert ratio.min() >= 1.0
        assert ratio.max() < 1 + 3 * STALE


def test_a_bound_holds_while_the_means_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made again for the items of an event alone."""
    stream, counters, asked = streams.small_stream(), LiveCounters(), []
    counters.start(stream.edges.item_likes, stream.edges.item_dislikes)
    assert counters.ceiling(LITTLE) is not None
    real = ItemCounters.factor

    def watched(self: ItemCounters, s: FilterSettings, items: torch.Tensor | None = None) -> torch.Tensor | None:
        asked.append(None if items is None else items.tolist())
        return real(self, s, items)

    monkeypatch.setattr(ItemCounters, "factor", watched)
    counters.update(stream.edges, stream.take([(3, 5, LIKE), (4, 9, LIKE)]).items)
    assert counters.ceiling(LITTLE) is not None
    assert asked == [[5, 9]]
    assert counters.ceiling(SOME) is not None  # another aversion has another bound
    assert asked == [[5, 9], None]


@pytest.mark.parametrize("expected", [None, predicted(streams.N_ITEMS)], ids=["", "predicted"])
def test_bounds_and_predictions_grow_with_the_items(expected: ExpectedCounts | None) -> None:
    """Beyond the room that they were made with."""
    stream, counters = streams.small_stream(), LiveCounters()
    counters.start(stream.edges.item_likes, stream.edges.item_dislikes)
    counters.expect(expected)
    for item in range(streams.N_ITEMS, 4 * streams.N_ITEMS):
        counters.update(stream.edges, stream.take([(3, item, LIKE)]).items)
        check(counters, stream, expected, item + 1, LITTLE)


# ---- the best items ----


def filter_of(seed: int, s: FilterSettings, *, features: bool = False) -> SpectralFilter:
    """Return a filter of items of which a tenth has no edge, with leading dimensions that hold most of a score."""
    rng = np.random.default_rng(seed)
    some = torch.arange(N_ITEMS) % 10 > 0
    likes, dislikes = (torch.from_numpy(rng.integers(0, top, N_ITEMS)).float() * some for top in (9, 4))
    counters = ItemCounters.from_counts(likes, dislikes, predicted(N_ITEMS) if features else None)
    vectors = torch.from_numpy(rng.normal(size=(N_ITEMS, K)) * 0.7 ** np.arange(K)).float()
    vectors[counters.unknown] = 0.0
    values = torch.linspace(1.0, 0.2, K)
    return SpectralFilter(vectors, values, counters, 300.0, 8.0, replace(s, rank=K, cutoff=6))


FACTORS = {
    "as vectors are": 0.7 ** np.arange(K),
    "in the tail alone": np.arange(K) >= live_items.HEAD,
    "in the head alone": np.arange(K) < live_items.HEAD,
    "nothing": np.zeros(K),
}


@pytest.fixture
def _all_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where so many items are left that scoring all is as fast."""
    monkeypatch.setattr(live_items, "FIRST", 30)
    monkeypatch.setattr(live_items, "SHARE", 1.0)


@pytest.mark.usefixtures("_all_are_told")
@pytest.mark.parametrize("features", [False, True], ids=["", "predicted"])
@pytest.mark.parametrize("scale", list(FACTORS))
@pytest.mark.parametrize(
    "s",
    [FilterSettings(popularity_floor=0.1), FilterSettings(popularity_floor=0.0), SOME],
    ids=["no factor", "no popularity", "a factor"],
)
def test_the_best_are_those_of_all_scores(s: FilterSettings, scale: str, features: bool) -> None:
    for seed in range(4):
        fitted, rng = filter_of(seed, s, features=features), np.random.default_rng(seed)
        factors = torch.from_numpy(rng.normal(size=K) * FACTORS[scale]).float()
        hidden = rng.choice(N_ITEMS, 40, replace=False)
        scores = fitted.scores_of(factors[None], torch.arange(N_ITEMS)[None], None, fitted.strangers(factors[None]))[0]
        scores[torch.from_numpy(hidden)] = -torch.inf
        wanted = scores.topk(10).values.numpy()
        found = best_of(fitted, factors, 10, hidden)
        assert found is not None
        items, values = found
        assert len(set(items.tolist())) == 10
        np.testing.assert_allclose(values, wanted, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(scores.numpy()[items], values, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("_all_are_told")
def test_nothing_is_told_where_fewer_items_have_an_edge() -> None:
    """Those without one follow in an order that this does not know of."""
    fitted = filter_of(0, SOME)
    known = torch.nonzero(fitted.known()).ravel().numpy()
    factors = torch.from_numpy(FACTORS["as vectors are"]).float()
    exact = best_of(fitted, factors, 12, known[12:])
    assert exact is not None
    np.testing.assert_array_equal(np.sort(exact[0]), known[:12])
    assert best_of(fitted, factors, 13, known[12:]) is None
    assert best_of(fitted, factors, 1, known) is None


def best_of(
    fitted: SpectralFilter, factors: torch.Tensor, k: int, hidden: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    counters = LiveCounters()
    counters.start(fitted.counters.likes.numpy(), fitted.counters.dislikes.numpy())
    counters.expect(fitted.counters.expected)
    # with room for more items than there are
    table = np.concatenate([fitted.vectors.numpy(), np.full((50, K), 9.0, dtype=np.float32)])
    return TopItems(table).best(fitted, factors, k, hidden, counters.ceiling(fitted.settings))
