"""What users are ranked by under a stream, and the ways to the best items that do not score all."""

from __future__ import annotations

import copy
from typing import Any

import edge_streams as streams
import numpy as np
import pytest
import torch
from edge_streams import Stream
from refusals import check_refused
from verdict_reference import Person

from recbole_signed.graph.personal_verdict import LEAST_STOOD, STOOD
from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE, UNDISLIKE, UNLIKE
from recbole_signed.live.learners import base, make_learner
from recbole_signed.live.learners.asked import OwnEdges
from recbole_signed.live.learners.base import Neighbours
from recbole_signed.live.learners.ease import EaseLearner
from recbole_signed.live.learners.ranking import Judged, best_items, ranked_scores
from recbole_signed.live.learners.signed_ials import LeastSquaresLearner
from recbole_signed.live.learners.ssf import live_items
from recbole_signed.live.learners.ssf.learned_learner import LearnedSpectralLearner
from recbole_signed.live.learners.ssf.learner import SpectralLearner
from recbole_signed.live.learners.ssf.live_items import STALE, LiveCounters
from recbole_signed.live.learners.ssf.time_learner import TimeLearner
from recbole_signed.live.store.edge_views import Rows
from recbole_signed.ssf import FilterSettings
from recbole_signed.ssf.item_counters import ExpectedCounts
from recbole_signed.ssf.learned_items import LearnedSettings

KEYS = np.arange(1000)
SETTINGS = FilterSettings(rank=7, cutoff=4, popularity_floor=0.1, popularity_exponent=0.2, dislike_aversion=0.7)
LEARNERS: dict[str, Any] = {
    "SSF": lambda: SpectralLearner(SETTINGS),
    "SSFL": lambda: LearnedSpectralLearner(SETTINGS, LearnedSettings(learned_rank=5)),
    "SSFT": lambda: TimeLearner(SETTINGS),
    "SignedEASE": lambda: EaseLearner(reg_weight=20.0),
    "SignediALS": lambda: LeastSquaresLearner(embedding_size=5, n_iterations=3),
}


@pytest.fixture(params=list(LEARNERS))
def learner(request: pytest.FixtureRequest) -> Any:
    return streams.fitted(LEARNERS[request.param](), streams.large_stream())


def disliking(learner: Any, user: int) -> tuple[Stream, int]:
    """Let a user dislike its best item; return the stream and the item."""
    stream = streams.large_stream()
    item = int(best_items(learner, stream.edges, user, 1, KEYS)[0][0])
    streams.follow(learner, stream, [[(user, item, DISLIKE)]])
    return stream, item


def test_what_is_near_to_a_dislike_is_ranked_by_the_formula(learner: Any) -> None:
    user = np.array([17])
    stream, item = disliking(learner, 17)
    found = ranked_scores(learner, stream.edges, user)[0].double()
    # as the edges would be without the dislike; what is counted of items stays, it is the model's
    without = streams.large_stream()
    streams.follow(copy.deepcopy(learner), without, [[(17, item, DISLIKE), (17, item, UNDISLIKE)]])
    before = learner.scores(without.edges, user)[0].double()
    row = stream.edges.of_user(17).verdicts
    events = zip(row.timestamp.tolist(), row.ids.tolist(), (row.kind == LIKE).tolist(), strict=True)
    acting = {event[1] for event in Person(list(events), set()).acting()} - {item}
    streams.follow(copy.deepcopy(learner), without, [[(17, other, UNDISLIKE) for other in acting]])
    calm = learner.scores(without.edges, user)[0].double()
    neutral = learner.without_taste(np.arange(len(found)))
    if neutral is None:
        neutral = np.full(len(found), np.median(before[1:]))  # there are fewer items than the sample takes
    judged = Judged(learner, stream.edges, user)
    nearness, causes = judged.fallen.strongest(judged.heights)
    assert item in causes
    wanted = learner.scores(stream.edges, user)[0].double() if learner.dislikes_lead else before.clone()
    for j, near, cause in zip(*(each.tolist() for each in (judged.fallen.item, nearness, causes)), strict=True):
        stood = float(before[cause] - neutral[cause]) / max(float(before[j] - neutral[j]), 1e-9) / STOOD
        assert cause != item or near <= max(stood, 0.0) ** 2 + LEAST_STOOD + 1e-5
        wanted[j] = min(wanted[j], before[j], calm[j])
        wanted[j] -= learner.dislike_strength * near * max(0.0, float(wanted[j]) - neutral[j])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    assert (wanted < before).sum() >= 5
    learner.dislike_strength = 0.0
    own = learner.scores(stream.edges, user)
    torch.testing.assert_close(ranked_scores(learner, stream.edges, user), own, rtol=0, atol=0)


