"""Shortlists from products in bfloat16: the same lists and metrics as all scores in float32."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_signed.graph import SignedGraph
from recbole_signed.graph.top_scores import largest
from recbole_signed.ssf import FilterSettings, SpectralFilter
from recbole_signed.ssf import shortlist as module
from recbole_signed.ssf.item_counters import ItemCounters
from recbole_signed.ssf.search import candidate
from recbole_signed.ssf.shortlist import Candidate, FactorCandidate, Pieces, Rooms, Shortlist, ShortVectors
from recbole_signed.ssf.validation import Validation

N_USERS, N_ITEMS, K = 60, 6000, 10


@pytest.fixture
def anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use shortlists on every processor and in smaller catalogues."""
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda: True)
    monkeypatch.setattr(module, "LONG", 1000)
    monkeypatch.setattr(module, "ITEMS", 16)


@pytest.fixture(scope="module")
def graph() -> SignedGraph:
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(N_USERS), 60)
    item = np.concatenate([rng.choice(N_ITEMS, 60, replace=False) for _ in range(N_USERS)])
    liked = rng.random(len(user)) < 0.7
    return SignedGraph.from_edges((user[liked], item[liked]), (user[~liked], item[~liked]), N_USERS, N_ITEMS)


@pytest.fixture(scope="module")
def fitted() -> SpectralFilter:
    """A filter of items no two of which have the same scores."""
    rng = torch.Generator().manual_seed(7)
    likes, dislikes = torch.randint(1, 50, (2, N_ITEMS), generator=rng).float()
    chosen = FilterSettings(rank=24, cutoff=8, popularity_floor=0.1, popularity_exponent=0.3, dislike_aversion=0.5)
    vectors, values = torch.randn(N_ITEMS, 24, generator=rng) / 80, torch.linspace(1, 0.1, 24)
    return SpectralFilter(vectors, values, ItemCounters.from_counts(likes, dislikes), float(N_USERS), 60.0, chosen)


def hidden_of(graph: SignedGraph) -> tuple[torch.Tensor, torch.Tensor]:
    sides = (graph.likes.tocoo(), graph.dislikes.tocoo())
    row, item = (np.concatenate([getattr(side, name) for side in sides]).astype(np.int64) for name in ("row", "col"))
    order = np.argsort(row, kind="stable")
    return torch.from_numpy(row[order]), torch.from_numpy(item[order])


