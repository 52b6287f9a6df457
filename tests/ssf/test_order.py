"""SSF-T's features and scores against their formulas written out, and its weights against another optimiser."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import given_weights
import numpy as np
import pytest
import scipy.optimize
import torch
from order_features import features_in, features_of
from refusals import check_refused
from scipy.special import logsumexp

from recbole_signed.counts import PairCounts
from recbole_signed.graph import SignedGraph
from recbole_signed.sequences import Sequences
from recbole_signed.ssf import FilterSettings, SpectralFilter, TransitionSums, order, order_weights
from recbole_signed.ssf.item_counters import UNKNOWN, ExpectedCounts, ItemCounters
from recbole_signed.ssf.order import FEATURES, TRENDS, Order, OrderFilter, recent_of, weights_of
from recbole_signed.ssf.order_weights import Fit, Likes, fitted_weights, sharpened
from recbole_signed.ssf.transition import Transition, leading
from recbole_signed.ssf.user_edges import UserEdges
from recbole_signed.ssf.validation import Validation

DAY = 86_400_000
SETTINGS = FilterSettings(rank=8, cutoff=4, dislike_weight=0.4, dislike_aversion=0.6)
WEIGHTS = np.array(given_weights.WEIGHTS)
PARAMETERS = dict(zip(order.WEIGHTS, WEIGHTS, strict=True))
N_ITEM, AROUND, TWO_STEPS = (
    len(order.ITEM),
    FEATURES.index("around"),
    np.isin(order.WEIGHTS, ["around", "around_sharp"]),
)


@dataclass
class World:
    """Verdicts of users of some tastes who go on to the next items; user 0 has none, the last item neither."""

    user: np.ndarray
    item: np.ndarray
    like: np.ndarray
    time: np.ndarray
    n_users: int
    n_items: int

    @classmethod
    def drawn(cls, n_users: int, n_items: int, length: int, seed: int = 0) -> World:
        rng = np.random.default_rng(seed)
        rows = []
        for user in range(1, n_users):
            first = int(rng.integers(n_items - 1))
            walk = (first + rng.integers(0, 3, length).cumsum() * 2) % (n_items - 1)
            walk = np.where(rng.random(length) < 0.3, (rng.random(length) ** 2 * (n_items - 1)).astype(int), walk)
            items = walk[np.sort(np.unique(walk, return_index=True)[1])]
            start = rng.integers(0, 40)
            rows += [
                (user, int(item), bool(rng.random() < 0.7), int((start + place // 2) * DAY / 4))  # two a moment
                for place, item in enumerate(items)
            ]
        user, item, like, time = (np.array(each) for each in zip(*rows, strict=True))
        return cls(user.astype(np.int32), item.astype(np.int32), like, time, n_users, n_items)

    def where(self, rows: np.ndarray) -> World:
        return replace(self, **{name: getattr(self, name)[rows] for name in ("user", "item", "like", "time")})

    @functools.cached_property
    def graph(self) -> SignedGraph:
        sides = [(self.user[side], self.item[side]) for side in (self.like, ~self.like)]
        return SignedGraph.from_edges(sides[0], sides[1], self.n_users, self.n_items)

    @functools.cached_property
    def sequences(self) -> Sequences:
        return Sequences.from_edges(self.user, self.item, self.like, self.time, self.n_users)

    def made(self, settings: FilterSettings = SETTINGS, weights: np.ndarray = WEIGHTS) -> OrderFilter:
        taste, _ = SpectralFilter.fit(self.graph, settings)
        transition = Transition(
            torch.from_numpy(TransitionSums.from_sequences(self.sequences, leading(taste.vectors)).solve())
        )
        pairs = PairCounts.from_sequences(self.sequences, self.n_items)
        return OrderFilter(
            taste, Order(weights, pairs, recent_of(self.item, self.time, self.like, self.n_items), transition)
        )

    def edges(self, users: np.ndarray) -> UserEdges:
        return UserEdges.from_graph(self.graph.rows(users), SETTINGS.dislike_weight, self.sequences.of_users(users))

    @property
    def everyone(self) -> UserEdges:
        return self.edges(np.arange(self.n_users))


@functools.cache
def small() -> World:
    return World.drawn(30, 25, 14)


@functools.cache
def made() -> OrderFilter:
    return small().made()


def log_shares(counts: np.ndarray, added: float) -> np.ndarray:
    return np.log((counts + added) / (counts + added).sum())


def positive_logs(scores: np.ndarray, scale: float) -> np.ndarray:
    """Return log(1 + scale * x) for x over its root mean square of each row, with 0 for those below 0."""
    size = np.sqrt(np.square(scores).mean(axis=1, keepdims=True))
    return np.log1p(scale * np.maximum(scores / np.maximum(size, 1e-30), 0))


def written_out(world: World, filter_: OrderFilter, steps: int = 256) -> dict[str, np.ndarray]:
    """Return all features of all users, ``[n_users, n_items]`` each, from their formulas."""
    shape = world.n_users, world.n_items
    likes = np.bincount(world.item[world.like], minlength=world.n_items)
    found = {"popularity": log_shares(likes, 0.5)}
    for name, (life, liked) in zip(FEATURES[1:7], TRENDS, strict=True):
        counted = world.like | (not liked)
        weight = 2.0 ** ((world.time[counted] - world.time.max()) / DAY / life)
        left = np.bincount(world.item[counted], weights=weight, minlength=world.n_items)
        found[name] = log_shares(left * weight.sum() / np.square(weight).sum() / 2, 0.05)
    vectors = filter_.taste.vectors.double().numpy()
    found["taste"] = positive_logs(filter_.taste.fold_in(world.graph).double().numpy() @ vectors.T, 5.0)
    assert filter_.order.transition is not None
    operator = filter_.order.transition.operator.double().numpy()

    c = np.zeros((world.n_items, world.n_items))
    source = np.zeros((world.n_users, len(operator)))
    ages = np.full(shape, np.inf)  # in moments
    for user in range(world.n_users):
        own = world.user == user
        own = np.flatnonzero(own)[np.lexsort((world.item[own], world.time[own]))]
        item, like, time = world.item[own], world.like[own], world.time[own]
        moments = np.unique(time)
        events = list(zip(item, like, np.searchsorted(moments, time), strict=True))  # of one moment by item
        for place, (i, liked, moment) in enumerate(events):
            ages[user, i] = len(moments) - 1 - moment
            n_later = (time > moments[moment]).sum()
            decay = np.exp(-n_later / np.array([2.0, 10.0, 50.0]))[:, None] * vectors[i]
            source[user] += np.stack([decay * liked, decay * (not liked)]).ravel()
            for j, _, later in events[place + 1 : place + 11]:
                c[i, j] += [0, 16, 8, 5, 4, 3, 3, 2, 2, 2, 2][int(later - moment)]
    found["transition"] = positive_logs(source @ operator @ vectors.T, 1.0)

    def share(counts: np.ndarray) -> np.ndarray:
        return counts / (counts.sum(axis=1, keepdims=True) + 5 * 16)

    def lifted(q: np.ndarray, lift: float = 10.0) -> np.ndarray:
        return np.log1p(lift * q / np.sqrt((likes + 0.5) / (likes + 0.5).sum()))

    recent, long, last = (np.where(ages < most, ratio**ages, 0) for ratio, most in ((0.8, 20), (0.9, 50), (0.5, 8)))
    step = long @ share(c + c.T)
    if steps < world.n_items:
        step[step < np.sort(step, axis=1)[:, [-steps]]] = 0
    found["next"], found["before"] = lifted(recent @ share(c)), lifted(recent @ share(c.T))
    found["around"], found["last"] = lifted(step @ share(c + c.T)), last @ lifted(share(c))
    found["next_sharp"], found["around_sharp"] = lifted(recent @ share(c), 1.0), lifted(step @ share(c + c.T), 1.0)
    return {name: np.broadcast_to(found[name], shape) for name in FEATURES}


@pytest.mark.parametrize("steps", [256, 4])
def test_features_are_their_formulas_and_scores_their_weighted_sum(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "STEPS", steps)
    world, filter_ = small(), made()
    wanted = written_out(world, filter_, steps)
    found = features_of(filter_, world.everyone).numpy()
    for place, name in enumerate(FEATURES):
        np.testing.assert_allclose(found[:, place], wanted[name], rtol=2e-4, atol=2e-4, err_msg=name)
        assert np.ptp(wanted[name]) > 0.1, name
    total = sum(PARAMETERS[name] * wanted[name] for name in FEATURES)
    total[0] = sum(PARAMETERS[f"{name}_alone"] * wanted[name][0] for name in order.ITEM)  # it has no verdict
    aversion = filter_.taste.aversion
    assert aversion is not None
    total = total + np.log(aversion.numpy())
    total[:, filter_.taste.counters.unknown.numpy()] = UNKNOWN
    np.testing.assert_allclose(filter_.scores(world.everyone).numpy(), total, rtol=1e-3, atol=1e-3)


def test_of_a_long_history_the_last_moments_count() -> None:
    world = World.drawn(20, 60, 120, seed=3)
    filter_ = world.made()
    wanted, found = written_out(world, filter_), features_of(filter_, world.everyone).numpy()
    assert np.bincount(world.user).max() > 45
    for name in order.PAIRED:
        np.testing.assert_allclose(found[:, FEATURES.index(name)], wanted[name], rtol=2e-4, atol=2e-4, err_msg=name)


def test_unknown_items_come_last_and_users_without_edges_get_popularity_and_trend() -> None:
    world, filter_ = small(), made()
    scores = filter_.scores(world.everyone)
    unknown = filter_.taste.counters.unknown
    assert unknown.tolist() == [world.n_items - 1]
    assert (scores[:, unknown] == UNKNOWN).all()
    assert (scores[:, : world.n_items - 1] > -100).all()
    alone = (
        filter_.without_taste()
        - filter_.item_features.T @ torch.from_numpy(WEIGHTS[:N_ITEM] - WEIGHTS[len(FEATURES) :]).float()
    )
    torch.testing.assert_close(scores[0, :-1], alone[:-1], rtol=1e-4, atol=1e-4)
    some = torch.tensor([3, 0, 7, 24])
    torch.testing.assert_close(filter_.without_taste(some), filter_.items[some])


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_of_a_new_item_what_is_expected_is_popular_and_present(sign: float) -> None:
    # trends have most of the weight that popularity has alone, so that of popularity itself may be below 0
    world, filter_ = small(), made()
    counters = filter_.taste.counters
    new = world.n_items - 1
    weights = np.where(np.arange(len(WEIGHTS)) == 0, -0.1 * sign, np.where(np.arange(len(WEIGHTS)) < N_ITEM, sign, 0.0))

    def score(likes: float, lift: float = 1.0) -> float:
        given = torch.arange(world.n_items) == new
        expected = ExpectedCounts(likes * given, 0.0 * given, given, 0.0, 0.0, lift)
        taste = replace(filter_.taste, counters=ItemCounters.from_counts(counters.likes, counters.dislikes, expected))
        found = OrderFilter(taste, replace(filter_.order, weights=weights))
        return float(found.scores(world.everyone)[1, new])

    scores = np.array([score(likes) for likes in (0.5, 2.0, 10.0, 50.0)])
    assert (np.diff(sign * scores) > 0.1).all()
    assert score(2.0, 3.0) - score(2.0) == pytest.approx(np.log(3.0), abs=1e-4)


def test_pairs_of_users_and_items_have_the_scores_of_all() -> None:
    world, filter_ = small(), made()
    scores = filter_.scores(world.everyone)
    items = torch.arange(50).view(-1, 5)[: world.n_users] % world.n_items
    for each in (filter_, replace(filter_, settled=True)):
        torch.testing.assert_close(
            each.pair_scores(world.edges(np.arange(len(items))), items), scores[: len(items)].gather(1, items)
        )


def test_without_an_order_taste_and_items_are_left_and_without_a_transition_the_rest() -> None:
    world, filter_ = small(), made()
    features = {name: features_of(filter_, world.everyone)[:, place] for place, name in enumerate(FEATURES)}
    plain = PARAMETERS["taste"] * features["taste"] + filter_.items_for(world.everyone)
    torch.testing.assert_close(filter_.scores(world.graph), plain, rtol=1e-4, atol=1e-4)
    without = replace(filter_, order=replace(filter_.order, transition=None))
    less = filter_.scores(world.everyone) - PARAMETERS["transition"] * features["transition"]
    torch.testing.assert_close(without.scores(world.everyone), less, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [256, 4])
def test_explanations_sum_to_the_score_and_recency_is_the_part_of_the_order(
    steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order, "STEPS", steps)
    world, filter_ = small(), made()
    features, scores = features_of(filter_, world.everyone).double().numpy(), filter_.scores(world.everyone).numpy()
    ordered = [FEATURES.index(name) for name in ("transition", *order.PAIRED)]
    for user in (0, 1, 5, 12):
        items = np.arange(0, world.n_items - 1, 4)
        of_items = filter_.explain(world.graph.rows([user]), items, world.edges(np.array([user])))
        for item, told in zip(items.tolist(), of_items, strict=True):
            assert told.recency is not None
            part = features[user, :, item] * WEIGHTS[: len(FEATURES)]
            assert told.contributions.sum() + told.prior == pytest.approx(scores[user, item], abs=1e-4)
            assert told.score == pytest.approx(scores[user, item], abs=1e-5)
            assert told.recency.sum() == pytest.approx(part[ordered].sum(), abs=1e-4)
            assert (told.contributions - told.recency).sum() == pytest.approx(part[FEATURES.index("taste")], abs=1e-4)
            assert told.factor == 1.0
            popularity = features[user, 0, item]
            first = 0 if user else len(FEATURES)  # the first user has no verdict
            trend = (WEIGHTS[first + 1 : first + N_ITEM] * (features[user, 1:N_ITEM, item] - popularity)).sum()
            assert told.trend == pytest.approx(trend, abs=1e-5)


def test_an_explanation_tells_which_edge_it_was() -> None:
    """Of two users who differ in one verdict: what it adds by the order is what the score changes by, about."""
    world = small()
    rows = (world.user != 4) | (np.arange(len(world.user)) == np.flatnonzero(world.user == 4)[0])
    only = world.where(rows)
    filter_ = world.made(weights=np.array([0.0] * (N_ITEM + 2) + [1.0, 0.5, 0.5, 0.5, 0.2, 0.2] + [0.0] * N_ITEM))
    (item,) = only.item[only.user == 4]
    users = UserEdges.from_graph(only.graph.rows([4]), 0.4, only.sequences.of_users(np.array([4])))
    target = int((filter_.scores(users)[0] - filter_.items).argmax())
    (told,) = filter_.explain(only.graph.rows([4]), np.array([target]), users)
    assert told.items.tolist() == [item]
    assert told.contributions[0] == pytest.approx(told.score - told.prior, abs=1e-5)
    assert told.contributions[0] > 0.1


# ---- weights


def random_likes(seed: int = 0, n_users: int = 40, n_candidates: int = 35) -> Likes:
    """Return likes that follow features, several of a user, among hidden candidates; the last user has none.

    All users have verdicts, and ``around`` tells much.
    """
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.2, 3, (1, len(FEATURES), 1))
    features = (rng.normal(size=(n_users, len(FEATURES), n_candidates)) * scale).astype(np.float32)
    features[:, 3] = 1.5  # says nothing
    offset = np.where(rng.random((n_users, n_candidates)) < 0.2, -np.inf, rng.choice([0.0, 1.2], n_candidates))
    true = rng.normal(size=len(FEATURES))
    true[AROUND] = 0.8
    utility = np.einsum("f,ufi->ui", true / scale[0, :, 0], features) + offset
    utility += rng.gumbel(size=utility.shape)
    best = np.argsort(-utility, axis=1)
    user, place = zip(*[(u, best[u, n]) for u in range(n_users - 1) for n in range(1 + u % 3)], strict=True)
    return Likes(
        torch.zeros(0, n_candidates),
        torch.from_numpy(features),
        torch.from_numpy(offset).float(),
        torch.tensor(user),
        torch.tensor(np.array(place)),
        torch.zeros(n_users, dtype=torch.bool),
        torch.arange(n_users),
    )


def dense(likes: Likes) -> Likes:
    """Return the same with the features and offsets of its users alone."""
    rows = likes.rows
    return replace(likes, own=likes.own[rows], offset=likes.offset[rows], rows=torch.arange(len(rows)))


def optimum(likes: Likes, before: np.ndarray, worth: float = 0.0) -> np.ndarray:
    """Return the weights that BFGS finds, from the likelihood of the first features, as many as ``before`` has."""
    likes = dense(replace(likes, own=likes.own[:, : len(before)]))
    x, offset = likes.own.double().numpy(), likes.offset.double().numpy()
    user, place = likes.user.numpy(), likes.place.numpy()
    who, count = np.unique(user, return_counts=True)
    each = 1 / count[np.searchsorted(who, user)]
    scale = x[who].transpose(1, 0, 2).reshape(len(before), -1).std(axis=1)
    constant = scale < 1e-6
    scale[constant] = np.inf
    ridge = 1e-3 + worth / len(who)

    def objective(weights: np.ndarray) -> float:
        scores = np.einsum("f,ufi->ui", weights / scale, x) + offset
        likelihood = (each * scores[user, place]).sum() - logsumexp(scores[who], axis=1).sum()
        likelihood -= (each * offset[user, place]).sum()
        far = weights - np.where(constant, 0, before * np.where(constant, 0, scale))
        return -likelihood / len(who) + ridge * (far @ far)

    return np.where(constant, before, scipy.optimize.minimize(objective, np.zeros(len(scale)), method="BFGS").x / scale)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("worth", [0.0, 30.0])
@pytest.mark.parametrize("given", [True, False])
def test_weights_are_those_that_another_optimiser_finds(seed: int, worth: float, given: bool) -> None:
    likes = random_likes(seed)
    before = np.linspace(-1, 1, len(WEIGHTS)) if given else weights_of(None)
    found = fitted_weights(likes, Fit(before) if given else None, worth).weights
    of_users, of_items = optimum(likes, before[: len(FEATURES)], worth), optimum(likes, before[len(FEATURES) :], worth)
    np.testing.assert_allclose(found, np.concatenate([of_users, of_items]), rtol=5e-3, atol=5e-3)
    assert found[3] == before[3], "it says nothing, and keeps its weight"
    assert np.abs(found - before).max() > 0.2
    if worth:
        free = fitted_weights(likes, Fit(before)).weights
        between = (found - before) * (found - free)
        assert np.linalg.norm(found - before) < np.linalg.norm(free - before)
        assert (between < 0).sum() > len(WEIGHTS) / 2


def test_information_is_the_second_derivative_of_the_likelihood() -> None:
    likes = random_likes(n_users=60)
    fit = fitted_weights(likes)
    some, split = dense(likes.only(torch.bincount(likes.user, minlength=60) > 0)), len(FEATURES)
    x, offset = some.own.double().numpy(), some.offset.double().numpy()
    scores = np.einsum("f,ufi->ui", fit.weights[:split], x) + offset
    share = np.exp(scores - logsumexp(scores, axis=1)[:, None])
    centred = x - np.einsum("ui,ufi->uf", share, x)[:, :, None]
    hessian = np.einsum("ui,ufi,ugi->fg", share, centred, centred)
    assert fit.information is not None
    of_prior = (fit.information[:split, :split] - hessian)[np.ix_(*[np.arange(split) != 3] * 2)]
    np.testing.assert_allclose(of_prior, np.diag(np.diag(of_prior)), atol=1e-2)
    assert (np.diag(of_prior) < 0.02 * np.diag(hessian).max()).all()
    assert (fit.information[:split, split:] == 0).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_fits_one_after_the_other_are_nearly_that_of_all_likes_together(seed: int) -> None:
    likes = replace(random_likes(seed, n_users=400), alone=torch.arange(400) % 3 == 0)
    parts = [torch.arange(400) % 2 == n for n in range(2)]
    first = fitted_weights(likes.only(parts[0]))
    both, together = fitted_weights(likes.only(parts[1]), first).weights, fitted_weights(likes).weights
    assert np.linalg.norm(both - together) < 0.2 * np.linalg.norm(first.weights - together)
    known = replace(first, weights=np.linspace(-1, 1, len(WEIGHTS)))
    far = fitted_weights(likes.only(parts[1]), known).weights
    assert np.linalg.norm(far - together) > 5 * np.linalg.norm(both - together), "what was known counts"


def test_without_likes_weights_stay_as_they_were() -> None:
    likes, before = random_likes(), np.linspace(-1, 1, len(WEIGHTS))
    none = replace(likes, user=likes.user[:0], place=likes.place[:0])
    np.testing.assert_array_equal(fitted_weights(none, Fit(before)).weights, before)
    np.testing.assert_array_equal(fitted_weights(none).weights, weights_of(None))


def test_around_is_left_out_where_it_gains_little_and_stays_out() -> None:
    likes, start = random_likes(n_users=300), weights_of(None)
    out = np.where(TWO_STEPS, 0.0, start)
    assert fitted_weights(likes).weights[AROUND] > 0.1
    assert (fitted_weights(likes, Fit(out)).weights[TWO_STEPS] == 0.0).all()
    noise, two = likes.own.clone(), TWO_STEPS[: len(FEATURES)]
    noise[:, two] = torch.from_numpy(np.random.default_rng(1).normal(size=noise[:, two].shape)).float()
    found = fitted_weights(replace(likes, own=noise)).weights
    assert (found[TWO_STEPS] == 0.0).all()
    assert (sharpened(replace(likes, own=noise), found)[0][TWO_STEPS] == 0.0).all()
    noise[:, two] = 0.0  # whatever they say then
    np.testing.assert_allclose(found, fitted_weights(replace(likes, own=noise), Fit(out)).weights, atol=1e-6)


@pytest.mark.parametrize("n_alone", [0, 10, 60])
def test_users_without_a_verdict_have_weights_of_their_own(n_alone: int) -> None:
    likes = random_likes(n_users=150).only(torch.arange(150) < 149)
    likes = replace(likes, alone=torch.arange(149) < n_alone)
    start, split = weights_of(None), len(FEATURES)
    found = fitted_weights(likes).weights
    np.testing.assert_allclose(found[:split], optimum(likes.only(~likes.alone), start[:split]), rtol=5e-3, atol=5e-3)
    theirs = likes.only(likes.alone) if n_alone >= order_weights.ENOUGH else likes  # few tell too little
    np.testing.assert_allclose(found[split:], optimum(theirs, start[split:]), rtol=5e-3, atol=5e-3)


def test_a_like_that_is_there_twice_counts_twice() -> None:
    likes = random_likes()
    twice = replace(
        likes, user=torch.cat([likes.user, likes.user[:1]]), place=torch.cat([likes.place, likes.place[:1]])
    )
    start, split = weights_of(None), len(FEATURES)
    np.testing.assert_allclose(
        fitted_weights(twice).weights[:split], optimum(twice, start[:split]), rtol=5e-3, atol=5e-3
    )
    every = replace(likes, user=likes.user.repeat(2), place=likes.place.repeat(2))
    np.testing.assert_allclose(fitted_weights(every).weights, fitted_weights(likes).weights, atol=1e-4)


def test_of_users_without_a_verdict_those_with_a_like_count() -> None:
    likes = replace(random_likes(n_users=80), alone=torch.arange(80) >= 20)
    silent = (likes.user < 20) | (likes.user >= 60)
    few = replace(likes, user=likes.user[silent], place=likes.place[silent])
    found = fitted_weights(few).weights[len(FEATURES) :]
    theirs = few.only((torch.arange(80) < 20) | (torch.arange(80) >= 60))
    np.testing.assert_allclose(found, optimum(theirs, weights_of(None)[len(FEATURES) :]), rtol=5e-3, atol=5e-3)


def test_likes_of_some_users_are_theirs() -> None:
    likes = replace(random_likes(), alone=torch.arange(40) % 3 == 0)
    users = torch.arange(40) % 2 == 1
    found = dense(likes.only(users))
    torch.testing.assert_close(found.own, likes.own[1::2])
    torch.testing.assert_close(found.offset, likes.offset[1::2])
    assert found.alone.tolist() == likes.alone[1::2].tolist()
    pairs = zip(likes.user.tolist(), likes.place.tolist(), strict=True)
    wanted = [(user // 2, place) for user, place in pairs if user % 2]
    assert list(zip(found.user.tolist(), found.place.tolist(), strict=True)) == wanted


def test_hidden_candidates_do_not_count() -> None:
    likes = random_likes()
    wanted = fitted_weights(likes).weights
    features = likes.own.clone()
    hidden = likes.offset.isneginf()
    at = torch.nonzero(hidden)[::2]  # two that are swapped leave the scales of features as they are
    other = torch.nonzero(hidden)[1::2][: len(at)]
    at = at[: len(other)]
    features[at[:, 0], :, at[:, 1]], features[other[:, 0], :, other[:, 1]] = (
        likes.own[other[:, 0], :, other[:, 1]],
        likes.own[at[:, 0], :, at[:, 1]],
    )
    np.testing.assert_allclose(fitted_weights(replace(likes, own=features)).weights, wanted, atol=1e-3)


@functools.cache
def held_out() -> tuple[World, World, OrderFilter, Validation]:
    """Return a larger world, its first part, what is fitted to that, and the likes of the rest."""
    world = World.drawn(400, 301, 30, seed=1)
    last = np.bincount(world.user, minlength=400).cumsum()
    later = last[world.user] - np.arange(len(world.user)) <= 4
    first = world.where(~later)
    users = np.arange(1, 400, 2)
    row = np.full(400, -1)
    row[users] = np.arange(len(users))
    own, held = ~later & (row[world.user] >= 0), later & world.like & (row[world.user] >= 0)
    keys = np.sort(row[world.user[held]] * 301 + world.item[held])
    validation = Validation(
        users=first.graph.rows(users),
        like_keys=keys,
        like_count=np.bincount(keys // 301, minlength=len(users)),
        hidden=(torch.from_numpy(row[world.user[own]]), torch.from_numpy(world.item[own])),
        metric="NDCG@20",
        numbers=users,
    )
    return world, first, first.made(), validation


def likes_of(**changes: Any) -> Likes:
    _, first, filter_, validation = held_out()
    numbers = validation.numbers
    assert numbers is not None
    return Likes.from_validation(filter_, lambda rows: first.edges(numbers[rows]), replace(validation, **changes))


def test_likes_have_the_features_of_their_users_and_what_is_hidden_is_no_candidate() -> None:
    _, first, filter_, validation = held_out()
    assert validation.numbers is not None
    items, offset = order_weights.candidates(filter_)
    assert set(items) == set(first.item)
    assert not offset.any()
    found = likes_of()
    some = np.array([3, 77, 150])
    wanted = features_of(filter_, first.edges(validation.numbers[some]))[:, :, items]
    torch.testing.assert_close(features_in(found)[some], wanted, rtol=1e-4, atol=1e-4)
    hidden = torch.zeros(validation.n_users, first.n_items, dtype=torch.bool)
    hidden[validation.hidden] = True
    torch.testing.assert_close(found.offset.isneginf(), hidden[:, items])
    likes = set(zip(*np.divmod(validation.like_keys, first.n_items), strict=True))
    shown = {(user, item) for user, item in likes if item in set(items) and not hidden[user, item]}
    assert set(zip(found.user.tolist(), items[found.place].tolist(), strict=True)) == shown
    assert len(shown) > 100
    assert not found.alone.any()
    users = np.arange(validation.n_users)  # the first has no verdict
    assert Likes.from_validation(
        filter_, lambda rows: first.edges(users[rows]), validation
    ).alone.nonzero().tolist() == [[0]]


def test_a_like_of_what_is_hidden_tells_nothing() -> None:
    *_, validation = held_out()
    user, item = np.divmod(validation.like_keys, 301)
    seen = tuple(
        torch.cat([old, torch.from_numpy(new)]) for old, new in zip(validation.hidden, (user, item), strict=True)
    )
    assert not len(likes_of(hidden=seen).user)


def test_of_many_users_the_first_are_fitted_to(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = likes_of()
    monkeypatch.setattr(order_weights, "CELLS", 50 * whole.own.shape[2])
    found = likes_of()
    assert len(found.own) == 50
    torch.testing.assert_close(features_in(found), features_in(whole)[:50], rtol=1e-4, atol=1e-4)
    assert found.user.max() < 50
    assert len(found.user) == (whole.user < 50).sum()


def test_of_a_large_catalogue_a_part_gives_about_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    _, first, filter_, _ = held_out()
    whole = fitted_weights(likes_of()).weights
    monkeypatch.setattr(order_weights, "MOST_ITEMS", 150)
    items, offset = order_weights.candidates(filter_)
    assert len(items) <= 150
    assert (np.diff(items) > 0).all()
    exposures = np.bincount(first.item, minlength=first.n_items)
    assert float(offset.exp().sum()) == pytest.approx((exposures > 0).sum(), abs=2)
    sure = exposures[items[offset.numpy() == 0]]
    assert len(sure) == 75
    assert sure.min() >= np.sort(exposures)[-75:].min()
    part = fitted_weights(likes_of()).weights
    features = features_of(filter_, first.everyone)[1:, :, exposures > 0]  # the others come last, whatever they have
    one, other = (torch.from_numpy(each[: len(FEATURES)]).float() @ features for each in (whole, part))
    correlation = np.corrcoef(one.flatten().numpy(), other.flatten().numpy())[0, 1]
    assert correlation > 0.95


def test_fitted_weights_rank_what_comes_next_better_than_preset_ones_and_taste_alone() -> None:
    _, first, filter_, validation = held_out()
    assert validation.numbers is not None
    numbers = validation.numbers
    taste = np.zeros(len(WEIGHTS))
    taste[FEATURES.index("taste")] = 1.0

    def candidate(weights: np.ndarray) -> Any:
        made = replace(filter_, order=replace(filter_.order, weights=weights))
        return lambda pieces: made.scores(first.edges(numbers[pieces.rows]))

    fitted, preset, alone = (
        each.value
        for each in validation.contest(
            [candidate(w) for w in (fitted_weights(likes_of()).weights, weights_of(None), taste)]
        )
    )
    assert fitted > preset
    assert fitted > alone


@pytest.mark.parametrize("value", [[1.0] * 11, "many", [1.0] * 21 + [float("nan")], [[1.0] * 22], 3.0, ["a"] * 22])
def test_weights_that_are_no_numbers_of_all_features_are_refused(value: Any) -> None:
    check_refused(r"order_weights is .*; give 22 numbers: popularity, trend_0\.25d, ", weights_of, value)


def test_weights_that_are_given_hold() -> None:
    assert weights_of(WEIGHTS.tolist()).tolist() == WEIGHTS.tolist()
    assert weights_of(None).tolist() == list(order.PRESET)
    older = np.delete(WEIGHTS, [order.WEIGHTS.index(name) for name in order.SHARP])  # these had no weight
    assert weights_of(older).tolist() == np.where(np.isin(order.WEIGHTS, order.SHARP), 0.0, WEIGHTS).tolist()
    made = Order(WEIGHTS, PairCounts(1), torch.zeros(4, 1), None)
    assert {name: made.weight(name) for name in order.WEIGHTS} == PARAMETERS


def mean_loss(likes: Likes, weights: np.ndarray) -> float:
    """Return the negative log-likelihood of the likes of a user, which count the same in all."""
    scores = np.einsum("f,ufi->ui", weights, likes.own[:, : len(weights)]) + likes.offset.numpy()
    each = logsumexp(scores, axis=1)[likes.user] - scores[likes.user, likes.place]
    return float((each / np.bincount(likes.user)[likes.user]).sum() / len(likes.alone))


def test_sharpened_weights_are_those_of_the_likes_among_the_best_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_weights, "BEST", 8)
    likes, split = replace(random_likes(n_users=200), alone=torch.arange(200) % 4 == 0), len(FEATURES)
    start = fitted_weights(likes).weights
    found, tried = sharpened(likes, start)
    assert tried == len(order_weights.FACTORS)
    own, part = dense(likes.only(~likes.alone)), slice(split)
    scores = np.einsum("f,ufi->ui", start[part], own.own) + own.offset.numpy()
    last = np.sort(scores, axis=1)[:, [-8]]
    place = (scores[own.user, own.place] >= last[own.user, 0]).nonzero()[0]
    best = replace(
        own,
        offset=torch.where(torch.from_numpy(scores >= last), own.offset, -torch.inf),
        user=own.user[place],
        place=own.place[place],
    )
    assert len(place) < len(own.user)
    best = dense(best.only(torch.bincount(best.user, minlength=len(best.alone)) > 0))
    reached = mean_loss(best, found[part])
    assert reached < mean_loss(best, start[part]) - 0.005
    shifts = 0.05 * np.eye(split)
    assert min(mean_loss(best, found[part] + sign * each) for each in shifts for sign in (1, -1)) > reached - 1e-3


def test_trends_of_users_without_a_verdict_are_multiplied_by_what_ranks_best() -> None:
    likes, split = replace(random_likes(n_users=200), alone=torch.arange(200) % 2 == 0), len(FEATURES)
    start = fitted_weights(likes).weights
    start[split + 1 :] *= 0.5  # so that twice as much is best again
    found, tried = sharpened(likes, start)
    assert tried == len(order_weights.FACTORS)
    assert found[split] == start[split]
    factor = found[split + 1] / start[split + 1]
    np.testing.assert_allclose(found[split + 1 :], factor * start[split + 1 :])
    alone = dense(likes.only(likes.alone))

    def ndcg(times: float) -> np.ndarray:
        weights = np.concatenate([start[[split]], times * start[split + 1 :]])
        scores = np.einsum("f,ufi->ui", weights, alone.own[:, : len(weights)]) + alone.offset.numpy()
        place = (-scores).argsort(axis=1, kind="stable").argsort(axis=1)
        values = []
        for user in np.unique(alone.user):
            rank = place[user, np.unique(alone.place[alone.user == user])]
            ideal = (1 / np.log2(np.arange(min(len(rank), 20)) + 2)).sum()
            values.append((1 / np.log2(rank[rank < 20] + 2)).sum() / ideal)
        return np.array(values)

    best, chosen = ndcg(1.0), 1.0
    for each in order_weights.FACTORS:
        gain = ndcg(each) - best
        if gain.mean() > gain.std() / len(gain) ** 0.5:
            best, chosen = ndcg(each), each
    assert factor == pytest.approx(chosen)


def test_of_few_users_weights_stay_as_they_are() -> None:
    likes, split = random_likes(n_users=200), len(FEATURES)
    start = fitted_weights(likes).weights
    few = replace(likes, alone=torch.arange(200) < order_weights.ENOUGH - 1)
    np.testing.assert_array_equal(sharpened(few, start)[0][split:], start[split:])
    few = replace(likes, alone=torch.arange(200) >= order_weights.ENOUGH - 1)
    np.testing.assert_array_equal(sharpened(few, start)[0][:split], start[:split])