def test_a_dislike_raises_nothing_near_it_after_other_likes_either(learner: Any) -> None:
    """From the next verdict on it was a sign of what its user meets, so with a low strength what is near it rose."""
    learner.dislike_strength, user, raised = 0.05, streams.large_stream().edges.n_users, 0
    for item in range(20, 60, 5):
        ranked = []
        for events in ([], [[(user, item, DISLIKE)]]):
            stream = streams.large_stream()
            first, later = ([(user, each, LIKE) for each in some] for some in (range(1, 6), range(170, 175)))
            streams.follow(copy.deepcopy(learner), stream, [first, *events, later])
            ranked.append(ranked_scores(learner, stream.edges, np.array([user]))[0])
        near = Judged(learner, stream.edges, np.array([user])).fallen.item
        assert len(near) > 5
        assert (ranked[1] <= ranked[0] + 1e-6)[near].all()  # of a solution for other users beside it
        raised += int((ranked[1] > ranked[0]).sum())
    assert raised > 100 or learner.name not in ("SSF", "SSF-L", "SSF-T")  # it is read as such a sign elsewhere


def test_another_dislike_in_a_row_raises_nothing_near_it(learner: Any) -> None:
    """It was in the middle of the user's scores, so that what an earlier one kept down rose with that."""
    edges = streams.large_stream().edges
    for user in range(1, 60):
        row, before = edges.of_user(user), None
        new = np.random.default_rng(user).permutation(np.setdiff1d(np.arange(1, edges.n_items), row.ids))
        for number in range(4):
            ids = np.append(row.ids, new[:number])
            order, times = np.argsort(ids), np.append(row.timestamp, 1_000_000 + np.arange(number))
            kinds = np.append(row.kind, np.full(number, DISLIKE)).astype(np.int8)
            own = OwnEdges.with_row(edges, user, Rows.one(ids[order], kinds[order], times[order]))
            ranked = ranked_scores(learner, own, np.array([user]))[0]
            if before is not None:
                fallen = Judged(learner, own, np.array([user])).fallen
                near = fallen.item[fallen.pair[fallen.dislike == new[number - 1]]]
                assert len(near) > 5
                assert (ranked <= before + 1e-5)[near].all()
            before = ranked


def test_items_without_edges_are_no_part_of_the_middle(learner: Any) -> None:
    """Else what nobody has an edge to would decide how far an item falls, where it is most of the catalogue."""
    stream, _ = disliking(learner, 17)
    user = np.array([17])
    before = ranked_scores(learner, stream.edges, user)[0]
    streams.follow(learner, stream, [[(300, new, kind) for new in range(181, 700) for kind in (LIKE, UNLIKE)]])
    after = ranked_scores(learner, stream.edges, user)[0]
    near = Judged(learner, stream.edges, user).fallen.item
    assert len(near)
    spread = float(before[1:181].max() - before[1:181].min())
    assert float((after[near] - before[near]).abs().max()) < 0.2 * spread


@pytest.mark.parametrize("name", ["SignedEASE", "SignediALS"])
@pytest.mark.parametrize("verdict", [LIKE, DISLIKE])
def test_who_judged_new_items_alone_gets_popular_ones(name: str, verdict: int) -> None:
    """Such a model scores everything 0 for such a user, and the list was in the order of ids."""
    stream = streams.large_stream()
    learner, new, user = streams.fitted(LEARNERS[name](), stream), stream.edges.n_items, stream.edges.n_users
    streams.follow(learner, stream, [[(user, new, verdict)]])
    popular = np.lexsort((np.arange(new), -stream.edges.item_likes[:new]))
    some = popular[::7][:9]
    for chosen, wanted in ((None, popular[:8]), (np.sort(some), some[:8])):
        items, values = best_items(learner, stream.edges, user, 8, KEYS, include_only=chosen)
        np.testing.assert_array_equal(items, wanted)
        np.testing.assert_array_equal(values, stream.edges.item_likes[wanted])