def validation_of(graph: SignedGraph, metric: str = f"NDCG@{K}") -> Validation:
    rng = np.random.default_rng(3)
    keys = np.unique(np.arange(N_USERS)[:, None] * N_ITEMS + rng.integers(0, N_ITEMS, (N_USERS, 400)))
    return Validation(graph, keys, np.bincount(keys // N_ITEMS, minlength=N_USERS), hidden_of(graph), metric)


def candidates(fitted: SpectralFilter, validation: Validation, short: bool) -> list[FactorCandidate]:
    vectors = ShortVectors(fitted.vectors) if short else None
    projected = fitted.project(validation.users)
    changes: list[dict[str, Any]] = [{}, {"cutoff": 4}, {"dislike_aversion": 0.0}, {"popularity_exponent": 0.0}]
    return [candidate(fitted.changed(**each), projected, validation, vectors) for each in changes]


@pytest.mark.usefixtures("anywhere")
def test_candidates_are_worth_the_same(fitted: SpectralFilter, graph: SignedGraph) -> None:
    validation = validation_of(graph)
    exact = validation.values(candidates(fitted, validation, short=False))
    assert (exact > 0).any()
    np.testing.assert_allclose(validation.values(candidates(fitted, validation, short=True)), exact, rtol=1e-12)


@pytest.mark.usefixtures("anywhere")
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), spread=st.sampled_from([0.0, 1e-4, 1e-2, 1.0, 30.0]), shift=st.floats(-1, 1))
def test_the_best_items_are_found_whatever_the_scores(seed: int, spread: float, shift: float) -> None:
    """Also where they lie too close together for bfloat16, or are not positive: such users are scored exactly."""
    rng = torch.Generator().manual_seed(seed)
    vectors = shift + spread * torch.randn(N_ITEMS, 8, generator=rng)
    factors = torch.randn(12, 8, generator=rng)
    graph = SignedGraph.from_edges(([], []), ([], []), 12, N_ITEMS)
    counters = ItemCounters.from_counts(torch.ones(N_ITEMS), torch.zeros(N_ITEMS))
    made = SpectralFilter(vectors, torch.ones(8), counters, 12.0, 1.0, FilterSettings(rank=8))
    masked = torch.arange(12), torch.randint(0, N_ITEMS, (12,), generator=rng)

    def hide(scores: torch.Tensor) -> None:
        scores[masked] = -torch.inf

    own = FactorCandidate(made, graph, lambda rows: factors[rows], "key", None, ShortVectors(vectors))
    pieces = Pieces(slice(0, 12))
    found = own.best(pieces, hide, K)
    assert found is not None
    exact = own(Pieces(slice(0, 12)))
    hide(exact)
    wanted = exact.topk(K, dim=1).values
    torch.testing.assert_close(found[0], wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(exact.gather(1, found[1]), wanted, rtol=1e-5, atol=1e-6)


def test_too_short_a_list_is_noticed() -> None:
    scores = torch.rand(3, N_ITEMS, generator=torch.Generator().manual_seed(0)) + 1
    wrong = scores.clone()
    wrong[1] += 0.2 * torch.rand(N_ITEMS, generator=torch.Generator().manual_seed(1))  # more than between the best
    found = Shortlist.from_scores(wrong.bfloat16(), K, lambda items: scores.gather(1, items))
    assert 1 in found.doubtful.tolist()
    best = torch.full((1, N_ITEMS), 0.5)
    best[0, 100:140] = 2.0 + torch.arange(40) / 4
    found = Shortlist.from_scores(best.bfloat16(), K, lambda items: best.gather(1, items))
    assert not len(found.doubtful)
    assert set(found.items[0].tolist()) == set(range(140 - module.shortlisted(K), 140))


def test_they_are_for_large_catalogues_and_processors_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda: True)
    large, small = torch.zeros(module.LONG, 2), torch.zeros(module.LONG - 1, 2)
    assert ShortVectors(large).pay_for(20)
    assert not ShortVectors(large).pay_for(200)  # a quarter of the catalogue would be looked at again
    assert not ShortVectors(small).pay
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda: False)
    assert not ShortVectors(large).pay
    assert not ShortVectors(large.to("meta")).pay


@pytest.mark.usefixtures("anywhere")
def test_without_them_all_scores_are_exact(graph: SignedGraph, fitted: SpectralFilter) -> None:
    validation = validation_of(graph)
    pieces = Pieces(slice(0, 5))
    plain = candidates(fitted, validation, short=False)[0]
    short = candidates(fitted, validation, short=True)[0]
    strange = replace(short, strangers=torch.ones(N_USERS, 1, dtype=torch.bool))
    assert plain.best(pieces, lambda _: None, K) is None
    assert strange.best(pieces, lambda _: None, K) is None
    assert short.best(pieces, lambda _: None, K) is not None
    as_candidate: Candidate = short
    torch.testing.assert_close(as_candidate(Pieces(slice(0, 5))), fitted.scores(graph.rows(np.arange(5))))


def test_memory_is_used_again_where_it_fits() -> None:
    rooms = Rooms()
    first = rooms.take("a", (4, 5))
    assert rooms.take("a", (2, 5)).data_ptr() == first.data_ptr()
    assert rooms.take("b", (2, 5)).data_ptr() != first.data_ptr()
    assert rooms.take("a", (2, 5), torch.bfloat16).dtype == torch.bfloat16
    assert rooms.take("a", (9, 5)).shape == (9, 5)


def test_largest_positive_is_largest() -> None:
    scores = torch.randn(7, 3000, generator=torch.Generator().manual_seed(4)).bfloat16()
    values, places = module.largest_positive(scores, 20)
    torch.testing.assert_close(values, largest(scores.float(), 20)[0])
    torch.testing.assert_close(scores.float().gather(1, places), values)
    few = -scores.abs()
    few[:, ::500] = 1.0
    values, _ = module.largest_positive(few, 20)
    assert bool((values[:, :6] == 1).all())
    assert bool((values[:, 6:] <= 0).all())