def test_few_items_to_choose_from_are_ranked_as_among_all(learner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, _ = disliking(learner, 5)
    n_items, user = stream.edges.n_items, np.array([5])
    wanted = ranked_scores(learner, stream.edges, user)[0].numpy().copy()
    near = Judged(learner, stream.edges, user).fallen.item
    assert len(near) >= 6
    seen = stream.edges.of_user(5).ids
    chosen = np.concatenate([near[:6], np.arange(1, n_items, 9), seen[:3], [0]])
    monkeypatch.setattr(learner, "scores", None)
    items, values = best_items(learner, stream.edges, 5, 8, KEYS, exclude=np.array([10]), include_only=chosen)
    left = np.setdiff1d(chosen, np.concatenate([seen, [0, 10]]))
    assert set(near[:6]) & set(items) <= set(left)
    np.testing.assert_allclose(values, np.sort(wanted[left])[::-1][:8], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(values, wanted[items], rtol=1e-4, atol=1e-6)
    none, _ = best_items(learner, stream.edges, 5, 8, KEYS, include_only=seen)
    assert not len(none)


@pytest.mark.parametrize("value", [-1, 1.5, "much", float("inf"), float("nan")])
@pytest.mark.parametrize("model", ["SignedEASE", "Pop"])
def test_what_is_no_strength_is_refused(model: str, value: Any) -> None:
    check_refused("dislike_strength", make_learner, model, {"dislike_strength": value})
    assert make_learner(model, {"dislike_strength": 0.3}).dislike_strength == 0.3


def brute(vectors: np.ndarray, item: int) -> list[int]:
    lengths = np.linalg.norm(vectors, axis=1)
    cosines = (vectors @ vectors[item]) / np.where(lengths > 0, lengths, np.inf) / max(lengths[item], 1e-30)
    cosines = np.rint(cosines * 2**base.BITS)
    cosines[[0, item]] = -1.0
    order = np.argsort(-cosines, kind="stable")[:5]
    return [int(each) for each in order if cosines[each] > 0]


def test_neighbours_are_those_of_all_cosines(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.standard_normal((400, 24)) * 0.7 ** np.arange(24)).astype(np.float32)
    vectors[7] = 0.0
    scale = np.linspace(2, 0.1, 24).astype(np.float32)
    found = Neighbours(vectors, scale)
    for item in range(400):
        assert found.similar(item, 5)[0].tolist() == (brute(vectors * scale, item) if item != 7 else [])
    assert not len(found.similar(400, 5)[0])  # younger than the version
    monkeypatch.setattr(base, "POOL", 150)
    longest = np.argsort(-np.linalg.norm(vectors, axis=1))[:150]
    vectors[np.setdiff1d(np.arange(400), [*longest, 9])] = 0.0
    assert Neighbours(vectors).similar(9, 5)[0].tolist() == brute(vectors, 9)


def test_items_that_are_equally_near_stand_by_their_keys_however_many_are_asked_for() -> None:
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.standard_normal((3, 100)).astype(np.float32), 17, axis=0)  # a few items, each 17 times
    found, keys = Neighbours(vectors), rng.permutation(len(vectors))
    others = np.setdiff1d(np.arange(1, 17), [5])
    for k in range(1, 16):
        ids, cosines = found.similar(5, k, keys)
        assert ids.tolist() == others[np.argsort(keys[others])][:k].tolist()
        assert cosines.tolist() == [1.0] * k
    assert found.similar(5, 5)[0].tolist() == others[:5].tolist()


def events(number: int) -> list[streams.Move]:
    return streams.random_moves(301, 181, share=0.004, seed=number, tastes=12)


@pytest.mark.parametrize("strength", [0.0, 0.3])
def test_the_best_items_are_those_of_all_scores(monkeypatch: pytest.MonkeyPatch, strength: float) -> None:
    """Without scoring all items, also after events with new and growing items."""
    monkeypatch.setattr(live_items, "SMALL", 0)
    monkeypatch.setattr(live_items, "FIRST", 24)
    stream = streams.large_stream()
    learner = streams.fitted(SpectralLearner(SETTINGS), stream)
    learner.dislike_strength = strength
    pruned = 0
    for number in range(6):
        streams.follow(learner, stream, [events(number), [(5 + number, 181 + number, LIKE), (3, 40, DISLIKE)]])
        for user in (3, 5 + number, 17, 200, 0):
            seen = stream.edges.of_user(user).ids.astype(np.int64)
            pruned += learner.top(stream.edges, user, 10, np.append(seen, 0)) is not None
            items, values = best_items(learner, stream.edges, user, 10, KEYS)
            wanted = ranked_scores(learner, stream.edges, np.array([user]))[0]
            wanted[np.append(seen, 0)] = -torch.inf
            best = wanted.topk(10)
            np.testing.assert_allclose(values, best.values.numpy(), rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(wanted.numpy()[items], best.values.numpy(), rtol=1e-4, atol=1e-6)
            assert len(set(items.tolist())) == 10
    assert pruned > 5


def test_bounds_are_those_of_the_items_as_they_are() -> None:
    """Also of items that are no longer made of their users, after an event or where the edges are read again."""
    stream = streams.large_stream()
    learner = streams.fitted(SpectralLearner(SETTINGS), stream)
    rare = int(np.argmin(np.where(learner.items.degree > 0, learner.items.degree, np.inf)))
    fans = np.setdiff1d(np.arange(1, 40), stream.edges.of_item(rare).ids).tolist()
    likes = [(user, item, LIKE) for user in fans for item in (rare, 185)]
    back = [(user, item, UNLIKE) for user, item, _ in likes]
    for batch in (likes, back, likes):
        streams.follow(learner, stream, [batch])
        assert (rare in learner.items.moved) == (batch is likes)
        check_bounds(learner)
    stream.take(back)
    learner.attach(stream.edges)
    assert rare not in learner.items.moved
    check_bounds(learner)


def check_bounds(learner: SpectralLearner) -> None:
    wanted = live_items.TopItems(learner.items.table)
    np.testing.assert_array_equal(learner.best._head, wanted._head)
    np.testing.assert_array_equal(learner.best._tail, wanted._tail)


def burst(begin: int, end: int) -> list[list[streams.Move]]:
    """Return events after which the means are what they were, while which an item has got a like."""
    open_ = np.argwhere(streams.large_stream().signs()[1:, 1:] == 0) + 1
    pairs = [(int(user), int(item)) for user, item in open_[:600] if item != 50]
    fan = int(open_[open_[:, 1] == 50][-1, 0])
    return [[(*pair, begin) for pair in pairs], [(fan, 50, LIKE)], [(*pair, end) for pair in pairs]]


CEILINGS: dict[str, tuple[FilterSettings, list[list[list[streams.Move]]]]] = {
    "events of all sorts": (SETTINGS, [[events(number)[: 1 + number % 5]] for number in range(1, 40)]),
    # nobody asks for it meanwhile
    "a burst that moves the like rate": (FilterSettings(dislike_aversion=1.0), [burst(DISLIKE, UNDISLIKE)]),
    "a burst that moves the mean degree": (FilterSettings(popularity_exponent=0.5), [burst(LIKE, UNLIKE)]),
    # the mean degree is one of the items with an edge, whose number changes then
    "first edges of predicted items": (
        FilterSettings(popularity_exponent=0.5),
        [[[(3, item, LIKE)]] for item in range(181, 400)],
    ),
}


@pytest.mark.parametrize("what", list(CEILINGS))
def test_a_ceiling_is_above_all_factors_and_close_to_them(what: str) -> None:
    settings, looks = CEILINGS[what]
    stream, counters = streams.large_stream(), LiveCounters()
    counters.start(stream.edges.item_likes, stream.edges.item_dislikes)
    if what == "first edges of predicted items":
        counters.grow(400)
        given = torch.arange(400) >= stream.edges.n_items
        counters.expect(ExpectedCounts(2.0 * given, 0.5 * given, given, 0.0, 0.0))
    kept = set()
    for batches in [[], *looks]:
        for batch in batches:
            counters.update(stream.edges, stream.take(batch).items)
        ceiling, factor = counters.ceiling(settings), counters.now.factor(settings)
        assert ceiling is not None
        known = (counters.now.likes + counters.now.dislikes > 0).numpy()
        ratio = (ceiling / factor.numpy())[known]
        assert ratio.min() >= 1.0
        assert ratio.max() < 1 + 3 * STALE
        kept.add(ceiling.base.ctypes.data if ceiling.base is not None else 0)
        some = torch.tensor([3, 170, 9])
        torch.testing.assert_close(counters.now.factor(settings, some), factor[some])
    assert len(kept) < max(len(looks), 3)  # not made again each time
